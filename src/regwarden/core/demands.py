"""What do several policies together ask for? The strictest of each: limits, approvals, windows, time to undo."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Final, TypeVar

from regwarden.core.plan import Demands
from regwarden.core.policy import Approval, Limits, OnExceed, PerRun, Policy, Referrers
from regwarden.core.windows import write_windows

T = TypeVar("T", int, Decimal)

SELECTION_LIMITS: Final = Limits(per_run=PerRun(share_of_repo=None))
"""For what a person named: the usual limits but the share, which would forbid to name most of a repository."""

_APPROVAL_COUNTS: Final = {Approval.NONE: 0, Approval.ONE: 1, Approval.TWO: 2}


def merge_limits(policies: Sequence[Policy]) -> Limits:
    """The strictest of each limit; without a policy those for a selection."""
    if not policies:
        return SELECTION_LIMITS
    limits = [policy.limits for policy in policies]
    runs = [one.per_run for one in limits]
    return Limits(
        per_run=PerRun(
            manifests=_least(one.manifests for one in runs),
            tags=_least(one.tags for one in runs),
            share_of_repo=_least(one.share_of_repo for one in runs),
            bytes=_least(one.bytes for one in runs),
        ),
        min_age=max(one.min_age for one in limits),
        never_empty=any(one.never_empty for one in limits),
        on_exceed=OnExceed.BLOCK if any(one.on_exceed is OnExceed.BLOCK for one in limits) else OnExceed.NEEDS_APPROVAL,
    )


def merge_demands(policies: Sequence[Policy], *, needs_more_approval: bool) -> Demands:
    """The most approvals, every policy's windows, the longest time to undo; for a selection the usual ones.

    ``needs_more_approval``: a limit was exceeded, so that one more person must agree.
    """
    usual = Demands()
    applied = [policy.apply for policy in policies]
    approval_count = max((_APPROVAL_COUNTS[one.approval] for one in applied), default=usual.approval_count)
    return Demands(
        approval_count=approval_count + needs_more_approval,
        windows=tuple(sorted({write_windows(one.window) for one in applied if one.window})),
        undo=max((one.undo for one in applied), default=usual.undo),
    )


def allow_placeholders(policies: Iterable[Policy]) -> bool:
    """Whether every policy (there is at least one) lets tags be pointed to an empty manifest."""
    chosen = [policy.apply.placeholders for policy in policies]
    return bool(chosen) and all(chosen)


def follow_subjects(policies: Iterable[Policy]) -> bool:
    """Whether what refers to something goes with it: unless one of the policies wants it named."""
    return all(policy.referrers is Referrers.FOLLOW_SUBJECT for policy in policies)


def _least(limits: Iterable[T | None]) -> T | None:
    return min((one for one in limits if one is not None), default=None)
