"""Why does something stay or go? The reasons of verdicts, in words for people where they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Final, TypeAlias

from regwarden.core.policy_ranking import RankKey
from regwarden.core.policy_rules import Rule
from regwarden.core.recency import is_young, last_touched
from regwarden.core.retention_clocks import Test, last_arrival, tell_ago, tell_duration
from regwarden.core.retention_decision import Decision
from regwarden.core.retention_ranking import Place
from regwarden.core.retention_roots import Root
from regwarden.core.verdicts import Reason, ReasonCode

Reasons: TypeAlias = tuple[Reason, ...]

NO_RULE: Final = Reason(ReasonCode.DEFAULT_KEEP, detail="no rule speaks about it")
BY_DEFAULT: Final = Reason(ReasonCode.DEFAULT_DELETE, detail="no rule keeps it")
_VERSIONS: Final = frozenset({RankKey.SEMVER, RankKey.VERSION})


class Explaining:
    """Makes the reasons of the roots of one decision; without details equal reasons are one object."""

    def __init__(self, decision: Decision, *, with_details: bool) -> None:
        self._decision = decision
        self._with_details = with_details
        self._rulings = [
            (ruling, ruling.built.collected.policy, ruling.built.collected.title) for ruling in decision.rulings
        ]
        self._shared: dict[tuple[ReasonCode, int], Reasons] = {}
        self._stays: dict[tuple[int, int, int, int, int], Reasons] = {}
        self._unordered, self._meant = _unordered(decision)

    def staying(self, root: Root) -> Reasons:
        """Why a root stays that is held, kept, let pass or that nothing takes."""
        decision, position = self._decision, root.position
        if self._with_details or root.special is not None or root.is_follower:
            return self._all_staying(root)
        masks = (
            decision.held[position],
            decision.kept[position],
            decision.passed[position],
            decision.spared[position],
            self._unordered_by(root),
        )
        known = self._stays.get(masks)
        if known is None:
            known = self._stays[masks] = self._all_staying(root)
        return known

    def _all_staying(self, root: Root) -> Reasons:
        decision, position = self._decision, root.position
        kept, passed, spared = decision.kept[position], decision.passed[position], decision.spared[position]
        unordered = self._unordered_by(root)
        found = self._of(ReasonCode.PROTECTED, decision.held[position], root)
        found += self._of(ReasonCode.KEPT, kept & ~unordered, root)
        if not found and not kept:
            found += self._of(ReasonCode.CLAIMED, passed & ~unordered, root)
        found += self._of(ReasonCode.SPARED, spared & ~passed & ~unordered, root)
        found += self._of(ReasonCode.UNORDERED, (kept | spared) & unordered, root)
        if found:
            return found
        if root.special is not None or root.is_follower:
            kind = root.special or "referrers"
            return (Reason(ReasonCode.SPECIAL, detail=f"{kind} are taken only by rules that name them"),)
        return (tuple(self._refusals(root)) if self._with_details else ()) or (NO_RULE,)

    def _unordered_by(self, root: Root) -> int:
        """The rulings that keep or spare it only because the order is not known; none if nothing would delete it."""
        mask = self._unordered.get(root.position, 0)
        return mask if mask and (root.position in self._meant or self._decision.goes_by_default(root)) else 0

    def going(self, root: Root) -> Reasons:
        """Why a root goes."""
        return self._of(ReasonCode.DELETED, self._decision.taken[root.position], root) or (BY_DEFAULT,)

    def _of(self, code: ReasonCode, mask: int, root: Root) -> Reasons:
        if not mask:
            return ()
        if not self._with_details:
            known = self._shared.get((code, mask))
            if known is None:
                known = self._shared[code, mask] = tuple(self._make(code, number, "") for number in _bits(mask))
            return known
        tell = self._tell_protection if code is ReasonCode.PROTECTED else self._tell_rule
        return tuple(self._make(code, number, tell(number, root)) for number in _bits(mask))

    def _make(self, code: ReasonCode, number: int, detail: str) -> Reason:
        if code is ReasonCode.PROTECTED:
            protection = self._decision.protections[number]
            return Reason(code, protection.policy, protection.title, detail or protection.detail)
        _, policy, title = self._rulings[number]
        return Reason(code, policy, title, detail)

    def _tell_protection(self, number: int, root: Root) -> str:
        protection = self._decision.protections[number]
        return protection.detail or _told(protection.tests, root)

    def _tell_rule(self, number: int, root: Root) -> str:
        ruling = self._rulings[number][0]
        place = ruling.ranking.places.get(root.position) if ruling.ranking is not None else None
        parts = [tell_place(ruling.built.rule, place)] if place is not None else []
        parts += [text for text in (_told(ruling.built.match, root), _told(ruling.built.when, root)) if text]
        return ", ".join(parts)

    def _refusals(self, root: Root) -> Iterator[Reason]:
        """For each delete rule that selects (or may select) what no rule takes: why it does not take it."""
        for ruling, policy, title in self._rulings:
            built = ruling.built
            if built.keeps or not built.is_about(root):
                continue
            selected = [test.check(root) for test in built.match]
            if False in selected:
                continue
            tests = [test for test in (*built.match, *built.when) if not test.check(root)]
            if tests:
                yield Reason(ReasonCode.DEFAULT_KEEP, policy, title, _told(tests, root))


def _unordered(decision: Decision) -> tuple[dict[int, int], frozenset[int]]:
    """By position the rulings for which it is among the newest only as no order is known; what delete rules select."""
    masks: dict[int, int] = {}
    for number, ruling in enumerate(decision.rulings):
        for position in ruling.ranking.unordered if ruling.ranking is not None else ():
            masks[position] = masks.get(position, 0) | 1 << number
    deleting = (one for one in decision.rulings if not one.built.keeps) if masks else ()
    return masks, frozenset(root.position for one in deleting for root in one.sure)


def minimum_age(decision: Decision, root: Root, min_age: timedelta) -> str | None:
    """Why a root is too young to go: it was, or may have been, pushed, tagged or untagged lately; or ``None``."""
    now, manifest = decision.around.now, root.manifest
    if min_age and not root.tag and (manifest is None or manifest.untagged_since is None):
        return "when it was untagged is not known"
    touched_at = last_touched(manifest, root.entry)
    if not is_young(touched_at, min_age, now):
        return None
    if touched_at is None:
        return "when it was pushed is not known"
    is_untagged = manifest is not None and touched_at == manifest.untagged_since != last_arrival(root)[1]
    words = "untagged" if is_untagged else "pushed or tagged"
    return f"{words} {tell_ago(now, touched_at)}, nothing goes before {tell_duration(min_age)}"


def tell_place(rule: Rule, place: Place) -> str:
    """``2nd newest of 3 kept in group 1.4``."""
    if not place.number:
        return f"{place.reason}, so it is kept and not counted"
    word = "highest" if rule.rank.by[0] in _VERSIONS else "newest"
    group = f" in group {' '.join(place.group)}" if place.group else ""
    number = f"{'at best the ' if place.is_at_least else ''}{_ordinal(place.number)} {word}"
    if place.is_older_group:
        return f"{number}{group}, which is not among the {rule.groups} newest groups"
    if place.number <= (rule.counted or 0):
        doubt = f", as no order by {rule.rank.by[0]} is known" if place.is_at_least else ""
        return f"{number} of {rule.counted} kept{group}{doubt}"
    return f"{number}{group}, {rule.counted} are kept"


def _told(tests: tuple[Test, ...] | list[Test], root: Root) -> str:
    return ", ".join(text for text in (test.tell(root) for test in tests) if text)


def _bits(mask: int) -> Iterator[int]:
    number = 0
    while mask:
        if mask & 1:
            yield number
        mask >>= 1
        number += 1


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
