"""What do all list commands share: which rows, in which order, how many, and how old is the answer?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from regwarden.cli.ages import AGE_UNITS, add_ages, age_field
from regwarden.cli.freshness import refresh, say_age
from regwarden.cli.output import Format
from regwarden.errors import InputError

if TYPE_CHECKING:
    from regwarden.cli.invocation import Invocation
    from regwarden.library import Inventory, Row

F = TypeVar("F", bound=Callable[..., Any])

_TABLE_ROWS: Final = 1000
_TABLE_COLUMNS: Final = {
    "repository": "repository tag_count logical_bytes stored_bytes exclusive_bytes shared_bytes newest_created_at",
    "tag": "repository tag digest platforms logical_bytes exclusive_bytes created_at",
    "manifest": "repository digest tags platform logical_bytes exclusive_bytes created_at",
    "blob": "repository digest media_type size_bytes state",
}
_OWN_ORDER: Final = {
    "repository": ("registry", "repository"),
    "tag": ("registry", "repository", "tag"),
    "manifest": ("registry", "repository", "digest"),
    "blob": ("registry", "repository", "digest"),
}
_OPTIONS: Final = (
    click.argument("selectors", nargs=-1, metavar="[SELECTOR]…"),
    click.option("--where", multiple=True, metavar="CONDITION", help="'size > 500MiB', 'created < 30d'. Repeat: and."),
    click.option("--include-unknown", is_flag=True, help="Also what a condition cannot decide."),
    click.option("--registry", "registries", multiple=True, metavar="NAME", help="Only this registry. Repeatable."),
    click.option(
        "--repository",
        "repositories",
        multiple=True,
        metavar="PATTERN",
        help="glob:team/**, re:a|b or a name. Repeat: or.",
    ),
    click.option(
        "--exclude-repository", "exclude_repositories", multiple=True, metavar="PATTERN", help="None of these."
    ),
    click.option("--tag", "tags", multiple=True, metavar="PATTERN", help="semver:^1.2, glob:v*, '<1.4'. Repeat: or."),
    click.option("--exclude-tag", "exclude_tags", multiple=True, metavar="PATTERN", help="None of these."),
    click.option("--sort", multiple=True, metavar="FIELD", help="-size or size:desc: largest first. Repeatable."),
    click.option("--reverse", is_flag=True, help="The other way round."),
    click.option("--limit", type=click.IntRange(1), metavar="N", help="At most N rows. [default for tables: 1000]"),
    click.option("--cursor", "--page-token", "cursor", metavar="TEXT", help="Go on where the page before ended."),
    click.option("--page", type=click.IntRange(1), metavar="N", help="The Nth page of --per-page rows."),
    click.option("--per-page", type=click.IntRange(1), metavar="M", help="Rows per page. [default: 10]"),
    click.option("--count", is_flag=True, help="Print only how many rows there are."),
    click.option("--columns", metavar="A,B,C", help="Which fields to print; 'all' prints every one."),
    click.option("--age-from", metavar="DATE", help="Count ages up to DATE. [default: now]"),
    click.option("--age-unit", type=click.Choice(AGE_UNITS), help="Show ages in whole units. [default: days]"),
    click.option("--refresh", "wants_refresh", is_flag=True, help="Crawl first."),
)


def list_options(command: F) -> F:
    """Give a command the arguments and options of every list."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True)
class Listing:
    """One list as asked for on the command line."""

    noun: str
    selectors: tuple[str, ...]
    query: dict[str, Any]
    columns: str | None
    is_count: bool
    page: int | None
    per_page: int | None
    age_from: str | None
    age_unit: str | None


def run_list(invocation: Invocation, noun: str, options: dict[str, Any], *, wants_sum: bool = False) -> None:
    """Print the rows of ``noun`` that the options of ``list_options`` ask for, or what they weigh together."""
    with closing(invocation.inventory()) as inventory:
        if options.pop("wants_refresh"):
            refresh(invocation, inventory, options["registries"])
        listing = _listing(noun, options)
        if wants_sum:
            _print_sum(invocation, inventory, listing)
        else:
            print_list(invocation, inventory, listing)


def print_list(invocation: Invocation, inventory: Inventory, listing: Listing) -> None:
    """Print one list, its age, and how to see the rest."""
    if listing.is_count:
        click.echo(inventory.count(listing.noun, *listing.selectors, **listing.query))
        return
    say_age(invocation, inventory, listing.query.get("registries", ()))
    columns = _columns(invocation, inventory, listing)
    found, follow_up = _rows(invocation, inventory, listing)
    is_aged = listing.age_from or listing.age_unit
    rows = add_ages(found, listing.age_from, listing.age_unit or "days") if is_aged else found
    plural = {"repository": "repositories"}.get(listing.noun, f"{listing.noun}s")
    invocation.printer.rows(rows, columns, nothing=f"no {plural} match", is_fixed=listing.columns is not None)
    for sentence in follow_up:
        invocation.printer.talk(sentence)


