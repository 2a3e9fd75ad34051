"""What were we about to do at a registry, and what came of it? Append-only; a step's state is a cache of it.

An intent is committed before its request is sent, its outcome after the answer. An intent without an outcome means
that nobody knows whether it was done.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import insert, select, update
from sqlalchemy.engine import Connection

from regwarden.core.oci.digests import Digest
from regwarden.core.plan import Step
from regwarden.errors import Conflict
from regwarden.store.cleanup_schema import journal, plan_steps
from regwarden.store.plan_records import StepState
from regwarden.store.times import from_micros, to_micros


class EntryKind(StrEnum):
    """What an entry is about."""

    INTENT = "intent"
    OUTCOME = "outcome"
    RESTORE_INTENT = "restore-intent"
    RESTORE_OUTCOME = "restore-outcome"


class Result(StrEnum):
    """What came of it."""

    DONE = "done"
    GONE = "gone"  # the registry did not have it any more
    NOT_DONE = "not-done"  # an intent of a process that ended; it was not carried out and may be repeated
    DRIFTED = "drifted"  # without an intent: something changed, so nothing was done
    FAILED = "failed"
    PRESENT = "present"  # of a restore: it was there, nothing is lost


_STATES: Final = {
    Result.DONE: StepState.DONE,
    Result.GONE: StepState.GONE,
    Result.NOT_DONE: StepState.PENDING,
    Result.DRIFTED: StepState.DRIFTED,
    Result.FAILED: StepState.FAILED,
}
_MAX_DETAIL: Final = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalEntry:
    """One entry; ``result`` is empty for intents. ``tags`` are those that pointed to ``digest`` at that moment.

    An entry about a repository as a whole has no digest.
    """

    id: int
    plan_id: int
    position: int
    at: datetime
    entry: EntryKind
    result: str
    registry: str
    repository: str
    digest: str
    tags: tuple[str, ...]
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A step at a moment: ``tags`` are those that point to its digest, or those that it is put back under."""

    plan_id: int
    step: Step
    tags: tuple[str, ...]
    at: datetime


def note_intent(connection: Connection, moment: Moment, detail: str = "") -> int:
    """Write that the request of a step is about to be sent; commit it before that. Returns the entry's id.

    Raises ``Conflict`` (code ``step-state``) unless the step is pending: no step is begun twice.
    """
    _move(connection, moment, (StepState.PENDING,), StepState.INTENDED)
    return _append(connection, moment, EntryKind.INTENT, detail=detail)


def note_outcome(connection: Connection, moment: Moment, result: Result, detail: str = "") -> int:
    """Write what came of a step: of its intent, or why there was none. Returns the entry's id.

    Raises ``Conflict`` (code ``step-state``) where the step is at its end already.
    """
    _move(connection, moment, (StepState.PENDING, StepState.INTENDED), _STATES[result], detail)
    return _append(connection, moment, EntryKind.OUTCOME, result, detail)


def note_restore_intent(connection: Connection, moment: Moment, detail: str = "") -> int:
    """Write that what a step removed is about to be put back. Returns the entry's id."""
    return _append(connection, moment, EntryKind.RESTORE_INTENT, detail=detail)


def note_restore_outcome(connection: Connection, moment: Moment, result: Result, detail: str = "") -> int:
    """Write what came of putting it back; the step is ``restored`` if it was done. Returns the entry's id."""
    if result is Result.DONE:
        _move(connection, moment, tuple(StepState), StepState.RESTORED, detail)
    return _append(connection, moment, EntryKind.RESTORE_OUTCOME, result, detail)


def load_journal(connection: Connection, plan_id: int, *, position: int | None = None) -> tuple[JournalEntry, ...]:
    """The entries of a plan, or of one of its steps, in the order in which they were written."""
    statement = select(journal).where(journal.c.plan_id == plan_id).order_by(journal.c.id)
    if position is not None:
        statement = statement.where(journal.c.position == position)
    return tuple(_entry(row) for row in connection.execute(statement))


def load_registry_journal(
    connection: Connection, registry: str, *, since: datetime, repository: str = ""
) -> tuple[JournalEntry, ...]:
    """The entries about a registry, or one of its repositories, written at or after ``since``, of whatever plan."""
    statement = (
        select(journal).where(journal.c.registry == registry, journal.c.at >= to_micros(since)).order_by(journal.c.id)
    )
    if repository:
        statement = statement.where(journal.c.repository == repository)
    return tuple(_entry(row) for row in connection.execute(statement))


def _move(
    connection: Connection, moment: Moment, from_states: Sequence[StepState], to: StepState, detail: str = ""
) -> None:
    changed = connection.execute(
        update(plan_steps)
        .where(
            plan_steps.c.plan_id == moment.plan_id,
            plan_steps.c.position == moment.step.position,
            plan_steps.c.state.in_([str(state) for state in from_states]),
        )
        .values(state=str(to), detail=detail[:_MAX_DETAIL], at=to_micros(moment.at))
    )
    if changed.rowcount != 1:
        states = " or ".join(from_states)
        message = f"step {moment.step.position} of plan {moment.plan_id} is not {states} any more"
        raise Conflict(message, hint="Another process may be applying the same plan.", code="step-state")


def _append(
    connection: Connection, moment: Moment, entry: EntryKind, result: Result | None = None, detail: str = ""
) -> int:
    row = {
        "plan_id": moment.plan_id,
        "position": moment.step.position,
        "at": to_micros(moment.at),
        "entry": str(entry),
        "result": "" if result is None else str(result),
        "registry": moment.step.registry,
        "repository": moment.step.repository,
        "digest": Digest.parse(moment.step.digest).to_bytes() if moment.step.digest else b"",
        "tags": json.dumps(list(moment.tags)),
        "detail": detail[:_MAX_DETAIL],
    }
    return int(connection.execute(insert(journal).values(**row).returning(journal.c.id)).scalar_one())


def _entry(row: Any) -> JournalEntry:
    return JournalEntry(
        id=row.id,
        plan_id=row.plan_id,
        position=row.position,
        at=from_micros(row.at),
        entry=EntryKind(row.entry),
        result=row.result,
        registry=row.registry,
        repository=row.repository,
        digest=str(Digest.from_bytes(row.digest)) if row.digest else "",
        tags=tuple(json.loads(row.tags)),
        detail=row.detail,
    )
