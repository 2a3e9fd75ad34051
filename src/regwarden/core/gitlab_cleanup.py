"""Which tags would GitLab's own cleanup policy of a project remove, and why do the others stay?

As GitLab does it: with the metadata database it walks the tags in pages by name and spares the newest of each page;
without it, it looks at a random part of a long list. What cannot be told for sure is ``MAY_GO``.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, NamedTuple

from regwarden.core.patterns import PatternKind, parse_pattern
from regwarden.core.quantities import parse_moment
from regwarden.errors import InputError

PAGE_TAGS: Final = 1000
"""How many tags GitLab looks at together where the registry has the metadata database."""
SAMPLE_TAGS: Final = 200
"""How many tags a run looks at without it, besides those that it spares."""

_MOST_CHARACTERS: Final = 1000
_AGE: Final = re.compile(r"([0-9]{1,6}) ?(h|hours?|d|days?|w|weeks?|months?|mo|y|years?)")
_AGE_HOURS: Final = {"h": 1, "d": 24, "w": 7 * 24, "m": 30 * 24, "y": 365 * 24}
_CADENCES: Final = {
    "1d": "every day",
    "7d": "every week",
    "14d": "every two weeks",
    "1month": "every month",
    "3month": "every three months",
}


class Fate(StrEnum):
    """What becomes of a tag in one run."""

    GOES = "goes"
    MAY_GO = "may-go"
    STAYS = "stays"


class FateReason(StrEnum):
    """Why."""

    LATEST = "latest"
    NOT_MATCHED = "not-matched"
    KEPT_BY_NAME = "kept-by-name"
    NEWEST = "newest"
    YOUNG = "young"
    PROTECTED = "protected"
    UNDATED = "undated"
    SAMPLED = "sampled"
    EQUAL_DATES = "equal-dates"
    OLD = "old"


class CleanupTag(NamedTuple):
    """A tag as GitLab sees it: ``dated_at`` is what it goes by; ``None`` with ``is_dated``: GitLab has no date of it.

    Where ``is_dated`` is false, GitLab has a date that is not known here.
    """

    name: str
    dated_at: datetime | None
    is_protected: bool = False
    is_dated: bool = True


class CleanupVerdict(NamedTuple):
    """What becomes of a tag, and why; ``detail`` are words for people."""

    tag: str
    dated_at: datetime | None
    fate: Fate
    reason: FateReason
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanupPolicy:
    """A project's policy. Empty texts and ``None`` are what is not set."""

    is_enabled: bool
    cadence: str = ""
    keep_count: int | None = None
    older_than: str = ""
    name_regex: str = ""
    name_regex_keep: str = ""
    next_run_at: datetime | None = None


def read_cleanup_policy(given: Mapping[str, object]) -> CleanupPolicy:
    """The policy as GitLab's API gives it (``container_expiration_policy``); what is not understood is not set."""
    keep_count, next_run_at = given.get("keep_n"), _text(given.get("next_run_at"))
    is_count = isinstance(keep_count, int) and not isinstance(keep_count, bool) and 0 <= keep_count <= 1_000_000
    try:
        moment = parse_moment(next_run_at) if next_run_at else None
    except InputError:
        moment = None
    return CleanupPolicy(
        is_enabled=given.get("enabled") is True,
        cadence=_text(given.get("cadence")),
        keep_count=keep_count if is_count and isinstance(keep_count, int) else None,
        older_than=_text(given.get("older_than")),
        name_regex=_text(given.get("name_regex_delete")) or _text(given.get("name_regex")),
        name_regex_keep=_text(given.get("name_regex_keep")),
        next_run_at=moment,
    )


