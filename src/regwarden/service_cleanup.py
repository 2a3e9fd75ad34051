"""The commands of cleanup that the service runs for processes beside it. One line each in ``CLEANUP_COMMANDS``."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from regwarden.flows.apply_records import ApplyReport
from regwarden.library_apply import (
    ApplyArguments,
    Finished,
    PlanWork,
    Undone,
    perform_apply,
    perform_finish,
    perform_undo,
)
from regwarden.library_approvals import Approved, Approver, approve, reject
from regwarden.library_plans import PlanArguments, PlanCall, PlanMade, perform_plan
from regwarden.library_protections import Protected, end_protections, make_protection
from regwarden.service_context import Command, ServiceContext
from regwarden.web.control import Tell


class CreateRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The arguments of ``Inventory.create_plan``, and who calls."""

    arguments: dict[str, Any]
    made_by: str


async def _create(context: ServiceContext, asked: CreateRequest, tell: Tell) -> PlanMade:
    arguments = msgspec.convert(asked.arguments, PlanArguments)
    call = PlanCall(arguments, asked.made_by, context.environ, on_progress=tell.progress, on_warning=tell.warning)
    return await perform_plan(context.database, context.loaded, call)


class ApproveRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which user of a machine agrees to which plan. Nobody can say here that they are signed in."""

    plan_id: int
    principal: str
    fingerprint: str | None = None


async def _approve(context: ServiceContext, asked: ApproveRequest, _tell: Tell) -> Approved:
    approver = Approver.of_machine(asked.principal)
    return await asyncio.to_thread(approve, context.database, asked.plan_id, approver, asked.fingerprint)


class RejectRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who refuses which plan, and why."""

    plan_id: int
    principal: str
    reason: str = ""


async def _reject(context: ServiceContext, asked: RejectRequest, _tell: Tell) -> None:
    await asyncio.to_thread(reject, context.database, asked.plan_id, asked.principal, asked.reason)


class ApplyRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who carries out which plan, and how carefully."""

    plan_id: int
    principal: str
    arguments: ApplyArguments


async def _apply(context: ServiceContext, asked: ApplyRequest, tell: Tell) -> ApplyReport:
    work = _work(context, asked.plan_id, asked.principal, tell)
    return await perform_apply(context.database, context.loaded, work, asked.arguments)


class UndoRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who takes back what of which plan."""

    plan_id: int
    principal: str
    only: tuple[str, ...] = ()


async def _undo(context: ServiceContext, asked: UndoRequest, tell: Tell) -> Undone:
    work = _work(context, asked.plan_id, asked.principal, tell)
    return await perform_undo(context.database, context.loaded, work, asked.only)


class FinishRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who makes which plan final, and whether the garbage is, or was, collected."""

    plan_id: int
    principal: str
    is_collected: bool = False
    runs_command: bool = False


async def _finish(context: ServiceContext, asked: FinishRequest, tell: Tell) -> Finished:
    work = _work(context, asked.plan_id, asked.principal, tell)
    return await perform_finish(
        context.database, context.loaded, work, is_collected=asked.is_collected, runs_command=asked.runs_command
    )


def _work(context: ServiceContext, plan_id: int, principal: str, tell: Tell) -> PlanWork:
    return PlanWork(
        plan_id=plan_id,
        principal=principal,
        environ=context.environ,
        on_progress=tell.progress,
        on_warning=tell.warning,
    )


class ProtectRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The arguments of ``Inventory.protect``, and who calls."""

    text: str
    reason: str
    until: str | None = None
    registry: str | None = None
    principal: str


async def _protect(context: ServiceContext, asked: ProtectRequest, _tell: Tell) -> Protected:
    return await asyncio.to_thread(
        make_protection,
        context.database,
        text=asked.text,
        reason=asked.reason,
        until=asked.until,
        registry=asked.registry,
        principal=asked.principal,
    )


class UnprotectRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who ends which protections."""

    ids: tuple[int, ...]
    principal: str


async def _unprotect(context: ServiceContext, asked: UnprotectRequest, _tell: Tell) -> None:
    await asyncio.to_thread(end_protections, context.database, asked.ids, asked.principal)


CLEANUP_COMMANDS: Final[Mapping[str, Command[Any]]] = {
    "plan-apply": Command(ApplyRequest, _apply),
    "plan-approve": Command(ApproveRequest, _approve),
    "plan-create": Command(CreateRequest, _create),
    "plan-finish": Command(FinishRequest, _finish),
    "plan-reject": Command(RejectRequest, _reject),
    "plan-undo": Command(UndoRequest, _undo),
    "protection-add": Command(ProtectRequest, _protect),
    "protection-remove": Command(UnprotectRequest, _unprotect),
}
