"""``regwarden policy backtest``: what would a policy have removed, freed and broken, had it been at work?"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

import click

from regwarden.cli.invocation import Invocation, RegwardenCommand, pass_invocation
from regwarden.cli.output import Format
from regwarden.cli.values import counted, escape_controls, human_bytes

if TYPE_CHECKING:
    from regwarden.library_backtest import BacktestReport

_STEP_COLUMNS: Final = (
    "day",
    "tag_count",
    "manifest_count",
    "failed_count",
    "failed_use_count",
    "stored_bytes",
    "stored_with_policy_bytes",
    "saved_bytes",
)
_ALL_STEP_COLUMNS: Final = (
    "at",
    *_STEP_COLUMNS[1:],
    "repository_count",
    "untagged_count",
    "guarded_count",
    "doubtful_count",
)
_REGRET_COLUMNS: Final = (
    "registry",
    "repository",
    "reference",
    "removed",
    "first_failed",
    "last_failed",
    "pull_count",
    "by",
)
_DIGEST_LETTERS: Final = 19


@click.command("backtest", cls=RegwardenCommand)
@click.argument("repositories", nargs=-1, metavar="[REPOSITORY...]")
@click.option("-f", "--file", "files", multiple=True, required=True, metavar="FILE", help="Policies. Repeatable.")
@click.option("--since", default="90d", metavar="TIME", help="A date, or how long ago. [default: 90d]")
@click.option("--every", default="7d", metavar="DURATION", help="Days between two runs of the policy. [default: 7d]")
@click.option(
    "--limit", type=click.IntRange(0), default=20, metavar="N", help="Show the worst N failures. [default: 20]"
)
@pass_invocation
def command(
    invocation: Invocation, repositories: tuple[str, ...], *, files: tuple[str, ...], since: str, every: str, limit: int
) -> None:
    """Replay policies over the recorded history: which pulls would have failed, how many bytes would be saved.

    At each run only what was known then counts; what is removed stays away until it is pushed or tagged again. Limits
    of a run are taken as approved; guards of single repositories hold. REPOSITORY may be a glob. Nothing is changed.

    Examples:
      regwarden policy backtest -f policy.yaml
      regwarden policy backtest -f policy.yaml --since 180d --every 1d 'team-a/**'
    """
    from regwarden.cli.plan_progress import LineDisplay
    from regwarden.cli.policy import read_policy_file
    from regwarden.library_policy_texts import known_zones

    texts = {("standard input" if name == "-" else name): read_policy_file(name) for name in files}
    with closing(invocation.inventory()) as inventory, LineDisplay(quiet=invocation.quiet) as display:
        report = inventory.backtest(
            texts,
            repositories=repositories,
            since=since,
            every=every,
            known_zones=known_zones(),
            on_progress=lambda state: display.show(
                "replaying repositories", state.repositories_done, 0, f"{state.tags_done:,} tags"
            ),
        )
    if invocation.output == Format.TABLE:
        _say(invocation, report, limit)
    elif invocation.output == Format.JSON:
        record = {"summary": report.summary, "steps": list(report.steps), "regrets": list(report.regrets)}
        invocation.printer.record(record)
    else:
        invocation.printer.rows(report.steps, _ALL_STEP_COLUMNS)


def _say(invocation: Invocation, report: BacktestReport, limit: int) -> None:
    summary = report.summary
    for note in summary.notes:
        invocation.printer.talk(escape_controls(f"note: {note}"))
    days = [{**one, "day": f"{one.at:%Y-%m-%d}"} for one in report.steps]
    invocation.printer.table(days, _STEP_COLUMNS, is_fixed=True)
    removed = f"{counted(summary.removed_tag_count, 'tag')} and {counted(summary.removed_manifest_count, 'manifest')}"
    places = counted(summary.repository_count, "repository", "repositories")
    click.echo(f"\nIn {counted(summary.run_count, 'run')} over {places} {removed} would have gone,")
    saved = human_bytes(summary.saved_bytes)
    click.echo(f"saving {saved} of {human_bytes(summary.stored_bytes)} at the end, after garbage collection.")
    if not report.regrets:
        click.echo("No recorded pull would have failed.")
        return
    first = f"{summary.first_failed_at:%Y-%m-%d}"
    used = f"{summary.failed_use_count:,} of them by those who use images"
    click.echo(f"{counted(summary.failed_pull_count, 'pull')} would have failed, the first on {first}; {used}.")
    if limit:
        invocation.printer.heading(f"What was missed ({min(limit, len(report.regrets))} of {len(report.regrets)})")
        invocation.printer.table([_regret_row(one) for one in report.regrets[:limit]], _REGRET_COLUMNS, is_fixed=True)


def _regret_row(regret: Any) -> dict[str, object]:
    return {
        **regret,
        "reference": f":{regret.tag}" if regret.tag else f"@{regret.digest[:_DIGEST_LETTERS]}",
        "removed": f"{regret.removed_at:%Y-%m-%d}",
        "first_failed": f"{regret.first_at:%Y-%m-%d}",
        "last_failed": f"{regret.last_at:%Y-%m-%d}",
        "by": ", ".join(f"{name} {count:,}" for name, count in regret.by_class.items()),
    }
