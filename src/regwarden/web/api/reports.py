"""Routes that report: what everything weighs and how that grew, what is wrong, what a tag pointed to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import Query
from starlette.requests import Request
from starlette.responses import Response

from regwarden.core.quantities import parse_moment_or_duration
from regwarden.errors import InputError, NotFound
from regwarden.library import Inventory
from regwarden.web.api.cursors import read_place
from regwarden.web.api.documents import Listed, document, linked, listing, own_path
from regwarden.web.api.inventory import AsOf, Reader
from regwarden.web.api.links import registry_path, repository_path, tag_path
from regwarden.web.api.lists import find_registry, find_tag_name
from regwarden.web.api.parameters import Cursor, Limit, RegistryName, RepositoryName, TagName
from regwarden.web.api.problems import WrongParameter
from regwarden.web.api.questions import Grouping, fields_named
from regwarden.web.api.routing import new_router

router = new_router("reports")
Registries = Annotated[tuple[str, ...], Query(max_length=200, description="Only this registry. Repeatable.")]


@router.get("/usage")
async def show_usage(
    caller: Reader,
    request: Request,
    groups: Grouping,
    registry: Registries = (),
    *,
    top: Annotated[int, Query(ge=1, le=1000, description="How many of the largest are named.")] = 20,
    as_of: AsOf = None,
) -> Response:
    """Say what everything weighs: totals of registries, the largest repositories and tags, the problems.

    Totals of a registry that you may not see all of are null. With `group_by` also `groups`, of the repositories that
    you may see: what several of a group share counts once in it, and `group` is null for those that belong to none.
    """

    def work(inventory: Inventory) -> Response:
        _require_known(inventory, registry)
        with fields_named():
            found = asdict(inventory.usage(*registry, top=top, as_of=as_of, group_by=groups.by, depth=groups.depth))
        for name in ("by_stored", "by_exclusive"):
            found[name] = [
                linked(row, {"self": repository_path(row["registry"], row["repository"])}) for row in found[name]
            ]
        found["registries"] = [linked(row, {"self": registry_path(row["registry"])}) for row in found["registries"]]
        found["largest_tags"] = [
            linked(row, {"self": tag_path(row["registry"], row["repository"], row["tag"])})
            for row in found["largest_tags"]
        ]
        return document(found, {"self": own_path(request)})

    return await caller.ask(work)


@router.get("/registries/{registry}/growth")
async def show_growth(
    caller: Reader,
    request: Request,
    registry: RegistryName,
    *,
    repository: Annotated[str | None, Query(max_length=300, description="Only of this repository.")] = None,
    since: Annotated[str | None, Query(max_length=60, description="From a date, or an age as 90d, on.")] = None,
    by: Annotated[Literal["day", "week", "month"], Query(description="A row for each.")] = "day",
) -> Response:
    """Say how the counts and sizes of a registry, or of a repository, developed, oldest first.

    Days on which nothing was computed have no row.
    """
    if since is not None:
        _check_moment("since", since)

    def work(inventory: Inventory) -> Response:
        find_registry(inventory, registry)
        if repository is not None and not caller.reach.has(registry, repository):
            raise NotFound(f"the inventory has no repository {repository[:160]}")
        rows = inventory.growth(registry, repository=repository, since=since, by=by)
        return listing(request, Listed(rows, links={"registry": registry_path(registry)}))

    return await caller.ask(work)


@router.get("/problems")
async def list_problems(
    caller: Reader,
    request: Request,
    *,
    registry: Annotated[str | None, Query(max_length=300, description="Only of this registry.")] = None,
    repository: Annotated[str | None, Query(max_length=300, description="Only of this repository.")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """List what could not be read, or is not as it should be."""
    start = read_place(cursor)

    def work(inventory: Inventory) -> Response:
        if registry is not None:
            find_registry(inventory, registry)
        found = inventory.problems(registry, repository)
        behind = start + limit
        entries = [_problem(asdict(one)) for one in found[start:behind]]
        return listing(request, Listed(entries, str(behind) if behind < len(found) else None, len(found)))

    return await caller.ask(work)


@router.get("/registries/{registry}/repositories/{repository}/tags/{tag}/history")
async def show_history(
    caller: Reader,
    request: Request,
    registry: RegistryName,
    repository: RepositoryName,
    tag: TagName,
    as_of: AsOf = None,
) -> Response:
    """Say what a tag pointed to since it was first observed, newest first; one that is gone has a history too."""

    def work(inventory: Inventory) -> Response:
        find_registry(inventory, registry)
        return _history(inventory, request, find_tag_name(registry, repository, tag), as_of)

    return await caller.ask(work)


@router.get("/history")
async def find_history(
    caller: Reader,
    request: Request,
    reference: Annotated[str, Query(max_length=1000, description="[REGISTRY/]REPOSITORY:TAG")],
    as_of: AsOf = None,
) -> Response:
    """Say what a tag, named as on the command line, pointed to since it was first observed."""
    return await caller.ask(lambda inventory: _history(inventory, request, reference, as_of))


def _history(inventory: Inventory, request: Request, reference: str, as_of: str | None) -> Response:
    if as_of is not None:
        _check_moment("as_of", as_of)
    try:
        rows = inventory.history(reference, as_of=as_of)
    except InputError as error:
        raise WrongParameter("reference", error.message, hint=error.hint, code=error.code) from error
    first = rows[0]
    here = tag_path(first.registry, first.repository, first.tag)
    return listing(request, Listed(rows, links={"tag": here}))


def _problem(fields: Mapping[str, Any]) -> dict[str, Any]:
    registry, repository, tag = fields["registry"], fields["repository"], fields["tag"]
    links = {"registry": registry_path(registry)}
    if repository:
        links["repository"] = repository_path(registry, repository)
    if repository and tag:
        links["tag"] = tag_path(registry, repository, tag)
    return linked(fields, links)


def _require_known(inventory: Inventory, names: Iterable[str]) -> None:
    for name in names:
        find_registry(inventory, name)


def _check_moment(name: str, text: str) -> None:
    try:
        parse_moment_or_duration(text.strip())
    except InputError as error:
        raise WrongParameter(name, error.message, hint=error.hint, code=error.code) from error
