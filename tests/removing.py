"""Plans that removed something, for tests of what comes after: steps as apply does them, without its precautions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from regwarden.core.oci.digests import Digest
from regwarden.core.oci.manifests import parse_manifest
from regwarden.core.plan import Plan, Step, StepKind
from regwarden.flows.services import Services
from regwarden.registries.api import FetchedManifest
from regwarden.store import journal, trash
from regwarden.store.journal import Moment, Result
from regwarden.store.own_changes import note_deleted, note_untagged
from regwarden.store.plan_records import PlanState, StepState
from regwarden.store.plans import change_state, load_steps, save_outcome, save_plan
from regwarden.store.trash import Role, TrashEntry

Removal = tuple[str, object, tuple[str, ...]]
"""(repository, digest, tags); a digest as text or as a ``Digest``."""


def plan_of(now: Any, registry: str, removals: Iterable[Removal], *, kind: StepKind = StepKind.DELETE) -> Plan:
    """A plan with these steps and nothing else."""
    from tests.store.cleanup_plans import plan

    steps = tuple(
        Step(position=position, kind=kind, registry=registry, repository=repository, digest=str(digest), tags=tags)
        for position, (repository, digest, tags) in enumerate(removals)
    )
    return replace(plan(), steps=steps, verdicts=(), guards=(), made_at=now, expires_at=now + timedelta(days=1))


async def remove(
    services: Services, plan: Plan, *, states: Mapping[int, Result] | None = None, extra_tags: tuple[str, ...] = ()
) -> int:
    """Save the plan and carry it out; returns its id. ``extra_tags`` were found at the first step, beside the plan's.

    ``states`` says of steps how their outcome is noted instead of ``done``; an outcome of ``gone`` is not carried out.
    """
    database = services.database
    plan_id = await database.write(lambda connection: save_plan(connection, plan))
    await database.write(lambda connection: change_state(connection, plan_id, [PlanState.OPEN], PlanState.APPLYING))
    for step in plan.steps:
        await remove_step(
            services,
            plan_id,
            step,
            result=(states or {}).get(step.position, Result.DONE),
            tags=tuple(sorted({*step.tags, *(extra_tags if step.position == 0 else ())})),
        )
    await database.write(lambda connection: change_state(connection, plan_id, [PlanState.APPLYING], PlanState.APPLIED))
    await database.write(lambda connection: save_outcome(connection, plan_id, {"removed": True}))
    return plan_id


async def remove_step(services: Services, plan_id: int, step: Step, *, result: Result, tags: tuple[str, ...]) -> None:
    """One step: trash, intent, request, outcome."""
    connector: Any = services.connectors[step.registry]
    role = Role.DELETED if step.kind is StepKind.DELETE else Role.UNTAGGED
    entries = [
        TrashEntry(
            position=step.position,
            digest=str(found.digest),
            role=role if str(found.digest) == step.digest else Role.DESCENDANT,
            media_type=found.media_type,
            payload=found.payload,
        )
        for found in await fetch_all(connector, step.repository, step.digest)
    ]
    database, at = services.database, services.now()
    moment = Moment(plan_id=plan_id, step=step, tags=tags, at=at)
    await database.write(lambda connection: trash.put(connection, plan_id, entries))
    await database.write(lambda connection: journal.note_intent(connection, moment))
    place = (step.registry, step.repository)
    if result is not Result.GONE:
        if step.kind is StepKind.DELETE:
            await connector.delete_manifest(step.repository, Digest.parse(step.digest))
            await database.write(
                lambda connection: note_deleted(connection, *place, digest=step.digest, tags=tags, at=at)
            )
        else:
            await connector.delete_tag(step.repository, step.tags[0])
            await database.write(lambda connection: note_untagged(connection, *place, tags=step.tags, at=at))
    await database.write(lambda connection: journal.note_outcome(connection, moment, result))


async def fetch_all(connector: Any, repository: str, digest: str) -> list[FetchedManifest]:
    """A manifest and everything that it leads to; what a former step removed is left out."""
    found: dict[str, FetchedManifest] = {}
    todo = [digest]
    while todo:
        wanted = todo.pop()
        if wanted in found or await connector.head_manifest(repository, wanted) is None:
            continue
        found[wanted] = await connector.fetch_manifest(repository, wanted)
        parsed = parse_manifest(found[wanted].payload, found[wanted].media_type)
        todo += [str(child.digest) for child in parsed.children]
    return list(found.values())


async def states_of(services: Services, plan_id: int) -> list[StepState]:
    """The states of a plan's steps, in order."""
    steps = await services.database.read(lambda connection: load_steps(connection, plan_id))
    return [one.state for one in steps]
