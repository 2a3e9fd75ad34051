"""``regwarden event``: what notifications told, live or looked up, and those that could not be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from regwarden.cli.event_quarantine import command as quarantine
from regwarden.cli.invocation import Invocation, RegwardenGroup, pass_invocation
from regwarden.cli.output import Format

if TYPE_CHECKING:
    from regwarden.cli.lines import LinePrinter
    from regwarden.library import Inventory, Row, RowPage

F = TypeVar("F", bound=Callable[..., Any])

_TABLE_ROWS: Final = 1000
_TABLE_COLUMNS: Final = "at action target repository tag digest pull_class actor user_agent address"
_ALL_COLUMNS: Final = (
    "id at action target registry repository tag digest media_type size_bytes pull_class method actor user_agent"
    " address host other_repository received_at sent_at request_id instance_id event_id delivery_id state"
)
_FILTERS: Final = (
    click.option("--registry", "registries", multiple=True, metavar="NAME", help="Only this registry. Repeatable."),
    click.option(
        "--repository",
        "repositories",
        multiple=True,
        metavar="PATTERN",
        help="glob:team/**, re:a|b or a name. Repeat: or.",
    ),
    click.option("--tag", "tags", multiple=True, metavar="PATTERN", help="semver:^1.2, glob:v* or a name. Repeat: or."),
    click.option(
        "--action", "actions", multiple=True, metavar="ACTION", help="push, pull, mount, delete or rename. Repeat: or."
    ),
    click.option(
        "--target",
        "targets",
        multiple=True,
        metavar="TARGET",
        help="manifest, blob, tag, repository, or content: deleted, and nobody says which.",
    ),
    click.option(
        "--class",
        "classes",
        multiple=True,
        metavar="CLASS",
        help="Pulls of workload, ci, human, scanner, replicator, crawler, other.",
    ),
    click.option("--actor", "actors", multiple=True, metavar="PATTERN", help="Who did it. Repeat: or."),
    click.option("--since", metavar="TIME", help="From this date, or of the last 2h, 30d, …"),
    click.option("--until", metavar="TIME", help="Before this date, or older than 2h, 30d, …"),
)


def _filtered(command: F) -> F:
    for option in reversed(_FILTERS):
        command = option(command)
    return command


@click.group(cls=RegwardenGroup)
def command() -> None:
    """List events, watch them live, or deal with notifications that could not be read."""


@command.command("list")
@_filtered
@click.option("--unknown-hosts", is_flag=True, help="Only events whose registry is not configured.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="At most N rows. [default for tables: 1000]")
@click.option("--cursor", metavar="TEXT", help="Go on where the page before ended.")
@pass_invocation
def list_(invocation: Invocation, *, limit: int | None, cursor: str | None, **filters: Any) -> None:
    """List what notifications told, newest first by the registry's clock.

    Events are kept for the time that `events.keep_events` names; what was learned from them stays.

    Examples:
      regwarden event list --action delete --since 7d
      regwarden event list --repository team/app --tag latest --output json
      regwarden event list --unknown-hosts
    """
    is_table = invocation.output == Format.TABLE
    with closing(invocation.inventory()) as inventory:
        if not is_table and limit is None and cursor is None:
            invocation.printer.rows(inventory.iterate_events(**filters), tuple(_ALL_COLUMNS.split()))
        else:
            page = inventory.event_page(limit=limit or (_TABLE_ROWS if is_table else None), cursor=cursor, **filters)
            _print_page(invocation, page, is_table=is_table)
        if filters["unknown_hosts"] or is_table:
            _say_unknown_hosts(invocation, inventory, is_asked=filters["unknown_hosts"])


def _print_page(invocation: Invocation, page: RowPage, *, is_table: bool) -> None:
    rows: list[Mapping[str, object]] = list(page.rows)
    columns = _ALL_COLUMNS
    if is_table:
        columns = _TABLE_COLUMNS
        rows = [{**row, "registry": row.registry or row.host} for row in page.rows]
        if len({row["registry"] for row in rows}) > 1:
            columns = columns.replace("repository", "registry repository")
    invocation.printer.rows(rows, tuple(columns.split()), nothing="no events match")
    if page.next_cursor is not None:
        invocation.printer.talk(f"there are more rows; the next: --cursor {page.next_cursor}")


def _say_unknown_hosts(invocation: Invocation, inventory: Inventory, *, is_asked: bool) -> None:
    from regwarden.cli.notifications import unknown_host_lines

    hosts = inventory.unknown_hosts()
    if hosts and not is_asked:
        invocation.printer.talk(
            f"events name {len(hosts)} host{'s' if len(hosts) != 1 else ''} that no registry has: "
            "regwarden event list --unknown-hosts"
        )
    elif hosts:
        for line in unknown_host_lines(hosts):
            invocation.printer.talk(line)


@command.command()
@_filtered
@click.option("--count", "wanted", type=click.IntRange(1), metavar="N", help="End after N events.")
@pass_invocation
def tail(invocation: Invocation, *, wanted: int | None, **filters: Any) -> None:
    """Print events as they are taken in, until it is interrupted.

    With --since, those from that time on come first. JSON is one object per line.

    Examples:
      regwarden event tail --action push --action delete
      regwarden event tail --repository 'glob:team/**' --output json
    """
    from regwarden.cli.lines import LinePrinter

    with closing(invocation.inventory()) as inventory:
        printer = LinePrinter(Format(invocation.output), tuple(_ALL_COLUMNS.split()))
        for number, event in enumerate(_arriving(invocation, printer, inventory, filters), start=1):
            printer.print(event)
            if number == wanted:
                break
        printer.flush()


def _arriving(
    invocation: Invocation, printer: LinePrinter, inventory: Inventory, filters: dict[str, Any]
) -> Iterator[Row]:
    is_told = False
    for event in inventory.follow_events(**filters):
        if event is None:
            printer.flush()
            if not is_told and invocation.output == Format.TABLE:
                invocation.printer.talk("waiting for events; Ctrl-C ends it")
            is_told = True
        else:
            yield event


command.add_command(quarantine)
