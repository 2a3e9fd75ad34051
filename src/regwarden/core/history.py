"""What did a tag point to, and when? Intervals, derived from what was observed of it and from deletions.

Both are set unions: neither the order in which they became known nor repetition changes an answer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from regwarden.core.oci.digests import Digest

CRAWL_MARGIN: Final = timedelta(seconds=60)
"""How much older than a crawl's request an event must be to be overruled by it; the clocks' measured skew is added."""

_NO_DIGEST: Final = b""
_AS_OBSERVED: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Point:
    """An observation: from ``at`` (aware UTC) on the tag points to ``digest``, or is gone (``None``).

    Of two points the one with the later ``effective_at`` stands. It is ``at`` for an event; for a crawl it is earlier,
    because what a registry answers may be older than the question.
    """

    at: datetime
    digest: Digest | None
    cause: str
    effective_at: datetime = _AS_OBSERVED

    def __post_init__(self) -> None:
        """An observation without a doubt about its time takes effect when it was made."""
        if self.effective_at is _AS_OBSERVED:
            object.__setattr__(self, "effective_at", self.at)


@dataclass(frozen=True, slots=True)
class Removal:
    """At ``at`` (aware UTC) a manifest was deleted from the tag's repository, or with ``None`` the whole repository."""

    at: datetime
    digest: Digest | None


@dataclass(frozen=True, slots=True)
class Interval:
    """A time in which a tag pointed to one digest, or was gone (``None``); ``until`` is open for the present one.

    ``cause`` is how its beginning became known: event, crawl or ourselves. A crawl notices a change at latest then.
    """

    digest: Digest | None
    since: datetime
    until: datetime | None
    cause: str


def resolve(points: Iterable[Point], removals: Iterable[Removal] = ()) -> Point | None:
    """What a tag points to by all that is known: the point that stands, or ``None`` if there is none at all.

    That is the one with the greatest ``effective_at``; of equal ones a digest stands against being gone, and the
    greater digest against the smaller. Where its digest, or the whole repository, was deleted after that, the answer is
    a point that says so (``digest`` is ``None``) with the time of the first such deletion.
    """
    winner = max(points, key=_rank, default=None)
    if winner is None or winner.digest is None:
        return winner
    ends = [one.at for one in removals if one.at > winner.effective_at and one.digest in (None, winner.digest)]
    return replace(winner, at=min(ends), effective_at=min(ends), digest=None, cause="event") if ends else winner


def build_intervals(points: Iterable[Point], removals: Iterable[Removal] = ()) -> tuple[Interval, ...]:
    """The intervals of one tag, oldest first: at each moment what ``resolve`` says of all that was observed until then.

    Seeing the same digest again begins no interval. The last interval is the present value.
    """
    found: list[Interval] = []
    for since, digest, cause in _changes(points, removals):
        if found:
            found[-1] = replace(found[-1], until=since)
        found.append(Interval(digest, since, None, cause))
    return tuple(found)


def _changes(points: Iterable[Point], removals: Iterable[Removal]) -> Iterator[tuple[datetime, Digest | None, str]]:
    observed: dict[datetime, list[Point]] = defaultdict(list)
    deleted: dict[datetime, list[Removal]] = defaultdict(list)
    for point in points:
        observed[point.at].append(point)
    for removal in removals:
        deleted[removal.at].append(removal)
    winner: Point | None = None
    last_removed: dict[Digest | None, datetime] = {}
    shown: tuple[Digest | None] | None = None
    for moment in sorted({*observed, *deleted}):
        winner = max((*observed[moment], *((winner,) if winner else ())), key=_rank, default=None)
        last_removed.update((removal.digest, moment) for removal in deleted[moment])
        if winner is None:
            continue
        removed = [last_removed[key] for key in (None, winner.digest) if key in last_removed]
        is_removed = winner.digest is not None and any(at > winner.effective_at for at in removed)
        digest = None if is_removed else winner.digest
        if shown != (digest,):
            yield moment, digest, "event" if is_removed else winner.cause
            shown = (digest,)


def _rank(point: Point) -> tuple[datetime, bytes, datetime, str]:
    digest = _NO_DIGEST if point.digest is None else point.digest.to_bytes()
    return point.effective_at, digest, point.at, point.cause


def find_interval(intervals: Sequence[Interval], moment: datetime) -> Interval | None:
    """The interval in which ``moment`` lies; ``None`` before the first observation, when nothing is known."""
    return next((found for found in reversed(intervals) if found.since <= moment), None)
