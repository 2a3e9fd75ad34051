"""Signing in over HTTP: a password becomes tokens, refresh tokens are good once, roles are asked for again."""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from joserfc import jws
from joserfc.jwk import OKPKey
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from regwarden.core.access import PrincipalKind, Role
from regwarden.core.robot_tokens import REFRESH, TokenParts, build_token, parse_token
from regwarden.errors import StoreError, Unauthorized
from regwarden.settings_access import AuthSettings
from regwarden.store.audit import AuditFilter, list_audit
from regwarden.store.sessions import list_sessions
from regwarden.web.attempts import Attempts
from regwarden.web.auth import AuthParts, build_auth
from regwarden.web.sign_ins import parse_lifetimes
from tests.web.conftest import Answer
from tests.web.signing_in import World, world


@dataclass
class Service:
    """The application under test and its world."""

    here: World
    app: ASGIApp

    async def post(
        self, path: str, body: Any = None, *, headers: dict[str, str] | None = None, client: str = "192.0.2.1"
    ) -> Answer:
        return await ask(self.app, "POST", path, body, headers=headers, client=client)

    async def sign_in(self, name: str = "ann", password: str = "right", **how: Any) -> Answer:
        return await self.post("/token", {"username": name, "password": password}, **how)

    async def refresh(self, token: str) -> Answer:
        return await self.post("/token", {"grant_type": "refresh_token", "refresh_token": token})

    async def is_accepted(self, token: str) -> bool:
        try:
            await self.here.authentication.principal_of(token, "")
        except Unauthorized:
            return False
        return True


async def ask(
    app: ASGIApp,
    method: str,
    path: str,
    body: Any = None,
    *,
    headers: dict[str, str] | None = None,
    client: str | None = "192.0.2.1",
) -> Answer:
    payload = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    messages = [{"type": "http.request", "body": payload, "more_body": False}]
    answer = Answer()

    async def receive() -> dict[str, Any]:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {key.decode().lower(): value.decode() for key, value in message["headers"]}
        else:
            answer.body += message.get("body", b"")

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()],
        "client": None if client is None else (client, 1),
    }
    await app(scope, receive, send)
    return answer


@pytest.fixture
async def service(tmp_path: Path) -> Any:
    with world(tmp_path) as here:
        await here.authentication.reload()
        parts = AuthParts(
            sign_ins=here.sign_ins,
            authentication=here.authentication,
            attempts=Attempts(lambda: here.clock().timestamp()),
            directory=here.directory,
            providers={"ldap": here.directory},
            routes=[Route("/other", lambda _request: PlainTextResponse("added"))],
        )
        yield Service(here, build_auth(parts))


def is_unkept(answer: Answer) -> bool:
    return answer.headers["cache-control"] == "no-store"


async def test_a_password_becomes_tokens(service: Service) -> None:
    answer = await service.sign_in()
    assert answer.status == 200
    assert is_unkept(answer)
    assert set(answer.json) == {"access_token", "token_type", "expires_in", "refresh_token", "refresh_expires_in"}
    assert (answer.json["token_type"], answer.json["expires_in"], answer.json["refresh_expires_in"]) == (
        "Bearer",
        900,
        28800,
    )
    principal = await service.here.authentication.principal_of(answer.json["access_token"], "")
    assert (principal.name, principal.kind) == ("ann", PrincipalKind.DIRECTORY)
    (entry,) = service.here.database.read_now(lambda connection: list_audit(connection, AuditFilter()))
    assert (entry.action, entry.principal, entry.detail["from"]) == ("sign-in", "ann", "192.0.2.1")


@pytest.mark.parametrize("how", ["form", "basic", "json without content type"])
async def test_a_password_may_be_sent_in_other_ways(service: Service, how: str) -> None:
    if how == "form":
        body = urlencode({"grant_type": "password", "username": "ann", "password": "right"}).encode()
        answer = await service.post(
            "/token", body, headers={"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
        )
    elif how == "basic":
        encoded = base64.b64encode(b"ann:right").decode()
        answer = await service.post("/token", headers={"Authorization": f"Basic {encoded}"})
    else:
        answer = await service.post("/token", b'{"username": "ann", "password": "right"}')
    assert answer.status == 200


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("ann", "wrong"),
        ("nobody", "right"),
        ("ann", ""),
        ("", ""),
        ("", "right"),
        (" ann", "right"),
        ("ann ", "right"),
        ("ann\n", "right"),
        ("ann\0", "right"),
        ("ann", "right\0"),
        ("a" * 257, "right"),
        ("ann", "p" * 1025),
    ],
)
async def test_whatever_is_wrong_the_answer_is_the_same(service: Service, name: str, password: str) -> None:
    answer = await service.sign_in(name, password)
    assert (answer.status, answer.json["code"]) == (401, "bad-login")
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert is_unkept(answer)
    assert "right" not in answer.body.decode()


