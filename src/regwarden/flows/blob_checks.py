"""Asking a registry for every blob that its manifests need: once each, and everywhere only where it is missing."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Final

from regwarden.core.oci.digests import Digest
from regwarden.core.text import printable
from regwarden.errors import RegistryError
from regwarden.flows.concurrency import each
from regwarden.flows.services import Services
from regwarden.registries.api import Connector
from regwarden.store.blob_checks import forget_unneeded, list_holders, list_missing, load_digests, save_blob_checks
from regwarden.store.chunks import chunked
from regwarden.store.crawls import BegunCrawl

BATCH_SIZE: Final = 500

Holders = Mapping[int, list[tuple[int, str]]]


async def check_blobs(services: Services, begun: BegunCrawl, connector: Connector, *, concurrency: int) -> BlobChecks:
    """Probe every blob that a crawl's repositories need and keep the answers.

    Leaves a pull event for each at the registry.
    """
    database, registry_id = services.database, begun.registry_id
    holders = await database.read(lambda connection: list_holders(connection, registry_id, begun.crawl_id))
    missing = await database.read(lambda connection: list_missing(connection, registry_id, begun.crawl_id))
    needed = {(repository_id, blob_id) for blob_id, found in holders.items() for repository_id, _ in found}
    await database.write(lambda connection: forget_unneeded(connection, missing - needed))
    checks = BlobChecks(services, connector, holders, missing)
    for batch in chunked(sorted(holders), BATCH_SIZE):
        await checks.run(batch, asyncio.Semaphore(concurrency))
    return checks


class BlobChecks:
    """The answers so far: blobs that are there, that are missing somewhere, that could not be asked for."""

    def __init__(
        self, services: Services, connector: Connector, holders: Holders, missing: Collection[tuple[int, int]]
    ) -> None:
        self._services = services
        self._connector = connector
        self._holders = holders
        self._missing = missing
        self.present_count = 0
        self.missing_count = 0
        self.failed_count = 0
        self.first_failure = ""

    async def run(self, blob_ids: list[int], slots: asyncio.Semaphore) -> None:
        """Ask for some blobs and keep what was learned."""
        database, at = self._services.database, self._services.now()
        digests = await database.read(lambda connection: load_digests(connection, blob_ids))
        answered: dict[int, Mapping[int, bool]] = {}
        checked: dict[tuple[int, int], bool] = {}

        async def check(blob_id: int) -> None:
            answers, is_whole = await self._check(blob_id, digests[blob_id])
            checked.update({(repository_id, blob_id): is_there for repository_id, is_there in answers.items()})
            if is_whole:
                answered[blob_id] = answers

        await each(check, blob_ids, slots)
        asked = {repository_id for repository_id, _ in checked}
        names = {number: name for one in blob_ids for number, name in self._holders[one] if number in asked}
        renamed = await database.write(lambda connection: save_blob_checks(connection, checked, names, at))
        self._count(answered.values(), renamed)

    def _count(self, answered: Collection[Mapping[int, bool]], renamed: Collection[int]) -> None:
        """What repositories said that were renamed meanwhile does not count."""
        for answers in answered:
            found = [is_there for repository_id, is_there in answers.items() if repository_id not in renamed]
            self.present_count += bool(found) and all(found)
            self.missing_count += not all(found)

    async def _check(self, blob_id: int, digest: Digest) -> tuple[dict[int, bool], bool]:
        """Ask the first holder, and only if it lacks the blob the others too: repository id → whether it is there.

        Returns also whether nobody failed to answer.
        A holder that lacked the blob when it was last asked is asked again in any case.
        """
        answers: dict[int, bool] = {}
        for repository_id, name in self._holders[blob_id]:
            if answers and all(answers.values()) and (repository_id, blob_id) not in self._missing:
                continue
            try:
                head = await self._connector.head_blob(name, digest)
            except RegistryError as error:
                self.failed_count += 1
                self.first_failure = self.first_failure or printable(error.message, 500)
                return answers, False
            answers[repository_id] = head.exists
        return answers, True
