"""How does ``Inventory`` answer about plans: a kept plan to a report, verdicts to rows, words to states?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

from regwarden.core.patterns import parse_pattern
from regwarden.core.verdicts import Outcome, Verdict
from regwarden.errors import InputError
from regwarden.library_rows import Row
from regwarden.store.plan_records import PlanState, StoredPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanReport:
    """A plan as it stands.

    ``summary`` has the fields of a list of plans and besides ``step_counts`` (by state), ``sizes`` (by registry),
    ``waived``, ``snapshots``, ``windows``, ``acts_first_at``, ``missing_approval_count`` and ``outcome`` (the report of
    applying it), ``stay_counts`` (what stays, by the code of its first reason), and ``budgets``: what each came to in
    each of its scopes, with ``is_met``. ``guards`` are those about more than a single tag or manifest,
    ``root_guard_counts`` counts the others by code.
    """

    summary: Row
    repositories: tuple[Row, ...]
    guards: tuple[Row, ...]
    root_guard_counts: Mapping[str, int]
    approvals: tuple[Row, ...]


def build_report(stored: StoredPlan, rows: Sequence[Row]) -> PlanReport:
    """The report of a plan with these rows of repositories."""
    plan = stored.plan
    counts: dict[str, int] = {}
    for guard in plan.guards:
        if guard.subject:
            counts[str(guard.code)] = counts.get(str(guard.code), 0) + 1
    summary = {
        **asdict(stored.summary),
        "step_counts": dict(stored.step_counts),
        "sizes": {name: asdict(sizes) for name, sizes in plan.sizes.items()},
        "waived": sorted(map(str, plan.waived)),
        "snapshots": dict(plan.snapshots),
        "windows": list(plan.demands.windows),
        "acts_first_at": plan.acts_first_at,
        "budgets": [{**asdict(one), "is_met": one.is_met} for one in plan.budgets],
        "stay_counts": dict(plan.stay_counts),
        "missing_approval_count": stored.missing_approval_count,
        "outcome": stored.outcome,
    }
    return PlanReport(
        summary=Row(summary),
        repositories=tuple(rows),
        guards=tuple(Row(asdict(one)) for one in plan.guards if not one.subject),
        root_guard_counts=counts,
        approvals=tuple(Row(asdict(one)) for one in stored.approvals),
    )


def verdict_row(registry: str, repository: str, verdict: Verdict) -> Row:
    """A verdict as a row."""
    return Row(
        {
            "registry": registry,
            "repository": repository,
            "tag": verdict.tag,
            "digest": verdict.digest,
            "outcome": str(verdict.outcome),
            "reasons": [reason._asdict() for reason in verdict.reasons],
        }
    )


def chooser(pattern: str | None) -> Callable[[str], bool]:
    """Whether a repository is meant: by a pattern, or any. Raises ``InputError``."""
    return parse_pattern(pattern).matches if pattern else lambda _name: True


def parse_state(text: str) -> PlanState:
    """The state of this name. Raises ``InputError``."""
    try:
        return PlanState(text)
    except ValueError:
        hint = f"There are: {', '.join(PlanState)}."
        raise InputError(f"{text[:80]!r} is not a state of a plan", hint=hint) from None


def parse_outcome(text: str) -> Outcome:
    """The outcome of this name. Raises ``InputError``."""
    try:
        return Outcome(text)
    except ValueError:
        raise InputError(f"{text[:80]!r} is not an outcome", hint=f"There are: {', '.join(Outcome)}.") from None
