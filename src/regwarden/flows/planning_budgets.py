"""Which tags and untagged manifests go so that budgets are kept, after everything else has been decided?

Budgets are applied one after the other, in the order of policies and their rules, each in all of its scopes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from regwarden.core.budget_reach import BudgetReach, reach_candidates
from regwarden.core.budgets import BudgetChoice, BudgetContent, Candidate, choose_for_budget, regret_of
from regwarden.core.observed import ObservedRepository
from regwarden.core.plan import BudgetResult, StepKind
from regwarden.core.planning import PlanInputs, PlannedRepository, terms_of
from regwarden.core.policy_rules import Budget, BudgetScope, DeleteRule
from regwarden.core.retention import RepositoryPolicies
from regwarden.core.retention_budgets import BudgetRoot, budget_candidates
from regwarden.core.retention_collecting import CollectedRule
from regwarden.core.verdicts import Outcome, Reason, ReasonCode, RepositoryVerdicts
from regwarden.store.budget_content import StoredContent
from regwarden.store.connections import Connection

Place: TypeAlias = tuple[str, str]
"""Registry and repository."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetedRepository:
    """What of one repository is kept in memory until all are read.

    What other rules decided, what each budget may take, and what that holds.
    """

    decided: RepositoryVerdicts
    found: tuple[tuple[CollectedRule, tuple[BudgetRoot, ...]], ...]
    reach: BudgetReach
    is_whole: bool

    @property
    def place(self) -> Place:
        """Where it is."""
        return self.decided.registry, self.decided.repository


