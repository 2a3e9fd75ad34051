"""What goes so that something fits a number of bytes, and how much better could another choice have been?

A blob is freed only when everything that holds it goes, so taking what frees most one by one can be arbitrarily bad.
Freed bytes minus a price times regret, though, is maximised exactly (``core.closure``), and the right price gives two
choices, one just below the goal and one just beyond; between the two lies a bound that no choice of any kind can beat.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple

from regwarden.core.closure import Group, choose_closure
from regwarden.core.policy_rules import BudgetOrder

# A million takes some twenty seconds, more where everything is shared in every way.
MAX_EXACT_LINKS: Final = 1_500_000
_REGRET_OF_NEW: Final = 1_000_000
_DAY_SECONDS: Final = 86_400


class Candidate(NamedTuple):
    """A root that may go. ``key`` names it for the caller and breaks ties; keys are unique and can be compared.

    ``holds`` are the caller's numbers of all that it reaches (its manifest, children, configs, layers), each once.
    ``regret`` is at least 1 (see ``regret_of``); ``rank`` is its place, 1 for the newest; both as the order needs it.
    """

    key: tuple[str, ...]
    holds: tuple[int, ...]
    regret: int = 1
    rank: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetContent:
    """What must fit. ``stored_bytes`` is all that the scope stores now, each blob once.

    ``sizes`` are the bytes of everything that candidates hold; ``held`` is what anything in the scope holds that is no
    candidate, so that it stays whatever goes.
    """

    stored_bytes: int
    sizes: Mapping[int, int]
    held: Collection[int] = frozenset()


class BudgetMethod(StrEnum):
    """How a choice was made."""

    NONE_NEEDED = "none-needed"  # it fits already
    ALL = "all"  # all that free something are needed, or do not even suffice
    RANK = "rank"  # the last by rank first
    EXACT = "minimum-cut"  # along the exact curve of bytes against regret
    GREEDY = "greedy"  # too many for that: by bytes for each regret


class BudgetChoice(NamedTuple):
    """What goes (``chosen``, sorted) and what is stored afterwards, if nothing else changes.

    ``regret`` is the sum of what was chosen, and no choice that meets the goal has less than ``least_regret``: the
    difference bounds how much better any other could be. For ``rank`` and ``all`` both are the same: no choice is left.
    """

    chosen: tuple[tuple[str, ...], ...]
    bytes_before: int
    bytes_after: int
    max_bytes: int
    method: BudgetMethod
    regret: int
    least_regret: int

    @property
    def is_met(self) -> bool:
        """Whether it fits afterwards."""
        return self.bytes_after <= self.max_bytes


def regret_of(last_used_at: datetime, now: datetime) -> int:
    """How much a root would be missed: 1,000,000 for one that is used right now, halved after a day, a tenth after 9.

    ``1,000,000 / (1 + days)``, rounded up, so never 0. ``last_used_at`` is the latest of its last known pull, its push
    and since when the tag points where it does; where a clock says "at the latest", that is later than the truth and
    the regret too high, which keeps.
    """
    idle_seconds = max(0, int((now - last_used_at).total_seconds()))
    return -(-_REGRET_OF_NEW * _DAY_SECONDS // (_DAY_SECONDS + idle_seconds))


def choose_for_budget(
    candidates: Sequence[Candidate],
    content: BudgetContent,
    max_bytes: int,
    *,
    order: BudgetOrder = BudgetOrder.LEAST_REGRET,
    exact_links: int = MAX_EXACT_LINKS,
) -> BudgetChoice:
    """Which candidates go so that the scope stores at most ``max_bytes``. Raises nothing.

    If all candidates together are not enough, all of them go and ``is_met`` is false. But nothing ever goes that could
    free nothing, because everything it holds is held by what stays. With more than ``exact_links`` pairs of a candidate
    and what only candidates hold (what the same ones hold counts once), the choice is greedy and its bound weaker.
    """
    pool = _Pool(sorted(candidates, key=lambda one: one.key), content)
    goal = content.stored_bytes - max_bytes
    if goal <= 0:
        return pool.result((), max_bytes, BudgetMethod.NONE_NEEDED)
    if order is BudgetOrder.RANK:
        return pool.result(_last_by_rank(pool, goal), max_bytes, BudgetMethod.RANK)
    useful = {member for group in pool.groups for member in group.members}
    if pool.freed_by(useful) <= goal:
        return pool.result(useful, max_bytes, BudgetMethod.ALL)
    if sum(len(group.members) for group in pool.groups) > exact_links:
        chosen = _pruned(pool, _filled(pool, set(), useful, goal), goal)
        return pool.result(chosen, max_bytes, BudgetMethod.GREEDY, _share_bound(pool, useful, goal))
    below, beyond, bound = _bracket(pool, useful, goal)
    choices = (beyond, _filled(pool, below, beyond, goal), _completed(pool, below, goal) or beyond)
    chosen = min((_pruned(pool, one, goal) for one in choices), key=lambda one: (pool.regret(one), sorted(one)))
    return pool.result(chosen, max_bytes, BudgetMethod.EXACT, bound)


class _Pool:
    """Candidates by number, and what only they hold, gathered into groups that are held by the same."""

    def __init__(self, candidates: list[Candidate], content: BudgetContent) -> None:
        self.candidates = candidates
        self.stored_bytes = content.stored_bytes
        holders: dict[int, list[int]] = {}
        for number, candidate in enumerate(candidates):
            for content_id in candidate.holds:
                holders.setdefault(content_id, []).append(number)
        gains: dict[tuple[int, ...], int] = {}
        for content_id, numbers in holders.items():
            if content_id not in content.held:
                members = tuple(numbers)
                gains[members] = gains.get(members, 0) + content.sizes[content_id]
        self.groups = [Group(gain, members) for members, gain in sorted(gains.items()) if gain > 0]
        self.groups_of: list[list[int]] = [[] for _ in candidates]
        for place, group in enumerate(self.groups):
            for member in group.members:
                self.groups_of[member].append(place)

    def freed_by(self, chosen: Collection[int]) -> int:
        return sum(gain for gain, members in self.groups if all(member in chosen for member in members))

    def regret(self, chosen: Iterable[int]) -> int:
        return sum(self.candidates[member].regret for member in chosen)

    def share_of(self, member: int) -> int:
        """Its part of what it holds, in equal parts, rounded up. What goes together frees at most its shares."""
        groups = (self.groups[place] for place in self.groups_of[member])
        return sum(-(-gain // len(members)) for gain, members in groups)

    def result(
        self, chosen: Collection[int], max_bytes: int, method: BudgetMethod, least_regret: int | None = None
    ) -> BudgetChoice:
        regret = self.regret(chosen)
        return BudgetChoice(
            chosen=tuple(self.candidates[member].key for member in sorted(chosen)),
            bytes_before=self.stored_bytes,
            bytes_after=self.stored_bytes - self.freed_by(chosen),
            max_bytes=max_bytes,
            method=method,
            regret=regret,
            least_regret=regret if least_regret is None else least_regret,
        )


class _Going:
    """What goes, with what is still missing in every group, so that adding and taking back are cheap."""

    def __init__(self, pool: _Pool, chosen: Collection[int]) -> None:
        self.pool = pool
        self.chosen: set[int] = set()
        self.missing = [len(group.members) for group in pool.groups]
        self.freed_bytes = 0
        for member in sorted(chosen):
            self.add(member)

    def add(self, member: int) -> None:
        self.chosen.add(member)
        for place in self.pool.groups_of[member]:
            self.missing[place] -= 1
            if not self.missing[place]:
                self.freed_bytes += self.pool.groups[place].gain

    def loss_of(self, member: int) -> int:
        """The bytes that are freed no longer if it stays."""
        return sum(self.pool.groups[place].gain for place in self.pool.groups_of[member] if not self.missing[place])

    def gain_of(self, member: int) -> int:
        """The bytes that are freed besides if it goes too."""
        return sum(self.pool.groups[place].gain for place in self.pool.groups_of[member] if self.missing[place] == 1)

    def take_back(self, member: int) -> None:
        self.freed_bytes -= self.loss_of(member)
        self.chosen.discard(member)
        for place in self.pool.groups_of[member]:
            self.missing[place] += 1


def _last_by_rank(pool: _Pool, goal: int) -> set[int]:
    going = _Going(pool, ())
    for member in sorted(range(len(pool.candidates)), key=lambda one: (pool.candidates[one].rank, one), reverse=True):
        if going.freed_bytes >= goal:
            break
        if pool.groups_of[member]:
            going.add(member)
    return going.chosen


def _filled(pool: _Pool, chosen: Collection[int], allowed: Collection[int], goal: int) -> set[int]:
    """Add what has the largest share of bytes for its regret until the goal is met, which all ``allowed`` do."""
    going = _Going(pool, chosen)
    for member in _by_worth(pool, set(allowed) - set(chosen)):
        if going.freed_bytes >= goal:
            break
        going.add(member)
    return going.chosen


def _completed(pool: _Pool, chosen: Collection[int], goal: int) -> set[int] | None:
    """Add the one least regretted candidate that is enough alone; ``None`` if there is none."""
    going = _Going(pool, chosen)
    others = (member for member in range(len(pool.candidates)) if member not in going.chosen)
    for member in sorted(others, key=lambda one: (pool.candidates[one].regret, one)):
        if going.freed_bytes + going.gain_of(member) >= goal:
            return {*chosen, member}
    return None


def _by_worth(pool: _Pool, members: Collection[int]) -> list[int]:
    # Exact with integers: two different quotients of regrets up to 2**32 differ by more than 2**-64.
    return sorted(members, key=lambda one: (-(pool.share_of(one) << 64) // pool.candidates[one].regret, one))


def _pruned(pool: _Pool, chosen: Collection[int], goal: int) -> set[int]:
    """Let stay what is not needed for the goal, the most regretted first."""
    going = _Going(pool, chosen)
    for member in sorted(chosen, key=lambda one: (-pool.candidates[one].regret, one)):
        if going.freed_bytes - going.loss_of(member) >= goal:
            going.take_back(member)
    return going.chosen


def _share_bound(pool: _Pool, useful: Collection[int], goal: int) -> int:
    """A regret that every choice has at least: as if parts of candidates could go, and each freed its share alone."""
    regret = 0
    for member in _by_worth(pool, useful):
        share, whole = pool.share_of(member), pool.candidates[member].regret
        if share >= goal:
            return regret + -(-whole * goal // share)
        goal -= share
        regret += whole
    return regret


def _bracket(pool: _Pool, useful: set[int], goal: int) -> tuple[set[int], set[int], int]:
    """Neighbours on the curve of best choices, below the goal and at or beyond it, and the bound between them.

    Every step asks for the best choice at the price at which both ends are equally good. It lies between them (best
    choices are nested), so that only what the far end has and the near one has not must be looked at, or there is
    none that is better, and they are neighbours.
    """
    below: set[int] = set()
    beyond = useful
    while True:
        freed, far = pool.freed_by(below), pool.freed_by(beyond)
        regret = pool.regret(beyond) - pool.regret(below)
        bound = pool.regret(below) + -(-(goal - freed) * regret // (far - freed))
        middle = below | _best_between(pool, below, beyond, bytes_gained=far - freed, regret=regret)
        gained = pool.freed_by(middle) - freed
        if gained * regret <= (pool.regret(middle) - pool.regret(below)) * (far - freed):
            return below, beyond, bound
        if freed + gained >= goal:
            beyond = middle
        else:
            below = middle


def _best_between(pool: _Pool, below: set[int], beyond: set[int], *, bytes_gained: int, regret: int) -> set[int]:
    """What to add to ``below`` at the price of ``bytes_gained`` for each ``regret``, within ``beyond``."""
    between = sorted(beyond - below)
    number_of = {member: number for number, member in enumerate(between)}
    groups = []
    for gain, members in pool.groups:
        if all(member in beyond for member in members):
            rest = tuple(number_of[member] for member in members if member not in below)
            if rest:
                groups.append(Group(gain * regret, rest))
    costs = [pool.candidates[member].regret * bytes_gained for member in between]
    return {between[number] for number in choose_closure(costs, groups)}
