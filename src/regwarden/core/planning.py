"""How do verdicts become a plan? Repository by repository, so that never more than one has to be held with its facts.

``plan_repository`` lifts the verdicts of one repository to steps and asks its guards; when all are done and their
bytes are measured, ``build_plan`` puts them together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from regwarden.core.demands import allow_placeholders, follow_subjects, merge_demands, merge_limits
from regwarden.core.dropping import guard_cannot_drop, is_emptied, with_drop
from regwarden.core.fingerprint import fingerprint
from regwarden.core.guards import (
    RegistryGuards,
    Removal,
    RepositoryGuards,
    count_removal,
    guard_limits,
    guard_min_age,
    guard_sources,
)
from regwarden.core.holding import holds_on
from regwarden.core.lifting import Lifted, Terms, leave_out, lift
from regwarden.core.observed import Hold, ObservedRegistry, ObservedRepository
from regwarden.core.plan import BudgetResult, Guard, GuardCode, GuardLevel, GuardState, Plan, PlanSizes, Step, StepKind
from regwarden.core.policy import Limits, Policy
from regwarden.core.recency import is_young, last_touched
from regwarden.core.selection import Selection
from regwarden.core.verdicts import Outcome, ReasonCode, RepositoryVerdicts, Verdict
from regwarden.errors import InputError

DEFAULT_LIFETIME: Final = timedelta(days=7)
SHORTEST_LIFETIME: Final = timedelta(days=1)
LONGEST_LIFETIME: Final = timedelta(days=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanInputs:
    """What a plan is made from, besides the facts and verdicts of its repositories.

    Either ``policies`` (with ``policy_texts`` by name) or a ``selection``. ``registries`` are those it is about, by
    name, ``snapshots`` their states. ``acts_first_at`` is the earliest moment known to the rules at which something
    goes by itself. ``drops_repositories``: what is emptied goes as a whole.
    """

    registries: Mapping[str, ObservedRegistry]
    snapshots: Mapping[str, str]
    now: datetime
    made_by: str
    policies: tuple[Policy, ...] = ()
    policy_texts: Mapping[str, str] = field(default_factory=dict)
    selection: Selection | None = None
    holds: tuple[Hold, ...] = ()
    waived: frozenset[GuardCode] = frozenset()
    expires_after: timedelta = DEFAULT_LIFETIME
    acts_first_at: datetime | None = None
    drops_repositories: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRepository:
    """One repository of a plan.

    ``young_count`` roots are younger than the minimum age; the first of them goes at ``acts_first_at``.
    """

    verdicts: RepositoryVerdicts
    steps: tuple[Step, ...]
    guards: tuple[Guard, ...]
    policies: tuple[Policy, ...]
    young_count: int = 0
    acts_first_at: datetime | None = None


def plan_repository(
    inputs: PlanInputs, repository: ObservedRepository, verdicts: RepositoryVerdicts, policies: Sequence[Policy]
) -> PlannedRepository:
    """The steps, final verdicts and guards of one repository; ``policies`` are those collected for it.

    Where one of its guards blocks, its steps are left out and its verdicts say so.
    """
    limits = merge_limits(policies)
    terms = terms_of(inputs, repository, policies)
    lifted = lift(repository, verdicts, terms)
    asked = RepositoryGuards(repository=repository, limits=limits, waived=inputs.waived)
    guards = tuple(asked.find(lifted.steps, lifted.not_untagged))
    if inputs.drops_repositories and is_emptied(repository, lifted, terms.held):
        registry = inputs.registries[repository.registry]
        if registry.can_drop is True:
            lifted = with_drop(repository, lifted)
        else:
            guards = (*guards, guard_cannot_drop(registry, repository))
    blocking = tuple(
        one.code for one in guards if one.level is GuardLevel.REPOSITORY and one.state is GuardState.BLOCKS
    )
    if blocking:
        lifted = leave_out(lifted, blocking)
    young_count, acts_first_at = _youth(inputs, repository, lifted, limits)
    return PlannedRepository(
        verdicts=lifted.verdicts,
        steps=lifted.steps,
        guards=guards,
        policies=tuple(policies),
        young_count=young_count,
        acts_first_at=acts_first_at,
    )


def deleted_pairs(planned: Iterable[PlannedRepository], registry: str) -> Iterator[tuple[str, str]]:
    """Repository and digest of everything that a plan deletes from one registry, to measure what it frees."""
    for one in planned:
        for step in one.steps:
            if step.kind is StepKind.DELETE and step.registry == registry:
                yield step.repository, step.digest


def build_plan(
    inputs: PlanInputs,
    planned: Iterable[PlannedRepository],
    sizes: Mapping[str, PlanSizes],
    *,
    budgets: tuple[BudgetResult, ...] = (),
) -> Plan:
    """The whole plan, with its fingerprint; ``sizes`` are by registry, measured from ``deleted_pairs``.

    Raises ``InputError`` if it would expire earlier than after a day or later than after thirty.
    """
    if not SHORTEST_LIFETIME <= inputs.expires_after <= LONGEST_LIFETIME:
        raise InputError("a plan expires after 1 to 30 days", hint="Write for example 7d.", code="bad-duration")
    repositories = sorted(planned, key=lambda one: (one.verdicts.registry, one.verdicts.repository))
    steps = tuple(_numbered(repositories))
    guards = tuple(_guards(inputs, repositories, steps, sizes))
    plan = Plan(
        made_at=inputs.now,
        expires_at=inputs.now + inputs.expires_after,
        made_by=inputs.made_by,
        steps=steps,
        verdicts=tuple(one.verdicts for one in repositories),
        guards=guards,
        sizes=dict(sorted(sizes.items())),
        demands=merge_demands(
            _policies_of(inputs, repositories),
            needs_more_approval=any(one.state is GuardState.NEEDS_APPROVAL for one in guards),
        ),
        snapshots=dict(sorted(inputs.snapshots.items())),
        policy_texts=dict(sorted(inputs.policy_texts.items())),
        policies=inputs.policies,
        selection=inputs.selection,
        waived=inputs.waived,
        acts_first_at=None
        if steps
        else _earliest([inputs.acts_first_at, *(one.acts_first_at for one in repositories)]),
        budgets=budgets,
        stay_counts=_count_stays(repositories),
        drops_repositories=inputs.drops_repositories,
    )
    return replace(plan, fingerprint=fingerprint(plan))


def terms_of(inputs: PlanInputs, repository: ObservedRepository, policies: Sequence[Policy]) -> Terms:
    """How the verdicts of one repository become steps."""
    registry = inputs.registries[repository.registry]
    selection = inputs.selection
    return Terms(
        now=inputs.now,
        held=holds_on(inputs.holds, repository.registry, repository.name, inputs.now),
        follows_subjects=follow_subjects(policies),
        untags=selection is None or selection.untag,
        can_untag=registry.can_untag is True,
        with_placeholders=allow_placeholders(policies) if selection is None else selection.with_placeholders,
        min_age=timedelta() if GuardCode.MIN_AGE in inputs.waived else merge_limits(policies).min_age,
    )


def _youth(
    inputs: PlanInputs, repository: ObservedRepository, lifted: Lifted, limits: Limits
) -> tuple[int, datetime | None]:
    """How many roots the minimum age holds back, or would if it were not waived, and when the first goes."""
    is_waived = GuardCode.MIN_AGE in inputs.waived
    asked = [one for one in lifted.verdicts.verdicts if _is_kept_young(one) or (is_waived and _goes(one))]
    if not asked:
        return 0, None
    tags = {one.name: one for one in repository.tags}
    count = 0
    first: datetime | None = None
    for verdict in asked:
        manifest = repository.manifests.get(verdict.digest) if verdict.digest is not None else None
        touched_at = last_touched(manifest, tags.get(verdict.tag))
        if _is_kept_young(verdict) or is_young(touched_at, limits.min_age, inputs.now):
            count += 1
            if touched_at is not None:
                first = _earliest([first, touched_at + limits.min_age])
    return count, first


def _is_kept_young(verdict: Verdict) -> bool:
    return verdict.outcome is Outcome.KEEP and verdict.reasons[0].code is ReasonCode.MINIMUM_AGE


def _goes(verdict: Verdict) -> bool:
    return verdict.outcome is Outcome.REMOVE


def _count_stays(repositories: Iterable[PlannedRepository]) -> dict[str, int]:
    """How much stays, by the code of the first reason."""
    counted = Counter(
        verdict.reasons[0].code
        for one in repositories
        for verdict in one.verdicts.verdicts
        if verdict.outcome is not Outcome.REMOVE
    )
    return {str(code): counted[code] for code in sorted(counted)}


def _numbered(repositories: Iterable[PlannedRepository]) -> Iterator[Step]:
    position = 0
    for one in repositories:
        for step in one.steps:
            yield step if step.position == position else Step(position, *step[1:])
            position += 1


def _guards(
    inputs: PlanInputs,
    repositories: Sequence[PlannedRepository],
    steps: Sequence[Step],
    sizes: Mapping[str, PlanSizes],
) -> Iterator[Guard]:
    policies = _policies_of(inputs, repositories)
    limits = merge_limits(policies)
    changed = {step.registry for step in steps}
    yield from guard_sources(inputs.policies)
    for name in sorted(inputs.registries):
        asked = RegistryGuards(
            registry=inputs.registries[name],
            policies=[one for one in inputs.policies if _is_about(one, name)],
            waived=inputs.waived,
            now=inputs.now,
        )
        yield from asked.find(has_steps=name in changed)
    removal: Removal = count_removal(steps)
    yield from guard_limits(limits, removal, sizes, inputs.waived)
    yield from guard_min_age(sum(one.young_count for one in repositories), limits, inputs.waived)
    for one in repositories:
        yield from one.guards


def _policies_of(inputs: PlanInputs, repositories: Sequence[PlannedRepository]) -> list[Policy]:
    """The policies that a plan is by: those of its repositories, or all of them if it has none."""
    found = {policy.name: policy for one in repositories for policy in one.policies}
    return [found[name] for name in sorted(found)] or list(inputs.policies)


def _is_about(policy: Policy, registry: str) -> bool:
    scope = policy.scope.registries
    return not scope or any(pattern.matches(registry) for pattern in scope)


def _earliest(moments: Iterable[datetime | None]) -> datetime | None:
    return min((one for one in moments if one is not None), default=None)
