"""Groups: all of them, one, those below it; endpoint 13 with the figures of the top-level ones; members."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from tests.gitlab_double.answers import invalid, number, time_text, truth
from tests.gitlab_double.credentials import (
    RAILS,
    Caller,
    find_group,
    find_project,
    has_role_below,
    identify,
    is_administrator,
    is_group_visible,
    signed_in,
)
from tests.gitlab_double.pages import keyset_by_name, offset_page, wants_keyset
from tests.gitlab_double.rails_repositories import PREFIX
from tests.gitlab_double.rails_users import user_json
from tests.gitlab_double.scenario import Scenario
from tests.gitlab_double.state import Group

ROUTES = web.RouteTableDef()
PERSONAL_NAMESPACES = 1000  # added to the number of a user


def namespace_json(scenario: Scenario, path: str) -> dict[str, Any]:
    """The namespace of a project: a group, or that of a user."""
    group, last = scenario.group(path), path.rpartition("/")[2]
    if group is not None:
        parent = scenario.group(path.rpartition("/")[0])
        return {
            "id": group.id,
            "name": last,
            "path": last,
            "kind": "group",
            "full_path": group.path,
            "parent_id": None if parent is None else parent.id,
            "avatar_url": None,
            "web_url": f"{scenario.external_url}/groups/{group.path}",
        }
    user = scenario.user(path)
    return {
        "id": PERSONAL_NAMESPACES + (0 if user is None else user.id),
        "name": path,
        "path": path,
        "kind": "user",
        "full_path": path,
        "parent_id": None,
        "avatar_url": None,
        "web_url": f"{scenario.external_url}/{path}",
    }


def group_json(scenario: Scenario, group: Group) -> dict[str, Any]:
    """A group as lists show it."""
    name = group.path.rpartition("/")[2]
    parent = scenario.group(group.path.rpartition("/")[0])
    return {
        "id": group.id,
        "web_url": f"{scenario.external_url}/groups/{group.path}",
        "name": name,
        "path": name,
        "description": "",
        "visibility": group.visibility,
        "share_with_group_lock": False,
        "project_creation_level": "developer",
        "avatar_url": None,
        "full_name": group.path.replace("/", " / "),
        "full_path": group.path,
        "created_at": time_text(group.created_at),
        "parent_id": None if parent is None else parent.id,
    }


def _with_statistics(scenario: Scenario, group: Group) -> dict[str, Any]:
    found = group_json(scenario, group)
    found["statistics"] = {"storage_size": group.size or 0, "repository_size": 0}
    if "/" not in group.path:
        found["root_storage_statistics"] = {
            "build_artifacts_size": 0,
            "container_registry_size": group.size or 0,
            "container_registry_size_is_estimated": group.is_estimated,
            "dependency_proxy_size": 0,
            "storage_size": group.size or 0,
        }
    return found


def _listed(request: web.Request, caller: Caller, groups: list[Group], *, shows_all: bool) -> web.Response:
    """A page of the visible ones that the parameters ask for; ``shows_all``: also public ones of strangers."""
    scenario, query = request.app[RAILS].scenario, request.query
    found = [each for each in groups if is_group_visible(request, caller, each)]
    if truth(query, "top_level_only"):
        found = [each for each in found if "/" not in each.path]
    if "search" in query:
        found = [each for each in found if query["search"].lower() in each.path.lower()]
    if not truth(query, "all_available", default=shows_all):
        found = [each for each in found if has_role_below(request, caller, each)]
    if least := number(query, "min_access_level", 0):
        found = [each for each in found if scenario.role(caller.user, each) >= least]
    has_figures = truth(query, "statistics") and is_administrator(request, caller)

    def show(group: Group) -> dict[str, Any]:
        return _with_statistics(scenario, group) if has_figures else group_json(scenario, group)

    order = query.get("order_by", "name")
    if wants_keyset(request):
        if order != "name" or query.get("sort", "asc") != "asc":
            raise invalid("Keyset pagination is not yet available for this type of request", status=405)
        return keyset_by_name(request, found, show, name_of=lambda each: each.path)
    is_falling = query.get("sort", "asc") == "desc"
    found.sort(key=lambda each: f"{each.id:09}" if order == "id" else each.path.lower(), reverse=is_falling)
    return offset_page(request, found, show)


@ROUTES.get(PREFIX + "/groups", allow_head=False)
async def every(request: web.Request) -> web.StreamResponse:
    caller = identify(request)
    shows_all = caller.user is None or is_administrator(request, caller)
    return _listed(request, caller, request.app[RAILS].scenario.groups, shows_all=shows_all)


@ROUTES.get(PREFIX + "/groups/{id}", allow_head=False)
async def one(request: web.Request) -> web.StreamResponse:
    return web.json_response(group_json(request.app[RAILS].scenario, find_group(request, identify(request))))


@ROUTES.get(PREFIX + "/groups/{id}/subgroups", allow_head=False)
async def below(request: web.Request) -> web.StreamResponse:
    caller = identify(request)
    group = find_group(request, caller)
    depth = group.path.count("/") + 1
    groups = request.app[RAILS].scenario.groups_in(group)
    return _listed(request, caller, [each for each in groups if each.path.count("/") == depth], shows_all=True)


@ROUTES.get(PREFIX + "/groups/{id}/members/all", allow_head=False)
async def members_of_group(request: web.Request) -> web.StreamResponse:
    group = find_group(request, signed_in(request))
    return _members(request, group.path, group.members)


@ROUTES.get(PREFIX + "/projects/{id}/members/all", allow_head=False)
async def members_of_project(request: web.Request) -> web.StreamResponse:
    project = find_project(request, signed_in(request))
    return _members(request, project.path, project.members)


def _members(request: web.Request, path: str, own: dict[str, int]) -> web.Response:
    """A page of everybody with a role there, inherited or not."""
    scenario = request.app[RAILS].scenario
    roles = scenario.members_of(path, own)
    rows = [(user, roles[user.username]) for user in scenario.users if user.username in roles]
    return offset_page(
        request,
        rows,
        lambda row: user_json(scenario, row[0]) | {"access_level": row[1], "expires_at": None},
    )
