"""Endpoints 11 and 12 and the lists of projects: what a project is, and its cleanup policy."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from aiohttp import web

from tests.gitlab_double.answers import forbidden, invalid, number, parameters, refuse, time_text, truth
from tests.gitlab_double.credentials import RAILS, Caller, find_group, find_project, identify, signed_in
from tests.gitlab_double.faults import IS_SCRIPTED
from tests.gitlab_double.grants import is_visible
from tests.gitlab_double.pages import keyset_by_id, offset_page, wants_keyset
from tests.gitlab_double.rails_groups import namespace_json
from tests.gitlab_double.rails_repositories import PREFIX
from tests.gitlab_double.rails_users import user_json
from tests.gitlab_double.scenario import Scenario
from tests.gitlab_double.state import MAINTAINER, OWNER, REPORTER, Project

ROUTES = web.RouteTableDef()
CADENCES = {"1d": 1, "7d": 7, "14d": 14, "1month": 30, "3month": 90}
KEEP_N = (1, 5, 10, 25, 50, 100, None)
OLDER_THAN = ("7d", "14d", "30d", "60d", "90d", None)
ATTRIBUTES = "container_expiration_policy_attributes"


def basic_json(scenario: Scenario, project: Project) -> dict[str, Any]:
    """What everybody is told of a project, also without a token."""
    address = f"{scenario.external_url}/{project.path}"
    return {
        "id": project.id,
        "description": None,
        "name": project.name,
        "name_with_namespace": project.path.replace("/", " / "),
        "path": project.name,
        "path_with_namespace": project.path,
        "created_at": time_text(project.created_at),
        "default_branch": "main",
        "topics": [],
        "http_url_to_repo": f"{address}.git",
        "web_url": address,
        "forks_count": 0,
        "avatar_url": None,
        "star_count": 0,
        "last_activity_at": time_text(project.created_at),
        "visibility": project.visibility,
        "namespace": namespace_json(scenario, project.namespace),
    }


def project_json(scenario: Scenario, caller: Caller, project: Project, *, has_statistics: bool) -> dict[str, Any]:
    """A project as the caller sees it."""
    found = basic_json(scenario, project)
    if caller.user is None:
        return found
    role = scenario.role(caller.user, project)
    found |= {
        "container_registry_image_prefix": f"{scenario.registry_host}/{project.path.lower()}",
        "_links": {"self": f"{scenario.external_url}{PREFIX}/projects/{project.id}"},
        "empty_repo": False,
        "archived": project.is_archived,
        "container_registry_enabled": project.registry_access != "disabled",
        "container_registry_access_level": project.registry_access,
        "creator_id": 1,
        "issues_access_level": "enabled",
        "repository_access_level": "enabled",
        "permissions": _permissions(scenario, caller, project),
    }
    owner = scenario.user(project.namespace) if scenario.group(project.namespace) is None else None
    if owner is not None:
        found["owner"] = user_json(scenario, owner)
    if project.policy is not None:  # to everybody who is signed in, as the vendor's entity has it
        found["container_expiration_policy"] = dict(project.policy)
    if has_statistics and role >= REPORTER:
        found["statistics"] = {
            "commit_count": 0,
            "storage_size": project.size or 0,
            "repository_size": 0,
            "container_registry_size": project.size or 0,
        }
    return found


def _permissions(scenario: Scenario, caller: Caller, project: Project) -> dict[str, Any]:
    """Roles as members, of the project and of its groups; administrators are members of nothing by that."""
    assert caller.user is not None
    name = caller.user.username
    own = project.members.get(name, 0)
    if project.namespace.lower() == name.lower() and scenario.group(project.namespace) is None:
        own = OWNER
    from_groups = scenario.members_of(project.namespace, {}).get(name, 0) if scenario.group(project.namespace) else 0
    return {
        "project_access": {"access_level": own, "notification_level": 3} if own else None,
        "group_access": {"access_level": from_groups, "notification_level": 3} if from_groups else None,
    }


def _chosen(request: web.Request, caller: Caller, projects: Iterable[Project]) -> list[Project]:
    """The visible ones of those, that the parameters of a list ask for."""
    scenario, query = request.app[RAILS].scenario, request.query
    found = [each for each in projects if is_visible(scenario, caller.user, each)]
    if "archived" in query:
        found = [each for each in found if each.is_archived == truth(query, "archived")]
    if "visibility" in query:
        found = [each for each in found if each.visibility == query["visibility"]]
    if "search" in query:
        found = [each for each in found if query["search"].lower() in each.path.lower()]
    least = number(query, "min_access_level", 0)
    if least or truth(query, "membership") or truth(query, "owned"):
        name = "" if caller.user is None else caller.user.username
        least = max(least, OWNER if truth(query, "owned") else 1)
        found = [each for each in found if scenario.members_of(each.path, each.members).get(name, 0) >= least]
    return found


def _listed(request: web.Request, caller: Caller, projects: Iterable[Project]) -> web.Response:
    """A page of projects, by offset or by keyset."""
    scenario = request.app[RAILS].scenario
    found = _chosen(request, caller, projects)
    has_statistics, is_simple = truth(request.query, "statistics"), truth(request.query, "simple")

    def show(project: Project) -> dict[str, Any]:
        if is_simple:
            return basic_json(scenario, project)
        return project_json(scenario, caller, project, has_statistics=has_statistics)

    order = request.query.get("order_by", "created_at")
    if wants_keyset(request):
        if order != "id":
            raise invalid("Keyset pagination is not yet available for this type of request", status=405)
        return keyset_by_id(request, found, show, number_of=lambda each: each.id)
    is_falling = request.query.get("sort", "desc") == "desc"
    if order in {"name", "path"}:
        found.sort(key=lambda each: each.name.lower(), reverse=is_falling)
    else:
        found.sort(key=lambda each: each.id, reverse=is_falling)
    return offset_page(request, found, show)


@ROUTES.get(PREFIX + "/projects", allow_head=False)
async def every(request: web.Request) -> web.StreamResponse:
    return _listed(request, identify(request), request.app[RAILS].scenario.projects)


@ROUTES.get(PREFIX + "/users/{id}/projects", allow_head=False)
async def of_user(request: web.Request) -> web.StreamResponse:
    scenario = request.app[RAILS].scenario
    caller = identify(request)
    user = scenario.user(request.match_info["id"])
    if user is None:
        raise refuse(404, "User Not Found")
    return _listed(request, caller, [each for each in scenario.projects if each.namespace == user.username])


@ROUTES.get(PREFIX + "/groups/{id}/projects", allow_head=False)
async def of_group(request: web.Request) -> web.StreamResponse:
    scenario = request.app[RAILS].scenario
    caller = identify(request)
    group = find_group(request, caller)
    found = scenario.projects_in(group)
    if not truth(request.query, "include_subgroups"):
        found = [each for each in found if each.namespace.lower() == group.path.lower()]
    return _listed(request, caller, found)


@ROUTES.get(PREFIX + "/projects/{id}", allow_head=False)
async def one(request: web.Request) -> web.StreamResponse:
    caller = identify(request)
    project = find_project(request, caller)
    has_statistics = truth(request.query, "statistics")
    scenario = request.app[RAILS].scenario
    return web.json_response(project_json(scenario, caller, project, has_statistics=has_statistics))


@ROUTES.put(PREFIX + "/projects/{id}")
async def change_policy(request: web.Request) -> web.StreamResponse:
    """Of everything a project has, its cleanup policy only."""
    scenario = request.app[RAILS].scenario
    caller = signed_in(request)
    project = find_project(request, caller)
    if scenario.role(caller.user, project) < MAINTAINER:
        raise forbidden()
    values = await parameters(request)
    sent = values.get(ATTRIBUTES)
    if set(values) != {ATTRIBUTES} or not isinstance(sent, dict):
        request[IS_SCRIPTED] = False
        return web.Response(status=501, text="The double changes cleanup policies only, sent as JSON.")
    allowed = {"cadence": (*CADENCES,), "keep_n": KEEP_N, "older_than": OLDER_THAN}
    for name, value in sent.items():
        if name in allowed and value not in allowed[name]:
            raise invalid(f"{ATTRIBUTES}[{name}] does not have a valid value")
    before = project.policy or {"cadence": "1d", "enabled": False, "keep_n": 10, "older_than": "90d"}
    policy = {"name_regex": ".*", "name_regex_keep": None} | before | sent
    interval = timedelta(days=CADENCES[str(policy["cadence"])])
    project.policy = policy | {"next_run_at": time_text(scenario.now() + interval)}
    return web.json_response(project_json(scenario, caller, project, has_statistics=False))
