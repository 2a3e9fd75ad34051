"""``regwarden policy import``: another system's cleanup rules as our policies, with a report of what differs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from regwarden.cli.invocation import Invocation, RegwardenCommand, pass_invocation
from regwarden.cli.output import Format

if TYPE_CHECKING:
    from regwarden.core.importers.api import Difference, Imported


@click.command("import", cls=RegwardenCommand)
@click.argument("file", metavar="FILE")
@click.option(
    "--from",
    "system",
    default="auto",
    metavar="SYSTEM",
    show_default=True,
    help="gitlab, harbor, ecr, gar, zot, gcr-cleaner, acr or quay; auto: what the file looks like.",
)
@click.option(
    "--repository",
    "repositories",
    multiple=True,
    metavar="PATTERN",
    help="Which repositories the policy is to be about.",
)
@click.option("--project", default="", metavar="PATH", help="Below which path the file's repositories lie.")
@pass_invocation
def command(invocation: Invocation, file: str, system: str, repositories: tuple[str, ...], project: str) -> None:
    """Translate another system's cleanup rules into policies.

    The policies go to standard output, the report of what differs to standard error; with --output json both are one
    object. Where rules cannot be translated exactly, the policy keeps more, and the report says so. - is standard
    input.

    Example: regwarden policy import --from ecr lifecycle.json --repository team/app
    """
    from regwarden.cli.policy import read_policy_file
    from regwarden.core.importers.api import Target
    from regwarden.core.importers.catalogue import translate_rules

    target = Target(repositories, project)
    name = "standard input" if file == "-" else file
    print_imported(invocation, translate_rules(read_policy_file(file), system=system, name=name, target=target))


def print_imported(invocation: Invocation, imported: Imported) -> None:
    """Print the policies, and on standard error what differs; for programs both as one object."""
    if invocation.output == Format.JSON:
        import json

        from regwarden.library_policy_texts import imported_record

        click.echo(json.dumps(imported_record(imported), indent=2))
        return
    click.echo(imported.text, nl=False)
    for difference in imported.differences:
        _say(difference)


def _say(difference: Difference) -> None:
    from regwarden.cli.values import escape_controls

    where = f"{difference.path}: " if difference.path else ""
    click.echo(escape_controls(f"{difference.severity}[{difference.code}]: {where}{difference.message}"), err=True)
