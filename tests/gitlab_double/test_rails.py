"""The GitLab application against the tables of what GitLab answers: every key, status, body and header."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer
from yarl import URL

from tests.gitlab_double.answers import offset_time_text, time_text
from tests.gitlab_double.memory_view import MemoryView
from tests.gitlab_double.rails import build_rails
from tests.gitlab_double.recording import FaultPlan, Recording
from tests.gitlab_double.scenario import Scenario, sample
from tests.gitlab_double.state import LONG_AGO

REPOSITORY_KEYS = ["id", "name", "path", "project_id", "location", "created_at", "cleanup_policy_started_at", "status"]
OFFSET_HEADERS = ("X-Page", "X-Per-Page", "X-Next-Page", "X-Prev-Page", "X-Total", "X-Total-Pages")


class Double:
    """The application in this loop, and what it is made of."""

    def __init__(self) -> None:
        self.scenario: Scenario = sample()
        self.view = MemoryView()
        self.recording, self.faults = Recording(), FaultPlan()
        for path, tags in {
            "team/app": ("v1", "latest.json", "1.0"),
            "team/web-ui": ("v1", "main"),
            "open/pub": ("x",),
        }.items():
            for tag in tags:
                self.view.put(path, tag)
        self.view.put("team/sub/tool/cli", "1-final", is_index=True)
        self.client: TestClient[Any, Any] = TestClient(
            TestServer(build_rails(self.scenario, self.view, self.recording, self.faults))
        )

    async def ask(
        self, path: str, who: str = "", *, method: str = "GET", headers: Mapping[str, str] | None = None, **more: Any
    ) -> tuple[int, Any, Mapping[str, str]]:
        """Status, document and headers of what is below ``/api/v4``."""
        sent = dict(headers or {}) | ({"PRIVATE-TOKEN": self.scenario.secrets[who]} if who else {})
        url = URL(f"/api/v4{path}", encoded=True)
        async with self.client.request(method, url, headers=sent, allow_redirects=False, **more) as answer:
            is_json = answer.content_type == "application/json"
            return answer.status, (await answer.json() if is_json else await answer.text()), answer.headers

    async def names(self, path: str, who: str = "", key: str = "path_with_namespace") -> list[Any]:
        status, rows, _ = await self.ask(path, who)
        assert status == 200, rows
        return [row[key] for row in rows]


@pytest.fixture
async def double() -> AsyncIterator[Double]:
    found = Double()
    async with found.client:
        yield found


async def test_a_repository_has_the_documented_keys(double: Double) -> None:
    place = "/projects/team%2fAPP/registry/repositories"  # in any case, by path or by number
    status, rows, _ = await double.ask(place, "reporter")
    assert (status, [list(row) for row in rows]) == (200, [REPOSITORY_KEYS] * 3)
    assert rows[0] == {
        "id": 1,
        "name": "",
        "path": "team/app",
        "project_id": 101,
        "location": "registry.example.com/team/app",
        "created_at": "2025-03-05T05:06:07.089Z",
        "cleanup_policy_started_at": None,
        "status": None,
    }
    assert rows[1]["name"] == "work"
    _, rows, _ = await double.ask("/projects/101/registry/repositories?tags=true&tags_count=true", "reporter")
    assert list(rows[0]) == [*REPOSITORY_KEYS, "tags_count", "tags"]
    assert rows[0]["tags_count"] == 3
    assert rows[0]["tags"][0] == {
        "name": "1.0",
        "path": "team/app:1.0",
        "location": "registry.example.com/team/app:1.0",
    }
    _, web_ui, _ = await double.ask("/projects/102/registry/repositories", "reporter")
    assert web_ui[0]["path"] == "team/web-ui"


async def test_one_repository_tells_its_size_and_where_it_is_deleted(double: Double) -> None:
    place = "/registry/repositories/1"
    _, row, _ = await double.ask(place + "?size=true", "maintainer")
    assert list(row) == [*REPOSITORY_KEYS, "delete_api_path", "size"]
    assert row["delete_api_path"] == "http://gitlab.example.com/api/v4/projects/101/registry/repositories/1"
    assert row["size"] == 1020
    _, row, _ = await double.ask(place, "developer")
    assert list(row) == REPOSITORY_KEYS
    double.view.has_database = False
    _, row, _ = await double.ask(place + "?size=true&tags=false", "developer")
    assert (row["size"], "tags" in row) == (None, False)
    assert (await double.ask("/registry/repositories/7"))[:2] == (401, {"message": "401 Unauthorized"})
    assert (await double.ask("/registry/repositories/99", "developer"))[:2] == (404, {"message": "404 Not found"})


async def test_a_group_has_the_repositories_of_its_subgroups(double: Double) -> None:
    double.scenario.projects[5].registry_access = "disabled"
    double.scenario.projects[0].former_paths.clear()
    found = await double.names("/groups/11/registry/repositories", "reporter", "path")
    assert found == ["team/app", "team/app/work", "team/app/worker", "team/web-ui", "team/sub/tool/cli"]
    assert (await double.ask("/groups/team/registry/repositories", "guest"))[0] == 403
    assert (await double.ask("/groups/team/registry/repositories"))[:2] == (404, {"message": "404 Group Not Found"})


async def test_tags_have_three_keys_in_lists_and_facts_alone(double: Double) -> None:
    place = "/projects/101/registry/repositories/1/tags"
    status, rows, _ = await double.ask(place, "reporter")
    assert (status, rows[0]) == (
        200,
        {"name": "1.0", "path": "team/app:1.0", "location": "registry.example.com/team/app:1.0"},
    )
    _, row, _ = await double.ask(place + "/latest.json", "reporter")
    assert list(row) == [
        "name",
        "path",
        "location",
        "revision",
        "short_revision",
        "digest",
        "created_at",
        "total_size",
    ]
    assert (row["revision"], row["short_revision"]) == (f"{4098:064x}", "000000000")
    assert (row["created_at"], row["total_size"]) == ("2025-03-04T05:06:07.089+00:00", 1720)
    double.view.has_database = False
    _, row, _ = await double.ask(place + "/latest.json", "reporter")
    assert (row["created_at"], row["total_size"]) == ("1970-01-01T00:00:00.000+00:00", 1020)
    tool = "/projects/103/registry/repositories/5/tags/1-final"
    _, row, _ = await double.ask(tool, "reporter")
    assert (row["revision"], row["total_size"]) == ("", None)
    double.view.has_database = True
    assert (await double.ask(tool, "reporter"))[1]["total_size"] == 0
    assert (await double.ask(place + "/none", "reporter"))[:2] == (404, {"message": "404 Tag Not Found"})
    for number in range(100):
        double.view.put("team/app", f"0.1.0{number:02}")
    double.view.put("team/app", "1.0.x")
    assert (await double.ask(place + "/1.0", "reporter"))[0] == 404  # hidden behind 100 names that contain it


async def test_offsets_are_in_headers_and_links(double: Double) -> None:
    place = "/projects/101/registry/repositories/1/tags"
    _, rows, headers = await double.ask(f"{place}?per_page=1&page=2", "reporter")
    assert [row["name"] for row in rows] == ["latest.json"]
    assert [headers[name] for name in OFFSET_HEADERS] == ["2", "1", "3", "1", "3", "3"]
    address = f"http://gitlab.example.com/api/v4{place}?id=101&page={{}}&per_page=1&repository_id=1"
    wanted = {"prev": 1, "next": 3, "first": 1, "last": 3}
    assert headers["Link"] == ", ".join(f'<{address.format(page)}>; rel="{name}"' for name, page in wanted.items())
    _, _, headers = await double.ask(f"{place}?per_page=1&page=3", "reporter")
    assert (headers["X-Next-Page"], 'rel="next"' in headers["Link"]) == ("", False)
    double.scenario.settings.limits_totals_above = 2
    _, _, headers = await double.ask(f"{place}?per_page=500", "reporter")
    assert {name: headers.get(name) for name in OFFSET_HEADERS} == dict(
        zip(OFFSET_HEADERS, ("1", "100", "", "", None, None), strict=True)
    )
    assert headers["Link"].endswith('rel="first"')
    secret = double.scenario.secrets["reporter"]
    _, _, headers = await double.ask(f"{place}?private_token={secret}")
    assert secret not in headers["Link"]
    assert (await double.ask(f"{place}?page=0", "reporter"))[:2] == (400, {"error": "page does not have a valid value"})


async def test_tags_by_keyset_have_a_link_alone_and_need_the_database(double: Double) -> None:
    place = "/projects/101/registry/repositories/1/tags"
    _, rows, headers = await double.ask(f"{place}?pagination=keyset&per_page=2&sort=asc", "reporter")
    assert [row["name"] for row in rows] == ["1.0", "latest.json"]
    query = "last=latest.json&pagination=keyset&per_page=2&sort=asc"
    assert headers["Link"] == f'<http://gitlab.example.com/api/v4{place}?{query}>; rel="next"'
    assert not [name for name in headers if name.startswith("X-")]
    _, rows, headers = await double.ask(f"{place}?{query}", "reporter")
    assert ([row["name"] for row in rows], "Link" in headers) == (["v1"], False)
    double.view.has_database = False
    refused = (405, {"message": "405 Method Not Allowed"})
    assert (await double.ask(f"{place}?pagination=keyset", "reporter"))[:2] == refused


async def test_lists_of_projects_and_groups_by_keyset(double: Double) -> None:
    query = "/projects?order_by=id&pagination=keyset&sort=asc&per_page=4"
    status, rows, headers = await double.ask(query, "admin")
    assert (status, [row["id"] for row in rows]) == (200, [101, 102, 103, 104])
    after = "/projects?id_after={}&order_by=id&pagination=keyset&per_page=4&sort=asc"
    assert headers["Link"] == f'<http://gitlab.example.com/api/v4{after.format(104)}>; rel="next"'
    _, rows, headers = await double.ask(after.format(104), "admin")
    assert ([row["id"] for row in rows], "Link" in headers) == ([105, 106], True)
    assert (await double.ask(after.format(106), "admin"))[1] == []
    assert (await double.ask("/projects?pagination=keyset", "admin"))[0] == 405
    _, rows, headers = await double.ask("/groups?order_by=name&pagination=keyset&per_page=2", "admin")
    assert [row["full_path"] for row in rows] == ["open", "team"]
    following = URL(headers["Link"].split(">")[0][1:], encoded=True).raw_query_string
    _, rows, headers = await double.ask(f"/groups?{following}", "admin")
    assert ([row["full_path"] for row in rows], "Link" in headers) == (["team/sub"], False)


async def test_tokens_are_checked_in_order(double: Double) -> None:
    place = "/projects/101/registry/repositories"
    assert (await double.ask(place))[:2] == (404, {"message": "404 Project Not Found"})
    unknown = {"PRIVATE-TOKEN": "glpat-nobody"}
    assert (await double.ask(place, headers=unknown))[:2] == (401, {"message": "401 Unauthorized"})
    for name, begin in {"expired": "Token is expired. ", "revoked": "Token was revoked. "}.items():
        status, refusal, headers = await double.ask(place, name)
        assert (status, list(refusal), refusal["error"]) == (401, ["error", "error_description"], "invalid_token")
        assert refusal["error_description"].startswith(begin)
        assert "invalid_token" in headers["WWW-Authenticate"]
    status, refusal, _ = await double.ask("/projects/999", "read_registry")  # the scope comes before the project
    assert (status, list(refusal)) == (403, ["error", "error_description", "scope"])
    assert (refusal["error"], refusal["scope"]) == ("insufficient_scope", "api read_api")
    assert (await double.ask(f"{place}/1", "read_api", method="DELETE"))[1]["scope"] == "api"
    assert (await double.ask("/projects/104", "maintainer"))[:2] == (404, {"message": "404 Project Not Found"})
    assert (await double.ask(place, "guest"))[:2] == (403, {"message": "403 Forbidden"})
    assert (await double.ask(place, headers={"PRIVATE-TOKEN": double.scenario.secrets["deploy"]}))[0] == 401
    secrets = double.scenario.secrets
    for headers in ({"Authorization": f"Bearer {secrets['reporter']}"}, {"JOB-TOKEN": secrets["job"]}):
        assert (await double.ask(place, headers=headers))[0] == 200
    assert (await double.ask(f"{place}?private_token={secrets['reporter']}"))[0] == 200
    job = {"JOB-TOKEN": secrets["job"]}
    assert (await double.ask("/projects/102/registry/repositories", headers=job))[0] == 404
    assert (await double.ask("/groups/11/registry/repositories", headers=job))[0] == 404
    assert (await double.ask("/projects/105/registry/repositories"))[0] == 200  # public


async def test_a_project_as_different_people_see_it(double: Double) -> None:
    _, anonymous, _ = await double.ask("/projects/open%2Fpub")
    assert {"id", "path_with_namespace", "visibility", "namespace", "created_at"} <= set(anonymous)
    assert not {"container_registry_access_level", "permissions", "container_expiration_policy"} & set(anonymous)
    _, found, _ = await double.ask("/projects/TEAM%2Fapp?statistics=true", "maintainer")
    assert found["namespace"]["full_path"] == "team"
    assert found["namespace"]["kind"] == "group"
    assert found["container_registry_image_prefix"] == "registry.example.com/team/app"
    assert (found["container_registry_access_level"], found["visibility"], found["archived"]) == (
        "enabled",
        "private",
        False,
    )
    assert set(found["container_expiration_policy"]) == {
        "cadence",
        "enabled",
        "keep_n",
        "older_than",
        "name_regex",
        "name_regex_keep",
        "next_run_at",
    }
    assert found["permissions"] == {
        "project_access": None,
        "group_access": {"access_level": 40, "notification_level": 3},
    }
    assert found["statistics"]["container_registry_size"] == 100_000_000
    assert "owner" not in found
    _, guest, _ = await double.ask("/projects/101?statistics=true", "guest")
    assert ("statistics" in guest, "container_expiration_policy" in guest) == (False, True)
    _, thing, _ = await double.ask("/projects/104", "ann")
    assert (thing["namespace"]["kind"], thing["owner"]["username"]) == ("user", "ann")
    assert thing["permissions"]["project_access"]["access_level"] == 50
    status, _, headers = await double.ask("/projects/old%2Fapp?statistics=true", "maintainer")
    assert (status, headers["Location"]) == (301, "http://gitlab.example.com/api/v4/projects/101?statistics=true")


async def test_lists_of_projects(double: Double) -> None:
    assert await double.names("/projects") == ["open/pub"]
    assert len(await double.names("/projects", "admin")) == 6
    assert await double.names("/projects?membership=true&order_by=id&sort=asc", "ann") == ["ann/thing"]
    assert await double.names("/users/ann/projects", "ann") == ["ann/thing"]
    assert await double.names("/groups/team/projects?order_by=path&sort=asc", "reporter") == [
        "team/app",
        "team/container_registry",
        "team/Web-UI",
    ]
    assert len(await double.names("/groups/team/projects?include_subgroups=true", "reporter")) == 4
    double.scenario.projects[1].is_archived = True
    assert await double.names("/projects?archived=true", "reporter") == ["team/Web-UI"]


async def test_groups_and_members(double: Double) -> None:
    assert await double.names("/groups?top_level_only=true", "admin", "full_path") == ["open", "team"]
    assert await double.names("/groups", "reporter", "full_path") == ["team", "team/sub"]
    assert await double.names("/groups?all_available=true", "reporter", "full_path") == ["open", "team", "team/sub"]
    assert await double.names("/groups/team/subgroups", "reporter", "full_path") == ["team/sub"]
    _, rows, _ = await double.ask("/groups?statistics=true", "admin")
    figures = {row["full_path"]: row.get("root_storage_statistics") for row in rows}
    assert figures["open"]["container_registry_size"] == 2_000_000
    assert figures["open"]["container_registry_size_is_estimated"] is True
    assert figures["team/sub"] is None
    _, rows, _ = await double.ask("/groups?statistics=true", "maintainer")
    assert not [row for row in rows if "root_storage_statistics" in row]
    _, group, _ = await double.ask("/groups/team%2Fsub", "reporter")
    assert (group["id"], group["parent_id"], group["full_path"]) == (12, 11, "team/sub")
    _, rows, _ = await double.ask("/groups/12/members/all", "reporter")
    roles = {row["username"]: row["access_level"] for row in rows}
    assert roles == {"mia": 40, "dev": 30, "rita": 20, "gus": 10}
    _, rows, _ = await double.ask("/projects/104/members/all", "ann")
    assert [(row["id"], row["username"], row["access_level"]) for row in rows] == [(6, "ann", 50)]
    assert (await double.ask("/projects/105/members/all"))[0] == 401


async def test_who_am_i(double: Double) -> None:
    _, user, _ = await double.ask("/user", "admin")
    assert (user["id"], user["username"], user["is_admin"]) == (1, "root", True)
    assert "is_admin" not in (await double.ask("/user", "maintainer"))[1]
    assert (await double.ask("/user", "read_registry"))[0] == 403
    assert (await double.ask("/user"))[0] == 401
    _, token, _ = await double.ask("/personal_access_tokens/self", "read_registry")
    assert set(token) == {
        *("id", "name", "revoked", "created_at", "description", "scopes", "user_id", "last_used_at", "active"),
        "expires_at",
    }
    assert (token["scopes"], token["expires_at"], token["active"]) == (["read_registry"], None, True)
    double.scenario.token("read_user").kind = "oauth"
    assert (await double.ask("/personal_access_tokens/self", "read_user"))[0] == 400
    for path in ("/metadata", "/version"):
        _, found, _ = await double.ask(path, "read_user")
        assert (found["version"], found["enterprise"]) == ("18.7.0-ee", True)
    _, chosen, _ = await double.ask("/application/settings", "admin")
    assert chosen["container_registry_token_expire_delay"] == 5
    assert (await double.ask("/application/settings", "maintainer"))[:2] == (403, {"message": "403 Forbidden"})
    double.scenario.settings.admin_mode = True
    assert (await double.ask("/application/settings", "admin"))[0] == 403
    double.scenario.token("admin").scopes = ("api", "admin_mode")
    assert (await double.ask("/application/settings", "admin"))[0] == 200


async def test_requests_without_a_script_are_recorded_and_secrets_are_not(double: Double) -> None:
    secret = double.scenario.secrets["admin"]
    assert (await double.ask(f"/projects/101/hooks?private_token={secret}", "admin"))[0] == 501
    assert (await double.ask("/projects/team/app", "admin"))[0] == 501  # a slash that was not encoded
    assert (await double.ask("/user", "admin", method="POST"))[0] == 501
    assert [each.path for each in double.recording.unscripted] == [
        "/api/v4/projects/101/hooks",
        "/api/v4/projects/team/app",
        "/api/v4/user",
    ]
    assert secret not in repr(double.recording.requests)
    await double.client.get("/api/v4/user", headers={"Authorization": aiohttp.encode_basic_auth("x", secret)})
    assert double.recording.requests[-1].headers["authorization"] == "Basic ***"
    async with double.client.get("/team/app/container_registry.json") as answer:
        assert answer.status == 404
    async with double.client.get("/team/app/registry/repository/1/tags?format=json") as answer:
        assert answer.status == 404
    assert len(double.recording.unscripted) == 3


def test_times_have_milliseconds() -> None:
    assert time_text(LONG_AGO) == "2025-03-04T05:06:07.089Z"
    assert offset_time_text(LONG_AGO) == "2025-03-04T05:06:07.089+00:00"
    assert time_text(None) is offset_time_text(None) is None