Group: TypeAlias = tuple[BudgetedRepository, list[BudgetRoot]]
"""What of a repository goes together: one root, or all tags of an image that stays whole or goes whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetChoices:
    """What goes by budgets: by repository, the reasons at the positions of its verdicts. And what each budget did."""

    taken: Mapping[Place, Mapping[int, tuple[Reason, ...]]]
    results: tuple[BudgetResult, ...]


def look_for_budgets(
    inputs: PlanInputs, collected: RepositoryPolicies, observed: ObservedRepository, decided: RepositoryVerdicts
) -> BudgetedRepository:
    """What budgets may take of one repository, and what that holds; pure."""
    registry = inputs.registries[observed.registry]
    found = budget_candidates(collected, observed, registry, holds=inputs.holds, now=inputs.now, waived=inputs.waived)
    reach = reach_candidates(
        observed,
        decided,
        {root.position for _, roots in found for root in roots},
        terms_of(inputs, observed, collected.policies),
        is_whole=collected.is_whole,
    )
    return BudgetedRepository(decided=decided, found=found, reach=reach, is_whole=collected.is_whole)


class BudgetTaking:
    """Chooses, one budget and one of its scopes after the other; what one has taken is no question for the next."""

    def __init__(self, connection: Connection, inputs: PlanInputs, repositories: Sequence[BudgetedRepository]) -> None:
        """Read what the repositories of all budgets store."""
        self._now = inputs.now
        self._repositories = sorted(repositories, key=lambda one: one.place)
        self._first: dict[Place, int] = {}
        self._taken: dict[Place, dict[int, tuple[Reason, ...]]] = {}
        self._content: dict[str, StoredContent] = {}
        for name in sorted({one.decided.registry for one in self._repositories}):
            reaches: dict[str, BudgetReach] = {}
            number = 0
            for one in self._of(name):
                self._first[one.place] = number
                number += len(one.reach.positions)
                reaches[one.decided.repository] = one.reach
            self._content[name] = StoredContent(connection, name, reaches)

    def choose(self) -> BudgetChoices:
        """What goes, and what is stored afterwards if all of that does."""
        results = [self._apply(rule, subject, within) for rule, subject, within in self._scopes()]
        return BudgetChoices(taken=self._taken, results=tuple(results))

    def measure(
        self, results: Sequence[BudgetResult], planned: Iterable[PlannedRepository]
    ) -> tuple[BudgetResult, ...]:
        """The same results, with what is really stored after the steps of a plan: guards may have held some back."""
        deleted = {
            (one.verdicts.registry, one.verdicts.repository): [
                step.digest for step in one.steps if step.kind is StepKind.DELETE
            ]
            for one in planned
        }
        return tuple(
            replace(result, bytes_after=sum(self._stored(name, part, deleted) for name, part in _by_registry(within)))
            for result, (_, _, within) in zip(results, self._scopes(), strict=True)
        )

    def _of(self, registry: str) -> Iterator[BudgetedRepository]:
        return (one for one in self._repositories if one.decided.registry == registry)

    def _stored(
        self, registry: str, repositories: Sequence[BudgetedRepository], deleted: Mapping[Place, Sequence[str]]
    ) -> int:
        names = [one.decided.repository for one in repositories]
        return self._content[registry].stored_bytes(names, {name: deleted.get((registry, name), ()) for name in names})

    def _scopes(self) -> Iterator[tuple[CollectedRule, str, list[BudgetedRepository]]]:
        """Every budget with each of its scopes: the rule, what the scope is called, its repositories."""
        found: dict[tuple[str, str, str], tuple[CollectedRule, list[BudgetedRepository]]] = {}
        for one in self._repositories:
            for rule, _ in one.found:
                subject = _subject(_budget(rule).scope, one.decided)
                found.setdefault((rule.policy, rule.path, subject), (rule, []))[1].append(one)
        for (_, _, subject), (rule, within) in sorted(found.items(), key=lambda pair: _in_order(pair[0])):
            yield rule, subject, within

    def _apply(self, rule: CollectedRule, subject: str, within: Sequence[BudgetedRepository]) -> BudgetResult:
        budget = _budget(rule)
        candidates: list[Candidate] = []
        meant: dict[tuple[str, ...], Group] = {}
        sizes: dict[int, int] = {}
        stored_bytes = 0
        for registry, part in _by_registry(within):
            groups = [group for one in part for group in self._groups(rule, one)]
            weighed = self._content[registry].weigh(
                [one.decided.repository for one in part],
                [[self._number(one, root.position) for root in roots] for one, roots in groups],
            )
            offset = max(sizes, default=-1) + 1
            stored_bytes += weighed.stored_bytes
            sizes.update((offset + number, size_bytes) for number, size_bytes in weighed.sizes.items())
            for group, holds in zip(groups, weighed.holds, strict=True):
                candidate = self._candidate(group, tuple(offset + number for number in holds))
                meant[candidate.key] = group
                candidates.append(candidate)
        content = BudgetContent(stored_bytes=stored_bytes, sizes=sizes)
        choice = choose_for_budget(candidates, content, budget.max, order=budget.order)
        reasons = (Reason(ReasonCode.BUDGET, rule.policy, rule.title, _explain(budget, subject, choice)),)
        for one, roots in (meant[key] for key in choice.chosen):
            self._taken.setdefault(one.place, {}).update({root.position: reasons for root in roots})
            self._content[one.decided.registry].take([self._number(one, root.position) for root in roots])
        return _result(rule, subject, choice, sum(len(meant[key][1]) for key in choice.chosen))

    def _candidate(self, group: Group, holds: tuple[int, ...]) -> Candidate:
        one, roots = group
        first = one.decided.verdicts[roots[0].position]
        return Candidate(
            key=(*one.place, first.tag, first.digest or ""),
            holds=holds,
            regret=sum(regret_of(root.last_used_at, self._now) for root in roots),
            rank=min(root.rank for root in roots),
        )

    def _number(self, one: BudgetedRepository, position: int) -> int:
        return self._first[one.place] + bisect_left(one.reach.positions, position)

    def _groups(self, rule: CollectedRule, one: BudgetedRepository) -> Iterator[Group]:
        """What one budget may still take of a repository, together what goes together."""
        taken = self._taken.get(one.place, {})
        roots = next(roots for found, roots in one.found if (found.policy, found.path) == (rule.policy, rule.path))
        free = [root for root in roots if root.position not in taken]
        if not one.is_whole:
            yield from ((one, [root]) for root in free)
            return
        verdicts = one.decided.verdicts
        staying: dict[str | None, int] = {}
        for position, verdict in enumerate(verdicts):
            if verdict.outcome is not Outcome.REMOVE and position not in taken:
                staying[verdict.digest] = staying.get(verdict.digest, 0) + 1
        together: dict[str | None, list[BudgetRoot]] = {}
        for root in free:
            together.setdefault(verdicts[root.position].digest, []).append(root)
        yield from ((one, found) for digest, found in together.items() if len(found) == staying[digest])


def _budget(rule: CollectedRule) -> Budget:
    if not isinstance(rule.rule, DeleteRule) or rule.rule.budget is None:
        raise AssertionError(f"{rule.path} has no budget")
    return rule.rule.budget


def _in_order(key: tuple[str, str, str]) -> tuple[str, int, str, str]:
    policy, path, subject = key
    return policy, len(path), path, subject


def _subject(scope: BudgetScope, decided: RepositoryVerdicts) -> str:
    if scope is BudgetScope.REPO:
        return f"{decided.registry}/{decided.repository}"
    if scope is BudgetScope.PROJECT:
        return f"{decided.registry}/{decided.repository.partition('/')[0]}"
    return decided.registry if scope is BudgetScope.REGISTRY else ""


def _by_registry(within: Sequence[BudgetedRepository]) -> Iterator[tuple[str, list[BudgetedRepository]]]:
    for name in sorted({one.decided.registry for one in within}):
        yield name, [one for one in within if one.decided.registry == name]


def _explain(budget: Budget, subject: str, choice: BudgetChoice) -> str:
    place = subject or "all of it"
    text = f"{place} stores {choice.bytes_before:,} bytes and may store {choice.max_bytes:,}"
    return f"{text}; {choice.bytes_after:,} are left (order {budget.order}, method {choice.method})"


def _result(rule: CollectedRule, subject: str, choice: BudgetChoice, chosen_count: int) -> BudgetResult:
    budget = _budget(rule)
    return BudgetResult(
        policy=rule.policy,
        rule=rule.title,
        scope=str(budget.scope),
        subject=subject,
        order=str(budget.order),
        method=str(choice.method),
        max_bytes=choice.max_bytes,
        bytes_before=choice.bytes_before,
        bytes_after=choice.bytes_after,
        chosen_count=chosen_count,
        regret=choice.regret,
        least_regret=choice.least_regret,
    )
