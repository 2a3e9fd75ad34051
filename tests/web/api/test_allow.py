"""The allow-list over HTTP: entries are made, found, ended; answers come from memory, whoever is gone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import pytest

from regwarden.core.access import Role
from regwarden.core.allowlist import Outcome, Rules
from regwarden.errors import StoreError
from regwarden.flows.allow_questions import AllowOptions
from regwarden.flows.allowing import AllowList
from regwarden.store.decisions import DecisionFilter, list_decisions
from regwarden.store.registry_hosts import load_hosts
from regwarden.web.api.application import build_api
from regwarden.web.api.context import ApiParts
from tests.web.api.conftest import Api, area

HEX = "ab" * 32
DIGEST = f"sha256:{HEX}"


@pytest.fixture
async def served(api: Api) -> Api:
    """The application with the list in memory."""
    allow = AllowList(api.database, AllowOptions(), {})
    await allow.open()
    await allow.refresh()
    parts = replace(api.parts, allow=allow)
    return Api(build_api(parts), api.people, api.database, parts)


def memory(api: Api) -> AllowList:
    assert api.parts.allow is not None
    return api.parts.allow


async def add(api: Api, **body: Any) -> int:
    made = await api.ask("POST", "/allow", body, who="operator")
    assert made.status == 201, made.body
    if api.parts.allow is not None:
        await api.parts.allow.refresh()
    return int(made.json["id"])


async def check(api: Api, image: str, who: str = "viewer", **place: str) -> tuple[int, str]:
    found = await api.get(f"/allow/check?{urlencode({'image': image, **place})}", who=who)
    return found.status, found.json.get("outcome", found.json.get("code"))


async def test_until_the_list_is_loaded_nothing_is_allowed_or_denied(api: Api) -> None:
    await add(api, image=DIGEST)
    parts = replace(api.parts, allow=AllowList(api.database, AllowOptions(rules=Rules(Outcome.ALLOW)), {}))
    starting = Api(build_api(parts), api.people, api.database, parts)
    one = await starting.get(f"/allow/check?image={DIGEST}", who="viewer")
    many = await starting.ask("POST", "/allow/check", {"images": [DIGEST]}, who="viewer")
    for found in (one, many):
        assert (found.status, found.json["code"]) == (503, "not-ready")
        assert int(found.headers["retry-after"]) > 0
    assert (await starting.get("/allow", who="viewer")).status == 200


async def test_an_entry_is_made_shown_and_ended(api: Api) -> None:
    body = {
        "image": f"reg.example.com/app@{DIGEST}",
        "reason": "release",
        "expires": "30d",
        "clusters": ["prod-*"],
        "evidence": {"scan": "7"},
        "is_protecting": False,
    }
    made = await api.ask("POST", "/allow", body, who="operator")
    assert made.status == 201
    own = made.json["_links"]["self"]["href"]
    assert made.headers["location"] == own
    shown = (await api.get(own.removeprefix("/api/v1"), who="viewer")).json
    assert shown == made.json
    assert (shown["effect"], shown["digest"], shown["made_by"]) == ("allow", DIGEST, "operator")
    assert (shown["clusters"], shown["evidence"], shown["is_protecting"]) == (["prod-*"], {"scan": "7"}, False)
    listed = await api.get("/allow?image=" + HEX)
    assert [one["id"] for one in listed.items] == [shown["id"]]
    number = shown["id"]
    assert (await api.ask("DELETE", f"/allow/{number}", who="operator")).status == 204
    assert (await api.ask("DELETE", f"/allow/{number}", who="operator")).status == 404
    assert (await api.get("/allow")).items == []
    (ended,) = (await api.get("/allow?ended=true")).items
    assert ended["removed_by"] == "operator"
    actions = [one["action"] for one in (await api.get("/audit")).items]
    assert {"allow-add-allow", "allow-remove"} <= set(actions)


async def test_lists_are_paged_and_filtered(api: Api) -> None:
    ids = [await add(api, image=f"app:{number}", effect="deny" if number == 1 else "allow") for number in range(3)]
    first = await api.get("/allow?limit=2")
    second = await api.get(first.json["_links"]["next"]["href"].removeprefix("/api/v1"))
    assert [one["id"] for one in (*first.items, *second.items)] == ids
    assert "next" not in second.json["_links"]
    assert [one["id"] for one in (await api.get("/allow?effect=deny")).items] == [ids[1]]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "image"),
        ({"image": "app:1", "effect": "maybe"}, "effect"),
        ({"image": "app:1", "tags": ["x"]}, "tags"),
        ({"image": "app:1", "expires": "2001-01-01"}, "expires"),
        ({"image": "app:1", "reason": "a\nb"}, "reason"),
        ({"image": "app:1", "evidence": {"": "x"}}, "evidence"),
        ({"image": "app:1", "unknown": 1}, "unknown"),
        ({"image": 5}, "image"),
        ({"image": ""}, "image"),
        ({"pattern": "re:("}, None),
        ({"image": "app:1", "expires": "soon"}, None),
    ],
)
async def test_what_cannot_be_understood_names_the_field(api: Api, body: dict[str, Any], field: str | None) -> None:
    refused = await api.ask("POST", "/allow", body)
    assert refused.status == 400, refused.body
    if field is not None:
        assert [one["field"] for one in refused.json["errors"]] == [field]
    assert (await api.get("/allow")).items == []


@pytest.mark.parametrize(
    "path", ["/allow/0", "/allow/99", "/allow/x", "/allow/check", "/allow?effect=x", "/allow?image=a%00"]
)
async def test_what_is_not_there_or_wrong_is_a_problem(api: Api, path: str) -> None:
    assert (await api.get(path)).status in (400, 404)


async def test_who_may_do_what(api: Api) -> None:
    number = await add(api, image=DIGEST)
    for role in Role:
        is_writer = role in (Role.OPERATOR, Role.ADMIN)
        made = await api.ask("POST", "/allow", {"image": "app:1"}, who=str(role))
        assert made.status == (201 if is_writer else 403)
        assert (await api.get(f"/allow/{number}", who=str(role))).status == 200
    for path in ("/allow", "/allow/check?image=x", f"/allow/{number}", "/allow/decisions"):
        assert (await api.get(path, who="nobody")).status == 403
        assert (await api.get(path, who=None)).status == 401
    api.people.add("part", Role.OPERATOR, area(("prod",), ("team/web",)))
    assert (await api.ask("POST", "/allow", {"image": "app:1"}, who="part")).status == 403


async def test_who_sees_a_part_sees_the_entries_of_that_part(served: Api) -> None:
    hosts = served.database.read_now(load_hosts)
    own, other = f"{hosts['prod'][0]}/team/web:edge", f"{hosts['prod'][0]}/team/app:1.0.0"
    ids = [await add(served, image=one) for one in (own, other, DIGEST)]
    assert [one["id"] for one in (await served.get("/allow", who="web")).items] == [ids[0]]
    assert [(await served.get(f"/allow/{one}", who="web")).status for one in ids] == [200, 404, 404]
    assert [(await check(served, one, "web")) for one in (own, other)] == [(200, "allow"), (404, "not-found")]
    assert await check(served, DIGEST, "web") == (200, "allow")
    await memory(served).decisions.flush()
    assert await check(served, own, "viewer") == (200, "allow")
    await memory(served).decisions.flush()
    assert {one["principal"] for one in (await served.get("/allow/decisions", who="web")).items} == {"web"}
    assert (await served.get("/allow/decisions?principal=viewer", who="web")).items == []
    assert {one["principal"] for one in (await served.get("/allow/decisions")).items} == {"web", "viewer"}


async def test_hidden_entries_leave_no_trace(served: Api) -> None:
    hosts = served.database.read_now(load_hosts)
    shown, hidden = f"{hosts['prod'][0]}/team/web", f"{hosts['prod'][0]}/team/app"
    names = [f"{hidden}:1", f"{shown}:1", f"{hidden}:2", f"{hidden}:3", f"{shown}:2", f"{hidden}:4"]
    ids = [await add(served, image=name) for name in names]
    one, none = [await served.get(f"/allow/{number}", who="web") for number in (ids[0], 9999)]
    assert one.json == none.json | {"detail": none.json["detail"].replace("9999", str(ids[0]))}
    first = await served.get("/allow?limit=1", who="web")
    assert [row["id"] for row in first.items] == [ids[1]]
    second = await served.get(first.json["_links"]["next"]["href"].removeprefix("/api/v1"), who="web")
    assert [row["id"] for row in second.items] == [ids[4]]
    assert "next" not in second.json["_links"]


async def test_a_namesake_is_not_told_what_another_asked_about(served: Api) -> None:
    hosts = served.database.read_now(load_hosts)
    for image in ("secret.example.com/plans:1", f"{hosts['prod'][0]}/team/web:edge"):
        await check(served, image, "web")
    await memory(served).decisions.flush()
    assert [row["image"] for row in (await served.get("/allow/decisions", who="web")).items] == [
        f"{hosts['prod'][0]}/team/web:edge"
    ]


@pytest.mark.parametrize("is_in_memory", [True, False])
async def test_images_are_answered(api: Api, served: Api, *, is_in_memory: bool) -> None:
    one = served if is_in_memory else api
    host = one.database.read_now(load_hosts)["prod"][0]
    await add(one, image=HEX, clusters=["prod"])
    await add(one, image=f"{host}/team/app:1.0.0")
    await add(one, pattern="glob:**/bad/**", effect="deny", reason="no")
    assert await check(one, HEX, cluster="prod") == (200, "unknown")  # it may be of a denied name
    assert await check(one, f"{host}/x@{DIGEST}", cluster="prod") == (200, "allow")
    assert await check(one, f"{host}/x@{DIGEST}", cluster="test") == (200, "deny")
    assert await check(one, f"{host}/bad/x@{DIGEST}", cluster="prod") == (200, "deny")
    assert await check(one, f"{host}/team/app:1.0.0") == (200, "allow")
    assert await check(one, f"{host}/team/app:9") == (200, "unknown")
    assert await check(one, "a\u00a0\u0001") == (400, "bad-image")
    body = {"images": [f"{host}/team/app:1.0.0", f"{host}/bad/x:1"]}
    many = await one.ask("POST", "/allow/check", body, who="viewer")
    assert [(x["image"], x["outcome"]) for x in many.items] == list(zip(body["images"], ("allow", "deny"), strict=True))
    assert many.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("images", [[], ["x"] * 1001, [5], ["\x00"], "x"])
async def test_questions_that_are_none_are_refused(served: Api, images: Any) -> None:
    assert (await served.ask("POST", "/allow/check", {"images": images})).status == 400


async def test_answers_are_written_down(served: Api) -> None:
    for _ in range(3):
        await check(served, HEX)
    await check(served, "app:1", who="admin", cluster="prod", namespace="team")
    await memory(served).decisions.flush()
    rows = served.database.read_now(lambda connection: list_decisions(connection, DecisionFilter()))
    assert sum(one.count for one in rows if one.image == HEX) == 3
    listed = await served.get("/allow/decisions?limit=1")
    assert (listed.items[0]["cluster"], listed.items[0]["interface"]) == ("prod", "api")
    more = await served.get(listed.json["_links"]["next"]["href"].removeprefix("/api/v1"))
    assert more.items[0]["image"] == HEX
    assert (await served.get("/allow/decisions?outcome=allow")).items == []
    assert (await served.get("/allow/decisions?since=1d&image=app:1")).items
    assert [(await served.get(f"/allow/decisions?{one}")).status for one in ("outcome=x", "since=x")] == [400, 400]


async def test_without_a_database_answers_are_marked_stale(served: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    await add(served, image=DIGEST)

    async def gone(*_: object, **__: object) -> Any:
        raise StoreError("it is gone")

    monkeypatch.setattr(served.database, "read", gone)
    monkeypatch.setattr(served.database, "write", gone)
    with pytest.raises(StoreError):
        await memory(served).refresh()
    found = (await served.get(f"/allow/check?image={HEX}", who="viewer")).json
    assert (found["outcome"], found["is_stale"]) == ("allow", True)
    tagged = (await served.get("/allow/check?image=app:1", who="viewer")).json
    assert (tagged["outcome"], tagged["is_stale"]) == ("unknown", True)
    assert (await served.get("/allow")).status == 503


def test_parts_know_the_list(api_parts: ApiParts) -> None:
    assert api_parts.allow is None
