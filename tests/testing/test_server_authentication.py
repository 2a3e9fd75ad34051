"""Who gets into the sample registry: Basic, Bearer tokens, HTTP Digest, TLS with client certificates."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import AsyncIterator

import aiohttp
import pytest

from regwarden.testing.authentication import Access, BasicAuth, BearerAuth, DigestAuth
from regwarden.testing.certificates import make_certificates
from regwarden.testing.content import Content
from regwarden.testing.images import image
from regwarden.testing.server import Listen, SampleRegistry
from tests.servers import missing_server

USERS = {"ann": "pässword:1"}
LOGIN = {"Authorization": "Basic " + base64.b64encode("ann:pässword:1".encode()).decode()}
WRONG = {"Authorization": "Basic " + base64.b64encode(b"ann:wrong").decode()}


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def _content() -> Content:
    content = Content()
    for name in ("open/app", "secret/app"):
        content.repository(name).add(image([]), "1")
    return content


async def _status(http, url, **options):
    async with http.get(url, **options) as response:
        return response.status


async def _challenge(http, url, token=""):
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with http.get(url, headers=headers) as response:
        return response.status, response.headers.get("WWW-Authenticate", "")


async def _token(http, registry, *scopes, login=LOGIN):
    query = [("service", "sample registry"), *(("scope", scope) for scope in scopes)]
    async with http.get(f"{registry.url}/token", params=query, headers=login) as response:
        return response.status, await response.json(content_type=None)


async def test_basic_needs_the_right_password_and_names_the_actor(http):
    async with SampleRegistry(_content(), auth=BasicAuth(USERS)) as registry:
        url = f"{registry.url}/v2/open/app/tags/list"
        async with http.get(url) as response:
            assert response.status == 401
            assert response.headers["WWW-Authenticate"] == 'Basic realm="sample registry"'
            assert (await response.json())["errors"][0]["code"] == "UNAUTHORIZED"
        assert await _status(http, url, headers=WRONG) == 401
        assert await _status(http, url, headers=LOGIN) == 200
        async with http.head(f"{registry.url}/v2/open/app/manifests/1", headers=LOGIN):
            pass
    assert [event.caller.actor for event in registry.events] == ["ann"]
    assert registry.requests[-1].authorization_scheme == "Basic"


async def test_a_token_opens_what_its_scope_names_and_nothing_else(http):
    async with SampleRegistry(_content(), auth=BearerAuth(USERS)) as registry:
        tags = f"{registry.url}/v2/open/app/tags/list"
        status, challenge = await _challenge(http, tags)
        assert status == 401
        assert challenge == (
            f'Bearer realm="{registry.url}/token",service="sample registry",scope="repository:open/app:pull"'
        )
        _, answer = await _token(http, registry, "repository:open/app:pull", "registry:catalog:*")
        assert answer["token"] == answer["access_token"]
        assert answer["expires_in"] == 300
        assert (await _challenge(http, tags, answer["token"]))[0] == 200
        assert (await _challenge(http, f"{registry.url}/v2/_catalog", answer["token"]))[0] == 200
        status, challenge = await _challenge(http, f"{registry.url}/v2/secret/app/tags/list", answer["token"])
        assert status == 401
        assert 'error="insufficient_scope"' in challenge
        status, challenge = await _challenge(http, f"{registry.url}/v2/", "made-up")
        assert 'error="invalid_token"' in challenge
        assert (await _token(http, registry, login={}))[0] == 401


async def test_a_denied_repository_is_never_granted(http):
    auth = BearerAuth(USERS, denied_repositories=frozenset({"secret/app"}), is_catalog_denied=True)
    async with SampleRegistry(_content(), auth=auth) as registry:
        _, answer = await _token(http, registry, "repository:secret/app:pull registry:catalog:*")
        for path in ("/v2/secret/app/tags/list", "/v2/_catalog"):
            status, challenge = await _challenge(http, registry.url + path, answer["token"])
            assert status == 401
            assert "insufficient_scope" in challenge


async def test_a_token_wears_out_by_use_or_by_time(http):
    for auth in (BearerAuth(USERS, token_uses=1), BearerAuth(USERS, lifetime_seconds=0.0)):
        async with SampleRegistry(_content(), auth=auth) as registry:
            _, answer = await _token(http, registry, "repository:open/app:pull")
            url = f"{registry.url}/v2/open/app/tags/list"
            expected = 200 if auth.token_uses else 401
            assert (await _challenge(http, url, answer["token"]))[0] == expected
            status, challenge = await _challenge(http, url, answer["token"])
            assert status == 401
            assert "invalid_token" in challenge


async def test_anonymous_tokens_may_pull_and_nothing_more(http):
    auth = BearerAuth(USERS, has_anonymous_pull=True, field_names=("access_token",), announces_expiry=False)
    async with SampleRegistry(_content(), auth=auth) as registry:
        _, answer = await _token(http, registry, "repository:open/app:pull,push,delete", login={})
        assert set(answer) == {"access_token"}
        url = f"{registry.url}/v2/open/app/tags/list"
        assert (await _challenge(http, url, answer["access_token"]))[0] == 200
        headers = {"Authorization": f"Bearer {answer['access_token']}"}
        async with http.post(f"{registry.url}/v2/open/app/blobs/uploads/", headers=headers) as response:
            assert response.status == 401
            assert 'scope="repository:open/app:pull,push"' in response.headers["WWW-Authenticate"]


async def test_an_identity_token_is_exchanged_by_post(http):
    async with SampleRegistry(_content(), auth=BearerAuth(refresh_tokens={"long-lived": "ann"})) as registry:
        form = {"grant_type": "refresh_token", "refresh_token": "long-lived", "scope": "repository:open/app:pull"}
        async with http.post(f"{registry.url}/token", data=form) as response:
            token = json.loads(await response.text())["access_token"]
        assert (await _challenge(http, f"{registry.url}/v2/open/app/tags/list", token))[0] == 200
        async with http.post(f"{registry.url}/token", data=form | {"refresh_token": "other"}) as response:
            assert response.status == 401


@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256"])
async def test_digest_credentials_are_accepted_and_a_stale_nonce_is_renewed(algorithm):
    auth = DigestAuth({"ann": "secret"}, algorithm=algorithm, nonce_uses=2)
    async with SampleRegistry(_content(), auth=auth) as registry:
        url = f"{registry.url}/v2/_catalog?n=5"
        digest = aiohttp.DigestAuthMiddleware("ann", "secret", preemptive=False)
        async with aiohttp.ClientSession(middlewares=(digest,)) as session:
            assert [await _status(session, url) for _ in range(4)] == [200] * 4
        wrong = aiohttp.DigestAuthMiddleware("ann", "wrong")
        async with aiohttp.ClientSession(middlewares=(wrong,)) as session:
            assert await _status(session, url) == 401
        async with aiohttp.ClientSession() as session:
            assert await _status(session, url) == 401


async def test_tls_may_demand_a_client_certificate(tmp_path):
    if shutil.which("openssl") is None:
        missing_server("openssl is not installed: run `make servers`")
    certificates = make_certificates(tmp_path)
    listen = Listen(tls=certificates.server_context(needs_client_certificate=True))
    async with SampleRegistry(_content(), listen=listen) as registry, aiohttp.ClientSession() as session:
        assert registry.url.startswith("https://127.0.0.1:")
        with_certificate = certificates.client_context(has_certificate=True)
        assert await _status(session, f"{registry.url}/v2/", ssl=with_certificate) == 200
        with pytest.raises(aiohttp.ClientError):
            await _status(session, f"{registry.url}/v2/", ssl=certificates.client_context())
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await _status(session, f"{registry.url}/v2/")


def test_scopes_are_read_with_ports_and_several_actions():
    access = Access.parse("repository:host:5000/app:pull,push")
    assert (access.name, access.actions) == ("host:5000/app", ("pull", "push"))
    assert str(access) == "repository:host:5000/app:pull,push"
