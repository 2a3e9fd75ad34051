"""``regwarden plan apply``, ``undo`` and ``finish``: what changes a registry, takes it back, makes it final."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from regwarden.cli.failures import PARTLY_DONE
from regwarden.cli.invocation import Invocation, RegwardenCommand, pass_invocation
from regwarden.cli.output import Format
from regwarden.cli.values import counted, escape_controls, human_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regwarden.flows.apply_records import ApplyReport
    from regwarden.library_apply import Finished, Undone

_RESULTS = {
    "done": "done",
    "gone": "gone already",
    "drifted": "left alone because the world moved",
    "failed": "failed",
    "restored": "put back",
    "pending": "not tried",
    "intended": "not settled",
}


@click.command(cls=RegwardenCommand)
@click.argument("plan_id", type=int, metavar="ID")
@click.option("--fingerprint", metavar="TEXT", help="Only if the plan is the one with this fingerprint.")
@click.option("--waive", multiple=True, metavar="GUARD", help="Waive a guard by its name: no-live-events. Repeatable.")
@click.option(
    "--max-failures", type=click.IntRange(1), default=5, metavar="N", help="Stop after so many failures. [default: 5]"
)
@click.option("--rate", "requests_per_second", type=click.FloatRange(0.01), metavar="N", help="At most N requests/s.")
@pass_invocation
def apply(invocation: Invocation, plan_id: int, *, waive: tuple[str, ...], **options: Any) -> int:
    """Carry out a plan that was agreed to, or go on with one that was interrupted.

    Everything is looked at again first; what changed since the plan was made is left alone.

    Examples:
      regwarden plan apply 7
      regwarden plan apply 7 --rate 5 --waive no-live-events

    Exit status: 0 everything was done, 3 some of it drifted, failed or is left to be done.
    """
    from regwarden.cli.plan_progress import LineDisplay

    try:
        with closing(invocation.inventory()) as inventory, LineDisplay(quiet=invocation.quiet) as display:
            report = inventory.apply_plan(
                plan_id,
                waive=waive,
                on_progress=lambda state: display.show(
                    f"applying {state.repository}", state.ended_count, state.step_count, _count_results(state.results)
                ),
                on_warning=invocation.warn,
                **options,
            )
    except KeyboardInterrupt:
        invocation.printer.talk(f"the same command goes on; what was done: regwarden plan show {plan_id} --steps")
        raise
    if invocation.output == Format.TABLE:
        for line in _apply_lines(report):
            click.echo(escape_controls(line))
    else:
        invocation.printer.record({name: getattr(report, name) for name in report.__slots__})
    if not report.stopped and not report.results.get("done"):
        invocation.printer.talk("nothing was removed: a new plan looks at it again")
    elif not report.stopped:
        invocation.printer.talk(f"next: regwarden plan undo {plan_id}, or regwarden plan finish {plan_id}")
    is_whole = not (report.stopped or report.broken_indexes) and set(report.results) <= {"done", "gone"}
    return 0 if is_whole else PARTLY_DONE


@click.command(cls=RegwardenCommand)
@click.argument("plan_id", type=int, metavar="ID")
@click.option(
    "--only",
    multiple=True,
    metavar="REF",
    help="A step's number, REPOSITORY:TAG or a digest. Repeatable. [default: all]",
)
@pass_invocation
def undo(invocation: Invocation, plan_id: int, only: tuple[str, ...]) -> int:
    """Put back what a plan removed, byte for byte, as long as the registry has collected no garbage.

    A tag that points elsewhere by now is left alone. What cannot come back is named, with what is missing.

    Examples:
      regwarden plan undo 7
      regwarden plan undo 7 --only team/app:1.3.0

    Exit status: 0 everything is back, 3 not everything.
    """
    from regwarden.cli.plan_progress import LineDisplay

    with closing(invocation.inventory()) as inventory, LineDisplay(quiet=invocation.quiet) as display:
        undone = inventory.undo_plan(
            plan_id,
            only,
            on_progress=lambda state: display.show("putting back", state["done"], state["total"]),
            on_warning=invocation.warn,
        )
    if invocation.output == Format.TABLE:
        for line in _undo_lines(undone):
            click.echo(escape_controls(line))
    else:
        invocation.printer.record({name: getattr(undone, name) for name in undone.__slots__})
    return PARTLY_DONE if undone.losses or undone.failures or undone.is_stopped else 0


@click.command(cls=RegwardenCommand)
@click.argument("plan_id", type=int, metavar="ID")
@click.option("--collect", "runs_command", is_flag=True, help="Run the collect_command of the settings, then compare.")
@click.option("--collected", "is_collected", is_flag=True, help="The garbage was collected: compare what it freed.")
@pass_invocation
def finish(invocation: Invocation, plan_id: int, *, runs_command: bool, is_collected: bool) -> int:
    """Make a plan final: it cannot be undone any more, and the registry's garbage may be collected.

    Prints how this registry collects its garbage and what that should free. Called again it prints the same.

    Examples:
      regwarden plan finish 7
      regwarden plan finish 7 --collected

    Exit status: 0 done, 3 the collection freed less than expected, or nobody can tell.
    """
    with closing(invocation.inventory()) as inventory:
        finished = inventory.finish_plan(
            plan_id, is_collected=is_collected, runs_command=runs_command, on_warning=invocation.warn
        )
    status = PARTLY_DONE if any(str(one.conclusion) != "collected" for one in finished.collected) else 0
    if invocation.output != Format.TABLE:
        import msgspec

        invocation.printer.record(msgspec.to_builtins(finished))
        return status
    for line in _finish_lines(finished):
        click.echo(escape_controls(line))
    if not (finished.endings or finished.collected):
        click.echo("nothing that the plan removed is gone: there is no garbage of it to collect")
    if finished.endings and not finished.collected:
        invocation.printer.talk(f"afterwards: regwarden plan finish {plan_id} --collected")
    return status


def _apply_lines(report: ApplyReport) -> Iterator[str]:
    yield f"plan {report.plan_id} is {report.state}: {_count_results(report.results) or 'nothing to do'}"
    if report.stopped:
        yield f"stopped: {report.stopped}; the same command goes on"
    if report.verified_index_count:
        yield f"{counted(report.verified_index_count, 'index', 'indexes')} that stay were walked and are whole" + (
            "" if not report.broken_indexes else ", but for these:"
        )
    for text in report.broken_indexes:
        yield f"  {text}"
    for text in report.skipped:
        yield f"skipped: {text}"
    if report.restored_count:
        yield f"{counted(report.restored_count, 'manifest')} put back because a push raced the deletion"
    if report.can_miss_races:
        yield "no notifications came in: whether a push raced a deletion cannot be known"
    for text in report.problems:
        yield f"problem: {text}"


def _count_results(results: Any) -> str:
    return ", ".join(f"{count:,} {_RESULTS.get(name, name)}" for name, count in results.items() if count)


def _undo_lines(undone: Undone) -> Iterator[str]:
    yield (
        f"plan {undone.plan_id} is {undone.state}: {undone.restored_step_count:,} of"
        f" {counted(undone.asked_step_count, 'step')} undone, {counted(undone.manifest_count, 'manifest')} and"
        f" {counted(undone.tag_count, 'tag')} put back"
    )
    for text in undone.losses:
        yield f"  {text}"
    for text in undone.failures:
        yield f"failed: {text}"
    if undone.is_stopped:
        yield "stopped after too many failures; the same command goes on"


def _finish_lines(finished: Finished) -> Iterator[str]:
    for ending in finished.endings:
        if not finished.runs:
            yield from ending.text.splitlines()
        if ending.problem:
            yield f"problem: {ending.problem}"
    for name, run in finished.runs.items():
        status = "did not end in time" if run.exit_status is None else f"ended with status {run.exit_status}"
        yield f"{name}: the command {status}"
        yield from (f"  {line}" for line in run.output.splitlines()[-20:])
    for one in finished.collected:
        freed = "not measured" if one.freed_bytes is None else human_bytes(one.freed_bytes)
        yield f"{one.registry}: {one.conclusion}; freed {freed}, expected {_expected(one.expected)}"
        if one.sample_count:
            yield f"  {one.gone_count} of {counted(one.sample_count, 'removed blob')} that were asked for are gone"
        if one.problem:
            yield f"  problem: {one.problem}"


def _expected(expected: Any) -> str:
    return _range(expected.at_least_bytes, expected.at_most_bytes)


def _range(least: int | None, most: int | None) -> str:
    if most is None:
        return "an unknown number of bytes"
    if least == most:
        return human_bytes(most)
    return f"{human_bytes(least or 0)} to {human_bytes(most)}"
