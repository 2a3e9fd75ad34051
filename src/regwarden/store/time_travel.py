"""What was in the registries at a moment? A private database in the state of then, for the same questions as ever.

It is made from the points of tags, the removals, and what manifests and blobs tell of their time; content itself never
changes. Late events may change past answers. Its sizes are computed anew, for whole registries.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Final

from sqlalchemy import Table, create_engine, func, select, update
from sqlalchemy.dialects.sqlite import dialect as sqlite_dialect
from sqlalchemy.engine import Connection
from sqlalchemy.pool import StaticPool
from sqlalchemy.schema import CreateIndex, CreateTable

from regwarden.core.query import Query
from regwarden.errors import NotFound
from regwarden.store import schema
from regwarden.store.analytics import measure_registry
from regwarden.store.event_schema import events
from regwarden.store.figures import save_figures
from regwarden.store.past_content import copy_content, load_contents
from regwarden.store.past_rows import Passage, fetch, insert_rows, until
from regwarden.store.past_tags import TAG_COLUMNS, PastTags, load_past_tags
from regwarden.store.query_fields import Scope, load_registries
from regwarden.store.query_selection import choose_registries
from regwarden.store.times import from_micros, to_micros

_PRAGMAS: Final = ("journal_mode = OFF", "synchronous = OFF", "cache_size = -65536")
_BATCH_ROWS: Final = 10_000
_BATCH_REPOSITORIES: Final = 100
_ENDED: Final = ("complete", "partial")


@dataclass(frozen=True, slots=True)
class HistoryStart:
    """Since when a registry is known, and since when completely (``None``: no crawl of it has ended yet)."""

    registry: str
    first_seen_at: datetime
    first_crawled_at: datetime | None


@dataclass(frozen=True, slots=True)
class KeptPulls:
    """The classes of pulls that count as use, and since when daily counts are kept (``None``: all)."""

    use: Collection[str] = ()
    since: datetime | None = None


def history_starts(connection: Connection, names: Collection[str] = ()) -> list[HistoryStart]:
    """When the history of each registry (or of those named) begins, by name."""
    registries, crawls = schema.registries, schema.crawls
    first = (
        select(crawls.c.registry_id, func.min(crawls.c.finished_at).label("at"))
        .where(crawls.c.state.in_(_ENDED))
        .group_by(crawls.c.registry_id)
        .subquery()
    )
    statement = (
        select(registries.c.name, registries.c.first_seen_at, first.c.at)
        .select_from(registries.outerjoin(first, first.c.registry_id == registries.c.id))
        .order_by(registries.c.name)
    )
    if names:
        statement = statement.where(registries.c.name.in_(sorted(names)))
    rows = connection.execute(statement)
    return [HistoryStart(row.name, from_micros(row.first_seen_at), from_micros(row.at)) for row in rows]


def named_registries(connection: Connection, query: Query) -> tuple[str, ...]:
    """The names of the registries that a question is about. Raises ``NotFound`` for one that is not known.

    Also where it is about none, for none named is all of them.
    """
    scope = Scope(connection.dialect.name, load_registries(connection), 0)
    chosen = tuple(one.name for one in choose_registries(query, scope))
    if not chosen and scope.registries:
        raise NotFound("what there was then is not known", code="before-history")
    return chosen


@contextmanager
def open_past(
    source: Connection, moment: datetime, names: Collection[str] = (), *, pulls: KeptPulls | None = None
) -> Iterator[Connection]:
    """A database with the present schema that holds what the registries (all, or those named) were at ``moment``.

    ``pulls`` says which pulls count as use and how long they are kept. Registries of which nothing was known then are
    left out. Raises ``NotFound`` (code ``before-history``) if that is so of all of them. Time and space are those of
    reading the registries from the database once; beyond a small cache the rows stand in a file that vanishes with the
    block.
    """
    registry_ids = _known_then(source, moment, names)
    # Without a name SQLite keeps a database to itself, on disk where it does not fit into the cache.
    engine = create_engine(
        "sqlite://", creator=lambda: sqlite3.connect("", uri=True, check_same_thread=False), poolclass=StaticPool
    )
    try:
        with engine.connect() as target:
            for pragma in _PRAGMAS:
                target.exec_driver_sql(f"PRAGMA {pragma}")
            tables, indexes = _schema_statements()
            for statement in tables:
                target.exec_driver_sql(statement)
            _fill(source, target, moment, registry_ids, pulls or KeptPulls())
            for statement in indexes:
                target.exec_driver_sql(statement)
            yield target
    finally:
        engine.dispose()


@cache
def _schema_statements() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What makes tables and indexes; kept, because making these texts takes longer than many an answer."""
    tables = events.metadata.sorted_tables
    indexes = [CreateIndex(index) for table in tables for index in table.indexes]
    made = tuple(str(CreateTable(table).compile(dialect=sqlite_dialect())) for table in tables)
    return made, tuple(str(index.compile(dialect=sqlite_dialect())) for index in indexes)


