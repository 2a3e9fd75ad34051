"""What does GraphQL answer? One operation, matched by its name and answered from the state."""

from __future__ import annotations

import re
from typing import Any

from aiohttp import web

from tests.gitlab_double.answers import parameters
from tests.gitlab_double.credentials import RAILS, READ_SCOPES, Caller, identify
from tests.gitlab_double.faults import IS_SCRIPTED
from tests.gitlab_double.grants import is_visible
from tests.gitlab_double.scenario import Scenario
from tests.gitlab_double.state import MAINTAINER, Project

ROUTES = web.RouteTableDef()
PROJECT_RULES = "RegwardenProjectRules"
FIELDS = {  # field of the query, and since when GitLab has it
    "containerProtectionTagRules": (17, 9),
    "immutable": (18, 2),
    "containerProtectionRepositoryRules": (16, 10),
}


def _role(name: str) -> str | None:
    return name.upper() or None


def _rules(scenario: Scenario, caller: Caller, project: Project) -> dict[str, Any]:
    """The rules of a project, of which only maintainers see any."""
    is_allowed = scenario.role(caller.user, project) >= MAINTAINER
    tag_rules = [
        {
            "tagNamePattern": rule.pattern,
            "minimumAccessLevelForPush": _role(rule.push),
            "minimumAccessLevelForDelete": _role(rule.delete),
            "immutable": rule.is_immutable,
        }
        for rule in project.tag_rules
    ]
    repository_rules = [
        {
            "repositoryPathPattern": rule.pattern,
            "minimumAccessLevelForPush": _role(rule.push),
            "minimumAccessLevelForDelete": _role(rule.delete),
        }
        for rule in project.repository_rules
    ]
    return {
        "containerProtectionTagRules": {"nodes": tag_rules if is_allowed else []},
        "containerProtectionRepositoryRules": {"nodes": repository_rules if is_allowed else []},
    }


def _chosen(query: str, found: dict[str, Any]) -> dict[str, Any]:
    """Of fields and of those of their nodes the ones that the query names; rules are so few that all fit one page."""
    words = set(re.findall(r"\w+", query))
    ended = {"pageInfo": {"hasNextPage": False}} if "hasNextPage" in words else {}
    return {
        field: {"nodes": [{key: value for key, value in node.items() if key in words} for node in rules["nodes"]]}
        | ended
        for field, rules in found.items()
        if field in words
    }


@ROUTES.post("/api/graphql")
async def graphql(request: web.Request) -> web.StreamResponse:
    scenario = request.app[RAILS].scenario
    caller = identify(request, scopes=READ_SCOPES)
    sent = await parameters(request)
    query, variables = str(sent.get("query", "")), sent.get("variables") or {}
    named = re.search(r"\bquery\s+(\w+)", query)
    name = sent.get("operationName") or (named[1] if named else "")
    if name != PROJECT_RULES or named is None or named[1] != name:
        request[IS_SCRIPTED] = False
        return web.Response(status=501, text=f"The double has no operation {name!r}.")
    variable = re.search(r"\bproject\(\s*fullPath:\s*\$(\w+)", query)
    path = variables.get(variable[1]) if isinstance(variables, dict) and variable else None
    if not isinstance(path, str):
        return web.json_response({"errors": [{"message": "Variable of type ID! was provided invalid value"}]})
    for field, since in FIELDS.items():
        if re.search(rf"\b{field}\b", query) and not scenario.settings.is_at_least(*since):
            message = f"Field '{field}' doesn't exist on type 'Project'"
            return web.json_response({"errors": [{"message": message, "path": [f"query {name}", "project", field]}]})
    project = scenario.project(path)
    if project is None or path.isdecimal() or not is_visible(scenario, caller.user, project):
        return web.json_response({"data": {"project": None}})
    return web.json_response({"data": {"project": _chosen(query, _rules(scenario, caller, project))}})
