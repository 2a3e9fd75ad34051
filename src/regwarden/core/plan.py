"""What is a plan? What goes, in which order, what stays and why, which guards hold it back, and what it frees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from regwarden.core.graph import Confidence
from regwarden.core.policy import Policy
from regwarden.core.selection import Selection
from regwarden.core.verdicts import RepositoryVerdicts


class StepKind(StrEnum):
    """What a step does at the registry."""

    UNTAG = "untag"  # removes a tag; its manifest stays
    DELETE = "delete"  # removes a manifest from a repository with every tag that points to it
    DROP = "drop"  # removes a repository as a whole, after everything in it


class Step(NamedTuple):
    """One change at the registry. Steps of a repository stand together, in an order that is safe to break off.

    ``tags`` are the tags of ``digest`` that go: exactly one for an untag; all that point there for a delete, none for
    what is untagged. A drop has neither digest nor tags. ``with_placeholder``: the tag is pointed to an empty manifest,
    and that is deleted. The fields enter the fingerprint of a plan in this order.
    """

    position: int
    kind: StepKind
    registry: str
    repository: str
    digest: str
    tags: tuple[str, ...] = ()
    with_placeholder: bool = False
    size_bytes: int = 0


class GuardCode(StrEnum):
    """What holds a plan back. Each is waived only by this name; those in ``UNWAIVABLE`` never."""

    NEVER_EMPTY = "never-empty"
    REPOSITORY_SHARE = "repository-share"
    MANIFEST_LIMIT = "manifest-limit"
    TAG_LIMIT = "tag-limit"
    BYTE_LIMIT = "byte-limit"
    MIN_AGE = "min-age"
    INVENTORY_AGE = "inventory-age"
    INCOMPLETE_INVENTORY = "incomplete-inventory"
    PULL_HISTORY = "pull-history"
    OPEN_PUSH = "open-push"
    NO_LIVE_EVENTS = "no-live-events"
    MISSING_SOURCE = "missing-source"  # a clause asks for facts that no source gives
    DELETE_DISABLED = "delete-disabled"
    CANNOT_UNTAG = "cannot-untag"
    CANNOT_DROP = "cannot-drop"


UNWAIVABLE: frozenset[GuardCode] = frozenset(
    {GuardCode.MISSING_SOURCE, GuardCode.DELETE_DISABLED, GuardCode.CANNOT_UNTAG, GuardCode.CANNOT_DROP}
)


class GuardLevel(StrEnum):
    """What a guard holds back: the whole plan, one repository, or one tag or manifest of it."""

    PLAN = "plan"
    REPOSITORY = "repository"
    ROOT = "root"


class GuardState(StrEnum):
    """What a guard does."""

    BLOCKS = "blocks"
    NEEDS_APPROVAL = "needs-approval"  # a limit: one more person must agree
    WAIVED = "waived"


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """One guard that was met. ``subject`` is the tag or digest at level ``root``, otherwise empty."""

    code: GuardCode
    level: GuardLevel
    state: GuardState
    message: str
    hint: str = ""
    registry: str = ""
    repository: str = ""
    subject: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSizes:
    """Bytes that a garbage collection frees after the plan was applied: at most, and at least.

    Where something untagged may exist that nobody knows of, it may hold all of it: then nothing is certain.

    ``untagged_bytes`` is what known untagged manifests that stay go on holding of what the removed tags reach.
    """

    reclaimable_bytes: int
    lower_bound_bytes: int
    confidence: Confidence
    untagged_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Demands:
    """What a plan asks for before it is applied, merged from its policies: the strictest of each.

    ``windows`` are texts such as ``Mon-Fri 10:00-16:00 UTC``; the plan may run while one of every policy is open.
    """

    approval_count: int = 1
    windows: tuple[str, ...] = ()
    undo: timedelta = timedelta(days=7)


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetResult:
    """What one budget came to in one of its scopes: a repository, a project, a registry or all of its policy.

    ``subject`` names the scope, ``registry/team`` for example; empty for the whole policy. Bytes are stored ones, each
    blob once: before what the budget takes, and after the whole plan. ``chosen_count`` tags and untagged manifests were
    chosen by ``method`` (``core.budgets``); any other choice that meets the goal would cost ``least_regret`` at least.
    """

    policy: str
    rule: str
    scope: str
    subject: str
    order: str
    method: str
    max_bytes: int
    bytes_before: int
    bytes_after: int
    chosen_count: int
    regret: int
    least_regret: int

    @property
    def is_met(self) -> bool:
        """Whether it fits after the plan was applied."""
        return self.bytes_after <= self.max_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A decision that nobody has carried out yet. Equal facts give equal plans and equal fingerprints.

    Made either from ``policies`` (texts as they were read, by name) or from a ``selection``. ``waived`` are the guards
    that were waived by name. ``snapshots`` name, by registry, the state of the inventory that was looked at.
    ``stay_counts`` counts the tags and untagged manifests that stay, by the code of their first reason.
    ``drops_repositories``: a repository of which nothing stays goes itself.
    """

    made_at: datetime
    expires_at: datetime
    made_by: str
    steps: tuple[Step, ...]
    verdicts: tuple[RepositoryVerdicts, ...]
    guards: tuple[Guard, ...]
    sizes: Mapping[str, PlanSizes]
    demands: Demands
    snapshots: Mapping[str, str]
    policy_texts: Mapping[str, str] = field(default_factory=dict)
    policies: tuple[Policy, ...] = ()
    selection: Selection | None = None
    waived: frozenset[GuardCode] = frozenset()
    fingerprint: str = ""
    acts_first_at: datetime | None = None
    budgets: tuple[BudgetResult, ...] = ()
    stay_counts: Mapping[str, int] = field(default_factory=dict)
    drops_repositories: bool = False

    @property
    def is_blocked(self) -> bool:
        """Whether a guard forbids to apply any of it."""
        return any(one.level is GuardLevel.PLAN and one.state is GuardState.BLOCKS for one in self.guards)
