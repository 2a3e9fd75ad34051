"""How are answers written down without delaying one? Counted in memory, written once a second, equal ones together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Final

import structlog

from regwarden import clock
from regwarden.errors import StoreError
from regwarden.store.database import Database
from regwarden.store.decisions import Counted, Decided, save_decisions

_EVERY_SECONDS: Final = 1.0
_MOST_WAITING: Final = 10_000
_MOST_OPEN: Final = 50_000

_Key = tuple[Decided, int]

log = structlog.get_logger("regwarden.allow")


class DecisionLog:
    """Takes answers from the event loop; what is more than fits is counted as lost and told."""

    def __init__(self, database: Database, now: Callable[[], datetime] = clock.now) -> None:
        self._database = database
        self._now = now
        self._waiting: dict[_Key, Counted] = {}
        self._rows: dict[_Key, int] = {}
        self._lost_count = 0

    def note(self, decided: Decided) -> None:
        """An answer was given."""
        at = self._now()
        key = (decided, int(at.timestamp()) // 60)
        known = self._waiting.get(key)
        if known is not None:
            self._waiting[key] = replace(known, last_at=at, count=known.count + 1)
        elif len(self._waiting) < _MOST_WAITING:
            self._waiting[key] = Counted(decided, at, at, 1, self._rows.get(key))
        else:
            self._lost_count += 1

    async def flush(self) -> None:
        """Write what waits. Raises ``StoreError``; then it waits on."""
        if not self._waiting:
            return
        written, self._waiting = self._waiting, {}
        try:
            ids = await self._database.write(lambda connection: save_decisions(connection, list(written.values())))
        except StoreError:
            self._take_back(written)
            raise
        minute = int(self._now().timestamp()) // 60
        if len(self._rows) > _MOST_OPEN:
            self._rows.clear()
        self._rows = {key: row for key, row in self._rows.items() if key[1] == minute}
        self._rows.update((key, row) for key, row in zip(written, ids, strict=True) if key[1] == minute)
        if self._lost_count:
            log.warning("answers of the allow-list were not written down", count=self._lost_count)
            self._lost_count = 0

    async def run(self) -> None:
        """Write once a second until cancelled, and then once more."""
        try:
            while True:
                await asyncio.sleep(_EVERY_SECONDS)
                await self._try()
        finally:
            await self._try()

    async def _try(self) -> None:
        try:
            await self.flush()
        except StoreError as error:
            log.debug("answers of the allow-list wait to be written", reason=error.message)

    def _take_back(self, unwritten: dict[_Key, Counted]) -> None:
        for key, one in unwritten.items():
            newer = self._waiting.get(key)
            if newer is not None:
                self._waiting[key] = replace(one, last_at=newer.last_at, count=one.count + newer.count)
            elif len(self._waiting) < _MOST_WAITING:
                self._waiting[key] = one
            else:
                self._lost_count += one.count
