"""Stored deliveries become state: the applier takes whatever is pending, piece by piece, and never gives up.

What is pending is read from the tables, so a lost wake-up or a killed process loses nothing. Nothing here is on the
way between a delivery and its answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

import structlog

from regwarden.clock import monotonic
from regwarden.errors import RegwardenError
from regwarden.store.applying import Applied, EventRegistry, Folding, apply_pending
from regwarden.store.database import Database

__all__ = ["Applied", "Applier", "EventRegistry", "Folding"]

OnApplied = Callable[[Applied], None]

LARGEST_PIECE: Final = 500
_SMALLEST_PIECE: Final = 10
_FIRST_PIECE: Final = 100
_AIM_SECONDS: Final = 0.015
_GATHERING_SECONDS: Final = 0.05
_LOOK_AGAIN_SECONDS: Final = 5.0
_FIRST_PAUSE_SECONDS: Final = 0.1
_LONGEST_PAUSE_SECONDS: Final = 5.0

log = structlog.get_logger("regwarden.ingest")


class Applier:
    """Applies pending deliveries, the oldest first, in pieces short enough not to hold up the storing of new ones."""

    def __init__(
        self, database: Database, now: Callable[[], datetime], folding: Folding, on_applied: OnApplied | None = None
    ) -> None:
        self._database = database
        self._now = now
        self._folding = folding
        self._on_applied = on_applied
        self._piece = _FIRST_PIECE
        self._single_count = 0  # how many are taken one by one, because the content of one of them makes trouble
        self._elapsed = 0.0
        self._is_wanted = asyncio.Event()
        self.problem: str = ""  # why nothing can be applied at the moment

    def wake(self) -> None:
        """Something was stored: look."""
        self._is_wanted.set()

    async def run(self) -> None:
        """Apply what is pending, now and whenever woken, until cancelled. Failures are logged and tried again."""
        pause = _FIRST_PAUSE_SECONDS
        while True:
            self._is_wanted.clear()
            try:
                has_more = await self._apply_some()
                self.problem, pause = "", _FIRST_PAUSE_SECONDS
            except Exception as error:  # noqa: BLE001 -- whatever happens, what is stored is applied some time
                self._note_failure(error, pause)
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
                continue
            if self._is_wanted.is_set():
                # Deliveries are coming, and each may have to wait for a piece: most of the time is theirs alone.
                await asyncio.sleep(max(_GATHERING_SECONDS, 2 * self._elapsed))
            elif not has_more:
                await self._wait()

    def _note_failure(self, error: Exception, pause: float) -> None:
        is_foreseen = isinstance(error, RegwardenError)
        self.problem = str(error) if is_foreseen else "something unforeseen went wrong; the log says what"
        log.warning(
            "events could not be applied",
            problem=str(error)[:500],
            again_in_seconds=pause,
            exc_info=None if is_foreseen else error,
        )

    async def _wait(self) -> None:
        with suppress(TimeoutError):
            # Another process may have stored something: with PostgreSQL nobody wakes us.
            await asyncio.wait_for(self._is_wanted.wait(), _LOOK_AGAIN_SECONDS)

    async def drain(self) -> int:
        """Apply everything that is pending; returns how many new events there were. Raises ``StoreError``."""
        total = 0
        while (applied := await self._apply_piece()).delivery_count:
            total += applied.event_count
        return total

    async def _apply_some(self) -> bool:
        """Apply one piece; whether there may be more. A piece of large deliveries is smaller than its limit."""
        return (await self._apply_piece()).delivery_count > 0

    async def _apply_piece(self) -> Applied:
        limit, now = 1 if self._single_count else self._piece, self._now()

        def work(connection: Any) -> Applied:
            started = monotonic()
            applied = apply_pending(connection, self._folding, now=now, limit=limit)
            self._elapsed = monotonic() - started
            return applied

        try:
            applied = await self._database.write(work)
        except Exception as error:
            if limit == 1 or isinstance(error, RegwardenError):
                raise
            log.warning("deliveries are applied one by one", problem=str(error)[:500])
            self._single_count = limit
            return await self._apply_piece()
        if applied.problem:
            log.error("a delivery was set aside", problem=applied.problem)
        if self._single_count:
            self._single_count -= 1
        else:
            self._learn(applied.delivery_count, self._elapsed)
        if applied.delivery_count and self._on_applied is not None:
            self._on_applied(applied)
        return applied

    def _learn(self, count: int, elapsed: float) -> None:
        """Choose how many deliveries the next piece takes, from how long this one took."""
        if count < self._piece // 2:
            return
        wanted = int(count * _AIM_SECONDS / max(elapsed, 0.001))
        self._piece = max(_SMALLEST_PIECE, min(LARGEST_PIECE, wanted, self._piece * 2))
