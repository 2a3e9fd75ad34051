"""Whose are the repositories that a crawl has read, what may we do there, and how large does the registry say they are?

Asked of registries that have projects, after the reading. What cannot be found out is a doubt, never a failed crawl.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Final

from regwarden.core.projects import RepositorySize
from regwarden.errors import InputError, RegistryError, RegistryMissing
from regwarden.flows.concurrency import each
from regwarden.flows.services import Services
from regwarden.registries.api import KnowsProjects
from regwarden.store.chunks import chunked
from regwarden.store.crawls import BegunCrawl, load_crawled_at
from regwarden.store.project_rules import find_wrong_marks, mark_tags
from regwarden.store.projects import (
    find_unsized,
    save_access,
    save_discovery,
    save_remote_size,
)

_MOST_FAILURES: Final = 3
_NOT_GRANTED: Final = "not-granted"
_MARKED_AT_ONCE: Final = 2000


@dataclass(slots=True, kw_only=True)
class ProjectDiscovery:
    """Finding out the projects of one crawl. ``doubts`` are in words, the gravest first.

    ``told`` are doubts of the crawl's listing: what already stands in them is not said again.
    """

    services: Services
    begun: BegunCrawl
    connector: KnowsProjects
    is_thorough: bool  # ask again also for what seldom changes
    concurrency: int
    told: tuple[str, ...] = ()
    doubts: list[str] = field(default_factory=list)

    async def find_all(self, names: Collection[str]) -> None:
        """Everything about the repositories that were listed."""
        if await self._is_access_due():
            await self._find_access()
        await self._find_projects()
        await self._find_sizes(names)
        await self.note_protected()

    async def note_protected(self) -> None:
        """Mark the tags that rules of the registry protect, by what is known of these."""
        registry_id, database = self.begun.registry_id, self.services.database
        wrong = await database.read(lambda connection: find_wrong_marks(connection, registry_id))
        for flag, ids in wrong.items():
            for some in chunked(ids, _MARKED_AT_ONCE):
                await database.write(partial(mark_tags, ids=some, flag=flag))

    async def _is_access_due(self) -> bool:
        """At first, where somebody else is asked, where everything is to be verified, and otherwise once a day."""
        if self.is_thorough or self.begun.is_first or self.begun.endpoint_changed:
            return True
        registry_id = self.begun.registry_id
        last = await self.services.database.read(lambda connection: load_crawled_at(connection, registry_id))
        return last is None or last.date() != self.begun.started_at.date()

    async def _find_access(self) -> None:
        try:
            access = await self.connector.describe_access()
        except (RegistryError, InputError) as error:
            self.doubts.append(f"what we may do there could not be found out: {error.message}")
            return
        registry_id = self.begun.registry_id
        await self.services.database.write(lambda connection: save_access(connection, registry_id, access))

    async def _find_projects(self) -> None:
        at, registry_id = self.services.now(), self.begun.registry_id
        try:
            found = await self.connector.discover()
        except (RegistryError, InputError) as error:
            if not any(error.message in doubt for doubt in self.told):
                self.doubts.append(f"the projects of the repositories could not be found out: {error.message}")
            return
        self.doubts.extend(found.doubts)
        await self.services.database.write(lambda connection: save_discovery(connection, registry_id, found, at))

    async def _find_sizes(self, names: Collection[str]) -> None:
        """The registry's own figures of what changed. One that has no figure of one repository has none at all."""
        registry_id = self.begun.registry_id
        unsized = await self.services.database.read(lambda connection: find_unsized(connection, registry_id, names))
        failures: list[str] = []
        if not unsized or not await self._measure(unsized[0], failures):
            self._doubt_sizes(failures)
            return

        async def measure(name: str) -> None:
            if len(failures) < _MOST_FAILURES:
                await self._measure(name, failures)

        await each(measure, unsized[1:], asyncio.Semaphore(self.concurrency))
        self._doubt_sizes(failures)

    def _doubt_sizes(self, failures: list[str]) -> None:
        if failures:
            self.doubts.append(f"the registry did not tell every size: {failures[0]}")

    async def _measure(self, name: str, failures: list[str]) -> bool:
        """Whether it makes sense to ask for others."""
        at = self.services.now()
        try:
            size = await self.connector.measure_repository(name)
        except RegistryMissing:
            await self._save_size(name, None, at)  # this one has no figure, others may
            return True
        except (RegistryError, InputError) as error:
            if error.code != _NOT_GRANTED:  # what may not be read is a problem of the crawl already
                failures.append(f"{name}: {error.message}")
            return True
        if size is None:
            return False
        await self._save_size(name, size, at)
        return True

    async def _save_size(self, name: str, size: RepositorySize | None, at: datetime) -> None:
        registry_id = self.begun.registry_id
        await self.services.database.write(lambda connection: save_remote_size(connection, registry_id, name, size, at))
