"""What is known of a plan that is kept: how far it has come, who agreed, what became of its steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from regwarden.core.plan import Plan, Step


class PlanState(StrEnum):
    """How far a plan has come."""

    INCOMPLETE = "incomplete"  # its rows are being written, or the process ended while they were
    OPEN = "open"
    APPLYING = "applying"
    APPLIED = "applied"
    UNDONE = "undone"
    FINISHED = "finished"
    REJECTED = "rejected"


class StepState(StrEnum):
    """What became of a step."""

    PENDING = "pending"
    INTENDED = "intended"  # the request may have been sent; nobody knows yet what came of it
    DONE = "done"
    GONE = "gone"  # it was not there any more
    DRIFTED = "drifted"  # the world moved: not done, and never will be
    FAILED = "failed"
    RESTORED = "restored"


class ApprovalKind(StrEnum):
    """Who says who it was."""

    OS_USER = "os-user"
    SIGNED_IN = "signed-in"
    PROGRAM = "program"  # a robot token, or a job of a pipeline: counts like the user of a machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """That somebody agreed to exactly the plan with this ``fingerprint``.

    ``principal`` is the same for one person however they sign in; ``name`` is what people call them, where that is
    something else.
    """

    principal: str
    kind: ApprovalKind
    at: datetime
    fingerprint: str
    name: str = ""

    @property
    def shown_name(self) -> str:
        """What people call who agreed."""
        return self.name or self.principal


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSummary:
    """A plan in one line of a list."""

    id: int
    state: PlanState
    title: str
    made_at: datetime
    made_by: str
    expires_at: datetime
    fingerprint: str
    is_blocked: bool
    needed_approval_count: int
    repository_count: int
    tag_count: int
    manifest_count: int
    reclaimable_bytes: int
    applied_at: datetime | None
    undo_until: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPlan:
    """A plan without its steps and verdicts (``load_steps``, ``load_verdicts``), and how far it has come.

    ``step_counts`` counts its steps by state; ``outcome`` is what ``save_outcome`` kept.
    """

    id: int
    summary: PlanSummary
    plan: Plan
    approvals: tuple[Approval, ...]
    step_counts: Mapping[str, int]
    outcome: Mapping[str, Any] | None

    @property
    def state(self) -> PlanState:
        """How far it has come."""
        return self.summary.state

    @property
    def valid_approvals(self) -> tuple[Approval, ...]:
        """Those that are about this very plan."""
        return tuple(one for one in self.approvals if one.fingerprint == self.plan.fingerprint)

    @property
    def missing_approval_count(self) -> int:
        """How many more people must agree to exactly this plan.

        Where several must, only those count of whom a directory says who they are: anybody can be several users of one
        machine. Nor does whoever made the plan, for they have looked at it already. One name in two directories may be
        one person, and counts once.
        """
        needed = self.plan.demands.approval_count
        counted = self.valid_approvals
        if needed > 1:
            counted = tuple(one for one in counted if one.kind is ApprovalKind.SIGNED_IN and not self.is_made_by(one))
        people = {one.principal for one in counted}, {one.shown_name.casefold() for one in counted}
        return max(needed - min(map(len, people)), 0)

    def is_made_by(self, approval: Approval) -> bool:
        """Whether who agreed may have made the plan: by the name, for a plan keeps no more of its maker.

        A pipeline's job is called by the subject with which the id of a person with the same subject ends.
        """
        maker, principal = self.plan.made_by.casefold(), approval.principal.casefold()
        return maker in (principal, approval.shown_name.casefold()) or principal.endswith(f":{maker}")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredStep:
    """A step and what became of it; ``at`` is the moment of its last journal entry."""

    step: Step
    state: StepState
    detail: str = ""
    at: datetime | None = None

    @property
    def was_begun(self) -> bool:
        """Whether it was asked for before and is pending again, because it was not done or only in part."""
        return self.state is StepState.PENDING and self.at is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRepository:
    """How much of a repository stays and goes by a plan: counts of roots by outcome, and of steps."""

    registry: str
    repository: str
    keep_count: int
    remove_count: int
    undecided_count: int
    step_count: int