def _print_sum(invocation: Invocation, inventory: Inventory, listing: Listing) -> None:
    say_age(invocation, inventory, listing.query.get("registries", ()))
    rows = [asdict(sizes) for sizes in inventory.sizes(*listing.selectors, **listing.query)]
    columns = tuple(rows[0]) if rows else ()
    if invocation.output != Format.TABLE:
        invocation.printer.rows(rows, columns)
        return
    for row in rows:
        invocation.printer.facts(row)
    if not rows:
        invocation.printer.talk("no tags match")


def _listing(noun: str, options: dict[str, Any]) -> Listing:
    sort, is_reverse = options.pop("sort"), options.pop("reverse")
    rest = {name: options.pop(name) for name in ("selectors", "columns", "page", "per_page", "age_from", "age_unit")}
    is_count = options.pop("count")
    if rest["page"] and options["cursor"]:
        raise InputError("--page and --cursor exclude each other", hint="Give one of them.")
    query = {name: value for name, value in options.items() if value not in (None, (), False)}
    query["sort"] = _order(noun, sort, is_reverse=is_reverse)
    return Listing(noun=noun, query=query, is_count=is_count, **rest)


def _order(noun: str, sort: Sequence[str], *, is_reverse: bool) -> tuple[str, ...]:
    fields = [field.strip() for text in sort for field in text.split(",") if field.strip()]
    if not is_reverse:
        return tuple(fields)
    return tuple(map(_opposite, fields or _OWN_ORDER[noun]))


def _opposite(field: str) -> str:
    name, _, direction = field.partition(":")
    is_descending = name.startswith("-") or direction.lower() == "desc"
    return name.removeprefix("-") if is_descending else f"-{name}"


def _rows(invocation: Invocation, inventory: Inventory, listing: Listing) -> tuple[Iterator[Row], list[str]]:
    """The rows to print, and what to say after them (complete only when the rows are read)."""
    is_table = invocation.output == Format.TABLE
    query = dict(listing.query)
    if listing.page or listing.per_page:
        query["limit"] = listing.per_page or 10
        query["cursor"] = _cursor_of_page(inventory, listing, query)
        if query["cursor"] is None and (listing.page or 1) > 1:
            return iter(()), []
    elif "limit" not in query:
        if not is_table:
            return inventory.iterate(listing.noun, *listing.selectors, **query), []
        query["limit"] = _TABLE_ROWS
    page = inventory.page(listing.noun, *listing.selectors, count_unknown=is_table, **query)
    follow_up = []
    if page.next_cursor is not None:
        follow_up.append(f"there are more rows; the next: --cursor {page.next_cursor}")
    if page.unknown_count:
        follow_up.append(
            f"{page.unknown_count:,} rows are left out because what was asked is unknown of them; "
            "--include-unknown shows them"
        )
    return iter(page.rows), follow_up


def _cursor_of_page(inventory: Inventory, listing: Listing, query: dict[str, Any]) -> str | None:
    """Where page N begins: pages before it are walked, because rows are found by their place, not their number."""
    cursor: str | None = None
    for _ in range((listing.page or 1) - 1):
        cursor = inventory.page(listing.noun, *listing.selectors, **{**query, "cursor": cursor}).next_cursor
        if cursor is None:
            return None
    return cursor


def _columns(invocation: Invocation, inventory: Inventory, listing: Listing) -> tuple[str, ...]:
    from regwarden.core.fields import FIELDS, resolve_field

    fields = FIELDS[listing.noun]  # type: ignore[index]  # the noun is one of ours
    if listing.columns and listing.columns.strip() != "all":
        names = [name for name in listing.columns.split(",") if name.strip()]
        return tuple(resolve_field(listing.noun, name).name for name in names)  # type: ignore[arg-type]
    ages = (age_field(listing.age_unit),) if listing.age_from or listing.age_unit else ()
    if listing.columns or invocation.output in (Format.JSON, Format.CSV):
        return (*(name for name in fields if name not in ages), *ages)
    chosen = _TABLE_COLUMNS[listing.noun].split()
    crawled = [coverage for coverage in inventory.coverage() if coverage.repository_states]
    has_several = invocation.output == Format.PLAIN or len(crawled) > 1
    return (*(("registry",) if has_several else ()), *chosen, *ages)
