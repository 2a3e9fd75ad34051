"""How old is a tag or manifest by each of the named clocks, if a time is known exactly, at latest or not at all?

A moment is a span: not earlier than the one end and not later than the other; ``None`` is an end that is not known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple, TypeAlias

from regwarden.core.policy_matching import Age, Clock, Expiry, Pulled
from regwarden.core.quantities import is_date, parse_duration, parse_moment
from regwarden.core.retention_roots import Root, Surroundings
from regwarden.errors import InputError

Span: TypeAlias = tuple[datetime | None, datetime | None]

UNKNOWN: Final[Span] = (None, None)
FIRST_BELIEVED: Final = datetime(2013, 1, 1, tzinfo=UTC)
"""There were no such images before: an earlier time is what reproducible builds write."""

_DAY: Final = timedelta(days=1)
_UNITS: Final = (("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1))


class Test(NamedTuple):
    """One condition.

    Whether it holds (``None``: unknown), what a person is told about it, and at which moments the answer may change if
    nothing else does.
    """

    check: Callable[[Root], bool | None]
    tell: Callable[[Root], str]
    turns: Callable[[Root], Iterator[datetime]]


def tagged_span(root: Root) -> Span:
    """Since when the tag points to its digest."""
    entry = root.entry
    if entry is None:
        return UNKNOWN
    return (entry.tagged_at if entry.is_tagged_exact else None), entry.tagged_at


def pushed_span(root: Root) -> Span:
    """Since when the digest is in the repository."""
    manifest = root.manifest
    if manifest is None:
        return UNKNOWN
    return (manifest.first_seen_at if manifest.is_pushed_exact else None), manifest.first_seen_at


def untagged_span(root: Root) -> Span:
    """Since when no tag points to it."""
    manifest = root.manifest
    if root.tag or manifest is None or manifest.untagged_since is None:
        return UNKNOWN
    return (manifest.untagged_since if manifest.is_untagged_exact else None), manifest.untagged_since


def created_at(root: Root, now: datetime) -> datetime | None:
    """When it was built, as it says itself; ``None`` where it says nothing or what cannot be."""
    created = root.manifest.created_at if root.manifest is not None else None
    return created if created is not None and FIRST_BELIEVED <= created <= now else None


def last_arrival(root: Root) -> Span:
    """When it was last pushed or tagged: what the age of something that was never pulled counts from."""
    entry, manifest = root.entry, root.manifest
    earliest = latest = None
    if entry is not None:
        latest = entry.tagged_at
        if entry.is_tagged_exact:
            earliest = latest
    if manifest is not None:
        latest = _latest(latest, manifest.first_seen_at)
        if manifest.is_pushed_exact:
            earliest = _latest(earliest, manifest.first_seen_at)
        if manifest.last_pushed_at is not None:
            latest = _latest(latest, manifest.last_pushed_at)
            earliest = _latest(earliest, manifest.last_pushed_at)
    return earliest, latest


def last_use(root: Root, pulled: Pulled, around: Surroundings) -> Span:
    """When it was last pulled in a way that counts, or pushed or tagged if that was later.

    Pulls of its digest count, whichever tag they named. Before pulls were recorded there may have been any.
    """
    earliest, latest = last_arrival(root)
    recorded = last_pull(root, pulled)
    if recorded is not None:
        earliest = _latest(earliest, recorded)
        latest = _latest(latest, recorded)
    if around.pulls_since is None or latest is None:
        return earliest, None
    return earliest, _latest(latest, around.pulls_since)


def last_pull(root: Root, pulled: Pulled) -> datetime | None:
    """The last recorded pull that counts; ``None`` if there is none."""
    if root.manifest is None or not root.manifest.pulls:
        return None
    by, methods = pulled.by, pulled.methods
    return max((one.at for one in root.manifest.pulls if one.pull_class in by and one.method in methods), default=None)


def _latest(moment: datetime | None, other: datetime) -> datetime:
    return other if moment is None or other > moment else moment


def is_of_age(span: Span, oldest: datetime | None, youngest: datetime | None) -> bool | None:
    """Whether a moment is before ``youngest`` (older than an age) and not before ``oldest`` (within an age)."""
    earliest, latest = span
    answer: bool | None = True
    if youngest is not None:
        if earliest is not None and earliest >= youngest:
            return False
        if latest is None or latest >= youngest:
            answer = None
    if oldest is not None:
        if latest is not None and latest < oldest:
            return False
        if earliest is None or earliest < oldest:
            answer = None
    return answer


def build_age_test(name: str, age: Age, around: Surroundings) -> Test:
    """The condition ``name: {older-than: …, within: …}``; ``name`` is a clock, ``untagged`` or ``pulled``."""
    now = around.now
    span_of = _span_reader(name, age, around)
    youngest = now - age.older_than if age.older_than is not None else None
    oldest = now - age.within if age.within is not None else None
    wanted = _wanted(age)

    def check(root: Root) -> bool | None:
        return is_of_age(span_of(root), oldest, youngest)

    def tell(root: Root) -> str:
        span = span_of(root)
        text = _told(name, root, span, age=age, around=around)
        return text if is_of_age(span, oldest, youngest) else f"{text}, the rule wants {wanted}"

    def turns(root: Root) -> Iterator[datetime]:
        ends = {end for end in span_of(root) if end is not None}
        for limit in (age.older_than, age.within):
            yield from (end + limit for end in ends if limit is not None)
        if isinstance(age, Pulled) and around.events_since is not None and around.pulls_known_at is not None:
            yield around.pulls_known_at
            started = _latest(last_arrival(root)[1], around.events_since)
            yield from (started + limit for limit in (age.older_than, age.within) if limit is not None)

    return Test(check, tell, turns)


def build_expiry_test(expiry: Expiry, around: Surroundings) -> Test:
    """The condition ``expired``: a label's duration since a clock, or its date, has passed."""
    span_of = _span_reader(expiry.since.value, Age(), around)
    now = around.now

    def ends_of(root: Root) -> Span:
        labels = root.manifest.labels if root.manifest is not None else None
        lifetime = parse_lifetime((labels or {}).get(expiry.label, ""))
        if isinstance(lifetime, timedelta):
            earliest, latest = span_of(root)
            return _later(earliest, lifetime), _later(latest, lifetime)
        return lifetime, lifetime

    def check(root: Root) -> bool | None:
        earliest, latest = ends_of(root)
        if latest is not None and latest < now:
            return True
        return False if earliest is not None and earliest >= now else None

    def tell(root: Root) -> str:
        labels = root.manifest.labels if root.manifest is not None else None
        if labels is None:
            return "its labels are not known"
        if expiry.label not in labels:
            return f"it has no label {expiry.label}"
        ends = ends_of(root)
        if ends == UNKNOWN:
            return f"when it expires is not known by the label {expiry.label}"
        end = ends[1] or ends[0]
        return f"expires {tell_moment(end)} by the label {expiry.label}" if end is not None else ""

    def turns(root: Root) -> Iterator[datetime]:
        yield from {end for end in ends_of(root) if end is not None}

    return Test(check, tell, turns)


