"""Which of our own old rows go, and when? Deliveries, events, pull counts, trash; never what they taught us.

In short pieces, so that deliveries that arrive meanwhile need not wait.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any, Final

from sqlalchemy import Table, delete, exists, select, tuple_
from sqlalchemy.engine import Connection

from regwarden.store.access_state import purge_access
from regwarden.store.database import Database
from regwarden.store.decisions import delete_old_decisions
from regwarden.store.deliveries import UNKNOWN_REGISTRY
from regwarden.store.event_schema import SET_ASIDE, deliveries, events, pull_days, senders
from regwarden.store.times import to_micros
from regwarden.store.trash_purging import delete_incomplete_plans, purge_trash

PIECE_ROWS: Final = 500
_FIRST_DAY: Final = date(1970, 1, 1)
_APPLIED: Final = "applied"
# How long the writing of a plan may take at the very most.
_BEING_WRITTEN: Final = timedelta(days=1)
_UNAPPLIED: Final = SET_ASIDE


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """How long rows are kept: of applied deliveries, of unreadable or unknown ones, of events, of pull counts.

    ``trash``: of manifests that plans removed, after these have come to an end. ``decisions``: what the allow-list
    answered.
    """

    bodies: timedelta
    quarantine: timedelta
    events: timedelta
    pulls: timedelta
    trash: timedelta
    decisions: timedelta = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Purged:
    """How many rows went."""

    delivery_count: int = 0
    quarantine_count: int = 0
    event_count: int = 0
    pull_day_count: int = 0
    trash_count: int = 0


async def purge(database: Database, keeping: Keeping, now: datetime) -> Purged:
    """Delete what is older than it is kept; what is pending stays. Interrupted, the next call goes on."""
    while await database.write(partial(delete_incomplete_plans, before=to_micros(now - _BEING_WRITTEN))):
        pass
    while await database.write(partial(purge_access, now=now)):
        pass
    decided_before = to_micros(now - keeping.decisions)
    while await database.write(partial(delete_old_decisions, before=decided_before, limit=PIECE_ROWS)):
        pass
    await database.write(partial(_forget_senders, before=to_micros(now - keeping.events)))
    return Purged(
        delivery_count=await _purge_received(database, deliveries, (_APPLIED,), now - keeping.bodies),
        quarantine_count=await _purge_received(database, deliveries, _UNAPPLIED, now - keeping.quarantine),
        event_count=await _purge_received(database, events, (_APPLIED,), now - keeping.events)
        # With these is known which deliveries are to be applied once their registry is configured.
        + await _purge_received(database, events, (UNKNOWN_REGISTRY,), now - keeping.quarantine),
        pull_day_count=await _purge_pull_days(database, _day_of(now - keeping.pulls)),
        trash_count=await purge_trash(database, now - keeping.trash),
    )


def _forget_senders(connection: Connection, *, before: int) -> int:
    """Processes that have ended; the last one of each registry stays, so that the next one is known to be another."""
    newer = senders.alias("newer")
    has_newer = exists().where(newer.c.registry_id == senders.c.registry_id, newer.c.last_at > senders.c.last_at)
    return connection.execute(delete(senders).where(senders.c.last_at < before, has_newer)).rowcount


async def _purge_received(database: Database, table: Table, states: Sequence[str], before: datetime) -> int:
    """Walk from the oldest id on: ids grow with the time of receipt, so the walk ends where rows are young."""
    purged_count, position = 0, 0
    while True:
        find: Callable[[Connection], _Page] = partial(
            _find_old, table=table, states=states, before=to_micros(before), after=position
        )
        page = await database.read(find)
        if page.ids:
            purged_count += await database.write(partial(_delete_ids, table=table, ids=page.ids, states=states))
        if page.is_last:
            return purged_count
        position = page.last_id


@dataclass(frozen=True, slots=True)
class _Page:
    ids: tuple[int, ...]
    last_id: int
    is_last: bool


def _find_old(connection: Connection, *, table: Table, states: Sequence[str], before: int, after: int) -> _Page:
    columns = table.c
    rows = connection.execute(
        select(columns.id, columns.state, columns.received_at)
        .where(columns.id > after)
        .order_by(columns.id)
        .limit(PIECE_ROWS)
    ).all()
    old = [row for row in rows if row.received_at < before]
    return _Page(
        ids=tuple(row.id for row in old if not states or row.state in states),
        last_id=rows[-1].id if rows else after,
        is_last=len(rows) < PIECE_ROWS or not old,
    )


def _delete_ids(connection: Connection, *, table: Table, ids: Sequence[int], states: Sequence[str]) -> int:
    """A row that was set to pending again in the meantime stays."""
    doomed = delete(table).where(table.c.id.in_(ids))
    if states:
        doomed = doomed.where(table.c.state.in_(states))
    return connection.execute(doomed).rowcount


async def _purge_pull_days(database: Database, before: int) -> int:
    purged_count = 0
    while True:
        count = await database.write(partial(_delete_pull_days, before=before))
        purged_count += count
        if count < PIECE_ROWS:
            return purged_count


def _delete_pull_days(connection: Connection, *, before: int) -> int:
    key: Any = tuple_(*pull_days.primary_key.columns)
    oldest = select(*pull_days.primary_key.columns).where(pull_days.c.day < before).order_by(pull_days.c.day)
    return connection.execute(delete(pull_days).where(key.in_(oldest.limit(PIECE_ROWS)))).rowcount


def _day_of(at: datetime) -> int:
    return (at.astimezone(UTC).date() - _FIRST_DAY).days