def fingerprint(connection: Connection) -> tuple[int | None, ...]:
    """Changes when an answer about the past may: with every event and crawl."""
    newest = (func.max(events.c.id), func.max(schema.crawls.c.id), func.max(schema.crawls.c.finished_at))
    return tuple(connection.execute(select(column)).scalar() for column in newest)


def add_payload(source: Connection, past: Connection, digest: bytes) -> None:
    """Take the bytes of one manifest along; they are left behind otherwise, because few questions need them."""
    table = schema.manifests
    payload = source.execute(select(table.c.payload).where(table.c.digest == digest)).scalar()
    past.execute(update(table).where(table.c.digest == digest).values(payload=payload))


def _known_then(source: Connection, moment: datetime, names: Collection[str]) -> list[int]:
    registries = schema.registries
    statement = select(registries.c.id, registries.c.name, registries.c.first_seen_at)
    if names:
        statement = statement.where(registries.c.name.in_(sorted(names)))
    rows = source.execute(statement.order_by(registries.c.first_seen_at)).all()
    known = [row.id for row in rows if row.first_seen_at <= to_micros(moment)]
    if rows and not known:
        first = from_micros(rows[0].first_seen_at).isoformat(timespec="seconds")
        raise NotFound(
            f"what there was at {moment.isoformat(timespec='seconds')} is not known",
            hint=f"The history of {rows[0].name} begins at {first}.",
            code="before-history",
        )
    return known


def _fill(
    source: Connection, target: Connection, moment: datetime, registry_ids: Sequence[int], pulls: KeptPulls
) -> None:
    at = to_micros(moment)
    passage = Passage.between(source, target)
    for registry_id in registry_ids:
        for rows in _batches(source, registry_id):
            _fill_repositories(source, target, at, rows, pulls)
    copy_content(passage)
    for registry_id in registry_ids:
        problem_count = _copy_problems(source, target, registry_id, at)
        _copy_registry(source, target, registry_id, at, problem_count, pulls)
        save_figures(target, registry_id, measure_registry(target, registry_id), moment)
    passage.end()


def _batches(source: Connection, registry_id: int) -> Iterator[list[dict[str, Any]]]:
    """The repositories of a registry, so many at a time that what is known of them fits into little memory."""
    table = schema.repositories
    statement = select(table).where(table.c.registry_id == registry_id).order_by(table.c.id)
    batch: list[dict[str, Any]] = []
    size = 0
    for row in source.execute(statement).mappings().all():
        batch.append(dict(row))
        size += row["tag_count"] + row["manifest_count"]
        if size >= _BATCH_ROWS or len(batch) >= _BATCH_REPOSITORIES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _fill_repositories(
    source: Connection, target: Connection, at: int, rows: Sequence[dict[str, Any]], pulls: KeptPulls
) -> None:
    """What some repositories were, and had; not what that consists of."""
    ids = [row["id"] for row in rows]
    tags = load_past_tags(source, ids, at)
    contents = load_contents(source, ids, at, tags, pulls.use)
    found = _past_repositories(rows, at, tags, contents.last_seen_at)
    kept = {row["id"] for row in found}
    _insert(target, schema.repositories, found)
    insert_rows(target, schema.tags, TAG_COLUMNS, tags.rows(contents.manifests, kept))
    contents.insert(target, kept)


