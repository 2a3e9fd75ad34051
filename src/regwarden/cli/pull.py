"""``regwarden pull``: who pulled what, how often, and when."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click

from regwarden.cli.invocation import Invocation, RegwardenGroup, pass_invocation
from regwarden.cli.output import Format
from regwarden.core.pull_agents import PullClass
from regwarden.core.pull_query import FIGURES, METHODS, USUAL_GROUPING, USUAL_SINCE, parse_groupings

if TYPE_CHECKING:
    from regwarden.library import Inventory

_TABLE_ROWS: Final = 1000


@click.group(cls=RegwardenGroup)
def command() -> None:
    """Count who pulled what, how often, and when."""


@command.command("list")
@click.argument("selectors", nargs=-1, metavar="[SELECTOR]…")
@click.option(
    "--by",
    multiple=True,
    metavar="A,B,C",
    help="Count by registry, repository, tag, digest, class, method, day. [default: repository,tag]",
)
@click.option("--since", metavar="DATE|AGE", default=USUAL_SINCE, show_default=True, help="From this day on (UTC).")
@click.option("--until", metavar="DATE|AGE", help="Only days that begin before. [default: now]")
@click.option("--as-of", metavar="DATE", help="As if that were now; a date is its beginning, UTC.")
@click.option("--class", "classes", multiple=True, type=click.Choice(list(map(str, PullClass))), help="Repeat: or.")
@click.option(
    "--method", "methods", multiple=True, type=click.Choice(METHODS, case_sensitive=False), help="Repeat: or."
)
@click.option("--registry", "registries", multiple=True, metavar="NAME", help="Only this registry. Repeatable.")
@click.option(
    "--repository", "repositories", multiple=True, metavar="PATTERN", help="glob:team/**, re:a|b or a name. Repeat: or."
)
@click.option("--tag", "tags", multiple=True, metavar="PATTERN", help="semver:^1.2, glob:v*, '<1.4'. Repeat: or.")
@click.option("--sort", multiple=True, metavar="FIELD", help="-pull_count or last_at:desc: the highest first.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="At most N rows. [default for tables: 1000]")
@pass_invocation
def list_(invocation: Invocation, selectors: tuple[str, ...], **options: Any) -> None:
    """Count the pulls of the last 30 days, or of other days.

    A pull is a GET or HEAD of a manifest. A request that names a tag counts for that tag, one by digest for every tag
    that led there that day; `tag` is empty where none did. Days are whole, in UTC.

    Examples:
      regwarden pull list team/app
      regwarden pull list 'glob:team/**' --by day,class --since 2026-11-01 --output csv
      regwarden pull list --by repository --class workload --sort last_at
    """
    from regwarden.library_pulls import build_pull_query

    by = parse_groupings(options.pop("by") or USUAL_GROUPING)
    arguments: Any = {name: value for name, value in options.items() if value not in (None, ())}
    arguments["by"] = by
    since = build_pull_query(selectors, arguments).since
    with closing(invocation.inventory()) as inventory:
        if invocation.output != Format.TABLE:
            invocation.printer.rows(inventory.pulls(*selectors, **arguments), (*by, *FIGURES))
            return
        _print_table(invocation, inventory, selectors, arguments)
        _say_since_when(invocation, inventory, options["registries"], since)


def _print_table(
    invocation: Invocation, inventory: Inventory, selectors: Sequence[str], arguments: dict[str, Any]
) -> None:
    by, most = arguments["by"], arguments.pop("limit", None)
    rows = inventory.pulls(*selectors, limit=most or _TABLE_ROWS + 1, **arguments)
    figures = FIGURES if "tag" in by else [name for name in FIGURES if name not in ("named_count", "digest_count")]
    has_one = "registry" in by and len(by) > 1 and len({row.registry for row in rows}) == 1
    columns = [name for name in (*by, *figures) if name != "registry" or not has_one]
    shown = rows if most else rows[:_TABLE_ROWS]
    invocation.printer.rows(shown, columns, nothing="no pulls match")
    if len(shown) < len(rows):
        invocation.printer.talk(f"there are more than {_TABLE_ROWS:,} rows; --limit shows more")


def _say_since_when(
    invocation: Invocation, inventory: Inventory, registries: Sequence[str], since: datetime | None
) -> None:
    """That nothing was pulled before the first notification came is not known."""
    for name, known_since in inventory.pulls_known_since(*registries).items():
        if known_since is None:
            invocation.printer.talk(f"{name}: no notification has come yet, so nothing is known of its pulls")
        elif since is None or since < known_since:
            day = known_since.astimezone(UTC).date().isoformat()
            invocation.printer.talk(f"{name}: pulls are known since {day}, earlier ones are unknown")
