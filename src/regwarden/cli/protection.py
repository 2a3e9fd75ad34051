"""``regwarden protection``: what people hold by hand, so that no plan removes it."""

from __future__ import annotations

from contextlib import closing
from typing import Final

import click

from regwarden.cli.invocation import Invocation, RegwardenGroup, pass_invocation
from regwarden.cli.output import Format
from regwarden.cli.values import counted, escape_controls

_COLUMNS: Final = ("id", "registry", "repository", "tag", "digest", "until", "reason", "made_by", "made_at")


@click.group(cls=RegwardenGroup)
def command() -> None:
    """Hold tags, digests or repositories by hand: no policy and no plan removes them."""


@command.command()
@click.argument("references", nargs=-1, required=True, metavar="REF...")
@click.option("--reason", required=True, metavar="TEXT", help="Why, for those who find it.")
@click.option("--until", metavar="TIME", help="A date, or how long from now: 30d. [default: until it is removed]")
@click.option("--registry", metavar="NAME", help="The registry, where the inventory has several.")
@pass_invocation
def add(
    invocation: Invocation, references: tuple[str, ...], reason: str, until: str | None, registry: str | None
) -> None:
    """Protect a repository, a tag or a digest from every cleanup.

    REF is [REGISTRY/]REPOSITORY, REPOSITORY:TAG or REPOSITORY@DIGEST; the repository may be a glob. What does not exist
    yet is protected when it comes.

    Examples:
      regwarden protection add team/app:1.4.2 --reason 'runs at the customer' --until 90d
      regwarden protection add 'glob:golden/**' --reason 'base images'
    """
    with closing(invocation.inventory()) as inventory:
        rows = [inventory.protect(text, reason=reason, until=until, registry=registry) for text in references]
    if invocation.output == Format.TABLE:
        for row in rows:
            click.echo(f"protection {row.id}: {escape_controls(_named(row))}")
        return
    invocation.printer.rows(rows, _COLUMNS)


@command.command("list")
@click.option("--registry", metavar="NAME", help="Only this registry.")
@click.option("--all", "is_all", is_flag=True, help="Also those that have ended or were removed.")
@pass_invocation
def list_(invocation: Invocation, registry: str | None, *, is_all: bool) -> None:
    """List what is protected by hand, and by whom.

    Example: regwarden protection list --output json
    """
    with closing(invocation.inventory()) as inventory:
        rows = inventory.protections(registry=registry, include_ended=is_all)
    columns = (*_COLUMNS, "removed_at") if is_all else _COLUMNS
    invocation.printer.rows(rows, columns, nothing="nothing is protected by hand")


@command.command()
@click.argument("protection_ids", nargs=-1, required=True, type=int, metavar="ID...")
@pass_invocation
def remove(invocation: Invocation, protection_ids: tuple[int, ...]) -> None:
    """End protections; the next plan may remove what they held.

    Example: regwarden protection remove 3
    """
    with closing(invocation.inventory()) as inventory:
        inventory.unprotect(protection_ids)
    invocation.printer.talk(f"ended {counted(len(protection_ids), 'protection')}")


def _named(row: object) -> str:
    tag, digest = getattr(row, "tag", ""), getattr(row, "digest", "")
    place = f"{getattr(row, 'registry', '')}/{getattr(row, 'repository', '')}"
    return f"{place}:{tag}" if tag else f"{place}@{digest}" if digest else place
