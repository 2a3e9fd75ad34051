"""``regwarden allow``: which images may run, which must not, and what was answered."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any, Final

import click

from regwarden.cli.invocation import Invocation, RegwardenGroup, pass_invocation
from regwarden.cli.output import Format
from regwarden.cli.values import counted, escape_controls

_COLUMNS: Final = (
    "id",
    "effect",
    "image",
    "pattern",
    "name",
    "clusters",
    "namespaces",
    "not_before",
    "expires_at",
    "reason",
    "made_by",
    "made_at",
)
_MORE: Final = ("tags", "digest", "is_protecting", "evidence", "imagelist_id", "updated_at")
_ENDED: Final = ("removed_at", "removed_by")
_ANSWER: Final = (
    "image",
    "outcome",
    "reason",
    "detail",
    "digest",
    "entry_ids",
    "is_stale",
    "warnings",
)
_DECISIONS: Final = ("id", "last_at", "count", "outcome", "reason", "image", "principal", "interface")
_MORE_OF_DECISIONS: Final = ("at", "digest", "cluster", "namespace", "entry_ids")
_STATUS: Final = {"allow": 0, "deny": 1}
_UNKNOWN_STATUS: Final = 3


@click.group(cls=RegwardenGroup)
def command() -> None:
    """Keep the list of images that may run, and ask it. What is allowed is protected from cleanup."""


@command.command()
@click.argument("images", nargs=-1, metavar="[IMAGE...]")
@click.option("--pattern", default="", metavar="PATTERN", help="Names HOST/REPOSITORY, such as 'glob:HOST/team/**'.")
@click.option("--tag", "tags", multiple=True, metavar="PATTERN", help="With --pattern: only these tags.")
@click.option("--deny", is_flag=True, help="Deny it instead: beats everything that allows it.")
@click.option("--reason", default="", metavar="TEXT", help="Why, for those who find it.")
@click.option("--expires", metavar="TIME", help="A date, or how long from now: 30d. [default: never]")
@click.option("--not-before", metavar="TIME", help="A date, or how long from now, before which it does not count.")
@click.option("--cluster", "clusters", multiple=True, metavar="PATTERN", help="Only in these clusters.")
@click.option("--namespace", "namespaces", multiple=True, metavar="PATTERN", help="Only in these namespaces.")
@click.option("--name", default="", metavar="TEXT", help="What people call it.")
@click.option("--no-protect", is_flag=True, help="Do not protect it from cleanup.")
@click.option("--evidence", "evidence", multiple=True, metavar="NAME=VALUE", help="What it was allowed by.")
@pass_invocation
def add(invocation: Invocation, images: tuple[str, ...], *, deny: bool, no_protect: bool, **given: object) -> None:
    """Allow images, or with --deny deny them.

    IMAGE is a digest, HOST/REPOSITORY:TAG, HOST/REPOSITORY@DIGEST, or any other text, which is compared as it is. A
    digest counts under every name.

    Examples:
      regwarden allow add registry.example.com/team/app:1.4.2 --reason release --expires 90d
      regwarden allow add --pattern 'glob:registry.example.com/team/**' --cluster 'test-*'
      regwarden allow add --deny --pattern 'glob:docker.io/**' --reason 'use the mirror'
    """
    evidence = dict(map(_parse_evidence, _texts(given.pop("evidence"))))
    fields = {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}
    fields |= {"effect": "deny" if deny else "allow", "is_protecting": not no_protect, "evidence": evidence}
    with closing(invocation.inventory()) as inventory:
        rows = [inventory.allow_add(image, **fields) for image in images or ("",)]
    if invocation.output == Format.TABLE:
        for row in rows:
            click.echo(f"allow entry {row.id}: {row.effect} {escape_controls(row.image or row.pattern)}")
        return
    invocation.printer.rows(rows, (*_COLUMNS, *_MORE))


@command.command("list")
@click.option("--image", metavar="IMAGE", help="Only entries of this digest, text or name.")
@click.option("--effect", type=click.Choice(["allow", "deny"]), help="Only these.")
@click.option("--all", "is_all", is_flag=True, help="Also those that are over or were removed.")
@click.option("--limit", type=click.IntRange(1), default=1000, show_default=True, help="At most so many.")
@click.option("--after", type=click.IntRange(0), default=0, metavar="ID", help="Only entries with a greater number.")
@pass_invocation
def list_(
    invocation: Invocation, image: str | None, effect: str | None, *, is_all: bool, limit: int, after: int
) -> None:
    """List the entries of the allow-list, the oldest first.

    Example: regwarden allow list --effect deny --output json
    """
    with closing(invocation.inventory()) as inventory:
        rows = inventory.allow_list(image=image, effect=effect, include_ended=is_all, after_id=after, limit=limit)
    columns: Sequence[str] = (*_COLUMNS, *_ENDED) if is_all else _COLUMNS
    if invocation.output == Format.JSON:
        columns = (*_COLUMNS, *_MORE, *_ENDED)
    invocation.printer.rows(rows, columns, nothing="the allow-list is empty")
    if len(rows) == limit:
        invocation.printer.talk(f"there may be more: add --after {rows[-1].id}")


@command.command()
@click.argument("entry_ids", nargs=-1, required=True, type=int, metavar="ID...")
@pass_invocation
def remove(invocation: Invocation, entry_ids: tuple[int, ...]) -> None:
    """End entries by number; what they allowed is no more protected from cleanup.

    Example: regwarden allow remove 12
    """
    with closing(invocation.inventory()) as inventory:
        inventory.allow_remove(entry_ids)
    invocation.printer.talk(f"ended {counted(len(entry_ids), 'entry', 'entries')}")


@command.command()
@click.argument("image", metavar="IMAGE")
@click.option("--cluster", default="", metavar="NAME", help="Where it is to run.")
@click.option("--namespace", default="", metavar="NAME", help="Where it is to run.")
@click.option("--server", metavar="URL", help="Ask this service instead of the database.")
@click.option("--token-file", metavar="FILE", help="With --server: file with the token. [env: REGWARDEN_TOKEN]")
@pass_invocation
def check(
    invocation: Invocation, image: str, *, cluster: str, namespace: str, server: str | None, token_file: str | None
) -> int:
    """Ask whether an image may run. Exit status: 0 it may, 1 it must not, 3 nobody can tell.

    Examples:
      regwarden allow check registry.example.com/team/app:1.4.2 --cluster prod
      regwarden allow check nginx:1.25 --server https://regwarden.example.com
    """
    if server:
        from regwarden.library_allow_server import ask_server, find_token

        token = find_token(os.environ, token_file)
        asked = ask_server(server, token, image=image, cluster=cluster, namespace=namespace)
        row: Mapping[str, object] = {name: getattr(asked, name) for name in _ANSWER}
    else:
        with closing(invocation.inventory()) as inventory:
            row = dict(inventory.allow_check(image, cluster=cluster, namespace=namespace))
    outcome = str(row["outcome"])
    if invocation.output == Format.TABLE:
        click.echo(f"{escape_controls(outcome)}: {escape_controls(str(row['detail']))}")
        for warning in _texts(row["warnings"]):
            invocation.warn(warning)
        if row["is_stale"]:
            invocation.warn("decided by what was known before the database was lost")
    else:
        invocation.printer.record({**row, "outcome": outcome})
    return _STATUS.get(outcome, _UNKNOWN_STATUS)


@command.command()
@click.option("--image", metavar="IMAGE", help="Only about this text.")
@click.option("--outcome", type=click.Choice(["allow", "deny", "unknown"]), help="Only these answers.")
@click.option("--principal", metavar="NAME", help="Only those that this one got.")
@click.option("--since", metavar="TIME", help="A date, or how long ago: 7d.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="At most so many.")
@pass_invocation
def decisions(invocation: Invocation, **wanted: Any) -> None:
    """List what the service answered, the newest first. Equal answers within a minute are one line.

    Example: regwarden allow decisions --outcome deny --since 1d
    """
    with closing(invocation.inventory()) as inventory:
        rows = inventory.allow_decisions(**wanted)
    columns = (*_DECISIONS, *_MORE_OF_DECISIONS) if invocation.output == Format.JSON else _DECISIONS
    invocation.printer.rows(rows, columns, nothing="nothing was answered")


def _parse_evidence(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise click.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--evidence")
    return name, value


def _texts(value: object) -> Sequence[str]:
    return [str(one) for one in value] if isinstance(value, (tuple, list)) else []
