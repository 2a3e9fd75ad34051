"""What do events change? A batch of them, reduced to joins: minima, maxima and unions.

Joins make the order, the repetition and the grouping of events irrelevant: folding a batch in two parts and joining
both results is the same as folding it at once (invariant D3: the same events always give the same state).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Final

from regwarden.core.events import Action, Event, Target
from regwarden.core.oci.descriptors import Descriptor
from regwarden.core.oci.digests import Digest

FETCHED: Final = "GET"
CHECKED: Final = "HEAD"
EVENT: Final = "event"
OURSELVES: Final = "ourselves"
_FIRST_DAY: Final = date(1970, 1, 1)


@dataclass(slots=True)
class ContentChange:
    """What happened to a manifest or a blob in one repository; ``None`` where nothing of the kind did.

    ``first_at`` is the earliest sign of it, ``alive_at`` the latest evidence that it exists.
    """

    first_at: datetime
    alive_at: datetime
    pushed_at: datetime | None = None
    pulled_at: datetime | None = None
    fetched_at: datetime | None = None
    checked_at: datetime | None = None
    media_type: str = ""
    size_bytes: int | None = None
    references: tuple[Descriptor, ...] = ()

    def join(self, other: ContentChange) -> None:
        """Take in another change of the same content."""
        self.first_at = min(self.first_at, other.first_at)
        self.alive_at = max(self.alive_at, other.alive_at)
        self.pushed_at = _latest(self.pushed_at, other.pushed_at)
        self.pulled_at = _latest(self.pulled_at, other.pulled_at)
        self.fetched_at = _latest(self.fetched_at, other.fetched_at)
        self.checked_at = _latest(self.checked_at, other.checked_at)
        # Content is the same whatever event tells of it; an event that says nothing must not win.
        self.media_type = max(self.media_type, other.media_type)
        self.size_bytes = other.size_bytes if self.size_bytes is None else self.size_bytes
        self.references = self.references or other.references


@dataclass(slots=True)
class PullCount:
    """How often, and when last."""

    count: int
    last_at: datetime


@dataclass(frozen=True, slots=True)
class TagPoint:
    """From ``at`` on the tag points to ``digest``, or is gone (``None``). ``cause`` says who did that."""

    repository: str
    tag: str
    at: datetime
    digest: Digest | None
    cause: str = EVENT


@dataclass(frozen=True, slots=True)
class Removal:
    """A manifest or blob was deleted, or with ``digest`` ``None`` the whole repository."""

    repository: str
    digest: Digest | None
    at: datetime


@dataclass(frozen=True, slots=True)
class Rename:
    """A path was renamed: repositories at and below it have other names from ``at`` on."""

    old_path: str
    new_path: str
    at: datetime


@dataclass(frozen=True, slots=True)
class TagPull:
    """Somebody asked for a tag and was given ``digest``: a hint, because the answer may be older than a push."""

    repository: str
    tag: str
    digest: Digest
    at: datetime


@dataclass(frozen=True, slots=True)
class PullKey:
    """What one pull counter counts. ``day`` is days since 1970 UTC, ``tag`` the one named in the request, if any."""

    repository: str
    digest: Digest
    tag: str
    day: int
    pull_class: str
    method: str


@dataclass(slots=True)
class Changes:
    """What a batch of events of one registry changes."""

    points: set[TagPoint] = field(default_factory=set)
    removals: set[Removal] = field(default_factory=set)
    tag_pulls: set[TagPull] = field(default_factory=set)
    manifests: dict[tuple[str, Digest], ContentChange] = field(default_factory=dict)
    blobs: dict[tuple[str, Digest], ContentChange] = field(default_factory=dict)
    pulls: dict[PullKey, PullCount] = field(default_factory=dict)
    hosts: dict[tuple[str, str], tuple[datetime, str]] = field(default_factory=dict)
    repositories: dict[str, datetime] = field(default_factory=dict)

    def join(self, other: Changes) -> None:
        """Take in the changes of another batch that has none of the events of this one."""
        self.points |= other.points
        self.removals |= other.removals
        self.tag_pulls |= other.tag_pulls
        for mine, theirs in ((self.manifests, other.manifests), (self.blobs, other.blobs)):
            for key, change in theirs.items():
                _join_content(mine, key, change)
        for pull, counted in other.pulls.items():
            _count(self.pulls, pull, counted.count, counted.last_at)
        for tag, named in other.hosts.items():
            self.hosts[tag] = max(self.hosts.get(tag, named), named)
        for name, at in other.repositories.items():
            self.repositories[name] = min(self.repositories.get(name, at), at)


@dataclass(frozen=True, slots=True)
class _Reading:
    """How events are understood."""

    classify: Callable[[Event], str]
    use: frozenset[str]
    is_own: Callable[[Event], bool]


def fold(
    events: Iterable[Event],
    classify: Callable[[Event], str],
    use: frozenset[str],
    *,
    is_own: Callable[[Event], bool] = lambda _: False,
) -> Changes:
    """The changes that ``events``, each there once, make. ``classify`` gives pulls a class; those in ``use`` are use.

    ``is_own`` says of an event that we caused it ourselves: what we put back is no push.
    """
    changes, reading = Changes(), _Reading(classify, use, is_own)
    for event in events:
        _fold_one(changes, event, reading)
    return changes


def _fold_one(changes: Changes, event: Event, reading: _Reading) -> None:
    name = event.repository
    if event.action is Action.RENAME:  # changes names, not what is under them
        return
    if event.action is Action.DELETE:
        _fold_deletion(changes, event, _cause(event, reading))
    else:
        changes.repositories[name] = min(changes.repositories.get(name, event.at), event.at)
        if event.digest is not None:
            _fold_content(changes, event, event.digest, reading)


def _cause(event: Event, reading: _Reading) -> str:
    return OURSELVES if reading.is_own(event) else EVENT


def _fold_deletion(changes: Changes, event: Event, cause: str) -> None:
    name, at = event.repository, event.at
    # A repository that is first heard of when something of it goes is kept too: what is older may come later.
    changes.repositories[name] = min(changes.repositories.get(name, at), at)
    if event.target is Target.TAG:
        changes.points.add(TagPoint(name, event.tag, at, None, cause))
    else:
        changes.removals.add(Removal(name, event.digest, at))


def _fold_content(changes: Changes, event: Event, digest: Digest, reading: _Reading) -> None:
    name, at = event.repository, event.at
    change = ContentChange(
        at, at, media_type=event.media_type, size_bytes=event.size_bytes, references=event.references
    )
    if event.action is not Action.PULL:
        cause = _cause(event, reading)
        change.pushed_at = None if cause == OURSELVES else at
        if event.tag:
            changes.points.add(TagPoint(name, event.tag, at, digest, cause))
            host = (at, event.host)
            changes.hosts[name, event.tag] = max(changes.hosts.get((name, event.tag), host), host)
    else:
        pull_class = reading.classify(event)
        method = CHECKED if event.method == CHECKED else FETCHED
        if method == CHECKED:
            change.checked_at = at
        else:
            change.fetched_at = at
        if pull_class in reading.use:
            change.pulled_at = at
        if event.target is Target.MANIFEST:
            key = PullKey(name, digest, event.tag, day_of(at), pull_class, method)
            _count(changes.pulls, key, 1, at)
            if event.tag:
                changes.tag_pulls.add(TagPull(name, event.tag, digest, at))
    _join_content(changes.manifests if event.target is Target.MANIFEST else changes.blobs, (name, digest), change)


def day_of(at: datetime) -> int:
    """The day of a moment, in days since 1970 UTC."""
    return (at.astimezone(UTC).date() - _FIRST_DAY).days


def _join_content(
    known: dict[tuple[str, Digest], ContentChange], key: tuple[str, Digest], change: ContentChange
) -> None:
    if (before := known.get(key)) is None:
        known[key] = change
    else:
        before.join(change)


def _count(pulls: dict[PullKey, PullCount], key: PullKey, count: int, last_at: datetime) -> None:
    if (before := pulls.get(key)) is None:
        pulls[key] = PullCount(count, last_at)
    else:
        before.count += count
        before.last_at = max(before.last_at, last_at)


def _latest(left: datetime | None, right: datetime | None) -> datetime | None:
    if left is None or right is None:
        return left or right
    return max(left, right)
