"""Who may ask gitlab-registry-usage-rest: the answers of /auth_token, and every token that must not be accepted."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from regwarden.core.access import Area, Grant, Role
from regwarden.core.patterns import parse_pattern
from regwarden.core.robot_tokens import build_token
from regwarden.core.role_rules import SignedIn
from regwarden.errors import Unauthorized
from regwarden.identity.random_texts import random_token
from regwarden.store.access_schema import sessions, signing_keys
from regwarden.store.audit import AuditFilter, list_audit
from regwarden.store.database import Access, Database, open_database
from regwarden.store.sessions import end_session, list_sessions
from regwarden.store.tokens import NewToken, save_token
from regwarden.web.compat.gitlab_rest_tokens import INTERFACE
from tests.web.compat.gitlab_rest_server import NOW, GitlabRest, basic, fill, opened

MISSING_BEARER = "Missing 'Bearer' type in 'Authorization' header. Expected 'Authorization: Bearer <JWT>'"
BAD_BEARER = "Bad Authorization header. Expected 'Authorization: Bearer <JWT>'"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with open_database(f"sqlite:///{tmp_path / 'x.sqlite3'}", access=Access.WRITE, create=True) as database:
        database.write_now(fill)
        yield database


@pytest.fixture
async def rest(database: Database) -> AsyncIterator[GitlabRest]:
    async with opened(database) as rest:
        yield rest


def part(token: str, number: int) -> dict[str, Any]:
    text = token.split(".")[number]
    decoded: dict[str, Any] = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return decoded


def forged(header: dict[str, Any], claims: dict[str, Any], key: bytes) -> str:
    parts = [base64.urlsafe_b64encode(json.dumps(one).encode()).rstrip(b"=") for one in (header, claims)]
    text = b".".join(parts)
    signature = base64.urlsafe_b64encode(hmac.new(key, text, hashlib.sha256).digest()).rstrip(b"=")
    return f"{text.decode()}.{signature.decode()}"


def make_robot(database: Database, grants: tuple[Grant, ...]) -> str:
    parts = random_token()
    new = NewToken(
        public_id=parts.public_id,
        name=parts.public_id,
        secret_sha256=parts.secret_sha256,
        grants=grants,
        made_by="root",
        expires_at=NOW + timedelta(days=1),
    )
    database.write_now(lambda connection: save_token(connection, new, NOW))
    return build_token(parts)


async def test_a_token_has_the_predecessors_claims_and_two_weeks(rest: GitlabRest) -> None:
    answer = await rest.ask("/auth_token", headers=basic("Alice", "ecilA"))
    assert (answer.status, answer.headers["content-type"], list(answer.json)) == (
        200,
        "application/json",
        ["auth_token"],
    )
    assert answer.headers["cache-control"] == "no-store"
    token = answer.json["auth_token"]
    header, claims = part(token, 0), part(token, 1)
    assert (header.pop("kid") != "", header) == (True, {"alg": "HS256", "typ": "JWT"})
    moment = int(NOW.timestamp())
    assert len(claims.pop("jti")) == 36
    assert claims == {
        "fresh": False,
        "iat": moment,
        "nbf": moment,
        "exp": moment + 1_209_600,
        "type": "access",
        "sub": "alice",
        "grants": [{"role": "viewer"}],
    }


async def test_its_lifetime_is_configured_and_then_it_has_expired(database: Database) -> None:
    async with opened(database, lifetime="90m") as rest:
        headers = {"Authorization": f"Bearer {await rest.token()}"}
        rest.clock.now = NOW + timedelta(minutes=89)
        assert (await rest.ask("/repositories", headers=headers)).status == 200
        rest.clock.now = NOW + timedelta(minutes=91)
        answer = await rest.ask("/repositories", headers=headers)
        assert (answer.status, answer.json) == (401, {"msg": "Token has expired"})


async def test_a_token_is_a_session_that_can_be_ended(database: Database, rest: GitlabRest) -> None:
    token = await rest.token()
    (session,) = database.read_now(lambda connection: list_sessions(connection, living_at=NOW))
    assert (session.interface, session.provider, session.login) == (INTERFACE, "ldap", "uid=alice")
    assert (session.public_id, session.expires_at) == (part(token, 1)["jti"], NOW + timedelta(weeks=2))
    assert (session.principal.subject, session.made_from) == ("ldap:alice-uuid", "10.1.2.3")
    (recorded,) = database.read_now(lambda connection: list_audit(connection, AuditFilter()))
    assert (recorded.principal, recorded.action) == ("alice", "sign-in")
    database.write_now(lambda connection: end_session(connection, session.public_id, "lost", NOW))
    await rest.authentication.reload()
    answer = await rest.ask("/repositories", headers={"Authorization": f"Bearer {token}"})
    assert (answer.status, answer.json) == (401, {"msg": "Token has been revoked"})


async def test_it_is_limited_to_this_interface(rest: GitlabRest) -> None:
    with pytest.raises(Unauthorized):
        await rest.authentication.principal_of(await rest.token(), "10.1.2.3")


@pytest.mark.parametrize(
    ("authorization", "status", "message"),
    [
        (None, 401, "Missing Authorization Header"),
        ("", 401, "Missing Authorization Header"),
        ("Basic YTpi", 401, MISSING_BEARER),
        ("bearer TOKEN", 401, MISSING_BEARER),
        ("Bearer TOKEN, Bearer TOKEN", 401, MISSING_BEARER),
        ("Bearer", 422, BAD_BEARER),
        ("Bearer a b", 422, BAD_BEARER),
        ("Bearer x", 422, "Not enough segments"),
        ("Bearer x.y", 422, "Not enough segments"),
        ("Bearer TOKENx", 422, "Signature verification failed"),
        ("Bearer a.b.c", 422, "Signature verification failed"),
        ("Bearer ey.b.c", 422, "Signature verification failed"),
        ("Bearer rgw_000000000000_x", 401, "Token is not valid"),
    ],
)
async def test_what_is_no_token_of_ours(rest: GitlabRest, authorization: str | None, status: int, message: str) -> None:
    headers = {}
    if authorization is not None:
        headers["Authorization"] = authorization.replace("TOKEN", await rest.token())
    for path in ("/repositories", "/images/nope/tags"):
        answer = await rest.ask(path, headers=headers)
        assert (answer.status, answer.headers["content-type"]) == (status, "application/json")
        assert answer.json == {"msg": message}


async def test_a_bearer_may_stand_beside_another_scheme(rest: GitlabRest) -> None:
    headers = {"Authorization": f"Basic x, Bearer {await rest.token()}"}
    assert (await rest.ask("/repositories", headers=headers)).status == 200


async def test_forged_tokens_are_never_accepted(database: Database, rest: GitlabRest) -> None:
    token = await rest.token()
    header, claims = part(token, 0), part(token, 1)
    query = select(signing_keys.c.private_key).where(signing_keys.c.kid == header["kid"])
    key = json.loads(database.read_now(lambda connection: connection.execute(query).scalar_one()))
    secret = base64.urlsafe_b64decode(key["k"] + "==")
    good = forged(header, claims, secret)
    assert (await rest.ask("/repositories", headers={"Authorization": f"Bearer {good}"})).status == 200
    wrong = [
        forged({**header, "alg": "none"}, claims, secret),
        forged({**header, "alg": "HS384"}, claims, secret),
        forged({**header, "kid": "other"}, claims, secret),
        forged({**header, "typ": "at+jwt"}, claims, secret),
        forged({**header, "jwk": key}, claims, secret),
        forged({name: value for name, value in header.items() if name != "kid"}, claims, secret),
        forged(header, claims, b"0" * 32),
        forged(header, {**claims, "type": "refresh"}, secret),
        forged(header, {**claims, "grants": [{"role": "god"}]}, secret),
        forged(header, {**claims, "grants": None}, secret),
        forged(header, {**claims, "nbf": claims["nbf"] + 3600}, secret),
        *(forged(header, {key: value for key, value in claims.items() if key != name}, secret) for name in claims),
        f"{good.rsplit('.', 1)[0]}.",
    ]
    for one in wrong:
        answer = await rest.ask("/repositories", headers={"Authorization": f"Bearer {one}"})
        assert (answer.status, list(answer.json)) == (422, ["msg"]), part(one, 0)


async def test_after_the_key_has_changed_old_tokens_still_count(rest: GitlabRest) -> None:
    rest.clock.now = NOW + timedelta(days=25)
    token = await rest.token()
    rest.clock.now = NOW + timedelta(days=35)
    await rest.authentication.reload()
    assert part(await rest.token(), 0)["kid"] != part(token, 0)["kid"]
    assert (await rest.ask("/repositories", headers={"Authorization": f"Bearer {token}"})).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        basic("alice", "wrong"),
        basic("alice", ""),
        basic("", "x"),
        basic("nobody", "ydobon"),  # signs in, and has no role
        basic("stranger", "regnarts"),  # has a role, elsewhere
        basic("a" * 300, "a" * 300),
        {"Authorization": "Basic !!"},
        {"Authorization": "Basic YWxpY2U="},
        {"Authorization": "Bearer x"},
    ],
)
async def test_no_token_without_the_right_password_and_a_role(rest: GitlabRest, headers: dict[str, str]) -> None:
    answer = await rest.ask("/auth_token", headers=headers)
    assert (answer.status, answer.body) == (401, b"Unauthorized Access")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["www-authenticate"] == 'Basic realm="Authentication Required"'
    assert "" not in rest.directory.asked


async def test_an_empty_password_never_reaches_the_directory(rest: GitlabRest) -> None:
    await rest.ask("/auth_token", headers=basic("alice", ""))
    assert rest.directory.asked == []


async def test_names_and_passwords_with_other_letters(rest: GitlabRest, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    async def sign_in(username: str, password: str) -> SignedIn:
        asked.append((username, password))
        return SignedIn("ldap", "ldap:1", "alice")

    monkeypatch.setattr(rest.directory, "sign_in", sign_in)
    for encoded in ("käthe:pass:wört".encode(), "käthe:pass:wört".encode("latin-1")):
        header = f"Basic {base64.b64encode(encoded).decode()}"
        assert (await rest.ask("/auth_token", headers={"Authorization": header})).status == 200
    assert asked == [("käthe", "pass:wört")] * 2


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 300])
async def test_names_that_cannot_be_written_down_get_no_token(
    rest: GitlabRest, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    async def sign_in(*_: str) -> SignedIn:
        return SignedIn("ldap", "ldap:1", name)

    monkeypatch.setattr(rest.directory, "sign_in", sign_in)
    assert (await rest.ask("/auth_token", headers=basic("alice", "ecila"))).status == 401


async def test_while_the_directory_is_down_it_is_503_and_tokens_count_on(rest: GitlabRest) -> None:
    token = await rest.token()
    rest.directory.is_down = True
    answer = await rest.ask("/auth_token", headers=basic("alice", "ecila"))
    assert (answer.status, "retry-after" in answer.headers) == (503, True)
    assert (await rest.ask("/repositories", headers={"Authorization": f"Bearer {token}"})).status == 200


async def test_guessing_passwords_comes_to_an_end(rest: GitlabRest) -> None:
    statuses = [(await rest.ask("/auth_token", headers=basic("alice", f"x{n}"))).status for n in range(12)]
    assert statuses == [401] * 10 + [429] * 2
    answer = await rest.ask("/auth_token", headers=basic("alice", "ecila"))
    assert (answer.status, int(answer.headers["retry-after"]) > 0) == (429, True)
    assert len(rest.directory.asked) == 10


async def test_without_a_directory_nobody_gets_a_token(database: Database, rest: GitlabRest) -> None:
    object.__setattr__(rest.parts.tokens, "directory", None)
    assert (await rest.ask("/auth_token", headers=basic("alice", "ecila"))).status == 401
    assert database.read_now(lambda connection: connection.execute(select(sessions)).all()) == []


async def test_a_role_for_some_repositories_shows_these(rest: GitlabRest) -> None:
    token = await rest.token("root")
    assert part(token, 1)["grants"] == [
        {"role": "viewer", "registries": ["prod"], "repositories": ["glob:team/**"]}
    ]  # nothing of what an administrator may beside reading
    everything = (await rest.get("/repositories?embed=true&links=true", who="root")).json
    assert [one["name"] for one in everything["_embedded"]["items"]] == ["team/app"]
    assert [one["title"] for one in everything["_links"]["items"]] == ["team/app"]
    assert (await rest.get("/repositories/team/app/tags/1.0", who="root")).status == 200
    for path in ("/repositories/plain", "/repositories/plain/tags", "/repositories/denied/tags/x"):
        assert (await rest.get(path, who="root")).status == 404


async def test_robot_tokens_that_may_read_are_taken_too(database: Database, rest: GitlabRest) -> None:
    async def status_of(*grants: Grant) -> int:
        token = make_robot(database, grants)
        await rest.authentication.reload()
        return (await rest.ask("/repositories", headers={"Authorization": f"Bearer {token}"})).status

    assert await status_of(Grant(Role.VIEWER)) == 200
    assert await status_of(Grant(Role.VIEWER, Area(registries=(parse_pattern("prod"),)))) == 200
    assert await status_of(Grant(Role.VIEWER, Area(registries=(parse_pattern("other"),)))) == 403
    assert await status_of() == 403
