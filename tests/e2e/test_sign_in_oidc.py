"""Does `regwarden serve` let people and CI jobs in whom an identity provider vouches for, as its settings say?"""

from __future__ import annotations

import json
import socket
from datetime import UTC, datetime
from typing import Any

import aiohttp
from yarl import URL

from tests.identity_provider import AUDIENCE, hang, running_provider
from tests.serving import running_service

SETTINGS = """\
[server]
public_url = "{public_url}"

[[registry]]
name = "prod"
url = "http://127.0.0.1:1"
crawl_every = "never"

[[oidc]]
name = "sso"
issuer = "{issuer}"
client_id = "regwarden"

[[oidc]]
name = "ci"
issuer = "{issuer}"
audience = "{audience}"

[[role]]
role = "viewer"
provider = "sso"
groups = ["registry-users"]

[[role]]
role = "operator"
provider = "ci"
claims = ["project_path=glob:team/**", "ref_protected=true"]
"""


async def test_people_and_jobs_come_in_and_are_who_they_are(tmp_path):
    port = free_port()
    public_url = f"http://127.0.0.1:{port}"
    async with running_provider() as idp:
        idp.now = datetime.now(UTC)
        settings = SETTINGS.format(public_url=public_url, issuer=idp.issuer, audience=AUDIENCE)
        jar = aiohttp.CookieJar(unsafe=True)
        with running_service(tmp_path, settings, "--listen", f"127.0.0.1:{port}") as service:
            async with aiohttp.ClientSession(public_url, cookie_jar=jar) as session:
                status, headers, _ = await ask(session, "GET", "/auth/oidc/sso/login")
                assert status == 303
                status, _, person = await ask(session, "GET", idp.visit(headers["Location"]))
                assert status == 200, person
                assert (await me(session, person))["name"] == "alice"
                token = idp.sign(idp.job())
                status, _, job = await ask(session, "POST", "/auth/exchange", json={"token": token})
                assert status == 200, job
                assert (await me(session, job))["name"] == idp.job()["sub"]
                status, _, refused = await ask(session, "POST", "/auth/exchange", json={"token": token})
                assert (status, refused["code"]) == (401, "bad-assertion")
                idp.replaced = dict.fromkeys(("/.well-known/openid-configuration", "/keys", "/token"), hang)
                body = {"grant_type": "refresh_token", "refresh_token": person["refresh_token"]}
                status, _, again = await ask(session, "POST", "/auth/token", json=body)
                assert status == 200, again
                assert (await me(session, again))["name"] == "alice"
            assert service.stop() == 0
        said = "\n".join(service.lines)
    assert token not in said
    assert person["refresh_token"] not in said


async def test_the_service_starts_while_the_provider_is_down(tmp_path):
    port = free_port()
    public_url = f"http://127.0.0.1:{port}"
    settings = SETTINGS.format(public_url=public_url, issuer=f"http://127.0.0.1:{free_port()}", audience=AUDIENCE)
    with running_service(tmp_path, settings, "--listen", f"127.0.0.1:{port}"):
        async with aiohttp.ClientSession(public_url) as session:
            status, _, answer = await ask(session, "GET", "/auth/oidc/sso/login")
            assert (status, answer["code"]) == (503, "provider-unusable")
            assert (await ask(session, "GET", "/healthz"))[0] == 200


async def ask(session: aiohttp.ClientSession, method: str, address: str, **options: Any) -> tuple[int, Any, Any]:
    async with session.request(method, URL(address, encoded=True), allow_redirects=False, **options) as response:
        return response.status, response.headers, json.loads(await response.read() or b"null")


async def me(session: aiohttp.ClientSession, issued: dict[str, str]) -> dict[str, Any]:
    """What the API says about whoever has this access token."""
    headers = {"Authorization": f"Bearer {issued['access_token']}"}
    status, _, answer = await ask(session, "GET", "/api/v1/me", headers=headers)
    assert status == 200, answer
    found: dict[str, Any] = answer
    return found


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
