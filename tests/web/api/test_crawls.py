"""Crawls over HTTP: of registries that are known by name, within reach; nothing sent here is taken as an address."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import update
from sqlalchemy.engine import Connection

from regwarden.core.access import Role
from regwarden.store.schema import crawls
from regwarden.web.api.application import build_api
from regwarden.web.api.context import ApiParts
from tests.sample_inventory import small_registry
from tests.web.api.conftest import Api, FakeAuthenticator, area
from tests.web.api.working import configured, ended


@pytest.fixture
def live(api: Api, api_parts: ApiParts, tmp_path: Path) -> Iterator[Api]:
    """The application with ``prod`` at the address of a registry that runs."""
    with small_registry() as registry:
        parts = configured(api_parts, tmp_path / "regwarden.toml", prod=registry.url, new="x.test")
        people = parts.authenticator
        assert isinstance(people, FakeAuthenticator)
        people.add("app", Role.OPERATOR, area(("prod",), ("glob:team/app*", "glob:own/**")))
        yield Api(build_api(parts), people, parts.database, parts)


async def test_a_crawl_is_begun_watched_and_kept(live: Api):
    begun = await live.ask("POST", "/crawls", {"registry": "prod", "concurrency": 2}, who="operator")
    found = await ended(live, begun, who="operator")
    assert (found["state"], found["kind"], found["made_by"]) == ("done", "crawl", "operator")
    assert found["result"]["state"] == "complete"
    assert found["_links"]["registry"] == {"href": "/api/v1/registries/prod"}
    newest, *_ = (await live.get("/crawls?registry=prod", who="viewer")).items
    assert (newest["state"], newest["certificate"]["repository_count"]) == ("complete", 2)
    one = await live.get(f"/crawls/{newest['id']}", who="viewer")
    assert one.json == newest
    assert [(row["action"], row["principal"], row["subject"]) for row in (await live.get("/audit")).items] == [
        ("crawl-start", "operator", "prod")
    ]


async def test_the_history_is_paged_and_chosen(api: Api):
    whole = (await api.get("/crawls")).items
    assert [one["registry"] for one in whole] == ["prod", "other"]
    first = await api.get("/crawls?limit=1")
    second = await api.get(first.json["_links"]["next"]["href"].removeprefix("/api/v1"))
    assert (first.items + second.items, "next" in second.json["_links"]) == (whole, False)
    assert (await api.get("/crawls?state=failed")).items == []
    assert (await api.get("/crawls?state=odd")).json["errors"][0]["field"] == "state"
    assert (await api.get("/crawls?cursor=odd")).json["code"] == "bad-cursor"
    assert (await api.get("/crawls?registry=nowhere")).json["code"] == "unknown-registry"
    assert (await api.get("/crawls/99")).json["code"] == "no-crawl"


async def test_a_crawl_that_was_interrupted_has_no_certificate(api: Api):
    newest = (await api.get("/crawls")).items[0]

    def interrupt(connection: Connection) -> None:
        connection.execute(
            update(crawls).where(crawls.c.id == newest["id"]).values(state="interrupted", certificate="{}")
        )

    await api.database.write(interrupt)
    shown = (await api.get("/crawls")).items[0]
    assert (shown["state"], shown["certificate"]) == ("interrupted", None)
    assert (await api.get(f"/crawls/{newest['id']}")).json == shown


@pytest.mark.parametrize("rate", [0, 5e-324, -1, 1e300, "5"])
async def test_a_rate_that_cannot_be_kept_is_refused(live: Api, rate: object):
    answer = await live.ask("POST", "/crawls", {"registry": "prod", "requests_per_second": rate})
    assert (answer.status, answer.json["errors"][0]["field"]) == (400, "requests_per_second")


async def test_of_what_is_not_theirs_nobody_learns(api: Api):
    (row,) = (await api.get("/crawls", who="web")).items
    assert (row["registry"], row["certificate"]) == ("prod", None)
    other = next(one["id"] for one in (await api.get("/crawls")).items if one["registry"] == "other")
    assert (await api.get(f"/crawls/{other}", who="web")).status == 404
    assert (await api.get("/crawls?registry=other", who="web")).json["code"] == "unknown-registry"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"registry": "https://registry.example"}, 404),
        ({"registry": "127.0.0.1:1"}, 404),
        ({"registry": "other"}, 404),  # known, but not to this operator
        ({"registry": "new"}, 404),
        ({"registry": "prod"}, 403),
        ({"registry": "prod", "repositories": ["team/web"]}, 403),
        ({"registry": "prod", "repositories": ["glob:**"]}, 403),
        ({"registry": "prod", "repositories": ["glob:["]}, 400),
        ({"registry": "prod", "url": "http://127.0.0.1:1"}, 400),
        ({"registry": "prod", "ca_bundle": "/etc/passwd"}, 400),
        ({"registry": "prod", "repositories": ["team/app"], "requests_per_second": 0}, 400),
        ({}, 400),
    ],
)
async def test_only_what_is_known_and_in_reach(live: Api, body, status):
    answer = await live.ask("POST", "/crawls", body, who="app")
    assert answer.status == status, answer.body
    assert (await live.get("/operations")).items == []


async def test_a_part_is_crawled_by_who_may_do_that_much(live: Api):
    for patterns in (["team/app"], ["glob:team/app*"], ["glob:own/deep/*", "team/app"]):
        begun = await live.ask("POST", "/crawls", {"registry": "prod", "repositories": patterns}, who="app")
        assert (await ended(live, begun, who="app"))["state"] == "done"
    assert (await live.ask("POST", "/crawls", {"registry": "prod"}, who="viewer")).status == 403


async def test_a_registry_is_asked_whether_it_answers(live: Api):
    found = (await live.ask("POST", "/registries/prod/check", who="operator")).json
    assert (found["is_reachable"], found["registry"], found["tag_count"]) == (True, "prod", 5)
    assert found["capabilities"]["delete"] in {"supported", "unsupported", "unknown"}
    assert (await live.ask("POST", "/registries/prod/check", who="app")).status == 403
    for name in ("other", "nowhere", "127.0.0.1:1"):
        assert (await live.ask("POST", f"/registries/{name}/check", who="app")).status == 404


async def test_what_makes_a_registry_notify_is_told_without_its_secret(live: Api):
    found = (await live.get("/registries/prod/notifications?form=full&hook_url=http://rw.test", who="operator")).json
    assert "http://rw.test/hooks/prod" in found["block"]
    assert (found["is_usable"], found["url"]) == (False, "http://rw.test/hooks/prod")
    assert "regwarden registry secret prod" in found["remarks"][0]
    assert (found["status"]["events_since"], found["unknown_hosts"]) == (None, [])
    assert (await live.get("/registries/prod/notifications?form=none", who="operator")).json["block"] == ""
    wrong = await live.get("/registries/prod/notifications?hook_url=rw.test", who="operator")
    assert (wrong.status, wrong.json["errors"][0]["field"]) == (400, "hook_url")
    assert (await live.get("/registries/prod/notifications", who="app")).status == 403
    assert (await live.get("/registries/other/notifications", who="app")).status == 404
