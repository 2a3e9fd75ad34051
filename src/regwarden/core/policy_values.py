"""How are the single values of a policy written: patterns, durations, percentages, names, periods, windows?"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import time, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Final

from regwarden.core.conditions import Condition, parse_condition
from regwarden.core.globs import GLOB_CHARACTERS
from regwarden.core.patterns import MAX_PATTERN_LENGTH, Pattern, PatternKind, parse_pattern
from regwarden.core.policy_problems import nearest
from regwarden.core.policy_shapes import CountShape, TextShape
from regwarden.core.quantities import parse_duration, parse_size
from regwarden.errors import InputError

MAX_COUNT: Final = 1_000_000
MAX_NAME_LENGTH: Final = 100

_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?")
_PERCENTAGE: Final = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,4})?) ?%")
_FOUND_ANYWHERE: Final = frozenset({PatternKind.SEARCH, PatternKind.START})


def parse_whole_pattern(text: str) -> Pattern:
    """A pattern that matches whole texts; raises ``InputError`` also for those that match a part."""
    pattern = parse_pattern(text)
    if pattern.kind in _FOUND_ANYWHERE:
        end = ".*" if pattern.kind is PatternKind.START else ""
        start = "" if pattern.kind is PatternKind.START else ".*"
        regex = f"re:{start}({pattern.text[:80]}){end or '.*'}"
        message = "in a policy a pattern always matches the whole text"
        raise InputError(message, hint=f"Write {regex}, if that is meant.", code="bad-pattern")
    return pattern


def parse_scope_pattern(text: str) -> Pattern:
    """The same for registries and repositories, whose names contain no ``*?[]{}``: with one of these it is a glob."""
    is_bare = ":" not in text and not text.startswith(("~", "<", ">", "=="))
    pattern = parse_whole_pattern(f"glob:{text}" if is_bare and GLOB_CHARACTERS & set(text) else text)
    if pattern.kind in (PatternKind.SEMVER, PatternKind.LOOSE, PatternKind.DATE):
        raise InputError(f"{text[:80]!r} is about tags, not repositories", hint="Write glob:, re: or the exact name.")
    return pattern


def _parse_name(text: str) -> str:
    if len(text) > MAX_NAME_LENGTH or _NAME.fullmatch(text) is None:
        hint = f"Use lower-case letters, digits, '.', '_' and '-', at most {MAX_NAME_LENGTH} of them."
        raise InputError(f"{text[:80]!r} is not a name", hint=hint)
    return text


def _parse_text(text: str) -> str:
    if not text.isprintable():
        raise InputError("a text of one line is wanted here", hint="Remove line breaks and control characters.")
    return text


def _parse_percentage(text: str) -> Decimal:
    match = _PERCENTAGE.fullmatch(text)
    if match is None or Decimal(match[1]) > 100:
        raise InputError(f"{text[:80]!r} is not a percentage", hint="Write 0% to 100%, for example 30%.")
    return Decimal(match[1])


def write_duration(duration: timedelta) -> str:
    """The shortest way to write it exactly: ``30d``, ``36h``, ``90s``."""
    microseconds = duration // timedelta(microseconds=1)
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)):
        if microseconds % (size * 1_000_000) == 0:
            return f"{microseconds // (size * 1_000_000)}{unit}"
    return f"{microseconds // 1_000_000}.{microseconds % 1_000_000:06d}s"


def write_size(size_bytes: int) -> str:
    """The shortest way to write it exactly: ``500GiB``, ``1500kB``, ``17B``."""
    for unit, size in (("PiB", 2**50), ("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("TB", 10**12), ("GB", 10**9)):
        if size_bytes and size_bytes % size == 0:
            return f"{size_bytes // size}{unit}"
    return f"{size_bytes}B"


class GroupKind(StrEnum):
    """What tags are put together for counting."""

    SEMVER_MAJOR = "semver-major"
    SEMVER_MINOR = "semver-minor"
    SEMVER_PATCH = "semver-patch"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    YEAR = "year"
    BRANCH = "branch"
    CAPTURE = "capture"
    LABEL = "label"


NAMED_GROUPS: Final = frozenset({GroupKind.CAPTURE, GroupKind.LABEL})
SEMVER_GROUPS: Final = frozenset({GroupKind.SEMVER_MAJOR, GroupKind.SEMVER_MINOR, GroupKind.SEMVER_PATCH})
PERIODS: Final = frozenset({GroupKind.DAY, GroupKind.WEEK, GroupKind.MONTH, GroupKind.YEAR})


@dataclass(frozen=True, slots=True)
class Grouping:
    """A kind of group, with the name of the capture or label where it needs one."""

    kind: GroupKind
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}" if self.name else str(self.kind)


def _parse_grouping(text: str) -> Grouping:
    word, colon, name = text.partition(":")
    known = [f"{kind}:NAME" if kind in NAMED_GROUPS else str(kind) for kind in GroupKind]
    hint = f"Known are: {', '.join(known)}."
    if word not in set(GroupKind):
        raise InputError(f"{text[:80]!r} is no way to group", hint=nearest(word, known))
    kind = GroupKind(word)
    if bool(name) != (kind in NAMED_GROUPS) or (colon and not name) or not name.isprintable():
        needs = "needs a name after a colon" if kind in NAMED_GROUPS else "takes no name"
        raise InputError(f"{word} {needs}", hint=hint)
    return Grouping(kind, name)


_WEEKDAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_WINDOW: Final = re.compile(
    r"(?P<days>[A-Za-z,-]+) +(?P<start>[0-9]{2}:[0-9]{2})-(?P<end>[0-9]{2}:[0-9]{2}) +(?P<zone>[A-Za-z0-9_+/-]{1,64})"
)
_WINDOW_HINT: Final = 'Write "Mon-Fri 10:00-16:00 Europe/Berlin": days (Mon,Wed or daily), times, a time zone (or UTC).'
_END_OF_DAY: Final = "24:00"


@dataclass(frozen=True, slots=True)
class Window:
    """Hours of some days of the week (0 is Monday) in a time zone. One that ends before it starts ends the next day."""

    days: tuple[int, ...]
    start: time
    end: time  # 00:00 is the end of the day
    zone: str

    @property
    def never_opens(self) -> bool:
        """Whether it ends when it starts (the whole day is written 00:00-24:00)."""
        return self.start == self.end and self.start != time()

    def __str__(self) -> str:
        first, last = self.days[0], self.days[-1]
        days = ",".join(_WEEKDAYS[day] for day in self.days)
        if len(self.days) == last - first + 1 > 2:
            days = f"{_WEEKDAYS[first]}-{_WEEKDAYS[last]}" if len(self.days) < len(_WEEKDAYS) else "daily"
        end = _END_OF_DAY if self.end == time() else f"{self.end:%H:%M}"
        return f"{days} {self.start:%H:%M}-{end} {self.zone}"


def _parse_window(text: str) -> Window:
    match = _WINDOW.fullmatch(text)
    if match is None:
        raise InputError(f"{text[:80]!r} is not a window of time", hint=_WINDOW_HINT)
    days = tuple(sorted({day for part in match["days"].split(",") for day in _parse_days(part, text)}))
    try:
        end = time() if match["end"] == _END_OF_DAY else time.fromisoformat(match["end"])
        return Window(days, time.fromisoformat(match["start"]), end, match["zone"])
    except ValueError:
        raise InputError(f"{text[:80]!r} names a time that no clock shows", hint=_WINDOW_HINT) from None


def _parse_days(part: str, text: str) -> tuple[int, ...]:
    if part == "daily":
        return tuple(range(len(_WEEKDAYS)))
    first, dash, last = part.partition("-")
    if first not in _WEEKDAYS or (dash and last not in _WEEKDAYS):
        hint = f"Days are {', '.join(_WEEKDAYS)}, ranges such as Mon-Fri, or daily."
        raise InputError(f"{text[:80]!r} names no day by {part[:20]!r}", hint=hint)
    start = _WEEKDAYS.index(first)
    end = _WEEKDAYS.index(last) if dash else start
    return tuple((start + step) % 7 for step in range((end - start) % 7 + 1))


def _parse_condition(text: str) -> Condition:
    return parse_condition("tag", text)


COUNT: Final = CountShape(1, MAX_COUNT)
NAME: Final = TextShape(
    title="a name",
    parse=_parse_name,
    pattern=f"^{_NAME.pattern}$",
    max_length=MAX_NAME_LENGTH,
    examples=("ci-default",),
)
TEXT: Final = TextShape(title="a text", parse=_parse_text)
LABEL_NAME: Final = TextShape(title="the name of a label", parse=_parse_text, max_length=256)
PATTERN: Final = TextShape(
    title="a pattern",
    parse=parse_whole_pattern,
    max_length=MAX_PATTERN_LENGTH,
    examples=("latest", "glob:dev-*", "semver:>=1.0.0", "re:v[0-9]+", "date:nightly-YYYYMMDD"),
)
SCOPE_PATTERN: Final = TextShape(
    title="a pattern of names",
    parse=parse_scope_pattern,
    max_length=MAX_PATTERN_LENGTH,
    examples=("glob:team/**", "team/app"),
)
CONDITION: Final = TextShape(
    title="a condition",
    parse=_parse_condition,
    max_length=4000,
    examples=("size > 500MiB", "platforms contains linux/arm64"),
)
DURATION: Final = TextShape(
    title="a duration",
    parse=parse_duration,
    to_text=write_duration,
    pattern=r"^([0-9]{1,12}(\.[0-9]{1,6})?[smhdwy])+$",
    examples=("30d", "12h"),
)
SIZE: Final = TextShape(title="a size", parse=parse_size, to_text=write_size, examples=("500GiB",))
PERCENTAGE: Final = TextShape(
    title="a percentage",
    parse=_parse_percentage,
    to_text=lambda share: f"{share.normalize():f}%",
    pattern=r"^[0-9]{1,3}(\.[0-9]{1,4})? ?%$",
    examples=("30%",),
)
GROUPING: Final = TextShape(
    title="a way to group", parse=_parse_grouping, max_length=300, examples=tuple(str(kind) for kind in GroupKind)
)
WINDOW: Final = TextShape(title="a window", parse=_parse_window, examples=("Mon-Fri 10:00-16:00 Europe/Berlin",))
