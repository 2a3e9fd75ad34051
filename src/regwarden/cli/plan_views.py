"""How is a plan shown: its sum for people, its verdicts, steps and guards as lists, and as Markdown for a review?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import click

from regwarden.cli.failures import PARTLY_DONE
from regwarden.cli.output import Format
from regwarden.cli.values import counted, escape_controls, table_text
from regwarden.library_plan_reports import plan_sentences, reasons_text, review_lines

if TYPE_CHECKING:
    from regwarden.cli.invocation import Invocation
    from regwarden.library import Inventory
    from regwarden.library_plan_reports import PlanReport
    from regwarden.library_rows import Row

_REPOSITORY_COLUMNS: Final = (
    "registry",
    "repository",
    "remove_count",
    "keep_count",
    "undecided_count",
    "step_count",
)
_VERDICT_COLUMNS: Final = ("outcome", "registry", "repository", "tag", "digest", "reason")
_STEP_COLUMNS: Final = ("position", "kind", "registry", "repository", "digest", "tags", "size_bytes", "state", "detail")
_GUARD_COLUMNS: Final = ("code", "level", "state", "registry", "repository", "subject", "message")
_GROUP_COLUMNS: Final = ("repository_count", "step_count", "tag_count", "manifest_count", "freed_alone_bytes")
_SHOWN_REPOSITORIES: Final = 50
_SHOWN_GUARDS: Final = 3


def show_plan(invocation: Invocation, inventory: Inventory, plan_id: int, *, repository: str | None = None) -> int:
    """Print the sum of a plan. Returns the exit status: 3 if a guard forbids to apply it."""
    report = inventory.plan(plan_id, repository=repository)
    for warning in report.warnings:
        invocation.warn(warning)
    status = PARTLY_DONE if report.summary.is_blocked and report.summary.state == "open" else 0
    if invocation.output == Format.TABLE:
        _say_plan(invocation, report)
    elif invocation.output == Format.JSON:
        invocation.printer.record(_as_record(report))
    else:
        invocation.printer.rows(report.repositories, _REPOSITORY_COLUMNS)
    return status


def show_verdicts(
    invocation: Invocation, inventory: Inventory, plan_id: int, *, repository: str | None, outcome: str | None
) -> None:
    """List what becomes of every tag, with its reasons in words."""
    found = inventory.plan_verdicts(plan_id, repository=repository, outcome=outcome)
    if invocation.output == Format.JSON:
        invocation.printer.rows(found, ("registry", "repository", "tag", "digest", "outcome", "reasons"))
        return
    rows = ({**row, "tag": row.tag or "(untagged)", "reason": reasons_text(row.reasons)} for row in found)
    invocation.printer.rows(rows, _VERDICT_COLUMNS, nothing="the plan speaks of nothing like this")


def show_steps(invocation: Invocation, inventory: Inventory, plan_id: int, *, repository: str | None) -> None:
    """List the changes at the registry, in order."""
    rows = inventory.plan_steps(plan_id, repository=repository)
    invocation.printer.rows(rows, _STEP_COLUMNS, nothing="the plan changes nothing")


def show_groups(
    invocation: Invocation, inventory: Inventory, plan_id: int, *, by: str, depth: int | None = None
) -> None:
    """List what the plan does in each project, group, owner or path."""
    from regwarden.core.grouping import NO_GROUP

    found = inventory.plan_groups(plan_id, by, depth=depth)
    if invocation.output == Format.JSON:
        invocation.printer.rows(found, ("registry", "group", *_GROUP_COLUMNS))
        return
    is_table, has_several = invocation.output == Format.TABLE, len({row.registry for row in found}) > 1
    rows = ({**row, by: row.group or (NO_GROUP if is_table else None)} for row in found)
    columns = (*(("registry",) if has_several or not is_table else ()), by, *_GROUP_COLUMNS)
    invocation.printer.rows(rows, columns, nothing="the plan changes nothing")


def show_guards(invocation: Invocation, inventory: Inventory, plan_id: int) -> None:
    """List every guard that was met."""
    columns = _GUARD_COLUMNS if invocation.output == Format.TABLE else (*_GUARD_COLUMNS, "hint")
    invocation.printer.rows(inventory.plan_guards(plan_id), columns, nothing="no guard was met")


def write_review(inventory: Inventory, plan_id: int) -> None:
    """Write a plan as Markdown: the sum, what goes, what is held back."""
    for line in review_lines(inventory.plan(plan_id), inventory.plan_verdicts(plan_id, outcome="remove")):
        click.echo(line)


def _say_plan(invocation: Invocation, report: PlanReport) -> None:
    summary = report.summary
    click.echo(escape_controls(f"Plan {summary.id}, {summary.state}: {summary.title}"))
    click.echo(escape_controls(f"made {_time(summary.made_at)} by {summary.made_by}{_standing(summary)}"))
    click.echo(f"fingerprint {summary.fingerprint}")
    click.echo()
    for sentence in plan_sentences(report, exact_bytes=invocation.bytes):
        click.echo(escape_controls(sentence))
    shown = [row for row in report.repositories if row.step_count or row.remove_count or row.undecided_count]
    if shown:
        click.echo()
        invocation.printer.table(shown[:_SHOWN_REPOSITORIES], _REPOSITORY_COLUMNS)
        if len(shown) > _SHOWN_REPOSITORIES:
            invocation.printer.talk(
                f"and {counted(len(shown) - _SHOWN_REPOSITORIES, 'more repository', 'more repositories')}:"
                f" regwarden plan show {summary.id} --output csv"
            )
    _say_guards(report)
    _say_next(invocation, report)


def _time(moment: object) -> str:
    return table_text("made_at", moment)


def _standing(summary: Row) -> str:
    """How long it may be applied, or what became of it."""
    if summary.applied_at is None:
        return f", may be applied until {_time(summary.expires_at)}" if summary.state in ("open", "applying") else ""
    steps = ", ".join(f"{count:,} {state}" for state, count in sorted(summary.step_counts.items()) if count)
    applied = f", applied {_time(summary.applied_at)} ({steps or 'nothing to do'})"
    if summary.finished_at is not None:
        return f"{applied}, finished {_time(summary.finished_at)}"
    return f"{applied}, to be undone until {_time(summary.undo_until)}" if summary.undo_until is not None else applied


def _say_guards(report: PlanReport) -> None:
    if not (report.guards or report.root_guard_counts):
        return
    click.echo()
    click.echo("Guards")
    for (code, state), found in _by_code(report.guards).items():
        for guard in found[:_SHOWN_GUARDS]:
            click.echo(escape_controls(f"  {code} ({state}): {guard.message}"))
        if len(found) > _SHOWN_GUARDS:
            click.echo(f"  {code} ({state}): {len(found) - _SHOWN_GUARDS:,} more, {_all_guards(report)}")
        if found[0].hint and state != "waived":
            click.echo(escape_controls(f"    hint: {found[0].hint}"))
    for code, count in sorted(report.root_guard_counts.items()):
        noun = counted(count, "tag or manifest", "tags or manifests")
        click.echo(f"  {code}: holds back {noun}, {_all_guards(report)}")


def _by_code(guards: Iterable[Row]) -> dict[tuple[str, str], list[Row]]:
    grouped: dict[tuple[str, str], list[Row]] = {}
    for guard in guards:
        grouped.setdefault((str(guard.code), str(guard.state)), []).append(guard)
    return grouped


def _all_guards(report: PlanReport) -> str:
    return f"see regwarden plan show {report.summary.id} --guards"


def _say_next(invocation: Invocation, report: PlanReport) -> None:
    summary = report.summary
    if summary.state == "applying":
        invocation.printer.talk(f"it was begun: regwarden plan apply {summary.id} goes on, plan undo takes it back")
    if summary.state != "open" or not sum(summary.step_counts.values()):
        return
    talk = invocation.printer.talk
    if summary.is_blocked:
        talk("it cannot be applied while a guard blocks it")
    elif summary.needed_approval_count > 1 and summary.missing_approval_count:
        talk(
            f"it needs the approval of {summary.needed_approval_count} people who are signed in; where a limit asks for"
            " the second, waiving that guard by name does without"
        )
    elif summary.missing_approval_count:
        talk(f"next: regwarden plan show {summary.id} --verdicts, then regwarden plan approve {summary.id}")
    else:
        talk(f"next: regwarden plan apply {summary.id}")


def _as_record(report: PlanReport) -> dict[str, object]:
    return {
        **report.summary,
        "repositories": [dict(row) for row in report.repositories],
        "guards": [dict(row) for row in report.guards],
        "root_guard_counts": dict(report.root_guard_counts),
        "approvals": [dict(row) for row in report.approvals],
        "warnings": list(report.warnings),
    }
