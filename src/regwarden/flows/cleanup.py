"""Carrying out a plan: is it the one that people agreed to, is it proven, and then one repository after the other.

A run that ends early, however it ends, is taken up again by the next one: what is left to do stands in the journal.
No step is carried out unless every check before it gave a clear answer (see ``flows.apply_steps``). Besides what each
step needs, a run asks for the pages of the tag list of each repository before its first step (and where no
notifications come in, for each tag: it may have been moved to what goes), and at the end for each child of the indexes
that stay and share one with what went.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiolimiter import AsyncLimiter

from regwarden.core.wording import counted
from regwarden.flows.alone import alone
from regwarden.flows.apply_checks import (
    RUNNABLE,
    Halt,
    check_guards,
    check_live,
    check_plan,
    check_proof,
    has_heard_all,
    hears,
    was_ever_told,
)
from regwarden.flows.apply_records import ApplyOptions, ApplyProgress, ApplyReport, ApplyTarget, Stopped
from regwarden.flows.apply_steps import finish_whole
from regwarden.flows.applying import Run, apply_repository, settle_repository
from regwarden.flows.restoring import restore_races
from regwarden.flows.services import Services
from regwarden.store.audit import record
from regwarden.store.connections import Connection
from regwarden.store.journal import Moment, Result, note_outcome
from regwarden.store.plan_records import PlanState, StepState, StoredStep
from regwarden.store.plans import change_state, list_step_places, load_plan, load_steps, save_outcome

OnProgress = Callable[[ApplyProgress], None]
Places = Sequence[tuple[str, str]]
"""Registries and repositories, in the order of the plan."""

_UNFINISHED: Final = (StepState.PENDING, StepState.INTENDED)
_PIECE_STEPS: Final = 1000


async def apply_plan(  # noqa: PLR0913 -- each says something else: what, who, how carefully
    services: Services,
    target: ApplyTarget,
    plan_id: int,
    *,
    fingerprint: str,
    principal: str,
    options: ApplyOptions = ApplyOptions(),  # noqa: B008 -- frozen
    on_progress: OnProgress | None = None,
) -> ApplyReport:
    """Carry out a plan, or go on with it; ``fingerprint`` is that of the plan which ``principal`` has seen.

    Raises ``Conflict``, and then nothing was done: codes ``plan-state``, ``plan-fingerprint``, ``plan-blocked``,
    ``plan-approvals``, ``plan-expired``, ``plan-window``, ``plan-unproven``, ``no-live-events``. Raises ``NotFound``
    for a plan that does not exist and ``StoreError``. Whatever stops the run later is in the report. A cancelled run
    ends what is under way with the registry first. Of a plan that was begun and whose time is over only what may be
    under way is settled; if its time will not come again that is its end.
    """
    async with alone(services.database, plan_id):
        stored = await services.database.read(lambda connection: load_plan(connection, plan_id))
        halt = await check_plan(services, stored, fingerprint)
        rate = options.requests_per_second
        # It cannot hold less than one request: for less it takes a longer time.
        limiter = None if rate is None else AsyncLimiter(max(rate, 1), max(1 / rate, 1))
        run = Run(services, target, options, stored, on_progress, limiter)
        run.results = Counter(stored.step_counts)
        requests_before = _count_requests(run)
        places = await services.database.read(
            lambda connection: list_step_places(connection, plan_id, states=_UNFINISHED)
        )
        registries = sorted({registry for registry, _ in places})
        await target.drain()
        if halt is None:
            await check_guards(run, registries)
            is_live = await check_live(run, places)
        else:
            is_live = await hears(run, registries)
        run.is_told = is_live and await has_heard_all(run, registries)
        if stored.state is PlanState.OPEN:
            await check_proof(run, places)
        return await _carry_out(run, places, _Outset(principal, requests_before, not is_live, halt))


@dataclass(frozen=True, slots=True)
class _Outset:
    """How a run began: for whom, after how many requests, whether no events come in, why nothing new is begun."""

    principal: str
    request_count: int
    can_miss_races: bool
    halt: Halt | None


async def _carry_out(run: Run, places: Places, outset: _Outset) -> ApplyReport:
    plan_id, write, now = run.stored.id, run.services.database.write, run.services.now
    principal = outset.principal

    def begin(connection: Connection) -> None:
        change_state(connection, plan_id, RUNNABLE, PlanState.APPLYING)
        terms = _describe_terms(run, outset)
        record(connection, at=now(), principal=principal, action="plan-apply", plan_id=plan_id, detail=terms)

    await write(begin)
    stopped = "it was interrupted"
    try:
        stopped = await (_walk(run, places) if outset.halt is None else _settle(run, places, outset.halt))
    finally:
        report = await finish_whole(_finish(run, stopped, outset))
        detail = {"stopped": report.stopped, "results": dict(report.results)}
        await write(
            lambda connection: record(
                connection, at=now(), principal=principal, action="plan-applied", plan_id=plan_id, detail=detail
            )
        )
    return report


def _describe_terms(run: Run, outset: _Outset) -> dict[str, object]:
    """On which terms somebody lets a plan be carried out: for the audit."""
    plan = run.stored.plan
    return {
        "fingerprint": plan.fingerprint,
        "waived": sorted(plan.waived | run.options.waived),
        "waived_now": sorted(run.options.waived),
        "approved_by": [f"{one.shown_name} ({one.kind})" for one in run.stored.valid_approvals],
        "requests_per_second": run.options.requests_per_second,
        "max_failures": run.options.max_failures,
        "can_miss_races": outset.can_miss_races,
        "resumed": run.stored.state is PlanState.APPLYING,
        "halted": "" if outset.halt is None else outset.halt.message,
    }


async def _settle(run: Run, places: Places, halt: Halt) -> str:
    """Nothing new: find out what became of what was begun; what is left is given up if its time will not come."""
    try:
        for registry, repository in places:
            await settle_repository(run, registry, repository)
    finally:
        await _linger(run, sorted({registry for registry, _ in places}))
    if halt.is_final and (count := await _give_up(run, halt)):
        run.problems.append(f"{halt.message}: {count} of its steps were left alone; make a new plan for them")
    return halt.message


async def _give_up(run: Run, halt: Halt) -> int:
    """Let every step that was never begun be drifted; returns how many."""
    plan_id, count = run.stored.id, 0

    def write(connection: Connection) -> tuple[StoredStep, ...]:
        rest = load_steps(connection, plan_id, states=[StepState.PENDING], limit=_PIECE_STEPS)
        for one in rest:
            moment = Moment(plan_id=plan_id, step=one.step, tags=one.step.tags, at=run.services.now())
            note_outcome(connection, moment, Result.DRIFTED, halt.message)
        return rest

    while rest := await run.services.database.write(write):
        count += len(rest)
        for one in rest:
            run.note_end(one.step, Result.DRIFTED)
    return count


async def _walk(run: Run, places: Places) -> str:
    """Every repository with something left to do; returns what stopped it, empty if nothing did."""
    try:
        for registry, repository in places:
            run.check_may_go_on()
            await apply_repository(run, registry, repository)
    except Stopped as reason:
        return reason.message
    finally:
        await _linger(run, sorted({registry for registry, _ in places}))
    return ""


async def _linger(run: Run, registries: list[str]) -> None:
    """Events of pushes that raced the last steps are a moment late: wait for them, put back what they tell of.

    Not where not even our own deletions were told of. Should that begin now, the service puts back what raced.
    """
    if not (run.results[StepState.DONE] or run.results[StepState.GONE]):
        return
    if any([await was_ever_told(run, registry) for registry in registries]):
        await asyncio.sleep(run.options.linger_seconds)
    await run.target.drain()
    for registry in registries:
        run.restored += await restore_races(run.services, registry, limiter=run.limiter)


async def _finish(run: Run, stopped: str, outset: _Outset) -> ApplyReport:
    """Count what became of the steps, and end the plan if nothing is left to be done."""
    plan_id, now = run.stored.id, run.services.now()
    stored = await run.services.database.read(lambda connection: load_plan(connection, plan_id))
    left = sum(stored.step_counts.get(state, 0) for state in _UNFINISHED)
    if left and not stopped:
        stopped = f"{counted(left, 'step')} could not be done"
    elif left and outset.halt is not None and outset.halt.is_final:
        stopped = f"{stopped}, but of {counted(left, 'step')} nobody knows whether it was done"
    report = ApplyReport(
        plan_id=plan_id,
        state=str(PlanState.APPLYING if left else PlanState.APPLIED),
        results=dict(sorted(stored.step_counts.items())),
        stopped=stopped if left else "",
        problems=(*run.problems, *run.restored.problems),
        skipped=tuple(run.skipped),
        verified_index_count=sum(one.index_count for one in run.verified),
        broken_indexes=tuple(words for one in run.verified for words in one.broken),
        restored_count=run.restored.restored_count + sum(one.restored_count for one in run.verified),
        can_miss_races=outset.can_miss_races,
        request_count=_count_requests(run) - outset.request_count,
    )
    undo = stored.plan.demands.undo

    def write(connection: Connection) -> None:
        if left:
            save_outcome(connection, plan_id, _as_document(report))
            return
        change_state(connection, plan_id, (PlanState.APPLYING,), PlanState.APPLIED)
        save_outcome(connection, plan_id, _as_document(report), applied_at=now, undo_until=now + undo)

    await run.services.database.write(write)
    return report


def _as_document(report: ApplyReport) -> dict[str, Any]:
    return {name: getattr(report, name) for name in ApplyReport.__slots__}


def _count_requests(run: Run) -> int:
    return sum(connector.traffic.requests for connector in run.services.connectors.values())
