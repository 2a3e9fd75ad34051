"""GitLab's projects, sizes and cleanup over HTTP, and only what lies in reach."""

from __future__ import annotations

import pytest

from regwarden.core.access import Role
from tests.gitlab_inventory import make_gitlab
from tests.web.api.conftest import Api, area


@pytest.fixture
def gitlab(api: Api) -> Api:
    make_gitlab(api.database, "prod")
    api.people.add("limited", Role.VIEWER, area(repositories=("team/web",)))
    return api


async def test_projects_sizes_and_policies_are_lists(gitlab: Api):
    projects = (await gitlab.get("/gitlab/projects?limit=1")).json
    assert projects["total"] == 2
    (app,) = projects["_embedded"]["items"]
    assert app["access_level"] == "maintainer"
    policy = (await gitlab.get(app["_links"]["cleanup"]["href"].removeprefix("/api/v1"))).items[0]
    assert policy["next_run_at"] == "2026-12-01T03:00:00Z"
    sizes = (await gitlab.get("/gitlab/sizes?registry=prod")).items
    assert [row["name"] for row in sizes] == ["team/app", "team/web"]
    namespaces = (await gitlab.get("/gitlab/sizes?by=namespace")).items
    assert namespaces[0]["is_estimated"] is True


async def test_a_simulation_is_paged_and_counted(gitlab: Api):
    path = "/gitlab/cleanup/simulation?project=team/app&as_of=2026-12-01&limit=3"
    first = (await gitlab.get(path)).json
    assert first["counts"] == {"goes": 1, "may-go": 0, "stays": 3}
    rest = await gitlab.get(first["_links"]["next"]["href"].removeprefix("/api/v1"))
    assert [row["tag"] for row in rest.items] == ["latest"]


async def test_a_gitlab_is_told_how_to_notify_in_its_own_form(gitlab: Api):
    block = (await gitlab.get("/registries/prod/notifications", who="operator")).json["block"]
    assert "registry['notifications']" in block
    other = (await gitlab.get("/registries/prod/notifications?flavour=distribution", who="operator")).json["block"]
    assert other.startswith("notifications:")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/gitlab/projects?registry=other", 400),
        ("/gitlab/projects?registry=nowhere", 404),
        ("/gitlab/sizes?by=colour", 422),
        ("/gitlab/cleanup?project=nobody/nothing", 404),
        ("/gitlab/cleanup/simulation", 422),
        ("/gitlab/cleanup/simulation?project=team/web", 404),
        ("/gitlab/cleanup/simulation?project=team/app&as_of=someday", 400),
        ("/gitlab/cleanup/simulation?project=team/app&cursor=x", 400),
        ("/usage?group_by=colour", 422),
        ("/usage?depth=1", 400),
        ("/usage?group_by=owner&depth=1", 400),
    ],
)
async def test_what_cannot_be_answered_is_a_problem(gitlab: Api, path: str, status: int):
    answer = await gitlab.get(path)
    assert answer.status in {status, 400}, answer.body
    assert answer.headers["content-type"] == "application/problem+json"


async def test_what_is_out_of_reach_is_not_told(gitlab: Api):
    (web,) = (await gitlab.get("/gitlab/projects", who="limited")).items
    assert (web["project"], web["repository_count"], web["gitlab_bytes"]) == ("team/web", 1, None)
    assert [row["name"] for row in (await gitlab.get("/gitlab/sizes", who="limited")).items] == ["team/web"]
    assert (await gitlab.get("/gitlab/sizes?by=namespace", who="limited")).items == []
    hidden = await gitlab.get("/gitlab/cleanup/simulation?project=team/app", who="limited")
    assert hidden.status == 404
    groups = (await gitlab.get("/usage?group_by=path", who="limited")).json["groups"]
    assert [(row["group"], row["repository_count"]) for row in groups] == [("team", 1), ("team", 1)]


async def test_usage_has_groups_where_they_are_asked_for(gitlab: Api):
    assert (await gitlab.get("/usage")).json["groups"] == []
    groups = (await gitlab.get("/usage?registry=prod&group_by=group")).json["groups"]
    assert {row["group"] for row in groups} == {"Team", "team"}
