"""Which tags are counted together: those of a minor version, a month, a branch, a label?"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import Any, Final, TypeAlias

import re2

from regwarden.core.patterns import Pattern, PatternKind
from regwarden.core.policy_matching import Match
from regwarden.core.policy_ranking import RankKey
from regwarden.core.policy_rules import Rule, capture_names
from regwarden.core.policy_values import PERIODS, SEMVER_GROUPS, Grouping, GroupKind
from regwarden.core.retention_orders import KEY_READERS, is_in_one_period
from regwarden.core.retention_roots import Root, Surroundings
from regwarden.core.versions import find_semantic_version

GroupKey: TypeAlias = tuple[str, ...]

_CLOCKS: Final = frozenset({RankKey.TAGGED, RankKey.PUSHED, RankKey.CREATED, RankKey.PULLED})
_SEMVER_PARTS: Final = {GroupKind.SEMVER_MAJOR: 1, GroupKind.SEMVER_MINOR: 2, GroupKind.SEMVER_PATCH: 3}
# Numbers (a date with separators is several), a date with a time, commit ids.
_BUILD: Final = re.compile(r"(?<=.)[-_.](?:[0-9]+|[0-9]{8}[Tt][0-9]{4,6}[Zz]?|[0-9a-fA-F]{7,40})$")


def group_reader(rule: Rule, around: Surroundings) -> Callable[[Root], GroupKey | None]:
    """How the group of a root is found; ``None`` for one that belongs to none."""
    if not rule.per:
        return lambda _: ()
    clock = _clock_of(rule)
    readers = [_part_reader(one, rule.match, clock, around) for one in rule.per]
    read_first = readers[0]

    def group_of_one(root: Root) -> GroupKey | None:
        part = read_first(root)
        return None if part is None else (part,)

    def group_of(root: Root) -> GroupKey | None:
        parts: list[str] = []
        for read in readers:
            part = read(root)
            if part is None:
                return None
            parts.append(part)
        return tuple(parts)

    return group_of if len(readers) > 1 else group_of_one


def may_be_in_any_group(rule: Rule, root: Root, around: Surroundings) -> bool:
    """Whether a root that seems to be in no group is so only because a fact is missing."""
    for one in rule.per:
        if one.kind is GroupKind.LABEL and (root.manifest is None or root.manifest.labels is None):
            return True
        if one.kind in PERIODS and _part_reader(one, rule.match, _clock_of(rule), around)(root) is None:
            return True
    return False


def is_ordered_by_itself(rule: Rule) -> bool:
    """Whether the order of the groups is known from what they are called: periods of the clock that ranks first."""
    return all(one.kind in PERIODS for one in rule.per) and rule.rank.by[0] in _CLOCKS and len(rule.per) == 1


def _clock_of(rule: Rule) -> RankKey:
    clock = next((key for key in rule.rank.by if key in _CLOCKS), RankKey.TAGGED)
    return RankKey.PUSHED if rule.untagged is not None and clock is RankKey.TAGGED else clock


def _part_reader(
    grouping: Grouping, match: Match, clock: RankKey, around: Surroundings
) -> Callable[[Root], str | None]:
    kind = grouping.kind
    if kind in SEMVER_GROUPS:
        return lambda root: _semver_group(root.tag, _SEMVER_PARTS[kind])
    if kind in PERIODS:
        return _period_reader(kind, clock, around)
    if kind is GroupKind.LABEL:
        return lambda root: _label(root, grouping.name)
    if kind is GroupKind.BRANCH:
        return lambda root: branch_of(root.tag) or None
    return _capture_reader(grouping.name, match)


def _semver_group(tag: str, parts: int) -> str | None:
    found = find_semantic_version(tag)
    return _dotted(found.release[:parts]) if found is not None else None


@lru_cache(maxsize=10_000)  # many tags are of one version
def _dotted(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))


def _period_reader(kind: GroupKind, clock: RankKey, around: Surroundings) -> Callable[[Root], str | None]:
    read, period_of = KEY_READERS[clock], partial(_period, kind)

    def period(root: Root) -> str | None:
        moment: datetime | None = read(root, around)
        if moment is None or not is_in_one_period(clock, root, around, period_of):
            return None
        return period_of(moment)

    return period


def _period(kind: GroupKind, moment: datetime) -> str:
    utc = moment if moment.tzinfo is UTC else moment.astimezone(UTC)
    if kind is GroupKind.WEEK:
        year, week, _ = utc.isocalendar()
        return f"{year}-W{week:02}"
    return utc.date().isoformat()[: {GroupKind.YEAR: 4, GroupKind.MONTH: 7}.get(kind, 10)]


def _label(root: Root, name: str) -> str | None:
    labels = root.manifest.labels if root.manifest is not None else None
    return labels.get(name) if labels is not None else None


def branch_of(tag: str) -> str:
    """The beginning of a tag, without the numbers, dates and commit ids that follow it after ``-``, ``_`` or ``.``."""
    while (found := _BUILD.search(tag)) is not None:
        tag = tag[: found.start()]
    return tag


def _capture_reader(name: str, match: Match) -> Callable[[Root], str | None]:
    tags = match.tags
    patterns = (*tags.any, *tags.all, *tags.all_of_digest, *tags.any_of_digest) if tags is not None else ()
    matchers = [_matcher(one, name) for one in patterns if one.kind is PatternKind.REGEX and name in capture_names(one)]

    def read(root: Root) -> str | None:
        for fullmatch, number in matchers:
            found = fullmatch(root.tag)
            if found is not None:
                text: str | None = found.group(number)
                return text
        return None

    return read


def _matcher(pattern: Pattern, name: str) -> tuple[Callable[[str], Any], int]:
    """How a pattern is matched, and the number of its group of that name (asking by name costs more than matching)."""
    options = re2.Options()
    options.log_errors = False
    compiled = re2.compile(pattern.text, options)
    return compiled.fullmatch, compiled.groupindex[name]
