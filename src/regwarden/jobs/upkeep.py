"""What keeps the inventory in order: sizes are computed anew after events, old rows of our own are deleted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from typing import Final

import structlog

from regwarden.clock import monotonic
from regwarden.flows.services import Services
from regwarden.jobs.bell import Bell
from regwarden.store.analytics import materialise_sizes
from regwarden.store.crawl_times import registries_to_size
from regwarden.store.purging import Keeping, Purged, purge

PURGE_EVERY: Final = timedelta(hours=1)
SIZE_EVERY_SECONDS: Final = 10.0
# Within that time what a push is made of has been read, and more of it has arrived.
SIZE_AFTER_SECONDS: Final = 2.0
# At most a twentieth of the time goes into computing sizes.
SIZE_SHARE: Final = 20
LOOK_AGAIN_SECONDS: Final = 5.0

log = structlog.get_logger("regwarden.jobs")


class SizesLoop:
    """Computes the sizes of registries that events have changed, not too often.

    ``is_measuring`` tells whether a crawl of a registry is just doing the same.
    """

    def __init__(self, services: Services, is_measuring: Callable[[str], bool]) -> None:
        self.bell = Bell()
        self._services = services
        self._is_measuring = is_measuring
        self._not_before: dict[str, float] = {}

    def __str__(self) -> str:
        return "computing sizes"

    def recover(self, problem: str) -> None:
        """Something went wrong; nothing was taken."""

    async def step(self) -> float:
        """Compute what is due, if anything, and return after how many seconds to look again."""
        outdated = await self._services.database.read(registries_to_size)
        now = monotonic()
        waiting = self._not_before.items()
        self._not_before = {name: moment for name, moment in waiting if name in outdated or moment > now}
        # Whoever waits longest comes first: one that fails again and again must not keep the others from theirs.
        for name, registry_id in sorted(outdated.items(), key=lambda one: self._not_before.get(one[0], 0.0)):
            started = monotonic()
            if self._is_measuring(name) or started < self._not_before.setdefault(name, started + SIZE_AFTER_SECONDS):
                continue
            # Set before, so that one whose sizes cannot be computed does not keep the others from theirs.
            self._not_before[name] = started + SIZE_EVERY_SECONDS
            await materialise_sizes(self._services.database, registry_id, self._services.now())
            ended = monotonic()
            self._not_before[name] = ended + max(SIZE_EVERY_SECONDS, SIZE_SHARE * (ended - started))
        return self._pause(outdated)

    def _pause(self, outdated: dict[str, int]) -> float:
        now = monotonic()
        waits = [self._not_before[name] - now for name in outdated if name in self._not_before]
        return max(min([*waits, LOOK_AGAIN_SECONDS]), 1.0)


class PurgeLoop:
    """Deletes old deliveries, events and pull counts, every hour."""

    def __init__(self, services: Services, keeping: Keeping) -> None:
        self.bell = Bell()
        self._services = services
        self._keeping = keeping
        self._next_at = services.now()

    def __str__(self) -> str:
        return "purging"

    def recover(self, problem: str) -> None:
        """Something went wrong; the next time goes on."""

    async def step(self) -> float:
        """Purge if it is time, and return after how many seconds it is."""
        now = self._services.now()
        if now >= self._next_at:
            purged = await purge(self._services.database, self._keeping, now)
            self._next_at = now + PURGE_EVERY
            if purged != Purged():
                log.info("old rows were deleted", **asdict(purged))
        return (self._next_at - now).total_seconds()
