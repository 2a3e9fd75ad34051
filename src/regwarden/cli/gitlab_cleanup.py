"""``regwarden gitlab cleanup``: GitLab's own cleanup policies, shown, tried out, and taken over."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Final

import click

from regwarden.cli.invocation import Invocation, RegwardenGroup, pass_invocation
from regwarden.cli.output import Format
from regwarden.cli.values import counted, escape_controls, table_text

if TYPE_CHECKING:
    from regwarden.library_gitlab_cleanup import SimulatedCleanup

_POLICY_COLUMNS: Final = ("project", "is_enabled", "next_run_at", "policy")
_ALL_POLICY_COLUMNS: Final = (
    "registry",
    *_POLICY_COLUMNS,
    "cadence",
    "keep_n",
    "older_than",
    "name_regex",
    "name_regex_keep",
    "plan_ids",
    "warnings",
)
_TAG_COLUMNS: Final = ("repository", "tag", "dated_at", "fate", "reason", "detail")


@click.group(cls=RegwardenGroup)
def cleanup() -> None:
    """Show, try out or import the cleanup policies that GitLab itself has; nothing is changed there."""


@cleanup.command()
@click.argument("registry", required=False, metavar="[REGISTRY]")
@click.option("--project", metavar="PATH", help="Only of this project.")
@click.option(
    "-f", "--file", "files", multiple=True, metavar="FILE", help="Warn where this policy of ours decides too."
)
@pass_invocation
def show(invocation: Invocation, registry: str | None, project: str | None, files: tuple[str, ...]) -> None:
    """Show GitLab's cleanup policy of each project: what it does, whether it is on, when it runs next.

    Warns where an open plan removes something in the same project.

    Examples:
      regwarden gitlab cleanup show
      regwarden gitlab cleanup show --project team/app -f policy.yaml
    """
    from regwarden.cli.policy import read_policy_file

    ours = {("standard input" if name == "-" else name): read_policy_file(name) for name in files}
    with closing(invocation.inventory()) as inventory:
        rows = inventory.cleanup_policies(registry, project=project, policies=ours)
    for row in rows:
        for warning in row.warnings:
            invocation.warn(f"{row.project}: {warning}")
    is_table, has_several = invocation.output == Format.TABLE, len({row.registry for row in rows}) > 1
    columns = (*(("registry",) if has_several else ()), *_POLICY_COLUMNS) if is_table else _ALL_POLICY_COLUMNS
    invocation.printer.rows(rows, columns, nothing="there are no projects yet: regwarden crawl")


@cleanup.command()
@click.argument("project", metavar="PROJECT")
@click.option("--registry", metavar="NAME", help="The registry, where several have such a project.")
@click.option("--as-of", metavar="WHEN", help="As if it ran then, over today's tags; may lie ahead. [default: now]")
@pass_invocation
def simulate(invocation: Invocation, project: str, registry: str | None, as_of: str | None) -> None:
    """Say what one run of GitLab's own policy would remove, tag by tag, without asking GitLab.

    As GitLab does it: of every 1,000 tags by name the newest are spared, and without the metadata database it looks at
    a random part of many tags: those may-go. A policy that is switched off is tried out all the same.

    Examples:
      regwarden gitlab cleanup simulate team/app
      regwarden gitlab cleanup simulate team/app --as-of 2026-12-24
    """
    with closing(invocation.inventory()) as inventory:
        found = inventory.simulate_cleanup(project, registry=registry, as_of=as_of)
    if invocation.output == Format.TABLE:
        _say_simulated(invocation, found)
    elif invocation.output == Format.JSON:
        fields = ("registry", "project", "policy", "is_enabled", "next_run_at", "as_of")
        record = {name: getattr(found, name) for name in fields}
        tags = [dict(row) for row in found.tags]
        invocation.printer.record({**record, "notes": list(found.notes), "tags": tags})
    else:
        invocation.printer.rows(found.tags, _TAG_COLUMNS)


def _say_simulated(invocation: Invocation, found: SimulatedCleanup) -> None:
    from regwarden.core.gitlab_cleanup import Fate

    click.echo(escape_controls(f"{found.project}: {found.policy}"))
    click.echo(f"as of {table_text('at', found.as_of)} UTC: {_counts(found)}")
    changing = [row for row in found.tags if row.fate != Fate.STAYS]
    if changing:
        click.echo()
        invocation.printer.table(changing, _TAG_COLUMNS)
    for note in found.notes:
        invocation.printer.talk(escape_controls(note))
    if len(changing) < len(found.tags):
        invocation.printer.talk("what stays, and why: --output csv")


def _counts(found: SimulatedCleanup) -> str:
    from regwarden.core.gitlab_cleanup import Fate

    going, perhaps, staying = (found.count(fate) for fate in (Fate.GOES, Fate.MAY_GO, Fate.STAYS))
    goes = f"{counted(going, 'tag goes', 'tags go')}"
    may = f", {perhaps:,} may go" if perhaps else ""
    return f"{goes}{may}, {staying:,} {'stays' if staying == 1 else 'stay'}"


@cleanup.command("import")
@click.argument("project", metavar="PROJECT")
@click.option("--registry", metavar="NAME", help="The registry, where several have such a project.")
@pass_invocation
def import_(invocation: Invocation, project: str, registry: str | None) -> None:
    """Translate GitLab's policy of a project into one of ours.

    The policy goes to standard output, what differs to standard error; with --output json both are one object.

    Example: regwarden gitlab cleanup import team/app > app.yaml
    """
    from regwarden.cli.policy_import import print_imported

    with closing(invocation.inventory()) as inventory:
        imported = inventory.import_cleanup_policy(project, registry=registry)
    print_imported(invocation, imported)
