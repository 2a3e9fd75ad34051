"""Everything the command line can ask or do is to be had over HTTP, or the manual says why not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from fastapi.routing import APIRoute

from regwarden.cli.main import cli
from regwarden.web.api.application import build_routes
from regwarden.web.api.routing import known_parameters

PAGE = (Path(__file__).parents[3] / "docs" / "how-to" / "use-the-api.md").read_text()

# What each command is over HTTP; one that is another way to put the same question names that question.
OVER_HTTP = {
    "crawl": "POST /crawls",
    "usage": "GET /usage, GET /registries/{registry}/growth",
    "repository list": "GET /repositories",
    "repository show": "GET /registries/{registry}/repositories/{repository}, GET /problems",
    "tag list": "GET /tags, GET /tags/sizes, GET /registries/{registry}/repositories/{repository}/tags",
    "tag show": "GET /registries/{registry}/repositories/{repository}/tags/{tag}",
    "tag history": "GET /history, GET /registries/{registry}/repositories/{repository}/tags/{tag}/history",
    "manifest list": "GET /manifests",
    "manifest show": "GET /manifests/{digest}",
    "blob list": "GET /blobs",
    "pull list": "GET /pulls",
    "event list": "GET /events",
    "event tail": "GET /events/stream",
    "event quarantine list": "GET /events/quarantine",
    "event quarantine show": "GET /events/quarantine/{delivery_id}, GET /events/quarantine/{delivery_id}/body",
    "event quarantine replay": "POST /events/replay",
    "registry list": "GET /registries, GET /registries/{registry}, GET /crawls, GET /crawls/{crawl_id}",
    "registry check": "POST /registries/{registry}/check, GET /registries/{registry}/notifications",
    "export": "GET /exports/{noun}",
    "gitlab projects": "GET /gitlab/projects",
    "gitlab sizes": "GET /gitlab/sizes",
    "gitlab cleanup show": "GET /gitlab/cleanup",
    "gitlab cleanup simulate": "GET /gitlab/cleanup/simulation",
    "gitlab cleanup import": "POST /policies/import",
    "policy check": "POST /policies/check",
    "policy show": "POST /policies/describe",
    "policy example": "GET /policies/example",
    "policy schema": "GET /policies/schema",
    "policy import": "POST /policies/import",
    "policy explain": "POST /policies/explain",
    "policy backtest": "POST /policies/backtest",
    "plan create": "POST /plans",
    "plan list": "GET /plans",
    "plan show": "GET /plans/{plan_id}, GET /plans/{plan_id}/steps, GET /plans/{plan_id}/verdicts, "
    "GET /plans/{plan_id}/guards, GET /plans/{plan_id}/review",
    "plan approve": "POST /plans/{plan_id}/approve",
    "plan reject": "POST /plans/{plan_id}/reject",
    "plan apply": "POST /plans/{plan_id}/apply",
    "plan undo": "POST /plans/{plan_id}/undo",
    "plan finish": "POST /plans/{plan_id}/finish",
    "protection add": "POST /protections",
    "protection list": "GET /protections, GET /protections/{protection_id}",
    "protection remove": "DELETE /protections/{protection_id}",
    "allow add": "POST /allow",
    "allow list": "GET /allow, GET /allow/{entry_id}",
    "allow remove": "DELETE /allow/{entry_id}",
    "allow check": "GET /allow/check, POST /allow/check",
    "allow decisions": "GET /allow/decisions",
    "audit list": "GET /audit",
    "audit export": "GET /plans/{plan_id}/evidence",
    "token create": "POST /tokens",
    "token list": "GET /tokens, GET /tokens/{access_id}, GET /sessions",
    "token revoke": "DELETE /tokens/{access_id}, DELETE /sessions/{access_id}, DELETE /sessions",
}
# What is for whoever sits at the machine; the page has a line for each, with the reason.
ON_THE_MACHINE = {
    "demo",
    "serve",
    "registry secret",
    "gitlab configure",
    "config show",
    "config check",
    "config default",
    "config import",
    "config try-ldap",
    "db check",
    "db import",
    "db migrate",
    "db purge",
    "db regstat",
}
# What only HTTP has: where it begins, who asks, and work that goes on after the answer.
ONLY_OVER_HTTP = {
    "GET ",
    "GET /openapi.json",
    "GET /docs",
    "GET /me",
    "GET /operations",
    "GET /operations/{operation_id}",
    "GET /operations/{operation_id}/stream",
    "DELETE /operations/{operation_id}",
}
# Options of lists that are about a terminal, or that HTTP says otherwise.
OF_A_TERMINAL = {"columns", "reverse", "page", "per_page", "age_unit", "wants_refresh"}
CALLED = {
    "registries": "registry",
    "repositories": "repository",
    "exclude_repositories": "exclude_repository",
    "tags": "tag",
    "exclude_tags": "exclude_tag",
    "selectors": "select",
}
OF_EVERY_COMMAND = {"database", "config", "output", "bytes", "verbose", "quiet"}


def commands(group: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Every command by its words; ``config import imagelist`` counts as ``config import``."""
    if isinstance(group, click.Group):
        context = click.Context(group)
        for name in group.list_commands(context):
            found = group.get_command(context, name)
            assert found is not None
            yield from commands(found, (*path, name))
    else:
        yield " ".join(path), group


def routes() -> dict[str, APIRoute]:
    return {
        f"{method} {route.path_format.removeprefix('/api/v1')}": route
        for route in build_routes(None).routes
        if isinstance(route, APIRoute) and route.include_in_schema
        for method in route.methods or ()
    }


def shortened(words: str) -> str:
    return next((known for known in ON_THE_MACHINE if words.startswith(f"{known} ")), words)


def test_every_command_is_a_route_or_belongs_to_the_machine():
    assert {shortened(words) for words, _ in commands(cli)} == set(OVER_HTTP) | ON_THE_MACHINE


def test_every_route_is_a_command_or_about_http():
    named = {one for text in OVER_HTTP.values() for one in text.split(", ")}
    assert named | ONLY_OVER_HTTP == set(routes())


@pytest.mark.parametrize("words", sorted(ON_THE_MACHINE))
def test_the_page_says_why_something_is_for_the_machine_alone(words: str):
    rows = re.findall(r"^\| (`.*?) \| (.+?) \|$", PAGE.partition("## Not over HTTP")[2], re.MULTILINE)
    assert any(f"`{words}`" in names and len(reason) > 20 for names, reason in rows)


@pytest.mark.parametrize("noun", ["repository", "tag", "manifest", "blob", "registry"])
def test_lists_understand_what_the_command_line_does(noun: str):
    command = dict(commands(cli))[f"{noun} list"]
    route = routes()[OVER_HTTP[f"{noun} list"].split(", ")[0]]
    options = {str(one.name) for one in command.params} - OF_EVERY_COMMAND - OF_A_TERMINAL
    options -= {"is_sum"}  # GET /tags/sizes
    if noun == "repository":
        options -= {"tags", "exclude_tags"}  # refused there, too
    assert {CALLED.get(name, name) for name in options} - set(known_parameters(route)) == set()