def parse_lifetime(text: str) -> timedelta | datetime | None:
    """What a label such as ``2w``, ``2026-01-31`` or ``2026-01-31T12:00:00Z`` says; ``None`` for anything else.

    Something that lives until a date lives through that day (UTC).
    """
    if not text or len(text) > 64:
        return None
    try:
        return parse_duration(text)
    except InputError:
        pass
    try:
        return parse_moment(text) + (_DAY if is_date(text) else timedelta())
    except (InputError, OverflowError):
        return None


def tell_ago(now: datetime, moment: datetime) -> str:
    """``3 days ago``."""
    seconds = (now - moment).total_seconds()
    if seconds < 0:
        return f"in the future ({tell_moment(moment)})"
    for unit, size in _UNITS:
        if seconds >= size:
            return f"{_counted(int(seconds // size), unit)} ago"
    return "just now"


def tell_duration(duration: timedelta) -> str:
    """``7 days``, ``36 hours``."""
    seconds = duration.total_seconds()
    for unit, size in _UNITS:
        if seconds and seconds % size == 0:
            return _counted(int(seconds // size), unit)
    return f"{seconds:g} seconds"


def tell_moment(moment: datetime) -> str:
    """``2026-11-01``, with the time if it is not midnight."""
    utc = moment.astimezone(UTC)
    return f"{utc:%Y-%m-%d}" if utc.time() == datetime.min.time() else f"{utc:%Y-%m-%d %H:%M} UTC"


def _span_reader(name: str, age: Age, around: Surroundings) -> Callable[[Root], Span]:
    if isinstance(age, Pulled):
        return lambda root: last_use(root, age, around)
    if name == Clock.CREATED:
        return lambda root: (created_at(root, around.now),) * 2
    return {Clock.TAGGED.value: tagged_span, Clock.PUSHED.value: pushed_span}.get(name, untagged_span)


def _told(name: str, root: Root, span: Span, *, age: Age, around: Surroundings) -> str:
    earliest, latest = span
    if isinstance(age, Pulled):
        return _told_pulled(root, span, age, around)
    if latest is None:
        return f"when it was {name} is not known"
    return f"{name} {tell_ago(around.now, latest)}{'' if earliest is not None else ' or earlier'}"


def _told_pulled(root: Root, span: Span, pulled: Pulled, around: Surroundings) -> str:
    recorded = last_pull(root, pulled)
    if recorded is not None and recorded == span[0]:
        return f"last pulled {tell_ago(around.now, recorded)}"
    if around.pulls_since is None:
        when = "" if around.pulls_known_at is None else f" before {tell_moment(around.pulls_known_at)}"
        return f"whether it was pulled is not known{when}"
    arrival = last_arrival(root)[1]
    came = "" if arrival is None else f"; last pushed or tagged {tell_ago(around.now, arrival)}"
    return f"not pulled since {tell_moment(max(around.pulls_since, recorded or around.pulls_since))}{came}"


def _wanted(age: Age) -> str:
    parts = [f"older than {tell_duration(age.older_than)}"] if age.older_than is not None else []
    parts += [f"within {tell_duration(age.within)}"] if age.within is not None else []
    return " and ".join(parts)


def _later(moment: datetime | None, lifetime: timedelta) -> datetime | None:
    return moment + lifetime if moment is not None else None


def _counted(count: int, unit: str) -> str:
    return f"{count} {unit}" + ("s" if count != 1 else "")
