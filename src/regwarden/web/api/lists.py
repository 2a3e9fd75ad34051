"""How is a page of a list answered, with its total, and with what is embedded in its entries?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from regwarden.core.fields import Noun
from regwarden.core.oci.references import parse_repository_name, parse_tag_name
from regwarden.errors import InputError, NotFound
from regwarden.library import Inventory
from regwarden.library_queries import QueryArguments
from regwarden.library_rows import Row, RowPage
from regwarden.web.api.context import Caller
from regwarden.web.api.documents import Listed, listing, with_query
from regwarden.web.api.links import repository_entry, repository_path, tag_entry
from regwarden.web.api.problems import WrongParameter
from regwarden.web.api.questions import fields_named

EMBEDDED_LIMIT: Final = 100
_FIRST: Final[QueryArguments] = {"limit": 1}

Entries = Callable[[Inventory, Sequence[Row]], list[dict[str, Any]]]


async def answer_list(caller: Caller, request: Request, noun: Noun, asked: Any, entries: Entries) -> Response:
    """The page of ``noun`` that ``asked`` (``Conditions`` and ``Paged``) means; ``entries`` makes rows objects."""
    arguments: QueryArguments = asked.arguments(noun) | asked.page_arguments(noun)
    is_counted: bool = asked.count

    def work(inventory: Inventory) -> Response:
        with fields_named():
            page = inventory.page(noun, *asked.selectors, count_unknown=is_counted, **arguments)
            total = inventory.count(noun, *asked.selectors, **arguments) if is_counted else None
            more = {"unknown_count": page.unknown_count} if is_counted else {}
            return listing(request, Listed(entries(inventory, page.rows), page.next_cursor, total, more))

    return await caller.ask(work)


def find_registry(inventory: Inventory, name: str, as_of: str | None = None) -> Row:
    """The registry of this name. Raises ``NotFound``."""
    return inventory.page("registry", registries=[name], as_of=as_of, limit=1).rows[0]


def find_repository(inventory: Inventory, registry: str, repository: str, as_of: str | None = None) -> Row:
    """The repository of exactly this name. Raises ``NotFound``."""
    what = f"repository {repository} in {registry}"
    name = _checked(parse_repository_name, repository, what)
    return _only(inventory, "repository", {"registries": [registry], "repositories": [name], "as_of": as_of}, what)


def find_tag(inventory: Inventory, place: tuple[str, str], tag: str, as_of: str | None = None) -> Row:
    """The tag of exactly this name in ``place`` (registry, repository). Raises ``NotFound``."""
    registry, repository = place
    what = f"tag {repository}:{tag} in {registry}"
    name = _checked(parse_repository_name, repository, what)
    tags = [_checked(parse_tag_name, tag, what)]
    return _only(
        inventory, "tag", {"registries": [registry], "repositories": [name], "tags": tags, "as_of": as_of}, what
    )


def _checked(parse: Callable[[str], str], text: str, what: str) -> str:
    """Names stand where the inventory takes patterns too: what is no name names nothing."""
    try:
        return parse(text)
    except InputError:
        raise NotFound(f"there is no {what[:300]}") from None


def _only(inventory: Inventory, noun: Noun, arguments: QueryArguments, what: str) -> Row:
    rows = inventory.page(noun, **(arguments | _FIRST)).rows
    if not rows:
        raise NotFound(f"there is no {what[:300]}")
    return rows[0]


def check_embed(asked: tuple[str, ...], known: tuple[str, ...], limit: int) -> frozenset[str]:
    """What is to be embedded. Raises ``WrongParameter`` for what cannot be, and for pages too long to embed in."""
    wanted = {word for text in asked for word in text.split(",") if word}
    for word in sorted(wanted):
        if word not in known:
            raise WrongParameter(
                "embed", f"{word[:40]!r} cannot be embedded here", hint=f"There are: {', '.join(known)}."
            )
    if wanted and limit > EMBEDDED_LIMIT:
        raise WrongParameter("limit", f"with embed a page has at most {EMBEDDED_LIMIT} entries", hint="Follow `next`.")
    return frozenset(wanted)


def with_tags(inventory: Inventory, rows: Sequence[Row], as_of: str | None = None) -> list[dict[str, Any]]:
    """Repositories with their first tags; the link ``truncated`` leads to the others."""
    found: dict[tuple[str, str], RowPage] = {}
    by_registry: dict[str, list[str]] = {}
    for row in rows:
        by_registry.setdefault(row.registry, []).append(row.repository)
    for registry, names in by_registry.items():
        found.update(_first_tags(inventory, registry, names, as_of))
    return [_with_tags(row, found[row.registry, row.repository], as_of) for row in rows]


def _first_tags(
    inventory: Inventory, registry: str, names: Sequence[str], as_of: str | None
) -> dict[tuple[str, str], RowPage]:
    """The first tags of each repository: of all together in one page, and one by one of those that it cuts off."""
    most = EMBEDDED_LIMIT * len(names)
    whole = inventory.page("tag", registries=[registry], repositories=names, limit=most, as_of=as_of)
    groups = {name: list(rows) for name, rows in groupby(whole.rows, key=lambda row: str(row.repository))}
    last = whole.rows[-1].repository if whole.next_cursor is not None else None
    pages: dict[tuple[str, str], RowPage] = {}
    for name in names:
        rows = groups.get(name, [])
        is_cut = last is not None and name >= last
        if is_cut or len(rows) > EMBEDDED_LIMIT:
            page = inventory.page("tag", registries=[registry], repositories=[name], limit=EMBEDDED_LIMIT, as_of=as_of)
        else:
            page = RowPage(tuple(rows), None, None)
        pages[registry, name] = page
    return pages


def _with_tags(row: Row, page: RowPage, as_of: str | None) -> dict[str, Any]:
    more = {}
    if page.next_cursor is not None:
        address = f"{repository_path(row.registry, row.repository)}/tags"
        more["truncated"] = _following(address, page.next_cursor, as_of)
    return repository_entry(row, {"tags": [tag_entry(one) for one in page.rows]}, **more)


def first_repositories(
    inventory: Inventory, registry: str, as_of: str | None, *, has_tags: bool
) -> tuple[list[Mapping[str, Any]], dict[str, str]]:
    """The first repositories of a registry, and the link ``truncated`` to the others if there are any."""
    page = inventory.page("repository", registries=[registry], limit=EMBEDDED_LIMIT, as_of=as_of)
    entries = with_tags(inventory, page.rows, as_of) if has_tags else list(map(repository_entry, page.rows))
    if page.next_cursor is None:
        return list(entries), {}
    address = with_query("/api/v1/repositories", [("registry", registry)])
    return list(entries), {"truncated": _following(address, page.next_cursor, as_of)}


def _following(address: str, cursor: str, as_of: str | None) -> str:
    more = [("cursor", cursor), *([("as_of", as_of)] if as_of is not None else [])]
    text = with_query("", more)
    return f"{address}&{text[1:]}" if "?" in address else f"{address}{text}"


def find_tag_name(registry: str, repository: str, tag: str) -> str:
    """The reference of a tag, of one that is gone too. Raises ``NotFound`` for what can be none."""
    what = f"tag {repository}:{tag} in {registry}"
    return f"{registry}/{_checked(parse_repository_name, repository, what)}:{_checked(parse_tag_name, tag, what)}"
