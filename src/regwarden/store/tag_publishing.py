"""How what a crawl read of tags becomes their state, beside what events have told of them.

A reading overrules events that are older than its request by more than the margin. Anything newer stands, and the
repository is read again once that can be told apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import product
from typing import Any, Final

from sqlalchemy import select, update
from sqlalchemy.engine import Connection

from regwarden.core.drift import DriftKind
from regwarden.core.oci.digests import Digest
from regwarden.store.bulk import bulk_upsert
from regwarden.store.chunks import chunked
from regwarden.store.drifts import Drift, count_confirmed, record_drifts
from regwarden.store.inventory import RepositoryReading, TagReading, mark_untagged
from regwarden.store.rereads import Reread, note_rereads
from regwarden.store.schema import manifests, tags
from regwarden.store.tag_points import CRAWL, GONE, Known, build_point, load_points, load_removals, save_points
from regwarden.store.times import from_micros, to_micros

# A little longer than the margin, so that the next reading is beyond doubt.
_REREAD_AFTER: Final = timedelta(seconds=5)
DISAGREES: Final = "crawl-disagrees"


@dataclass(frozen=True, slots=True)
class Place:
    """The repository that a reading is published to, and the time (in microseconds) before which it overrules events.

    ``has_history``: something may be known of its tags besides their rows. ``is_watched``: events should have told of
    every change since the last complete reading.
    """

    repository_id: int
    settled_at: int
    has_history: bool
    is_watched: bool


@dataclass(slots=True)
class TagChanges:
    """How readings of tags changed the inventory."""

    new_count: int = 0
    moved_count: int = 0
    confirmed_count: int = 0
    drift_count: int = 0


@dataclass(frozen=True, slots=True)
class TagRow:
    """A tag as the inventory has it. Digest as stored; times in microseconds."""

    id: int
    manifest_id: int | None
    digest: bytes | None
    state: str
    event_at: int | None
    vanished_in: int | None
    tagged_at: int = 0
    published_at: int | None = None


@dataclass(slots=True)
class _Weighed:
    """What becomes of one tag that was read."""

    name: str
    tag: TagReading
    old: TagRow | None
    is_written: bool = True
    is_confirmed: bool = False
    has_point: bool = False
    contradicted_at: int | None = None

    @property
    def stored(self) -> bytes | None:
        return _stored(self.tag)

    @property
    def differs(self) -> bool:
        return self.old is None or self.old.digest != self.stored

    @property
    def is_moved(self) -> bool:
        return self.old is not None and self.stored is not None and self.differs


def load_tag_rows(connection: Connection, repository_id: int, names: Sequence[str] | None = None) -> dict[str, TagRow]:
    """The tags of a repository, or those of ``names`` among them."""
    statement = (
        select(tags.c.id, tags.c.name, tags.c.manifest_id, tags.c.state, tags.c.event_at, tags.c.vanished_in)
        .add_columns(tags.c.tagged_at, tags.c.published_at, manifests.c.digest)
        .select_from(tags.outerjoin(manifests, manifests.c.id == tags.c.manifest_id))
        .where(tags.c.repository_id == repository_id)
    )
    parts = [statement] if names is None else [statement.where(tags.c.name.in_(part)) for part in chunked(names)]
    return {
        row.name: TagRow(
            row.id,
            row.manifest_id,
            None if row.digest is None else bytes(row.digest),
            row.state,
            row.event_at,
            row.vanished_in,
            row.tagged_at,
            row.published_at,
        )
        for part in parts
        for row in connection.execute(part)
    }


def is_news(tag: TagReading, old: TagRow | None, margin: timedelta) -> bool:
    """Whether publishing this reading of a tag changes anything."""
    if old is None or tag.is_verified or (old.digest, old.state) != (_stored(tag), tag.state):
        return True
    if tag.published_at is not None and old.published_at != to_micros(tag.published_at):
        return True
    return old.event_at is not None and old.event_at < to_micros(tag.at - margin)


def publish_tags(connection: Connection, place: Place, reading: RepositoryReading, names: Sequence[str]) -> TagChanges:
    """Take in the readings of some tags. Done again it changes nothing."""
    before = load_tag_rows(connection, place.repository_id, names)
    news = [name for name in names if is_news(reading.tags[name], before.get(name), reading.margin)]
    if not news:
        return TagChanges()
    known = _load_known(connection, place, reading, news) if place.has_history else Known()
    weighed = [_weigh(name, reading.tags[name], before.get(name), known, reading.margin) for name in news]
    drifts = _find_drifts(connection, place, reading, weighed) if place.is_watched else []
    _save_rows(connection, place.repository_id, [one for one in weighed if one.is_written])
    save_points(
        connection,
        [
            build_point(
                place.repository_id,
                one.name,
                one.stored or GONE,
                to_micros(one.tag.at),
                to_micros(one.tag.at - reading.margin),
                known.last_crawl(one.name),
            )
            for one in weighed
            if one.has_point
        ],
    )
    _note_contradictions(connection, reading, [one.contradicted_at for one in weighed])
    changes = TagChanges(
        new_count=sum(one.is_written and one.old is None for one in weighed),
        moved_count=sum(one.is_written and one.is_moved for one in weighed),
    )
    if place.is_watched:
        changes.confirmed_count = sum(one.is_confirmed for one in weighed)
        count_confirmed(connection, reading.crawl_id, changes.confirmed_count)
        changes.drift_count = len(drifts)
        record_drifts(connection, reading.registry_id, reading.crawl_id, drifts)
    return changes


def _load_known(connection: Connection, place: Place, reading: RepositoryReading, names: Sequence[str]) -> Known:
    since = to_micros(min(reading.tags[name].at for name in names) - reading.margin)
    digests = {stored for name in names if (stored := _stored(reading.tags[name])) is not None}
    return Known(
        load_points(connection, place.repository_id, names, since=since),
        load_removals(connection, place.repository_id, digests, since=since),
    )


def _weigh(name: str, tag: TagReading, old: TagRow | None, known: Known, margin: timedelta) -> _Weighed:
    """Decide between a reading and what events have told. Microseconds throughout."""
    one = _Weighed(name, tag, old)
    effective_at = to_micros(tag.at - margin)
    last = known.last_crawl(name)
    if last is not None:
        effective_at = max(effective_at, last.effective_at + 1)
    if not one.differs:
        told_at = old.event_at if old is not None else None
        one.is_confirmed = told_at is not None and told_at < effective_at
        one.has_point = one.is_confirmed and one.stored is not None
        return one
    one.has_point = one.stored is not None
    rival = known.rival(name, effective_at)
    removed_at = known.removal(one.stored) if one.stored is not None else None
    if rival is not None:
        one.is_written, one.contradicted_at = False, rival.at
    elif removed_at is not None and removed_at > effective_at:
        one.is_written, one.contradicted_at = False, removed_at
    return one


def _find_drifts(
    connection: Connection, place: Place, reading: RepositoryReading, weighed: Iterable[_Weighed]
) -> list[Drift]:
    changed = [one for one in weighed if one.is_written and one.differs and one.stored and one.contradicted_at is None]
    new = [one.name for one in changed if one.old is None or one.old.digest is None]
    earlier = Known(load_points(connection, place.repository_id, new))
    drifts = []
    for one in changed:
        expected = one.old.digest if one.old is not None else None
        kind = DriftKind.MISSED_MOVE if expected is not None else _kind_of_new(one, earlier)
        drifts.append(Drift(reading.name, one.name, kind, expected, one.stored, to_micros(one.tag.at)))
    return drifts


def _kind_of_new(one: _Weighed, earlier: Known) -> DriftKind:
    """Whether a tag that was not known to be there is one that events had deleted."""
    if one.old is not None:
        return DriftKind.MISSED_PUSH
    last = earlier.winner(one.name)
    # A last point with a digest means that this digest was removed.
    is_deleted = last is not None and (last.digest != GONE or last.cause != CRAWL)
    return DriftKind.MISSED_RESTORE if is_deleted else DriftKind.MISSED_PUSH


def _note_contradictions(connection: Connection, reading: RepositoryReading, moments: Iterable[int | None]) -> None:
    latest = max((moment for moment in moments if moment is not None), default=None)
    if latest is not None:
        note_rereads(connection, [reread_after(reading, latest)])


def reread_after(reading: RepositoryReading, event_at: int) -> Reread:
    """Read the repository again as soon as that overrules an event of ``event_at`` (microseconds) for certain."""
    due_at = from_micros(event_at) + reading.margin + _REREAD_AFTER
    return Reread(reading.registry_id, reading.name, "", DISAGREES, due_at)


def _save_rows(connection: Connection, repository_id: int, written: Sequence[_Weighed]) -> None:
    """Write tags; ``tagged_at`` moves only with the digest, ``verified_at`` only with a proof."""
    facts = _load_facts(connection, {one.tag.digest for one in written if one.tag.digest is not None})
    always = ("manifest_id", "state", "event_at", "created_at", "logical_bytes", "vanished_in", "published_at")
    for is_moved, is_verified in product((True, False), repeat=2):
        wanted = (is_moved, is_verified)
        chosen = [one for one in written if (one.is_moved, one.tag.is_verified) == wanted]
        columns = (*always, *(("tagged_at",) * is_moved), *(("verified_at",) * is_verified))
        rows = [_row(repository_id, one, facts.get(one.stored, (None, None, None))) for one in chosen]
        bulk_upsert(connection, tags, rows, update=columns, conflict=("repository_id", "name"))
    lost = {one.old.manifest_id for one in written if one.old is not None and one.differs}
    gained = {facts[one.stored][0] for one in written if one.differs and one.stored in facts}
    by_moment = sorted({manifest_id for manifest_id in lost | gained if manifest_id is not None})
    if by_moment:
        mark_untagged(connection, repository_id, by_moment, min(one.tag.at for one in written))


def _row(repository_id: int, one: _Weighed, facts: tuple[int | None, int | None, int | None]) -> dict[str, Any]:
    at = to_micros(one.tag.at)
    manifest_id, created_at, logical_bytes = facts
    is_told = one.old is not None and not one.differs and not one.is_confirmed
    return {
        "repository_id": repository_id,
        "name": one.name,
        "manifest_id": manifest_id,
        "state": one.tag.state,
        "first_seen_at": at,
        "tagged_at": _tagged_at(one, at),
        "event_at": one.old.event_at if one.old is not None and is_told else None,
        "verified_at": at if one.tag.is_verified else None,
        "created_at": created_at,
        "logical_bytes": logical_bytes,
        "vanished_in": None,
        "published_at": _published_at(one),
    }


def _published_at(one: _Weighed) -> int | None:
    """What the registry's listing said of where the tag points now; what it said of elsewhere counts no more."""
    if one.tag.published_at is not None:
        return to_micros(one.tag.published_at)
    return one.old.published_at if one.old is not None and not one.differs else None


