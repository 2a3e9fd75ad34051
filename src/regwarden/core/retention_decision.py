"""Which protections hold, which keep rules keep and which delete rules take each root of a repository?

Every rule is evaluated alone on everything in the scope; what it finds is a bit in the mask of each root.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from regwarden.core.observed import Hold, ObservedRegistry, ObservedRepository
from regwarden.core.policy import Default
from regwarden.core.policy_ranking import RankOver
from regwarden.core.retention_collecting import RepositoryPolicies
from regwarden.core.retention_matching import all_hold, needs_siblings
from regwarden.core.retention_ranking import Counted, Ranking, rank
from regwarden.core.retention_roots import Root, Surroundings, list_roots, surroundings_of
from regwarden.core.retention_rules import (
    BuiltProtection,
    BuiltRule,
    Kinds,
    build_holds,
    build_protection,
    build_rule,
    sort_out,
)


@dataclass(slots=True)
class Ruling:
    """One rule and what it found.

    The roots that it selects and those that it may select, the positions that it claims (``None``: it is of no order),
    and the places if it counts.
    """

    built: BuiltRule
    claimed: set[int] | None = None
    ranking: Ranking | None = None
    sure: list[Root] = field(default_factory=list)
    maybe: list[Root] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Decision:
    """What was found about all roots: masks by their position.

    Bit ``n`` of ``held`` is protection ``n``; of ``kept``, ``taken``, ``spared`` and ``passed`` ruling ``n``: it keeps,
    takes, would take but for its count, has claimed and let pass.
    """

    roots: list[Root]
    around: Surroundings
    protections: list[BuiltProtection]
    rulings: list[Ruling]
    default: Default
    held: list[int]
    kept: list[int]
    taken: list[int]
    spared: list[int]
    passed: list[int]
    with_places: bool

    def stays(self, root: Root) -> bool:
        """Whether something holds or keeps it, or a rule that claims it lets it pass."""
        position = root.position
        return bool(self.held[position] or self.kept[position] or self.passed[position])

    def would_go(self, root: Root) -> bool:
        """Whether it goes, but for its age."""
        position = root.position
        if self.held[position] or self.kept[position] or self.passed[position]:
            return False
        return bool(self.taken[position]) or self.goes_by_default(root)

    def goes_by_default(self, root: Root) -> bool:
        """Whether it goes if no rule speaks about it. Special tags never do."""
        return self.default is Default.DELETE and root.special is None and not root.is_follower


def decide(
    collected: RepositoryPolicies,
    repository: ObservedRepository,
    registry: ObservedRegistry,
    *,
    holds: Sequence[Hold],
    now: datetime,
    with_places: bool,
) -> Decision:
    """Evaluate all rules and protections. ``with_places``: the places of all counted roots are asked for."""
    everything = [*collected.rules, *(one for rules in collected.ordered for one in rules)]
    matches = [*(one.rule.match for one in everything), *(one.protection for one in collected.protections)]
    around = surroundings_of(
        repository,
        registry,
        now=now,
        history=collected.pull_history,
        by_digest=any(needs_siblings(match) for match in matches),
    )
    roots = list_roots(repository, is_explicit=collected.is_explicit)
    made = [build_protection(one.policy, one.title, one.protection, around) for one in collected.protections]
    decision = Decision(
        roots=roots,
        around=around,
        protections=[*build_holds(holds, repository, around), *(one for one in made if one is not None)],
        rulings=[],
        default=collected.default,
        held=[0] * len(roots),
        kept=[0] * len(roots),
        taken=[0] * len(roots),
        spared=[0] * len(roots),
        passed=[0] * len(roots),
        with_places=with_places,
    )
    for number, protection in enumerate(decision.protections):
        _mark(decision.held, number, protection.select(roots))
    _rule(decision, collected)
    return decision


def _rule(decision: Decision, collected: RepositoryPolicies) -> None:
    around, roots = decision.around, decision.roots
    kinds = sort_out(roots)
    for one in collected.rules:
        ruling = Ruling(build_rule(one, around))
        ruling.sure, ruling.maybe = ruling.built.select(kinds)
        decision.rulings.append(ruling)
    for rules in collected.ordered:
        decision.rulings += _claim([build_rule(one, around) for one in rules], kinds)
    numbered = list(enumerate(decision.rulings))
    late = [pair for pair in numbered if _counts_candidates(pair[1])]
    for number, ruling in numbered:
        if not _counts_candidates(ruling):
            _apply(decision, number, ruling)
    if late:
        _rule_late(decision, late)


def _rule_late(decision: Decision, late: list[tuple[int, Ruling]]) -> None:
    """What counts among candidates looks at what all others have decided, never at each other: deletes, then keeps."""
    deletes = [pair for pair in late if not pair[1].built.keeps]
    keeps = [pair for pair in late if pair[1].built.keeps]
    free = {root.position for root in decision.roots if not decision.stays(root)}
    for number, ruling in deletes:
        _apply(decision, number, ruling, among=free)
    leaving = {root.position for root in decision.roots if decision.would_go(root)}
    for number, ruling in keeps:
        _apply(decision, number, ruling, among=leaving)


def _counts_candidates(ruling: Ruling) -> bool:
    rule = ruling.built.rule
    return rule.counted is not None and rule.rank.over is RankOver.CANDIDATES


def _candidates(ruling: Ruling, among: set[int]) -> set[int]:
    """What would go without the count of a rule: of a delete rule what fulfils its conditions, too.

    A keep rule counts before its conditions, as it does among all that match: otherwise a pull could cost another tag
    its place.
    """
    when = () if ruling.built.keeps else ruling.built.when
    found = {root.position for root in ruling.sure if root.position in among and (not when or all_hold(when, root))}
    return found if ruling.claimed is None else found & ruling.claimed


def _claim(rules: list[BuiltRule], kinds: Kinds) -> list[Ruling]:
    """Every root is claimed by the first rule that selects it, or that may select it."""
    found: list[Ruling] = []
    free = {root.position for roots in kinds for root in roots}
    for built in rules:
        ruling = Ruling(built, set())
        ruling.sure, ruling.maybe = built.select(kinds)
        ruling.claimed = {root.position for root in (*ruling.sure, *ruling.maybe) if root.position in free}
        free -= ruling.claimed
        found.append(ruling)
    return found


def _apply(decision: Decision, number: int, ruling: Ruling, *, among: set[int] | None = None) -> None:
    """Count, ``among`` candidates only if they are given, and mark what the rule keeps, takes, spares, lets pass."""
    built = ruling.built
    if built.rule.counted is not None:
        going = _candidates(ruling, among) if among is not None else None
        counted = Counted(selected=ruling.sure, unsure=ruling.maybe, going=going, with_places=decision.with_places)
        ruling.ranking = rank(built.rule, counted, decision.around)
    if built.keeps:
        kept = _kept_by(ruling)
        _mark(decision.kept, number, kept if among is None else (root for root in kept if root.position in among))
    else:
        _take(decision, number, ruling)
    if ruling.claimed is not None:
        _mark(decision.passed, number, (root for root in ruling.maybe if root.position in ruling.claimed))


def _kept_by(ruling: Ruling) -> Iterator[Root]:
    """What a keep rule keeps: unknown counts as true, and what has no place is kept."""
    when, claimed, ranking = ruling.built.when, ruling.claimed, ruling.ranking
    for root in (*ruling.sure, *ruling.maybe):
        position = root.position
        if claimed is not None and position not in claimed:
            continue
        if ranking is not None and position in ranking.behind:
            continue
        if not when or all_hold(when, root) is not False:
            yield root


def _take(decision: Decision, number: int, ruling: Ruling) -> None:
    """What a delete rule takes: only what it certainly selects and whose conditions are certainly fulfilled."""
    when, claimed, ranking = ruling.built.when, ruling.claimed, ruling.ranking
    bit = 1 << number
    taken, spared, passed = decision.taken, decision.spared, decision.passed
    for root in ruling.sure:
        position = root.position
        if claimed is not None and position not in claimed:
            continue
        if when and not all_hold(when, root):
            if claimed is not None:
                passed[position] |= bit
        elif ranking is None or position in ranking.behind:
            taken[position] |= bit
        else:
            if position in ranking.newest or position in ranking.unplaced:
                spared[position] |= bit
            if claimed is not None:
                passed[position] |= bit


def _mark(masks: list[int], number: int, found: Iterable[Root]) -> None:
    bit = 1 << number
    for root in found:
        masks[root.position] |= bit