@pytest.mark.parametrize("name", ["", " ann", "ann\0", "ann"])
async def test_an_empty_password_never_reaches_the_directory(service: Service, name: str) -> None:
    await service.sign_in(name, "")
    assert service.here.directory.asked == []


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"\xff",
        b'{"username": 1, "password": "x"}',
        b'{"username": "ann", "password": null}',
        b'{"username": "ann", "passwort": "right"}',
        b'{"password": "right"}',
        b'{"grant_type": "refresh_token"}',
        b'{"grant_type": "client_credentials"}',
        b"[" * 60_000,
    ],
)
async def test_bad_bodies_are_bad_requests_that_repeat_nothing(service: Service, body: bytes) -> None:
    answer = await service.post("/token", body)
    assert (answer.status, answer.json["code"]) == (400, "bad-request")
    assert "right" not in answer.body.decode()


async def test_repeated_fields_and_broken_basic_are_bad_requests(service: Service) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for body in (b"username=ann&username=bob&password=right", b"&".join(b"a=b" for _ in range(50)), b"x"):
        assert (await service.post("/token", body, headers=form)).status == 400
    for value in ("Basic ?", "Basic YQ==", "Basic /w=="):
        assert (await service.post("/token", headers={"Authorization": value})).status == 400
    for headers in ({}, {"Authorization": "Bearer x"}):
        answer = await service.post("/token", headers=headers)
        assert (answer.status, answer.json["code"]) == (401, "no-credentials")


async def test_a_large_body_is_refused_early(service: Service) -> None:
    assert (await service.post("/token", b"x" * 70_000)).status == 413


async def test_paths_and_methods_that_are_not_there(service: Service) -> None:
    assert (await ask(service.app, "GET", "/token")).status == 405
    answer = await ask(service.app, "GET", "/nothing")
    assert (answer.status, answer.headers["content-type"]) == (404, "application/problem+json")
    assert (await ask(service.app, "GET", "/other")).body == b"added"


async def test_somebody_without_a_role_is_told_so(service: Service) -> None:
    service.here.directory.change("bob", provider="elsewhere")
    service.here.sign_ins._rules = ()
    answer = await service.sign_in("bob")
    assert (answer.status, answer.json["code"]) == (403, "no-role")
    assert service.here.database.read_now(list_sessions) == []


async def test_a_name_that_cannot_be_shown_is_refused(service: Service) -> None:
    for fields in ({"name": "ann\x1b[2J"}, {"name": ""}, {"name": "a" * 300}, {"subject": ""}, {"subject": "l\n"}):
        service.here.directory.add("ann", "admins")
        service.here.directory.change("ann", **fields)
        assert (await service.sign_in("ann")).status == 401


async def test_too_many_failures_are_told_to_wait(service: Service) -> None:
    for _ in range(10):
        assert (await service.sign_in("ann", "wrong")).status == 401
    answer = await service.sign_in("ann", "right")
    assert (answer.status, answer.json["code"]) == (429, "too-many-attempts")
    assert 0 < int(answer.headers["retry-after"]) <= 300
    assert len(service.here.directory.asked) == 10, "the directory is not asked"
    assert (await service.sign_in("ann", "right", client="198.51.100.1")).status == 200
    service.here.clock.forward(minutes=5)
    assert (await service.sign_in("ann", "right")).status == 200


async def test_a_directory_that_is_down_is_no_failure_of_anybody(service: Service) -> None:
    service.here.directory.is_down = True
    for _ in range(12):
        answer = await service.sign_in()
        assert (answer.status, answer.json["code"]) == (503, "directory-unreachable")
        assert "retry-after" in answer.headers
    service.here.directory.is_down = False
    assert (await service.sign_in()).status == 200