def _tagged_at(one: _Weighed, at: int) -> int:
    """Since when, at latest, a tag points where it was found to point at ``at``; counts where it is new or moved.

    The registry's listing may know an earlier time than that of the reading. It is believed as far as it can be true:
    the tag pointed elsewhere since ``old.tagged_at``. Only the row takes it: a point of the history says what was
    observed when, and from points alone is worked out which of crawl and event came later.
    """
    if one.tag.published_at is None:
        return at
    published_at = min(to_micros(one.tag.published_at), at)
    return published_at if one.old is None or published_at >= one.old.tagged_at else at


def _stored(tag: TagReading) -> bytes | None:
    return tag.digest.to_bytes() if tag.digest is not None else None


def _load_facts(
    connection: Connection, digests: set[Digest]
) -> dict[bytes | None, tuple[int | None, int | None, int | None]]:
    """Id, creation time and size of manifests."""
    facts: dict[bytes | None, tuple[int | None, int | None, int | None]] = {}
    for chunk in chunked([digest.to_bytes() for digest in digests]):
        for row in connection.execute(
            select(manifests.c.id, manifests.c.digest, manifests.c.created_at, manifests.c.logical_bytes).where(
                manifests.c.digest.in_(chunk)
            )
        ):
            facts[bytes(row.digest)] = (row.id, row.created_at, row.logical_bytes)
    return facts


def mark_vanished(connection: Connection, place: Place, reading: RepositoryReading, names: Sequence[str]) -> None:
    """Note which tags a reading found gone; those that events have told of since stay, and are read again."""
    settled_at = place.settled_at
    before = load_tag_rows(connection, place.repository_id, names)
    newer = [row.event_at for row in before.values() if row.event_at is not None and row.event_at >= settled_at]
    _note_contradictions(connection, reading, newer)
    gone = {name: row for name, row in before.items() if row.event_at is None or row.event_at < settled_at}
    for chunk in chunked([row.id for row in gone.values()]):
        connection.execute(update(tags).where(tags.c.id.in_(chunk)).values(vanished_in=reading.crawl_id))
    if place.is_watched:
        at = to_micros(reading.started_at)
        missed = [
            Drift(reading.name, name, DriftKind.MISSED_DELETE, row.digest, None, at)
            for name, row in gone.items()
            if row.digest is not None
        ]
        record_drifts(connection, reading.registry_id, reading.crawl_id, missed)
