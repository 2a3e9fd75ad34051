"""The end of a plan: its undo ends, what a collection should free is told, and afterwards compared with what it freed.

Regwarden removes no blob itself. It measures where the storage can be read, and otherwise asks for blobs that could be
read when the plan was finished.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from regwarden.core.collection_prediction import (
    Prediction,
    RemovedBlob,
    RemovedManifest,
    choose_sample,
    expect,
    predict,
)
from regwarden.core.collection_runbook import guess_flavour
from regwarden.core.collection_steps import Flavour
from regwarden.core.oci.digests import Digest
from regwarden.core.plan import StepKind
from regwarden.core.undo import read_kept
from regwarden.errors import Conflict, InputError, RegistryError
from regwarden.flows.alone import alone
from regwarden.flows.collecting import CommandRun, measure_storage, run_command
from regwarden.flows.concurrency import each
from regwarden.flows.finish_records import NOWHERE, CollectionPlace, RegistryCollected, RegistryEnd, conclude
from regwarden.flows.services import Services
from regwarden.registries.api import ProvesBlobs
from regwarden.store import audit, trash
from regwarden.store.capabilities import load_capabilities
from regwarden.store.connections import Connection
from regwarden.store.plan_records import PlanState, StepState, StoredPlan
from regwarden.store.plans import change_state, load_plan, load_steps, save_outcome
from regwarden.store.still_needed import find_still_needed
from regwarden.store.trash import Role

SAMPLE_COUNT: Final = 20
"""How many blobs of a registry are asked for to see whether they are gone."""

_BY_ITSELF: Final = "GitLab collects it by itself within 24 to 48 hours; look again after that"
_ENDABLE: Final = (PlanState.APPLYING, PlanState.APPLIED, PlanState.UNDONE)
_GONE: Final = (StepState.DONE, StepState.GONE)
_PIECE_STEPS: Final = 1000
_CONCURRENCY: Final = 4
_FINISHED: Final = "finished"  # keys of the plan's outcome
_COLLECTED: Final = "collected"


async def finish_plan(
    services: Services, plan_id: int, *, principal: str, places: Mapping[str, CollectionPlace]
) -> tuple[RegistryEnd, ...]:
    """End the undo of a plan; what should be freed at each registry, by name. Of a finished plan: the same again.

    ``places`` by registry. Raises ``NotFound``, and ``Conflict`` (code ``plan-state``) for a plan never applied.
    """
    with services.database.exclusive(f"plan {plan_id}"):
        stored = await services.database.read(lambda connection: load_plan(connection, plan_id))
        if stored.state is PlanState.FINISHED:
            return _read_ends(stored)
        if stored.state not in _ENDABLE:
            hint = "There is nothing to finish."
            raise Conflict(f"plan {plan_id} is {stored.state}: it has removed nothing", hint=hint, code="plan-state")
        predictions = await _predict(services, stored)
        ends = tuple(
            [
                await _end(services, stored, name, prediction, places.get(name, NOWHERE))
                for name, prediction in sorted(predictions.items())
            ]
        )
        at = services.now()

        def end(connection: Connection) -> None:
            change_state(connection, plan_id, _ENDABLE, PlanState.FINISHED)
            outcome = {**(stored.outcome or {}), _FINISHED: msgspec.to_builtins(ends)}
            save_outcome(connection, plan_id, outcome, finished_at=at)
            expected = {one.registry: one.expected.at_most_bytes for one in ends}
            audit.record(connection, at=at, principal=principal, action="plan-finish", plan_id=plan_id, detail=expected)

        await services.database.write(end)
        return ends


async def run_collection(
    services: Services, plan_id: int, *, principal: str, places: Mapping[str, CollectionPlace]
) -> dict[str, CommandRun]:
    """Run the operator's commands for the registries of a finished plan, one after the other; by registry.

    Raises ``Conflict`` for a plan that is not finished, ``InputError`` (code ``collect-command``) where there is no
    command for any of its registries or one cannot be started, ``Conflict`` (code ``database-busy``) while another
    plan is carried out or taken back there. A command that fails is in the result.
    """
    ends = await _finished_ends(services, plan_id)
    asked = {one.registry: places.get(one.registry, NOWHERE) for one in ends}
    if not any(place.command for place in asked.values()):
        raise InputError(
            f"no command is configured that collects the garbage of {', '.join(asked) or 'a registry'}",
            hint='Add collect_command = ["PROGRAM", "ARGUMENT"] to its settings, or follow the runbook.',
            code="collect-command",
        )
    # What another plan is just putting back must not be taken for garbage.
    async with alone(services.database, plan_id):
        return await _run_commands(services, plan_id, principal, asked)


async def _run_commands(
    services: Services, plan_id: int, principal: str, asked: Mapping[str, CollectionPlace]
) -> dict[str, CommandRun]:
    runs: dict[str, CommandRun] = {}
    for name, place in asked.items():
        if not place.command:
            continue
        runs[name] = await run_command(place.command, timeout_seconds=place.timeout_seconds)
        # Its arguments may have secrets, and the audit is kept for ever.
        detail = {"exit_status": runs[name].exit_status, "command": place.command[0]}
        at = services.now()
        await services.database.write(
            lambda connection, at=at, name=name, detail=detail: audit.record(  # type: ignore[misc]  # defaults bind
                connection,
                at=at,
                principal=principal,
                action="plan-collect",
                plan_id=plan_id,
                subject=name,
                detail=detail,
            )
        )
    return runs


async def finish_collected(
    services: Services, plan_id: int, *, principal: str, places: Mapping[str, CollectionPlace]
) -> tuple[RegistryCollected, ...]:
    """Compare what a collection freed with what it should free; kept as part of the plan's outcome.

    Raises ``NotFound``, and ``Conflict`` (code ``plan-state``) for a plan that is not finished.
    """
    ends = await _finished_ends(services, plan_id)
    found = tuple([await _compare(services, one, places.get(one.registry, NOWHERE)) for one in ends])
    at = services.now()

    def keep(connection: Connection) -> None:
        outcome = dict(load_plan(connection, plan_id).outcome or {})
        save_outcome(connection, plan_id, {**outcome, _COLLECTED: msgspec.to_builtins(found)})
        freed = {one.registry: [str(one.conclusion), one.freed_bytes] for one in found}
        audit.record(connection, at=at, principal=principal, action="plan-collected", plan_id=plan_id, detail=freed)

    await services.database.write(keep)
    return found


async def _finished_ends(services: Services, plan_id: int) -> tuple[RegistryEnd, ...]:
    stored = await services.database.read(lambda connection: load_plan(connection, plan_id))
    if stored.state is not PlanState.FINISHED:
        raise Conflict(
            f"plan {plan_id} is {stored.state}, not finished",
            hint=f"Run `regwarden plan finish {plan_id}` first: it ends the undo and notes what is there before.",
            code="plan-state",
        )
    return _read_ends(stored)


def _read_ends(stored: StoredPlan) -> tuple[RegistryEnd, ...]:
    kept: Any = (stored.outcome or {}).get(_FINISHED, [])
    return msgspec.convert(kept, tuple[RegistryEnd, ...])


async def _predict(services: Services, stored: StoredPlan) -> dict[str, Prediction]:
    """By registry, what is there only because of what the plan removed."""
    steps = await services.database.read(lambda connection: load_steps(connection, stored.id, states=_GONE))
    places = {one.step.position: one.step for one in steps if one.step.kind is StepKind.DELETE}
    removed: dict[str, list[RemovedManifest]] = {one.step.registry: [] for one in steps}
    positions = sorted(places)
    for start in range(0, len(positions), _PIECE_STEPS):
        piece = positions[start : start + _PIECE_STEPS]
        entries = await services.database.read(
            lambda connection, piece=piece: trash.load(connection, stored.id, positions=piece)  # type: ignore[misc]  # bound
        )
        for entry in entries:
            if entry.role is Role.DELETED:
                step = places[entry.position]
                kept = read_kept(entry.digest, entry.media_type, entry.payload)
                removed[step.registry].append(RemovedManifest(step.repository, kept, len(entry.payload)))
    found = {name: predict(ones) for name, ones in removed.items()}
    for name, prediction in found.items():
        asked = {*prediction.documents, *prediction.blobs}
        needed = await services.database.read(
            lambda connection, name=name, asked=asked: find_still_needed(connection, name, asked)  # type: ignore[misc]  # bound
        )
        found[name] = prediction.without(needed)
    return found


async def _end(
    services: Services, stored: StoredPlan, name: str, prediction: Prediction, place: CollectionPlace
) -> RegistryEnd:
    size = await measure_storage(place.storage_path) if place.storage_path is not None else None
    sample = choose_sample(prediction, SAMPLE_COUNT)
    try:
        gone = await _find_gone(services, name, sample)
        sample = tuple(one for one in sample if one.digest not in gone)
    except RegistryError:
        sample = ()  # what could not be read before proves nothing afterwards
    return RegistryEnd(
        registry=name,
        flavour=await _flavour(services, name),
        expected=expect(prediction, stored.plan.sizes.get(name)),
        store_bytes=size.size_bytes if size is not None else None,
        problem=size.problem if size is not None else "",
        sample=sample,
    )


async def _flavour(services: Services, name: str) -> Flavour:
    known = await services.database.read(lambda connection: load_capabilities(connection, name))
    server, headers = known.get("server", ""), {}
    if (connector := services.connectors.get(name)) is not None:
        try:
            ping = await connector.ping()
            server, headers = ping.server or server, ping.headers
        except RegistryError:
            headers = {}  # it tells nothing now; what is known of it decides
    return guess_flavour(server, known.get("delete_tag", "unknown"), headers)


async def _find_gone(services: Services, name: str, sample: tuple[RemovedBlob, ...]) -> frozenset[str]:
    """Those of the sample that cannot be read. Raises ``RegistryError`` where that cannot be found out."""
    proving: object = services.connectors.get(name)
    if not isinstance(proving, ProvesBlobs):
        raise RegistryError(f"the registry {name} cannot be asked for blobs", code="registry-not-configured")

    async def is_readable(one: RemovedBlob) -> bool:
        return await proving.prove_blob(one.repository, Digest.parse(one.digest), one.size_bytes)

    answers = await each(is_readable, sample, asyncio.Semaphore(_CONCURRENCY))
    return frozenset(one.digest for one, is_there in zip(sample, answers, strict=True) if not is_there)


async def _compare(services: Services, end: RegistryEnd, place: CollectionPlace) -> RegistryCollected:
    problem, freed_bytes, gone_count, sample_count = "", None, 0, 0
    if place.storage_path is not None and end.store_bytes is not None:
        size = await measure_storage(place.storage_path)
        problem = size.problem
        if size.size_bytes is not None:
            freed_bytes = end.store_bytes - size.size_bytes
    try:
        gone_count = len(await _find_gone(services, end.registry, end.sample))
        sample_count = len(end.sample)
    except RegistryError as error:
        problem = problem or error.message
    if end.flavour is Flavour.GITLAB_DATABASE and gone_count < sample_count:
        problem = problem or _BY_ITSELF
    return RegistryCollected(
        registry=end.registry,
        conclusion=conclude(end.expected, freed_bytes, sample_count, gone_count),
        expected=end.expected,
        freed_bytes=freed_bytes,
        sample_count=sample_count,
        gone_count=gone_count,
        problem=problem,
    )
