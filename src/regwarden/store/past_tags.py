"""Which tags did a registry have at a moment, and what did they point to? From points and removals."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Container, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from operator import itemgetter
from typing import Any, Final, NamedTuple, TypeVar

from sqlalchemy import case, exists, func, literal, select
from sqlalchemy.engine import Connection

from regwarden.core.history import Point, Removal, build_intervals
from regwarden.core.oci.digests import Digest
from regwarden.store.past_rows import fetch, until
from regwarden.store.schema import manifests, removals, repositories, tag_history, tags
from regwarden.store.tag_points import CRAWL
from regwarden.store.times import from_micros, to_micros

EVERYTHING: Final = b""
_EVENT: Final = "event"
TAG_COLUMNS: Final = (
    "repository_id",
    "name",
    "manifest_id",
    "state",
    "first_seen_at",
    "tagged_at",
    "host",
    "verified_at",
    "created_at",
)
_TAG: Final = itemgetter(0, 1)
KeyT = TypeVar("KeyT", int, tuple[int, int])
Place = tuple[int, int]
"""A repository and a manifest in it, by their ids."""
TagRow = tuple[Any, ...]
"""The values of ``TAG_COLUMNS``."""


@dataclass(slots=True)
class Removals:
    """When what was removed from repositories, until the moment: ascending times by digest."""

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


class _Point(NamedTuple):
    """What was observed of a tag; its manifest, its repository, and what the tag is today."""

    repository_id: int
    tag: str
    at: int
    digest: bytes
    cause: str
    effective_at: int
    manifest_id: int | None
    content_state: str | None
    created_at: int | None
    seen_at: int | None
    settled_at: int | None
    present_id: int | None
    manifest_id_now: int | None
    state_now: str | None
    tagged_at_now: int | None
    host: str | None
    verified_at: int | None


@dataclass(slots=True)
class PastTags:
    """The tags of repositories at a moment, and what their points tell of repositories and manifests until then.

    ``pointed_at`` and ``pushed_at`` say when a point (an event's) last named a manifest, ``left_at`` when a tag last
    ceased to point to it; ``first_at`` and ``last_at`` are those of all points of a repository.
    """

    at: int
    removals: Removals
    found: list[TagRow] = field(default_factory=list)
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

    def rows(self, here: Container[Place], kept: Collection[int]) -> list[TagRow]:
        """Rows of the table ``tags`` for the repositories that were there; ``here`` are the manifests that existed."""
        return [
            row if row[2] is None or (row[0], row[2]) in here else (*row[:3], "dangling", *row[4:])
            for row in self.found
            if row[0] in kept
        ]

    def note(self, row: _Point) -> None:
        """Take note of what a point tells beside where its tag pointed."""
        if row.manifest_id is not None:
            place = (row.repository_id, row.manifest_id)
            _raise(self.pointed_at, place, row.at)
            if row.cause == _EVENT:
                _raise(self.pushed_at, place, row.at)

    def add(self, row: TagRow) -> None:
        """One more tag that points somewhere."""
        self.found.append(row)
        repository_id, manifest_id, created_at = row[0], row[2], row[8]
        if manifest_id is not None:
            self.tagged.add((repository_id, manifest_id))
        if created_at is not None:
            _raise(self.newest, repository_id, created_at)


def load_past_tags(source: Connection, repository_ids: Sequence[int], at: int) -> PastTags:
    """The tags that repositories had at ``at`` (microseconds)."""
    past = PastTags(at, _load_removals(source, repository_ids, at))
    _load_span(source, repository_ids, past)
    for _, group in groupby(_load_points(source, repository_ids, at), key=_TAG):
        rows = list(group)
        for row in rows:
            past.note(row)
        told = _take_single(past, rows[0]) if len(rows) == 1 else _take_several(past, rows)
        if (tag := _overruled(source, past, rows, told)) is not None:
            past.add(tag)
    past.found += _load_unread(source, repository_ids, at)
    return past


def _load_span(source: Connection, repository_ids: Sequence[int], past: PastTags) -> None:
    history = tag_history.c
    told = case((history.digest != EVERYTHING, history.at))
    statement = (
        select(history.repository_id, func.min(history.at), func.max(told))
        .where(history.repository_id.in_(repository_ids), history.at <= past.at)
        .group_by(history.repository_id)
    )
    for repository_id, first, last in fetch(source, statement):
        past.first_at[repository_id] = first
        if last is not None:
            past.last_at[repository_id] = last


def _load_unread(source: Connection, repository_ids: Sequence[int], at: int) -> list[TagRow]:
    """What could not be read ever since has no points, because nobody knows where it points."""
    history = tag_history.c
    observed = exists().where(history.repository_id == tags.c.repository_id, history.tag == tags.c.name)
    columns = [tags.c[name] for name in TAG_COLUMNS[:-1]]
    statement = select(*columns, literal(None)).where(
        tags.c.repository_id.in_(repository_ids),
        tags.c.manifest_id.is_(None),
        tags.c.first_seen_at <= at,
        ~observed.where(history.at <= at),
    )
    return fetch(source, statement)


def _load_points(source: Connection, repository_ids: Sequence[int], at: int) -> Iterable[_Point]:
    history = tag_history.c
    facts = (manifests.c.id.label("manifest_id"), manifests.c.state, manifests.c.created_at)
    statement = (
        select(
            history.repository_id, history.tag, history.at, history.digest, history.cause, history.effective_at, *facts
        )
        .add_columns(repositories.c.seen_at, repositories.c.settled_at)
        .add_columns(tags.c.id.label("present_id"), tags.c.manifest_id.label("manifest_id_now"), tags.c.state)
        .add_columns(tags.c.tagged_at, tags.c.host, tags.c.verified_at)
        .select_from(
            tag_history.join(repositories)
            .outerjoin(manifests, manifests.c.digest == history.digest)
            .outerjoin(tags, (tags.c.repository_id == history.repository_id) & (tags.c.name == history.tag))
        )
        .where(history.repository_id.in_(repository_ids), history.at <= at)
        .order_by(history.repository_id, history.tag, history.at)
    )
    return map(_Point._make, fetch(source, statement))


def _take_single(past: PastTags, row: _Point) -> TagRow | None:
    """Most tags were observed once; nothing needs to be worked out for them."""
    if not row.digest:
        return None
    if past.removals.is_gone(row.repository_id, row.digest, (row.at, past.at)):
        _note_left(past, row, _first_removal(past, row))
        return None
    return _past_tag(past, row, row.at, row.at)


def _take_several(past: PastTags, rows: list[_Point]) -> TagRow | None:
    if rows[0].repository_id not in past.removals.times and all(
        earlier.at < later.at and earlier.effective_at < later.effective_at for earlier, later in pairwise(rows)
    ):
        return _take_ordered(past, rows)
    by_digest = {row.digest: row for row in rows}
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
            return _past_tag(past, row, first_seen_at, to_micros(one.since))
        _note_left(past, row, to_micros(one.until))
    return None


def _take_ordered(past: PastTags, rows: list[_Point]) -> TagRow | None:
    """As ``build_intervals`` says where nothing was removed and each observation stands against all before it."""
    last: _Point | None = None
    first_seen_at: int | None = None
    for row in rows:
        if last is not None and last.digest == row.digest:
            continue
        if last is not None and last.digest:
            _note_left(past, last, row.at)
        last = row
        if not row.digest:
            first_seen_at = None
        elif first_seen_at is None:
            first_seen_at = row.at
    if last is None or first_seen_at is None:
        return None
    return _past_tag(past, last, first_seen_at, last.at)


def _past_tag(past: PastTags, row: _Point, first_seen_at: int, tagged_at: int) -> TagRow:
    state, verified_at = "ok" if row.content_state in ("read", "unread") else "unreadable", None
    if row.present_id is not None and row.manifest_id_now == row.manifest_id:
        verified_at = until(row.verified_at, past.at)
        if row.content_state == "unread" and row.state_now is not None:
            state = row.state_now
    place, times = (row.repository_id, row.tag, row.manifest_id), (first_seen_at, tagged_at)
    return (*place, state, *times, row.host or "", verified_at, row.created_at)


def _overruled(source: Connection, past: PastTags, rows: list[_Point], told: TagRow | None) -> TagRow | None:
    """What a tag was, where a complete reading before the moment has seen more than the points ``told``.

    A reading that finds what the inventory has already leaves no point; an older event that comes in late adds one,
    and still does not overrule it.
    """
    winner = max(rows, key=_rank) if len(rows) > 1 else rows[0]
    if winner.settled_at is None or winner.seen_at is None or winner.seen_at > past.at:
        return told
    key, digest = (winner.repository_id, winner.tag), winner.digest
    if winner.effective_at >= winner.settled_at or past.removals.is_gone(key[0], digest, (winner.settled_at, past.at)):
        return told
    if winner.present_id is None or winner.tagged_at_now is None:
        was_there = told is not None and winner.cause != CRAWL
        return None if was_there and not _has_later(source, past.at, key, digest) else told
    if winner.tagged_at_now > past.at or winner.manifest_id_now is None:
        return told
    if told is not None and told[2] == winner.manifest_id_now:
        return told
    return _present_tag(source, past, winner)


def _present_tag(source: Connection, past: PastTags, row: _Point) -> TagRow:
    """The tag as it is today."""
    columns = (manifests.c.id, manifests.c.state, tags.c.created_at, tags.c.first_seen_at)
    statement = select(*columns).join(manifests, manifests.c.id == tags.c.manifest_id)
    manifest_id, state, created_at, first_seen_at = fetch(source, statement.where(tags.c.id == row.present_id))[0]
    there = row._replace(manifest_id=manifest_id, content_state=state, created_at=created_at)
    return _past_tag(past, there, first_seen_at, row.tagged_at_now or first_seen_at)


def _has_later(source: Connection, at: int, key: tuple[int, str], digest: bytes) -> bool:
    """Whether something that happened to a tag after the moment says why it is not there any more."""
    history, removed = tag_history.c, removals.c
    points = select(history.at).where(history.repository_id == key[0], history.tag == key[1], history.at > at)
    ends = select(removed.at).where(
        removed.repository_id == key[0], removed.digest.in_([digest, EVERYTHING]), removed.at > at
    )
    return any(source.execute(one.limit(1)).first() is not None for one in (points, ends))


def _rank(row: _Point) -> tuple[int, bytes, int]:
    return row.effective_at, row.digest, row.at


def _note_left(past: PastTags, row: _Point, moment: int) -> None:
    if row.manifest_id is not None:
        _raise(past.left_at, (row.repository_id, row.manifest_id), moment)


def _raise(times: dict[KeyT, int], key: KeyT, at: int) -> None:
    """Keep the latest time."""
    if at > times.get(key, at - 1):
        times[key] = at


def _first_removal(past: PastTags, row: _Point) -> int:
    known = past.removals.times[row.repository_id]
    times = [time for one in (row.digest, EVERYTHING) for time in known.get(one, ()) if time > row.at]
    return min(times)


def _digest(row: _Point) -> Digest | None:
    return Digest.from_bytes(row.digest) if row.digest else None


def _load_removals(source: Connection, repository_ids: Sequence[int], at: int) -> Removals:
    times: dict[int, dict[bytes, list[int]]] = defaultdict(lambda: defaultdict(list))
    columns = (removals.c.repository_id, removals.c.digest, removals.c.at)
    statement = select(*columns).where(removals.c.repository_id.in_(repository_ids), removals.c.at <= at)
    for repository_id, digest, moment in fetch(source, statement.order_by(removals.c.at)):
        times[repository_id][digest].append(moment)
    return Removals({number: dict(known) for number, known in times.items()})
