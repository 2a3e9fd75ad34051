"""Routes by which a plan is agreed to, refused, carried out, taken back and made final."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import Depends
from pydantic import Field
from starlette.responses import Response

from regwarden.core.access import Permission
from regwarden.core.undo_choice import parse_choice
from regwarden.errors import Forbidden
from regwarden.library_approvals import Approver, approve
from regwarden.library_plans import parse_guard
from regwarden.web.api.context import Caller, Permitted
from regwarden.web.api.documents import document
from regwarden.web.api.operations import begin
from regwarden.web.api.plan_access import PlanId, plan_path, require_visible
from regwarden.web.api.routing import new_router
from regwarden.web.api.work import LEAST_RATE, Body, Fingerprint, Line, Sentence, naming
from regwarden.web.control import Tell
from regwarden.web.operations import Work, is_administrator

router = new_router("plans")
ApprovingCaller = Annotated[Caller, Depends(Permitted(Permission.PLANS_APPROVE))]
ApplyingCaller = Annotated[Caller, Depends(Permitted(Permission.PLANS_APPLY))]


class ApproveBody(Body):
    """What is agreed to."""

    fingerprint: Fingerprint | None = Field(default=None, description="Only if the plan is the one with this.")


class RejectBody(Body):
    """Why it is refused."""

    reason: Sentence = Field(default="", description="Others will want to know why.")


class ApplyBody(Body):
    """How carefully a plan is carried out."""

    fingerprint: Fingerprint | None = Field(default=None, description="Only if the plan is the one with this.")
    waive: list[Line] = Field(default=[], max_length=100, description="Guards that are waived, by name.")
    max_failures: int = Field(default=5, ge=1, le=1_000_000, description="Stop after so many failures.")
    requests_per_second: float | None = Field(
        default=None, ge=LEAST_RATE, le=10_000, description="At most so many requests."
    )


class UndoBody(Body):
    """What is taken back: everything, or what is named."""

    only: list[Line] = Field(default=[], max_length=10_000, description="Numbers of steps, REPOSITORY:TAG, or digests.")


class FinishBody(Body):
    """What becomes of the garbage."""

    is_collected: bool = Field(default=False, description="It was collected: compare what that freed.")
    runs_command: bool = Field(
        default=False, description="Run the collect_command of the settings; for administrators."
    )


@router.post("/plans/{plan_id}/approve")
async def approve_plan(caller: ApprovingCaller, plan_id: PlanId, body: ApproveBody | None = None) -> Response:
    """Agree to a plan. Says how many more must.

    Where several must agree only people who signed in count, each once, and never who made the plan.
    """
    await require_visible(caller, plan_id)
    fingerprint = None if body is None else body.fingerprint
    approver = Approver.of_service(caller.principal)
    found = await asyncio.to_thread(approve, caller.parts.database, plan_id, approver, fingerprint)
    return document(asdict(found), _links(plan_id, "approve"))


@router.post("/plans/{plan_id}/reject")
async def reject_plan(caller: ApprovingCaller, plan_id: PlanId, body: RejectBody | None = None) -> Response:
    """Refuse a plan that was not applied: it never will be."""
    await require_visible(caller, plan_id)
    reason = "" if body is None else body.reason
    await caller.parts.commands["plan-reject"]({**_who(caller, plan_id), "reason": reason}, Tell())
    return document({"plan_id": plan_id, "state": "rejected"}, _links(plan_id, "reject"))


@router.post("/plans/{plan_id}/apply", status_code=202)
async def apply_plan(caller: ApplyingCaller, plan_id: PlanId, body: ApplyBody | None = None) -> Response:
    """Begin to carry out a plan that was agreed to, or go on with one that was interrupted.

    Everything is looked at again first; what changed since the plan was made is left alone.
    """
    await require_visible(caller, plan_id)
    asked = body or ApplyBody()
    with naming("waive"):
        for text in asked.waive:
            parse_guard(text)
    return _begin(caller, "plan-apply", plan_id, {"arguments": asked.model_dump()})


@router.post("/plans/{plan_id}/undo", status_code=202)
async def undo_plan(caller: ApplyingCaller, plan_id: PlanId, body: UndoBody | None = None) -> Response:
    """Begin to put back what a plan removed, byte for byte, as long as the registry has collected no garbage."""
    await require_visible(caller, plan_id)
    only = [] if body is None else body.only
    with naming("only"):
        parse_choice(only)
    return _begin(caller, "plan-undo", plan_id, {"only": only})


@router.post("/plans/{plan_id}/finish", status_code=202)
async def finish_plan(caller: ApplyingCaller, plan_id: PlanId, body: FinishBody | None = None) -> Response:
    """Begin to make a plan final: it cannot be undone any more, and the garbage may be collected.

    The result says how each registry collects its garbage, and what that should free.
    """
    await require_visible(caller, plan_id)
    asked = body or FinishBody()
    if asked.runs_command and not is_administrator(caller.principal):
        hint = "Leave out runs_command: the result says how the garbage is collected."
        raise Forbidden(f"{caller.principal.name} may not run commands on the service's machine", hint=hint)
    return _begin(caller, "plan-finish", plan_id, asked.model_dump())


def _begin(caller: Caller, command: str, plan_id: int, arguments: dict[str, Any]) -> Response:
    """Run one of the commands that take as long as it takes."""
    given = {**_who(caller, plan_id), **arguments}
    return begin(
        caller,
        Work(
            kind=command,
            subject=f"plan {plan_id}",
            run=lambda tell: caller.parts.commands[command](given, tell),
            links=lambda _report: {"plan": plan_path(plan_id)},
        ),
    )


def _who(caller: Caller, plan_id: int) -> dict[str, Any]:
    return {"plan_id": plan_id, "principal": caller.principal.name}


def _links(plan_id: int, name: str) -> dict[str, str]:
    return {"self": plan_path(plan_id, name), "plan": plan_path(plan_id)}
