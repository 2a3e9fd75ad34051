"""In which order do the tags of a repository stand, the newest or highest first?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
from typing import Any, Final, TypeAlias

from regwarden.core.policy_matching import Pulled
from regwarden.core.policy_ranking import RankKey
from regwarden.core.policy_rules import Rule
from regwarden.core.retention_clocks import Span, created_at, last_arrival, last_pull, pushed_span, tagged_span
from regwarden.core.retention_roots import Root, Surroundings
from regwarden.core.versions import find_semantic_version, order_key

_USE: Final = Pulled()
_ALWAYS_KNOWN: Final = frozenset({RankKey.TAGGED, RankKey.PUSHED, RankKey.VERSION})
UNKNOWN_PART: Final = (0,)
"""What stands in a key where a later value of it is not known."""


Placed: TypeAlias = tuple[tuple[Any, ...], Root]


@dataclass(frozen=True, slots=True)
class Order:
    """Roots with their keys, the newest or highest first.

    ``unplaced`` are those without a value of the first key, ``has_gaps`` says whether some lack one of a later key.
    ``looked`` is of those (by position) whose first key is a time that is known at latest only: when it was not yet
    (``None``: it may have been at any time before), and when the crawl began that found it. What a later crawl finds is
    newer than what was there for an earlier one; what the same one finds has no order.
    """

    placed: list[Placed]
    unplaced: list[Root]
    has_gaps: bool
    looked: Mapping[int, tuple[datetime | None, datetime]]

    def walk(self, placed: Sequence[Placed]) -> Iterator[tuple[Placed, list[Root]]]:
        """Each of ``placed`` with those that are newer for certain, and were not known to be for the one before."""
        newer: list[Root]
        if not self.looked:  # then everything is newer than what comes after it
            newer = []
            for pair in placed:
                yield pair, newer
                newer = [pair[1]]
            return
        looked_at = self.looked.get
        found = [(looked[0], root) for _, root in placed if (looked := looked_at(root.position)) is not None]
        waiting = sorted([(moment, root) for moment, root in found if moment is not None], key=itemgetter(0))
        newer = []
        for pair in placed:
            root = pair[1]
            looked = looked_at(root.position)
            while waiting and (waiting[-1][0] > pair[0][0] if looked is None else waiting[-1][0] >= looked[1]):
                newer.append(waiting.pop()[1])
            yield pair, newer
            newer = [root] if looked is None else []


def order_of(rule: Rule, roots: Sequence[Root], around: Surroundings) -> Order:
    """Roots, in the order that a rule asks for. Manifests without a tag were never tagged: ``tagged`` is left out."""
    by = rule.rank.by
    if rule.untagged is not None:
        by = tuple(key for key in by if key is not RankKey.TAGGED) or (RankKey.PUSHED,)
    return _sorted(roots, by, around)


def _sorted(roots: Sequence[Root], by: tuple[RankKey, ...], around: Surroundings) -> Order:
    readers = [KEY_READERS[key] for key in by]
    unplaced: list[Root] = []
    placed: list[Placed] = []
    has_gaps = False
    certain = [number == 0 or key in _ALWAYS_KNOWN for number, key in enumerate(by)]
    is_simple = all(certain)
    first, others, span = readers[0], readers[1:], _SPANS.get(by[0])
    looked: dict[int, tuple[datetime | None, datetime]] = {}
    for root in roots:
        value = first(root, around)
        if value is None or root.manifest is None:
            unplaced.append(root)
            continue
        if span is not None:
            earliest, latest = span(root)
            if earliest != latest:
                not_yet, begun = around.looked(value)
                looked[root.position] = _latest(earliest, not_yet), begun
        values = (value, *[read(root, around) for read in others]) if others else (value,)
        if not is_simple:
            has_gaps = has_gaps or None in values
            values = tuple(
                value if is_certain else UNKNOWN_PART if value is None else (1, value)
                for value, is_certain in zip(values, certain, strict=True)
            )
        placed.append((values, root))
    placed.sort(key=itemgetter(0), reverse=True)
    _break_ties(placed)
    return Order(placed, unplaced, has_gaps, looked)


def _break_ties(placed: list[Placed]) -> None:
    """Bring what is equal into the order of digests, then of tags."""
    start = 0
    for end in range(1, len(placed) + 1):
        if end < len(placed) and placed[end][0] == placed[start][0]:
            continue
        if end - start > 1:
            placed[start:end] = sorted(placed[start:end], key=_tie_key)
        start = end


def _tie_key(pair: Placed) -> tuple[str, str]:
    return pair[1].digest or "", pair[1].tag


def _tagged(root: Root, around: Surroundings) -> datetime | None:
    del around
    return root.entry.tagged_at if root.entry is not None else None


def _pushed(root: Root, around: Surroundings) -> datetime | None:
    del around
    return root.manifest.first_seen_at if root.manifest is not None else None


def _created(root: Root, around: Surroundings) -> datetime | None:
    return created_at(root, around.now)


def _pulled(root: Root, around: Surroundings) -> datetime | None:
    """The last use; ``None`` where it was before pulls were recorded, for then it may have been at any time before."""
    latest = _use_span(root)[1]
    since = around.pulls_since
    return latest if latest is not None and since is not None and latest >= since else None


def _use_span(root: Root) -> Span:
    """When it was last pulled, pushed or tagged, as far as that was recorded."""
    recorded, (earliest, latest) = last_pull(root, _USE), last_arrival(root)
    return _latest(earliest, recorded), _latest(latest, recorded)


def _latest(moment: datetime | None, other: datetime | None) -> datetime | None:
    if moment is None or other is None:
        return moment or other
    return max(moment, other)


def is_in_one_period(clock: RankKey, root: Root, around: Surroundings, period_of: Callable[[datetime], str]) -> bool:
    """Whether a time that is known at latest only is in the same period at earliest."""
    span = _SPANS.get(clock)
    earliest, latest = span(root) if span is not None else (None, None)
    if latest is None or earliest == latest:
        return True
    earliest = _latest(earliest, around.looked(latest)[0])
    return earliest is not None and period_of(earliest) == period_of(latest)


_SPANS: Final[dict[RankKey, Callable[[Root], Span]]] = {
    RankKey.TAGGED: tagged_span,
    RankKey.PUSHED: pushed_span,
    RankKey.PULLED: _use_span,
}
KEY_READERS: Final[dict[RankKey, Callable[[Root, Surroundings], Any]]] = {
    RankKey.TAGGED: _tagged,
    RankKey.PUSHED: _pushed,
    RankKey.CREATED: _created,
    RankKey.PULLED: _pulled,
    RankKey.SEMVER: lambda root, _: find_semantic_version(root.tag),
    RankKey.VERSION: lambda root, _: order_key(root.tag) if root.tag else None,
}
