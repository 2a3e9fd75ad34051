"""How do many callers share one writer? Whatever is queued is committed together, each piece of work in a SAVEPOINT.

A failing piece is rolled back alone. Callers are answered only after COMMIT, so what they were told is on disk.
Urgent work waits for one piece of ordinary work at most, and never shares a transaction with any. On PostgreSQL no
ordinary work shares one: each piece locks rows in an order that others keep too (``row_locks``), but two pieces after
each other do not, and other processes lock rows at the same time.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from regwarden.clock import monotonic
from regwarden.errors import StoreError
from regwarden.store.repeating import MOST_ATTEMPTS, is_transient, pause_seconds

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine

T = TypeVar("T")

_LONGEST_BATCH_SECONDS: Final = 0.25
_TRUSTED_SECONDS: Final = 1.0
_SAVEPOINT: Final = "regwarden_unit"


class _Unit:
    """One caller's work, and where its result is awaited."""

    __slots__ = ("attempt_count", "future", "is_urgent", "not_before", "work")

    def __init__(self, work: Callable[[Connection], Any], *, is_urgent: bool) -> None:
        self.work = work
        self.future: Future[Any] = Future()
        self.is_urgent = is_urgent
        self.attempt_count = 0
        self.not_before = 0.0

    def start(self) -> bool:
        """Count an attempt; False if the caller has given up before the first."""
        self.attempt_count += 1
        return self.attempt_count > 1 or self.future.set_running_or_notify_cancel()


class _Backlog:
    """What waits for the writer: urgent and ordinary units, each in the order of their arrival."""

    def __init__(self) -> None:
        self._urgent: deque[_Unit] = deque()
        self._ordinary: deque[_Unit] = deque()
        self._is_closed = False
        self._changed = threading.Condition()

    def qsize(self) -> int:
        return len(self._urgent) + len(self._ordinary)

    def has_urgent(self) -> bool:
        return bool(self._urgent)

    def put(self, unit: _Unit) -> None:
        with self._changed:
            if self._is_closed:
                message = "the database has been closed"
                raise StoreError(message, code="database-closed")
            (self._urgent if unit.is_urgent else self._ordinary).append(unit)
            self._changed.notify()

    def close(self) -> None:
        with self._changed:
            self._is_closed = True
            self._changed.notify()

    def take(self, *, prefer_ordinary: bool) -> _Unit | None:
        """The next unit, as soon as there is one; None when all is done and nothing can come any more."""
        with self._changed:
            self._changed.wait_for(lambda: self.qsize() or self._is_closed)
            queues = (self._ordinary, self._urgent) if prefer_ordinary else (self._urgent, self._ordinary)
            return next((queue.popleft() for queue in queues if queue), None)

    def take_urgent(self, patience_seconds: float) -> _Unit | None:
        """The next urgent unit, if there is one or one comes in time."""
        with self._changed:
            self._changed.wait_for(self.has_urgent, patience_seconds)
            return self._urgent.popleft() if self._urgent else None

    def take_like(self, first: _Unit) -> _Unit | None:
        """The next unit that may share a transaction with ``first``; None if there is none."""
        with self._changed:
            if first.is_urgent:
                return self._urgent.popleft() if self._urgent else None
            return self._ordinary.popleft() if self._ordinary and not self._urgent else None


