"""When are single manifests read? As soon as an event names one whose content is not known, also during a crawl."""

from __future__ import annotations

from typing import Final

import structlog

from regwarden.flows.crawl import CrawlOptions, RegistryTarget
from regwarden.flows.rereads import RereadTarget, read_manifests
from regwarden.flows.services import Services
from regwarden.jobs.bell import Bell
from regwarden.store.crawl_times import load_crawl_times
from regwarden.store.rereads import due_rereads, next_reread_at, release_rereads

LOOK_AGAIN_SECONDS: Final = 5.0
MOST_MANIFESTS: Final = 200

log = structlog.get_logger("regwarden.jobs")


class ManifestLoop:
    """Reads the manifests of one registry that are due."""

    def __init__(self, services: Services, target: RegistryTarget, options: CrawlOptions) -> None:
        self.bell = Bell()
        self._services = services
        self._target = target
        self._options = options
        self._must_release = True

    def __str__(self) -> str:
        return f"reading manifests of {self._target.name}"

    def recover(self, problem: str) -> None:  # noqa: ARG002 -- every loop is told
        """Something went wrong: what was taken and not finished is due again."""
        self._must_release = True

    async def step(self) -> float:
        """Read what is due, if anything, and return after how many seconds to look again."""
        database, now, name = self._services.database, self._services.now(), self._target.name
        known = (await database.read(lambda connection: load_crawl_times(connection, name))).get(name)
        if known is None:
            return LOOK_AGAIN_SECONDS
        registry_id = known.registry_id
        if self._must_release:
            await database.write(lambda connection: release_rereads(connection, registry_id, now, of_manifests=True))
            self._must_release = False
        due = await database.read(
            lambda connection: due_rereads(connection, now, registry_id, of_manifests=True, limit=MOST_MANIFESTS)
        )
        if due:
            target = RereadTarget(self._target, registry_id, self._options)
            reading = await read_manifests(self._services, target, due)
            if reading.problem:
                log.warning("manifests could not be read", registry=name, problem=reading.problem)
        next_at = await database.read(lambda connection: next_reread_at(connection, registry_id, of_manifests=True))
        if next_at is None:
            return LOOK_AGAIN_SECONDS
        return max(min((next_at - self._services.now()).total_seconds(), LOOK_AGAIN_SECONDS), 0.0)
