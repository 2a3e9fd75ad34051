"""Endpoints 5-8: tags of a repository, one with its facts, the removal of one, and of many by expressions."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import re2
from aiohttp import web

from tests.gitlab_double.answers import (
    Refused,
    accepted,
    forbidden,
    invalid,
    number,
    offset_time_text,
    parameters,
    refuse,
)
from tests.gitlab_double.credentials import RAILS, identify
from tests.gitlab_double.pages import keyset_of_tags, offset_page, wants_keyset
from tests.gitlab_double.rails_repositories import PREFIX, find_repository, readable_project, tag_json
from tests.gitlab_double.scenario import Scenario
from tests.gitlab_double.state import DEVELOPER, MAINTAINER, ROLE_NUMBERS, BulkJob, Project, TagFacts, User

ROUTES = web.RouteTableDef()
PLACE = PREFIX + "/projects/{id}/registry/repositories/{repository_id}/tags"
LEASE = timedelta(hours=1)
LEASED = "This request has already been made. You can run this at most once an hour for a given container repository"
LOOKED_AT = 100  # hits of the substring in which one tag is looked for
DURATIONS = {"s": 1, "second": 1, "m": 60, "min": 60, "minute": 60, "h": 3600, "hour": 3600, "d": 86_400, "day": 86_400}
DURATIONS |= {"w": 604_800, "week": 604_800, "month": 2_592_000, "y": 31_536_000, "year": 31_536_000}


def tag_details(scenario: Scenario, path: str, tag: str, *, facts: TagFacts, has_database: bool) -> dict[str, Any]:
    """A tag with its facts; its date and its size mean another thing with the database than without."""
    revision = facts.config_digest.removeprefix("sha256:")
    legacy_size = None if facts.is_index else sum(facts.layer_sizes)
    database_size = 0 if facts.is_index else facts.total_size
    return tag_json(scenario, path, tag) | {
        "revision": revision,
        "short_revision": revision[:9],
        "digest": facts.digest,
        "created_at": offset_time_text(facts.created_at if has_database else facts.built_at),
        "total_size": database_size if has_database else legacy_size,
    }


def is_tag_protected(scenario: Scenario, user: User | None, project: Project, tag: str) -> bool:
    """Whether a rule keeps the user from removing the tag; immutable ones keep everybody from it."""
    role = scenario.role(user, project)
    rules = [rule for rule in project.tag_rules if re2.search(rule.pattern, tag)]
    return any(rule.is_immutable or role < ROLE_NUMBERS[rule.delete] for rule in rules)


@ROUTES.get(PLACE, allow_head=False)
async def list_tags(request: web.Request) -> web.StreamResponse:
    rails = request.app[RAILS]
    caller = identify(request, allows_job=True)
    repository = find_repository(request, readable_project(request, caller))

    def show(name: str) -> dict[str, Any]:
        return tag_json(rails.scenario, repository.path, name)

    if wants_keyset(request):
        if not rails.view.has_database or not rails.scenario.settings.is_at_least(17, 5):
            raise refuse(405, "Method Not Allowed")
        return keyset_of_tags(request, list(rails.view.tags(repository.path)), show)
    return offset_page(request, sorted(rails.view.tags(repository.path)), show)


@ROUTES.get(PLACE + "/{tag_name}", allow_head=False)
async def one(request: web.Request) -> web.StreamResponse:
    rails = request.app[RAILS]
    repository = find_repository(request, readable_project(request, identify(request, allows_job=True)))
    tags, tag = rails.view.tags(repository.path), request.match_info["tag_name"]
    facts = tags.get(tag)
    if rails.view.has_database and rails.scenario.settings.finds_by_substring:
        hits = sorted(name for name in tags if tag in name)
        facts = facts if tag in hits[:LOOKED_AT] else None
    if facts is None:
        raise refuse(404, "Tag Not Found")
    has_database = rails.view.has_database
    return web.json_response(tag_details(rails.scenario, repository.path, tag, facts=facts, has_database=has_database))


@ROUTES.delete(PLACE + "/{tag_name}")
async def remove(request: web.Request) -> web.StreamResponse:
    rails = request.app[RAILS]
    caller = identify(request, allows_job=True)
    project = readable_project(request, caller)
    if rails.scenario.role(caller.user, project) < DEVELOPER:
        raise forbidden()
    repository, tag = find_repository(request, project), request.match_info["tag_name"]
    if is_tag_protected(rails.scenario, caller.user, project, tag) and tag in rails.view.tags(repository.path):
        raise forbidden("cannot delete protected tag(s)")
    is_gone = rails.view.delete_tag(repository.path, tag)
    if not is_gone and rails.view.has_database:
        raise forbidden()  # there is nothing that the user could be allowed to remove
    return accepted(200)


@ROUTES.delete(PLACE)
async def remove_many(request: web.Request) -> web.StreamResponse:
    scenario = request.app[RAILS].scenario
    caller = identify(request, allows_job=True)
    values = await parameters(request)
    project = readable_project(request, caller)
    if scenario.role(caller.user, project) < MAINTAINER:
        raise forbidden()
    repository = find_repository(request, project)
    job = _bulk_job(repository.id, values)
    now = scenario.now()
    if scenario.leases.get(repository.id, now) > now:
        raise Refused(web.json_response({"message": LEASED}, status=400))
    scenario.leases[repository.id] = now + LEASE
    scenario.jobs.append(job)
    return accepted(202)


def _bulk_job(repository_id: int, values: dict[str, Any]) -> BulkJob:
    """What is to be removed; raises ``Refused``."""
    delete = values.get("name_regex_delete") or values.get("name_regex")
    if not delete:
        raise invalid("name_regex_delete, name_regex are missing, at least one parameter must be provided")
    for name in ("name_regex_delete", "name_regex", "name_regex_keep"):
        if values.get(name) and not _is_expression(str(values[name])):
            raise invalid(f"{name} is an invalid regexp")
    keep_n = number(values, "keep_n", -1)
    text = values.get("older_than")
    return BulkJob(
        repository_id,
        str(delete),
        keep=values.get("name_regex_keep"),
        keep_n=keep_n if keep_n >= 0 else None,
        older_than=parse_duration(str(text)) if text else None,
    )


def _is_expression(text: str) -> bool:
    options = re2.Options()
    options.log_errors = False
    try:
        re2.compile(text, options)
    except re2.error:
        return False
    return True


def parse_duration(text: str) -> timedelta:
    """``1h``, ``30d``, ``1month``; raises ``Refused``."""
    match = re.fullmatch(r"\s*(\d+)\s*([a-z]+?)s?\s*", text)
    unit = DURATIONS.get(match[2]) if match else None
    if match is None or unit is None:
        raise invalid("older_than is invalid")
    return timedelta(seconds=int(match[1]) * unit)