def describe_cleanup(policy: CleanupPolicy) -> str:
    """What it does, in a sentence."""
    if not policy.name_regex:
        return "Without an expression for names it removes nothing."
    when = _CADENCES.get(policy.cadence, f"every {policy.cadence}" if policy.cadence else "when GitLab runs it")
    parts = [f"Removes {when} tags named {policy.name_regex}"]
    if policy.older_than:
        parts.append(f"older than {policy.older_than}")
    if policy.name_regex_keep:
        parts.append(f"but none named {policy.name_regex_keep}")
    if policy.keep_count:
        parts.append(f"and spares the {policy.keep_count:,} newest of those named so")
    return f"{', '.join(parts)}; never latest."


def parse_age(text: str) -> timedelta:
    """The age of ``older_than`` as GitLab counts it (a month has 30 days). Raises ``InputError``."""
    match = _AGE.fullmatch(text)
    if match is None:
        raise InputError(f"{text[:80]!r} is no age of a cleanup policy", hint="GitLab knows 7d, 14d, 30d, 60d and 90d.")
    return timedelta(hours=int(match[1]) * _AGE_HOURS[match[2][0]])


class Limits(NamedTuple):
    """How much GitLab looks at together; others than its own are for tests."""

    page_tags: int = PAGE_TAGS
    sample_tags: int = SAMPLE_TAGS


GITLAB_LIMITS: Final = Limits()


def simulate_cleanup(
    policy: CleanupPolicy,
    tags: Iterable[CleanupTag],
    *,
    as_of: datetime,
    has_database: bool,
    limits: Limits = GITLAB_LIMITS,
) -> tuple[CleanupVerdict, ...]:
    """What one run at ``as_of`` would do to the tags of one repository, by name; also where it is switched off.

    ``has_database`` says that the registry has the metadata database. Raises ``InputError`` for an expression or an
    age that cannot be understood.
    """
    rules = _Rules.of(policy, as_of, limits)
    ordered = sorted(tags, key=lambda tag: tag.name.encode())
    if not has_database:
        return tuple(_judge_page(rules, ordered, is_sampled=True))
    size = rules.limits.page_tags
    pages = [ordered[start : start + size] for start in range(0, len(ordered), size)]
    among = f" of its {size:,} tags by name" if len(pages) > 1 else ""
    return tuple(verdict for page in pages for verdict in _judge_page(rules, page, among=among))


def build_name_test(policy: CleanupPolicy) -> Callable[[str], bool]:
    """Whether the policy may ever remove a tag of this name. Raises ``InputError`` for an expression that is none."""
    removes, keeps = _anchored(policy.name_regex), _anchored(policy.name_regex_keep)
    return lambda name: name != "latest" and removes(name) and not keeps(name)


@dataclass(frozen=True, slots=True)
class _Rules:
    policy: CleanupPolicy
    as_of: datetime
    limits: Limits
    removes: Callable[[str], bool]
    keeps: Callable[[str], bool]
    border: datetime | None

    @staticmethod
    def of(policy: CleanupPolicy, as_of: datetime, limits: Limits) -> _Rules:
        """Both expressions anchored as GitLab anchors them: without a group, so alternatives are half open."""
        border = as_of - parse_age(policy.older_than) if policy.older_than else None
        return _Rules(policy, as_of, limits, _anchored(policy.name_regex), _anchored(policy.name_regex_keep), border)

    def date_of(self, tag: CleanupTag) -> datetime:
        """What it is sorted by: without a date a tag is as new as can be."""
        return tag.dated_at or self.as_of


def _anchored(regex: str) -> Callable[[str], bool]:
    if not regex:
        return lambda _name: False
    try:
        return parse_pattern(rf"{PatternKind.SEARCH}\A{regex}\z").matches
    except InputError as error:
        raise InputError(f"the cleanup policy has {regex[:80]!r}: {error.message}", hint=error.hint) from None


