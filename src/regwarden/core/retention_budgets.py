"""Which tags and untagged manifests of a repository may a budget take, and how much would each be missed?"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from regwarden.core.observed import Hold, ObservedRegistry, ObservedRepository
from regwarden.core.plan import GuardCode
from regwarden.core.policy_matching import Pulled
from regwarden.core.retention import doubt_of, is_readable
from regwarden.core.retention_clocks import last_arrival, last_pull
from regwarden.core.retention_collecting import CollectedRule, RepositoryPolicies
from regwarden.core.retention_decision import Decision, decide
from regwarden.core.retention_matching import all_hold
from regwarden.core.retention_orders import order_of
from regwarden.core.retention_reasons import minimum_age
from regwarden.core.retention_roots import Root
from regwarden.core.retention_rules import build_rule, sort_out

_ANY_USE = Pulled()


class BudgetRoot(NamedTuple):
    """A root that a budget may take.

    Its place among the verdicts of its repository, its rank (1 is the newest), and when it was last pulled, pushed or
    tagged, at the latest.
    """

    position: int
    rank: int
    last_used_at: datetime


def budget_candidates(
    collected: RepositoryPolicies,
    repository: ObservedRepository,
    registry: ObservedRegistry,
    *,
    holds: Sequence[Hold],
    now: datetime,
    waived: frozenset[GuardCode] = frozenset(),
) -> tuple[tuple[CollectedRule, tuple[BudgetRoot, ...]], ...]:
    """For each rule with a budget what it may take, by position.

    That is what certainly fulfils its conditions, nothing keeps or protects, no other rule takes, is old enough and
    has a place in its rank. Empty for a repository about which nothing is decided.
    """
    if not collected.budgets or doubt_of(repository) is not None:
        return tuple((one, ()) for one in collected.budgets)
    decision = decide(collected, repository, registry, holds=holds, now=now, with_places=False)
    is_young_free = GuardCode.MIN_AGE in waived
    free = {
        root.position
        for root in decision.roots
        if is_readable(root)
        and not decision.stays(root)
        and not decision.would_go(root)
        and (is_young_free or minimum_age(decision, root, collected.min_age) is None)
    }
    return tuple((one, _taken_by(one, decision, free)) for one in collected.budgets)


def _taken_by(collected: CollectedRule, decision: Decision, free: set[int]) -> tuple[BudgetRoot, ...]:
    built = build_rule(collected, decision.around)
    sure, _ = built.select(sort_out(decision.roots))
    allowed = [root for root in sure if root.position in free and all_hold(built.when, root)]
    placed = (root for _, root in order_of(collected.rule, allowed, decision.around).placed)
    return tuple(
        sorted(BudgetRoot(root.position, number, _last_used_at(root)) for number, root in enumerate(placed, start=1))
    )


def _last_used_at(root: Root) -> datetime:
    moments = [last_pull(root, _ANY_USE), last_arrival(root)[1]]
    return max(moment for moment in moments if moment is not None)
