"""``regwarden repository``: which repositories there are, and everything about one."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import click

from regwarden.cli.invocation import Invocation, RegwardenGroup, pass_invocation
from regwarden.cli.listing import list_options, run_list


@click.group(cls=RegwardenGroup)
def command() -> None:
    """List repositories, or show one."""


@command.command("list")
@list_options
@pass_invocation
def list_(invocation: Invocation, **options: Any) -> int:
    """List repositories with their sizes.

    A SELECTOR is [REGISTRY/]REPOSITORY, in which the repository may be a pattern: team/app, glob:team/**. `size` in
    conditions and --sort means logical_bytes; `layer_bytes` and `disk_bytes` are gitlab-registry-usage's `size` and
    `disk_size`.

    Examples:
      regwarden repository list --as-of 2026-11-03
      regwarden repository list --sort -exclusive_bytes --limit 20
      regwarden repository list --sort -tag_count --limit 20
      regwarden repository list 'glob:team/**' --where 'tag_count > 50'
    """
    return run_list(invocation, "repository", options)


@command.command()
@click.argument("repository")
@click.option("--refresh", "wants_refresh", is_flag=True, help="Crawl first.")
@pass_invocation
def show(invocation: Invocation, repository: str, *, wants_refresh: bool) -> int:
    """Show one repository: its sizes, its largest tags, its problems.

    REPOSITORY is [REGISTRY/]REPOSITORY.

    Example: regwarden repository show team/app
    """
    from regwarden.cli.freshness import refresh, say_age
    from regwarden.cli.shown import print_repository

    with closing(invocation.inventory()) as inventory:
        status = refresh(invocation, inventory, selectors=(repository,)) if wants_refresh else 0
        found = inventory.repository(repository)
        say_age(invocation, inventory, [found.registry])
        print_repository(invocation.printer, inventory, found)
    return status