def _insert(target: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Add rows that all have the same columns."""
    if rows:
        insert_rows(target, table, list(rows[0]), [tuple(row.values()) for row in rows])


def _past_repositories(
    rows: Iterable[dict[str, Any]], at: int, tags: PastTags, last_seen_at: dict[int, int]
) -> list[dict[str, Any]]:
    """The repositories that were there, with what was known of each."""
    kept = []
    for found in rows:
        number = found["id"]
        first_seen_at = min(found["first_seen_at"], tags.first_at.get(number, at + 1))
        readings = [until(found[name], at) for name in ("seen_at", "settled_at")]
        signs = [last_seen_at.get(number), tags.last_at.get(number), *readings]
        evidence = max([first_seen_at, *(one for one in signs if one is not None)])
        if first_seen_at > at or tags.removals.is_gone(number, b"", (evidence, at), found["deleted_at"]):
            continue
        created = tags.newest_created_at(number)
        times = {name: until(found[name], at) for name in ("seen_at", "verified_at", "settled_at", "read_until")}
        cleared = dict.fromkeys(("deleted_at", "vanished_in"))
        kept.append({**found, **times, **cleared, "first_seen_at": first_seen_at, "newest_created_at": created})
    return kept


def _copy_problems(source: Connection, target: Connection, registry_id: int, at: int) -> int:
    """Those problems of today that were there already; how many there are of each repository."""
    table, repositories = schema.crawl_problems, schema.repositories
    of_registry = repositories.c.registry_id == registry_id
    kept = {row[0] for row in fetch(target, select(repositories.c.id).where(of_registry))}
    statement = select(table).where(table.c.registry_id == registry_id, table.c.first_seen_at <= at)
    rows = [dict(row) for row in source.execute(statement).mappings()]
    rows = [row for row in rows if row["repository_id"] is None or row["repository_id"] in kept]
    _insert(target, table, rows)
    counts = Counter(row["repository_id"] for row in rows)
    target.execute(update(repositories).where(of_registry).values(problem_count=0))
    for number, count in counts.items():
        target.execute(update(repositories).where(repositories.c.id == number).values(problem_count=count))
    return len(rows)


def _copy_registry(
    source: Connection, target: Connection, registry_id: int, at: int, problem_count: int, pulls: KeptPulls
) -> None:
    registries, crawls = schema.registries, schema.crawls
    found = dict(source.execute(select(registries).where(registries.c.id == registry_id)).mappings().one())
    ours = select(crawls).where(crawls.c.registry_id == registry_id, crawls.c.finished_at <= at)
    ended = [dict(row) for row in source.execute(ours.order_by(crawls.c.finished_at)).mappings()]
    _insert(target, crawls, ended)
    if found["crawled_at"] is not None and found["crawled_at"] > at:
        last = next((row for row in reversed(ended) if row["state"] in _ENDED), None)
        found["crawl_id"] = None if last is None else last["id"]
        found["crawled_at"] = None if last is None else last["finished_at"]
        found["crawl_state"] = None if last is None else last["state"]
    found["delivered_at"] = until(found["delivered_at"], at)
    if found["events_since"] is not None and pulls.since is not None:
        # Before, the last pull of then is forgotten where there was a later one.
        found["events_since"] = max(found["events_since"], to_micros(pulls.since))
    found["events_since"] = until(found["events_since"], at)
    _insert(target, registries, [{**found, "problem_count": problem_count}])