async def test_a_refresh_gives_new_tokens_and_keeps_the_end_of_the_sign_in(service: Service) -> None:
    first = (await service.sign_in()).json
    service.here.clock.forward(minutes=10)
    second = (await service.refresh(first["refresh_token"])).json
    assert second["refresh_token"] != first["refresh_token"]
    assert second["refresh_expires_in"] == 28800 - 600
    service.here.clock.forward(minutes=10)
    assert not await service.is_accepted(first["access_token"])
    assert await service.is_accepted(second["access_token"])
    service.here.clock.forward(hours=7, minutes=30)
    third = (await service.refresh(second["refresh_token"])).json
    assert third["expires_in"] == third["refresh_expires_in"] == 600, "no token outlives its sign-in"
    service.here.clock.forward(minutes=10)
    answer = await service.refresh(third["refresh_token"])
    assert (answer.status, answer.json["code"]) == (401, "bad-refresh")


async def test_a_spent_refresh_token_ends_everything_of_its_family(service: Service) -> None:
    first = (await service.sign_in()).json
    other = (await service.sign_in()).json
    second = (await service.refresh(first["refresh_token"])).json
    answer = await service.refresh(first["refresh_token"])
    assert (answer.status, answer.json["code"]) == (401, "bad-refresh")
    assert (await service.refresh(second["refresh_token"])).status == 401
    for token in (first["access_token"], second["access_token"]):
        assert not await service.is_accepted(token)
    assert await service.is_accepted(other["access_token"]), "another sign-in of the same person goes on"


async def test_of_two_that_refresh_at_once_one_is_served_and_the_family_ends(service: Service) -> None:
    first = (await service.sign_in()).json
    answers = await asyncio.gather(*(service.refresh(first["refresh_token"]) for _ in range(2)))
    assert sorted(answer.status for answer in answers) == [200, 401]
    served = next(answer for answer in answers if answer.status == 200)
    assert (await service.refresh(served.json["refresh_token"])).status == 401


@pytest.mark.parametrize("change", ["", "x", "rgr_", "-1", "other family"])
async def test_a_wrong_refresh_token_is_refused_and_ends_nothing(service: Service, change: str) -> None:
    first = (await service.sign_in()).json["refresh_token"]
    wrong = first[:-1] if change == "-1" else change
    if change == "other family":
        spent = (await service.sign_in("bob")).json["refresh_token"]
        await service.refresh(spent)
        mixed = TokenParts(parse_token(first, REFRESH).public_id, parse_token(spent, REFRESH).secret)
        wrong = build_token(mixed, REFRESH)
    answer = await service.refresh(wrong)
    assert (answer.status, answer.json["code"]) == (401, "bad-refresh")
    assert (await service.refresh(first)).status == 200


async def test_roles_are_asked_for_again_at_each_refresh(service: Service) -> None:
    first = (await service.sign_in()).json
    service.here.directory.add("ann")
    second = (await service.refresh(first["refresh_token"])).json
    principal = await service.here.authentication.principal_of(second["access_token"], "")
    assert {grant.role for grant in principal.grants} == {Role.VIEWER}
    service.here.sign_ins._rules = ()
    answer = await service.refresh(second["refresh_token"])
    assert (answer.status, answer.json["code"]) == (403, "no-role")
    assert not await service.is_accepted(second["access_token"])


async def test_who_is_disabled_is_out_at_the_next_refresh(service: Service) -> None:
    first = (await service.sign_in()).json
    del service.here.directory.people["ann"]
    assert (await service.refresh(first["refresh_token"])).status == 401
    assert not await service.is_accepted(first["access_token"])
    service.here.directory.add("ann", "admins")
    assert (await service.refresh(first["refresh_token"])).status == 401


async def test_another_account_in_the_same_place_is_not_let_in(service: Service) -> None:
    first = (await service.sign_in()).json
    service.here.directory.change("ann", subject="ldap:new-entry")
    assert (await service.refresh(first["refresh_token"])).status == 401
    assert not await service.is_accepted(first["access_token"])


