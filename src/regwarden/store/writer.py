"""How do many callers share one writer? Whatever is queued is committed together, each piece of work in a SAVEPOINT.

A failing piece is rolled back alone. Callers are answered only after COMMIT, so what they were told is on disk.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from regwarden.clock import monotonic
from regwarden.errors import StoreError

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine, NestedTransaction

T = TypeVar("T")

_LONGEST_BATCH_SECONDS: Final = 0.25
_MOST_ATTEMPTS: Final = 5
_FIRST_PAUSE_SECONDS: Final = 0.02
# https://www.postgresql.org/docs/current/errcodes-appendix.html: serialization_failure, deadlock_detected
_TRANSIENT_STATES: Final = frozenset({"40001", "40P01"})


class _Unit:
    """One caller's work, and where its result is awaited."""

    __slots__ = ("attempt_count", "future", "work")

    def __init__(self, work: Callable[[Connection], Any]) -> None:
        self.work = work
        self.future: Future[Any] = Future()
        self.attempt_count = 0

    def start(self) -> bool:
        """Count an attempt; False if the caller has given up before the first."""
        self.attempt_count += 1
        return self.attempt_count > 1 or self.future.set_running_or_notify_cancel()


class Writer:
    """The thread that does all the writing of one database."""

    def __init__(self, engine: Engine, explain: Callable[[BaseException], BaseException]) -> None:
        """``explain`` turns an exception of the database into the one that callers get."""
        self._engine = engine
        self._explain = explain
        self._queue: SimpleQueue[_Unit | None] = SimpleQueue()
        self._again: deque[_Unit] = deque()
        self._gate = threading.Lock()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="regwarden-writer", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[Connection], T]) -> Future[T]:
        """Queue ``work``; the future is done after its COMMIT, or holds its exception.

        ``work`` may run more than once (after a deadlock, for example), each time on a state without its former
        attempt. A future cancelled before its work began never runs it.
        """
        if threading.current_thread() is self._thread:
            message = "work inside a write must use the connection it was given"
            raise RuntimeError(message)
        unit = _Unit(work)
        with self._gate:
            if self._is_closed:
                message = "the database has been closed"
                raise StoreError(message, code="database-closed")
            self._queue.put(unit)
        return unit.future

    def close(self) -> None:
        """Finish what is queued, then end the thread."""
        with self._gate:
            if not self._is_closed:
                self._is_closed = True
                self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while True:
            if self._again:
                time.sleep(_FIRST_PAUSE_SECONDS * 2 ** self._again[0].attempt_count)
            first = self._again.popleft() if self._again else self._queue.get()
            if first is None:
                return
            self._run_batch(first)

    def _ready(self, first: _Unit) -> Iterator[_Unit]:
        """``first``, then everything that is queued by now or becomes queued while the batch is young."""
        ends_at = monotonic() + _LONGEST_BATCH_SECONDS
        yield first
        while monotonic() < ends_at:
            if self._again:
                yield self._again.popleft()
                continue
            try:
                unit = self._queue.get_nowait()
            except Empty:
                return
            if unit is None:
                self._queue.put(None)
                return
            yield unit

    def _run_batch(self, first: _Unit) -> None:
        outcomes: list[_Outcome] = []
        try:
            with self._engine.connect() as connection, connection.begin():
                for unit in self._ready(first):
                    if unit.start():
                        outcomes.append(_Outcome(unit))
                        _attempt(connection, outcomes[-1])
        except BaseException as error:  # noqa: BLE001 -- every caller gets an answer, whatever happened
            if not outcomes and first.start():
                outcomes.append(_Outcome(first, error=error))
            self._undo(outcomes, error)
        for outcome in outcomes:
            self._answer(outcome)

    def _undo(self, outcomes: list[_Outcome], error: BaseException) -> None:
        """Nothing of the batch was kept. Work that merely shared the transaction of a failing unit is repeated."""
        is_shared_fate = isinstance(error, _TransactionLost)
        cause = (outcomes[-1].error if is_shared_fate else None) or error
        for outcome in outcomes:
            if outcome.error is None:
                outcome.error = cause
                outcome.is_repeatable = is_shared_fate

    def _answer(self, outcome: _Outcome) -> None:
        unit, error = outcome.unit, outcome.error
        if error is None:
            unit.future.set_result(outcome.result)
        elif (outcome.is_repeatable or _is_transient(error)) and unit.attempt_count < _MOST_ATTEMPTS:
            self._again.append(unit)
        else:
            unit.future.set_exception(self._explain(error))


class _TransactionLost(StoreError):
    """A failing unit took the whole transaction with it (disk full, connection lost)."""


@dataclass(slots=True)
class _Outcome:
    unit: _Unit
    result: Any = None
    error: BaseException | None = None
    is_repeatable: bool = False


def _attempt(connection: Connection, outcome: _Outcome) -> None:
    """Run one unit in a SAVEPOINT; raises _TransactionLost if the work of the others is gone as well."""
    savepoint: NestedTransaction | None = None
    is_settled = False
    try:
        savepoint = connection.begin_nested()
        outcome.result = outcome.unit.work(connection)
        savepoint.commit()
        is_settled = True
    except BaseException as error:  # noqa: BLE001 -- handed to the caller, as concurrent.futures does
        outcome.error = error
        with suppress(SQLAlchemyError):
            if savepoint is not None and savepoint.is_active:
                savepoint.rollback()
                is_settled = True
    if not is_settled or not _is_in_transaction(connection):
        raise _TransactionLost("the database gave up the transaction")


def _is_in_transaction(connection: Connection) -> bool:
    if connection.invalidated or not connection.in_transaction():
        return False
    driver_connection: Any = connection.connection.driver_connection
    if connection.dialect.name == "sqlite":
        return bool(driver_connection.in_transaction)
    return bool(driver_connection.info.transaction_status.name == "INTRANS")


def _is_transient(error: BaseException) -> bool:
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) in _TRANSIENT_STATES
