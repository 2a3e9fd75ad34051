"""``regwarden usage``: what does everything weigh, and where is the weight?"""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import click

from regwarden.cli.invocation import Invocation, RegwardenCommand, pass_invocation
from regwarden.cli.output import Format, Printer
from regwarden.cli.values import escape_controls

if TYPE_CHECKING:
    from regwarden.store.reports import UsageReport

_REGISTRY_COLUMNS: Final = (
    "registry",
    "repository_count",
    "tag_count",
    "manifest_count",
    "logical_bytes",
    "stored_bytes",
    "stored_all_bytes",
    "problem_count",
)
_REPOSITORY_COLUMNS: Final = (
    "repository",
    "tag_count",
    "logical_bytes",
    "stored_bytes",
    "exclusive_bytes",
    "shared_bytes",
    "attributed_bytes",
)
_TAG_COLUMNS: Final = ("repository", "tag", "logical_bytes", "exclusive_bytes", "created_at")


@click.command(cls=RegwardenCommand)
@click.argument("registries", nargs=-1, metavar="[REGISTRY]…")
@click.option("--top", type=click.IntRange(1, 1000), default=10, show_default=True, help="How many of the largest.")
@click.option("--refresh", "wants_refresh", is_flag=True, help="Crawl first.")
@pass_invocation
def command(invocation: Invocation, registries: tuple[str, ...], top: int, *, wants_refresh: bool) -> int:
    """Report what the registries hold and weigh, and the largest repositories and tags.

      logical     what pulling every tag would transfer: shared content counts once per tag
      stored      distinct content that tags reach: what the storage holds for them
      exclusive   the part that nothing else needs: what deleting it would free
      attributed  a fair share: content of several repositories is split among them

    Example: regwarden usage --top 20
    """
    from regwarden.cli.freshness import refresh, require_registries, say_age

    with closing(invocation.inventory()) as inventory:
        status = refresh(invocation, inventory, registries) if wants_refresh else 0
        require_registries(inventory, registries)
        say_age(invocation, inventory, registries)
        print_usage(invocation.printer, inventory.usage(*registries, top=top))
    return status


def print_usage(printer: Printer, report: UsageReport) -> None:
    """Print a usage report: tables for people, one object for JSON, the registries' totals for CSV and plain."""
    registries = [asdict(registry) for registry in report.registries]
    if printer.format == Format.JSON:
        printer.record(asdict(report))
        return
    if printer.format != Format.TABLE:
        printer.rows(registries, tuple(registries[0]) if registries else ())
        return
    has_several = sum(1 for registry in registries if registry["repository_count"] != 0) > 1
    printer.table(registries, _REGISTRY_COLUMNS)
    _print_part(printer, "Largest repositories, by stored size", report.by_stored, _REPOSITORY_COLUMNS, has_several)
    _print_part(
        printer,
        "Repositories that would free most, by exclusive size",
        report.by_exclusive,
        _REPOSITORY_COLUMNS,
        has_several,
    )
    _print_part(printer, "Largest tags, by logical size", report.largest_tags, _TAG_COLUMNS, has_several)
    _print_part(printer, "Problems", report.problems, ("code", "problem_count"), has_several)


def _print_part(
    printer: Printer, title: str, records: tuple[object, ...], columns: tuple[str, ...], has_several: bool
) -> None:
    rows = [asdict(record) for record in records]  # type: ignore[call-overload]  # all of them are dataclasses
    if rows:
        printer.heading(escape_controls(title))
        printer.table(rows, (*(("registry",) if has_several else ()), *columns))
