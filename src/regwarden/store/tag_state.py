"""What does a tag point to now? Its row in ``tags``, made anew from the points and removals that are known.

Of all points the one with the greatest ``effective_at`` counts; a removal of what it names, later than it, ends it.
What the last complete reading of the repository saw is not changed by events older than that (``settled_at``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import and_, bindparam, delete, exists, func, or_, select, update
from sqlalchemy.engine import Connection

from regwarden.store.bulk import bulk_find, bulk_upsert
from regwarden.store.chunks import chunked
from regwarden.store.keyed import select_by_key
from regwarden.store.schema import manifests, repositories, repository_manifests, tag_history, tags
from regwarden.store.tag_points import CRAWL

TagKey = tuple[int, str]

_NEVER: Final = -(2**62)

# The winning point of one tag; since when without a break it has said the same, and the tag has been there; the
# removal that ends it.
_WINNER: Final = """
SELECT w.repository_id, w.tag, w.at, w.digest, w.cause,
  (SELECT min(s.at) FROM tag_history s
    WHERE s.repository_id = w.repository_id AND s.tag = w.tag AND s.digest = w.digest AND s.effective_at >
      coalesce((SELECT max(d.effective_at) FROM tag_history d
        WHERE d.repository_id = w.repository_id AND d.tag = w.tag AND d.digest <> w.digest), {never})) AS since,
  (SELECT min(f.at) FROM tag_history f
    WHERE f.repository_id = w.repository_id AND f.tag = w.tag AND f.effective_at >
      coalesce((SELECT max(g.effective_at) FROM tag_history g
        WHERE g.repository_id = w.repository_id AND g.tag = w.tag AND g.digest = {empty}), {never})) AS appeared_at,
  (SELECT min(r.at) FROM removals r
    WHERE r.repository_id = w.repository_id AND r.digest IN (w.digest, {empty}) AND r.at > w.effective_at
      AND r.at >= coalesce(p.settled_at, {never})) AS removed_at,
  p.settled_at, p.seen_at
FROM (SELECT repository_id, tag, at, digest, cause, effective_at FROM tag_history
  WHERE repository_id = {{repository}} AND tag = {{name}}
  ORDER BY effective_at DESC, digest DESC, at DESC LIMIT 1) AS w
JOIN repositories p ON p.id = w.repository_id
"""
_ROW: Final = """
SELECT t.repository_id, t.name, t.id, t.manifest_id, t.event_at, t.tagged_at, t.first_seen_at, m.digest, t.published_at
FROM tags t LEFT JOIN manifests m ON m.id = t.manifest_id
WHERE t.repository_id = {repository} AND t.name = {name}
"""


_NEWEST: Final = select(func.max(tags.c.created_at)).where(tags.c.repository_id == repositories.c.id).scalar_subquery()
_SET_NEWEST: Final = (
    update(repositories)
    .where(
        repositories.c.id.in_(bindparam("chosen", expanding=True)),
        repositories.c.newest_created_at.is_distinct_from(_NEWEST),
    )
    .values(newest_created_at=_NEWEST)
)


@dataclass(frozen=True, slots=True)
class _Winner:
    at: int
    digest: bytes
    cause: str
    since: int
    appeared_at: int
    removed_at: int | None
    settled_at: int
    seen_at: int | None


def resolve_tags(connection: Connection, repository_id: int, names: Collection[str]) -> frozenset[TagKey]:
    """Make the rows of these tags of a repository anew. Returns those that point elsewhere than before, or are gone."""
    return resolve_all(connection, [(repository_id, name) for name in names])


def resolve_all(connection: Connection, keys: Iterable[TagKey]) -> frozenset[TagKey]:
    """As ``resolve_tags``, for tags of any repositories."""
    wanted = sorted(set(keys))
    changed: set[TagKey] = set()
    for chunk in chunked(wanted):
        winners = _load_winners(connection, chunk)
        before = _load_rows(connection, chunk)
        gone = [key for key in chunk if _is_gone(key, winners, before)]
        present = {key: winner for key, winner in winners.items() if _is_news(winner, before.get(key))}
        moved = _save(connection, present, before)
        _delete(connection, [before[key] for key in gone])
        left = {key: winners[key].removed_at or winners[key].at for key in gone}
        left |= {key: winners[key].at for key in moved if key in before}
        latest: dict[tuple[int, int], int] = {}
        for key, moment in left.items():
            if (manifest_id := before[key].manifest_id) is not None:
                place = (key[0], manifest_id)
                latest[place] = max(moment, latest.get(place, moment))
        _note_untagged(connection, latest)
        _confirm(connection, winners, before)
        changed |= {*gone, *moved}
    return frozenset(changed)


def date_repositories(connection: Connection, repository_ids: Iterable[int]) -> None:
    """The newest image of a repository is that of its tags as they are now."""
    for chunk in chunked(sorted(set(repository_ids))):
        connection.execute(_SET_NEWEST, {"chosen": chunk})


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of ``tags`` as it is."""

    id: int
    manifest_id: int | None
    event_at: int | None
    tagged_at: int
    first_seen_at: int
    digest: bytes | None
    published_at: int | None


def _load_winners(connection: Connection, keys: Sequence[TagKey]) -> dict[TagKey, _Winner]:
    empty = "x''" if connection.dialect.name == "sqlite" else "''::bytea"
    winners = {}
    for row in select_by_key(connection, _WINNER.format(never=_NEVER, empty=empty), keys):
        repository_id, tag, at, digest, cause, since, appeared_at, removed_at, settled_at, seen_at = row
        winners[repository_id, tag] = _Winner(
            at=at,
            digest=bytes(digest),
            cause=cause,
            since=at if since is None else since,
            appeared_at=at if appeared_at is None else appeared_at,
            removed_at=removed_at if digest else None,
            settled_at=_NEVER if settled_at is None else settled_at,
            seen_at=seen_at,
        )
    return winners


