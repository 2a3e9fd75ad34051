"""``regwarden tag``: which tags there are, and everything about one."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import click

from regwarden.cli.invocation import Invocation, RegwardenGroup, pass_invocation
from regwarden.cli.listing import NO_PAST_CRAWL, list_options, run_list
from regwarden.cli.output import Format


@click.group(cls=RegwardenGroup)
def command() -> None:
    """List tags, show one, or tell what one pointed to before."""


@command.command("list")
@click.option("--sum", "is_sum", is_flag=True, help="What they weigh together, and what deleting them would free.")
@list_options
@pass_invocation
def list_(invocation: Invocation, *, is_sum: bool, **options: Any) -> int:
    """List tags with what they point to and what they weigh.

    A SELECTOR is [REGISTRY/]REPOSITORY[:TAG], in which repository and tag may be patterns: team/app,
    team/app:semver:^1.2, glob:team/**:glob:v*, ':<1.4'. `size` in conditions and --sort means logical_bytes;
    `layer_bytes` and `disk_bytes` are gitlab-registry-usage's `size` and `disk_size`.

    Examples:
      regwarden tag list team/app --sort -created
      regwarden tag list --where 'size > 500MiB' --where 'created > 90d' --output csv
      regwarden tag list --where 'pulled > 90d' --where 'pushed > 30d'
      regwarden tag list --tag semver:^1.2 --count
      regwarden tag list 'glob:team/**' --where 'created > 90d' --sum
    """
    return run_list(invocation, "tag", options, wants_sum=is_sum)


@command.command()
@click.argument("reference")
@click.option("--as-of", metavar="DATE", help="What it was at that moment; a date is its beginning, UTC.")
@click.option("--refresh", "wants_refresh", is_flag=True, help="Crawl first.")
@pass_invocation
def show(invocation: Invocation, reference: str, as_of: str | None, *, wants_refresh: bool) -> int:
    """Show one tag: what it points to, its platforms, layers, sizes and signatures.

    REFERENCE is [REGISTRY/]REPOSITORY:TAG.

    Examples:
      regwarden tag show team/app:1.0
      regwarden tag show team/app:latest --as-of 2026-11-03
    """
    from regwarden.cli.freshness import refresh, say_moment
    from regwarden.cli.shown import print_tag
    from regwarden.library_queries import past_moment

    if wants_refresh and as_of is not None:
        raise click.UsageError(NO_PAST_CRAWL)
    moment = past_moment(as_of)
    with closing(invocation.inventory()) as inventory:
        status = refresh(invocation, inventory, selectors=(reference,)) if wants_refresh else 0
        found = inventory.tag(reference, as_of=moment)
        say_moment(invocation, inventory, moment, [found.registry])
        print_tag(invocation.printer, inventory, found, as_of=moment)
    return status


@command.command()
@click.argument("reference")
@click.option("--as-of", metavar="DATE", help="Only what it pointed to at that moment; a date is its beginning, UTC.")
@pass_invocation
def history(invocation: Invocation, reference: str, as_of: str | None) -> None:
    """Tell what a tag pointed to since it was first observed, newest first; a tag that is gone has a history too.

    A change is known from the moment a crawl noticed it. REFERENCE is [REGISTRY/]REPOSITORY:TAG.

    Examples:
      regwarden tag history team/app:latest
      regwarden tag history team/app:latest --as-of 2026-11-03 --output json
    """
    from regwarden.cli.freshness import say_age

    with closing(invocation.inventory()) as inventory:
        rows = inventory.history(reference, as_of=as_of)
        say_age(invocation, inventory, [rows[0].registry])
        columns = (
            ("since", "until", "digest", "state", "cause") if invocation.output == Format.TABLE else tuple(rows[0])
        )
        invocation.printer.rows(rows, columns)
