"""What was recorded of repositories over time? Histories for a backtest, from points, removals, pushes and pulls.

A deletion counts until something later shows that the manifest was there again. Events that were purged are missed
only as pushes of what had no tag.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from sqlalchemy import case, func, literal, select
from sqlalchemy.engine import Connection

from regwarden.core.folding import EVENT
from regwarden.core.history import Point, Removal, build_intervals
from regwarden.core.observed import Needs, ObservedManifest
from regwarden.core.oci.digests import Digest
from regwarden.core.recorded import ManifestLife, PullDay, RecordedRepository, TagMark
from regwarden.store.arrays import distinct
from regwarden.store.bulk import bulk_find
from regwarden.store.columns import read_integers
from regwarden.store.event_schema import events, pull_days
from regwarden.store.observed import first_whole_crawl
from regwarden.store.observed_doubts import Unrest, explain_doubt
from regwarden.store.packing import blob_id_array
from regwarden.store.past_rows import fetch
from regwarden.store.schema import (
    blobs,
    manifest_children,
    manifests,
    registries,
    removals,
    repositories,
    repository_manifests,
    tag_history,
    tags,
)
from regwarden.store.times import from_micros

_BATCH_ROWS: Final = 50_000
_BATCH_REPOSITORIES: Final = 200
_EPOCH: Final = from_micros(0)
_SHA256_BYTES: Final = 33
_EVERYTHING: Final = b""
_LABELS: Final = msgspec.json.Decoder(dict[str, str])


class _Moments(dict[int, datetime]):
    """Moments by their stored form: many rows share them."""

    def __missing__(self, micros: int) -> datetime:
        found = self[micros] = _EPOCH + timedelta(microseconds=micros)
        return found


class _Texts(dict[bytes, str]):
    """Digests by their stored form."""

    def __missing__(self, stored: bytes) -> str:
        # What is not SHA-256 is rare, and Digest takes much longer.
        is_usual = len(stored) == _SHA256_BYTES
        found = self[stored] = f"sha256:{stored[1:].hex()}" if is_usual else str(Digest.from_bytes(stored))
        return found


class _Row(NamedTuple):
    """A manifest in a repository, as it is stored."""

    repository_id: int
    manifest_id: int
    digest: bytes
    first_seen_at: int
    pushed_at: int | None
    alive_at: int | None
    verified_at: int | None
    deleted_at: int | None
    state: str
    media_type: str
    created_at: int | None
    artifact_type: str
    config_media_type: str
    is_index: int
    subject_digest: bytes | None
    size_bytes: int
    logical_bytes: int | None
    labels: str | None
    blob_ids: bytes


@dataclass(slots=True)
class _Batch:
    """What was read of some repositories, by repository id."""

    known_since: int | None
    manifests: Mapping[int, list[_Row]]
    points: Mapping[int, list[Any]]
    removals: Mapping[int, Mapping[bytes, list[int]]]
    pushes: Mapping[str, Mapping[bytes, set[int]]]
    pulls: Mapping[int, list[Any]]
    unread_tags: Mapping[int, int]
    children: Mapping[int, tuple[str, ...]]
    moments: _Moments = field(default_factory=_Moments)
    texts: _Texts = field(default_factory=_Texts)


def history_begin(connection: Connection, registry: str) -> datetime | None:
    """Since when everything in a registry has been known: the end of its first whole crawl.

    Without one, since it was first heard of. ``None`` for a registry that is not known.
    """
    row = connection.execute(select(registries).where(registries.c.name == registry)).first()
    return None if row is None else from_micros(first_whole_crawl(connection, row.id) or row.first_seen_at)


def iterate_recorded(
    connection: Connection, registry: str, names: Callable[[str], bool], needs: Needs
) -> Iterator[RecordedRepository]:
    """The histories of the repositories that ``names`` accepts, those that are gone too, in the order of their names.

    Pulls are always read. Reads ahead some ten thousand rows at a time.
    """
    registry_id = _registry_id(connection, registry)
    known_since = first_whole_crawl(connection, registry_id)
    for batch in _batches(one for one in _list_repositories(connection, registry_id) if names(one.name)):
        read = _read(connection, registry_id, batch, needs, known_since)
        for one in batch:
            yield _build(read, registry, one)


def find_pinned(connection: Connection, registry: str, names: Callable[[str], bool]) -> frozenset[int]:
    """The numbers of what manifests hold today in repositories that ``names`` does not accept (see ``load_sizes``)."""
    registry_id = _registry_id(connection, registry)
    inside = [one.id for one in _list_repositories(connection, registry_id) if names(one.name)]
    here = repository_manifests.c
    statement = (
        select(here.repository_id, here.manifest_id)
        .join(repositories, repositories.c.id == here.repository_id)
        .where(
            repositories.c.registry_id == registry_id, here.deleted_at.is_(None), repositories.c.deleted_at.is_(None)
        )
    )
    repository_ids, manifest_ids = read_integers(connection, statement)
    outside = distinct(manifest_ids[~np.isin(repository_ids, np.array(inside, dtype=np.int64))])
    found = {-number for number in outside.tolist()}
    for _, packed in bulk_find(connection, manifests, "id", outside.tolist(), ("id", "blob_ids")):
        found.update(blob_id_array(packed).tolist())
    return frozenset(found)


def load_sizes(connection: Connection, numbers: Iterable[int]) -> dict[int, int]:
    """Bytes by number: blobs by their id, documents of manifests by the negative of theirs."""
    wanted = list(numbers)
    ids = sorted(number for number in wanted if number >= 0)
    documents = sorted(-number for number in wanted if number < 0)
    found = dict(bulk_find(connection, blobs, "id", ids, ("id", "size_bytes")))
    found.update((-key, size) for key, size in bulk_find(connection, manifests, "id", documents, ("id", "size_bytes")))
    return found


def _registry_id(connection: Connection, name: str) -> int:
    return int(connection.execute(select(registries.c.id).where(registries.c.name == name)).scalar_one())


def _list_repositories(connection: Connection, registry_id: int) -> list[Any]:
    statement = select(repositories).where(repositories.c.registry_id == registry_id)
    return list(connection.execute(statement.order_by(repositories.c.name)))


def _batches(found: Iterable[Any]) -> Iterator[list[Any]]:
    batch: list[Any] = []
    row_count = 0
    for one in found:
        batch.append(one)
        row_count += one.tag_count + one.manifest_count
        if row_count >= _BATCH_ROWS or len(batch) >= _BATCH_REPOSITORIES:
            yield batch
            batch, row_count = [], 0
    if batch:
        yield batch


def _read(
    connection: Connection, registry_id: int, batch: Sequence[Any], needs: Needs, known_since: int | None
) -> _Batch:
    ids = [one.id for one in batch]
    history, days = tag_history.c, pull_days.c
    points = select(history.repository_id, history.tag, history.at, history.digest, history.cause, history.effective_at)
    pulls = (
        select(
            days.repository_id,
            days.last_at,
            manifests.c.digest,
            days.tag,
            days.pull_class,
            days.method,
            days.pull_count,
        )
        .join(manifests, manifests.c.id == days.manifest_id)
        .where(days.repository_id.in_(ids))
    )
    unread = select(tags.c.repository_id, tags.c.first_seen_at)
    rows = _read_manifests(connection, ids, needs)
    return _Batch(
        known_since=known_since,
        manifests=_grouped(rows),
        points=_grouped(fetch(connection, points.where(history.repository_id.in_(ids)).order_by(*list(history)[:3]))),
        removals=_read_removals(connection, ids),
        pushes=_read_pushes(connection, registry_id, [one.name for one in batch]),
        pulls=_grouped(sorted(fetch(connection, pulls))),
        unread_tags=dict(
            sorted(fetch(connection, unread.where(tags.c.repository_id.in_(ids), tags.c.manifest_id.is_(None))))
        ),
        children=_read_children(connection, [row.manifest_id for row in rows if row.is_index]),
    )


def _read_manifests(connection: Connection, ids: Sequence[int], needs: Needs) -> list[_Row]:
    here, facts = repository_manifests.c, manifests.c
    labels = case((facts.config_state == "read", func.coalesce(facts.labels, "{}"))) if needs.labels else literal(None)
    known = {**dict(facts.items()), **dict(here.items()), "labels": labels.label("labels")}
    statement = (
        select(*(known[name] for name in _Row._fields))
        .select_from(repository_manifests.join(manifests, facts.id == here.manifest_id))
        .where(here.repository_id.in_(ids))
        .order_by(here.repository_id, here.manifest_id)
    )
    return [_Row._make(row) for row in fetch(connection, statement)]


def _read_removals(connection: Connection, ids: Sequence[int]) -> dict[int, dict[bytes, list[int]]]:
    columns = removals.c
    statement = select(columns.repository_id, columns.digest, columns.at).where(columns.repository_id.in_(ids))
    found: dict[int, dict[bytes, list[int]]] = defaultdict(lambda: defaultdict(list))
    for repository_id, digest, at in fetch(connection, statement.order_by(columns.at)):
        found[repository_id][digest].append(at)
    return found


def _read_pushes(connection: Connection, registry_id: int, names: Sequence[str]) -> dict[str, dict[bytes, set[int]]]:
    columns = events.c
    statement = select(columns.repository, columns.digest, columns.at).where(
        columns.registry_id == registry_id,
        columns.repository.in_(names),
        columns.action == "push",
        columns.target != "blob",
        columns.digest.is_not(None),
    )
    found: dict[str, dict[bytes, set[int]]] = defaultdict(lambda: defaultdict(set))
    for name, digest, at in fetch(connection, statement):
        found[name][digest].add(at)
    return found


def _read_children(connection: Connection, indexes: Collection[int]) -> dict[int, tuple[str, ...]]:
    columns = ("parent_id", "position", "child_id")
    rows = sorted(bulk_find(connection, manifest_children, "parent_id", sorted(set(indexes)), columns))
    stored = dict(bulk_find(connection, manifests, "id", sorted({row[2] for row in rows}), ("id", "digest")))
    texts = _Texts()
    return {
        parent: tuple(dict.fromkeys(texts[stored[child]] for _, _, child in group))
        for parent, group in groupby(rows, itemgetter(0))
    }


def _grouped(rows: Iterable[Any]) -> dict[int, list[Any]]:
    """Rows by repository, whose rows stand together."""
    return {repository_id: list(group) for repository_id, group in groupby(rows, itemgetter(0))}


def _build(batch: _Batch, registry: str, one: Any) -> RecordedRepository:
    moments, texts = batch.moments, batch.texts
    removed = batch.removals.get(one.id, {})
    marks = {
        tag: _build_marks(batch, list(points), removed)
        for tag, points in groupby(batch.points.get(one.id, ()), itemgetter(1))
    }
    pulls = tuple(
        PullDay(moments[at], texts[digest], tag, pull_class, method, pull_count)
        for _, at, digest, tag, pull_class, method, pull_count in batch.pulls.get(one.id, ())
    )
    signs: dict[str, list[datetime]] = defaultdict(list)
    for pull in pulls:
        signs[pull.digest].append(pull.last_at)
    told: dict[str, set[datetime]] = defaultdict(set)
    for tag_marks in marks.values():
        for mark in tag_marks:
            if mark.is_told and mark.digest is not None:
                told[mark.digest].add(mark.at)
    for digest, times in batch.pushes.get(one.name, {}).items():
        told[texts[digest]].update(moments[at] for at in times)
    rows = batch.manifests.get(one.id, ())
    builder = _Lives(batch, one, removed, told, signs)
    doubt, since = explain_doubt(one.name, one.state, Unrest(), ""), one.seen_at
    if not doubt and one.id in batch.unread_tags:
        doubt, since = "a tag could not be read", batch.unread_tags[one.id]
    return RecordedRepository(
        registry=registry,
        name=one.name,
        tags=marks,
        lives={texts[row.digest]: builder.build(row) for row in rows},
        pulls=pulls,
        contents={
            texts[row.digest]: array("q", [-row.manifest_id, *blob_id_array(row.blob_ids).tolist()]) for row in rows
        },
        doubt=doubt,
        doubtful_since=None if since is None else moments[since],
    )


def _build_marks(batch: _Batch, points: list[Any], removed: Mapping[bytes, list[int]]) -> tuple[TagMark, ...]:
    moments, texts = batch.moments, batch.texts
    if len(points) == 1 and not removed:  # most tags were observed once
        _, _, at, digest, cause, _ = points[0]
        return (TagMark(moments[at], texts[digest] if digest else None, cause == EVENT),)
    observed = [
        Point(moments[at], Digest.from_bytes(digest) if digest else None, cause, moments[effective_at])
        for _, _, at, digest, cause, effective_at in points
    ]
    ends = [
        Removal(moments[at], Digest.from_bytes(digest) if digest else None)
        for digest in {_EVERYTHING, *(point[3] for point in points)}
        for at in removed.get(digest, ())
    ]
    told = {point.at for point in observed if point.cause == EVENT}
    found: list[TagMark] = []
    for interval in build_intervals(observed, ends):
        digest = None if interval.digest is None else str(interval.digest)
        # A tag that went with its manifest was not told of by itself.
        found.append(TagMark(interval.since, digest, interval.cause == EVENT and interval.since in told))
        # Tagging the same again refreshes its clock.
        again = {
            point.at
            for point in observed
            if point.cause == EVENT
            and point.digest == interval.digest is not None
            and point.at > interval.since
            and (interval.until is None or point.at < interval.until)
        }
        found += [TagMark(at, digest, is_told=True) for at in sorted(again)]
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Lives:
    """Makes the lives of the manifests of one repository."""

    batch: _Batch
    repository: Any
    removed: Mapping[bytes, list[int]]
    told: Mapping[str, set[datetime]]
    signs: Mapping[str, list[datetime]]

    def build(self, row: _Row) -> ManifestLife:
        """When a manifest was pushed, came and went, and what it is."""
        moments, digest = self.batch.moments, self.batch.texts[row.digest]
        pushes = set(self.told.get(digest, ()))
        if row.pushed_at is not None:
            pushes.add(moments[row.pushed_at])
        first = moments[row.first_seen_at]
        gone = {moments[at] for key in (row.digest, _EVERYTHING) for at in self.removed.get(key, ())}
        arrivals, departures = {first, *pushes}, set()
        if gone or row.deleted_at is not None:
            evidence = sorted({*pushes, *self.signs.get(digest, ()), *self._proofs(row)})
            for at in gone:
                place = bisect_right(evidence, at)
                if place < len(evidence):
                    arrivals.add(evidence[place])
                if place < len(evidence) or row.deleted_at is not None:
                    departures.add(at)
            if row.deleted_at is not None:
                departures.add(moments[row.deleted_at])
        return ManifestLife(
            self._manifest(row, first, is_exact=self._is_exact(row, first, pushes)),
            tuple(sorted(arrivals)),
            tuple(sorted(pushes)),
            tuple(sorted(departures)),
        )

    def _proofs(self, row: _Row) -> Iterator[datetime]:
        """Other moments at which it was certainly there: a complete reading finds all that it does not find gone."""
        times = [row.alive_at, row.verified_at]
        if row.deleted_at is None:
            times.append(self.repository.seen_at)
        yield from (self.batch.moments[at] for at in times if at is not None)

    def _is_exact(self, row: _Row, first: datetime, pushes: Collection[datetime]) -> bool:
        """Exact is only what events told of after everything had been seen once."""
        since = self.batch.known_since
        return since is not None and row.first_seen_at > since and first in pushes

    def _manifest(self, row: _Row, first: datetime, *, is_exact: bool) -> ObservedManifest:
        moments, texts = self.batch.moments, self.batch.texts
        return ObservedManifest(
            digest=texts[row.digest],
            media_type=row.media_type,
            is_read=row.state == "read",
            first_seen_at=first,
            is_pushed_exact=is_exact,
            created_at=None if row.created_at is None else moments[row.created_at],
            artifact_type=row.artifact_type,
            config_media_type=row.config_media_type,
            is_index=row.is_index == 1,
            children=self.batch.children.get(row.manifest_id, ()),
            subject=None if row.subject_digest is None else texts[row.subject_digest],
            size_bytes=row.size_bytes,
            logical_bytes=row.logical_bytes,
            labels=None if row.labels is None else _LABELS.decode(row.labels),
        )
