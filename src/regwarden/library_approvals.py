"""Who agrees to a plan, and is that enough? The user of a machine counts for one person where one is wanted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from regwarden import clock
from regwarden.core.quantities import parse_moment_or_duration
from regwarden.errors import Conflict
from regwarden.store import audit
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


def approve(database: Database, plan_id: int, principal: str, fingerprint: str | None = None) -> Approved:
    """Keep that the user of this machine agrees. Raises ``NotFound`` and ``Conflict`` (code ``plan-…``)."""
    return database.write_now(lambda connection: approve_in(connection, plan_id, principal, fingerprint))


def approve_in(connection: Any, plan_id: int, principal: str, fingerprint: str | None) -> Approved:
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
    approval = Approval(principal=principal, kind=ApprovalKind.OS_USER, at=now, fingerprint=stored.plan.fingerprint)
    save_approval(connection, plan_id, approval)
    audit.record(
        connection,
        at=now,
        principal=principal,
        action="plan-approve",
        plan_id=plan_id,
        detail={"fingerprint": approval.fingerprint, "kind": str(approval.kind)},
    )
    missing = load_plan(connection, plan_id).missing_approval_count
    hint = ""
    if missing:
        hint = (
            f"{missing} more must agree, signed in: the name of a machine's user is not enough for a plan that wants"
            " more than one person"
        )
    return Approved(plan_id, principal, approval.fingerprint, missing, hint)


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


def _check_open(stored: StoredPlan, now: datetime) -> None:
    if stored.state is not PlanState.OPEN:
        hint = "A plan is applied once; make a new one."
        raise Conflict(f"plan {stored.id} is {stored.state}, not open", hint=hint, code="plan-state")
    if stored.plan.expires_at <= now:
        hint = "Make a new plan: the registry has moved on."
        raise Conflict(f"plan {stored.id} has expired", hint=hint, code="plan-expired")
