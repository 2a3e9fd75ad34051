"""How do deliveries get onto the disk before their senders are answered? Natural batching: one commit at a time.

Whatever has come while a commit was under way is the next one. Nobody waits for company, so a single sender is
answered after one commit, and many share one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

import structlog

from regwarden.errors import StoreError
from regwarden.store.database import Database
from regwarden.store.deliveries import NewDelivery, insert_deliveries

MAX_WAITING_COUNT: Final = 10_000
MAX_WAITING_BYTES: Final = 128 * 1024 * 1024
LONGEST_WAIT_SECONDS: Final = 10.0
# Writes must stay short: they are what others wait for.
_MAX_FLUSH_COUNT: Final = 1_000
_MAX_FLUSH_BYTES: Final = 32 * 1024 * 1024

_Waiting = tuple[NewDelivery, "asyncio.Future[None]"]


class Intake:
    """The queue before the database. Belongs to one event loop."""

    def __init__(self, database: Database, on_stored: Callable[[], None] | None = None) -> None:
        """``on_stored`` is called after every commit."""
        self._database = database
        self._on_stored = on_stored
        self._waiting: deque[_Waiting] = deque()
        self._waiting_bytes = 0
        self._flushing: asyncio.Task[None] | None = None

    async def store(self, delivery: NewDelivery) -> None:
        """Return when ``delivery`` is committed.

        Raises ``StoreError`` if that is not known, because the database failed, does not answer, or too much waits
        for it. A caller that has gone or given up does not take its delivery back: sent again, it is recognised.
        """
        if len(self._waiting) >= MAX_WAITING_COUNT or self._waiting_bytes + len(delivery.body) > MAX_WAITING_BYTES:
            raise StoreError(
                "more deliveries wait for the database than can be kept", hint="Try again later.", code="intake-full"
            )
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((delivery, stored))
        self._waiting_bytes += len(delivery.body)
        if self._flushing is None:
            self._flush()
        try:
            async with asyncio.timeout(LONGEST_WAIT_SECONDS):
                await stored
        except TimeoutError:
            raise StoreError("the database does not answer", hint="Try again later.", code="intake-slow") from None

    async def drain(self) -> None:
        """Return when nothing waits any more."""
        while self._flushing is not None:
            await asyncio.wait({self._flushing})
            await asyncio.sleep(0)

    def _flush(self) -> None:
        """Begin to commit what waits."""
        batch: list[_Waiting] = []
        size_bytes = 0
        while self._waiting and len(batch) < _MAX_FLUSH_COUNT and size_bytes < _MAX_FLUSH_BYTES:
            batch.append(self._waiting.popleft())
            size_bytes += len(batch[-1][0].body)
        self._waiting_bytes -= size_bytes
        rows = [delivery for delivery, _ in batch]
        write = self._database.write(lambda connection: insert_deliveries(connection, rows), urgent=True)
        self._flushing = asyncio.create_task(write)
        self._flushing.add_done_callback(partial(self._settle, batch))

    def _settle(self, batch: list[_Waiting], flushed: asyncio.Task[None]) -> None:
        """Answer those whose deliveries were in ``batch``, then begin with what has come meanwhile."""
        self._flushing = None
        if self._waiting:
            self._flush()
        error = _why_not_stored(flushed)
        for _, stored in batch:
            if not stored.done():
                if error is None:
                    stored.set_result(None)
                else:
                    stored.set_exception(error)
        if error is None and self._on_stored is not None:
            self._on_stored()


def _why_not_stored(flushed: asyncio.Task[None]) -> StoreError | None:
    problem = asyncio.CancelledError("stopped") if flushed.cancelled() else flushed.exception()
    if problem is None:
        return None
    structlog.get_logger("regwarden").error("deliveries could not be stored", reason=str(problem)[:500])
    if isinstance(problem, StoreError):
        return problem
    error = StoreError("the deliveries could not be stored")
    error.__cause__ = problem
    return error
