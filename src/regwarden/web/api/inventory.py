"""Routes that show registries, repositories and tags."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import Depends, Query
from starlette.requests import Request
from starlette.responses import Response

from regwarden.core.access import Permission
from regwarden.library import Inventory
from regwarden.library_queries import past_moment
from regwarden.library_rows import Row
from regwarden.web.api.context import Caller, Permitted
from regwarden.web.api.documents import Listed, document, listing, own_path
from regwarden.web.api.links import registry_entry, repository_entry, tag_entry
from regwarden.web.api.lists import (
    answer_list,
    check_embed,
    find_registry,
    find_repository,
    find_tag,
    first_repositories,
    with_tags,
)
from regwarden.web.api.parameters import RegistryName, RepositoryName, TagName
from regwarden.web.api.questions import RegistryList, RepositoryList, TagConditions, TagList, fields_named
from regwarden.web.api.routing import new_router
from regwarden.web.api.work import naming

router = new_router("inventory")
Reader = Annotated[Caller, Depends(Permitted(Permission.INVENTORY_READ))]


async def _past(
    as_of: Annotated[str | None, Query(max_length=60, description="What there was at that moment: 2026-01-31.")] = None,
) -> str | None:
    if as_of is not None:
        with naming("as_of"):
            past_moment(as_of)
    return as_of


AsOf = Annotated[str | None, Depends(_past)]
Embed = Annotated[tuple[str, ...], Query(max_length=10, description="What else is wanted, level by level.")]


@router.get("/registries")
async def list_registries(caller: Reader, request: Request, asked: Annotated[RegistryList, Query()]) -> Response:
    """List the registries.

    Figures of a registry that you may not see all of are null.
    """
    wanted = check_embed(asked.embed, ("repositories",), asked.limit if asked.embed else 0)

    def entries(inventory: Inventory, rows: Sequence[Row]) -> list[dict[str, Any]]:
        if not wanted:
            return list(map(registry_entry, rows))
        embedded = [first_repositories(inventory, row.registry, asked.as_of, has_tags=False) for row in rows]
        return [
            registry_entry(row, {"repositories": found}, **more)
            for row, (found, more) in zip(rows, embedded, strict=True)
        ]

    return await answer_list(caller, request, "registry", asked, entries)


@router.get("/registries/{registry}")
async def show_registry(
    caller: Reader, request: Request, registry: RegistryName, embed: Embed = (), as_of: AsOf = None
) -> Response:
    """Show a registry, with how complete the inventory of it is.

    `embed=repositories` and `embed=tags` add its first repositories, and their first tags.
    """
    wanted = check_embed(embed, ("repositories", "tags"), 0)

    def work(inventory: Inventory) -> Response:
        with fields_named():
            row = find_registry(inventory, registry, as_of)
        covered = inventory.coverage(registry) if caller.reach.has_all_of(registry) and as_of is None else []
        embedded: dict[str, Any] | None = None
        more: dict[str, str] = {}
        if wanted:
            found, more = first_repositories(inventory, registry, as_of, has_tags="tags" in wanted)
            embedded = {"repositories": found}
        entry = registry_entry(row, embedded, **more)
        links = {name: link["href"] for name, link in entry.pop("_links").items()} | {"self": own_path(request)}
        embedded = entry.pop("_embedded", None)
        return document({**entry, "coverage": covered[0] if covered else None}, links, embedded)

    return await caller.ask(work)


@router.get("/repositories")
async def list_repositories(caller: Reader, request: Request, asked: Annotated[RepositoryList, Query()]) -> Response:
    """List repositories.

    `embed=tags` adds the first tags of each.
    """
    wanted = check_embed(asked.embed, ("tags",), asked.limit if asked.embed else 0)

    def entries(inventory: Inventory, rows: Sequence[Row]) -> list[dict[str, Any]]:
        return with_tags(inventory, rows, asked.as_of) if wanted else list(map(repository_entry, rows))

    return await answer_list(caller, request, "repository", asked, entries)


@router.get("/registries/{registry}/repositories/{repository}")
async def show_repository(
    caller: Reader, registry: RegistryName, repository: RepositoryName, embed: Embed = (), as_of: AsOf = None
) -> Response:
    """Show a repository.

    `embed=tags` adds its first tags.
    """
    wanted = check_embed(embed, ("tags",), 0)

    def work(inventory: Inventory) -> Response:
        with fields_named():
            row = find_repository(inventory, registry, repository, as_of)
        return _shown(with_tags(inventory, [row], as_of)[0] if wanted else repository_entry(row))

    return await caller.ask(work)


@router.get("/registries/{registry}/repositories/{repository}/tags")
async def list_tags_of_repository(
    caller: Reader,
    request: Request,
    registry: RegistryName,
    repository: RepositoryName,
    asked: Annotated[TagList, Query()],
) -> Response:
    """List the tags of a repository."""
    here = asked.model_copy(update={"registry": (registry,), "repository": (repository,), "select": ()})
    await caller.ask(lambda inventory: find_repository(inventory, registry, repository, asked.as_of))
    return await answer_list(caller, request, "tag", here, _tag_entries)


@router.get("/registries/{registry}/repositories/{repository}/tags/{tag}")
async def show_tag(
    caller: Reader, registry: RegistryName, repository: RepositoryName, tag: TagName, as_of: AsOf = None
) -> Response:
    """Show a tag: what it points to, since when, and what it weighs."""

    def work(inventory: Inventory) -> Response:
        with fields_named():
            return _shown(tag_entry(find_tag(inventory, (registry, repository), tag, as_of)))

    return await caller.ask(work)


@router.get("/tags")
async def list_tags(caller: Reader, request: Request, asked: Annotated[TagList, Query()]) -> Response:
    """List tags, with what they point to and what they weigh."""
    return await answer_list(caller, request, "tag", asked, _tag_entries)


@router.get("/tags/sizes")
async def measure_tags(caller: Reader, request: Request, asked: Annotated[TagConditions, Query()]) -> Response:
    """Say what some tags weigh together, and what deleting just them would free, for each registry."""
    arguments = asked.arguments("tag")

    def work(inventory: Inventory) -> Response:
        with fields_named():
            return listing(request, Listed(inventory.sizes(*asked.selectors, **arguments)))  # type: ignore[arg-type] # dataclasses are written as objects

    return await caller.ask(work)


def _tag_entries(_inventory: Inventory, rows: Sequence[Row]) -> list[dict[str, Any]]:
    return list(map(tag_entry, rows))


def _shown(entry: dict[str, Any]) -> Response:
    links = {name: link["href"] for name, link in entry.pop("_links").items()}
    return document(entry, links, entry.pop("_embedded", None))
