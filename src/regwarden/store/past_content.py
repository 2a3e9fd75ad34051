"""Which manifests and blobs did the repositories of a registry have at a moment, and what was known of them?

Something was there if it had been seen and not been removed since. Of times that only move forward (the last push, the
last pull) the one of then is known where they have not moved since, or where points and daily counters tell.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Table, func, select
from sqlalchemy.engine import Connection

from regwarden.store.chunks import chunked
from regwarden.store.event_schema import events, pull_days
from regwarden.store.packing import blob_id_array
from regwarden.store.past_rows import copy_rows, insert_rows, stream, until
from regwarden.store.past_tags import PastTags, Place
from regwarden.store.schema import (
    blobs,
    manifest_children,
    manifests,
    repositories,
    repository_blobs,
    repository_manifests,
)

_FORWARD: Final = ("pushed_at", "pulled_at", "checked_at", "fetched_at", "alive_at", "verified_at")
_DAY_MICROS: Final = 86_400 * 1_000_000
_LEFT_BEHIND: Final = frozenset({"payload"})


@dataclass(slots=True)
class PastContents:
    """What the repositories of one registry had; ``last_seen_at`` is the latest sign of life of each repository."""

    manifests: dict[Place, dict[str, Any]] = field(default_factory=dict)
    blobs: list[dict[str, Any]] = field(default_factory=list)
    pull_days: list[dict[str, Any]] = field(default_factory=list)
    last_seen_at: dict[int, int] = field(default_factory=dict)

    def is_here(self, repository_id: int, manifest_id: int) -> bool:
        """Whether a manifest existed in a repository."""
        return (repository_id, manifest_id) in self.manifests

    def note(self, repository_id: int, at: int) -> None:
        """A repository was there at ``at``."""
        self.last_seen_at[repository_id] = max(at, self.last_seen_at.get(repository_id, at))


def load_contents(source: Connection, registry_id: int, at: int, tags: PastTags, use: Collection[str]) -> PastContents:
    """What the repositories of a registry had at ``at`` (microseconds); ``use`` are the classes that count as use."""
    found = PastContents(pull_days=_load_pull_days(source, registry_id, at))
    pulled = _last_pulls(found.pull_days, frozenset(use))
    seen = _load_evidence(source, registry_id, at, tags)
    _add_manifests(source, registry_id, tags, found, _Signs(at, pulled, seen))
    _add_blobs(source, registry_id, at, tags, found)
    return found


def copy_content(
    source: Connection, target: Connection, contents: PastContents, *, wanted: Collection[int], kept: Collection[int]
) -> None:
    """Write what the ``kept`` repositories had, and the ``wanted`` manifests, with everything that these consist of."""
    insert_rows(target, repository_manifests, [row for place, row in contents.manifests.items() if place[0] in kept])
    insert_rows(target, repository_blobs, [row for row in contents.blobs if row["repository_id"] in kept])
    insert_rows(target, pull_days, [row for row in contents.pull_days if row["repository_id"] in kept])
    here = {place[1] for place in contents.manifests if place[0] in kept}
    here |= {row["manifest_id"] for row in contents.pull_days}
    ids = _missing_in(target, manifests, _with_children(source, here | set(wanted)))
    parents = (manifest_children.c.parent_id, ids)
    copy_rows(source, target, manifest_children, manifest_children.c.keys(), parents)
    columns = [column.name for column in manifests.c if column.name not in _LEFT_BEHIND]
    copy_rows(source, target, manifests, columns, (manifests.c.id, ids))
    needed = {row["blob_id"] for row in contents.blobs}
    for chunk in chunked(sorted(ids), 5_000):
        packed = target.execute(select(manifests.c.blob_ids).where(manifests.c.id.in_(chunk))).scalars()
        needed.update(blob_id_array(b"".join(map(bytes, packed))).tolist())
    copy_rows(source, target, blobs, blobs.c.keys(), (blobs.c.id, _missing_in(target, blobs, needed)))


@dataclass(frozen=True, slots=True)
class _Signs:
    """The moment, the last pulls until then, and other evidence that something existed."""

    at: int
    pulled: Mapping[Place, Mapping[str, int]]
    seen: Mapping[tuple[int, bytes], int]


def _add_manifests(source: Connection, registry_id: int, tags: PastTags, found: PastContents, signs: _Signs) -> None:
    statement = (
        select(repository_manifests, manifests.c.digest, repositories.c.settled_at)
        .select_from(repository_manifests.join(repositories).join(manifests))
        .where(repositories.c.registry_id == registry_id)
    )
    names = repository_manifests.c.keys()
    at = signs.at
    for row in stream(source, statement):
        place, digest = (row.repository_id, row.manifest_id), bytes(row.digest)
        stored = {name: getattr(row, name) for name in names}
        times = [until(stored[name], at) for name in ("first_seen_at", *_FORWARD)]
        pulled = signs.pulled.get(place, {})
        times += [tags.pointed_at.get(place), signs.seen.get((row.repository_id, digest)), *pulled.values()]
        if place in tags.tagged:
            times.append(until(row.settled_at, at))
        evidence = [one for one in times if one is not None]
        if not evidence:
            continue
        found.note(row.repository_id, max(evidence))
        if not tags.removals.is_gone(row.repository_id, digest, (max(evidence), at), stored["deleted_at"]):
            stored |= {name: until(stored[name], at) for name in _FORWARD}
            first_seen_at = stored["first_seen_at"] if stored["first_seen_at"] <= at else min(evidence)
            found.manifests[place] = _as_of(stored, place, tags, pulled) | {"first_seen_at": first_seen_at}


def _as_of(stored: dict[str, Any], place: Place, tags: PastTags, pulled: Mapping[str, int]) -> dict[str, Any]:
    """A row with what was known then."""
    untagged = until(stored["untagged_since"], tags.at)
    if place in tags.tagged:
        untagged = None
    elif untagged is None:
        untagged = tags.left_at.get(place)
    pushed_at = tags.pushed_at.get(place) if stored["pushed_at"] is None else stored["pushed_at"]
    pulls = {
        name: pulled.get(name) if stored[name] is None else stored[name]
        for name in ("pulled_at", "checked_at", "fetched_at")
    }
    return {
        **stored,
        **pulls,
        "pushed_at": pushed_at,
        "untagged_since": untagged,
        "deleted_at": None,
        "exclusive_bytes": None,
    }


def _add_blobs(source: Connection, registry_id: int, at: int, tags: PastTags, found: PastContents) -> None:
    """Blobs stay listed where they were missing already."""
    statement = (
        select(repository_blobs, blobs.c.digest)
        .select_from(repository_blobs.join(repositories).join(blobs))
        .where(repositories.c.registry_id == registry_id, repository_blobs.c.first_seen_at <= at)
    )
    names = repository_blobs.c.keys()
    for row in stream(source, statement):
        stored = {name: getattr(row, name) for name in names}
        deleted_at = stored.pop("deleted_at")
        stored |= {name: until(stored[name], at) for name in ("pushed_at", "pulled_at", "alive_at", "verified_at")}
        signs = [stored[name] for name in ("first_seen_at", "pushed_at", "pulled_at", "alive_at")]
        evidence = max(one for one in signs if one is not None)
        found.note(row.repository_id, evidence)
        is_gone = tags.removals.is_gone(row.repository_id, bytes(row.digest), (evidence, at))
        if until(deleted_at, at) is None:
            deleted_at = at if is_gone else None
        found.blobs.append({**stored, "deleted_at": deleted_at})


def _load_pull_days(source: Connection, registry_id: int, at: int) -> list[dict[str, Any]]:
    """The daily counters until then; a pull of that day that may have been before the moment is taken to be at it."""
    statement = (
        select(pull_days)
        .select_from(pull_days.join(repositories))
        .where(repositories.c.registry_id == registry_id, pull_days.c.day <= at // _DAY_MICROS)
    )
    rows = [dict(row._mapping) for row in stream(source, statement)]  # noqa: SLF001 -- its public name for a mapping
    # One pull after the moment was none before it.
    told = [row for row in rows if row["last_at"] <= at or row["pull_count"] > 1]
    return [{**row, "last_at": min(row["last_at"], at)} for row in told]


def _last_pulls(rows: Iterable[dict[str, Any]], use: frozenset[str]) -> dict[Place, dict[str, int]]:
    found: dict[Place, dict[str, int]] = {}
    for row in rows:
        times = found.setdefault((row["repository_id"], row["manifest_id"]), {})
        names = ["checked_at" if row["method"] == "HEAD" else "fetched_at"]
        names += ["pulled_at"] * (row["pull_class"] in use)
        for name in names:
            times[name] = max(row["last_at"], times.get(name, row["last_at"]))
    return found


def _load_evidence(source: Connection, registry_id: int, at: int, tags: PastTags) -> dict[tuple[int, bytes], int]:
    """When events last spoke of content as existing, in the repositories from which something was removed."""
    names = {
        row.name: row.id
        for chunk in chunked(sorted(tags.removals.times))
        for row in source.execute(select(repositories.c.id, repositories.c.name).where(repositories.c.id.in_(chunk)))
    }
    found: dict[tuple[int, bytes], int] = {}
    for chunk in chunked(sorted(names)):
        statement = (
            select(events.c.repository, events.c.digest, func.max(events.c.at).label("at"))
            .where(
                events.c.registry_id == registry_id,
                events.c.repository.in_(chunk),
                events.c.at <= at,
                events.c.action.in_(("push", "pull", "mount")),
                events.c.digest.is_not(None),
            )
            .group_by(events.c.repository, events.c.digest)
        )
        found.update({(names[row.repository], bytes(row.digest)): row.at for row in source.execute(statement)})
    return found


def _with_children(source: Connection, ids: set[int]) -> set[int]:
    known, frontier = set(ids), sorted(ids)
    while frontier:
        children: set[int] = set()
        for chunk in chunked(frontier, 5_000):
            statement = select(manifest_children.c.child_id).where(manifest_children.c.parent_id.in_(chunk))
            children.update(source.execute(statement).scalars())
        frontier = sorted(children - known)
        known.update(frontier)
    return known


def _missing_in(target: Connection, table: Table, ids: Collection[int]) -> set[int]:
    """Those that are not there yet: registries may share content."""
    return set(ids) - set(target.execute(select(table.c.id)).scalars())
