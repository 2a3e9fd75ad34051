"""How does ``Inventory`` answer about plans: a kept plan to a report, to sentences, to Markdown; verdicts to rows?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from regwarden.core.cells import escape_controls
from regwarden.core.patterns import parse_pattern
from regwarden.core.verdicts import Outcome, ReasonCode, Verdict
from regwarden.core.wording import counted, human_bytes
from regwarden.errors import InputError
from regwarden.library_rows import Row
from regwarden.store.plan_records import PlanState, StoredPlan

_SHOWN_BUDGETS: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanReport:
    """A plan as it stands.

    ``summary`` has the fields of a list of plans and besides ``step_counts`` (by state), ``sizes`` (by registry),
    ``waived``, ``snapshots``, ``windows``, ``acts_first_at``, ``missing_approval_count`` and ``outcome`` (the report of
    applying it), ``stay_counts`` (what stays, by the code of its first reason), and ``budgets``: what each came to in
    each of its scopes, with ``is_met``. ``guards`` are those about more than a single tag or manifest,
    ``root_guard_counts`` counts the others by code. ``warnings`` are sentences about what may come between.
    """

    summary: Row
    repositories: tuple[Row, ...]
    guards: tuple[Row, ...]
    root_guard_counts: Mapping[str, int]
    approvals: tuple[Row, ...]
    warnings: tuple[str, ...] = ()


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
        "drops_repositories": plan.drops_repositories,
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


def review_lines(report: PlanReport, removed: Iterable[Row]) -> Iterator[str]:
    """The lines of a review. Equal plans give equal lines, so that a merge request shows what changed."""
    summary = report.summary
    yield f"# Plan: {_cell(summary.title)}"
    yield ""
    yield f"Fingerprint `{summary.fingerprint}`"
    yield ""
    for sentence in plan_sentences(report):
        yield f"- {_cell(sentence)}"
    yield ""
    if report.guards or report.root_guard_counts:
        yield "## Guards"
        yield ""
        for guard in report.guards:
            yield f"- **{guard.code}** ({guard.state}) {_cell(guard.message)}"
        for code, count in sorted(report.root_guard_counts.items()):
            yield f"- **{code}** holds back {counted(count, 'tag or manifest', 'tags or manifests')}"
        yield ""
    yield "## What goes"
    yield ""
    yield "| repository | tag | digest | why |"
    yield "|---|---|---|---|"
    for row in removed:
        tag = _code(row.tag) if row.tag else "*untagged*"
        where = _cell(f"{row.registry}/{row.repository}")
        yield f"| {where} | {tag} | `{row.digest or ''}` | {_cell(reasons_text(row.reasons))} |"


def reasons_text(reasons: Iterable[Mapping[str, str]]) -> str:
    """Reasons in one line: ``deleted by ci: delete[0] old-ci (tagged 12 days ago)``."""
    return "; ".join(_reason_text(reason) for reason in reasons)


def _reason_text(reason: Mapping[str, str]) -> str:
    place = " ".join(filter(None, (reason["policy"] and f"{reason['policy']}:", reason["rule"])))
    text = f"{reason['code']} by {place}" if place else reason["code"]
    return f"{text} ({reason['detail']})" if reason["detail"] else text


def plan_sentences(report: PlanReport, *, exact_bytes: bool = False) -> Iterator[str]:
    """What a plan comes to, in words."""
    summary = report.summary
    if not sum(summary.step_counts.values()):
        yield "Nothing goes."
        if summary.acts_first_at is not None:
            yield f"If nothing changes, something goes from {summary.acts_first_at:%Y-%m-%d %H:%M:%S} UTC on."
        yield from _staying_sentences(summary)
        yield from _budget_sentences(summary.budgets, exact_bytes=exact_bytes)
        return
    untagged = summary.tag_count
    yield (
        f"{counted(summary.manifest_count, 'manifest')} and {counted(untagged, 'tag')} go from"
        f" {counted(summary.repository_count, 'repository', 'repositories')}."
    )
    if summary.drops_repositories:
        yield (
            "A repository of which nothing stays goes itself, as its last step; an undo brings it back with its first"
            " tag."
        )
    for name, sizes in sorted(summary.sizes.items()):
        most = _size_text(sizes["reclaimable_bytes"], exact_bytes=exact_bytes)
        most = f"{most} bytes" if exact_bytes else most
        if sizes["confidence"] == "exact":
            yield f"{name}: the next garbage collection frees exactly {most}."
        else:
            yield (
                f"{name}: the next garbage collection frees at most {most}: untagged content that is not known may"
                " hold on to some of it, or to all."
            )
        if sizes["untagged_bytes"]:
            held = human_bytes(sizes["untagged_bytes"])
            yield f"{name}: known untagged manifests that stay go on holding {held} of it."
    yield from _unordered_sentences(summary)
    yield from _budget_sentences(summary.budgets, exact_bytes=exact_bytes)
    if summary.windows:
        yield f"It may be applied {' and '.join(summary.windows)}."


def _staying_sentences(summary: Row) -> Iterator[str]:
    """Why nothing goes: how much stays for which reason."""
    counts = summary.stay_counts
    if counts and set(counts) == {ReasonCode.UNSELECTED}:
        yield "Nothing that there is was selected: see regwarden tag list."
    elif counts:
        words = ", ".join(f"{count:,} {code}" for code, count in sorted(counts.items()))
        yield f"Why everything stays: {words}; --verdicts tells it of each."
    yield from _unordered_sentences(summary)


def _unordered_sentences(summary: Row) -> Iterator[str]:
    count = summary.stay_counts.get(ReasonCode.UNORDERED, 0)
    if count:
        yield (
            f"{counted(count, 'tag stays', 'tags stay')} only because it is not known which are the newest: crawls find"
            " what is there, not when it was pushed. Rank by version, semver or created, or let the registry send"
            " notifications."
        )


def _budget_sentences(budgets: Sequence[Mapping[str, Any]], *, exact_bytes: bool) -> Iterator[str]:
    """What budgets come to: those that take something, or are not kept."""
    told = [one for one in budgets if one["chosen_count"] or not one["is_met"]]
    for one in sorted(told, key=lambda one: one["is_met"])[:_SHOWN_BUDGETS]:
        before, after, most = (
            _size_text(one[name], exact_bytes=exact_bytes) for name in ("bytes_before", "bytes_after", "max_bytes")
        )
        end = "" if one["is_met"] else ": it is NOT met"
        regret = ""
        if one["least_regret"] < one["regret"]:
            regret = f"; regret {one['regret']:,}, no choice has less than {one['least_regret']:,}"
        yield (
            f"Budget {one['policy']}: {one['rule']} of {most} for {one['subject'] or 'the whole policy'}:"
            f" {before} before, {after} after {counted(one['chosen_count'], 'tag or manifest', 'tags and manifests')}"
            f" (order {one['order']}, method {one['method']}{regret}){end}."
        )
    if len(told) > _SHOWN_BUDGETS:
        yield f"And {len(told) - _SHOWN_BUDGETS} more budgets: --output json lists them all."
    met_count = len(budgets) - len(told)
    if met_count:
        yield f"{counted(met_count, 'budget')} kept without it."


def _code(text: str) -> str:
    """A name as code in a table: there a backslash stands for itself, but before a bar."""
    written = escape_controls(text).replace("`", "'").replace("|", "\\|")
    return f"`{written}`"


def _cell(text: str) -> str:
    """A text inside of Markdown: what a registry says must not become markup."""
    escaped = escape_controls(text).replace("\\", "\\\\")
    for character in "|`*_<>[]":
        escaped = escaped.replace(character, f"\\{character}")
    return escaped


def _size_text(size_bytes: int, *, exact_bytes: bool) -> str:
    return f"{size_bytes:,}" if exact_bytes else human_bytes(size_bytes)
