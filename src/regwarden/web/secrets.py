"""Which secrets are valid at the moment? Those in a registry's files, else those in the database; looked up again."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final

import structlog

from regwarden.errors import InputError, StoreError
from regwarden.settings import RegistrySettings
from regwarden.settings_sources import read_secret_file
from regwarden.store.database import Database
from regwarden.store.hook_secrets import ensure_hook_secrets, load_hook_secrets
from regwarden.web.senders import Senders

LOOK_AGAIN_SECONDS: Final = 5.0

log = structlog.get_logger("regwarden.hooks")


def new_hook_secret() -> str:
    """A secret that nobody guesses, fit for a header and for an address."""
    return secrets.token_urlsafe(32)


class HookSecrets:
    """Keeps ``senders`` up to date."""

    def __init__(self, database: Database, registries: Sequence[RegistrySettings]) -> None:
        self.senders = Senders()
        self._database = database
        self._from_files = {one.name: one.hook_secret_files for one in registries if one.hook_secret_files}
        self._made = tuple(one.name for one in registries if not one.hook_secret_files)
        self._last_read: dict[str, tuple[str, ...]] = {}
        self._complaints: dict[str, str] = {}
        self._is_wanted = asyncio.Event()

    async def ensure(self, now: Callable[[], datetime]) -> None:
        """Make a secret for each registry that has none, and use what there is."""
        at, candidates = now(), {name: new_hook_secret() for name in self._made}
        await self._database.write(lambda connection: ensure_hook_secrets(connection, candidates, at))
        await self.reload()

    async def reload(self) -> None:
        """Use what is in the database and the files now. Raises ``StoreError``."""
        found = await self._database.read(load_hook_secrets)
        for registry, files in self._from_files.items():
            found[registry] = self._read_files(registry, files)
        self.senders.replace(found)

    def wake(self) -> None:
        """A secret was changed: look."""
        self._is_wanted.set()

    async def watch(self) -> None:
        """Look for changes until cancelled."""
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._is_wanted.wait(), LOOK_AGAIN_SECONDS)
            self._is_wanted.clear()
            try:
                await self.reload()
            except StoreError as error:
                log.warning("the secrets of notifications stay as they are", reason=error.message)

    def _read_files(self, registry: str, files: Sequence[str]) -> tuple[str, ...]:
        """The secrets in these files; those read last while one of them cannot be read."""
        try:
            self._last_read[registry] = tuple(read_secret_file(Path(file).expanduser()).reveal() for file in files)
            self._complaints.pop(registry, None)
        except InputError as error:
            if self._complaints.get(registry) != error.message:
                self._complaints[registry] = error.message
                log.error("a hook secret cannot be read", registry=registry, reason=error.message)  # noqa: TRY400
        return self._last_read.get(registry, ())
