"""How does a call of the library carry out, take back or finish a plan: registries opened, the flow run, closed?"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from regwarden import clock
from regwarden.core.collection_runbook import runbook_text
from regwarden.core.undo_choice import EVERYTHING, parse_choice
from regwarden.core.undo_losses import explain_loss
from regwarden.flows.apply_records import ApplyOptions, ApplyProgress, ApplyReport, ApplyTarget
from regwarden.flows.cleanup import apply_plan
from regwarden.flows.collecting import CommandRun
from regwarden.flows.finish_records import RegistryCollected, place_of
from regwarden.flows.finishing import finish_collected, finish_plan, run_collection
from regwarden.flows.ingest import Applier
from regwarden.flows.reconsidering import reconsider
from regwarden.flows.services import Services
from regwarden.flows.undoing import UndoOptions, undo_plan
from regwarden.library_crawl import log_warning
from regwarden.library_plans import parse_guard
from regwarden.library_remote import ServiceCommand
from regwarden.store import reports
from regwarden.store.installation import ensure_installation_id
from regwarden.store.plans import list_plan_repositories, load_plan
from regwarden.store.registry_hosts import save_hosts
from regwarden.wiring import (
    build_folding,
    new_installation_id,
    open_services,
    registry_hosts,
    resolve_registry,
    run_async,
)

if TYPE_CHECKING:
    from regwarden.settings_sources import LoadedSettings
    from regwarden.store.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanWork:
    """What the three have in common: which plan, who does it, who is told. ``environ`` has credentials."""

    plan_id: int
    principal: str
    environ: Mapping[str, str] = field(repr=False)
    on_progress: Callable[[Any], None] | None = None
    on_warning: Callable[[str], None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyArguments:
    """How carefully a plan is carried out.

    ``fingerprint`` of ``None`` is whatever the plan has. ``requests_per_second`` of ``None`` is that of the settings.
    """

    fingerprint: str | None = None
    waive: tuple[str, ...] = ()
    max_failures: int = 5
    requests_per_second: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Undone:
    """What an undo did; ``losses`` and ``failures`` are sentences. See ``flows.undoing.UndoReport``."""

    plan_id: int
    state: str
    asked_step_count: int
    restored_step_count: int
    manifest_count: int
    tag_count: int
    mounted_blob_count: int
    losses: tuple[str, ...]
    failures: tuple[str, ...]
    is_stopped: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How the garbage of one registry is collected, in words and step by step, and what that should free.

    Bytes of ``None`` are not known.
    """

    registry: str
    flavour: str
    is_manual: bool
    text: str
    steps: tuple[dict[str, Any], ...]
    at_least_bytes: int | None
    at_most_bytes: int | None
    store_bytes: int | None
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """What ``Inventory.finish_plan`` did: the runbooks, what commands printed, what was freed."""

    plan_id: int
    endings: tuple[Ending, ...] = ()
    runs: dict[str, CommandRun] = field(default_factory=dict)
    collected: tuple[RegistryCollected, ...] = ()


async def perform_apply(
    database: Database, loaded: LoadedSettings, work: PlanWork, arguments: ApplyArguments
) -> ApplyReport:
    """Open the registries of a plan and carry it out. Raises what ``flows.cleanup.apply_plan`` raises."""
    options = ApplyOptions(
        waived=frozenset(map(parse_guard, arguments.waive)),
        max_failures=arguments.max_failures,
        requests_per_second=arguments.requests_per_second,
    )
    hosts = registry_hosts(loaded.settings)
    await database.write(lambda connection: save_hosts(connection, hosts))
    fingerprint = arguments.fingerprint
    if fingerprint is None:
        stored = await database.read(lambda connection: load_plan(connection, work.plan_id))
        fingerprint = stored.plan.fingerprint
    async with _opened(database, loaded, work) as services:
        applier = Applier(database, clock.now, build_folding(loaded.settings, await _installation(database)))
        return await apply_plan(
            services,
            ApplyTarget(drain=applier.drain, reconsider=reconsider),
            work.plan_id,
            fingerprint=fingerprint,
            principal=work.principal,
            options=options,
            on_progress=work.on_progress,
        )


async def perform_undo(database: Database, loaded: LoadedSettings, work: PlanWork, only: Sequence[str]) -> Undone:
    """Open the registries of a plan and put back what it removed, or what ``only`` names."""
    choice = parse_choice(only) if only else EVERYTHING

    def tell(done: int, total: int) -> None:
        if work.on_progress is not None:
            work.on_progress({"done": done, "total": total})

    async with _opened(database, loaded, work) as services:
        report = await undo_plan(
            services, work.plan_id, principal=work.principal, options=UndoOptions(choice=choice), on_progress=tell
        )
    known = {name: getattr(report, name) for name in report.__slots__ if name not in ("losses", "failures")}
    failures = tuple(
        f"{one.repository}{':' + one.tag if one.tag else '@' + one.digest}: {one.message}" for one in report.failures
    )
    return Undone(**known, losses=tuple(map(explain_loss, report.losses)), failures=failures)


