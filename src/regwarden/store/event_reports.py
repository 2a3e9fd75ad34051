"""Which events were received? Pages of them, newest first, and those that came after one that is known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Final

from sqlalchemy import Select, func, select
from sqlalchemy.engine import Connection
from sqlalchemy.sql.elements import ColumnElement

from regwarden.core.access import EVERYTHING, Reach
from regwarden.core.oci.digests import Digest
from regwarden.core.patterns import Pattern, PatternSet
from regwarden.store.event_schema import events
from regwarden.store.query_conditions import Check
from regwarden.store.query_fields import load_registries
from regwarden.store.query_paging import OrderKey, read_cursor, segments, write_cursor
from regwarden.store.query_patterns import is_decided, narrow_any
from regwarden.store.query_selection import find_registry
from regwarden.store.reaching import reach_filters, touched
from regwarden.store.schema import registries
from regwarden.store.times import from_micros, to_micros

_ORDER: Final = "event"
_KEYS: Final = (OrderKey(events.c.at, int, is_descending=True), OrderKey(events.c.id, int, is_descending=True))
_STREAMED_ROWS: Final = 1_000
_TEXTS: Final = (
    "action",
    "target",
    "repository",
    "tag",
    "media_type",
    "size_bytes",
    "other_repository",
    "pull_class",
    "method",
    "actor",
    "user_agent",
    "address",
    "host",
    "request_id",
    "instance_id",
    "state",
    "delivery_id",
    "event_id",
)

EventRow = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class EventQuery:
    """Which events are wanted; everything given must hold, of several of one kind any.

    ``registries`` are names or hosts; ``repositories``, ``tags`` and ``actors`` patterns. ``since`` is the first
    moment, ``until`` the first that is too late, both aware and by the registry's clock. ``has_unknown_host``: only
    events whose registry is not known. What lies outside of ``reach`` is left out.
    """

    registries: tuple[str, ...] = ()
    repositories: tuple[Pattern, ...] = ()
    tags: tuple[Pattern, ...] = ()
    actors: tuple[Pattern, ...] = ()
    actions: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    has_unknown_host: bool = False
    reach: Reach = EVERYTHING


@dataclass(frozen=True, slots=True)
class EventPage:
    """Some events in order; ``next_cursor`` is ``None`` at the end."""

    rows: list[EventRow]
    next_cursor: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownHost:
    """A host that events name and no registry has; empty where they name none."""

    host: str
    event_count: int
    first_at: datetime
    last_at: datetime


def list_events(connection: Connection, query: EventQuery, limit: int | None, cursor: str | None) -> EventPage:
    """At most ``limit`` events behind ``cursor``, newest first.

    Raises ``NotFound`` for a registry that is not known, ``InputError`` (code ``bad-cursor``).
    """
    place = None if cursor is None else read_cursor(cursor, _ORDER, _KEYS)
    statement, checks = _prepare(connection, query)
    found = list(islice(_stream_pages(connection, statement, checks, place), None if limit is None else limit + 1))
    is_more = limit is not None and len(found) > limit
    shown = found[:limit]
    last = write_cursor(_ORDER, (shown[-1].at, shown[-1].id)) if is_more else None
    return EventPage([_shown(row, query.reach) for row in shown], last)


def newest_event_id(connection: Connection) -> int:
    """The number of the event that was taken in last; 0 where there is none."""
    return int(connection.execute(select(func.coalesce(func.max(events.c.id), 0))).scalar_one())


def list_events_after(
    connection: Connection, query: EventQuery, position: int, limit: int = _STREAMED_ROWS
) -> tuple[list[EventRow], int]:
    """At most ``limit`` events taken in after ``position``, in that order, and the position behind them."""
    newest = newest_event_id(connection)
    statement, checks = _prepare(connection, query)
    statement = statement.where(events.c.id > position, events.c.id <= newest).order_by(events.c.id)
    found = list(islice(_passing(connection, statement, checks), limit))
    behind = found[-1].id if len(found) == limit else max(newest, position)
    return [_shown(row, query.reach) for row in found], behind


def list_unknown_hosts(connection: Connection, limit: int = 100) -> list[UnknownHost]:
    """The hosts of events whose registry is not configured, most events first; hosts are what clients sent."""
    count = func.count()
    statement = (
        select(events.c.host, count.label("event_count"), func.min(events.c.at), func.max(events.c.at))
        .where(events.c.registry_id.is_(None))
        .group_by(events.c.host)
        .order_by(count.desc(), events.c.host)
        .limit(limit)
    )
    return [
        UnknownHost(host=host, event_count=number, first_at=from_micros(first), last_at=from_micros(last))
        for host, number, first, last in connection.execute(statement)
    ]


def _prepare(connection: Connection, query: EventQuery) -> tuple[Select[Any], list[Check]]:
    """The statement without an order, and what is left to check in Python."""
    known = load_registries(connection)
    place = {"registry_id": events.c.registry_id, "name": events.c.repository}
    within = reach_filters(query.reach, known, connection.dialect.name, **place)
    clauses: list[ColumnElement[bool]] = [one.clause for one in within if one.clause is not None]
    checks = [one.check for one in within if one.check is not None]
    if query.registries:
        seen = touched(known, query.reach)
        clauses.append(events.c.registry_id.in_([find_registry(name, seen).id for name in query.registries]))
    if query.has_unknown_host:
        clauses.append(events.c.registry_id.is_(None))
    for column, values in (
        (events.c.action, query.actions),
        (events.c.target, query.targets),
        (events.c.pull_class, query.classes),
    ):
        if values:
            clauses.append(column.in_(values))
    if query.since is not None:
        clauses.append(events.c.at >= to_micros(query.since))
    if query.until is not None:
        clauses.append(events.c.at < to_micros(query.until))
    for name, patterns in (("repository", query.repositories), ("tag", query.tags), ("actor", query.actors)):
        column = events.c[name]
        narrowed = narrow_any(column, patterns, connection.dialect.name) if patterns else None
        if narrowed is not None:
            clauses.append(narrowed)
        if patterns and not is_decided(patterns):
            checks.append(Check((column,), PatternSet(tuple(patterns)).matches))
    joined = events.outerjoin(registries, registries.c.id == events.c.registry_id)
    statement = select(events, registries.c.name.label("registry_name")).select_from(joined).where(*clauses)
    return statement, checks


def _stream_pages(
    connection: Connection, statement: Select[Any], checks: Sequence[Check], place: tuple[Any, ...] | None
) -> Iterator[Any]:
    for segment in segments(_KEYS, place):
        part = statement if segment.condition is None else statement.where(segment.condition)
        yield from _passing(connection, part.order_by(*segment.ordering), checks)


def _passing(connection: Connection, statement: Select[Any], checks: Sequence[Check]) -> Iterator[Any]:
    names = [([column.name for column in check.columns], check.passes) for check in checks]
    with connection.execute(statement, execution_options={"yield_per": _STREAMED_ROWS}) as rows:
        for row in rows:
            if all(passes(*(getattr(row, name) for name in columns)) for columns, passes in names):
                yield row


def _shown(row: Any, reach: Reach) -> EventRow:
    texts = {name: getattr(row, name) for name in _TEXTS}
    if not (reach.is_everything or reach.has(row.registry_name, row.other_repository or "")):
        texts["other_repository"] = ""
    return {
        "id": row.id,
        "at": from_micros(row.at),
        "received_at": from_micros(row.received_at),
        "sent_at": from_micros(row.sent_at),
        "registry": row.registry_name,
        "digest": str(Digest.from_bytes(bytes(row.digest))) if row.digest else None,
        **texts,
    }
