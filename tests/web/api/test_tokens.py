"""Over HTTP: who I am, tokens that may do no more than who makes them, sign-ins of one's own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from regwarden.core.access import PrincipalKind, Role
from regwarden.core.robot_tokens import parse_token
from regwarden.store.sessions import NewSession, SignedInAs, save_session

VIEWER = {"name": "ci", "grants": [{"role": "viewer", "repositories": ["glob:team/**"]}]}


def begin(api: Any, public_id: str, subject: str) -> None:
    now = datetime.now(UTC)
    who = SignedInAs(subject=subject, kind="directory", name=subject[10:])
    new = NewSession(
        public_id=public_id, principal=who, provider="ldap", login="x", expires_at=now + timedelta(hours=1)
    )
    api.database.write_now(lambda connection: save_session(connection, new, now))


async def test_somebody_learns_who_they_are(api: Any) -> None:
    answer = await api.get("/me", who="web")
    assert answer.status == 200
    assert answer.json["name"] == "web"
    assert answer.json["grants"] == [{"role": "viewer", "registries": ["prod"], "repositories": ["team/web"]}]
    assert "inventory:read" in answer.json["permissions"]
    assert "tokens:manage" not in answer.json["permissions"]
    assert (await api.get("/me", who=None)).status == 401


async def test_a_token_is_made_listed_and_revoked(api: Any) -> None:
    answer = await api.ask("POST", "/tokens", {**VIEWER, "expires": "1d"})
    assert answer.status == 201, answer.body
    assert answer.headers["cache-control"] == "no-store"
    made = answer.json
    assert parse_token(made["token"]).public_id == made["id"]
    assert answer.headers["location"] == made["_links"]["self"]["href"] == f"/api/v1/tokens/{made['id']}"
    (listed,) = (await api.get("/tokens")).items
    assert (listed["name"], listed["made_by"], listed["grants"]) == ("ci", "admin", VIEWER["grants"])
    assert "token" not in listed
    assert (await api.get(f"/tokens/{made['id']}")).json["name"] == "ci"
    assert (await api.ask("DELETE", f"/tokens/{made['id']}")).status == 204
    assert (await api.ask("DELETE", f"/tokens/{made['id']}")).status == 404
    assert (await api.get("/tokens")).items == []
    assert [one["revoked_by"] for one in (await api.get("/tokens?ended=true")).items] == ["admin"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "bad-request"),
        ({"name": "ci", "grants": []}, "bad-request"),
        ({**VIEWER, "more": 1}, "bad-request"),
        ({"name": "ci", "grants": [{"role": "viewer", "repository": []}]}, "bad-request"),
        ({"name": "ci", "grants": [{"role": "king"}]}, "bad-grant"),
        ({"name": "c i", "grants": [{"role": "viewer"}]}, "bad-token-request"),
        ({**VIEWER, "expires": "10000d"}, "bad-token-request"),
        ({**VIEWER, "expires": "soon"}, ""),
    ],
)
async def test_bad_requests_make_nothing(api: Any, body: dict[str, Any], code: str) -> None:
    answer = await api.ask("POST", "/tokens", body)
    assert answer.status == 400, answer.body
    assert code in answer.json["code"]
    assert (await api.get("/tokens")).items == []


async def test_a_name_that_is_taken_is_a_conflict(api: Any) -> None:
    assert (await api.ask("POST", "/tokens", VIEWER)).status == 201
    answer = await api.ask("POST", "/tokens", VIEWER)
    assert (answer.status, answer.json["code"]) == (409, "token-exists")


@pytest.mark.parametrize("who", ["viewer", "operator", "cleaner", "approver", "nobody", "web"])
async def test_only_administrators_manage_tokens(api: Any, who: str) -> None:
    assert (await api.ask("POST", "/tokens", VIEWER, who=who)).status == 403
    assert (await api.get("/tokens", who=who)).status == 403
    assert (await api.ask("DELETE", "/tokens/abc", who=who)).status == 403


async def test_sign_ins_of_others_are_hidden(api: Any) -> None:
    for name in ("ann", "bob"):
        api.people.add(name, Role.VIEWER, kind=PrincipalKind.DIRECTORY)
        begin(api, f"s{name}", f"directory:{name}")
    assert [one["id"] for one in (await api.get("/sessions", who="ann")).items] == ["sann"]
    assert [one["id"] for one in (await api.get("/sessions")).items] == ["sann", "sbob"]
    assert (await api.ask("DELETE", "/sessions/sbob", who="ann")).status == 404
    assert (await api.ask("DELETE", "/sessions?principal=directory:bob", who="ann")).status == 403
    assert (await api.ask("DELETE", "/sessions/sann", who="ann")).status == 204
    assert (await api.ask("DELETE", "/sessions?principal=directory:bob")).status == 204
    assert (await api.get("/sessions")).items == []
    ended = (await api.get("/sessions?ended=true", who="ann")).items
    assert [one["ended_reason"] for one in ended] == ["ended by ann"]


async def test_all_sign_ins_of_ones_own_are_ended(api: Any) -> None:
    api.people.add("ann", Role.VIEWER, kind=PrincipalKind.DIRECTORY)
    for public_id in ("s1", "s2"):
        begin(api, public_id, "directory:ann")
    assert (await api.ask("DELETE", "/sessions", who="ann")).status == 204
    assert (await api.get("/sessions", who="ann")).items == []
