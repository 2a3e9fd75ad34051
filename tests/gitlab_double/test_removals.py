"""Removals, rules, policies, notifications and faults of the GitLab application."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer
from yarl import URL

from tests.gitlab_double.background import Background
from tests.gitlab_double.memory_view import MemoryView
from tests.gitlab_double.rails import build_rails
from tests.gitlab_double.rails_tags import LEASED
from tests.gitlab_double.recording import Fault, FaultKind, FaultPlan, Recording
from tests.gitlab_double.scenario import sample

APP_TAGS = "/projects/101/registry/repositories/1/tags"
RULES = """query RegwardenProjectRules($fullPath: ID!) { project(fullPath: $fullPath) {
  containerProtectionTagRules {
    nodes { tagNamePattern minimumAccessLevelForPush minimumAccessLevelForDelete immutable }
  }
  containerProtectionRepositoryRules {
    nodes { repositoryPathPattern minimumAccessLevelForPush minimumAccessLevelForDelete }
  }
} }"""


class Double:
    """The application in this loop with its background."""

    def __init__(self) -> None:
        self.scenario, self.view, self.recording, self.faults = sample(), MemoryView(), Recording(), FaultPlan()
        self.background = Background(self.scenario, self.view, self.faults)
        self.client: TestClient[Any, Any] = TestClient(
            TestServer(build_rails(self.scenario, self.view, self.recording, self.faults))
        )

    async def ask(
        self, method: str, path: str, who: str = "maintainer", *, api: str = "/api/v4", **more: Any
    ) -> tuple[int, Any, Mapping[str, str]]:
        headers = {"PRIVATE-TOKEN": self.scenario.secrets[who]} if who else {}
        url = URL(api + path, encoded=True)
        async with self.client.request(method, url, headers=headers, **more) as answer:
            is_json = answer.content_type == "application/json"
            return answer.status, (await answer.json() if is_json else await answer.text()), answer.headers

    async def rules(self, path: str, who: str = "maintainer") -> Any:
        sent = {"operationName": "RegwardenProjectRules", "query": RULES, "variables": {"fullPath": path}}
        status, found, _ = await self.ask("POST", "/api/graphql", who, api="", json=sent)
        assert status == 200
        return found


@pytest.fixture
async def double() -> AsyncIterator[Double]:
    found = Double()
    async with found.client:
        yield found


async def test_a_tag_is_removed_at_once_by_developers_unless_a_rule_protects_it(double: Double) -> None:
    for path, tag in (
        ("team/app", "a"),
        ("team/web-ui", "v1"),
        ("team/web-ui", "main"),
        ("team/sub/tool/cli", "1-final"),
    ):
        double.view.put(path, tag)
    assert (await double.ask("DELETE", APP_TAGS + "/a", "reporter-api"))[:2] == (403, {"message": "403 Forbidden"})
    assert (await double.ask("DELETE", APP_TAGS + "/a", "developer"))[0] == 200
    assert "a" not in double.view.tags("team/app")
    refused = (403, {"message": "403 Forbidden - cannot delete protected tag(s)"})
    ui, cli = "/projects/102/registry/repositories/4/tags", "/projects/103/registry/repositories/5/tags"
    assert (await double.ask("DELETE", ui + "/v1"))[:2] == refused  # owners only
    assert (await double.ask("DELETE", ui + "/main"))[0] == 200
    assert (await double.ask("DELETE", ui + "/v1", "admin"))[0] == 200
    assert (await double.ask("DELETE", cli + "/1-final", "admin"))[:2] == refused  # nobody
    assert (await double.ask("DELETE", APP_TAGS + "/a"))[:2] == (403, {"message": "403 Forbidden"})
    double.view.has_database = False
    assert (await double.ask("DELETE", APP_TAGS + "/a"))[0] == 200


async def test_a_repository_goes_step_by_step_or_fails(double: Double) -> None:
    double.view.put("team/app", "a")
    place, pub = "/projects/101/registry/repositories/1", "/projects/105/registry/repositories/7"
    assert (await double.ask("DELETE", place, "developer"))[0] == 403
    assert (await double.ask("DELETE", place))[0] == 202
    refused = (403, {"message": "403 Forbidden - Deleting protected container repository forbidden."})
    assert (await double.ask("DELETE", pub))[:2] == refused
    assert (await double.ask("DELETE", pub, "admin"))[0] == 202
    double.faults.add(Fault(FaultKind.DELETE_FAILED, path="open/pub"))
    seen = []
    for _ in range(3):
        status, row, _ = await double.ask("GET", "/registry/repositories/1")
        seen.append(row.get("status") if status == 200 else status)
        double.background.tick()
    assert seen == ["delete_scheduled", "delete_ongoing", 404]
    assert not double.view.tags("team/app")
    _, row, _ = await double.ask("GET", "/registry/repositories/7")
    assert row["status"] == "delete_failed"


async def test_removal_by_expressions(double: Double) -> None:
    now = double.scenario.now()
    for age, tag in enumerate(("new", "middle", "old", "oldest", "latest", "kept", "other")):
        double.view.put("team/app", tag, created_at=now - timedelta(days=10 * age))
    query = "?name_regex_delete=(?:n.*|m.*|o.*|l.*|k.*)&name_regex_keep=ke..&keep_n=1&older_than=15d"
    status, _, _ = await double.ask("DELETE", APP_TAGS + query.replace("?:", "%3F:").replace("|", "%7C"))
    assert status == 202
    assert len(double.view.tags("team/app")) == 7
    double.background.tick()
    assert sorted(double.view.tags("team/app")) == ["kept", "latest", "middle", "new"]
    assert double.scenario.repositories[0].cleanup_started_at is not None
    again = await double.ask("DELETE", APP_TAGS, json={"name_regex": ".*"})
    assert again[:2] == (400, {"message": LEASED})
    double.scenario.clock_offset = timedelta(hours=1, seconds=1)
    assert (await double.ask("DELETE", APP_TAGS, data={"name_regex": "new|kept"}))[0] == 202
    double.background.tick()  # without a group: begins with one, or ends with the other
    assert sorted(double.view.tags("team/app")) == ["latest", "middle"]


async def test_removal_by_expressions_is_refused_for_what_is_wrong(double: Double) -> None:
    status, found, _ = await double.ask("DELETE", APP_TAGS)
    assert (status, list(found)) == (400, ["error"])
    wanted = (400, {"error": "name_regex_delete is an invalid regexp"})
    assert (await double.ask("DELETE", APP_TAGS, json={"name_regex_delete": "(?<=a)b"}))[:2] == wanted
    for extra in ({"keep_n": "x"}, {"older_than": "soon"}):
        status, found, _ = await double.ask("DELETE", APP_TAGS, json={"name_regex": ".*", **extra})
        assert (status, found) == (400, {"error": f"{next(iter(extra))} is invalid"})
    assert (await double.ask("DELETE", APP_TAGS, "developer", json={"name_regex": ".*"}))[0] == 403
    assert not double.scenario.jobs
    assert not double.scenario.leases


async def test_with_the_database_each_page_keeps_its_own_and_runs_have_a_limit(double: Double) -> None:
    for number in range(2500):
        double.view.put("team/app", f"{number:04}")
    double.scenario.settings.run_limit = 2000
    assert (await double.ask("DELETE", APP_TAGS + "?name_regex_delete=.*&keep_n=5"))[0] == 202
    double.background.tick()
    assert len(double.view.tags("team/app")) == 500
    double.background.run_out()
    assert len(double.view.tags("team/app")) == 5  # at last they fit one page
    double.scenario.leases.clear()
    for number in range(2500):
        double.view.put("team/app", f"{number:04}")
    double.scenario.settings.run_limit = 10_000
    await double.ask("DELETE", APP_TAGS + "?name_regex_delete=.*&keep_n=5")
    double.background.tick()
    assert len(double.view.tags("team/app")) == 15
    double.view.contents["team/app"] = {}
    double.scenario.leases.clear()
    double.scenario.jobs.clear()
    for number in range(1000):
        double.view.put("team/app", f"{number:04}")
    double.view.has_database = False
    await double.ask("DELETE", APP_TAGS + "?name_regex_delete=.*&keep_n=5")
    double.background.tick()
    assert len(double.view.tags("team/app")) == 800  # 205 at random, of which five were kept


async def test_a_due_policy_is_carried_out(double: Double) -> None:
    now = double.scenario.now()
    for number in range(8):
        double.view.put("team/app", f"t{number}", created_at=now - timedelta(days=9 * number))
    double.view.put("team/app", "v-old", created_at=now - timedelta(days=400))
    policy = double.scenario.projects[0].policy
    assert policy is not None
    policy["next_run_at"] = "2026-01-01T00:00:00.000Z"
    policy["enabled"] = False
    double.background.run_policies()
    assert not double.scenario.jobs
    policy["enabled"] = True
    double.background.run_policies()
    assert len(double.scenario.jobs) == 3  # one for each of its repositories
    double.background.run_out()
    assert sorted(double.view.tags("team/app")) == ["t0", "t1", "t2", "t3", "t4", "v-old"]
    double.background.run_policies()
    assert not double.scenario.jobs  # not due again


async def test_rules_by_rest_and_by_graphql(double: Double) -> None:
    _, rows, _ = await double.ask("GET", "/projects/102/registry/protection/tag/rules")
    assert rows == [
        {
            "id": 1,
            "project_id": 102,
            "tag_name_pattern": r"^v\d+",
            "minimum_access_level_for_push": "maintainer",
            "minimum_access_level_for_delete": "owner",
        }
    ]
    assert (await double.ask("GET", "/projects/103/registry/protection/tag/rules"))[1] == []
    _, rows, _ = await double.ask("GET", "/projects/105/registry/protection/repository/rules")
    assert rows[0]["repository_path_pattern"] == "open/pub*"
    assert (await double.ask("GET", "/projects/102/registry/protection/tag/rules", "developer"))[0] == 403
    found = await double.rules("team/sub/tool")
    assert found["data"]["project"]["containerProtectionTagRules"]["nodes"] == [
        {
            "tagNamePattern": "-final$",
            "minimumAccessLevelForPush": None,
            "minimumAccessLevelForDelete": None,
            "immutable": True,
        }
    ]
    found = await double.rules("open/pub")
    assert found["data"]["project"]["containerProtectionRepositoryRules"]["nodes"] == [
        {
            "repositoryPathPattern": "open/pub*",
            "minimumAccessLevelForPush": "MAINTAINER",
            "minimumAccessLevelForDelete": "ADMIN",
        }
    ]
    assert (await double.rules("team/sub/tool", "developer"))["data"]["project"]["containerProtectionTagRules"] == {
        "nodes": []
    }
    assert await double.rules("ann/thing") == {"data": {"project": None}}
    double.scenario.settings.version = "18.1.3"
    assert (await double.ask("GET", "/projects/102/registry/protection/tag/rules"))[:2] == (
        404,
        {"error": "404 Not Found"},
    )
    assert list(await double.rules("team/app")) == ["errors"]
    assert not double.recording.unscripted
    sent = {"query": "query Other { currentUser { id } }"}
    assert (await double.ask("POST", "/api/graphql", api="", json=sent))[0] == 501
    assert len(double.recording.unscripted) == 1


async def test_only_the_policy_of_a_project_is_changed(double: Double) -> None:
    sent = {"container_expiration_policy_attributes": {"enabled": False, "keep_n": 10, "cadence": "1d"}}
    assert (await double.ask("PUT", "/projects/101", "developer", json=sent))[0] == 403
    status, row, _ = await double.ask("PUT", "/projects/101", json=sent)
    policy = row["container_expiration_policy"]
    assert (status, policy["enabled"], policy["keep_n"], policy["older_than"]) == (200, False, 10, "30d")
    assert policy["next_run_at"] > double.scenario.now().isoformat()
    sent["container_expiration_policy_attributes"]["keep_n"] = 7
    assert (await double.ask("PUT", "/projects/101", json=sent))[0] == 400
    assert (await double.ask("PUT", "/projects/101", json={"visibility": "public"}))[0] == 501
    assert len(double.recording.unscripted) == 1


async def test_notifications_need_the_secret_as_it_is(double: Double) -> None:
    place = "/api/v4/container_registry_event/events"
    for sent, status in {"notif-secret": 200, "Bearer notif-secret": 401, "": 401}.items():
        async with double.client.post(place, data=b'{"events":[]}', headers={"Authorization": sent}) as answer:
            assert answer.status == status
    assert double.scenario.events == [b'{"events":[]}']


async def test_what_may_go_wrong(double: Double) -> None:
    plan = double.faults.add
    plan(Fault(FaultKind.TOO_MANY, seconds=3))
    status, text, headers = await double.ask("GET", "/user")
    assert (status, text, headers["Retry-After"]) == (429, "Retry later\n", "3")
    assert {name for name in headers if name.startswith("RateLimit-")} == {
        *("RateLimit-Limit", "RateLimit-Name", "RateLimit-Observed", "RateLimit-Remaining", "RateLimit-Reset"),
        "RateLimit-ResetTime",
    }
    plan(Fault(FaultKind.TOO_MANY_BARE))
    status, text, headers = await double.ask("GET", "/user")
    assert (status, text, "Retry-After" in headers) == (429, "Retry later\n", False)
    plan(Fault(FaultKind.BAD_GATEWAY))
    assert "<html>" in (await double.ask("GET", "/user"))[1]
    plan(Fault(FaultKind.UNAVAILABLE))
    assert (await double.ask("GET", "/user"))[0] == 503
    plan(Fault(FaultKind.EXPIRED, path="/user$"))
    assert (await double.ask("GET", "/version"))[0] == 200
    assert (await double.ask("GET", "/user"))[1]["error"] == "invalid_token"
    plan(Fault(FaultKind.SLOW, seconds=0.01))
    assert (await double.ask("GET", "/user"))[1]["username"] == "mia"
    plan(Fault(FaultKind.TRUNCATED))
    with pytest.raises(aiohttp.ClientPayloadError):
        await double.ask("GET", "/user")
    plan(Fault(FaultKind.RESET, count=10))
    with pytest.raises(aiohttp.ClientConnectionError):
        await double.ask("GET", "/user")
    double.faults.clear()
    assert (await double.ask("GET", "/user"))[0] == 200


async def test_a_page_may_shift_between_two(double: Double) -> None:
    for tag in "abcd":
        double.view.put("team/app", tag)
    double.faults.add(Fault(FaultKind.NOTHING, path="[?&]page=2", run=lambda: double.view.delete_tag("team/app", "a")))
    seen = []
    for page in (1, 2):
        _, rows, _ = await double.ask("GET", f"{APP_TAGS}?per_page=2&page={page}")
        seen += [row["name"] for row in rows]
    assert seen == ["a", "b", "d"]
