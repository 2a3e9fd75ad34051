"""``regwarden gitlab projects`` and ``sizes``: whose is what, and what GitLab says that it weighs."""

from __future__ import annotations

from contextlib import closing
from typing import Final

import click

from regwarden.cli.invocation import Invocation, RegwardenCommand, pass_invocation
from regwarden.cli.output import Format

_PROJECT_COLUMNS: Final = (
    "project",
    "owner",
    "visibility",
    "access_level",
    "repository_count",
    "rule_count",
    "rules_read_at",
    "is_cleanup_on",
    "cleanup_next_run_at",
    "gitlab_bytes",
)
_MORE_PROJECT_COLUMNS: Final = ("gitlab_id", "group", "is_archived", "seen_at")
_SIZE_COLUMNS: Final = (
    "name",
    "gitlab_bytes",
    "sized_at",
    "tagged_layer_bytes",
    "difference_bytes",
    "stored_bytes",
    "reason",
)
_ALL_SIZE_COLUMNS: Final = (
    "registry",
    "name",
    "repository_count",
    "gitlab_bytes",
    "meaning",
    "precision",
    "is_estimated",
    "sized_at",
    "tagged_layer_bytes",
    "difference_bytes",
    "stored_bytes",
    "reasons",
)
_NO_PROJECTS: Final = "there are no projects yet: regwarden gitlab configure, then regwarden crawl"


@click.command(cls=RegwardenCommand)
@click.argument("registry", required=False, metavar="[REGISTRY]")
@pass_invocation
def projects(invocation: Invocation, registry: str | None) -> None:
    """List the projects of a GitLab: whose they are, what you may do there, which rules and cleanup they have.

    What the last crawl found. rules: how many rules protect tags and repositories; - where they could not be read.

    Example: regwarden gitlab projects
    """
    with closing(invocation.inventory()) as inventory:
        rows = inventory.projects(registry)
    is_table, has_several = invocation.output == Format.TABLE, len({row.registry for row in rows}) > 1
    columns = (*(("registry",) if has_several or not is_table else ()), *_PROJECT_COLUMNS)
    invocation.printer.rows(rows, columns if is_table else (*columns, *_MORE_PROJECT_COLUMNS), nothing=_NO_PROJECTS)


@click.command(cls=RegwardenCommand)
@click.argument("registry", required=False, metavar="[REGISTRY]")
@click.option(
    "--by",
    type=click.Choice(["repository", "project", "namespace"]),
    default="repository",
    show_default=True,
    help="A row for each. A namespace is a top-level group or a user.",
)
@pass_invocation
def sizes(invocation: Invocation, registry: str | None, by: str) -> None:
    """Compare GitLab's sizes with ours, and say why they differ.

      gitlab         GitLab's figure: distinct layers that tags reach, compressed, of the time sized
      tagged layers  ours by the same definition, from the manifests
      stored         ours with configurations and manifests, as in regwarden usage

    Without the metadata database GitLab has no figures; ours are there all the same.

    Examples:
      regwarden gitlab sizes
      regwarden gitlab sizes production --by namespace
    """
    with closing(invocation.inventory()) as inventory:
        rows = inventory.gitlab_sizes(registry, by=by)
    if invocation.output != Format.TABLE:
        invocation.printer.rows(rows, _ALL_SIZE_COLUMNS)
        return
    has_several = len({row.registry for row in rows}) > 1
    shown = [{**row, "reason": " ".join(row.reasons)} for row in rows]
    columns = (*(("registry",) if has_several else ()), *_SIZE_COLUMNS)
    invocation.printer.rows(shown, columns, nothing=_NO_PROJECTS)
