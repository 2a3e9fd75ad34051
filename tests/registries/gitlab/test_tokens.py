"""Does one token serve many repositories, is nothing asked that is not granted, and does a bad login end everything?"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from regwarden import clock
from regwarden.errors import RegistryDenied, RegistryError, RegistryProtocolError
from regwarden.registries.client.client import delete_scope, pull_scope, push_scope
from regwarden.registries.client.credentials import Anonymous, Basic, Credentials
from regwarden.registries.client.limits import Limits
from regwarden.registries.client.settings import ClientSettings
from regwarden.registries.client.transport import Call
from regwarden.registries.gitlab.client import GitLabClient, open_client
from regwarden.testing.scripted import ScriptedRegistry
from regwarden.testing.scripted_replies import Reply
from tests.registries.gitlab.small_gitlab import SECRET, SmallGitLab

NAMES = [f"team/app{number:02}" for number in range(40)]
QUICK = Limits(request_timeout_seconds=5, retry_wait_seconds=0.05)
Open = Callable[..., GitLabClient]


@pytest.fixture
async def connect() -> AsyncIterator[Open]:
    """Opens clients of one small GitLab; all are closed after the test."""
    opened: list[GitLabClient] = []

    def open_to(gitlab: SmallGitLab, credentials: Credentials | None = None) -> GitLabClient:
        settings = ClientSettings(gitlab.url, Basic("regwarden", SECRET) if credentials is None else credentials)
        opened.append(open_client(settings, gitlab.url, limits=QUICK))
        return opened[-1]

    yield open_to
    for client in opened:
        await client.close()


async def _ask(client: GitLabClient, repository: str, scope: str = "", method: str = "GET") -> int:
    url = client.registry.url(f"{repository}/tags/list")
    call = Call(method, url, f"the tags of {repository}", 10_000, scope=scope or pull_scope(repository))
    return (await client.registry.send(call)).status


async def _denied(client: GitLabClient, repository: str, scope: str = "") -> RegistryDenied:
    with pytest.raises(RegistryDenied) as caught:
        await _ask(client, repository, scope)
    return caught.value


async def test_one_token_serves_the_repositories_that_are_read_next(connect: Open) -> None:
    async with SmallGitLab() as gitlab:
        client = connect(gitlab)
        client.tokens.expect(NAMES[:30])
        client.tokens.expect(NAMES[30:])
        for name in NAMES:
            assert await _ask(client, name) == 200
    assert [len(scopes) for scopes in gitlab.asked] == [16, 16, 8]
    assert gitlab.asked[0] == [pull_scope(name) for name in NAMES[:16]]


async def test_many_tasks_lead_to_one_request(connect: Open) -> None:
    async with SmallGitLab(delay_seconds=0.05) as gitlab:
        client = connect(gitlab)
        client.tokens.expect(NAMES[:16])
        await asyncio.gather(*(_ask(client, name) for name in NAMES[:16] for _ in range(3)))
    assert len(gitlab.asked) == 1
    assert client.traffic.token_requests == 1


async def test_a_task_that_is_cancelled_leaves_nobody_waiting(connect: Open) -> None:
    async with SmallGitLab(delay_seconds=0.1) as gitlab:
        client = connect(gitlab)
        client.tokens.expect(NAMES[:3])
        first = asyncio.create_task(_ask(client, NAMES[0]))
        while not gitlab.asked:
            await asyncio.sleep(0.01)
        others = [asyncio.create_task(_ask(client, name)) for name in NAMES[1:3]]
        await asyncio.sleep(0.02)
        first.cancel()
        assert await asyncio.wait_for(asyncio.gather(*others), 3) == [200, 200]
    assert [len(scopes) for scopes in gitlab.asked] == [3, 2]


@pytest.mark.parametrize("scope", [push_scope(NAMES[0]), delete_scope(NAMES[0]), "registry:catalog:*", ""])
async def test_what_is_more_than_reading_is_asked_alone(connect: Open, scope: str) -> None:
    async with SmallGitLab() as gitlab:
        client = connect(gitlab)
        client.tokens.expect(NAMES)
        url = client.registry.url("")
        await client.registry.send(Call("GET", url, "something", 10_000, scope=scope))
    assert gitlab.asked == [[scope] if scope else []]


async def test_what_is_not_granted_is_said_without_asking_the_registry(connect: Open) -> None:
    granted = {NAMES[1]: frozenset[str](), NAMES[2]: frozenset({"pull"}), "catalog": frozenset[str]()}
    async with SmallGitLab(granted) as gitlab:
        client = connect(gitlab)
        client.tokens.expect(NAMES[:3])
        assert await _ask(client, NAMES[0]) == 200
        denied = await _denied(client, NAMES[1])
        assert (denied.code, denied.status) == ("not-granted", None)
        assert NAMES[1] in denied.message
        assert "Reporter" in denied.hint
        assert await _ask(client, NAMES[2]) == 200
        assert "Maintainer" in (await _denied(client, NAMES[2], delete_scope(NAMES[2]))).hint
        assert "administrator" in (await _denied(client, "catalog", "registry:catalog:*")).hint
        await _denied(client, NAMES[2], delete_scope(NAMES[2]))
    assert len(gitlab.asked) == 3
    assert len(gitlab.paths) == 2


async def test_what_a_token_says_of_projects_is_kept(connect: Open) -> None:
    async with SmallGitLab(metas={NAMES[0]: {"project_id": 7, "project_path": "Team/app00"}}) as gitlab:
        client = connect(gitlab)
        await _ask(client, NAMES[0])
        meta = client.tokens.meta_of(NAMES[0])
    assert meta is not None
    assert (meta.project_id, meta.project_path) == (7, "Team/app00")
    assert client.tokens.meta_of(NAMES[1]) is None


async def test_long_tokens_make_for_smaller_requests(connect: Open) -> None:
    async with SmallGitLab(padding=400) as gitlab:
        client = connect(gitlab)
        client.tokens.expect(NAMES[:20])
        for name in NAMES[:20]:
            await _ask(client, name)
    counts = [len(scopes) for scopes in gitlab.asked]
    assert counts[0] == 16
    assert max(counts[1:]) <= 9
    assert sum(counts[1:]) == 20


async def test_an_address_that_is_too_long_is_asked_in_parts(connect: Open) -> None:
    async with SmallGitLab(answers=[(414, "<html>"), (414, "")]) as gitlab:
        client = connect(gitlab)
        client.tokens.expect(NAMES[:16])
        assert await _ask(client, NAMES[0]) == 200
    assert [len(scopes) for scopes in gitlab.asked] == [16, 8, 4]


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (401, '{"errors":[{"code":"UNAUTHORIZED","message":"HTTP Basic: Access denied"}]}'),
        (403, "Forbidden"),
        (403, '{"errors":[{"code":"DENIED","message":"access forbidden"}]}'),
    ],
)
async def test_the_first_failed_login_is_the_last_question(connect: Open, status: int, body: str) -> None:
    async with SmallGitLab(answers=[(status, body)] * 99) as gitlab:
        client = connect(gitlab)
        results = await asyncio.gather(*(_ask(client, name) for name in NAMES), return_exceptions=True)
        assert {error.code for error in results if isinstance(error, RegistryDenied)} == {"login-failed"}
        assert len(results) == len(NAMES)
        assert (await _denied(client, "other/thing", "")).code == "login-failed"
        with pytest.raises(RegistryDenied) as caught:
            await client.api.get("user", object, subject="our own user")
        assert caught.value.code == "login-failed"
        assert SECRET not in repr(caught.value.__dict__)
    assert len(gitlab.asked) == 1
    assert gitlab.paths == []


async def test_a_push_that_a_rule_forbids_is_no_failed_login(connect: Open) -> None:
    async with SmallGitLab(answers=[(403, '{"errors":[{"code":"DENIED","message":"access forbidden"}]}')]) as gitlab:
        client = connect(gitlab)
        assert "rule" in (await _denied(client, NAMES[0], push_scope(NAMES[0]))).hint
        assert await _ask(client, "team/push-service") == 200


async def test_without_credentials_a_refusal_is_for_that_repository_alone(connect: Open) -> None:
    async with SmallGitLab(answers=[(403, '{"errors":[{"code":"DENIED"}]}')]) as gitlab:
        client = connect(gitlab, Anonymous())
        denied = await _denied(client, NAMES[0])
        assert denied.code == "registry-denied"
        assert "public" in denied.hint
        assert (await _denied(client, NAMES[0])).message == denied.message
        assert await _ask(client, NAMES[1]) == 200
    assert gitlab.authorizations == ["", ""]
    assert len(gitlab.asked) == 2


@pytest.mark.parametrize(("lifetime", "fresh_until"), [(300, 270), (40, 20), (900, 870)])
async def test_a_token_is_replaced_in_time_by_gitlabs_clock(
    connect: Open, monkeypatch: pytest.MonkeyPatch, lifetime: float, fresh_until: float
) -> None:
    moment = 1000.0
    async with SmallGitLab(lifetime_seconds=lifetime) as gitlab:
        client = connect(gitlab)
        await _ask(client, NAMES[0])
        moment = clock.monotonic()
        monkeypatch.setattr(clock, "monotonic", lambda: moment)
        moment += fresh_until - 2
        assert client.tokens.find(pull_scope(NAMES[0])) is not None
        moment += 3
        assert client.tokens.find(pull_scope(NAMES[0])) is None


async def test_a_token_that_the_registry_no_longer_takes_is_replaced_once_for_all(connect: Open) -> None:
    async with SmallGitLab() as gitlab:
        client = connect(gitlab)
        client.tokens.expect(NAMES[:16])
        await _ask(client, NAMES[0])
        token = client.tokens.find(pull_scope(NAMES[0]))
        assert token is not None
        gitlab.spent.add(token.authorization.removeprefix("Bearer "))
        await asyncio.gather(*(_ask(client, name) for name in NAMES[:16]))
    assert [len(scopes) for scopes in gitlab.asked] == [16, 16]


async def test_a_token_that_is_no_jwt_is_used_as_it_is(connect: Open) -> None:
    async with SmallGitLab(answers=[(200, '{"token":"opaque","expires_in":100}')]) as gitlab:
        client = connect(gitlab)
        assert await _ask(client, NAMES[0], delete_scope(NAMES[0])) == 200
    assert len(gitlab.asked) == 1


@pytest.mark.parametrize(("status", "body"), [(404, ""), (200, "<html>"), (200, "{}"), (200, '{"token":"a b"}')])
async def test_what_is_no_token_is_said(connect: Open, status: int, body: str) -> None:
    async with SmallGitLab(answers=[(status, body)]) as gitlab:
        with pytest.raises(RegistryProtocolError, match="token"):
            await _ask(connect(gitlab), NAMES[0])
        assert await _ask(connect(gitlab), NAMES[0]) == 200


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (401, "PROTECTED_TAG", "tag-protected"),
        (401, "PROTECTED_MANIFEST", "manifest-protected"),
        (403, "IMMUTABLE_TAG", "tag-immutable"),
    ],
)
async def test_a_protection_leads_to_no_other_token(connect: Open, status: int, code: str, expected: str) -> None:
    async with SmallGitLab(refusals=[(status, code)]) as gitlab:
        denied = await _denied(connect(gitlab), NAMES[0])
    assert (denied.code, denied.status) == (expected, status)
    assert NAMES[0] in denied.message
    assert denied.hint
    assert (len(gitlab.asked), len(gitlab.paths)) == (1, 1)


async def test_a_repository_that_is_being_renamed_can_be_asked_for_later(connect: Open) -> None:
    async with SmallGitLab(refusals=[(409, "RENAME_IN_PROGRESS")]) as gitlab:
        client = connect(gitlab)
        url = client.registry.url(f"{NAMES[0]}/tags/list")
        answer = await client.registry.send(Call("GET", url, "tags", 10_000, scope=pull_scope(NAMES[0])))
        error = client.registry.error(answer, "the tags")
    assert isinstance(error, RegistryError)
    assert (error.code, error.temporary) == ("rename-in-progress", True)


async def test_credentials_go_to_no_other_token_server(connect: Open) -> None:
    async with ScriptedRegistry() as registry, SmallGitLab() as gitlab:
        challenge = 'Bearer realm="http://127.0.0.2:1/jwt/auth",service="container_registry"'
        registry.expect("GET", "/v2/", Reply(401, headers={"WWW-Authenticate": challenge}))
        client = open_client(ClientSettings(registry.url, Basic("regwarden", SECRET)), gitlab.url, limits=QUICK)
        with pytest.raises(RegistryProtocolError) as caught:
            await client.registry.send(Call("GET", client.registry.url(""), "the registry", 1000))
        await client.close()
    assert caught.value.code == "token-host-refused"
    assert gitlab.asked == []
