"""Who agrees to a plan, and is that enough?

Where one must agree, the user of a machine, a program with a token and a person who signed in count the same. Where
several must, only people who signed in do, each once however they came, and never who made the plan.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from regwarden import clock
from regwarden.core.access import Principal
from regwarden.core.quantities import parse_moment_or_duration
from regwarden.errors import Conflict, Forbidden
from regwarden.store import audit, tokens
from regwarden.store.plan_records import Approval, ApprovalKind, PlanState, StoredPlan
from regwarden.store.plans import change_state, load_plan, save_approval

if TYPE_CHECKING:
    from regwarden.store.database import Database


@dataclass(frozen=True, slots=True)
class Approved:
    """That ``principal`` agreed; ``missing_approval_count`` more people must, and ``hint`` says how."""

    plan_id: int
    principal: str
    fingerprint: str
    missing_approval_count: int
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Approver:
    """Who agrees: ``id`` is the same however they come, ``name`` is what people call them, ``kind`` how they came."""

    id: str
    name: str
    kind: ApprovalKind

    @classmethod
    def of_machine(cls, user: str) -> Approver:
        """The user of a machine, as it says."""
        return cls(id=user, name=user, kind=ApprovalKind.OS_USER)

    @classmethod
    def of_service(cls, principal: Principal) -> Approver:
        """Somebody who has shown the service who they are."""
        kind = ApprovalKind.SIGNED_IN if principal.is_person else ApprovalKind.PROGRAM
        return cls(id=principal.id, name=principal.name, kind=kind)


def approve(database: Database, plan_id: int, approver: Approver, fingerprint: str | None = None) -> Approved:
    """Keep that somebody agrees. Raises ``NotFound``, ``Conflict`` (code ``plan-…``), ``Forbidden`` (``own-plan``)."""
    return database.write_now(lambda connection: approve_in(connection, plan_id, approver, fingerprint))


def approve_in(connection: Any, plan_id: int, approver: Approver, fingerprint: str | None) -> Approved:
    """As ``approve``, inside a transaction."""
    stored, now = load_plan(connection, plan_id), clock.now()
    _check_open(stored, now)
    if stored.plan.is_blocked:
        codes = ", ".join(sorted({str(one.code) for one in stored.plan.guards if one.level == "plan"}))
        hint = "Make a new plan; what can be waived is waived with --waive."
        raise Conflict(f"plan {plan_id} is held back by {codes}", hint=hint, code="plan-blocked")
    if fingerprint is not None and fingerprint != stored.plan.fingerprint:
        raise Conflict(
            f"plan {plan_id} is not the one with this fingerprint",
            hint=f"Its fingerprint is {stored.plan.fingerprint}.",
            code="plan-fingerprint",
        )
    approval = Approval(
        principal=approver.id,
        kind=approver.kind,
        at=now,
        fingerprint=stored.plan.fingerprint,
        name="" if approver.name == approver.id else approver.name,
    )
    _check_maker(stored, approval, tokens.find_makers(connection, stored.plan.made_by))
    save_approval(connection, plan_id, approval)
    audit.record(
        connection,
        at=now,
        principal=approver.name,
        action="plan-approve",
        plan_id=plan_id,
        detail={"fingerprint": approval.fingerprint, "kind": str(approval.kind)}
        | ({"id": approver.id} if approval.name else {}),
    )
    missing = load_plan(connection, plan_id).missing_approval_count
    hint = ""
    if missing:
        hint = (
            f"{missing} more must agree, signed in: the name of a machine's user or a token is not enough for a plan"
            " that wants more than one person"
        )
    return Approved(plan_id, approver.name, approval.fingerprint, missing, hint)


def reject(database: Database, plan_id: int, principal: str, reason: str = "") -> None:
    """Refuse a plan for ever. Raises ``NotFound``, and ``Conflict`` for one that was begun."""
    database.write_now(lambda connection: reject_in(connection, plan_id, principal, reason))


def reject_in(connection: Any, plan_id: int, principal: str, reason: str) -> None:
    """As ``reject``, inside a transaction."""
    change_state(connection, plan_id, (PlanState.OPEN,), PlanState.REJECTED)
    audit.record(
        connection,
        at=clock.now(),
        principal=principal,
        action="plan-reject",
        plan_id=plan_id,
        detail={"reason": reason},
    )


def parse_since(given: datetime | str | None, now: datetime) -> datetime | None:
    """A moment, or an age counted from ``now``. Raises ``InputError``."""
    if given is None or isinstance(given, datetime):
        return given
    value = parse_moment_or_duration(given.strip())
    return value if isinstance(value, datetime) else now - value


def _check_maker(stored: StoredPlan, approval: Approval, makers: Collection[str]) -> None:
    """Several people have looked at a plan only if its maker is not one of them.

    ``makers`` are who made the token with which it was made: a program does what they want.
    """
    needed = stored.plan.demands.approval_count
    is_theirs = approval.shown_name.casefold() in {maker.casefold() for maker in makers}
    if needed > 1 and approval.kind is ApprovalKind.SIGNED_IN and (is_theirs or stored.is_made_by(approval)):
        raise Forbidden(
            f"{approval.shown_name} made plan {stored.id}, which others must agree to",
            hint=f"It needs {needed} people who are signed in, besides who made it.",
            code="own-plan",
        )


def _check_open(stored: StoredPlan, now: datetime) -> None:
    if stored.state is not PlanState.OPEN:
        hint = "A plan is applied once; make a new one."
        raise Conflict(f"plan {stored.id} is {stored.state}, not open", hint=hint, code="plan-state")
    if stored.plan.expires_at <= now:
        hint = "Make a new plan: the registry has moved on."
        raise Conflict(f"plan {stored.id} has expired", hint=hint, code="plan-expired")
