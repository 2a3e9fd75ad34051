"""May this plan be applied now? Is it the one that people agreed to, and is the world as it wants it?

Each check raises ``Conflict`` with a code of its own; nothing was done then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from regwarden.core.fingerprint import Steps, digest_verdicts, fingerprint
from regwarden.core.guards import RegistryGuards, guard_live_events
from regwarden.core.observed import ObservedRegistry
from regwarden.core.plan import Guard, GuardLevel, GuardState, Step, StepKind
from regwarden.core.windows import are_open, next_opening
from regwarden.errors import Conflict, RegistryError
from regwarden.flows.apply_records import Site
from regwarden.flows.applying import Run, consider
from regwarden.flows.asking import resolve
from regwarden.flows.services import Services
from regwarden.store.connections import Connection
from regwarden.store.observed import load_registry
from regwarden.store.plan_records import PlanState, StoredPlan
from regwarden.store.plans import iterate_steps, iterate_verdicts, load_steps
from regwarden.store.races import last_delivery_at

RUNNABLE: Final = (PlanState.OPEN, PlanState.APPLYING)
_KNOCKS: Final = 10
_KNOCK_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class Halt:
    """Why nothing more of a plan may be begun; ``is_final``: nor ever will be."""

    message: str
    is_final: bool


async def check_plan(services: Services, stored: StoredPlan, seen_fingerprint: str) -> Halt | None:
    """Everything that the plan itself must fulfil.

    What a plan that is being applied already has begun is brought to an end also when its time is over, so that
    raises nothing: then the reason is returned.
    """
    summary, plan, now = stored.summary, stored.plan, services.now()
    if stored.state not in RUNNABLE:
        message = f"plan {stored.id} is {stored.state}, so it cannot be applied"
        raise Conflict(message, hint="A plan is applied once; make a new one.", code="plan-state")
    made = await services.database.read(lambda connection: _compute_fingerprint(connection, stored))
    if not seen_fingerprint == plan.fingerprint == summary.fingerprint == made:
        message = f"plan {stored.id} is not the one with the fingerprint {seen_fingerprint[:80]}"
        raise Conflict(message, hint="Look at it again: regwarden plan show.", code="plan-fingerprint")
    if plan.is_blocked or summary.is_blocked:
        blocking = [one for one in plan.guards if one.level is GuardLevel.PLAN and one.state is GuardState.BLOCKS]
        words = "; ".join(one.message for one in blocking)
        hint = next((one.hint for one in blocking), "")
        raise Conflict(f"plan {stored.id} is blocked: {words}", hint=hint, code="plan-blocked")
    _check_approvals(stored)
    return _check_time(stored, now)


def _check_time(stored: StoredPlan, now: datetime) -> Halt | None:
    plan, is_begun = stored.plan, stored.state is PlanState.APPLYING
    if now >= plan.expires_at:
        message = f"plan {stored.id} expired at {plan.expires_at:%Y-%m-%d %H:%M} UTC"
        if is_begun:
            return Halt(message, is_final=True)
        raise Conflict(message, hint="Make a new one.", code="plan-expired")
    if are_open(plan.demands.windows, now):
        return None
    opening = next_opening(plan.demands.windows, now)
    hint = "" if opening is None else f"It opens at {opening:%Y-%m-%d %H:%M} UTC."
    message = f"plan {stored.id} may not be applied now"
    if not is_begun:
        raise Conflict(message, hint=hint, code="plan-window")
    if opening is None or opening >= plan.expires_at:
        return Halt(f"{message}, and its window does not open before it expires", is_final=True)
    return Halt(f"the window is closed; it opens at {opening:%Y-%m-%d %H:%M} UTC", is_final=False)


def _check_approvals(stored: StoredPlan) -> None:
    needed, missing_count = stored.plan.demands.approval_count, stored.missing_approval_count
    if missing_count > 0:
        who = "signed-in people" if needed > 1 else "person"
        message = f"plan {stored.id} needs the approval of {needed} {who} and has {needed - missing_count}"
        raise Conflict(message, hint=f"Run: regwarden plan approve {stored.id}", code="plan-approvals")


def _compute_fingerprint(connection: Connection, stored: StoredPlan) -> str:
    """The fingerprint by the rows that are stored now."""
    steps = Steps(sum(stored.step_counts.values()), (one.step for one in iterate_steps(connection, stored.id)))
    return fingerprint(stored.plan, map(digest_verdicts, iterate_verdicts(connection, stored.id)), steps)


async def check_guards(run: Run, registries: list[str]) -> None:
    """What is known of the registries must be as good now as the policies want."""
    plan, now = run.stored.plan, run.services.now()
    waived = plan.waived | run.options.waived
    for name in registries:
        observed = await _load(run, name)
        asked = RegistryGuards(registry=observed, policies=plan.policies, waived=waived, now=now)
        _raise_blocking(one for one in asked.find(has_steps=True) if one.level is GuardLevel.PLAN)


def _raise_blocking(guards: Iterable[Guard]) -> None:
    for guard in guards:
        if guard.state is GuardState.BLOCKS:
            raise Conflict(guard.message, hint=guard.hint, code="plan-blocked")


async def hears(run: Run, registries: Iterable[str]) -> bool:
    """Whether notifications of all these registries came in lately."""
    return all([await _guard_live(run, registry) is None for registry in registries])


async def check_live(run: Run, places: Sequence[tuple[str, str]]) -> bool:
    """Whether notifications come in. A registry that was quiet is asked for something, which makes it send one.

    Where it never sent any and the guard is waived nothing is waited for. Raises ``Conflict`` (code
    ``no-live-events``) where none comes, unless that guard is waived.
    """
    is_live = True
    for registry in sorted({name for name, _ in places}):
        guard = await _guard_live(run, registry)
        if guard is not None and (guard.state is GuardState.BLOCKS or await was_ever_told(run, registry)):
            await _knock(run, [place for place in places if place[0] == registry][:_KNOCKS])
            guard = await _guard_live(run, registry)
        if guard is None:
            continue
        is_live = False
        if guard.state is GuardState.BLOCKS:
            raise Conflict(guard.message, hint=guard.hint, code="no-live-events")
    return is_live


async def has_heard_all(run: Run, registries: Sequence[str]) -> bool:
    """Whether notifications came in since before the last whole reading of each registry began.

    Otherwise what happened between the two is known to nobody, however many come in now.
    """
    for name in registries:
        observed = await _load(run, name)
        begun_at = observed.whole_crawls[-1][0] if observed.whole_crawls else None
        if begun_at is None or observed.events_since is None or observed.events_since > begun_at:
            return False
    return True


async def was_ever_told(run: Run, registry: str) -> bool:
    """Whether a registry ever sent a notification: from one that never did nothing is to be expected."""
    return (await _load(run, registry)).delivered_at is not None


async def _load(run: Run, registry: str) -> ObservedRegistry:
    """What is known of a registry; a delivery about our own requests shows that it sends them, too."""

    def work(connection: Connection) -> ObservedRegistry:
        observed = load_registry(connection, registry)
        moments = [one for one in (observed.delivered_at, last_delivery_at(connection, registry)) if one is not None]
        return replace(observed, delivered_at=max(moments, default=None))

    return await run.services.database.read(work)


async def _guard_live(run: Run, registry: str) -> Guard | None:
    waived = run.stored.plan.waived | run.options.waived
    observed = await _load(run, registry)
    return guard_live_events(observed, waived, run.services.now())


async def _knock(run: Run, places: Sequence[tuple[str, str]]) -> None:
    """Ask for something that is there, and wait some seconds for the notification of it."""
    registry = places[0][0]
    connector = run.services.connectors[registry]

    def load(connection: Connection) -> list[Step]:
        found = (load_steps(connection, run.stored.id, place=place, limit=_KNOCKS) for place in places)
        return [one.step for steps in found for one in steps if one.step.kind is not StepKind.DROP][:_KNOCKS]

    try:
        for step in await run.services.database.read(load):
            site = Site(run.services, connector, run.stored.id, registry, step.repository, run.limiter)
            if await resolve(site, (*step.tags, step.digest)[0]) is not None:
                break
    except RegistryError:
        return
    for _ in range(_KNOCKS):
        await run.target.drain()
        if await _guard_live(run, registry) is None:
            return
        await asyncio.sleep(_KNOCK_SECONDS)


async def check_proof(run: Run, repositories: Sequence[tuple[str, str]]) -> None:
    """Before anything goes: every repository's steps, as far as they still hold, are proven to be harmless."""
    for registry, repository in repositories:
        site = Site(run.services, run.services.connectors[registry], run.stored.id, registry, repository)
        known = await consider(run, site, ())
        if known.violations:
            message = f"plan {run.stored.id} is not proven to be harmless: {repository}: {known.violations[0]}"
            hint = "Nothing was done. Please report this: it is a mistake of Regwarden."
            raise Conflict(message, hint=hint, code="plan-unproven")
