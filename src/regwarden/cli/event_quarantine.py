"""``regwarden event quarantine``: notifications that could not be read, or whose registry is not configured."""

from __future__ import annotations

from contextlib import closing
from typing import Final

import click

from regwarden.cli.invocation import Invocation, RegwardenGroup, pass_invocation
from regwarden.cli.output import Format
from regwarden.cli.values import counted, escape_controls

_COLUMNS: Final = ("id", "received_at", "registry", "sender", "state", "reason", "body_bytes")
_SHOWN_CHARACTERS: Final = 10_000
_TABLE_ROWS: Final = 1000


@click.group("quarantine", cls=RegwardenGroup)
def command() -> None:
    """Look at deliveries that were set aside, and try them again."""


@command.command("list")
@click.option("--registry", metavar="NAME", help="Only what was sent for this registry.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="At most N rows. [default for tables: 1000]")
@pass_invocation
def list_(invocation: Invocation, registry: str | None, limit: int | None) -> None:
    """List deliveries that could not be read or whose registry is not configured, newest first.

    They are kept for the time that `events.keep_quarantine` names.

    Example: regwarden event quarantine list --output json
    """
    is_table = invocation.output == Format.TABLE
    most = limit or (_TABLE_ROWS if is_table else None)
    with closing(invocation.inventory()) as inventory:
        rows = inventory.quarantine(registry) if most is None else inventory.quarantine(registry, limit=most)
    invocation.printer.rows(rows, _COLUMNS, nothing="nothing is in quarantine")


@command.command()
@click.argument("delivery_id", metavar="ID", type=int)
@click.option("--raw", is_flag=True, help="Write exactly the bytes of the body to standard output.")
@pass_invocation
def show(invocation: Invocation, delivery_id: int, *, raw: bool) -> None:
    """Show a delivery: where it came from, why it was set aside, and its body.

    Control characters of the body are shown as codes, and of a long one only the beginning.

    Examples:
      regwarden event quarantine show 17
      regwarden event quarantine show 17 --raw > body.json
    """
    with closing(invocation.inventory()) as inventory:
        delivery = inventory.delivery(delivery_id)
    body = delivery.body
    if raw:
        click.echo(body or b"", nl=False)
        return
    text = None if body is None else body.decode("utf-8", "backslashreplace")
    if invocation.output == Format.TABLE:
        invocation.printer.facts({name: value for name, value in delivery.items() if name != "body"})
        if text is None:
            invocation.printer.talk("its body is no longer kept")
            return
        click.echo()
        click.echo("\n".join(map(escape_controls, text[:_SHOWN_CHARACTERS].split("\n"))))
        if len(text) > _SHOWN_CHARACTERS or delivery.body_sha256:
            invocation.printer.talk(
                f"shown is the beginning of {delivery.body_bytes:,} bytes; --raw writes what is kept"
            )
        return
    invocation.printer.record({**delivery, "body": text})


@command.command()
@click.argument("delivery_ids", metavar="[ID]…", nargs=-1, type=int)
@click.option("--all", "is_all", is_flag=True, help="Everything that is in quarantine.")
@click.option("--registry", metavar="NAME", help="Only what was sent for this registry.")
@pass_invocation
def replay(invocation: Invocation, delivery_ids: tuple[int, ...], *, is_all: bool, registry: str | None) -> None:
    """Look again at deliveries that were set aside, for example when a registry has been configured.

    Events that are known already change nothing.

    Examples:
      regwarden event quarantine replay 17 18
      regwarden event quarantine replay --all --registry production
    """
    if bool(delivery_ids) == is_all:
        raise click.UsageError("give either ids or --all")
    with closing(invocation.inventory()) as inventory:
        found = inventory.replay(None if is_all else list(delivery_ids), registry=registry)
    if invocation.output != Format.TABLE:
        invocation.printer.record(
            {"delivery_count": found.delivery_count, "event_count": found.event_count, "left_count": found.left_count}
        )
        return
    counts = f"{counted(found.delivery_count, 'delivery', 'deliveries')}, {counted(found.event_count, 'new event')}"
    left = f"; {counted(found.left_count, 'delivery', 'deliveries')} set aside" if found.left_count else ""
    click.echo(f"looked again at {counts}{left}")
