"""The issuer against the tables of who is granted what, what a token holds, and which refusals are errors."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.gitlab_double.issuer import DENIED_LOGIN, Issuer
from tests.gitlab_double.keys import read_signed
from tests.gitlab_double.memory_view import MemoryView
from tests.gitlab_double.rails import build_rails
from tests.gitlab_double.recording import Fault, FaultKind, FaultPlan, Recording
from tests.gitlab_double.scenario import sample

ALL = "pull,push,delete,*"


class Tokens:
    """The issuer in this loop."""

    def __init__(self) -> None:
        self.scenario, self.recording, self.faults = sample(), Recording(), FaultPlan()
        self.issuer = Issuer(self.scenario)
        app = build_rails(self.scenario, MemoryView(), self.recording, self.faults, issuer=self.issuer)
        self.client: TestClient[Any, Any] = TestClient(TestServer(app))

    async def ask(self, login: tuple[str, str] | None, *scopes: str, service: str = "container_registry") -> Any:
        """Status and document."""
        headers = {} if login is None else {"Authorization": aiohttp.encode_basic_auth(*login)}
        query = [("service", service), *(("scope", scope) for scope in scopes)]
        async with self.client.get("/jwt/auth", params=query, headers=headers) as answer:
            is_json = answer.content_type == "application/json"
            return answer.status, (await answer.json() if is_json else await answer.text())

    def login(self, name: str) -> tuple[str, str]:
        user = {"job": "gitlab-ci-token", "deploy": "deploy"}.get(name, "anything")
        return user, self.scenario.secrets[name]

    async def access(self, name: str, *scopes: str) -> dict[str, Any]:
        """The granted actions by name."""
        status, found = await self.ask(self.login(name), *scopes)
        assert (status, list(found)) == (200, ["token"]), found
        return {entry["name"]: entry["actions"] for entry in read_signed(found["token"])["access"]}


@pytest.fixture
async def tokens() -> AsyncIterator[Tokens]:
    found = Tokens()
    async with found.client:
        yield found


@pytest.mark.parametrize(
    ("name", "granted"),
    {
        "admin": ALL,
        "admin-read": "pull",
        "admin-read_registry": "pull",
        "maintainer": ALL,
        "developer": "pull,push",
        "reporter": "pull",
        "reporter-api": "pull",
        "guest": "",
        "ann": "",
        "read_api": "pull",
        "read_registry": "pull",
        "write_registry": "push",
        "job": "pull,push,delete",
        "deploy": "pull",
    }.items(),
)
async def test_who_gets_what_and_the_rest_is_dropped_silently(tokens: Tokens, name: str, granted: str) -> None:
    found = await tokens.access(name, f"repository:team/app:{ALL}", "registry:catalog:*")
    assert ",".join(found.pop("team/app", [])) == granted
    assert found == ({"catalog": ["*"]} if name.startswith("admin") else {})


async def test_scopes_are_repeated_and_spaced(tokens: Tokens) -> None:
    scopes = ["repository:team/app:pull repository:team/web-ui:pull,delete", "repository:open/pub:pull"]
    found = await tokens.access("maintainer", *scopes)
    assert found == {"team/app": ["pull"], "team/web-ui": ["pull", "delete"], "open/pub": ["pull"]}
    assert tokens.recording.requests[-1].scopes == (*scopes[0].split(), scopes[1])
    for other in ("repository:team/app/*:pull", "repository:nobody/there:pull", "repository:Team/app:pull", "odd"):
        assert await tokens.access("admin", other) == {}
    assert await tokens.access("admin", "registry:statistics:*", "registry:catalog:pull") == {}
    assert await tokens.access("admin", "repository:team/app/a/b:pull") == {"team/app/a/b": ["pull"]}
    assert await tokens.access("admin", "repository:team/app/a/b/c:pull") == {}
    assert await tokens.access("job", f"repository:open/pub:{ALL}") == {"open/pub": ["pull"]}


async def test_what_a_token_holds(tokens: Tokens) -> None:
    _, found = await tokens.ask(tokens.login("maintainer"), "repository:team/web-ui:pull")
    header = json.loads(base64.urlsafe_b64decode(found["token"].split(".")[0] + "=="))
    certificate = x509.load_pem_x509_certificate(tokens.issuer.certificate_pem)
    der = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    name = base64.b32encode(hashlib.sha256(der).digest()[:30]).decode()
    assert header == {"typ": "JWT", "alg": "RS256", "kid": ":".join(name[at : at + 4] for at in range(0, 48, 4))}
    claims = read_signed(found["token"])
    assert set(claims) == {"access", "aud", "iss", "sub", "iat", "nbf", "exp", "jti", "auth_type", "user"}
    assert (claims["aud"], claims["iss"], claims["sub"]) == ("container_registry", "gitlab-issuer", "mia")
    assert (claims["iat"] - claims["nbf"], claims["exp"] - claims["iat"]) == (5, 300)
    assert isinstance(claims["exp"], int)
    assert UUID(claims["jti"]).version == 4
    assert claims["auth_type"] == "personal_access_token"
    assert read_signed(claims["user"])["user_info"] == {
        "token_type": "personal_access_token",
        "username": "mia",
        "user_id": 2,
    }
    assert claims["access"] == [
        {
            "type": "repository",
            "name": "team/web-ui",
            "actions": ["pull"],
            "meta": {
                "project_path": "team/web-ui",
                "project_id": 102,
                "root_namespace_id": 11,
                "tag_deny_access_patterns": {"push": [], "delete": [r"^v\d+"]},
            },
        }
    ]
    tokens.scenario.settings.token_minutes = 0.05
    tokens.scenario.clock_offset = timedelta(hours=1)
    login = tokens.login("admin")
    _, found = await tokens.ask(login, "repository:team/web-ui:pull", "repository:team/sub/tool/cli:pull")
    later = read_signed(found["token"])
    assert later["exp"] - later["iat"] == 3
    assert later["iat"] - claims["iat"] >= 3600
    web_ui, cli = (entry["meta"] for entry in later["access"])
    assert web_ui["tag_deny_access_patterns"] == {"push": [], "delete": []}
    assert cli["tag_immutable_patterns"] == ["-final$"]
    _, found = await tokens.ask(tokens.login("deploy"), "repository:team/web-ui:pull")
    deploy = read_signed(found["token"])
    assert "sub" not in deploy
    assert read_signed(deploy["user"])["user_info"]["deploy_token_id"] == 91
    _, found = await tokens.ask(("mia", "mia-password"), f"repository:team/app:{ALL}")
    assert read_signed(found["token"])["auth_type"] == "gitlab_or_ldap"


async def test_nobody_pulls_what_is_public_and_is_refused_otherwise(tokens: Tokens) -> None:
    status, found = await tokens.ask(None, "repository:open/pub:pull,push", "repository:team/app:pull")
    assert status == 200
    claims = read_signed(found["token"])
    assert [(entry["name"], entry["actions"]) for entry in claims["access"]] == [("open/pub", ["pull"])]
    assert not {"sub", "user", "auth_type"} & set(claims)
    refused = (403, {"errors": [{"code": "DENIED", "message": "access forbidden"}]})
    assert await tokens.ask(None, "repository:team/app:pull") == refused
    assert await tokens.ask(None) == refused
    assert await tokens.ask(tokens.login("read_user"), "repository:team/app:pull") == refused
    status, found = await tokens.ask(tokens.login("guest"))  # known: an empty token
    assert (status, read_signed(found["token"])["access"]) == (200, [])


async def test_errors_of_the_whole_request(tokens: Tokens) -> None:
    login = tokens.login("maintainer")
    assert await tokens.ask(login, service="another") == (404, "")
    async with tokens.client.post("/jwt/auth?service=container_registry") as answer:
        assert answer.status == 404
    refused = (401, {"errors": [{"code": "UNAUTHORIZED", "message": DENIED_LOGIN}]})
    for name in ("expired", "revoked"):
        assert await tokens.ask(tokens.login(name)) == refused
    secrets = tokens.scenario.secrets
    for other in (("x", "y"), ("a", secrets["deploy"]), ("a", secrets["job"]), ("careful", "careful-password")):
        assert await tokens.ask(other) == refused
    assert (await tokens.ask(("gitlab-ci-token", secrets["maintainer"])))[0] == 200
    tokens.scenario.token("maintainer").user = "dev"  # below the role that the rule wants
    pushed = "repository:open/pub:push"
    tokens.scenario.projects[4].members["dev"] = 30
    assert (await tokens.ask(login, pushed))[0] == 403
    assert (await tokens.access("admin", pushed)) == {"open/pub": ["push"]}
    tokens.scenario.settings.registry_is_enabled = False
    status, found = await tokens.ask(login)
    assert (status, found["errors"][0]["code"]) == (404, "UNAVAILABLE")


async def test_a_push_makes_the_row(tokens: Tokens) -> None:
    before = len(tokens.scenario.repositories)
    await tokens.access("maintainer", "repository:team/app/new:pull")
    assert len(tokens.scenario.repositories) == before
    await tokens.access("maintainer", "repository:team/app/new:push")
    assert tokens.scenario.repositories[-1].path == "team/app/new"
    assert tokens.scenario.repositories[-1].project_id == 101


async def test_bad_logins_ban_the_address_but_not_those_of_jobs(tokens: Tokens) -> None:
    tokens.scenario.settings.ban_after = 3
    bad, good = ("mia", "wrong"), tokens.login("maintainer")
    for login in (bad, bad, good, bad, bad):
        await tokens.ask(login)
    assert tokens.issuer.failures == 2  # a good one begins anew
    for _ in range(5):
        assert (await tokens.ask(("gitlab-ci-token", "wrong")))[0] == 401
    assert (await tokens.ask(bad))[0] == 401
    assert await tokens.ask(good) == (403, "Forbidden\n")
    assert (await tokens.ask(tokens.login("job")))[0] == 200
    tokens.scenario.clock_offset = timedelta(hours=1, seconds=1)
    assert (await tokens.ask(good))[0] == 200


async def test_less_than_asked_for_may_be_planned(tokens: Tokens) -> None:
    tokens.faults.add(Fault(FaultKind.GRANT_LESS, "issuer", actions=("delete",)))
    tokens.faults.add(Fault(FaultKind.GRANT_LESS, "issuer"))
    scope = "repository:team/app:pull,delete"
    assert await tokens.access("maintainer", scope) == {"team/app": ["pull"]}
    assert await tokens.access("maintainer", scope) == {}
    assert await tokens.access("maintainer", scope) == {"team/app": ["pull", "delete"]}
