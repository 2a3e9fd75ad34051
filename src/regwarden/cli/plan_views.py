"""How is a plan shown: its sum for people, its verdicts, steps and guards as lists, and as Markdown for a review?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from regwarden.cli.failures import PARTLY_DONE
from regwarden.cli.output import Format
from regwarden.cli.values import counted, escape_controls, human_bytes, table_text
from regwarden.core.verdicts import ReasonCode

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
_SHOWN_REPOSITORIES: Final = 50
_SHOWN_BUDGETS: Final = 20
_SHOWN_GUARDS: Final = 3


def show_plan(invocation: Invocation, inventory: Inventory, plan_id: int, *, repository: str | None = None) -> int:
    """Print the sum of a plan. Returns the exit status: 3 if a guard forbids to apply it."""
    report = inventory.plan(plan_id, repository=repository)
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


def show_guards(invocation: Invocation, inventory: Inventory, plan_id: int) -> None:
    """List every guard that was met."""
    columns = _GUARD_COLUMNS if invocation.output == Format.TABLE else (*_GUARD_COLUMNS, "hint")
    invocation.printer.rows(inventory.plan_guards(plan_id), columns, nothing="no guard was met")


def write_review(inventory: Inventory, plan_id: int) -> None:
    """Write a plan as Markdown: the sum, what goes, what is held back."""
    for line in review_lines(inventory.plan(plan_id), inventory.plan_verdicts(plan_id, outcome="remove")):
        click.echo(line)


def review_lines(report: PlanReport, removed: Iterable[Row]) -> Iterator[str]:
    """The lines of a review. Equal plans give equal lines, so that a merge request shows what changed."""
    summary = report.summary
    yield f"# Plan: {_cell(summary.title)}"
    yield ""
    yield f"Fingerprint `{summary.fingerprint}`"
    yield ""
    for sentence in _sentences(report):
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


def _say_plan(invocation: Invocation, report: PlanReport) -> None:
    summary = report.summary
    click.echo(escape_controls(f"Plan {summary.id}, {summary.state}: {summary.title}"))
    click.echo(escape_controls(f"made {_time(summary.made_at)} by {summary.made_by}{_standing(summary)}"))
    click.echo(f"fingerprint {summary.fingerprint}")
    click.echo()
    for sentence in _sentences(report, exact_bytes=invocation.bytes):
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


def _sentences(report: PlanReport, *, exact_bytes: bool = False) -> Iterator[str]:
    summary = report.summary
    if not sum(summary.step_counts.values()):
        yield "Nothing goes."
        if summary.acts_first_at is not None:
            yield f"If nothing changes, something goes from {table_text('at', summary.acts_first_at)} UTC on."
        yield from _staying_sentences(summary)
        yield from _budget_sentences(summary.budgets, exact_bytes=exact_bytes)
        return
    untagged = summary.tag_count
    yield (
        f"{counted(summary.manifest_count, 'manifest')} and {counted(untagged, 'tag')} go from"
        f" {counted(summary.repository_count, 'repository', 'repositories')}."
    )
    for name, sizes in sorted(summary.sizes.items()):
        most = table_text("size_bytes", sizes["reclaimable_bytes"], exact_bytes=exact_bytes)
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
            table_text("size_bytes", one[name], exact_bytes=exact_bytes)
            for name in ("bytes_before", "bytes_after", "max_bytes")
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


def _as_record(report: PlanReport) -> dict[str, object]:
    return {
        **report.summary,
        "repositories": [dict(row) for row in report.repositories],
        "guards": [dict(row) for row in report.guards],
        "root_guard_counts": dict(report.root_guard_counts),
        "approvals": [dict(row) for row in report.approvals],
    }
