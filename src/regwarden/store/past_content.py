"""Which manifests and blobs did the repositories of a registry have at a moment, and what was known of them?

Something was there if it had been seen and not been removed since. Of times that only move forward (the last push, the
last pull) the one of then is known where they have not moved since, or where points and daily counters tell.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
from sqlalchemy import case, func, select, union
from sqlalchemy.engine import Connection

from regwarden.store.arrays import Integers, distinct
from regwarden.store.chunks import chunked
from regwarden.store.columns import read_integers, read_with_bytes
from regwarden.store.event_schema import events, pull_days
from regwarden.store.packing import blob_id_array
from regwarden.store.past_rows import Passage, fetch, insert_rows, until
from regwarden.store.past_tags import PastTags, Place
from regwarden.store.schema import (
    blobs,
    manifest_children,
    manifests,
    repositories,
    repository_blobs,
    repository_manifests,
)
from regwarden.store.schema import (
    tags as tag_rows,
)

_DAY_MICROS: Final = 86_400 * 1_000_000
_LEFT_BEHIND: Final = frozenset({"payload"})
_NO_PULLS: Final[Mapping[str, int]] = {}


class _Here(NamedTuple):
    """A row of ``repository_manifests``."""

    repository_id: int
    manifest_id: int
    first_seen_at: int
    untagged_since: int | None
    deleted_at: int | None
    pushed_at: int | None
    pulled_at: int | None
    checked_at: int | None
    fetched_at: int | None
    alive_at: int | None
    verified_at: int | None


class _Blob(NamedTuple):
    """A row of ``repository_blobs``."""

    repository_id: int
    blob_id: int
    first_seen_at: int
    deleted_at: int | None
    pushed_at: int | None
    pulled_at: int | None
    alive_at: int | None
    verified_at: int | None


class _PullDay(NamedTuple):
    """A row of ``pull_days``."""

    repository_id: int
    manifest_id: int
    tag: str
    day: int
    pull_class: str
    method: str
    pull_count: int
    last_at: int


@dataclass(slots=True)
class PastContents:
    """What repositories had; ``last_seen_at`` is the latest sign of life of each."""

    manifests: dict[Place, tuple[Any, ...]] = field(default_factory=dict)
    blobs: list[_Blob] = field(default_factory=list)
    pull_days: list[_PullDay] = field(default_factory=list)
    last_seen_at: dict[int, int] = field(default_factory=dict)

    def note(self, repository_id: int, at: int) -> None:
        """A repository was there at ``at``."""
        if at > self.last_seen_at.get(repository_id, at - 1):
            self.last_seen_at[repository_id] = at

    def insert(self, target: Connection, kept: Collection[int]) -> None:
        """Write what the ``kept`` repositories had."""
        for table, kind, found in (
            (repository_manifests, _Here, self.manifests.values()),
            (repository_blobs, _Blob, self.blobs),
            (pull_days, _PullDay, self.pull_days),
        ):
            rows: Iterable[tuple[Any, ...]] = found
            insert_rows(target, table, kind._fields, [row for row in rows if row[0] in kept])


def load_contents(
    source: Connection, repository_ids: Sequence[int], at: int, tags: PastTags, use: Collection[str]
) -> PastContents:
    """What repositories had at ``at`` (microseconds); ``use`` are the classes that count as use."""
    found = PastContents(pull_days=_load_pull_days(source, repository_ids, at))
    pulled = _last_pulls(found.pull_days, frozenset(use))
    seen = _load_evidence(source, at, tags)
    _add_manifests(source, repository_ids, tags, found, _Signs(at, pulled, seen))
    _add_blobs(source, repository_ids, at, tags, found)
    return found


def copy_content(passage: Passage) -> None:
    """Copy what all repositories of the target name: manifests, those that they list, and blobs."""
    target = passage.target
    columns = [column.name for column in manifests.c if column.name not in _LEFT_BEHIND]
    named = [
        select(repository_manifests.c.manifest_id),
        select(tag_rows.c.manifest_id).where(tag_rows.c.manifest_id.is_not(None)),
        select(pull_days.c.manifest_id),
    ]
    ids = known = _distinct_of(target, union(*named).subquery().c.manifest_id)
    while len(ids):
        passage.copy(manifests, columns, "id", ids)
        passage.copy(manifest_children, manifest_children.c.keys(), "parent_id", ids)
        ids = np.setdiff1d(_distinct_of(target, manifest_children.c.child_id), known, assume_unique=True)
        known = np.union1d(known, ids)
    needed = [_distinct_of(target, repository_blobs.c.blob_id)]
    for _, packed in read_with_bytes(target, select(manifests.c.id), manifests.c.id, manifests.c.blob_ids):
        needed.append(distinct(blob_id_array(packed).astype(np.int64)))
    passage.copy(blobs, blobs.c.keys(), "id", distinct(np.concatenate(needed)))


def _distinct_of(target: Connection, column: Any) -> Integers:
    return distinct(read_integers(target, select(column))[0])


@dataclass(frozen=True, slots=True)
class _Signs:
    """The moment, the last pulls until then, and other evidence that something existed."""

    at: int
    pulled: Mapping[Place, Mapping[str, int]]
    seen: Mapping[tuple[int, bytes], int]


def _add_manifests(
    source: Connection, repository_ids: Sequence[int], tags: PastTags, found: PastContents, signs: _Signs
) -> None:
    table, at = repository_manifests, signs.at
    forward = (case((table.c[name] <= at, table.c[name])).label(name) for name in _Here._fields[5:])
    statement = (
        select(*(table.c[name] for name in _Here._fields[:5]), *forward, manifests.c.digest, repositories.c.settled_at)
        .select_from(table.join(repositories).join(manifests))
        .where(table.c.repository_id.in_(repository_ids))
    )
    for repository_id, manifest_id, first_seen_at, untagged, gone_at, *times, digest, settled_at in fetch(
        source, statement
    ):
        place = (repository_id, manifest_id)
        pulled = signs.pulled.get(place, _NO_PULLS)
        # Those times at which it was certainly there.
        evidence = [one for one in times if one is not None]
        if first_seen_at <= at:
            evidence.append(first_seen_at)
        if place in tags.pointed_at:
            evidence.append(tags.pointed_at[place])
        if signs.seen and (seen := signs.seen.get((repository_id, digest))) is not None:
            evidence.append(seen)
        evidence += pulled.values()
        if settled_at is not None and settled_at <= at and place in tags.tagged:
            evidence.append(settled_at)
        if not evidence:
            continue
        last = max(evidence)
        found.note(repository_id, last)
        if tags.removals.is_gone(repository_id, digest, (last, at), gone_at):
            continue
        _complete(times, place, tags, pulled)
        since = None
        if place not in tags.tagged:
            since = tags.left_at.get(place) if untagged is None or untagged > at else untagged
        first = first_seen_at if first_seen_at <= at else min(evidence)
        found.manifests[place] = (repository_id, manifest_id, first, since, None, *times)


def _complete(times: list[int | None], place: Place, tags: PastTags, pulled: Mapping[str, int]) -> None:
    """Add what points and daily counters tell of the last push and the last pulls of then."""
    if times[0] is None:
        times[0] = tags.pushed_at.get(place)
    if pulled:
        for number, name in enumerate(("pulled_at", "checked_at", "fetched_at"), 1):
            times[number] = pulled.get(name) if times[number] is None else times[number]


def _add_blobs(source: Connection, repository_ids: Sequence[int], at: int, tags: PastTags, found: PastContents) -> None:
    """Blobs stay listed where they were missing already."""
    table = repository_blobs
    statement = (
        select(*(table.c[name] for name in _Blob._fields), blobs.c.digest)
        .select_from(table.join(blobs))
        .where(table.c.repository_id.in_(repository_ids), table.c.first_seen_at <= at)
    )
    for repository_id, blob_id, first_seen_at, gone_at, *later, digest in fetch(source, statement):
        times = [until(one, at) for one in later]
        # That it was asked for does not say that it was there.
        evidence = max(one for one in (first_seen_at, *times[:3]) if one is not None)
        found.note(repository_id, evidence)
        deleted_at = until(gone_at, at)
        if deleted_at is None and tags.removals.is_gone(repository_id, digest, (evidence, at)):
            deleted_at = at
        found.blobs.append(_Blob(repository_id, blob_id, first_seen_at, deleted_at, *times))


def _load_pull_days(source: Connection, repository_ids: Sequence[int], at: int) -> list[_PullDay]:
    """The daily counters until then; a pull of that day that may have been before the moment is taken to be at it."""
    columns = pull_days.c
    statement = select(*(columns[name] for name in _PullDay._fields)).where(
        columns.repository_id.in_(repository_ids),
        columns.day <= at // _DAY_MICROS,
    )
    rows = map(_PullDay._make, fetch(source, statement))
    # One pull after the moment was none before it.
    told = (row for row in rows if row.last_at <= at or row.pull_count > 1)
    return [row if row.last_at <= at else row._replace(last_at=at) for row in told]


def _last_pulls(rows: Iterable[_PullDay], use: frozenset[str]) -> dict[Place, dict[str, int]]:
    found: dict[Place, dict[str, int]] = {}
    for row in rows:
        times = found.setdefault(row[:2], {})
        names = ["checked_at" if row.method == "HEAD" else "fetched_at"]
        names += ["pulled_at"] * (row.pull_class in use)
        for name in names:
            times[name] = max(row.last_at, times.get(name, row.last_at))
    return found


def _load_evidence(source: Connection, at: int, tags: PastTags) -> dict[tuple[int, bytes], int]:
    """When events last spoke of content as existing, in the repositories from which something was removed."""
    found: dict[tuple[int, bytes], int] = {}
    for chunk in chunked(sorted(tags.removals.times)):
        statement = (
            select(repositories.c.id, events.c.digest, func.max(events.c.at))
            .select_from(repositories)
            .join(
                events,
                (events.c.registry_id == repositories.c.registry_id) & (events.c.repository == repositories.c.name),
            )
            .where(
                repositories.c.id.in_(chunk),
                events.c.at <= at,
                events.c.action.in_(("push", "pull", "mount")),
                events.c.digest.is_not(None),
            )
            .group_by(repositories.c.id, events.c.digest)
        )
        found.update({(number, digest): last for number, digest, last in fetch(source, statement)})
    return found
