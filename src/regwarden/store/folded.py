"""Folded events as rows: repositories, manifests, blobs, points, removals, pulls, and what must be read again.

Only joins, so that it does not matter in which order batches come.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import bindparam, or_, select
from sqlalchemy.engine import Connection

from regwarden.core.folding import Changes, ContentChange
from regwarden.core.oci.manifests import Manifest
from regwarden.store.bulk import Join, bulk_find, bulk_join, bulk_upsert
from regwarden.store.chunks import chunked
from regwarden.store.contents import save_blobs
from regwarden.store.event_schema import pull_days
from regwarden.store.existence import EVERYTHING, Touched, note_removals, refresh_existence, touch
from regwarden.store.keyed import select_by_key
from regwarden.store.pull_doubts import find_surprising, sorted_by_time
from regwarden.store.referenced import build_outlines, save_references
from regwarden.store.rereads import Reread
from regwarden.store.schema import (
    manifests,
    removals,
    repositories,
    repository_blobs,
    repository_manifests,
    tag_history,
    tags,
)
from regwarden.store.tag_hosts import save_hosts
from regwarden.store.tag_state import TagKey, date_repositories, resolve_all
from regwarden.store.times import to_micros

NEAR_CRAWL_DELAY: Final = timedelta(seconds=65)
PULL_DELAY: Final = timedelta(seconds=5)
FROM_EVENTS: Final = "partial"
_REPOSITORY: Final = """
SELECT id, name, settled_at, read_until, deleted_at FROM repositories
WHERE registry_id = {repository} AND name = {name}
"""
_WITH_REMOVALS: Final = select(repositories.c.id).where(
    repositories.c.id.in_(bindparam("chosen", expanding=True)),
    or_(
        repositories.c.deleted_at.is_not(None),
        select(removals.c.repository_id).where(removals.c.repository_id == repositories.c.id).exists(),
    ),
)
# Whether a manifest or blob of a repository counts as gone; a row if so.
_MISSED: Final = """
SELECT repository_id FROM {table}
WHERE repository_id = {{repository}} AND {column} = CAST({{name}} AS bigint) AND deleted_at IS NOT NULL
"""


@dataclass(frozen=True, slots=True)
class Place:
    """The registry whose events are applied; ``host`` is how its configured address calls it."""

    registry_id: int
    host: str


@dataclass(slots=True)
class AppliedChanges:
    """What must be read from the registry, and whether anything changed that sizes are made of."""

    rereads: list[Reread] = field(default_factory=list)
    is_changed: bool = False


@dataclass(frozen=True, slots=True)
class _Repository:
    id: int
    name: str
    settled_at: int | None
    read_until: int | None
    deleted_at: int | None


@dataclass(slots=True)
class _Work:
    """One batch on its way into the tables."""

    connection: Connection
    place: Place
    changes: Changes
    now: datetime
    repositories: dict[str, _Repository]
    manifest_ids: dict[bytes, int] = field(default_factory=dict)
    blob_ids: dict[bytes, int] = field(default_factory=dict)
    unread: set[bytes] = field(default_factory=set)
    outlines: list[Manifest] = field(default_factory=list)
    outcome: AppliedChanges = field(default_factory=AppliedChanges)

    def repository_id(self, name: str) -> int:
        """The id of a repository of this batch."""
        return self.repositories[name].id


def apply_changes(connection: Connection, place: Place, changes: Changes, now: datetime) -> AppliedChanges:
    """Write what a batch of new events changes."""
    work = _Work(connection, place, changes, now, _ensure_repositories(connection, place, changes))
    facts = _find_facts(work)
    _save_blobs(work)
    _save_manifests(work, facts)
    removed = _save_removals(work)
    changed = _save_points(work, removed)
    _save_pulls(work)
    _want_contents(work)
    _want_repositories(work, changed)
    return work.outcome


def _ensure_repositories(connection: Connection, place: Place, changes: Changes) -> dict[str, _Repository]:
    bulk_join(
        connection,
        repositories,
        [
            {"registry_id": place.registry_id, "name": name, "first_seen_at": to_micros(at), "state": FROM_EVENTS}
            for name, at in changes.repositories.items()
        ],
        Join(least=("first_seen_at",)),
        conflict=("registry_id", "name"),
    )
    keys = [(place.registry_id, name) for name in sorted(changes.repositories)]
    return {row[1]: _Repository(*row) for row in select_by_key(connection, _REPOSITORY, keys)}


def _find_facts(work: _Work) -> dict[bytes, ContentChange]:
    """What the batch tells of manifests, by digest; and what it tells of the content of those that are not read yet."""
    facts: dict[bytes, ContentChange] = {}
    for (_, digest), change in work.changes.manifests.items():
        facts.setdefault(digest.to_bytes(), change)
    _find_manifests(work, facts)
    told = {}
    for (_, digest), change in work.changes.manifests.items():
        key = digest.to_bytes()
        if change.references and (key in work.unread or key not in work.manifest_ids):
            told[digest] = change
    work.outlines = build_outlines(told)
    return facts


def _save_manifests(work: _Work, facts: dict[bytes, ContentChange]) -> None:
    connection, touched = work.connection, work.changes.manifests
    if not touched:
        return
    missing = [key for key in sorted(facts) if key not in work.manifest_ids]
    bulk_upsert(
        connection,
        manifests,
        [
            {
                "digest": key,
                "state": "unread",
                "media_type": facts[key].media_type,
                "size_bytes": facts[key].size_bytes or 0,
                "blob_ids": b"",
            }
            for key in missing
        ],
        conflict=("digest",),
    )
    _find_manifests(work, missing)
    rows = []
    for (name, digest), change in touched.items():
        manifest_id = work.manifest_ids[digest.to_bytes()]
        rows.append({"repository_id": work.repository_id(name), "manifest_id": manifest_id} | _content_row(change))
    clocks = ("alive_at", "pushed_at", "pulled_at", "fetched_at", "checked_at")
    bulk_join(connection, repository_manifests, rows, Join(clocks, least=("first_seen_at",)))
    save_references(connection, work.outlines, work.blob_ids)
    if any(change.pushed_at is not None for change in touched.values()) or work.unread:
        work.outcome.is_changed = True


def _find_manifests(work: _Work, keys: Iterable[bytes]) -> None:
    for number, digest, state in bulk_find(work.connection, manifests, "digest", keys, ("id", "digest", "state")):
        work.manifest_ids[digest] = number
        if state == "unread":
            work.unread.add(digest)


def _content_row(change: ContentChange) -> dict[str, Any]:
    return {
        "first_seen_at": to_micros(change.first_at),
        "alive_at": to_micros(change.alive_at),
        "pushed_at": to_micros(change.pushed_at),
        "pulled_at": to_micros(change.pulled_at),
        "fetched_at": to_micros(change.fetched_at),
        "checked_at": to_micros(change.checked_at),
    }


def _save_blobs(work: _Work) -> None:
    touched = work.changes.blobs
    named = {digest.to_bytes(): (change.media_type, change.size_bytes or 0) for (_, digest), change in touched.items()}
    if not named and not work.outlines:
        return
    work.blob_ids, _ = save_blobs(work.connection, work.outlines, named)
    known = work.blob_ids
    rows = []
    for (name, digest), change in touched.items():
        latest = [at for at in (change.fetched_at, change.checked_at) if at is not None]
        rows.append(
            {
                "repository_id": work.repository_id(name),
                "blob_id": known[digest.to_bytes()],
                "first_seen_at": to_micros(change.first_at),
                "alive_at": to_micros(change.alive_at),
                "pushed_at": to_micros(change.pushed_at),
                "pulled_at": to_micros(max(latest, default=None)),
            }
        )
    clocks = ("alive_at", "pushed_at", "pulled_at")
    bulk_join(work.connection, repository_blobs, rows, Join(clocks, least=("first_seen_at",)))


def _save_removals(work: _Work) -> set[tuple[int, bytes]]:
    """Keep removals, then look again at what they or newer evidence touch. Returns what was removed."""
    connection, changes = work.connection, work.changes
    removed = {
        (
            work.repository_id(one.repository),
            EVERYTHING if one.digest is None else one.digest.to_bytes(),
            to_micros(one.at),
        )
        for one in changes.removals
    }
    note_removals(connection, removed)
    places: dict[int, Touched] = {}
    for repository_id, digest, _ in removed:
        touch(places, repository_id, (digest,))
    alive: dict[int, set[bytes]] = {}
    for name, living in (*changes.manifests, *changes.blobs):
        alive.setdefault(work.repository_id(name), set()).add(living.to_bytes())
    with_removals = _with_removals(work, alive)
    for repository_id, digests in alive.items():
        if repository_id in with_removals:
            touch(places, repository_id, digests)
    for repository_id, touched in sorted(places.items()):
        refresh_existence(connection, repository_id, touched)
    work.outcome.is_changed = work.outcome.is_changed or bool(removed)
    return {(repository_id, digest) for repository_id, digest, _ in removed}


def _with_removals(work: _Work, alive: Mapping[int, set[bytes]]) -> set[int]:
    """Those repositories in which something was ever removed, that are gone, or that have one of these back: few."""
    found: set[int] = set()
    for chunk in chunked(sorted(alive)):
        found.update(work.connection.execute(_WITH_REMOVALS, {"chosen": chunk}).scalars())
    # What a crawl found missing has no removal. By key, because a repository may have very many manifests.
    for kind, column, ids, touched in (
        ("repository_manifests", "manifest_id", work.manifest_ids, work.changes.manifests),
        ("repository_blobs", "blob_id", work.blob_ids, work.changes.blobs),
    ):
        places = ((work.repository_id(name), str(ids[digest.to_bytes()])) for name, digest in touched)
        keys = sorted({place for place in places if place[0] not in found})
        rows = select_by_key(work.connection, _MISSED.format(table=kind, column=column), keys)
        found.update(repository_id for (repository_id,) in rows)
    return found


def _save_points(work: _Work, removed: set[tuple[int, bytes]]) -> frozenset[TagKey]:
    """Keep what tags pointed to, and make the rows of those tags, and of what points to removed content, anew."""
    connection, points = work.connection, work.changes.points
    rows: list[dict[str, Any]] = []
    for point in points:
        at = to_micros(point.at)
        rows.append(
            {
                "repository_id": work.repository_id(point.repository),
                "tag": point.tag,
                "at": at,
                "digest": b"" if point.digest is None else point.digest.to_bytes(),
                "cause": point.cause,
                "effective_at": at,
            }
        )
    bulk_upsert(connection, tag_history, rows)
    keys: set[TagKey] = {(row["repository_id"], row["tag"]) for row in rows}
    keys |= _tags_of(connection, removed)
    changed = resolve_all(connection, keys)
    date_repositories(connection, (repository_id for repository_id, _ in changed))
    save_hosts(
        connection,
        work.place.host,
        {(work.repository_id(name), tag): seen for (name, tag), seen in work.changes.hosts.items()},
    )
    work.outcome.is_changed = work.outcome.is_changed or bool(changed)
    return changed


def _tags_of(connection: Connection, removed: set[tuple[int, bytes]]) -> set[TagKey]:
    by_repository: dict[int, list[bytes]] = {}
    for repository_id, digest in removed:
        by_repository.setdefault(repository_id, []).append(digest)
    found: set[TagKey] = set()
    for repository_id, digests in by_repository.items():
        if EVERYTHING in digests:
            names = connection.execute(select(tags.c.name).where(tags.c.repository_id == repository_id)).scalars()
            found.update((repository_id, name) for name in names)
            continue
        for chunk in chunked(digests):
            wanted = (
                select(tags.c.name)
                .join(manifests, manifests.c.id == tags.c.manifest_id)
                .where(tags.c.repository_id == repository_id, manifests.c.digest.in_(chunk))
            )
            found.update((repository_id, name) for name in connection.execute(wanted).scalars())
    return found


def _save_pulls(work: _Work) -> None:
    rows = [
        {
            "repository_id": work.repository_id(key.repository),
            "manifest_id": work.manifest_ids[key.digest.to_bytes()],
            "tag": key.tag,
            "day": key.day,
            "pull_class": key.pull_class,
            "method": key.method,
            "pull_count": counted.count,
            "last_at": to_micros(counted.last_at),
        }
        for key, counted in work.changes.pulls.items()
    ]
    bulk_join(work.connection, pull_days, rows, Join(("last_at",), added=("pull_count",)))


def _want_contents(work: _Work) -> None:
    """Manifests whose bytes were never read are read from the registry, by digest."""
    for name, digest in work.changes.manifests:
        if digest.to_bytes() in work.unread:
            work.outcome.rereads.append(Reread(work.place.registry_id, name, str(digest), "unread-content", work.now))


def _want_repositories(work: _Work, changed: frozenset[TagKey]) -> None:
    """Repositories in which events and the last reading, or pulls and what is known, do not fit together."""
    due: dict[str, tuple[datetime, str]] = {}
    for point in work.changes.points:
        known = work.repositories[point.repository]
        at = to_micros(point.at)
        if (
            known.settled_at is not None
            and known.read_until is not None
            and known.settled_at <= at < known.read_until
            and (known.id, point.tag) in changed
        ):
            due[point.repository] = (max(point.at, work.now) + NEAR_CRAWL_DELAY, "event-near-crawl")
    pulls = {(work.repository_id(pull.repository), pull.tag): pull for pull in sorted_by_time(work.changes.tag_pulls)}
    for name in find_surprising(work.connection, pulls):
        due.setdefault(name, (work.now + PULL_DELAY, "pull-disagrees"))
    for name, (moment, reason) in sorted(due.items()):
        work.outcome.rereads.append(Reread(work.place.registry_id, name, "", reason, moment))
