"""What do all list commands share: which rows, in which order, how many, and how old is the answer?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from regwarden.cli.clocks import with_known_clocks
from regwarden.cli.freshness import refresh, require_registries, say_moment
from regwarden.cli.output import Format
from regwarden.core.ages import AgeUnit
from regwarden.core.fields import FIELDS, resolve_field, usual_fields
from regwarden.errors import InputError
from regwarden.library_queries import build_query, moment_of, past_moment

if TYPE_CHECKING:
    from regwarden.cli.invocation import Invocation
    from regwarden.library import Inventory, Row

F = TypeVar("F", bound=Callable[..., Any])

NO_PAST_CRAWL: Final = "--refresh and --as-of exclude each other: no crawl reads the past"
_TABLE_ROWS: Final = 1000
_PAGE_ROWS: Final = 10
_AGE_DAYS: Final = f"age_{AgeUnit.DAYS}"
_AGED: Final = frozenset({"repository", "tag", "manifest"})
_TABLE_COLUMNS: Final = {
    "registry": "registry url repository_count tag_count stored_bytes crawl_state crawled_at problem_count",
    "repository": "repository tag_count logical_bytes stored_bytes exclusive_bytes shared_bytes newest_created_at",
    "tag": "repository tag digest platforms logical_bytes exclusive_bytes created_at",
    "manifest": "repository digest tags platform logical_bytes exclusive_bytes created_at",
    "blob": "repository digest media_type size_bytes state",
}
_OWN_ORDER: Final = {
    "registry": ("registry",),
    "repository": ("registry", "repository"),
    "tag": ("registry", "repository", "tag"),
    "manifest": ("registry", "repository", "digest"),
    "blob": ("registry", "repository", "digest"),
}
_CONDITIONS: Final = (
    click.option("--where", multiple=True, metavar="CONDITION", help="'size > 500MiB', 'created < 30d'. Repeat: and."),
    click.option("--include-unknown", is_flag=True, help="Also what a condition cannot decide."),
)
_SELECTION: Final = (
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
)
_PRESENTATION: Final = (
    click.option("--sort", multiple=True, metavar="FIELD", help="-size or size:desc: largest first. Repeatable."),
    click.option("--reverse", is_flag=True, help="The other way round."),
    click.option("--limit", type=click.IntRange(1), metavar="N", help="At most N rows. [default for tables: 1000]"),
    click.option("--cursor", "--page-token", "cursor", metavar="TEXT", help="Go on where the page before ended."),
    click.option("--page", type=click.IntRange(1), metavar="N", help="The Nth page."),
    click.option("--per-page", type=click.IntRange(1), metavar="M", help="Rows per page. [default: --limit, or 10]"),
    click.option("--count", is_flag=True, help="Print only how many rows there are."),
    click.option("--columns", metavar="A,B,C", help="Which fields to print; 'all' prints every one."),
    click.option("--age-from", metavar="DATE", help="Every age counts up to DATE. [default: now]"),
)
_AGE_UNIT: Final = click.option(
    "--age-unit", type=click.Choice([str(unit) for unit in AgeUnit]), help="Show ages in whole units. [default: days]"
)
_REFRESH: Final = click.option("--refresh", "wants_refresh", is_flag=True, help="Crawl first.")
_AS_OF: Final = click.option(
    "--as-of", metavar="DATE", help="What there was at that moment; a date is its beginning, UTC."
)
_SELECTORS: Final = click.argument("selectors", nargs=-1, metavar="[SELECTOR]…")
_REGISTRIES: Final = click.argument("registries", nargs=-1, metavar="[REGISTRY]…")


def list_options(command: F) -> F:
    """Give a command the arguments and options of every list."""
    return _decorated(command, (_SELECTORS, *_CONDITIONS, *_SELECTION, *_PRESENTATION, _AGE_UNIT, _AS_OF, _REFRESH))


def registry_list_options(command: F) -> F:
    """The same without what registries do not have: repositories, tags and an age."""
    return _decorated(command, (_REGISTRIES, *_CONDITIONS, *_PRESENTATION, _REFRESH))


def _decorated(command: F, options: Sequence[Callable[[F], F]]) -> F:
    for option in reversed(options):
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
    age_field: str | None
    has_age_unit: bool


def run_list(invocation: Invocation, noun: str, options: dict[str, Any], *, wants_sum: bool = False) -> int:
    """Print the rows of ``noun`` that the options of ``list_options`` ask for, or what they weigh together.

    Returns the exit status.
    """
    if wants_sum and options["count"]:
        raise click.UsageError("--count and --sum exclude each other")
    wants_refresh = options.pop("wants_refresh")
    listing = _listing(noun, options)
    if wants_refresh and "as_of" in listing.query:
        raise click.UsageError(NO_PAST_CRAWL)
    status = 0
    with closing(invocation.inventory()) as inventory:
        if wants_refresh:
            status = refresh(invocation, inventory, listing.query.get("registries", ()), listing.selectors)
        if noun != "registry":
            require_registries(inventory, listing.query.get("registries", ()))
        if wants_sum:
            _print_sum(invocation, inventory, listing)
        elif listing.is_count:
            _print_count(invocation, inventory, listing)
        else:
            print_list(invocation, inventory, listing)
    return status


def print_list(invocation: Invocation, inventory: Inventory, listing: Listing) -> None:
    """Print one list, its age, and how to see the rest."""
    columns = _columns(invocation, inventory, listing)
    rows, follow_up = _rows(invocation, inventory, listing)
    shown = map(with_known_clocks, rows) if invocation.output == Format.TABLE else rows
    if listing.noun != "registry":
        _say_age(invocation, inventory, listing)
    plural = {"repository": "repositories", "registry": "registries"}.get(listing.noun, f"{listing.noun}s")
    invocation.printer.rows(shown, columns, nothing=f"no {plural} match", is_fixed=listing.columns is not None)
    for sentence in follow_up:
        invocation.printer.talk(sentence)


def _say_age(invocation: Invocation, inventory: Inventory, listing: Listing) -> None:
    query = listing.query
    say_moment(invocation, inventory, query.get("as_of"), query.get("registries", ()), listing.selectors)


def _print_count(invocation: Invocation, inventory: Inventory, listing: Listing) -> None:
    count = inventory.count(listing.noun, *listing.selectors, **listing.query)
    unknown_count = None
    if invocation.output == Format.TABLE and listing.query.get("where"):
        query = {**listing.query, "limit": 1, "cursor": None}
        unknown_count = inventory.page(listing.noun, *listing.selectors, count_unknown=True, **query).unknown_count
    click.echo(count)
    for sentence in _about_unknown(listing, unknown_count):
        invocation.printer.talk(sentence)


def _about_unknown(listing: Listing, unknown_count: int | None) -> list[str]:
    if not unknown_count or listing.query.get("include_unknown"):
        return []
    what = "row is left out because what was asked is unknown of it"
    if unknown_count > 1:
        what = "rows are left out because what was asked is unknown of them"
    return [f"{unknown_count:,} {what}; --include-unknown takes it in"]


def _print_sum(invocation: Invocation, inventory: Inventory, listing: Listing) -> None:
    rows = [asdict(sizes) for sizes in inventory.sizes(*listing.selectors, **listing.query)]
    _say_age(invocation, inventory, listing)
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
    rest = {name: options.pop(name) for name in ("columns", "page", "per_page")}
    is_count, unit = options.pop("count"), options.pop("age_unit", None)
    selectors = options.pop("selectors", ())
    age_field = f"age_{unit or AgeUnit.DAYS}" if unit or (options["age_from"] and noun in _AGED) else None
    if age_field:
        resolve_field(noun, age_field)  # type: ignore[arg-type]  # the noun is one of ours
    if rest["page"] and options["cursor"]:
        raise InputError("--page and --cursor exclude each other", hint="Give one of them.")
    query = {name: value for name, value in options.items() if value not in (None, (), False)}
    query["sort"] = _order(noun, sort, is_reverse=is_reverse)
    # All pages are asked for the same moment, or rows would move while they are read.
    if (moment := past_moment(options.get("as_of"))) is not None:
        query["as_of"] = moment
    query["age_from"] = moment_of({"age_from": options["age_from"], "as_of": moment})
    # Before a registry is read again for the sake of a question that cannot be understood.
    build_query(noun, (), query)  # type: ignore[arg-type]  # its keys are those of QueryArguments
    _chosen_columns(noun, rest["columns"])
    rest |= {"selectors": selectors, "is_count": is_count, "age_field": age_field, "has_age_unit": unit is not None}
    return Listing(noun=noun, query=query, **rest)


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
        most = query.get("limit")
        query["limit"] = listing.per_page or most or _PAGE_ROWS
        if listing.page:
            query["cursor"] = _cursor_of_page(inventory, listing, query)
            if query["cursor"] is None and listing.page > 1:
                return iter(()), []
        query["limit"] = min(query["limit"], most or query["limit"])
    elif "limit" not in query:
        if not is_table:
            return inventory.iterate(listing.noun, *listing.selectors, **query), []
        query["limit"] = _TABLE_ROWS
    page = inventory.page(listing.noun, *listing.selectors, count_unknown=is_table, **query)
    follow_up = []
    if page.next_cursor is not None:
        follow_up.append(f"there are more rows; the next: {_moment_option(listing)}--cursor {page.next_cursor}")
    return iter(page.rows), [*follow_up, *_about_unknown(listing, page.unknown_count)]


def _moment_option(listing: Listing) -> str:
    """In an order by age, rows would move between two pages that count from different moments."""
    names = [text.lstrip("-").lower().replace("-", "_") for text in listing.query["sort"]]
    is_by_age = any(name.startswith("age_") for name in names)
    return f"--age-from {listing.query['age_from'].isoformat()} " if is_by_age else ""


def _cursor_of_page(inventory: Inventory, listing: Listing, query: dict[str, Any]) -> str | None:
    """Where page N begins: pages before it are walked, because rows are found by their place, not their number."""
    cursor: str | None = None
    for _ in range((listing.page or 1) - 1):
        cursor = inventory.page(listing.noun, *listing.selectors, **{**query, "cursor": cursor}).next_cursor
        if cursor is None:
            return None
    return cursor


def _columns(invocation: Invocation, inventory: Inventory, listing: Listing) -> tuple[str, ...]:
    noun: Any = listing.noun
    if named := _chosen_columns(noun, listing.columns):
        return _with_age(named, listing) if listing.has_age_unit else named
    if invocation.output in (Format.JSON, Format.CSV):
        return _with_age(usual_fields(noun), listing)
    chosen = _TABLE_COLUMNS[noun].split()
    if noun != "registry":
        crawled = [coverage for coverage in inventory.coverage() if coverage.repository_states]
        has_several = invocation.output == Format.PLAIN or len(crawled) > 1
        chosen = [*(("registry",) if has_several else ()), *chosen]
    return _with_age(chosen, listing)


def _chosen_columns(noun: Any, columns: str | None) -> tuple[str, ...]:
    """What ``--columns`` names; nothing where it does not."""
    if columns and columns.strip() == "all":
        return tuple(FIELDS[noun])
    return tuple(resolve_field(noun, name).name for name in (columns or "").split(",") if name.strip())


def _with_age(columns: Sequence[str], listing: Listing) -> tuple[str, ...]:
    """The age that was asked for stands where the one in days stands, or at the end."""
    wanted = listing.age_field
    if wanted is None or wanted in columns:
        return tuple(columns)
    if _AGE_DAYS in columns:
        return tuple(wanted if name == _AGE_DAYS else name for name in columns)
    return (*columns, wanted)
