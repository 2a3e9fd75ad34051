"""Asking a registry for every blob that its manifests need: once each, and everywhere only where it is missing."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from regwarden.core.coverage import Problem
from regwarden.core.oci.digests import Digest
from regwarden.core.text import printable
from regwarden.errors import RegistryError
from regwarden.flows.concurrency import each
from regwarden.flows.services import Services
from regwarden.registries.api import Connector
from regwarden.store.blob_checks import list_holders, load_digests, save_blob_checks
from regwarden.store.chunks import chunked

BATCH_SIZE: Final = 500

Holders = Mapping[int, list[tuple[int, str]]]


async def check_blobs(services: Services, registry_id: int, connector: Connector, *, concurrency: int) -> BlobChecks:
    """Probe every blob of a registry and keep the answers. Leaves a pull event for each at the registry."""
    holders = await services.database.read(lambda connection: list_holders(connection, registry_id))
    checks = BlobChecks(services, connector, holders)
    for batch in chunked(sorted(holders), BATCH_SIZE):
        await checks.run(batch, asyncio.Semaphore(concurrency))
    return checks


class BlobChecks:
    """The answers so far: blobs that are there, that are missing somewhere, that could not be asked for."""

    def __init__(self, services: Services, connector: Connector, holders: Holders) -> None:
        self._services = services
        self._connector = connector
        self._holders = holders
        self.present_count = 0
        self.missing_count = 0
        self.failed_count = 0
        self.problems: list[Problem] = []

    async def run(self, blob_ids: list[int], slots: asyncio.Semaphore) -> None:
        """Ask for some blobs and keep what was learned."""
        database, at = self._services.database, self._services.now()
        digests = await database.read(lambda connection: load_digests(connection, blob_ids))
        checked: dict[tuple[int, int], bool] = {}

        async def check(blob_id: int) -> None:
            answers = await self._check(digests[blob_id], self._holders[blob_id])
            checked.update({(repository_id, blob_id): is_there for repository_id, is_there in answers.items()})

        await each(check, blob_ids, slots)
        await database.write(lambda connection: save_blob_checks(connection, checked, at))

    async def _check(self, digest: Digest, holders: list[tuple[int, str]]) -> dict[int, bool]:
        """Ask the first holder, and only if it lacks the blob the others too: repository id → whether it is there."""
        answers: dict[int, bool] = {}
        for repository_id, name in holders:
            try:
                head = await self._connector.head_blob(name, digest)
            except RegistryError as error:
                self._note(name, digest, error.code, error.message)
                self.failed_count += 1
                return answers
            answers[repository_id] = head.exists
            if head.exists and len(answers) == 1:
                self.present_count += 1
                return answers
            if not head.exists:
                self._note(name, digest, "missing-blob", "manifests need this blob, but it is not there")
        self.missing_count += 1
        return answers

    def _note(self, repository: str, digest: Digest, code: str, message: str) -> None:
        self.problems.append(Problem(repository, "", str(digest), code, printable(message, 500)))