def _judge_page(
    rules: _Rules, page: Sequence[CleanupTag], *, among: str = "", is_sampled: bool = False
) -> Iterator[CleanupVerdict]:
    candidates = [tag for tag in page if tag.name != "latest" and rules.removes(tag.name) and not rules.keeps(tag.name)]
    ranking = _Ranking(rules, candidates)
    chosen = rules.limits.sample_tags + (rules.policy.keep_count or 0)
    sampled_from = len(candidates) if is_sampled and len(candidates) > chosen else 0
    for tag in page:
        fate, reason, detail = _judge(rules, tag, ranking, sampled_from)
        detail += among if reason is FateReason.NEWEST else ""
        yield CleanupVerdict(tag.name, tag.dated_at, fate, reason, detail)


class _Ranking:
    """How many of the candidates are newer than one of them: certainly, and at most."""

    def __init__(self, rules: _Rules, candidates: Sequence[CleanupTag]) -> None:
        self._rules = rules
        self._dates = sorted(rules.date_of(tag) for tag in candidates if tag.is_dated)
        self._unknown_count = len(candidates) - len(self._dates)

    def newer_counts(self, tag: CleanupTag) -> tuple[int, int]:
        known = len(self._dates)
        if not tag.is_dated:
            return 0, known + self._unknown_count - 1
        date = self._rules.date_of(tag)
        at_most = known - bisect_left(self._dates, date) - 1 + self._unknown_count
        return known - bisect_right(self._dates, date), at_most


_Judged = tuple[Fate, FateReason, str]


def _judge(rules: _Rules, tag: CleanupTag, ranking: _Ranking, sampled_from: int) -> _Judged:
    if (judged := _judge_name(rules, tag)) is not None:
        return judged
    spared = rules.policy.keep_count or 0
    certain, possible = ranking.newer_counts(tag)
    if possible < spared:
        return Fate.STAYS, FateReason.NEWEST, f"It is one of the {spared:,} newest"
    if (judged := _judge_age(rules, tag)) is not None:
        return judged
    if tag.is_protected:
        return Fate.STAYS, FateReason.PROTECTED, "A rule of the project protects it"
    if not tag.is_dated and (rules.border is not None or spared):
        return Fate.MAY_GO, FateReason.UNDATED, "GitLab has a date of it that is not known here: crawl again"
    if certain < spared:
        return Fate.MAY_GO, FateReason.EQUAL_DATES, "Others have the same date, or one that is not known here"
    if sampled_from:
        part = rules.limits.sample_tags + spared
        detail = f"A run looks at {part:,} of {sampled_from:,} tags, chosen by chance; later runs at others"
        return Fate.MAY_GO, FateReason.SAMPLED, detail
    return Fate.GOES, FateReason.OLD, _why_it_goes(rules.policy)


def _judge_name(rules: _Rules, tag: CleanupTag) -> _Judged | None:
    policy = rules.policy
    if tag.name == "latest":
        return Fate.STAYS, FateReason.LATEST, "GitLab never removes latest"
    if not rules.removes(tag.name):
        return Fate.STAYS, FateReason.NOT_MATCHED, f"Its name is not {policy.name_regex or 'asked for'}"
    if rules.keeps(tag.name):
        return Fate.STAYS, FateReason.KEPT_BY_NAME, f"Its name is {policy.name_regex_keep}, which is kept"
    return None


def _judge_age(rules: _Rules, tag: CleanupTag) -> _Judged | None:
    if rules.border is None or not tag.is_dated:
        return None
    if tag.dated_at is None:
        return Fate.STAYS, FateReason.YOUNG, "It has no date, and is never older than anything"
    if tag.dated_at >= rules.border:
        return Fate.STAYS, FateReason.YOUNG, f"It is not older than {rules.policy.older_than}"
    return None


def _why_it_goes(policy: CleanupPolicy) -> str:
    age = f" and is older than {policy.older_than}" if policy.older_than else ""
    newest = f"; {policy.keep_count:,} newer ones are spared" if policy.keep_count else ""
    return f"Its name is {policy.name_regex}{age}{newest}"


def _text(value: object) -> str:
    return value if isinstance(value, str) and value.isprintable() and len(value) <= _MOST_CHARACTERS else ""
