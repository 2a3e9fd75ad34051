"""What must be read from a registry again, or for the first time: a row for each, gone when it has been done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.engine import Connection

from regwarden.store.bulk import Join, bulk_join
from regwarden.store.chunks import chunked
from regwarden.store.event_schema import rereads
from regwarden.store.times import from_micros, to_micros

# Longer than anything is ever put off, and much shorter than a row stays with whoever works on it.
_LONGEST_PAUSE: Final = timedelta(hours=2)
_TAKEN: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Reread:
    """``reference`` is a digest, or empty for the whole repository; with ``repository`` empty the whole registry."""

    registry_id: int
    repository: str
    reference: str
    reason: str
    due_at: datetime


def note_rereads(connection: Connection, rows: Sequence[Reread]) -> None:
    """Keep what must be read; what is noted already keeps the earliest time, its attempts and its first reason."""
    wanted: dict[tuple[int, str, str], Reread] = {}
    for row in rows:
        key = (row.registry_id, row.repository, row.reference)
        if key not in wanted or row.due_at < wanted[key].due_at:
            wanted[key] = row
    bulk_join(
        connection,
        rereads,
        [
            {
                "registry_id": row.registry_id,
                "repository": row.repository,
                "reference": row.reference,
                "reason": row.reason,
                "due_at": to_micros(row.due_at),
            }
            for row in wanted.values()
        ],
        Join(least=("due_at",)),
        conflict=("registry_id", "repository", "reference"),
    )


@dataclass(frozen=True, slots=True)
class DueReread:
    """A row whose time has come. ``taken_until`` tells whether it was noted again since ``take_rereads``."""

    id: int
    registry_id: int
    repository: str
    reference: str
    reason: str
    due_at: datetime
    attempt_count: int
    problem: str = ""
    taken_until: datetime | None = None


def due_rereads(
    connection: Connection,
    now: datetime,
    registry_id: int | None = None,
    *,
    of_manifests: bool | None = None,
    limit: int = 500,
) -> list[DueReread]:
    """What is due by ``now``, the longest due first; ``of_manifests`` chooses digests, or whole repositories."""
    wanted = _of(registry_id, of_manifests=of_manifests)
    found = connection.execute(
        select(rereads)
        .where(rereads.c.due_at <= to_micros(now), *wanted)
        .order_by(rereads.c.due_at, rereads.c.id)
        .limit(limit)
    )
    return [_due(row) for row in found]


def next_reread_at(connection: Connection, registry_id: int, *, of_manifests: bool) -> datetime | None:
    """When the next row of a registry is due; ``None`` if there is none."""
    earliest = select(func.min(rereads.c.due_at)).where(*_of(registry_id, of_manifests=of_manifests))
    return from_micros(connection.execute(earliest).scalar())


def take_rereads(connection: Connection, due: Sequence[DueReread], now: datetime) -> list[DueReread]:
    """Put rows aside while they are worked on. What is noted again meanwhile becomes due again and is not settled.

    Returns those that are still there: what was renamed is noted under another name.
    """
    until = now + _TAKEN
    _set(connection, due, due_at=to_micros(until))
    there: set[int] = set()
    for chunk in chunked([row.id for row in due]):
        there.update(connection.execute(select(rereads.c.id).where(rereads.c.id.in_(chunk))).scalars())
    return [replace(row, taken_until=until) for row in due if row.id in there]


def settle_reread(connection: Connection, taken: Sequence[DueReread]) -> None:
    """Forget rows that were taken and have been read, unless they were noted again in the meantime."""
    for row in taken:
        done = delete(rereads).where(rereads.c.id == row.id)
        if row.taken_until is not None:
            done = done.where(rereads.c.due_at == to_micros(row.taken_until))
        connection.execute(done)


def postpone_reread(connection: Connection, taken: Sequence[DueReread], due_at: datetime, problem: str) -> None:
    """Try rows again later, and keep why."""
    _set(connection, taken, due_at=to_micros(due_at), attempt_count=rereads.c.attempt_count + 1, problem=problem)


def postpone_registry(connection: Connection, registry_id: int, due_at: datetime, problem: str) -> None:
    """Try nothing of a registry before ``due_at``."""
    moment = to_micros(due_at)
    connection.execute(
        update(rereads)
        .where(rereads.c.registry_id == registry_id, rereads.c.due_at < moment)
        .values(due_at=moment, problem=problem)
    )


def release_rereads(connection: Connection, registry_id: int, now: datetime, *, of_manifests: bool) -> None:
    """Let what a process took and never finished, because it ended or failed, be due again."""
    connection.execute(
        update(rereads)
        .where(*_of(registry_id, of_manifests=of_manifests), rereads.c.due_at > to_micros(now + _LONGEST_PAUSE))
        .values(due_at=to_micros(now))
    )


def list_rereads(connection: Connection, registry_id: int | None = None, *, limit: int = 1000) -> list[DueReread]:
    """Everything that is to be read, whenever, in the order in which it is due."""
    found = connection.execute(
        select(rereads).where(*_of(registry_id)).order_by(rereads.c.due_at, rereads.c.id).limit(limit)
    )
    return [_due(row) for row in found]


def _of(registry_id: int | None, *, of_manifests: bool | None = None) -> list[ColumnElement[bool]]:
    wanted: list[ColumnElement[bool]] = []
    if registry_id is not None:
        wanted.append(rereads.c.registry_id == registry_id)
    if of_manifests is not None:
        wanted.append(rereads.c.reference != "" if of_manifests else rereads.c.reference == "")
    return wanted


def _set(connection: Connection, due: Sequence[DueReread], **values: Any) -> None:
    for chunk in chunked([row.id for row in due]):
        connection.execute(update(rereads).where(rereads.c.id.in_(chunk)).values(values))


def _due(row: Any) -> DueReread:
    return DueReread(
        row.id,
        row.registry_id,
        row.repository,
        row.reference,
        row.reason,
        from_micros(row.due_at),
        row.attempt_count,
        row.problem,
    )
