"""Which tags did a registry have at a moment, and what did they point to? From points and removals."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from itertools import count, groupby
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.engine import Connection

from regwarden.core.history import Point, Removal, build_intervals
from regwarden.core.oci.digests import Digest
from regwarden.store.past_rows import stream, until
from regwarden.store.schema import manifests, removals, repositories, tag_history, tags
from regwarden.store.times import from_micros, to_micros

EVERYTHING: Final = b""
_EVENT: Final = "event"
Place = tuple[int, int]
"""A repository and a manifest in it, by their ids."""


@dataclass(slots=True)
class Removals:
    """When what was removed from the repositories of a registry, until the moment: ascending times by digest."""

    times: dict[int, dict[bytes, list[int]]]

    def is_gone(self, repository_id: int, digest: bytes, span: tuple[int, int], deleted_at: int | None = None) -> bool:
        """Whether it was removed, alone or with the repository, after the first moment and until the second.

        ``deleted_at`` is another time at which it was found to be gone.
        """
        after, at = span
        if deleted_at is not None and after < deleted_at <= at:
            return True
        known = self.times.get(repository_id)
        return known is not None and any(
            bisect_right(known[one], after) < len(known[one]) for one in {digest, EVERYTHING} if one in known
        )


@dataclass(frozen=True, slots=True)
class PastTag:
    """A tag as it was; ``manifest_id`` is that of its manifest's row, if there is one."""

    repository_id: int
    name: str
    manifest_id: int | None
    state: str | None
    created_at: int | None
    first_seen_at: int
    tagged_at: int


@dataclass(slots=True)
class PastTags:
    """The tags of one registry at a moment, and what their points tell of repositories and manifests until then.

    ``pointed_at`` and ``pushed_at`` say when a point (an event's) last named a manifest, ``left_at`` when a tag last
    ceased to point to it; ``first_at`` and ``last_at`` are those of all points of a repository.
    """

    at: int
    removals: Removals
    found: list[PastTag] = field(default_factory=list)
    unread: list[dict[str, Any]] = field(default_factory=list)
    current: dict[tuple[int, str], Any] = field(default_factory=dict)
    pointed_at: dict[Place, int] = field(default_factory=dict)
    pushed_at: dict[Place, int] = field(default_factory=dict)
    left_at: dict[Place, int] = field(default_factory=dict)
    first_at: dict[int, int] = field(default_factory=dict)
    last_at: dict[int, int] = field(default_factory=dict)
    tagged: set[Place] = field(default_factory=set)
    newest: dict[int, int] = field(default_factory=dict)

    def newest_created_at(self, repository_id: int) -> int | None:
        """When the newest image of a repository's tags was made."""
        return self.newest.get(repository_id)

    def rows(self, is_here: Callable[[int, int], bool], kept: Collection[int]) -> list[dict[str, Any]]:
        """Rows of the table ``tags`` for the repositories that were there.

        ``is_here`` says whether a manifest (the second id) existed in a repository (the first one).
        """
        numbers = count(1)
        return [
            {"id": next(numbers), **row}
            for row in (*(self._row(one, is_here) for one in self.found), *self.unread)
            if row["repository_id"] in kept
        ]

    def _row(self, tag: PastTag, is_here: Callable[[int, int], bool]) -> dict[str, Any]:
        current = self.current.get((tag.repository_id, tag.name))
        is_same = current is not None and current.manifest_id == tag.manifest_id
        state = "ok" if tag.state in ("read", "unread") else "unreadable"
        if tag.manifest_id is not None and not is_here(tag.repository_id, tag.manifest_id):
            state = "dangling"
        elif tag.state == "unread" and current is not None and is_same:
            state = current.state
        return {
            "repository_id": tag.repository_id,
            "name": tag.name,
            "manifest_id": tag.manifest_id,
            "state": state,
            "first_seen_at": tag.first_seen_at,
            "tagged_at": tag.tagged_at,
            "host": "" if current is None else current.host,
            "verified_at": until(current.verified_at, self.at) if current is not None and is_same else None,
            "created_at": tag.created_at,
        }

    def note(self, row: Any) -> None:
        """Take note of what a point tells beside where its tag pointed."""
        number = row.repository_id
        self.first_at[number] = min(row.at, self.first_at.get(number, row.at))
        if not row.digest:
            return
        self.last_at[number] = max(row.at, self.last_at.get(number, row.at))
        if row.manifest_id is not None:
            place = (number, row.manifest_id)
            self.pointed_at[place] = max(row.at, self.pointed_at.get(place, row.at))
            if row.cause == _EVENT:
                self.pushed_at[place] = max(row.at, self.pushed_at.get(place, row.at))

    def add(self, tag: PastTag) -> None:
        """One more tag."""
        self.found.append(tag)
        if tag.manifest_id is not None:
            self.tagged.add((tag.repository_id, tag.manifest_id))
        if tag.created_at is not None:
            newest = self.newest.get(tag.repository_id, tag.created_at)
            self.newest[tag.repository_id] = max(newest, tag.created_at)


def load_past_tags(source: Connection, registry_id: int, at: int) -> PastTags:
    """The tags that a registry had at ``at`` (microseconds)."""
    past = PastTags(at, _load_removals(source, registry_id, at))
    current = (
        select(tags, manifests.c.state.label("content_state"))
        .select_from(tags.join(repositories).outerjoin(manifests, manifests.c.id == tags.c.manifest_id))
        .where(repositories.c.registry_id == registry_id)
    )
    past.current = {(row.repository_id, row.name): row for row in stream(source, current)}
    observed = set()
    for (repository_id, name), group in groupby(_points(source, registry_id, at), key=lambda row: (row[0], row[1])):
        rows = list(group)
        observed.add((repository_id, name))
        for row in rows:
            past.note(row)
        told = _take_single(past, rows[0]) if len(rows) == 1 else _take_several(past, rows)
        if (tag := _overruled(source, past, rows, told)) is not None:
            past.add(tag)
    # What could not be read ever since has no points, because nobody knows where it points.
    for key, row in past.current.items():
        if key not in observed and row.first_seen_at <= at and row.manifest_id is None:
            past.unread.append(_unread(row))
    return past


