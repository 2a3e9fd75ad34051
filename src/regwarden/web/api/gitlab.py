"""Routes about GitLab: its projects, its sizes beside ours, its own cleanup policies and what they would remove."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import Depends, Query
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from regwarden.core.access import Permission
from regwarden.core.gitlab_cleanup import Fate
from regwarden.library import Inventory
from regwarden.library_queries import read_moment
from regwarden.library_rows import Row
from regwarden.web.api.context import Caller, Permitted
from regwarden.web.api.cursors import read_place
from regwarden.web.api.documents import Listed, linked, listing, path_to, with_query
from regwarden.web.api.links import registry_path, repository_path, tag_path
from regwarden.web.api.lists import find_registry
from regwarden.web.api.parameters import MAX_LIMIT, USUAL_LIMIT, Cursor, Limit
from regwarden.web.api.problems import WrongParameter
from regwarden.web.api.routing import new_router
from regwarden.web.api.work import Line, QueryWords, naming

router = new_router("gitlab")
Reader = Annotated[Caller, Depends(Permitted(Permission.INVENTORY_READ))]
RegistryWord = Annotated[
    str | None, Query(max_length=300, description="Only this registry; all of kind gitlab without.")
]


@router.get("/gitlab/projects")
async def list_projects(
    caller: Reader, request: Request, registry: RegistryWord = None, limit: Limit = 100, cursor: Cursor = None
) -> Response:
    """List the projects of a GitLab: whose they are, what we may do there, which rules and cleanup they have.

    Those in which you may see a repository; `gitlab_bytes` is null unless you may see the whole registry.
    """

    def work(inventory: Inventory) -> Response:
        _check_registry(inventory, registry)
        rows = inventory.projects(registry)
        return _page(request, rows, limit, cursor)

    return await caller.ask(work)


@router.get("/gitlab/sizes")
async def list_sizes(
    caller: Reader,
    request: Request,
    *,
    registry: RegistryWord = None,
    by: Annotated[
        Literal["repository", "project", "namespace"], Query(description="Of what there is an entry each.")
    ] = "repository",
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """Compare GitLab's sizes with ours, with the reasons why they differ.

    Projects and namespaces only of registries that you may see all of.
    """

    def work(inventory: Inventory) -> Response:
        _check_registry(inventory, registry)
        rows = inventory.gitlab_sizes(registry, by=by)
        return _page(request, rows, limit, cursor, is_repository=by == "repository")

    return await caller.ask(work)


@router.get("/gitlab/cleanup")
async def list_cleanup_policies(
    caller: Reader,
    request: Request,
    *,
    registry: RegistryWord = None,
    project: Annotated[str | None, Query(max_length=1000, description="Only of this project.")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """GitLab's own cleanup policy of each project: what it does, whether it is on, when it runs next.

    `warnings` say where an open plan removes something too. `POST /policies/import` translates a policy.
    """

    def work(inventory: Inventory) -> Response:
        _check_registry(inventory, registry)
        rows = inventory.cleanup_policies(registry, project=project)
        return _page(request, rows, limit, cursor)

    return await caller.ask(work)


class SimulationWords(QueryWords):
    """Which project's policy is tried out, and when."""

    project: Line = Field(description="Path of a project: team/app.")
    registry: Line | None = Field(default=None, description="The registry, where several have such a project.")
    as_of: Line | None = Field(default=None, description="As if it ran then, over today's tags; may lie ahead.")
    limit: int = Field(default=USUAL_LIMIT, ge=1, le=MAX_LIMIT, description="How many tags a page has, at most.")
    cursor: str | None = Field(default=None, max_length=8000, description="Where the page before ended.")


@router.get("/gitlab/cleanup/simulation")
async def simulate_cleanup(caller: Reader, request: Request, asked: Annotated[SimulationWords, Query()]) -> Response:
    """Say what one run of GitLab's own policy of a project would remove, tag by tag; GitLab is not asked."""
    with naming("as_of"):
        moment = None if asked.as_of is None else read_moment(asked.as_of)

    def work(inventory: Inventory) -> Response:
        _check_registry(inventory, asked.registry)
        found = inventory.simulate_cleanup(asked.project, registry=asked.registry, as_of=moment)
        start = read_place(asked.cursor)
        behind = start + asked.limit
        entries = [
            linked(row, {"tag": tag_path(found.registry, row.repository, row.tag)}) for row in found.tags[start:behind]
        ]
        names = ("registry", "project", "policy", "is_enabled", "next_run_at", "as_of", "notes")
        more: dict[str, Any] = {name: getattr(found, name) for name in names}
        more["counts"] = {str(fate): found.count(fate) for fate in Fate}
        next_cursor = str(behind) if behind < len(found.tags) else None
        links = {"registry": registry_path(found.registry)}
        return listing(request, Listed(entries, next_cursor, len(found.tags), more, links))

    return await caller.ask(work)


def _check_registry(inventory: Inventory, registry: str | None) -> None:
    """Raises ``NotFound`` for one that is not known, ``WrongParameter`` for one of another kind."""
    if registry is not None and find_registry(inventory, registry).kind != "gitlab":
        raise WrongParameter("registry", f"{registry[:160]!r} is of another kind", hint="Name one of kind gitlab.")


def _page(
    request: Request, rows: Sequence[Row], limit: int, cursor: str | None, *, is_repository: bool = False
) -> Response:
    start = read_place(cursor)
    behind = start + limit
    entries = []
    for row in rows[start:behind]:
        links = {"registry": registry_path(row.registry)}
        if is_repository:
            links["repository"] = repository_path(row.registry, row.name)
        elif "project" in row:
            asked = [("registry", row.registry), ("project", row.project)]
            links["cleanup"] = with_query(path_to("gitlab", "cleanup"), asked)
        entries.append(linked(row, links))
    return listing(request, Listed(entries, str(behind) if behind < len(rows) else None, len(rows)))
