"""Plans over HTTP: made, shown a page at a time, agreed to by people, and nobody's who may not see all of them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from regwarden.core.access import Principal, PrincipalKind, Role
from regwarden.library_tokens import make_token
from tests.web.api.conftest import Api, area
from tests.web.api.working import WAIVED, ended, make_plan, policy

TAGS = ["team/app:glob:1.*"]
TWO = policy("ci", "{repositories: {include: ['glob:team/**']}, registries: [prod]}", "two")


@pytest.fixture
async def people(api: Api) -> None:
    """Two signed-in approvers, one who may do everything about plans, and cleaners of a part."""
    for name in ("ann", "bob"):
        api.people.add(name, Role.APPROVER, kind=PrincipalKind.DIRECTORY)
    api.people.add("boss", Role.ADMIN, kind=PrincipalKind.DIRECTORY)
    api.people.add("app", Role.CLEANER, area(("prod",), ("team/app",)))
    api.people.add("apps", Role.CLEANER, area(("prod",), ("glob:team/**",)))
    api.people.add("web-cleaner", Role.CLEANER, area(("prod",), ("team/web",)))


async def test_a_plan_is_made_and_shown(api: Api, people: None):
    plan_id = await make_plan(api, tags=TAGS)
    shown = (await api.get(f"/plans/{plan_id}", who="viewer")).json
    assert (shown["id"], shown["state"], shown["made_by"], shown["manifest_count"]) == (plan_id, "open", "cleaner", 2)
    assert shown["_links"]["steps"] == {"href": f"/api/v1/plans/{plan_id}/steps"}
    assert [one["id"] for one in (await api.get("/plans?state=open")).items] == [plan_id]
    assert (await api.get("/plans?state=applied")).items == []
    audit = (await api.get(f"/audit?plan_id={plan_id}")).items
    assert [(one["action"], one["principal"]) for one in audit] == [("plan-create", "cleaner")]


async def test_that_repositories_are_dropped_is_asked_for_in_the_body(api: Api, people: None):
    plan_id = await make_plan(api, repositories=["team/web"], drops_repositories=True)
    shown = (await api.get(f"/plans/{plan_id}", who="viewer")).json
    assert shown["drops_repositories"] is True
    guards = (await api.get(f"/plans/{plan_id}/guards")).items
    assert "cannot-drop" in {one["code"] for one in guards}  # this registry is no GitLab


async def test_its_parts_are_paged(api: Api, people: None):
    plan_id = await make_plan(api, tags=TAGS)
    for part in ("steps", "verdicts"):
        whole = (await api.get(f"/plans/{plan_id}/{part}")).items
        found: list[Any] = []
        path = f"/plans/{plan_id}/{part}?limit=1"
        while path:
            page = await api.get(path)
            found += page.items
            path = page.json["_links"].get("next", {}).get("href", "").removeprefix("/api/v1")
        assert len(found) > 1
        assert found == whole
    removed = (await api.get(f"/plans/{plan_id}/verdicts?outcome=remove")).items
    assert {one["tag"] for one in removed} == {"1.0.0", "1.1.0"}
    assert (await api.get(f"/plans/{plan_id}/steps?state=done")).items == []
    assert (await api.get(f"/plans/{plan_id}/steps?repository=other")).items == []
    assert (await api.get(f"/plans/{plan_id}/guards")).status == 200
    for query in (
        "outcome=gone",
        "cursor=x",
        "cursor=WyJhIiwiYiIsLTFd",
        "cursor=WyJcdTAwMDAiLCIiLDBd",
        "repository=",
        "state=x",
    ):
        answer = await api.get(f"/plans/{plan_id}/verdicts?{query}")
        assert answer.status == 400, query
        assert answer.json["errors"][0]["field"] == query.partition("=")[0]


async def test_the_review_and_the_evidence(api: Api, people: None):
    plan_id = await make_plan(api, tags=TAGS)
    review = await api.get(f"/plans/{plan_id}/review")
    assert review.headers["content-type"].startswith("text/markdown")
    assert "| prod/team/app | `1.0.0` |" in review.body.decode()
    evidence = await api.get(f"/plans/{plan_id}/evidence")
    records = [json.loads(line) for line in evidence.body.splitlines()]
    assert [one["record"] for one in records[:1]] == ["plan"]
    assert {"verdict", "step", "audit"} <= {one["record"] for one in records}


async def test_by_policies_in_the_body(api: Api, people: None):
    plan_id = await make_plan(api, registry=None, policies={"ci.yaml": TWO})
    assert (await api.get(f"/plans/{plan_id}")).json["needed_approval_count"] == 2


@pytest.mark.parametrize(
    ("body", "field", "code"),
    [
        ({"tags": TAGS, "waive": ["everything"]}, "waive", "unknown-guard"),
        ({"tags": TAGS, "expires": "soon"}, "expires", None),
        ({"policies": {"ci.yaml": "name: ["}}, "policies", "bad-policy"),
        ({"policies": {"/etc/passwd": "root:x:0:0"}}, "policies", "bad-policy"),
        ({"policies": {"a\nb": TWO}}, None, "bad-request"),
        ({"policies": {"a": TWO}, "tags": TAGS}, "policies", "bad-selection"),
        ({"tags": ["1.0"]}, None, "bad-selection"),
        ({"tags": TAGS, "files": ["policy.yaml"]}, "files", "bad-request"),
        ({"tags": "team/app:1.0"}, "tags", "bad-request"),
        ({"registry": "http://127.0.0.1:1", "tags": TAGS}, None, "unknown-registry"),
        (b"{", None, "bad-request"),
    ],
)
async def test_what_cannot_be_understood_makes_nothing(api: Api, people: None, body, field, code):
    answer = await api.ask("POST", "/plans", body, who="cleaner")
    assert answer.status in (400, 404), answer.body
    if code is not None:
        assert answer.json["code"] == code
    if field is not None:
        assert answer.json["errors"][0]["field"] == field
    assert (await api.get("/operations")).items == []
    assert (await api.get("/plans")).items == []


async def test_whoever_may_not_see_all_of_a_plan_does_not_see_it(api: Api, people: None):
    both = await make_plan(api, repositories=["team/app", "team/web"])
    app = await make_plan(api, who="app", tags=TAGS)
    seen = {
        who: [one["id"] for one in (await api.get("/plans", who=who)).items] for who in ("viewer", "app", "web", "apps")
    }
    assert seen == {"viewer": [app, both], "app": [app], "web": [], "apps": [app, both]}
    for path in ("", "/steps", "/verdicts", "/guards", "/review", "/evidence"):
        hidden, missing = await api.get(f"/plans/{both}{path}", who="app"), await api.get(f"/plans/99{path}", who="app")
        assert (hidden.status, hidden.json["code"]) == (404, "plan-not-found") == (missing.status, missing.json["code"])
        assert (await api.get(f"/plans/{app}{path}", who="app")).status == 200
    for path in ("apply", "undo", "finish"):
        assert (await api.ask("POST", f"/plans/{both}/{path}", {}, who="app")).status == 404
        assert (await api.ask("POST", f"/plans/{app}/{path}", {}, who="web-cleaner")).status == 404
        assert (await api.ask("POST", f"/plans/{app}/{path}", {}, who="viewer")).status == 403
    for path in ("approve", "reject"):
        assert (await api.ask("POST", f"/plans/{app}/{path}", {}, who="app")).status == 403
    answer = await api.ask(
        "POST", "/policies/explain", {"reference": "prod/team/app:1.0.0", "plan_id": both}, who="app"
    )
    assert answer.json["code"] == "plan-not-found"


async def test_nobody_plans_for_what_is_not_theirs(api: Api, people: None):
    async def failure(who: str, **body: Any) -> tuple[str, str]:
        begun = await api.ask("POST", "/plans", {"probe": False, "waive": WAIVED, **body}, who=who)
        found = await ended(api, begun, who=who)
        return found["state"], found.get("error", {}).get("code", "")

    assert await failure("app", policies={"all": policy("all")}) == ("failed", "outside-reach")
    assert await failure("app", registry="prod", repositories=["glob:team/**"]) == ("failed", "outside-reach")
    assert await failure("app", registry="prod", repositories=["team/web"]) == ("failed", "outside-reach")
    # What is written decides, and not what there is: nobody learns by asking which names are taken.
    for name in ("team/web", "team/absent", "glob:team/a*", "glob:absent/**"):
        assert await failure("app", registry="prod", repositories=[name]) == ("failed", "outside-reach")
        assert await failure("app", registry="prod", tags=[f"{name}:glob:1.*"]) == ("failed", "outside-reach")
    assert await failure("apps", policies={"all": policy("all")}) == ("failed", "outside-reach")
    assert await failure("apps", policies={"ours": TWO}) == ("done", "")
    # A registry of which nothing may be seen is as one that is not there.
    begun = await api.ask("POST", "/plans", {"registry": "other", "tags": TAGS}, who="app")
    assert (begun.status, begun.json["code"]) == (404, "unknown-registry")
    assert "other" not in begun.json["hint"]
    assert [one["title"] for one in (await api.get("/plans")).items] == ["ci"]


async def test_who_made_the_token_with_which_a_plan_was_made_does_not_count(api: Api, people: None):
    make_token(api.database, name="own-robot", grants=[{"role": "admin"}], expires=None, principal="Ann")
    make_token(api.database, name="robots-robot", grants=[{"role": "admin"}], expires=None, principal="own-robot")
    api.people.add("robots-robot", Role.ADMIN)
    plan_id = await make_plan(api, who="robots-robot", registry=None, policies={"ci.yaml": TWO})
    answer = await api.ask("POST", f"/plans/{plan_id}/approve", who="ann")
    assert (answer.status, answer.json["code"]) == (403, "own-plan")
    assert (await api.ask("POST", f"/plans/{plan_id}/approve", who="bob")).status == 200


async def test_a_job_and_the_person_with_its_subject_are_one(api: Api, people: None):
    subject = "0001"
    api.people.add(subject, Role.ADMIN, kind=PrincipalKind.WORKLOAD)
    eve = api.people.add("eve", Role.APPROVER, kind=PrincipalKind.OIDC)
    api.people.principals["eve"] = replace(eve, id=f"oidc:https://idp.example.com:{subject}")
    plan_id = await make_plan(api, who=subject, registry=None, policies={"ci.yaml": TWO})
    answer = await api.ask("POST", f"/plans/{plan_id}/approve", who="eve")
    assert (answer.status, answer.json["code"]) == (403, "own-plan")


async def test_two_people_agree_each_once_and_not_who_made_it(api: Api, people: None):
    plan_id = await make_plan(api, who="boss", registry=None, policies={"ci.yaml": TWO})

    async def agree(who: str) -> tuple[int, Any]:
        answer = await api.ask("POST", f"/plans/{plan_id}/approve", who=who)
        return answer.status, answer.json.get("missing_approval_count", answer.json.get("code"))

    assert await agree("approver") == (200, 2)  # a robot token
    assert await agree("boss") == (403, "own-plan")
    assert await agree("ann") == (200, 1)
    assert await agree("ann") == (200, 1)
    # Another session, another spelling: the same person.
    ann = api.people.principals["ann"]
    api.people.add("Ann", Role.APPROVER, kind=PrincipalKind.DIRECTORY)
    api.people.principals["Ann"] = ann
    assert await agree("Ann") == (200, 1)
    begun = await api.ask("POST", f"/plans/{plan_id}/apply", {}, who="boss")
    assert (await ended(api, begun))["error"]["code"] == "plan-approvals"
    assert await agree("bob") == (200, 0)
    approvals = (await api.get(f"/plans/{plan_id}")).json["approvals"]
    assert {(one["principal"], one["name"], one["kind"]) for one in approvals} == {
        ("token:approver", "approver", "program"),
        ("directory:ann", "ann", "signed-in"),
        ("directory:bob", "bob", "signed-in"),
    }
    audit = (await api.get(f"/audit?plan_id={plan_id}&action=plan-approve&principal=bob")).items
    assert [one["detail"]["id"] for one in audit] == ["directory:bob"]


async def test_the_socket_signs_nobody_in(api: Api, people: None):
    from regwarden.web.control import Tell

    plan_id = await make_plan(api, registry=None, policies={"ci.yaml": TWO})
    for name in ("ann", "directory:ann", "bob"):
        await api.parts.commands["plan-approve"]({"plan_id": plan_id, "principal": name}, Tell())
    shown = (await api.get(f"/plans/{plan_id}")).json
    assert (shown["missing_approval_count"], {one["kind"] for one in shown["approvals"]}) == (2, {"os-user"})


async def test_one_is_enough_where_one_is_wanted_and_the_fingerprint_holds(api: Api, people: None):
    plan_id = await make_plan(api, who="boss", tags=TAGS)
    wrong = await api.ask("POST", f"/plans/{plan_id}/approve", {"fingerprint": "sha256:0"}, who="ann")
    assert (wrong.status, wrong.json["code"]) == (409, "plan-fingerprint")
    right = (await api.get(f"/plans/{plan_id}")).json["fingerprint"]
    answer = await api.ask("POST", f"/plans/{plan_id}/approve", {"fingerprint": right}, who="boss")
    assert (answer.status, answer.json["missing_approval_count"]) == (200, 0)


async def test_a_refused_plan_is_never_applied(api: Api, people: None):
    plan_id = await make_plan(api, tags=TAGS)
    assert (await api.ask("POST", f"/plans/{plan_id}/reject", {"reason": "still in use"}, who="ann")).status == 200
    assert (await api.ask("POST", f"/plans/{plan_id}/approve", {}, who="ann")).json["code"] == "plan-state"
    audit = (await api.get("/audit?action=plan-reject")).items
    assert [(one["principal"], one["detail"]) for one in audit] == [("ann", {"reason": "still in use"})]


async def test_only_administrators_run_commands_on_the_machine(api: Api, people: None):
    plan_id = await make_plan(api, tags=TAGS)
    refused = await api.ask("POST", f"/plans/{plan_id}/finish", {"runs_command": True}, who="cleaner")
    assert refused.status == 403
    begun = await api.ask("POST", f"/plans/{plan_id}/finish", {"runs_command": True}, who="boss")
    assert (await ended(api, begun))["error"]["code"] == "plan-state"
    for path, body, field in (("apply", {"waive": ["x"]}, "waive"), ("undo", {"only": ["a b"]}, "only")):
        answer = await api.ask("POST", f"/plans/{plan_id}/{path}", body, who="cleaner")
        assert (answer.status, answer.json["errors"][0]["field"]) == (400, field)


async def test_one_name_in_two_directories_may_be_one_person(api: Api, people: None):
    plan_id = await make_plan(api, registry=None, policies={"ci.yaml": TWO})
    grants = api.people.principals["ann"].grants
    for who, missing in (("ldap:1", 1), ("oidc:https://id.test:2", 1)):
        api.people.principals["someone"] = Principal(id=who, name="Ann", kind=PrincipalKind.OIDC, grants=grants)
        answer = await api.ask("POST", f"/plans/{plan_id}/approve", who="someone")
        assert (answer.status, answer.json["missing_approval_count"]) == (200, missing)