def _points(source: Connection, registry_id: int, at: int) -> Iterator[Any]:
    history = tag_history.c
    facts = (manifests.c.id.label("manifest_id"), manifests.c.state, manifests.c.created_at)
    statement = (
        select(
            history.repository_id, history.tag, history.at, history.digest, history.cause, history.effective_at, *facts
        )
        .add_columns(repositories.c.seen_at, repositories.c.settled_at)
        .select_from(tag_history.join(repositories).outerjoin(manifests, manifests.c.digest == history.digest))
        .where(repositories.c.registry_id == registry_id, history.at <= at)
        .order_by(history.repository_id, history.tag)
    )
    return stream(source, statement)


def _take_single(past: PastTags, row: Any) -> PastTag | None:
    """Most tags were observed once; nothing needs to be worked out for them."""
    if not row.digest:
        return None
    if past.removals.is_gone(row.repository_id, bytes(row.digest), (row.at, past.at)):
        _note_left(past, row, _first_removal(past, row))
        return None
    return _past_tag(row, row.at, row.at)


def _take_several(past: PastTags, rows: list[Any]) -> PastTag | None:
    by_digest = {bytes(row.digest): row for row in rows}
    points = [Point(from_micros(row.at), _digest(row), row.cause, from_micros(row.effective_at)) for row in rows]
    known = past.removals.times.get(rows[0].repository_id, {})
    ends = [
        Removal(from_micros(time), Digest.from_bytes(digest) if digest else None)
        for digest in {EVERYTHING, *by_digest}
        for time in known.get(digest, ())
    ]
    intervals = build_intervals(points, ends)
    first_seen_at: int | None = None
    for one in intervals:
        if one.digest is None:
            first_seen_at = None
            continue
        first_seen_at = to_micros(one.since) if first_seen_at is None else first_seen_at
        row = by_digest[one.digest.to_bytes()]
        if one.until is None:
            return _past_tag(row, first_seen_at, to_micros(one.since))
        _note_left(past, row, to_micros(one.until))
    return None


def _past_tag(row: Any, first_seen_at: int, tagged_at: int) -> PastTag:
    return PastTag(row.repository_id, row.tag, row.manifest_id, row.state, row.created_at, first_seen_at, tagged_at)


def _overruled(source: Connection, past: PastTags, rows: list[Any], told: PastTag | None) -> PastTag | None:
    """What a tag was, where a complete reading before the moment has seen more than the points ``told``.

    A reading that finds what the inventory has already leaves no point; an older event that comes in late adds one,
    and still does not overrule it.
    """
    winner = max(rows, key=lambda row: (row.effective_at, bytes(row.digest), row.at))
    if winner.settled_at is None or winner.seen_at is None or winner.seen_at > past.at:
        return told
    key, digest = (winner.repository_id, winner.tag), bytes(winner.digest)
    if winner.effective_at >= winner.settled_at or past.removals.is_gone(key[0], digest, (winner.settled_at, past.at)):
        return told
    current = past.current.get(key)
    if current is None:
        was_there = told is not None and winner.cause == _EVENT
        return None if was_there and not _has_later(source, past.at, key, digest) else told
    if current.tagged_at > past.at or current.manifest_id is None:
        return told
    if told is not None and told.manifest_id == current.manifest_id:
        return told
    return PastTag(
        *key, current.manifest_id, current.content_state, current.created_at, current.first_seen_at, current.tagged_at
    )


def _has_later(source: Connection, at: int, key: tuple[int, str], digest: bytes) -> bool:
    """Whether something that happened to a tag after the moment says why it is not there any more."""
    history, removed = tag_history.c, removals.c
    points = select(history.at).where(history.repository_id == key[0], history.tag == key[1], history.at > at)
    ends = select(removed.at).where(
        removed.repository_id == key[0], removed.digest.in_([digest, EVERYTHING]), removed.at > at
    )
    return any(source.execute(one.limit(1)).first() is not None for one in (points, ends))


def _note_left(past: PastTags, row: Any, moment: int) -> None:
    if row.manifest_id is not None:
        place = (row.repository_id, row.manifest_id)
        past.left_at[place] = max(moment, past.left_at.get(place, moment))


def _first_removal(past: PastTags, row: Any) -> int:
    known = past.removals.times[row.repository_id]
    times = [time for one in (bytes(row.digest), EVERYTHING) for time in known.get(one, ()) if time > row.at]
    return min(times)


def _digest(row: Any) -> Digest | None:
    return Digest.from_bytes(bytes(row.digest)) if row.digest else None


def _unread(row: Any) -> dict[str, Any]:
    names = ("repository_id", "name", "manifest_id", "state", "first_seen_at", "tagged_at", "host", "verified_at")
    return {**{name: getattr(row, name) for name in names}, "created_at": None}


def _load_removals(source: Connection, registry_id: int, at: int) -> Removals:
    times: dict[int, dict[bytes, list[int]]] = defaultdict(lambda: defaultdict(list))
    statement = (
        select(removals)
        .join(repositories)
        .where(repositories.c.registry_id == registry_id, removals.c.at <= at)
        .order_by(removals.c.at)
    )
    for row in stream(source, statement):
        times[row.repository_id][bytes(row.digest)].append(row.at)
    return Removals({number: dict(known) for number, known in times.items()})
