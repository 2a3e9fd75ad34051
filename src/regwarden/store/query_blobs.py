"""Which blobs does each repository need? One row per repository and blob, read from the packed lists.

A blob belongs to a repository if a manifest that exists there names it; with a tag or digest selected, if what that
leads to names it. ``state`` is ``missing`` or ``present`` where the registry was asked, otherwise ``unverified``.
Rows stream in the usual order, repository by repository; any other order reads all of them and keeps a page.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby, islice
from typing import Any, Final

import numpy as np
from sqlalchemy import exists, null, select
from sqlalchemy.engine import Connection

from regwarden.core.conditions import Condition, Operator
from regwarden.core.fields import BLOB_FIELDS
from regwarden.core.oci.digests import Digest
from regwarden.core.query import Query
from regwarden.store.chunks import chunked
from regwarden.store.packing import blob_id_array
from regwarden.store.query_conditions import Filter
from regwarden.store.query_paging import OrderKey, Place, read_cursor, write_cursor
from regwarden.store.query_scan import Scan, find_rows, prepare_scan
from regwarden.store.schema import blobs, manifest_children, manifests, repositories, repository_blobs
from regwarden.store.times import from_micros

_BATCH_MANIFESTS: Final = 5_000
_USUAL: Final = ("registry", "repository", "digest")
_STORED: Final = {"digest": bytes, "size_bytes": int, "verified_at": int, "deleted_at": int}
_TIMES: Final = frozenset({"verified_at", "deleted_at"})

Row = dict[str, object]


@dataclass(frozen=True, slots=True)
class _Repository:
    """A selected repository and those of its manifests that are selected."""

    id: int
    registry: str
    name: str
    manifest_ids: tuple[int, ...]


def find_blob_rows(
    connection: Connection, query: Query, now: datetime, limit: int | None
) -> tuple[list[Row], str | None]:
    """At most ``limit`` rows behind ``query.cursor``, and the cursor of the next page."""
    names = tuple(sort.field.name for sort in query.sort)
    is_usual = names == _USUAL[: len(names)] and not any(sort.descending for sort in query.sort)
    directions = {} if is_usual else {sort.field.name: sort.descending for sort in query.sort}
    columns = (*directions, *(name for name in _USUAL if name not in directions))
    order = " ".join(["blob", *(str(sort) for sort in query.sort if not is_usual)])
    keys = [OrderKey(null(), _STORED.get(name, str), is_nullable=name in _TIMES) for name in columns]
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
    """How many rows there are."""
    return sum(1 for _ in _matching(connection, query, now, None))


def _matching(connection: Connection, query: Query, now: datetime, place: Place | None) -> Iterator[dict[str, Any]]:
    """Stored values of the rows that meet every condition, in the usual order."""
    tests = [_test(condition, now, include_unknown=query.include_unknown) for condition in query.conditions]
    has_verified = connection.execute(select(repository_blobs.c.blob_id).limit(1)).first() is not None
    for batch in _batches(_repositories(connection, query, now, place)):
        for row in _rows(connection, batch, has_verified=has_verified):
            if all(test(row) for test in tests):
                yield row


def _repositories(connection: Connection, query: Query, now: datetime, place: Place | None) -> Iterator[_Repository]:
    wanted = replace(query, noun="manifest", conditions=(), sort=(), cursor=None, limit=None)
    scan = _limited_to_missing(prepare_scan(connection, wanted, now), query)
    start = None if place is None else (place[0], place[1], b"")
    chooses = bool(query.tags or query.exclude_tags) or any(one.tag or one.digest for one in query.selectors)
    found = find_rows(connection, scan, start, None)
    for (repository_id, registry, name), rows in groupby(found, key=lambda one: (one[0][0], one[1][0], one[1][1])):
        ids = [identity[1] for identity, _ in rows]
        yield _Repository(repository_id, registry, name, _with_children(connection, ids) if chooses else tuple(ids))


def _limited_to_missing(scan: Scan, query: Query) -> Scan:
    """What is missing stands in few repositories: do not read the others."""
    asked = ((one.field.name, one.operator, one.values) for one in query.conditions)
    if ("state", Operator.EQUAL, ("missing",)) not in asked:
        return scan
    is_here = repository_blobs.c.repository_id == repositories.c.id
    is_missing = exists().where(is_here, repository_blobs.c.deleted_at.is_not(None))
    return replace(scan, filters=(*scan.filters, Filter(is_missing)))


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
        count += len(repository.manifest_ids)
        if count >= enough:
            yield batch
            batch, count, enough = [], 0, min(enough * 4, _BATCH_MANIFESTS)
    if batch:
        yield batch


def _rows(connection: Connection, batch: Sequence[_Repository], *, has_verified: bool) -> Iterator[dict[str, Any]]:
    packed = _load_packed(connection, {number for one in batch for number in one.manifest_ids})
    needed = {
        one.id: np.unique(blob_id_array(b"".join(packed[number] for number in one.manifest_ids))).tolist()
        for one in batch
    }
    facts = _load_blobs(connection, {number for numbers in needed.values() for number in numbers})
    states = _load_states(connection, list(needed)) if has_verified else {}
    for one in batch:
        known = [(facts[number], number) for number in needed[one.id] if number in facts]
        for (digest, media_type, size_bytes), number in sorted(known):
            verified_at, deleted_at = states.get((one.id, number), (None, None))
            yield {
                "registry": one.registry,
                "repository": one.name,
                "digest": digest,
                "media_type": media_type,
                "size_bytes": size_bytes,
                "state": _state(verified_at, deleted_at),
                "verified_at": verified_at,
                "deleted_at": deleted_at,
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


def _load_states(
    connection: Connection, repository_ids: Sequence[int]
) -> dict[tuple[int, int], tuple[int | None, int | None]]:
    found = {}
    for chunk in chunked(repository_ids):
        for row in connection.execute(select(repository_blobs).where(repository_blobs.c.repository_id.in_(chunk))):
            found[row.repository_id, row.blob_id] = (row.verified_at, row.deleted_at)
    return found


def _test(condition: Condition, now: datetime, *, include_unknown: bool) -> Callable[[dict[str, Any]], bool]:
    name = condition.field.name

    def passes(row: dict[str, Any]) -> bool:
        value = row[name]
        if name == "digest":
            value = Digest.from_bytes(value)
        elif name in _TIMES:
            value = from_micros(value)
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
    return {
        **{name: row[name] for name in BLOB_FIELDS},
        "digest": str(Digest.from_bytes(row["digest"])),
        "verified_at": from_micros(row["verified_at"]),
        "deleted_at": from_micros(row["deleted_at"]),
    }