class Writer:
    """The thread that does all the writing of one database."""

    def __init__(self, engine: Engine, explain: Callable[[BaseException], BaseException]) -> None:
        """``explain`` turns an exception of the database into the one that callers get."""
        self._engine = engine
        self._explain = explain
        self._queue = _Backlog()
        self._again: deque[_Unit] = deque()
        self._was_urgent = False
        self._connection: Connection | None = None
        self._used_at = 0.0
        self._thread = threading.Thread(target=self._run, name="regwarden-writer", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[Connection], T], *, urgent: bool = False) -> Future[T]:
        """Queue ``work``; the future is done after its COMMIT, or holds its exception.

        ``work`` may run more than once (after a deadlock, for example), each time on a state without its former
        attempt. A future cancelled before its work began never runs it. An ``urgent`` unit waits for at most one
        ordinary unit and the commit of what was done before it; ordinary units wait for one batch of urgent ones.
        """
        if threading.current_thread() is self._thread:
            message = "work inside a write must use the connection it was given"
            raise RuntimeError(message)
        unit = _Unit(work, is_urgent=urgent)
        self._queue.put(unit)
        return unit.future

    def close(self) -> None:
        """Finish what is queued, then end the thread."""
        self._queue.close()
        self._thread.join()

    def _run(self) -> None:
        while (first := self._first()) is not None:
            self._was_urgent = first.is_urgent
            self._run_batch(first)
        self._disconnect()

    def _first(self) -> _Unit | None:
        """What the next batch begins with. Taking turns keeps a stream of urgent units from stopping the others."""
        if not self._again:
            return self._queue.take(prefer_ordinary=self._was_urgent)
        patience_seconds = self._again[0].not_before - monotonic()
        if patience_seconds <= 0 and self._was_urgent:
            return self._again.popleft()
        return self._queue.take_urgent(max(patience_seconds, 0)) or self._again.popleft()

    def _ready(self, first: _Unit) -> Iterator[_Unit]:
        """``first``, then all of its kind that is queued by now or becomes queued while the batch is young."""
        ends_at = monotonic() + _LONGEST_BATCH_SECONDS
        unit: _Unit | None = first
        while unit is not None:
            yield unit
            unit = self._next_like(first) if monotonic() < ends_at else None

    def _next_like(self, first: _Unit) -> _Unit | None:
        is_stopped = self._queue.has_urgent() and not first.is_urgent
        if self._again and self._again[0].is_urgent == first.is_urgent and not is_stopped:
            return self._again.popleft()
        return self._queue.take_like(first)

    def _is_alone(self, first: _Unit) -> bool:
        """Whether a unit has a transaction to itself, and so needs no SAVEPOINT: nothing else would be lost with it."""
        if first.is_urgent:  # deliveries come like this
            return not self._queue.has_urgent() and not self._again
        return self._engine.dialect.name == "postgresql"

    def _run_batch(self, first: _Unit) -> None:
        outcomes: list[_Outcome] = []
        is_alone = self._is_alone(first)
        try:
            connection = self._connect()
            with connection.begin():
                for unit in (first,) if is_alone else self._ready(first):
                    if unit.start():
                        outcomes.append(_Outcome(unit))
                        attempt = _attempt_alone if is_alone else _attempt
                        attempt(connection, outcomes[-1])
            self._used_at = monotonic()
        except BaseException as error:  # noqa: BLE001 -- every caller gets an answer, whatever happened
            self._disconnect()
            if not outcomes and first.start():
                outcomes.append(_Outcome(first, error=error))
            self._undo(outcomes, error)
        for outcome in outcomes:
            self._answer(outcome)

    def _connect(self) -> Connection:
        """The connection of the last batch, unless it was idle for so long that it may have been lost."""
        if self._connection is not None and monotonic() - self._used_at > _TRUSTED_SECONDS:
            self._disconnect()
        if self._connection is None:
            self._connection = self._engine.connect()
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            with suppress(SQLAlchemyError):
                self._connection.close()
            self._connection = None

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
        elif (outcome.is_repeatable or is_transient(error)) and unit.attempt_count < MOST_ATTEMPTS:
            unit.not_before = monotonic() + pause_seconds(unit.attempt_count)
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
    is_settled = False
    try:
        # In words: for a SAVEPOINT of its own SQLAlchemy takes longer than most units.
        connection.exec_driver_sql(f"SAVEPOINT {_SAVEPOINT}")
        try:
            outcome.result = outcome.unit.work(connection)
            connection.exec_driver_sql(f"RELEASE SAVEPOINT {_SAVEPOINT}")
            is_settled = True
        except BaseException as error:  # noqa: BLE001 -- handed to the caller, as concurrent.futures does
            outcome.error = error
            connection.exec_driver_sql(f"ROLLBACK TO SAVEPOINT {_SAVEPOINT}")
            connection.exec_driver_sql(f"RELEASE SAVEPOINT {_SAVEPOINT}")
            is_settled = True
    except SQLAlchemyError as error:  # nothing can be said of the transaction any more
        outcome.error = outcome.error or error
    if not is_settled or not _is_in_transaction(connection):
        raise _TransactionLost("the database gave up the transaction")


def _attempt_alone(connection: Connection, outcome: _Outcome) -> None:
    """Run the only unit of a transaction; if it fails, so does that."""
    outcome.result = outcome.unit.work(connection)


def _is_in_transaction(connection: Connection) -> bool:
    if connection.invalidated or not connection.in_transaction():
        return False
    driver_connection: Any = connection.connection.driver_connection
    if connection.dialect.name == "sqlite":
        return bool(driver_connection.in_transaction)
    return bool(driver_connection.info.transaction_status.name == "INTRANS")
