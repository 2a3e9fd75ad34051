"""Endpoints 9 and 10 (lists only), 14, and the two dead addresses of older clients."""

from __future__ import annotations

import hmac
from typing import Any

from aiohttp import web

from tests.gitlab_double.answers import forbidden, invalid, unauthorized
from tests.gitlab_double.credentials import RAILS, find_project, signed_in
from tests.gitlab_double.rails_repositories import PREFIX
from tests.gitlab_double.state import MAINTAINER, Project

ROUTES = web.RouteTableDef()
MOST_EVENT_BYTES = 16 * 2**20


def _maintained(request: web.Request) -> Project:
    caller = signed_in(request)
    project = find_project(request, caller)
    if request.app[RAILS].scenario.role(caller.user, project) < MAINTAINER:
        raise forbidden()
    return project


@ROUTES.get(PREFIX + "/projects/{id}/registry/protection/repository/rules", allow_head=False)
async def repository_rules(request: web.Request) -> web.StreamResponse:
    project = _maintained(request)
    found: list[dict[str, Any]] = [
        {
            "id": rule.id,
            "project_id": project.id,
            "repository_path_pattern": rule.pattern,
            "minimum_access_level_for_push": rule.push or None,
            "minimum_access_level_for_delete": rule.delete or None,
        }
        for rule in project.repository_rules
    ]
    return web.json_response(found)


@ROUTES.get(PREFIX + "/projects/{id}/registry/protection/tag/rules", allow_head=False)
async def tag_rules(request: web.Request) -> web.StreamResponse:
    """Without the immutable ones; not before 18.7."""
    if not request.app[RAILS].scenario.settings.is_at_least(18, 7):
        raise invalid("404 Not Found", status=404)
    project = _maintained(request)
    found: list[dict[str, Any]] = [
        {
            "id": rule.id,
            "project_id": project.id,
            "tag_name_pattern": rule.pattern,
            "minimum_access_level_for_push": rule.push or None,
            "minimum_access_level_for_delete": rule.delete or None,
        }
        for rule in project.tag_rules
        if not rule.is_immutable
    ]
    return web.json_response(found)


@ROUTES.post(PREFIX + "/container_registry_event/events")
async def events(request: web.Request) -> web.StreamResponse:
    """The registry's notifications; the secret is the whole header."""
    scenario = request.app[RAILS].scenario
    sent = request.headers.get("Authorization", "")
    if not hmac.compare_digest(sent.encode(), scenario.settings.event_secret.encode()):
        raise unauthorized()
    scenario.events.append(await request.read())
    return web.Response(status=200)


@ROUTES.get("/{namespace}/{project}/container_registry.json", allow_head=False)
@ROUTES.get("/{namespace}/{project}/registry/repository/{id}/tags", allow_head=False)
async def dead(request: web.Request) -> web.StreamResponse:
    return web.Response(status=404, text="<html><body>404</body></html>", content_type="text/html")
