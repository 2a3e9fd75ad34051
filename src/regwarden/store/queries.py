"""The one way to list, count and export registries, repositories, tags, manifests and blobs.

A page is found by its keys first, then its rows are read whole. Rows are dictionaries by the names of ``core.fields``:
digests and revisions as text, times aware UTC, ``None`` where unknown.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from typing import Any, Final

from sqlalchemy import func, select, tuple_
from sqlalchemy.engine import Connection

from regwarden.core.query import Query
from regwarden.errors import InputError
from regwarden.store.chunks import chunked
from regwarden.store.query_blobs import count_blob_rows, find_blob_rows, iterate_blob_rows
from regwarden.store.query_paging import read_cursor, write_cursor
from regwarden.store.query_scan import Found, Scan, find_rows, prepare_scan, select_where
from regwarden.store.query_sources import Walk, joined

_BATCH_ROWS: Final = 500

Row = dict[str, object]


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows in order. ``next_cursor`` is ``None`` at the end; ``unknown_count`` unless it was not asked for."""

    rows: list[Row]
    next_cursor: str | None
    unknown_count: int | None = None


def list_rows(connection: Connection, query: Query, now: datetime, *, count_unknown: bool = False) -> Page:
    """One page of at most ``query.limit`` rows behind ``query.cursor``. ``now`` is aware.

    The usual order is by name (registry, repository, tag or digest), byte by byte; NULL comes last in every order.
    With ``count_unknown`` the rows that only an unknown value keeps out (or lets in) are counted too, which reads
    more. Raises ``InputError`` (codes ``bad-cursor``, ``bad-limit``, ``bad-selector``) and ``NotFound`` for an
    unknown registry.
    """
    limit = query.limit
    if limit is not None and limit < 1:
        raise InputError("the limit must be at least 1", code="bad-limit")
    unknown_count = _count_unknown(connection, query, now) if count_unknown else None
    if query.noun == "blob":
        rows, cursor = find_blob_rows(connection, query, now, limit)
        return Page(rows, cursor, unknown_count)
    scan = prepare_scan(connection, query, now)
    place = None if query.cursor is None else read_cursor(query.cursor, scan.order, scan.keys)
    found = list(islice(find_rows(connection, scan, place, limit + 1 if limit else None), limit and limit + 1))
    is_more = limit is not None and len(found) > limit
    shown = found[:limit] if is_more else found
    return Page(
        rows=list(_read_whole(connection, scan, shown)),
        next_cursor=write_cursor(scan.order, shown[-1][1]) if is_more else None,
        unknown_count=unknown_count,
    )


def iterate_rows(connection: Connection, query: Query, now: datetime) -> Iterator[Row]:
    """All rows (or ``query.limit`` of them) one after the other, in little memory."""
    if query.noun == "blob":
        yield from iterate_blob_rows(connection, query, now)
        return
    scan = prepare_scan(connection, query, now)
    place = None if query.cursor is None else read_cursor(query.cursor, scan.order, scan.keys)
    found = islice(find_rows(connection, scan, place, query.limit), query.limit)
    while batch := list(islice(found, _BATCH_ROWS)):
        yield from _read_whole(connection, scan, batch)


def count_rows(connection: Connection, query: Query, now: datetime) -> int:
    """How many rows there are in all; ``limit``, ``cursor`` and ``sort`` of the question do not matter."""
    query = replace(query, limit=None, cursor=None, sort=())
    if query.noun == "blob":
        return count_blob_rows(connection, query, now)
    scan = prepare_scan(connection, query, now)
    if any(one.check is not None for one in scan.filters):
        return sum(1 for _ in find_rows(connection, scan, None, None))
    identity = scan.source.identity[0]
    walk = scan.walk if scan.candidates is not None else Walk.FREE
    statement = select_where(scan, [identity], walk).with_only_columns(func.count(), maintain_column_froms=True)
    return int(connection.execute(statement).scalar_one())


def _count_unknown(connection: Connection, query: Query, now: datetime) -> int:
    if not query.conditions:
        return 0
    with_unknown, without = replace(query, include_unknown=True), replace(query, include_unknown=False)
    return count_rows(connection, with_unknown, now) - count_rows(connection, without, now)


def _read_whole(connection: Connection, scan: Scan, found: Sequence[Found]) -> Iterator[Row]:
    """The shown values of the rows that were found, in the same order."""
    fields, identity = scan.fields, scan.source.identity
    columns = [*identity, *(field.expression for field in fields.values())]
    source = joined(scan.query.noun, Walk.FREE, columns)
    key = identity[0] if len(identity) == 1 else tuple_(*identity)
    shown = [(position, name, fields[name].shown) for position, name in enumerate(fields, start=len(identity))]
    for batch in chunked(found, _BATCH_ROWS):
        wanted = [one[0][0] if len(identity) == 1 else one[0] for one in batch]
        rows: dict[tuple[Any, ...], Row] = {}
        # One column alone as well: SQLite finds no index for pairs.
        last = identity[-1].in_([one[0][-1] for one in batch])
        for row in connection.execute(select(*columns).select_from(source).where(last, key.in_(wanted))):
            rows[tuple(row[: len(identity)])] = {name: show(row[position]) for position, name, show in shown}
        yield from (rows[one[0]] for one in batch)
