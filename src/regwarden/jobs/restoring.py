"""When is it looked whether a push raced one of our deletions? When events or readings may tell of one.

Looking reads the journal of the last days. So it is first seen, by a few rows, whether there is anything new: for that
the service may ask as often as events come in.
"""

from __future__ import annotations

from typing import Final

import structlog

from regwarden.clock import monotonic
from regwarden.flows.removals import LOOKED_BACK
from regwarden.flows.restoring import MARGIN, restore_races
from regwarden.flows.services import Services
from regwarden.jobs.bell import Bell
from regwarden.store.races import Signs, load_signs

LOOK_AGAIN_SECONDS: Final = 30.0
# What no sign tells of: a request of a process that died is given up after some time, what failed is tried again.
LOOK_ANYWAY_SECONDS: Final = 300.0
# At most a tenth of the time goes into looking.
LOOK_SHARE: Final = 10

log = structlog.get_logger("regwarden.jobs")


class RestoringLoop:
    """Puts back what was pushed to one registry while a plan removed it."""

    def __init__(self, services: Services, registry: str) -> None:
        self.bell = Bell()
        self._services = services
        self._registry = registry
        self._seen: Signs | None = None
        self._is_unsure = True
        self._not_before = self._anyway_at = 0.0

    def __str__(self) -> str:
        return f"looking for pushes to {self._registry} that raced a deletion"

    def recover(self, problem: str) -> None:  # noqa: ARG002 -- as every loop
        """What is kept in memory only saves work: the next step looks at everything again."""
        self._is_unsure = True

    async def step(self) -> float:
        """Look if there may be something new, and return after how many seconds to look again; events wake it."""
        started = monotonic()
        if started < self._not_before:
            return self._not_before - started
        signs = await self._load_signs()
        if signs is None or not self._is_new(signs, started):
            self._seen = signs
            return LOOK_AGAIN_SECONDS
        # Before looking, so that what comes in meanwhile is new the next time.
        self._seen, self._is_unsure = signs, True
        restored = await restore_races(self._services, self._registry)
        if restored.restored_count:
            log.warning("put back what a push had raced", registry=self._registry, count=restored.restored_count)
        for problem in restored.problems:
            log.warning("what a push raced could not be put back", registry=self._registry, problem=problem)
        ended = monotonic()
        self._is_unsure = bool(restored.problems)
        self._anyway_at = ended + LOOK_ANYWAY_SECONDS
        self._not_before = ended + LOOK_SHARE * (ended - started)
        return LOOK_AGAIN_SECONDS

    def _is_new(self, signs: Signs, now: float) -> bool:
        seen = self._seen
        if seen is None or self._is_unsure or now >= self._anyway_at:
            return True
        return signs.has_push or (signs.journal_id, signs.read_at) != (seen.journal_id, seen.read_at)

    async def _load_signs(self) -> Signs | None:
        skew = self._services.connectors[self._registry].traffic.clock_skew
        margin = MARGIN if skew is None else MARGIN + abs(skew)
        since = self._services.now() - LOOKED_BACK
        after_id = 0 if self._seen is None else self._seen.event_id
        return await self._services.database.read(
            lambda connection: load_signs(connection, self._registry, since=since, after_id=after_id, margin=margin)
        )
