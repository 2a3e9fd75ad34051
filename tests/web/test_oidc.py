"""Does a browser come in by an identity provider, and a CI job with its ID token: through the service's own routes?"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from regwarden.core.role_rules import parse_rule
from regwarden.identity.oidc import OidcProvider
from regwarden.identity.oidc_providers import Providers
from regwarden.settings_access import AuthSettings, RoleRule
from regwarden.settings_sections import parse_listen_address
from regwarden.store.database import Access, Database, open_database
from regwarden.web.attempts import ADDRESS_LIMIT, Attempts
from regwarden.web.auth import AuthParts, build_auth
from regwarden.web.authentication import Authentication
from regwarden.web.listening import bound, serving
from regwarden.web.login_cookie import LIFETIME, cookie_name, open_sealed, seal
from regwarden.web.mounting import strip_prefix
from regwarden.web.oidc import OidcParts, oidc_routes
from regwarden.web.sign_ins import SignIns, parse_lifetimes
from tests.identity_provider import AUDIENCE, NOW, IdentityProvider, running_provider

RULES = (
    RoleRule(role="viewer", provider="sso", groups=("registry-users",)),
    RoleRule(role="cleaner", users=("alice",), repositories=("glob:team/**",)),
    RoleRule(role="operator", provider="ci", claims=("project_path=glob:team/**", "ref_protected=true")),
)


@dataclass
class Service:
    """The part of a service that signs people in, on loopback."""

    database: Database
    url: str = ""
    seconds: float = 0.0
    rules: tuple[RoleRule, ...] = RULES
    authentication: Authentication = field(init=False)
    providers: Providers = field(init=False)

    def now(self):
        return NOW + timedelta(seconds=self.seconds)

    async def app(self, settings):
        self.authentication = Authentication(self.database, now=self.now, installation="0123456789abcdef")
        await self.authentication.reload()
        names = frozenset(name for rule in self.rules for name, _ in parse_rule(rule).claims)
        self.providers = Providers(
            {one.name: OidcProvider(one, names, now=self.now, monotonic=lambda: self.seconds) for one in settings}
        )
        sign_ins = SignIns(
            self.database,
            self.authentication,
            rules=[parse_rule(rule) for rule in self.rules],
            lifetimes=parse_lifetimes(AuthSettings()),
            now=self.now,
        )
        attempts = Attempts(lambda: self.seconds)
        parts = OidcParts(
            providers=self.providers,
            public_url=self.url,
            sign_ins=sign_ins,
            attempts=attempts,
            database=self.database,
            now=self.now,
        )
        auth = build_auth(
            AuthParts(
                sign_ins=sign_ins,
                authentication=self.authentication,
                attempts=attempts,
                providers=self.providers,
                routes=oidc_routes(parts),
            )
        )

        async def mounted(scope, receive, send):
            await auth(strip_prefix(scope, "/auth"), receive, send)

        return mounted


@asynccontextmanager
async def running_service(database: Database, *idps: IdentityProvider, **changes: Any) -> AsyncIterator[Service]:
    with bound(parse_listen_address("127.0.0.1:0")) as listeners:
        port = listeners[0].getsockname()[1]
        service = Service(database, f"http://127.0.0.1:{port}", **changes)
        settings = [one.settings(name=name) for one, name in zip(idps, ("sso", "two"), strict=False)]
        settings.append(idps[0].settings(name="ci", client_id="", audience=AUDIENCE))
        app = await service.app(settings)
        async with serving(app, listeners, None):
            yield service
        for provider in service.providers.values():
            await provider.close()


@asynccontextmanager
async def browser() -> AsyncIterator[aiohttp.ClientSession]:
    """Keeps cookies, and is told by tests where to go."""
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(cookie_jar=jar) as session:
        yield session


@pytest.fixture
async def sso() -> AsyncIterator[IdentityProvider]:
    async with running_provider() as provider:
        yield provider


on_both = pytest.mark.parametrize("database", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
def database(request, tmp_path):
    """A file; with ``on_both`` a real PostgreSQL, too."""
    url = f"sqlite:///{tmp_path / 'x.sqlite3'}"
    if getattr(request, "param", "") == "postgresql":
        url = request.getfixturevalue("postgresql_url")
    with open_database(url, access=Access.WRITE, create=True) as opened:
        yield opened


@pytest.fixture
async def service(database, sso) -> AsyncIterator[Service]:
    async with running_service(database, sso) as running:
        yield running


@dataclass
class Answer:
    status: int
    headers: Any
    fields: dict[str, Any]


async def get(session, address) -> Answer:
    async with session.get(URL(address, encoded=True), allow_redirects=False) as response:
        kind = response.headers.get("Content-Type", "")
        return Answer(
            response.status, response.headers, await response.json(content_type=None) if "json" in kind else {}
        )


async def begin(session, service, name="sso") -> str:
    """Where the browser is sent."""
    answer = await get(session, f"{service.url}/auth/oidc/{name}/login")
    assert answer.status == 303, answer
    return str(answer.headers["Location"])


async def exchange(service, body) -> Answer:
    async with aiohttp.ClientSession() as session, session.post(f"{service.url}/auth/exchange", json=body) as response:
        return Answer(response.status, response.headers, await response.json(content_type=None))


async def refresh(service, token) -> Answer:
    body = {"grant_type": "refresh_token", "refresh_token": token}
    async with aiohttp.ClientSession() as session, session.post(f"{service.url}/auth/token", json=body) as response:
        return Answer(response.status, response.headers, await response.json(content_type=None))


# ---------------------------------------------------------------------------------------------- people


@on_both
async def test_a_browser_comes_in_and_stays(service, sso):
    async with browser() as session:
        back = sso.visit(await begin(session, service))
        assert back.startswith(f"{service.url}/auth/oidc/sso/callback?")
        answer = await get(session, back)
    assert answer.status == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.fields["token_type"] == "Bearer"
    principal = await service.authentication.principal_of(answer.fields["access_token"], "127.0.0.1")
    assert (principal.name, principal.kind, principal.is_person) == ("alice", "oidc", True)
    assert principal.id == f"oidc:{sso.issuer}:0001"
    assert [grant.role for grant in principal.grants] == ["viewer", "cleaner"]
    asked = sso.asked.total()
    again = await refresh(service, answer.fields["refresh_token"])
    assert again.status == 200
    assert (await service.authentication.principal_of(again.fields["access_token"], "")).grants == principal.grants
    assert sso.asked.total() == asked


async def test_the_cookie_belongs_to_the_browser_alone(service, sso):
    async with browser() as session:
        answer = await get(session, f"{service.url}/auth/oidc/sso/login")
    cookie = answer.headers["Set-Cookie"].lower()
    assert cookie.startswith("regwarden-login=")
    assert {"httponly", "samesite=lax", "path=/", "max-age=600"} <= {part.strip() for part in cookie.split(";")}
    assert answer.headers["Cache-Control"] == "no-store"


async def test_over_https_the_cookie_is_for_this_host_alone(database, sso):
    service = Service(database, "https://regwarden.example.com/")
    with bound(parse_listen_address("127.0.0.1:0")) as listeners:
        app = await service.app([sso.settings()])
        async with serving(app, listeners, None), browser() as session:
            answer = await get(session, f"http://127.0.0.1:{listeners[0].getsockname()[1]}/auth/oidc/sso/login")
    cookie = answer.headers["Set-Cookie"].lower()
    assert cookie.startswith("__host-regwarden-login=")
    assert "; secure" in cookie
    redirect = URL(answer.headers["Location"]).query["redirect_uri"]
    assert redirect == "https://regwarden.example.com/auth/oidc/sso/callback"
    await service.providers["sso"].close()


@on_both
async def test_an_answer_is_taken_once(service, sso):
    async with browser() as session:
        back = sso.visit(await begin(session, service))
        kept = {cookie.key: cookie.value for cookie in session.cookie_jar}
        assert (await get(session, back)).status == 200
        assert not list(session.cookie_jar)
        session.cookie_jar.update_cookies(kept, URL(service.url))
        asked = sso.asked["/token"]
        answer = await get(session, back)
    assert answer.status == 401
    assert answer.fields["code"] == "bad-login"
    assert sso.asked["/token"] == asked


async def test_another_browser_cannot_bring_the_answer(service, sso):
    async with browser() as session, browser() as other:
        back = sso.visit(await begin(session, service))
        assert (await get(other, back)).status == 401
        await begin(other, service)
        assert (await get(other, back)).status == 401
        assert (await get(session, back)).status == 200


@pytest.mark.parametrize(
    "change",
    [
        lambda back: back.replace("state=", "state=x"),
        lambda back: back.partition("&state=")[0],
        lambda back: f"{back}&state=x",
        lambda back: f"{back}&code=x",
        lambda back: back.replace("code=", "other="),
        lambda back: f"{back}&iss=https%3A%2F%2Fevil.example.com",
        lambda back: f"{back}&error=access_denied",
        lambda back: f"{back}&%ff%fe=%ff",
    ],
)
async def test_an_answer_that_was_changed_is_refused(service, sso, change):
    async with browser() as session:
        changed = change(sso.visit(await begin(session, service)))
        answer = await get(session, changed)
    assert answer.status == (200 if "%ff" in changed else 401)


@pytest.mark.parametrize("cookie", ["", "x", "x.y", ".", "é.é", "a" * 3000])
async def test_a_cookie_that_we_did_not_make_opens_nothing(service, sso, cookie):
    async with browser() as session:
        back = sso.visit(await begin(session, service))
    headers = {"Cookie": f"regwarden-login={cookie}"}
    async with aiohttp.ClientSession() as session, session.get(URL(back, encoded=True), headers=headers) as response:
        assert response.status == 401


async def test_a_sign_in_must_end_within_ten_minutes(service, sso):
    async with browser() as session:
        back = sso.visit(await begin(session, service))
        service.seconds = LIFETIME.total_seconds()
        assert (await get(session, back)).status == 401


async def test_an_answer_of_one_provider_is_not_taken_for_another(database, sso):
    async with running_provider() as second, running_service(database, sso, second) as service, browser() as session:
        back = sso.visit(await begin(session, service))
        assert (await get(session, back.replace("/sso/", "/two/"))).status == 401
        assert second.asked["/token"] == 0  # the code would tell it how to come in at the first one


async def test_the_same_subject_of_two_providers_is_two_people(database, sso):
    async with running_provider() as second, running_service(database, sso, second) as service:
        people = []
        for name, idp in (("sso", sso), ("two", second)):
            async with browser() as session:
                answer = await get(session, idp.visit(await begin(session, service, name)))
            people.append(await service.authentication.principal_of(answer.fields["access_token"], ""))
    assert people[0].id != people[1].id
    assert [len(one.grants) for one in people] == [2, 1]  # the rule for the provider is for that one alone


async def test_nobody_has_a_role_without_a_rule(service, sso):
    sso.claims = {"preferred_username": "mallory", "groups": []}
    async with browser() as session:
        answer = await get(session, sso.visit(await begin(session, service)))
    assert (answer.status, answer.fields["code"]) == (403, "no-role")


async def test_who_has_lost_every_rule_is_out_at_the_next_refresh(database, sso):
    async with running_service(database, sso) as service, browser() as session:
        answer = await get(session, sso.visit(await begin(session, service)))
    rules = (RoleRule(role="viewer", groups=("others",)),)
    async with running_service(database, sso, rules=rules) as service:
        again = await refresh(service, answer.fields["refresh_token"])
    assert (again.status, again.fields["code"]) == (403, "no-role")


@pytest.mark.parametrize(
    "path", ["/auth/oidc/absent/login", "/auth/oidc/ci/login", "/auth/oidc/absent/callback?code=x"]
)
async def test_a_provider_that_people_do_not_have_is_not_found(service, path):
    async with browser() as session:
        assert (await get(session, service.url + path)).status == 404


async def test_a_provider_that_is_down_is_no_failure_of_ours(service, sso):
    async def failing(_request):
        return web.Response(status=500)

    sso.replaced = dict.fromkeys(("/.well-known/openid-configuration", "/keys"), failing)
    async with browser() as session:
        answer = await get(session, f"{service.url}/auth/oidc/sso/login")
    assert (answer.status, answer.fields["code"]) == (503, "provider-unusable")
    answer = await exchange(service, {"token": sso.sign(sso.job())})
    assert (answer.status, answer.fields["code"]) == (503, "provider-unusable")


# ---------------------------------------------------------------------------------------------- CI jobs


async def test_a_job_gets_a_short_token_without_a_secret(service, sso):
    answer = await exchange(service, {"token": sso.sign(sso.job()), "provider": "ci"})
    assert answer.status == 200
    assert answer.fields["expires_in"] == 900
    assert "refresh_token" not in answer.fields
    assert answer.headers["Cache-Control"] == "no-store"
    principal = await service.authentication.principal_of(answer.fields["access_token"], "")
    assert (principal.kind, principal.is_person) == ("workload", False)
    assert principal.name == "project_path:team/app:ref_type:branch:ref:main"
    assert [grant.role for grant in principal.grants] == ["operator"]


@on_both
@pytest.mark.parametrize("jti", ["one", None])
async def test_a_token_of_a_job_is_taken_once(service, sso, jti):
    token = sso.sign(sso.job(jti=jti))
    answers = await asyncio.gather(*(exchange(service, {"token": token}) for _ in range(4)))
    assert sorted(answer.status for answer in answers) == [200, 401, 401, 401]
    answer = await exchange(service, {"token": token})
    assert (answer.status, answer.fields["code"]) == (401, "bad-assertion")


@pytest.mark.parametrize("claims", [{"project_path": "other/app"}, {"ref_protected": "false"}, {"ref_protected": None}])
async def test_every_claim_of_a_rule_must_match(service, sso, claims):
    answer = await exchange(service, {"token": sso.sign(sso.job(**claims))})
    assert (answer.status, answer.fields["code"]) == (403, "no-role")


async def test_a_claim_may_be_a_boolean(service, sso):
    assert (await exchange(service, {"token": sso.sign(sso.job(ref_protected=True))})).status == 200


async def test_the_token_of_a_person_is_not_one_of_a_job(service, sso):
    assert (await exchange(service, {"token": sso.sign(sso.person())})).status == 401


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ([], 400),
        ({"token": 3}, 400),
        ({"token": "x", "other": 1}, 400),
        ({"token": "x"}, 401),
        ({"token": "a" * 60_000}, 401),
        ({"token": "a" * 70_000}, 413),
        ({"token": "a.b.c", "provider": "absent"}, 401),
    ],
)
async def test_what_is_no_token_is_said_to_be_none(service, body, status):
    answer = await exchange(service, body)
    assert answer.status == status
    assert answer.headers["Content-Type"] == "application/problem+json"


async def test_who_tries_often_must_wait(service, sso):
    for _ in range(ADDRESS_LIMIT):
        assert (await exchange(service, {"token": "a.b.c"})).status == 401
    answer = await exchange(service, {"token": sso.sign(sso.job())})
    assert answer.status == 429
    assert int(answer.headers["Retry-After"]) > 0
    service.seconds = 301
    sso.now = service.now()
    assert (await exchange(service, {"token": sso.sign(sso.job())})).status == 200


# ---------------------------------------------------------------------------------------------- the cookie


async def test_a_sealed_cookie_is_opened_with_its_key_until_it_expires(sso):
    ours = OidcProvider(sso.settings(), frozenset())
    _, attempt = await ours.begin("https://regwarden.example.com/auth/oidc/sso/callback")
    await ours.close()
    cookie = seal(attempt, "key", NOW)
    opened = open_sealed(cookie, "key", NOW + LIFETIME - timedelta(seconds=1))
    assert opened == (attempt, NOW + LIFETIME)
    assert open_sealed(cookie, "other", NOW) is None
    assert open_sealed(cookie, "key", NOW + LIFETIME) is None
    assert open_sealed(f"A{cookie}", "key", NOW) is None
    assert attempt.verifier not in repr(attempt)
    assert urlsplit(f"//{cookie_name(is_secure=True)}").netloc.startswith("__Host-")


async def test_whoever_only_looks_does_not_use_up_a_sign_in(service, sso):
    async with browser() as session:
        back = sso.visit(await begin(session, service))
        async with session.head(back, allow_redirects=False) as response:
            assert response.status == 405
            assert response.headers["Allow"] == "GET"
        assert (await get(session, back)).status == 200


async def test_a_job_with_the_subject_of_a_person_leaves_the_person_a_person(database, sso):
    rules = (RoleRule(role="viewer", everyone=True),)
    async with running_service(database, sso, rules=rules) as service, browser() as session:
        person = await get(session, sso.visit(await begin(session, service)))
        job = await exchange(service, {"token": sso.sign(sso.job(sub="0001")), "provider": "ci"})
        again = await refresh(service, person.fields["refresh_token"])
        assert again.status == 200
        found = [
            await service.authentication.principal_of(answer.fields["access_token"], "")
            for answer in (person, job, again)
        ]
    assert [(one.name, str(one.kind)) for one in found] == [("alice", "oidc"), ("0001", "workload"), ("alice", "oidc")]
