"""Protections and the audit over HTTP."""

from __future__ import annotations

from regwarden.core.access import Role
from tests.web.api.conftest import Api, area

WHY = {"reason": "on stage"}


async def test_made_shown_and_ended(api: Api):
    body = {"reference": "prod/team/app:1.0.0", "until": "30d", **WHY}
    made = await api.ask("POST", "/protections", body, who="operator")
    assert (made.status, made.json["made_by"], made.json["repository"]) == (201, "operator", "team/app")
    place = made.headers["location"].removeprefix("/api/v1")
    assert (await api.get(place, who="viewer")).json["tag"] == "1.0.0"
    assert [one["id"] for one in (await api.get("/protections", who="viewer")).items] == [made.json["id"]]
    assert (await api.ask("DELETE", place, who="viewer")).status == 403
    ended = await api.ask("DELETE", place, who="operator")
    assert (ended.status, ended.body) == (204, b"")
    assert (await api.ask("DELETE", place, who="operator")).json["code"] == "no-protection"
    assert (await api.get("/protections")).items == []
    assert len((await api.get("/protections?ended=true")).items) == 1
    audit = (await api.get("/audit?action=protection-add&principal=operator")).items
    assert [one["subject"] for one in audit] == ["prod/team/app:1.0.0"]


async def test_only_in_reach(api: Api):
    api.people.add("app", Role.OPERATOR, area(("prod",), ("team/app", "glob:own/**")))
    api.people.add("prod", Role.OPERATOR, area(("prod",)))

    async def protect(who: str, reference: str, **more: str) -> int:
        return (await api.ask("POST", "/protections", {"reference": reference, **WHY, **more}, who=who)).status

    assert [await protect("app", one) for one in ("prod/team/app", "team/app", "prod/glob:own/x*")] == [201] * 3
    assert [await protect("app", one) for one in ("prod/team/web", "prod/", "prod/glob:team/**", "glob:own*")] == [
        403
    ] * 4
    assert await protect("app", "team/app", registry="other") == 404
    assert [await protect("prod", one) for one in ("prod/", "prod/glob:team/**")] == [201, 201]
    everything = (await api.get("/protections")).items
    assert [one["id"] for one in everything] == [1, 2, 3, 4, 5]
    assert [one["id"] for one in (await api.get("/protections", who="app")).items] == [1, 2, 3]
    assert (await api.get("/protections", who="web")).items == []
    assert (await api.get("/protections/4", who="app")).status == 404
    assert (await api.ask("DELETE", "/protections/4", who="app")).status == 404
    page = await api.get("/protections?limit=3")
    rest = await api.get(page.json["_links"]["next"]["href"].removeprefix("/api/v1"))
    assert page.items + rest.items == everything


async def test_what_cannot_be_understood_holds_nothing(api: Api):
    for body, field in (
        ({"reference": "prod/team/app:1.0.0"}, "reason"),
        ({"reference": "prod/team/app:1.0.0", "reason": ""}, "reason"),
        ({"reference": "prod/team/app:1.0.0", "reason": " "}, "reason"),
        ({"reference": "prod/team/app:1.0.0", "reason": "a\x00b"}, "reason"),
        ({"reference": "prod/team/app:glob:1*", **WHY}, "reference"),
        ({"reference": "a b", **WHY}, "reference"),
        ({"reference": "", **WHY}, "reference"),
    ):
        answer = await api.ask("POST", "/protections", body)
        assert (answer.status, answer.json["errors"][0]["field"]) == (400, field), body
    for until in ("soon", "2020-01-01"):
        answer = await api.ask("POST", "/protections", {"reference": "prod/team/app", "until": until, **WHY})
        assert (answer.status, answer.json["errors"][0]["field"]) == (400, "until")
    assert (await api.get("/protections?ended=true")).items == []


async def test_the_audit_is_for_those_who_may_see_everything(api: Api):
    for number in range(5):
        await api.ask("POST", "/protections", {"reference": f"prod/team/app:{number}", **WHY}, who="operator")
    whole = (await api.get("/audit", who="approver")).items
    assert [one["subject"][-1] for one in whole] == ["4", "3", "2", "1", "0"]
    page = await api.get("/audit?limit=3&since=1h", who="approver")
    rest = await api.get(page.json["_links"]["next"]["href"].removeprefix("/api/v1"), who="approver")
    assert page.items + rest.items == whole
    assert (await api.get("/audit?until=1h")).items == []
    assert (await api.get("/audit?since=x")).json["errors"][0]["field"] == "since"
    api.people.add("part", Role.APPROVER, area(("prod",)))
    for who in ("viewer", "part"):
        assert (await api.get("/audit", who=who)).status == 403