async def perform_finish(
    database: Database, loaded: LoadedSettings, work: PlanWork, *, is_collected: bool, runs_command: bool
) -> Finished:
    """End the undo of a plan; with ``runs_command`` collect as configured, with ``is_collected`` compare."""
    places = {one.name: place_of(one) for one in loaded.settings.registry}
    async with _opened(database, loaded, work) as services:
        plan_id, principal = work.plan_id, work.principal
        if is_collected and not runs_command:
            collected = await finish_collected(services, plan_id, principal=principal, places=places)
            return Finished(plan_id=plan_id, collected=collected)
        ends = await finish_plan(services, plan_id, principal=principal, places=places)
        endings = tuple(
            Ending(
                registry=one.registry,
                flavour=str(one.flavour),
                is_manual=one.runbook.is_manual,
                text=runbook_text(one.runbook, plan_id=plan_id),
                steps=tuple([step._asdict() for step in one.runbook.steps]),
                at_least_bytes=one.expected.at_least_bytes,
                at_most_bytes=one.expected.at_most_bytes,
                store_bytes=one.store_bytes,
                problem=one.problem,
            )
            for one in ends
        )
        if not runs_command:
            return Finished(plan_id=plan_id, endings=endings)
        runs = await run_collection(services, plan_id, principal=principal, places=places)
        collected = await finish_collected(services, plan_id, principal=principal, places=places)
        return Finished(plan_id=plan_id, endings=endings, runs=runs, collected=collected)


def run_apply(database: Database, loaded: LoadedSettings, work: PlanWork, arguments: ApplyArguments) -> ApplyReport:
    """``perform_apply`` for callers without an event loop."""
    return run_async(perform_apply(database, loaded, work, arguments))


def run_undo(database: Database, loaded: LoadedSettings, work: PlanWork, only: Sequence[str]) -> Undone:
    """``perform_undo`` for callers without an event loop."""
    return run_async(perform_undo(database, loaded, work, only))


def run_finish(
    database: Database, loaded: LoadedSettings, work: PlanWork, *, is_collected: bool, runs_command: bool
) -> Finished:
    """``perform_finish`` for callers without an event loop."""
    return run_async(perform_finish(database, loaded, work, is_collected=is_collected, runs_command=runs_command))


def remote_apply(work: PlanWork, arguments: ApplyArguments) -> ServiceCommand[ApplyReport]:
    """Applying as the service does it."""

    def show(state: Any) -> None:
        if work.on_progress is not None:
            work.on_progress(msgspec.convert(state, ApplyProgress))

    known = {"plan_id": work.plan_id, "principal": work.principal, "arguments": asdict(arguments)}
    return ServiceCommand("plan-apply", known, ApplyReport, show, work.on_warning)


def remote_undo(work: PlanWork, only: Sequence[str]) -> ServiceCommand[Undone]:
    """The undo as the service does it."""
    known = {"plan_id": work.plan_id, "principal": work.principal, "only": list(only)}
    return ServiceCommand("plan-undo", known, Undone, work.on_progress, work.on_warning)


def remote_finish(work: PlanWork, *, is_collected: bool, runs_command: bool) -> ServiceCommand[Finished]:
    """Finishing as the service does it, with its settings."""
    known = {
        "plan_id": work.plan_id,
        "principal": work.principal,
        "is_collected": is_collected,
        "runs_command": runs_command,
    }
    return ServiceCommand("plan-finish", known, Finished, None, work.on_warning)


@asynccontextmanager
async def _opened(database: Database, loaded: LoadedSettings, work: PlanWork) -> AsyncIterator[Services]:
    """The registries of the plan, ready to be asked."""
    registries = await database.read(reports.registry_overview)
    known = {one.registry: one.url for one in registries}
    places = await database.read(
        lambda connection: (load_plan(connection, work.plan_id), list_plan_repositories(connection, work.plan_id))[1]
    )
    names = sorted({one.registry for one in places})
    accesses = [resolve_registry(name, loaded, work.environ, known=known) for name in names]
    warn = work.on_warning or log_warning
    defaults = loaded.settings.defaults
    async with open_services(database, accesses, defaults, environ=work.environ, warn=warn) as (services, _):
        yield services


async def _installation(database: Database) -> str:
    return await database.write(lambda connection: ensure_installation_id(connection, new_installation_id()))
