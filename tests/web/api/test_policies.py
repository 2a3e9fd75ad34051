"""Policies over HTTP: checked, described, explained and replayed from texts, never from files."""

from __future__ import annotations

import pytest

from regwarden.core.access import Role
from tests.web.api.conftest import Api, area
from tests.web.api.working import ended, policy

GOOD = {"ci.yaml": policy("ci")}


async def test_every_mistake_is_told_with_its_place(api: Api):
    answer = await api.ask("POST", "/policies/check", {"policies": {**GOOD, "bad": "apiVersion: x\n"}}, who="viewer")
    assert (answer.status, answer.json["is_usable"], answer.json["policies"]) == (200, False, ["ci"])
    errors = [one for one in answer.items if one["severity"] == "error"]
    assert {one["file"] for one in errors} == {"bad"}
    assert errors[0]["line"] == 1
    good = await api.ask("POST", "/policies/check", {"policies": GOOD}, who="viewer")
    assert (good.json["is_usable"], good.json["error_count"]) == (True, 0)


async def test_it_says_what_it_does(api: Api):
    (row,) = (await api.ask("POST", "/policies/describe", {"policies": GOOD})).items
    assert row["name"] == "ci"
    assert any("30 days" in sentence for sentence in row["sentences"])
    assert row["policy"]["metadata"]["name"] == "ci"
    assert (await api.ask("POST", "/policies/describe", {"policies": {"x": "a: 1"}})).json["code"] == "bad-policy"


async def test_the_schema(api: Api):
    answer = await api.get("/policies/schema", who="viewer")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/schema+json")
    assert "$schema" in answer.json


async def test_why_a_tag_goes(api: Api):
    api.people.add("app", Role.VIEWER, area(("prod",), ("team/app",)))
    asked = {"reference": "prod/team/app:1.0.0", "policies": GOOD}
    for who in ("viewer", "app"):
        found = (await api.ask("POST", "/policies/explain", asked, who=who)).json
        assert (found["subject"], found["explanation"]["tag"]) == ("prod/team/app:1.0.0", "1.0.0")
    hidden = [
        (await api.ask("POST", "/policies/explain", {**asked, "reference": one}, who="web")).json
        for one in ("prod/team/app:1.0.0", "prod/team/nothing:1.0.0")
    ]
    assert [one["code"] for one in hidden] == ["unknown-reference", "unknown-reference"]
    elsewhere = await api.ask(
        "POST", "/policies/explain", {**asked, "registry": "other", "reference": "team/app:1"}, who="web"
    )
    assert (elsewhere.status, elsewhere.json["code"]) == (404, "unknown-registry")
    assert "other" not in elsewhere.json["hint"]


async def test_what_it_would_have_done(api: Api):
    refused = await api.ask("POST", "/policies/backtest", {"policies": {}}, who="viewer")
    assert (refused.status, refused.json["errors"][0]["field"]) == (400, "policies")
    begun = await api.ask("POST", "/policies/backtest", {"policies": GOOD, "since": "30d"}, who="viewer")
    found = await ended(api, begun, who="viewer")
    # The inventory is minutes old: there is no history yet.
    assert (found["state"], found["error"]["code"]) == ("failed", "bad-backtest")


@pytest.mark.parametrize("text", ["x" * (1024 * 1024 + 1), "\ud800", "a: &a [*a, *a]", "[" * 50_000])
async def test_hostile_texts(api: Api, text: str):
    import json

    body = json.dumps({"policies": {"x": text}}).encode()
    answer = await api.ask("POST", "/policies/check", body, headers={"Content-Type": "application/json"})
    assert answer.status in (200, 400)
    if answer.status == 200:
        assert answer.json["is_usable"] is False


async def test_another_systems_rules_are_translated(api: Api):
    rules = '{"rules": [{"rulePriority": 1, "selection": {"tagStatus": "untagged", "countType": "sinceImagePushed",\
 "countUnit": "days", "countNumber": 14}, "action": {"type": "expire"}}]}'
    found = await api.ask("POST", "/policies/import", {"text": rules, "repositories": ["team/app"]}, who="viewer")
    assert (found.status, found.json["from"]) == (200, "ecr")
    assert {"severity", "code", "path", "message"} == set(found.json["differences"][0])
    read = await api.ask("POST", "/policies/check", {"policies": {"ecr": found.json["policies"]}})
    assert read.json["is_usable"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"text": "{}", "from": "nowhere"}, "from"),
        ({"text": "{", "from": "ecr"}, "text"),
        ({"text": "{}", "from": "ecr", "repositories": ["re:("]}, "repositories"),
        ({"text": "{}", "system": "ecr"}, "system"),
        ({}, "text"),
    ],
)
async def test_rules_that_cannot_be_translated_name_what_is_wrong(api: Api, body: dict[str, object], field: str):
    answer = await api.ask("POST", "/policies/import", body)
    assert (answer.status, answer.json["errors"][0]["field"]) == (400, field), answer.body


async def test_the_example_is_a_policy(api: Api):
    answer = await api.get("/policies/example", who="viewer")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/yaml")
    checked = await api.ask("POST", "/policies/check", {"policies": {"example": answer.body.decode()}})
    assert (checked.json["is_usable"], checked.json["warning_count"]) == (True, 0)
