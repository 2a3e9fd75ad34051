"""``regwarden usage``: what does everything weigh, and where is the weight?"""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import click

from regwarden.cli.invocation import Invocation, RegwardenCommand, pass_invocation
from regwarden.cli.listing import NO_PAST_CRAWL
from regwarden.cli.output import Format, Printer
from regwarden.cli.values import escape_controls

if TYPE_CHECKING:
    from regwarden.library import Inventory
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
_GROWTH_COLUMNS: Final = (
    "day",
    "tag_count",
    "tag_count_change",
    "manifest_count",
    "manifest_count_change",
    "logical_bytes",
    "logical_change_bytes",
    "stored_bytes",
    "stored_change_bytes",
)
_GROUP_COLUMNS: Final = (
    "repository_count",
    "tag_count",
    "logical_bytes",
    "stored_bytes",
    "exclusive_bytes",
    "shared_bytes",
)
_BAR_WIDTH: Final = 20
_TAG_COLUMNS: Final = ("repository", "tag", "logical_bytes", "exclusive_bytes", "created_at")


@click.command(cls=RegwardenCommand)
@click.argument("registries", nargs=-1, metavar="[REGISTRY]…")
@click.option("--top", type=click.IntRange(1, 1000), default=10, show_default=True, help="How many of the largest.")
@click.option("--as-of", metavar="DATE", help="What there was at that moment; a date is its beginning, UTC.")
@click.option("--growth", "is_growth", is_flag=True, help="How counts and sizes developed, a row for each day.")
@click.option("--since", metavar="WHEN", help="With --growth: from a date, or an age as 90d, on.")
@click.option("--by", type=click.Choice(["day", "week", "month"]), help="With --growth: a row for each. [default: day]")
@click.option("--repository", metavar="NAME", help="With --growth: only of this repository.")
@click.option(
    "--group-by",
    type=click.Choice(["project", "group", "owner", "path"]),
    help="A row for each: GitLab's projects, their groups or owners, or the beginning of the path.",
)
@click.option(
    "--depth", type=click.IntRange(1, 64), help="With --group-by: how many parts of a group or path. [default: all, 1]"
)
@click.option("--refresh", "wants_refresh", is_flag=True, help="Crawl first.")
@pass_invocation
def command(invocation: Invocation, registries: tuple[str, ...], **options: Any) -> int:
    """Report what the registries hold and weigh, and the largest repositories and tags.

      logical     what pulling every tag would transfer: shared content counts once per tag
      stored      distinct content that tags reach: what the storage holds for them
      exclusive   the part that nothing else needs: what deleting it would free
      attributed  a fair share: content of several repositories is split among them

    Days on which nothing was computed have no row in --growth: a crawl and the service's upkeep do that.

    Examples:
      regwarden usage --top 20
      regwarden usage --as-of 2026-11-03
      regwarden usage --growth --since 1y --by month
      regwarden usage --group-by path
      regwarden usage production --group-by group --depth 1
    """
    from regwarden.cli.freshness import refresh, require_registries, say_moment
    from regwarden.library_queries import past_moment

    _check(options)
    moment = past_moment(options["as_of"])
    with closing(invocation.inventory()) as inventory:
        status = refresh(invocation, inventory, registries) if options["wants_refresh"] else 0
        require_registries(inventory, registries)
        if options["is_growth"]:
            _print_growth(invocation, inventory, registries, options)
        else:
            by = options["group_by"]
            report = inventory.usage(*registries, top=options["top"], as_of=moment, group_by=by, depth=options["depth"])
            say_moment(invocation, inventory, moment, registries)
            if by is not None and invocation.output != Format.JSON:
                _print_groups(invocation.printer, report, by)
            else:
                print_usage(invocation.printer, report)
    return status


def _check(options: dict[str, Any]) -> None:
    if options["is_growth"] and options["as_of"] is not None:
        raise click.UsageError("--growth and --as-of exclude each other")
    if options["is_growth"] and options["group_by"] is not None:
        raise click.UsageError("--growth and --group-by exclude each other")
    if options["depth"] is not None and options["group_by"] is None:
        raise click.UsageError("--depth needs --group-by")
    if options["wants_refresh"] and options["as_of"] is not None:
        raise click.UsageError(NO_PAST_CRAWL)
    given = [f"--{name}" for name in ("since", "by", "repository") if options[name] is not None]
    if given and not options["is_growth"]:
        raise click.UsageError(f"{given[0]} needs --growth")


def _print_growth(
    invocation: Invocation, inventory: Inventory, registries: tuple[str, ...], options: dict[str, Any]
) -> None:
    repository, by = options["repository"], options["by"] or "day"
    rows = inventory.growth(*registries, repository=repository, since=options["since"], by=by)
    if invocation.output != Format.TABLE:
        columns = ("registry", *(("repository",) if repository is not None else ()), *_GROWTH_COLUMNS)
        invocation.printer.rows(rows, columns)
        return
    has_several = len({row.registry for row in rows}) > 1
    largest = {row.registry: max(one.stored_bytes or 0 for one in rows if one.registry == row.registry) for row in rows}
    shown = [dict(row) | {"": _bar(row.stored_bytes, largest[row.registry])} for row in rows]
    invocation.printer.rows(shown, (*(("registry",) if has_several else ()), *_GROWTH_COLUMNS, ""))
    if not rows:
        first = inventory.growth(*registries, repository=repository)
        begins = f"; figures begin on {min(row.day for row in first)}" if first else ""
        invocation.printer.talk(f"there are no figures of that time{begins}. They are made whenever a crawl has ended.")


def _bar(stored_bytes: int | None, largest: int) -> str:
    return "#" * round(_BAR_WIDTH * (stored_bytes or 0) / largest) if largest else ""


def print_usage(printer: Printer, report: UsageReport) -> None:
    """Print a usage report: tables for people, one object for JSON, the registries' totals for CSV and plain."""
    registries = [asdict(registry) for registry in report.registries]
    if printer.format == Format.JSON:
        printer.record(asdict(report))
        return
    _say_remarks(printer, report)
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


def _print_groups(printer: Printer, report: UsageReport, by: str) -> None:
    """Content that several repositories of a group share counts once in it: rows are no sums, and add up to more."""
    from regwarden.core.grouping import NO_GROUP

    none = NO_GROUP if printer.format == Format.TABLE else None
    rows = [{**asdict(one), by: one.group or none} for one in report.groups]
    is_table, has_several = printer.format == Format.TABLE, len({one.registry for one in report.groups}) > 1
    columns = (*(("registry",) if has_several or not is_table else ()), by, *_GROUP_COLUMNS)
    _say_remarks(printer, report)
    printer.rows(rows, columns, nothing="there are no repositories yet: regwarden crawl")


def _say_remarks(printer: Printer, report: UsageReport) -> None:
    for remark in report.remarks:
        printer.talk(escape_controls(remark))


def _print_part(
    printer: Printer, title: str, records: tuple[object, ...], columns: tuple[str, ...], has_several: bool
) -> None:
    rows = [asdict(record) for record in records]  # type: ignore[call-overload]  # all of them are dataclasses
    if rows:
        printer.heading(escape_controls(title))
        printer.table(rows, (*(("registry",) if has_several else ()), *columns))
