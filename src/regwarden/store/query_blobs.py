"""Which blobs does each repository need? One row per repository and blob, read from the packed lists.

A blob belongs to a repository if a manifest that exists there names it, or if it was uploaded there and not deleted;
with a tag or digest selected, if what that leads to names it. ``state`` is ``missing`` or ``present`` where the
registry was asked, otherwise ``unverified``.
Rows stream in the usual order, repository by repository; any other order reads all of them and keeps a page.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby, islice
from typing import Any, Final

import numpy as np
from sqlalchemy import and_, exists, null, select
from sqlalchemy.engine import Connection
from sqlalchemy.sql.elements import ColumnElement

from regwarden.core.conditions import Condition, Operator
from regwarden.core.fields import BLOB_FIELDS
from regwarden.core.oci.digests import Digest
from regwarden.core.query import Query
from regwarden.store.arrays import Integers
from regwarden.store.chunks import chunked
from regwarden.store.columns import read_integers
from regwarden.store.packing import blob_id_array
from regwarden.store.query_conditions import Filter
from regwarden.store.query_paging import OrderKey, Place, read_cursor, write_cursor
from regwarden.store.query_scan import Scan, find_rows, prepare_scan
from regwarden.store.schema import (
    blobs,
    manifest_children,
    manifests,
    repositories,
    repository_blobs,
    repository_manifests,
)
from regwarden.store.times import from_micros

_BATCH_MANIFESTS: Final = 5_000
_USUAL: Final = ("registry", "repository", "digest")
_TIMES: Final = ("first_seen_at", "pushed_at", "pulled_at", "verified_at", "deleted_at")
_STORED: Final = {"digest": bytes, "size_bytes": int, "is_orphaned": int, **dict.fromkeys(_TIMES, int)}
_NO_TIMES: Final = dict.fromkeys(_TIMES)
_NULLABLE: Final = frozenset({*_TIMES, "is_orphaned"})
_COMPLETE: Final = ("complete", "untagged")
_LAST_CHARACTER: Final = "\U0010ffff"
_REPOSITORIES: Final = 10
_MOST_REPOSITORIES: Final = 500

Row = dict[str, object]


@dataclass(frozen=True, slots=True)
class _Repository:
    """A selected repository and those of its manifests that are selected.

    ``is_whole``: that is all of them, so that its other blobs are not needed by any manifest; ``is_read``: their
    content and that of the repository is known.
    """

    id: int
    registry: str
    name: str
    manifest_ids: tuple[int, ...]
    is_whole: bool = False
    is_read: bool = False


def find_blob_rows(
    connection: Connection, query: Query, now: datetime, limit: int | None
) -> tuple[list[Row], str | None]:
    """At most ``limit`` rows behind ``query.cursor``, and the cursor of the next page."""
    names = tuple(sort.field.name for sort in query.sort)
    is_usual = names == _USUAL[: len(names)] and not any(sort.descending for sort in query.sort)
    directions = {} if is_usual else {sort.field.name: sort.descending for sort in query.sort}
    columns = (*directions, *(name for name in _USUAL if name not in directions))
    order = " ".join(["blob", *(str(sort) for sort in query.sort if not is_usual)])
    keys = [OrderKey(null(), _STORED.get(name, str), is_nullable=name in _NULLABLE) for name in columns]
    place = None if query.cursor is None else read_cursor(query.cursor, order, keys)
    rank = _ranking(columns, directions)
    rows = _matching(connection, query, now, place if is_usual else None)
    if place is not None:
        behind = rank(dict(zip(columns, place, strict=True)))
        rows = (row for row in rows if rank(row) > behind)
    if is_usual:
        found = list(islice(rows, None if limit is None else limit + 1))
    else:
        found = sorted(rows, key=rank) if limit is None else heapq.nsmallest(limit + 1, rows, key=rank)
    is_more = limit is not None and len(found) > limit
    page = found[:limit]
    cursor = write_cursor(order, tuple(page[-1][name] for name in columns)) if is_more else None
    return [_shown(row) for row in page], cursor


def iterate_blob_rows(connection: Connection, query: Query, now: datetime) -> Iterator[Row]:
    """All rows, in the usual order without holding them."""
    if query.sort or query.cursor is not None:
        yield from find_blob_rows(connection, query, now, query.limit)[0]
        return
    for row in islice(_matching(connection, query, now, None), query.limit):
        yield _shown(row)


def count_blob_rows(connection: Connection, query: Query, now: datetime) -> int:
    """How many rows there are; without conditions, or of orphaned ones, without looking at each."""
    only_orphaned = _asks_for_orphaned(query)
    if len(query.conditions) > only_orphaned:
        return sum(1 for _ in _matching(connection, query, now, None))
    total = 0
    for batch in _batches(_repositories(connection, query, now, None)):
        needed = _load_needed(connection, batch)
        others = _load_others(connection, batch, needed)
        total += sum(len(others[one.id]) for one in batch if one.is_read or not only_orphaned or query.include_unknown)
        total += 0 if only_orphaned else sum(len(blob_ids) for blob_ids in needed.values())
    return total


def _matching(connection: Connection, query: Query, now: datetime, place: Place | None) -> Iterator[dict[str, Any]]:
    """Stored values of the rows that meet every condition, in the usual order."""
    tests = [_test(condition, now, include_unknown=query.include_unknown) for condition in query.conditions]
    has_rows = connection.execute(select(repository_blobs.c.blob_id).limit(1)).first() is not None
    only_orphaned = _asks_for_orphaned(query)
    for batch in _batches(_repositories(connection, query, now, place)):
        for row in _rows(connection, batch, has_rows=has_rows, only_orphaned=only_orphaned):
            if all(test(row) for test in tests):
                yield row


def _repositories(connection: Connection, query: Query, now: datetime, place: Place | None) -> Iterator[_Repository]:
    if query.tags or query.exclude_tags or any(one.tag or one.digest for one in query.selectors):
        yield from _with_chosen_manifests(connection, query, now, place)
        return
    wanted = replace(query, noun="repository", conditions=(), sort=(), cursor=None, limit=None)
    scan = _limited_by_state(prepare_scan(connection, wanted, now), query)
    # Of the repository behind which the page begins, the blobs that follow are still to come.
    start = None if place is None else (place[0], _before(place[1]))
    found = ((identity[0], *names) for identity, names in find_rows(connection, scan, start, None))
    size = _REPOSITORIES
    while part := list(islice(found, size)):
        yield from _with_all_manifests(connection, part)
        size = min(size * 4, _MOST_REPOSITORIES)


def _before(name: str) -> str:
    """A text that comes before ``name``, and behind (nearly) every other one that does."""
    last = name[-1:]
    return name[:-1] + (chr(ord(last) - 1) + _LAST_CHARACTER if "\x01" < last < "\x7f" else "")


def _with_all_manifests(connection: Connection, part: Sequence[tuple[int, str, str]]) -> Iterator[_Repository]:
    wanted = [repository_id for repository_id, _, _ in part]
    known: dict[int, list[int]] = {repository_id: [] for repository_id in wanted}
    unread: set[int] = set()
    here = repository_manifests
    rows = connection.execute(
        select(here.c.repository_id, here.c.manifest_id, manifests.c.state)
        .select_from(here.join(manifests, manifests.c.id == here.c.manifest_id))
        .where(here.c.repository_id.in_(wanted), here.c.deleted_at.is_(None))
    )
    for row in rows:
        known[row.repository_id].append(row.manifest_id)
        if row.state != "read":
            unread.add(row.repository_id)
    complete = select(repositories.c.id).where(
        repositories.c.id.in_(wanted), repositories.c.seen_at.is_not(None), repositories.c.state.in_(_COMPLETE)
    )
    readable = set(connection.execute(complete).scalars()) - unread
    for repository_id, registry, name in part:
        is_read = repository_id in readable
        yield _Repository(repository_id, registry, name, tuple(known[repository_id]), is_whole=True, is_read=is_read)


def _with_chosen_manifests(
    connection: Connection, query: Query, now: datetime, place: Place | None
) -> Iterator[_Repository]:
    wanted = replace(query, noun="manifest", conditions=(), sort=(), cursor=None, limit=None)
    scan = _limited_by_state(prepare_scan(connection, wanted, now), query)
    start = None if place is None else (place[0], place[1], b"")
    found = find_rows(connection, scan, start, None)
    for (repository_id, registry, name), rows in groupby(found, key=lambda one: (one[0][0], one[1][0], one[1][1])):
        ids = [identity[1] for identity, _ in rows]
        yield _Repository(repository_id, registry, name, _with_children(connection, ids))


def _asks_for_orphaned(query: Query) -> bool:
    return any(
        (one.field.name, one.operator, one.values) == ("is_orphaned", Operator.EQUAL, (True,))
        for one in query.conditions
    )


def _limited_by_state(scan: Scan, query: Query) -> Scan:
    """What is missing or orphaned stands in few repositories: do not read the others."""
    asked = [(one.field.name, one.operator, one.values) for one in query.conditions]
    is_here = exists().where(repository_blobs.c.repository_id == repositories.c.id)
    if ("state", Operator.EQUAL, ("missing",)) in asked:
        return replace(scan, filters=(*scan.filters, Filter(is_here.where(repository_blobs.c.deleted_at.is_not(None)))))
    if _asks_for_orphaned(query):
        return replace(scan, filters=(*scan.filters, Filter(is_here)))
    return scan


def _with_children(connection: Connection, manifest_ids: Sequence[int]) -> tuple[int, ...]:
    known = set(manifest_ids)
    frontier = list(manifest_ids)
    while frontier:
        children: set[int] = set()
        for chunk in chunked(frontier):
            statement = select(manifest_children.c.child_id).where(manifest_children.c.parent_id.in_(chunk))
            children.update(connection.execute(statement).scalars())
        frontier = list(children - known)
        known.update(frontier)
    return tuple(known)


def _batches(found: Iterator[_Repository]) -> Iterator[list[_Repository]]:
    """Small batches first, so that a page needs little; then larger ones."""
    batch: list[_Repository] = []
    count, enough = 0, _BATCH_MANIFESTS // 50
    for repository in found:
        batch.append(repository)
        count += len(repository.manifest_ids) + 1
        if count >= enough:
            yield batch
            batch, count, enough = [], 0, min(enough * 4, _BATCH_MANIFESTS)
    if batch:
        yield batch


def _load_needed(connection: Connection, batch: Sequence[_Repository]) -> dict[int, Integers]:
    """The blobs that the manifests of each repository name, each once."""
    packed = _load_packed(connection, {number for one in batch for number in one.manifest_ids})
    joined = {one.id: b"".join(packed[number] for number in one.manifest_ids) for one in batch}
    return {number: np.unique(blob_id_array(value)).astype(np.int64) for number, value in joined.items()}


def _load_others(
    connection: Connection, batch: Sequence[_Repository], needed: Mapping[int, Integers]
) -> dict[int, Integers]:
    """The other blobs of each repository: uploaded there, not deleted, and named by none of its manifests."""
    found = {one.id: np.zeros(0, dtype=np.int64) for one in batch}
    table = repository_blobs.c
    for chunk in chunked([one.id for one in batch if one.is_whole]):
        statement = select(table.repository_id, table.blob_id)
        living = statement.where(table.repository_id.in_(chunk), table.deleted_at.is_(None))
        repository, blob = read_integers(connection, living)
        keys = np.sort(repository << 32 | blob)
        for number in chunk:
            first, last = np.searchsorted(keys, (number << 32, (number + 1) << 32))
            found[number] = np.setdiff1d(keys[first:last] & 0xFFFFFFFF, needed[number], assume_unique=True)
    return found


def _rows(
    connection: Connection, batch: Sequence[_Repository], *, has_rows: bool, only_orphaned: bool
) -> Iterator[dict[str, Any]]:
    needed = _load_needed(connection, batch)
    others = _load_others(connection, batch, needed) if has_rows else {}
    listed: dict[int, list[tuple[int, bool]]] = {}
    for one in batch:
        named = () if only_orphaned else needed[one.id].tolist()
        uploaded = others[one.id].tolist() if has_rows else ()
        listed[one.id] = [*((number, True) for number in named), *((number, False) for number in uploaded)]
    existence = _load_existence(connection, listed, only_orphaned=only_orphaned) if has_rows else {}
    facts = _load_blobs(connection, {number for numbers in listed.values() for number, _ in numbers})
    for one in batch:
        known = [(facts[number], number, is_named) for number, is_named in listed[one.id] if number in facts]
        for (digest, media_type, size_bytes), number, is_named in sorted(known):
            times = existence.get(one.id, {}).get(number, _NO_TIMES)
            yield {
                "registry": one.registry,
                "repository": one.name,
                "digest": digest,
                "media_type": media_type,
                "size_bytes": size_bytes,
                "state": _state(times["verified_at"], times["deleted_at"]),
                "is_orphaned": 0 if is_named else 1 if one.is_read else None,
                **times,
            }


def _state(verified_at: int | None, deleted_at: int | None) -> str:
    if deleted_at is not None:
        return "missing"
    return "unverified" if verified_at is None else "present"


def _load_packed(connection: Connection, manifest_ids: set[int]) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    for chunk in chunked(sorted(manifest_ids)):
        statement = select(manifests.c.id, manifests.c.blob_ids).where(manifests.c.id.in_(chunk))
        found.update((row.id, bytes(row.blob_ids)) for row in connection.execute(statement))
    return found


def _load_blobs(connection: Connection, blob_ids: set[int]) -> dict[int, tuple[bytes, str, int]]:
    found: dict[int, tuple[bytes, str, int]] = {}
    for chunk in chunked(sorted(blob_ids)):
        for row in connection.execute(select(blobs).where(blobs.c.id.in_(chunk))):
            found[row.id] = (bytes(row.digest), row.media_type, row.size_bytes)
    return found


def _load_existence(
    connection: Connection, listed: Mapping[int, Sequence[tuple[int, bool]]], *, only_orphaned: bool
) -> dict[int, dict[int, dict[str, int | None]]]:
    """For each repository and blob what is known of its being there: the fields of ``_TIMES``."""
    found: dict[int, dict[int, dict[str, int | None]]] = {}
    table = repository_blobs.c
    statement = select(*(table[name] for name in ("repository_id", "blob_id", *_TIMES)))
    wanted: list[ColumnElement[bool]] = [table.repository_id.in_(chunk) for chunk in chunked(list(listed))]
    if only_orphaned:  # they are few
        wanted = [
            and_(table.repository_id == number, table.blob_id.in_([blob_id for blob_id, _ in chunk]))
            for number, blobs_there in listed.items()
            for chunk in chunked(blobs_there)
        ]
    for clause in wanted:
        for repository_id, blob_id, *times in connection.execute(statement.where(clause)):
            found.setdefault(repository_id, {})[blob_id] = dict(zip(_TIMES, times, strict=True))
    return found


def _test(condition: Condition, now: datetime, *, include_unknown: bool) -> Callable[[dict[str, Any]], bool]:
    name = condition.field.name

    def passes(row: dict[str, Any]) -> bool:
        value = row[name]
        if name == "digest":
            value = Digest.from_bytes(value)
        elif name in _TIMES:
            value = from_micros(value)
        elif name == "is_orphaned":
            value = None if value is None else bool(value)
        result = condition.evaluate(value, now)
        return include_unknown if result is None else result

    return passes


class _Descending:
    """Turns an order round."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __lt__(self, other: _Descending) -> bool:
        return bool(other.value < self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Descending) and bool(other.value == self.value)

    __hash__ = None  # type: ignore[assignment]


def _ranking(columns: Sequence[str], descending: dict[str, bool]) -> Callable[[dict[str, Any]], tuple[Any, ...]]:
    """The place of a row in an order; what is unknown is last in both directions."""

    def rank(row: dict[str, Any]) -> tuple[Any, ...]:
        parts: list[Any] = []
        for name in columns:
            value = row[name]
            parts.append(value is None)
            if value is not None:
                parts.append(_Descending(value) if descending.get(name) else value)
        return tuple(parts)

    return rank


def _shown(row: dict[str, Any]) -> Row:
    is_orphaned = row["is_orphaned"]
    return {
        **{name: row[name] for name in BLOB_FIELDS},
        "digest": str(Digest.from_bytes(row["digest"])),
        "is_orphaned": None if is_orphaned is None else bool(is_orphaned),
        **{name: from_micros(row[name]) for name in _TIMES},
    }
