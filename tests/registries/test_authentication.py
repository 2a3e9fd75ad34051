"""Does each kind of authentication work, cost what it must, and send credentials nowhere else?"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from regwarden.errors import RegistryDenied, RegistryProtocolError
from regwarden.registries.client.credentials import Anonymous, Basic, IdentityToken
from regwarden.testing.authentication import BasicAuth, BearerAuth, DigestAuth
from regwarden.testing.content import Content
from regwarden.testing.images import image, layer
from regwarden.testing.scripted import ScriptedRegistry
from regwarden.testing.scripted_replies import (
    EndlessBody,
    Reply,
    challenge_reply,
    error_reply,
    json_reply,
    tags_reply,
    token_reply,
)
from regwarden.testing.server import SampleRegistry
from tests.registries.conftest import Connect

ANN = Basic("ann", "s3cret:ü")
USERS = {"ann": "s3cret:ü"}


def _content(count: int = 3) -> Content:
    content = Content()
    for number in range(count):
        content.repository(f"team/app{number}").add(image([layer(f"l{number}", 10)]), "latest", "v1")
    return content


async def test_basic_credentials_are_sent_only_after_the_registry_asked(connect: Connect) -> None:
    async with SampleRegistry(_content(), auth=BasicAuth(USERS)) as registry:
        connector = connect(registry.url, credentials=ANN)
        assert (await connector.ping()).is_authenticated
        await connector.list_tags("team/app0")
        assert [(r.status, r.authorization_scheme) for r in registry.requests] == [
            (401, ""),
            (200, "Basic"),
            (200, "Basic"),
        ]


async def test_an_open_registry_never_sees_the_password(connect: Connect) -> None:
    async with SampleRegistry(_content()) as registry:
        connector = connect(registry.url, credentials=ANN)
        assert not (await connector.ping()).is_authenticated
        await connector.list_tags("team/app0")
        assert {r.authorization_scheme for r in registry.requests} == {""}


@pytest.mark.parametrize("auth", [BasicAuth(USERS), DigestAuth(USERS), BearerAuth(USERS)])
async def test_a_wrong_password_is_one_clear_error(connect: Connect, auth: BasicAuth | DigestAuth | BearerAuth) -> None:
    async with SampleRegistry(_content(), auth=auth) as registry:
        connector = connect(registry.url, credentials=Basic("ann", "wrong"))
        with pytest.raises(RegistryDenied) as caught:
            await connector.ping()
        assert caught.value.hint
        assert len(registry.requests) <= 3


@pytest.mark.parametrize("auth", [BasicAuth(USERS), DigestAuth(USERS)])
async def test_missing_credentials_are_said(connect: Connect, auth: BasicAuth | DigestAuth) -> None:
    async with SampleRegistry(_content(), auth=auth) as registry:
        with pytest.raises(RegistryDenied, match="user and password") as caught:
            await connect(registry.url).ping()
        assert "--user" in caught.value.hint


@pytest.mark.parametrize("fields", [("token",), ("access_token",), ("token", "access_token")])
async def test_a_repository_costs_one_token_and_no_second_refusal(connect: Connect, fields: tuple[str, ...]) -> None:
    async with SampleRegistry(_content(), auth=BearerAuth(USERS, field_names=fields)) as registry:
        connector = connect(registry.url, credentials=ANN)
        await connector.ping()
        for number in range(3):
            await connector.list_tags(f"team/app{number}")
            await connector.fetch_manifest(f"team/app{number}", "latest")
        assert [r.status for r in registry.requests].count(401) == 1
        assert connector.traffic.token_requests == 4


async def test_many_tasks_share_one_token_request(connect: Connect) -> None:
    async with SampleRegistry(_content(), auth=BearerAuth(USERS)) as registry:
        connector = connect(registry.url, credentials=ANN)
        await connector.ping()
        await asyncio.gather(*(connector.fetch_manifest("team/app0", "latest") for _ in range(20)))
        assert connector.traffic.token_requests == 2


async def test_anonymous_tokens_are_asked_for_without_credentials(connect: Connect) -> None:
    async with SampleRegistry(_content(), auth=BearerAuth(has_anonymous_pull=True)) as registry:
        connector = connect(registry.url)
        assert (await connector.list_tags("team/app0")).tags
        token_requests = [r for r in registry.requests if r.path == "/token"]
        assert [r.authorization_scheme for r in token_requests] == [""]


async def test_an_identity_token_is_exchanged_for_access_tokens(connect: Connect) -> None:
    auth = BearerAuth(USERS, refresh_tokens={"refresh-me": "ann"})
    async with SampleRegistry(_content(), auth=auth) as registry:
        connector = connect(registry.url, credentials=IdentityToken("refresh-me"))
        assert (await connector.list_tags("team/app0")).tags
        assert [r.method for r in registry.requests if r.path == "/token"] == ["POST"]


async def test_a_token_that_expires_mid_crawl_is_replaced(connect: Connect) -> None:
    async with SampleRegistry(_content(), auth=BearerAuth(USERS, token_uses=2)) as registry:
        connector = connect(registry.url, credentials=ANN)
        for _ in range(7):
            await connector.fetch_manifest("team/app0", "latest")
        assert connector.traffic.token_requests >= 3


async def test_a_token_is_replaced_before_it_expires(connect: Connect) -> None:
    async with SampleRegistry(_content(), auth=BearerAuth(USERS, lifetime_seconds=1)) as registry:
        connector = connect(registry.url, credentials=ANN)
        await connector.list_tags("team/app0")
        await asyncio.sleep(0.85)
        await connector.list_tags("team/app0")
        assert [r.status for r in registry.requests].count(401) == 1
        assert connector.traffic.token_requests == 2


async def test_a_refused_repository_is_denied_without_a_loop_and_the_others_go_on(connect: Connect) -> None:
    auth = BearerAuth(USERS, denied_repositories=frozenset({"team/app1"}))
    async with SampleRegistry(_content(), auth=auth) as registry:
        connector = connect(registry.url, credentials=ANN)
        assert (await connector.list_tags("team/app0")).tags
        for _ in range(3):
            with pytest.raises(RegistryDenied):
                await connector.list_tags("team/app1")
        assert (await connector.list_tags("team/app2")).tags
        assert len([r for r in registry.requests if "app1" in r.path]) <= 2


@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256"])
@pytest.mark.parametrize("is_asked_for", [True, False])
async def test_digest_authentication_works_and_never_sends_the_password(
    connect: Connect, algorithm: str, is_asked_for: bool
) -> None:
    auth = DigestAuth(USERS, algorithm=algorithm, nonce_uses=3)  # type: ignore[arg-type]
    async with SampleRegistry(_content(), auth=auth) as registry:
        connector = connect(registry.url, credentials=ANN, use_digest_auth=is_asked_for)
        assert (await connector.ping()).is_authenticated
        for _ in range(5):
            assert (await connector.list_tags("team/app0")).tags
        assert {r.authorization_scheme for r in registry.requests} == {"", "Digest"}


async def test_an_open_registry_is_not_authenticated_with_digest_either(connect: Connect) -> None:
    async with SampleRegistry(_content()) as registry:
        connector = connect(registry.url, credentials=ANN, use_digest_auth=True)
        assert not (await connector.ping()).is_authenticated
        assert {r.authorization_scheme for r in registry.requests} == {""}


async def test_where_digest_is_demanded_basic_gets_no_password(connect: Connect) -> None:
    async with SampleRegistry(_content(), auth=BasicAuth(USERS)) as registry:
        with pytest.raises(RegistryDenied, match="does not offer Digest"):
            await connect(registry.url, credentials=ANN, use_digest_auth=True).ping()
        assert {r.authorization_scheme for r in registry.requests} == {""}


def _asks_for(realm: str) -> Reply:
    return challenge_reply(f'Bearer realm="{realm}",service="s",scope="repository:a:pull"')


async def test_a_realm_elsewhere_gets_nothing_and_the_setting_is_named(connect: Connect) -> None:
    async with ScriptedRegistry() as registry, ScriptedRegistry() as foreign:
        elsewhere = foreign.url.replace("127.0.0.1", "localhost")
        registry.expect("GET", "/v2/a/tags/list?n=1000", _asks_for(f"{elsewhere}/token"))
        with pytest.raises(RegistryProtocolError, match="not configured") as caught:
            await connect(registry.url, credentials=ANN).list_tags("a")
        assert f'token_hosts = ["{elsewhere.removeprefix("http://")}"]' in caught.value.hint
        assert foreign.requests == []


async def test_a_configured_token_host_gets_the_credentials(connect: Connect) -> None:
    async with ScriptedRegistry() as registry, ScriptedRegistry() as tokens:
        elsewhere = tokens.url.replace("127.0.0.1", "localhost")
        registry.expect("GET", "/v2/a/tags/list?n=1000", _asks_for(f"{elsewhere}/token?x=1"), tags_reply("a", ["t"]))
        has_basic: Callable[[str | None], bool] = lambda value: (value or "").startswith("Basic ")  # noqa: E731
        target = "/token?x=1&service=s&scope=repository%3Aa%3Apull"
        tokens.expect("GET", target, token_reply("good"), headers={"Authorization": has_basic})
        connector = connect(registry.url, credentials=ANN, token_hosts=(elsewhere.removeprefix("http://"),))
        assert (await connector.list_tags("a")).tags == ("t",)
        assert registry.requests[1].headers["authorization"] == "Bearer good"


@pytest.mark.parametrize(
    "realm",
    ["ftp://127.0.0.1/t", "http://ann:pw@127.0.0.1/t", "/token", "", "http://169.254.169.254/t", "http://127.1/t"],
)
async def test_an_unusable_realm_is_refused(connect: Connect, realm: str) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("GET", "/v2/a/tags/list?n=1000", _asks_for(realm))
        connector = connect(registry.url, credentials=ANN, token_hosts=("169.254.169.254", "127.1"))
        with pytest.raises(RegistryProtocolError):
            await connector.list_tags("a")


@pytest.mark.parametrize(
    "answer",
    [
        json_reply({}),
        json_reply({"token": 5}),
        json_reply({"token": "a\nb"}),
        Reply(200, b"{"),
        Reply(200, b"[]"),
        Reply(302, headers={"Location": "http://169.254.169.254/"}),
        Reply(404),
        EndlessBody(),
    ],
)
async def test_an_answer_that_is_no_token_is_a_protocol_error(connect: Connect, answer: Reply) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("GET", "/v2/a/tags/list?n=1000", _asks_for(f"{registry.url}/token"))
        registry.expect("GET", "/token?service=s&scope=repository%3Aa%3Apull", answer)
        with pytest.raises(RegistryProtocolError):
            await connect(registry.url, credentials=ANN).list_tags("a")


async def test_a_fresh_token_that_is_refused_again_ends_the_matter(connect: Connect) -> None:
    async with ScriptedRegistry() as registry:
        refusal = challenge_reply(
            f'Bearer realm="{registry.url}/token",service="s",scope="repository:a:pull",error="insufficient_scope"'
        )
        registry.expect("GET", "/v2/a/tags/list?n=1000", refusal, refusal)
        registry.expect("GET", "/token?service=s&scope=repository%3Aa%3Apull", token_reply("t1"))
        with pytest.raises(RegistryDenied, match="does not suffice"):
            await connect(registry.url, credentials=ANN).list_tags("a")


async def test_the_registry_cannot_make_us_ask_for_more_rights(connect: Connect) -> None:
    async with ScriptedRegistry() as registry:
        scopes = "repository:a:pull,push repository:other:pull repository:a:delete repository:a:metadata_read"
        registry.expect(
            "GET",
            "/v2/a/tags/list?n=1000",
            challenge_reply(f'Bearer realm="{registry.url}/token",service="s",scope="{scopes}"'),
            tags_reply("a", []),
        )
        registry.expect(
            "GET",
            "/token?service=s&scope=repository%3Aa%3Apull&scope=repository%3Aa%3Ametadata_read",
            token_reply("t"),
        )
        await connect(registry.url, credentials=ANN).list_tags("a")


@pytest.mark.parametrize("lifetime", [None, 0, -5, 10**12])
async def test_strange_lifetimes_of_tokens_do_no_harm(connect: Connect, lifetime: int | None) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("GET", "/v2/a/tags/list?n=1000", _asks_for(f"{registry.url}/token"), *[tags_reply("a", [])] * 2)
        registry.expect("GET", "/token?service=s&scope=repository%3Aa%3Apull", token_reply("t", expires_in=lifetime))
        connector = connect(registry.url, credentials=ANN)
        await connector.list_tags("a")
        await connector.list_tags("a")


@pytest.mark.parametrize("credentials", [ANN, Anonymous()])
async def test_403_is_denied_and_never_missing(connect: Connect, credentials: Basic | Anonymous) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("GET", "/v2/a/tags/list?n=1000", error_reply(403, "DENIED", "no access for ann with s3cret:ü"))
        with pytest.raises(RegistryDenied) as caught:
            await connect(registry.url, credentials=credentials).list_tags("a")
        assert ("s3cret" in caught.value.diagnostics) is isinstance(credentials, Anonymous)


async def test_401_without_a_challenge_is_denied(connect: Connect) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("GET", "/v2/", error_reply(401, "UNAUTHORIZED"))
        with pytest.raises(RegistryDenied, match="does not say how"):
            await connect(registry.url, credentials=ANN).ping()
