"""What did a tag point to, and when? Intervals, derived from the points at which it was observed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from regwarden.core.oci.digests import Digest


@dataclass(frozen=True, slots=True)
class Point:
    """An observation: from ``at`` (aware UTC) on the tag points to ``digest``, or is gone (``None``)."""

    at: datetime
    digest: Digest | None
    cause: str


@dataclass(frozen=True, slots=True)
class Interval:
    """A time in which a tag pointed to one digest, or was gone (``None``); ``until`` is open for the present one.

    ``cause`` is how its beginning became known: event, crawl or ourselves. A crawl notices a change at latest then.
    """

    digest: Digest | None
    since: datetime
    until: datetime | None
    cause: str


def build_intervals(points: Iterable[Point]) -> tuple[Interval, ...]:
    """The intervals of one tag, oldest first, whatever the order and repetition of its points.

    Of points of the same moment a digest stands against being gone, and the greater digest against the smaller.
    """
    ordered = sorted(
        set(points), key=lambda point: (point.at, point.digest is not None, str(point.digest), point.cause)
    )
    changes: list[Point] = []
    for point in ordered:
        if changes and changes[-1].at == point.at:
            changes.pop()
        if not changes or changes[-1].digest != point.digest:
            changes.append(point)
    ends: list[datetime | None] = [*(point.at for point in changes[1:]), None]
    return tuple(
        Interval(point.digest, point.at, until, point.cause) for point, until in zip(changes, ends, strict=False)
    )


def find_interval(intervals: Sequence[Interval], moment: datetime) -> Interval | None:
    """The interval in which ``moment`` lies; ``None`` before the first observation, when nothing is known."""
    return next((found for found in reversed(intervals) if found.since <= moment), None)