def _load_rows(connection: Connection, keys: Sequence[TagKey]) -> dict[TagKey, _Row]:
    found = select_by_key(connection, _ROW, keys)
    return {
        (row[0], row[1]): _Row(
            row[2], row[3], row[4], row[5], row[6], None if row[7] is None else bytes(row[7]), row[8]
        )
        for row in found
    }


def _is_settled(winner: _Winner) -> bool:
    """Whether a reading of the registry has overruled the event that this point comes from."""
    return winner.cause != CRAWL and winner.at < winner.settled_at


def _confirm(connection: Connection, winners: dict[TagKey, _Winner], before: dict[TagKey, _Row]) -> None:
    """Where a late event says otherwise than a newer reading found, keep what that found as a point of the history."""
    rows = []
    for key, winner in winners.items():
        row = before.get(key)
        found = b"" if row is None else row.digest
        if found is None:
            continue  # there, but leading nowhere: no point can say so, and it is not gone
        if _is_settled(winner) and winner.seen_at is not None and found != winner.digest:
            rows.append(
                {
                    "repository_id": key[0],
                    "tag": key[1],
                    "at": winner.seen_at,
                    "digest": found,
                    "cause": CRAWL,
                    "effective_at": winner.settled_at,
                }
            )
    bulk_upsert(connection, tag_history, rows)


def _is_gone(key: TagKey, winners: dict[TagKey, _Winner], before: dict[TagKey, _Row]) -> bool:
    winner = winners.get(key)
    if winner is None or key not in before:
        return False
    return winner.removed_at is not None or (not winner.digest and not _is_settled(winner))


def _is_news(winner: _Winner, row: _Row | None) -> bool:
    """Whether the row must say what this point says."""
    if not winner.digest or winner.removed_at is not None or _is_settled(winner):
        return False
    event_at = winner.at if winner.cause != CRAWL else None
    if row is None or row.digest is None:
        return True
    said = (bytes(row.digest), row.event_at, row.tagged_at, row.first_seen_at)
    return said != (winner.digest, event_at, _since(winner, row), winner.appeared_at)


def _since(winner: _Winner, row: _Row | None) -> int:
    """Since when at latest: a listing may have told of an earlier time than that of the crawl which observed it."""
    if row is None or row.published_at is None or row.digest != winner.digest or winner.cause != CRAWL:
        return winner.since
    return min(winner.since, row.tagged_at)


def _save(connection: Connection, present: dict[TagKey, _Winner], before: dict[TagKey, _Row]) -> set[TagKey]:
    facts = _load_facts(connection, {winner.digest for winner in present.values()})
    rows, changed = [], set()
    for key, winner in present.items():
        if winner.digest not in facts:
            continue
        manifest_id, state, created_at, logical_bytes = facts[winner.digest]
        old = before.get(key)
        if old is None or old.manifest_id != manifest_id:
            changed.add(key)
        rows.append(
            {
                "repository_id": key[0],
                "name": key[1],
                "manifest_id": manifest_id,
                "state": "ok" if state in ("read", "unread") else "unreadable",
                "first_seen_at": winner.appeared_at,
                "tagged_at": _since(winner, old),
                "published_at": old.published_at if old is not None and old.digest == winner.digest else None,
                "event_at": winner.at if winner.cause != CRAWL else None,
                "created_at": created_at,
                "logical_bytes": logical_bytes,
                "vanished_in": None,
            }
        )
    columns = [name for name in (rows[0] if rows else ()) if name not in ("repository_id", "name")]
    bulk_upsert(connection, tags, rows, update=columns, conflict=("repository_id", "name"))
    _note_tagged(connection, rows)
    return changed


def _load_facts(connection: Connection, digests: Collection[bytes]) -> dict[bytes, tuple[int, str, int | None, Any]]:
    columns = ("digest", "id", "state", "created_at", "logical_bytes")
    return {digest: tuple(facts) for digest, *facts in bulk_find(connection, manifests, "digest", digests, columns)}


def _delete(connection: Connection, rows: Sequence[Any]) -> None:
    for chunk in chunked([row.id for row in rows]):
        connection.execute(delete(tags).where(tags.c.id.in_(chunk)))


_HERE: Final = and_(
    repository_manifests.c.repository_id == bindparam("of_repository"),
    repository_manifests.c.manifest_id == bindparam("of_manifest"),
)
_TAGGED: Final = exists().where(
    tags.c.repository_id == repository_manifests.c.repository_id,
    tags.c.manifest_id == repository_manifests.c.manifest_id,
)
_SINCE: Final = repository_manifests.c.untagged_since
_SET_UNTAGGED: Final = (
    update(repository_manifests)
    .where(_HERE, ~_TAGGED, or_(_SINCE.is_(None), bindparam("moment") > _SINCE))
    .values(untagged_since=bindparam("moment"))
)
_SET_TAGGED: Final = update(repository_manifests).where(_HERE, _SINCE.is_not(None)).values(untagged_since=None)


def _note_untagged(connection: Connection, left: Mapping[tuple[int, int], int]) -> None:
    """Note since when manifests (repository, manifest → moment) have no tag any more, unless they have another."""
    if left:
        rows = [
            {"of_repository": repository_id, "of_manifest": manifest_id, "moment": moment}
            for (repository_id, manifest_id), moment in sorted(left.items())
        ]
        connection.execute(_SET_UNTAGGED, rows)


def _note_tagged(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    places = {(row["repository_id"], row["manifest_id"]) for row in rows}
    if places:
        connection.execute(
            _SET_TAGGED, [{"of_repository": place[0], "of_manifest": place[1]} for place in sorted(places)]
        )
