"""From policies or a selection to a kept plan: probe, read the facts, decide, lift, guard, measure, keep.

Everything is decided from one snapshot of the inventory, one repository in memory at a time. No registry is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from regwarden.core.access import EVERYTHING, Reach
from regwarden.core.budget_reach import replace_verdicts
from regwarden.core.holding import GroupedHolds
from regwarden.core.observed import ObservedRepository
from regwarden.core.pattern_reach import has_pattern
from regwarden.core.patterns import Pattern
from regwarden.core.plan import BudgetResult, GuardCode, Plan
from regwarden.core.planning import PlanInputs, PlannedRepository, build_plan, deleted_pairs, plan_repository
from regwarden.core.policy import Policy
from regwarden.core.retention import RepositoryPolicies, collect_policies, evaluate, needs_of
from regwarden.core.retention_forecast import first_possible_removal
from regwarden.core.selecting import select
from regwarden.core.selection import Selection
from regwarden.errors import Forbidden, InputError
from regwarden.flows.deletion_probe import DROP_ABILITY, ask_deletion, ask_drop
from regwarden.flows.planning_budgets import (
    BudgetChoices,
    BudgetedRepository,
    BudgetTaking,
    Place,
    look_for_budgets,
)
from regwarden.flows.services import Services
from regwarden.store import audit
from regwarden.store.capabilities import find_probe_repository, merge_capabilities
from regwarden.store.collector import collector_paused
from regwarden.store.connections import Connection
from regwarden.store.observed import (
    count_tags,
    iterate_repositories,
    load_registry,
    repositories_sharing,
    snapshot_name,
)
from regwarden.store.plan_sizes import measure_plan
from regwarden.store.plans import PackedPlan, begin_plan, end_plan, iterate_pieces, pack_plan, save_piece
from regwarden.store.protections import load_holds

MOST_EXPLAINED: Final = 50_000
"""Beyond so many tags verdicts name their rules only, and nobody looks when something would go that does not yet."""
_HIDDEN: Final = "(not shown)"
_SELECT_YOURS: Final = "Select repositories of yours only."
_LIMIT_SCOPE: Final = "Limit scope.registries and scope.repositories of the policies to yours."


@dataclass(frozen=True, slots=True)
class PlanProgress:
    """How far planning is: ``phase`` is probing, reading, sizes or keeping."""

    phase: str
    repositories_done: int = 0
    repositories_total: int = 0
    tags_done: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest:
    """What is to be planned: by policies (with their texts by file name) or a selection, and by whom.

    Where it is about repositories outside of ``reach`` no plan is made.
    """

    policies: tuple[Policy, ...] = ()
    policy_texts: Mapping[str, str] = field(default_factory=dict)
    selection: Selection | None = None
    waived: frozenset[GuardCode] = frozenset()
    made_by: str
    expires_after: timedelta
    is_untagged_known: bool = False
    drops_repositories: bool = False
    reach: Reach = EVERYTHING


def registries_in_scope(request: PlanRequest, known: Iterable[str]) -> tuple[str, ...]:
    """The registries of the inventory that the plan is about, by name."""
    if request.selection is not None:
        return (request.selection.registry,)
    return tuple(sorted(name for name in known if any(_covers(policy, name) for policy in request.policies)))


def _require_reach(request: PlanRequest, names: Iterable[str]) -> None:
    """Go on only if all that is written lies in reach, whatever there is: the answer must not tell what is hidden."""
    if request.reach.is_everything:
        return
    for name in names:
        if request.selection is not None:
            if not all(has_pattern(request.reach, name, one) for one in _selected(request.selection)):
                raise _outside(_SELECT_YOURS)
        elif not all(_lies_in(request.reach, name, policy) for policy in request.policies if _covers(policy, name)):
            raise _outside(_LIMIT_SCOPE)


def _lies_in(reach: Reach, registry: str, policy: Policy) -> bool:
    named = policy.scope.repositories.include if policy.scope.repositories is not None else ()
    return reach.has_all_of(registry) or (bool(named) and all(has_pattern(reach, registry, one) for one in named))


def _covers(policy: Policy, registry: str) -> bool:
    patterns = policy.scope.registries
    return not patterns or any(pattern.matches(registry) for pattern in patterns)


async def make_plan(
    services: Services,
    request: PlanRequest,
    known: Iterable[str],
    *,
    on_progress: Callable[[PlanProgress], None] | None = None,
    on_warning: Callable[[str], None],
) -> int:
    """Plan, and keep the plan; returns its id.

    ``known`` are the registries of the inventory; those of which ``services`` has a connector are asked whether they
    delete. Raises ``InputError`` (code ``nothing-in-scope``, ``policy-conflict``, …), ``NotFound`` and ``Forbidden``
    (code ``outside-reach``).
    """
    tell = on_progress or _nobody
    names = registries_in_scope(request, known)
    if not names:
        hint = "See scope.registries, and regwarden registry list. A registry comes in by: regwarden crawl ADDRESS."
        raise InputError("no registry of the inventory is in the scope", hint=hint, code="nothing-in-scope")
    _require_reach(request, names)
    for name in names:
        tell(PlanProgress(f"asking {name}"))
        await _probe(services, name, on_warning, drops=request.drops_repositories)
    now = services.now()
    plan = await services.database.read(lambda connection: decide(connection, request, names, now, tell))
    tell(PlanProgress("keeping"))
    packed = await services.database.read(lambda _connection: pack_plan(plan))

    return await _keep(services, plan, packed, request.made_by)


async def _keep(services: Services, plan: Plan, packed: PackedPlan, made_by: str) -> int:
    """Write the plan piece by piece, so that deliveries are stored in between; it is open when all of it is there."""
    write = services.database.write
    plan_id = await write(lambda connection: begin_plan(connection, packed))
    for piece in iterate_pieces(packed):
        await write(lambda connection, piece=piece: save_piece(connection, plan_id, piece))  # type: ignore[misc]  # a default binds it

    def end(connection: Connection) -> int:
        end_plan(connection, plan_id)
        audit.record(
            connection,
            at=plan.made_at,
            principal=made_by,
            action="plan-create",
            plan_id=plan_id,
            detail={"fingerprint": plan.fingerprint, "waived": sorted(map(str, plan.waived))},
        )
        return plan_id

    return await write(end)


def decide(
    connection: Connection,
    request: PlanRequest,
    names: Iterable[str],
    now: datetime,
    tell: Callable[[PlanProgress], None],
) -> Plan:
    """The plan by what the inventory knows at this moment; reads only."""
    registries = {name: load_registry(connection, name) for name in names}
    inputs = PlanInputs(
        registries=registries,
        snapshots={name: snapshot_name(connection, name) for name in registries},
        now=now,
        made_by=request.made_by,
        policies=request.policies,
        policy_texts=request.policy_texts,
        selection=request.selection,
        holds=GroupedHolds(hold for name in registries for hold in load_holds(connection, name, now)),
        waived=request.waived,
        expires_after=request.expires_after,
        drops_repositories=request.drops_repositories,
    )
    budgets: tuple[BudgetResult, ...] = ()
    scope = _Scope(connection, inputs, request.reach)
    with collector_paused():
        if request.selection is None:
            planned, budgets = _by_policies(connection, inputs, scope, tell)
        else:
            found = list(_read_in_reach(connection, request.selection, inputs, request.reach))
            planned = list(_by_selection(request.selection, found, inputs, tell))
        if not planned:
            message = "no repository of the inventory is in the scope" if request.policies else "nothing is selected"
            hint = "regwarden repository list shows what there is."
            raise InputError(message, hint=hint, code="nothing-in-scope")
        tell(PlanProgress("computing what it frees", len(planned), len(planned)))
        sizes = {
            name: measure_plan(connection, name, pairs, is_untagged_known=request.is_untagged_known)
            for name in registries
            if (pairs := list(deleted_pairs(planned, name)))
        }
        if request.selection is None and not any(one.steps for one in planned):
            inputs = replace(inputs, acts_first_at=_first_removal(inputs, scope, planned))
        return build_plan(inputs, planned, sizes, budgets=budgets)


def _by_policies(
    connection: Connection, inputs: PlanInputs, scope: _Scope, tell: Callable[[PlanProgress], None]
) -> tuple[list[PlannedRepository], tuple[BudgetResult, ...]]:
    planned: list[PlannedRepository] = []
    budgeted: list[BudgetedRepository] = []
    tags_done = 0
    with_details = scope.count_tags() <= MOST_EXPLAINED
    for collected, repository in scope.read():
        verdicts = evaluate(
            collected,
            repository,
            inputs.registries[repository.registry],
            holds=inputs.holds,
            now=inputs.now,
            waived=inputs.waived,
            with_details=with_details,
        )
        if collected.budgets:
            budgeted.append(look_for_budgets(inputs, collected, repository, verdicts))
        planned.append(plan_repository(inputs, repository, verdicts, collected.policies))
        tags_done += len(repository.tags)
        tell(PlanProgress("deciding", len(planned), 0, tags_done))
    if not budgeted:
        return planned, ()
    tell(PlanProgress("weighing what budgets take", len(planned), len(planned), tags_done))
    taking = BudgetTaking(connection, inputs, budgeted)
    choices = taking.choose()
    again = _with_budgets(inputs, scope, choices, {one.place: one for one in budgeted})
    planned = [again.get((one.verdicts.registry, one.verdicts.repository), one) for one in planned]
    return planned, taking.measure(choices.results, planned)


def _with_budgets(
    inputs: PlanInputs, scope: _Scope, choices: BudgetChoices, budgeted: Mapping[Place, BudgetedRepository]
) -> dict[Place, PlannedRepository]:
    """The repositories of which budgets take something, planned with that."""
    found = {}
    for collected, repository in scope.read(choices.taken):
        place = repository.registry, repository.name
        one = budgeted[place]
        verdicts = replace_verdicts(one.decided, choices.taken[place], is_whole=one.is_whole)
        found[place] = plan_repository(inputs, repository, verdicts, collected.policies)
    return found


class _Scope:
    """Which repositories policies are about, and what decides about each; asked for each only once."""

    def __init__(self, connection: Connection, inputs: PlanInputs, reach: Reach) -> None:
        self._connection = connection
        self._inputs = inputs
        self._reach = reach
        self._known: dict[Place, RepositoryPolicies | None] = {}

    def count_tags(self) -> int:
        """About how many tags there are."""
        registries = self._inputs.registries
        return sum(count_tags(self._connection, name, partial(self._is_meant, name)) for name in registries)

    def read(self, only: Collection[Place] | None = None) -> Iterator[tuple[RepositoryPolicies, ObservedRepository]]:
        """The repositories, one after the other; with ``only`` no others than these."""
        inputs = self._inputs
        needs = needs_of(inputs.policies)
        for registry in inputs.registries:
            is_meant = partial(self._is_meant, registry, only=only)
            for repository in iterate_repositories(self._connection, registry, is_meant, needs, inputs.now):
                collected = self._collect(registry, repository.name)
                if collected is not None:
                    yield collected, repository

    def _is_meant(self, registry: str, name: str, *, only: Collection[Place] | None = None) -> bool:
        return (only is None or (registry, name) in only) and self._collect(registry, name) is not None

    def _collect(self, registry: str, name: str) -> RepositoryPolicies | None:
        place = registry, name
        if place not in self._known:
            self._known[place] = collected = collect_policies(self._inputs.policies, registry, name)
            if collected is not None and not self._reach.has(registry, name):
                raise _outside(_LIMIT_SCOPE)
        return self._known[place]


def _first_removal(inputs: PlanInputs, scope: _Scope, planned: Sequence[PlannedRepository]) -> datetime | None:
    """When something goes if nothing changes. Not looked for where there is much: it takes many evaluations."""
    if sum(len(one.verdicts.verdicts) for one in planned) > MOST_EXPLAINED:
        return None
    moments = (
        first_possible_removal(
            collected, repository, inputs.registries[repository.registry], holds=inputs.holds, now=inputs.now
        )
        for collected, repository in scope.read()
    )
    return min((moment for moment in moments if moment is not None and moment > inputs.now), default=None)


def _by_selection(
    selection: Selection,
    found: Sequence[ObservedRepository],
    inputs: PlanInputs,
    tell: Callable[[PlanProgress], None],
) -> Iterator[PlannedRepository]:
    repositories = {one.name: one for one in found}
    tell(PlanProgress("deciding", 0, len(found)))
    registry = inputs.registries[selection.registry]
    decided = select(selection, found, registry, holds=inputs.holds, now=inputs.now, waived=inputs.waived)
    for verdicts in decided:
        if verdicts.repository == _HIDDEN:
            raise _outside(_SELECT_YOURS)
        yield plan_repository(inputs, repositories[verdicts.repository], verdicts, ())


def _read_in_reach(
    connection: Connection, selection: Selection, inputs: PlanInputs, reach: Reach
) -> Iterator[ObservedRepository]:
    """As ``read_selected``; what only shares content keeps it from going, but is not named where it may not be seen."""
    for one in read_selected(connection, selection, inputs):
        if reach.has(one.registry, one.name):
            yield one
        elif _is_selected(selection, one.name):
            raise _outside(_SELECT_YOURS)
        else:
            yield replace(one, name=_HIDDEN)


def _outside(hint: str) -> Forbidden:
    message = "it is about repositories for which you may not make plans"
    return Forbidden(message, hint=hint, code="outside-reach")


def read_selected(connection: Connection, selection: Selection, inputs: PlanInputs) -> Iterator[ObservedRepository]:
    """The repositories that a selection names, then all others of the registry that have one of their manifests."""
    digests: set[str] = set()
    names: set[str] = set()
    for one in iterate_repositories(
        connection,
        selection.registry,
        partial(_is_selected, selection),
        needs_of(()),
        inputs.now,
    ):
        names.add(one.name)
        digests.update(one.manifests)
        yield one
    others = repositories_sharing(connection, selection.registry, digests) - names
    if others:
        yield from iterate_repositories(connection, selection.registry, others.__contains__, needs_of(()), inputs.now)


def _is_selected(selection: Selection, name: str) -> bool:
    return any(pattern.matches(name) for pattern in _selected(selection))


def _selected(selection: Selection) -> tuple[Pattern, ...]:
    return (*selection.repositories, *(one.repository for one in selection.references))


async def _probe(services: Services, name: str, on_warning: Callable[[str], None], *, drops: bool) -> None:
    """Ask a registry whether it deletes; what it does not say stays as it was known."""
    connector = services.connectors.get(name)
    repository = await services.database.read(lambda connection: find_probe_repository(connection, name))
    if connector is None or repository is None:
        return
    answer = await ask_deletion(connector, repository)
    if answer.error is not None:
        on_warning(f"whether {name} deletes at all could not be found out: {answer.error.message}")
    found = {**answer.found, **({DROP_ABILITY: str(await ask_drop(connector))} if drops else {})}
    await services.database.write(lambda connection: merge_capabilities(connection, name, found))


def _nobody(_progress: PlanProgress) -> None:
    """What is told where nobody listens."""