async def test_while_the_directory_is_down_nothing_is_refreshed_and_nothing_ends(service: Service) -> None:
    first = (await service.sign_in()).json
    service.here.directory.is_down = True
    assert (await service.refresh(first["refresh_token"])).status == 503
    service.here.directory.is_down = False
    assert (await service.refresh(first["refresh_token"])).status == 200


async def test_while_the_database_is_down_nobody_signs_in(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    async def gone(*_arguments: object) -> None:
        raise StoreError("the database at db.internal cannot be reached")

    first = (await service.sign_in()).json
    monkeypatch.setattr(service.here.database, "write", gone)
    monkeypatch.setattr(service.here.database, "read", gone)
    for answer in (await service.sign_in(), await service.refresh(first["refresh_token"])):
        assert answer.status == 503
        assert "db.internal" not in answer.body.decode()
    assert await service.is_accepted(first["access_token"])


@pytest.mark.parametrize("by", ["refresh", "access"])
async def test_signing_out_ends_all_tokens_of_the_sign_in(service: Service, by: str) -> None:
    first = (await service.sign_in()).json
    if by == "refresh":
        answer = await service.post("/revoke", {"refresh_token": first["refresh_token"]})
    else:
        answer = await service.post("/revoke", headers={"Authorization": f"Bearer {first['access_token']}"})
    assert (answer.status, answer.body) == (204, b"")
    assert is_unkept(answer)
    assert not await service.is_accepted(first["access_token"])
    assert (await service.refresh(first["refresh_token"])).status == 401
    assert (await service.post("/revoke", {"refresh_token": first["refresh_token"]})).status == 204


async def test_revoking_what_is_unknown_says_nothing(service: Service) -> None:
    assert (await service.post("/revoke", {"refresh_token": "x"})).status == 204
    assert (await service.post("/revoke")).status == 401
    assert (await service.post("/revoke", headers={"Authorization": "Bearer x.y.z"})).status == 401


async def test_a_spent_refresh_token_may_sign_out_too(service: Service) -> None:
    first = (await service.sign_in()).json
    second = (await service.refresh(first["refresh_token"])).json
    assert (await service.post("/revoke", {"refresh_token": first["refresh_token"]})).status == 204
    assert not await service.is_accepted(second["access_token"])


async def test_the_keys_verify_what_was_signed(service: Service) -> None:
    token = (await service.sign_in()).json["access_token"]
    answer = await ask(service.app, "GET", "/keys")
    assert answer.headers["content-type"] == "application/jwk-set+json"
    keys = {key["kid"]: key for key in answer.json["keys"]}
    assert len(keys) == 2
    assert all("d" not in key and "k" not in key for key in keys.values())
    header = json.loads(base64.urlsafe_b64decode(token.split(".")[0] + "=="))
    verified = jws.deserialize_compact(token, OKPKey.import_key(keys[header["kid"]]), algorithms=["Ed25519"])
    assert json.loads(verified.payload)["name"] == "ann"


async def test_without_a_directory_nobody_signs_in_with_a_password(service: Service) -> None:
    parts = AuthParts(sign_ins=service.here.sign_ins, authentication=service.here.authentication, attempts=Attempts())
    answer = await ask(build_auth(parts), "POST", "/token", {"username": "ann", "password": "right"})
    assert (answer.status, answer.json["code"]) == (401, "no-password-login")


async def test_a_sign_in_that_cannot_be_prolonged_ends_with_its_token(service: Service) -> None:
    who = service.here.directory.people["bob"]
    issued = await service.here.sign_ins.begin(who, kind=PrincipalKind.WORKLOAD, peer="", is_refreshable=False)
    assert set(issued.document()) == {"access_token", "token_type", "expires_in"}
    (session,) = service.here.database.read_now(list_sessions)
    assert (session.expires_at - service.here.clock()).total_seconds() == issued.expires_in_seconds == 900
    assert not service.here.database.read_now(lambda connection: list_audit(connection, AuditFilter()))
    assert issued.access_token not in repr(issued)


async def test_over_a_unix_socket_there_is_no_address(service: Service) -> None:
    body = {"username": "ann", "password": "right"}
    assert (await ask(service.app, "POST", "/token", body, client=None)).status == 200


def test_lifetimes_are_read() -> None:
    found = parse_lifetimes(AuthSettings())
    assert (found.access.total_seconds(), found.refresh.total_seconds()) == (900, 28800)
