"""Endpoints 1-4: repositories of a project, of a group, one by its number, and the removal of one as a whole."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from tests.gitlab_double.answers import accepted, forbidden, invalid, refuse, time_text, truth
from tests.gitlab_double.credentials import RAILS, Caller, find_group, find_project, identify, signed_in
from tests.gitlab_double.grants import is_delete_protected, is_visible, may_read
from tests.gitlab_double.pages import offset_page
from tests.gitlab_double.scenario import Scenario
from tests.gitlab_double.state import MAINTAINER, REPORTER, Project, Repository

ROUTES = web.RouteTableDef()
PREFIX = "/api/v4"
MOST_TAGS_COUNTED = 10_000


def repository_json(scenario: Scenario, repository: Repository) -> dict[str, Any]:
    """The keys that are always there."""
    project = scenario.project(str(repository.project_id))
    assert project is not None
    return {
        "id": repository.id,
        "name": repository.path.removeprefix(project.path.lower()).removeprefix("/"),
        "path": repository.path,
        "project_id": repository.project_id,
        "location": f"{scenario.registry_host}/{repository.path}",
        "created_at": time_text(repository.created_at),
        "cleanup_policy_started_at": time_text(repository.cleanup_started_at),
        "status": repository.status or None,
    }


def tag_json(scenario: Scenario, path: str, tag: str) -> dict[str, Any]:
    """A tag in a list: three keys, neither digest nor size nor date."""
    return {"name": tag, "path": f"{path}:{tag}", "location": f"{scenario.registry_host}/{path}:{tag}"}


def _shown(request: web.Request, repository: Repository) -> dict[str, Any]:
    """With what was asked for by ``tags`` and ``tags_count``."""
    rails = request.app[RAILS]
    found = repository_json(rails.scenario, repository)
    wants_tags, wants_count = truth(request.query, "tags"), truth(request.query, "tags_count")
    if wants_tags or wants_count:
        names = sorted(rails.view.tags(repository.path))
        if wants_count:
            found["tags_count"] = min(len(names), MOST_TAGS_COUNTED)
        if wants_tags:
            found["tags"] = [tag_json(rails.scenario, repository.path, name) for name in names]
    return found


def readable_project(request: web.Request, caller: Caller) -> Project:
    """The project, whose registry the caller may read; raises ``Refused``."""
    project = find_project(request, caller)
    if not may_read(request.app[RAILS].scenario, caller.user, project):
        raise forbidden()
    return project


def find_repository(request: web.Request, project: Project) -> Repository:
    """The repository of the path's ``repository_id`` in the project; raises ``Refused``."""
    text = request.match_info["repository_id"]
    if not text.isdecimal():
        raise invalid("repository_id is invalid")
    found = request.app[RAILS].scenario.repository(int(text))
    if found is None or found.project_id != project.id:
        raise refuse(404, "Not found")
    return found


@ROUTES.get(PREFIX + "/projects/{id}/registry/repositories", allow_head=False)
async def list_of_project(request: web.Request) -> web.StreamResponse:
    project = readable_project(request, identify(request, allows_job=True))
    rows = request.app[RAILS].scenario.repositories_of(project)
    return offset_page(request, rows, lambda row: _shown(request, row))


@ROUTES.get(PREFIX + "/groups/{id}/registry/repositories", allow_head=False)
async def list_of_group(request: web.Request) -> web.StreamResponse:
    scenario = request.app[RAILS].scenario
    caller = identify(request)
    group = find_group(request, caller)
    if scenario.role(caller.user, group) < REPORTER:
        raise forbidden()
    projects = {each.id for each in scenario.projects_in(group) if each.registry_access != "disabled"}
    rows = [each for each in scenario.repositories if each.project_id in projects]
    return offset_page(request, rows, lambda row: repository_json(scenario, row))


@ROUTES.get(PREFIX + "/registry/repositories/{repository_id}", allow_head=False)
async def one(request: web.Request) -> web.StreamResponse:
    rails = request.app[RAILS]
    caller = signed_in(request)
    text = request.match_info["repository_id"]
    repository = rails.scenario.repository(int(text)) if text.isdecimal() else None
    project = None if repository is None else rails.scenario.project(str(repository.project_id))
    if repository is None or project is None or not is_visible(rails.scenario, caller.user, project):
        raise refuse(404, "Not found")
    if not may_read(rails.scenario, caller.user, project):
        raise forbidden()
    found = _shown(request, repository)
    if rails.scenario.role(caller.user, project) >= MAINTAINER:
        place = f"{PREFIX}/projects/{project.id}/registry/repositories/{repository.id}"
        found["delete_api_path"] = rails.scenario.external_url + place
    if truth(request.query, "size"):
        found["size"] = rails.view.size(repository.path)
    return web.json_response(found)


@ROUTES.delete(PREFIX + "/projects/{id}/registry/repositories/{repository_id}")
async def remove(request: web.Request) -> web.StreamResponse:
    scenario = request.app[RAILS].scenario
    caller = identify(request, allows_job=True)
    project = readable_project(request, caller)
    if scenario.role(caller.user, project) < MAINTAINER:
        raise forbidden()
    repository = find_repository(request, project)
    if is_delete_protected(scenario, caller.user, project, repository.path):
        raise forbidden("Deleting protected container repository forbidden.")
    repository.status = "delete_scheduled"
    return accepted(202)
