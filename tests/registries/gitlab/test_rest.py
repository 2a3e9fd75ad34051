"""Is GitLab's API read to its end, with its refusals told apart, and never followed to anywhere else?"""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest

from regwarden.errors import InputError, RegistryDenied, RegistryError, RegistryMissing, RegistryProtocolError
from regwarden.registries.client.credentials import Anonymous, Basic, Credentials
from regwarden.registries.client.limits import Limits
from regwarden.registries.client.settings import ClientSettings
from regwarden.registries.gitlab.client import GitLabClient, open_client
from regwarden.registries.gitlab.rest import quoted
from regwarden.testing.scripted import ScriptedRegistry
from regwarden.testing.scripted_replies import CloseWithoutAnswer, EndlessBody, Reply, json_reply
from tests.registries.gitlab.small_gitlab import SECRET, SmallGitLab

LIMITS = Limits(request_timeout_seconds=5, retry_wait_seconds=0.3, retries=1, page_bytes=100_000)
GROUP = "groups/team/registry/repositories"
PAGE = f"/api/v4/{GROUP}?page={{}}&per_page=100"
Open = Callable[..., GitLabClient]


class Repository(msgspec.Struct):
    """A row, as far as these tests look at it."""

    id: int
    name: str = ""


@pytest.fixture
async def connect() -> AsyncIterator[Open]:
    """Opens clients of a scripted GitLab; all are closed after the test."""
    opened: list[GitLabClient] = []

    def open_to(gitlab: ScriptedRegistry | SmallGitLab, credentials: Credentials | None = None, **more: Any) -> Any:
        settings = ClientSettings(
            "http://127.0.0.1:1", Basic("regwarden", SECRET) if credentials is None else credentials
        )
        opened.append(open_client(settings, gitlab.url, limits=LIMITS, **more))
        return opened[-1]

    yield open_to
    for client in opened:
        await client.close()


def _rows(*numbers: int, next_page: str | None = None, link: str = "") -> Reply:
    # What is empty would be left out by the scripted server.
    headers = {} if next_page is None else {"X-Next-Page": next_page or " "}
    return json_reply([{"id": number} for number in numbers], headers=headers | ({"Link": link} if link else {}))


async def _walk(pages: AsyncIterator[tuple[Repository, ...]]) -> list[int]:
    return [row.id async for page in pages for row in page]


async def _listed(connect: Open, *replies: Reply) -> list[int]:
    async with ScriptedRegistry() as gitlab:
        for number, reply in enumerate(replies, start=1):
            gitlab.expect("GET", PAGE.format(number), reply)
        return await _walk(connect(gitlab).api.pages(GROUP, Repository, subject="repositories"))


async def _refused(connect: Open, reply: Reply, **settings: Any) -> RegistryError:
    async with ScriptedRegistry() as gitlab:
        gitlab.expect("GET", "/api/v4/projects/7", reply, is_repeated=True)
        with pytest.raises(RegistryError) as caught:
            await connect(gitlab, **settings).api.get("projects/7", Repository, subject="the project 7")
    assert SECRET not in repr(caught.value.__dict__)
    return caught.value


@pytest.mark.parametrize(
    ("credentials", "token", "expected"),
    [
        (Basic("regwarden", SECRET), "", {"authorization": f"Bearer {SECRET}", "job-token": None}),
        (Basic("ann", "password"), "glpat-other", {"authorization": "Bearer glpat-other", "job-token": None}),
        (Basic("gitlab-ci-token", SECRET), "", {"authorization": None, "job-token": SECRET}),
        (Anonymous(), "", {"authorization": None, "job-token": None}),
    ],
)
async def test_each_kind_of_token_is_sent_as_gitlab_wants_it(
    connect: Open, credentials: Credentials, token: str, expected: dict[str, str | None]
) -> None:
    async with ScriptedRegistry() as gitlab:
        gitlab.expect("GET", "/api/v4/projects/team%2Fapp?statistics=true", json_reply({"id": 7}), headers=expected)
        api = connect(gitlab, credentials, api_token=token).api
        path = f"projects/{quoted('team/app')}"
        assert (await api.get(path, Repository, {"statistics": "true"}, subject="it")).id == 7
        assert api.has_token == (credentials != Anonymous())


async def test_a_list_is_read_by_numbers_to_its_end(connect: Open) -> None:
    assert await _listed(connect, _rows(1, 2, next_page="2"), _rows(3, next_page="3"), _rows(next_page="")) == [1, 2, 3]


async def test_without_numbers_a_link_says_that_there_is_more(connect: Open) -> None:
    link = '<http://other.example/x?page=9>; rel="prev", <https://elsewhere.example/api/v4/x?page=77>; rel="next"'
    assert await _listed(connect, _rows(1, link=link), _rows(2)) == [1, 2]


async def test_a_page_that_was_shifted_is_tolerated_but_not_a_list_without_end(connect: Open) -> None:
    assert await _listed(connect, _rows(1, next_page="2"), _rows(1, next_page="3"), _rows(2)) == [1, 1, 2]
    with pytest.raises(RegistryProtocolError) as caught:
        await _listed(connect, _rows(1, next_page="2"), _rows(1, next_page="3"), _rows(1, next_page="4"))
    assert caught.value.code == "page-loop"
    with pytest.raises(RegistryProtocolError, match="after page 1"):
        await _listed(connect, _rows(1, next_page="1"))


@pytest.mark.parametrize("body", [b"{}", b"<html>", b'[{"id":"x"}]', b"[1]", b"[" * 5000])
async def test_what_is_no_list_is_said(connect: Open, body: bytes) -> None:
    with pytest.raises(RegistryProtocolError, match="not what GitLab"):
        await _listed(connect, Reply(200, body))


async def test_a_keyset_list_takes_cursors_from_links_and_nothing_else(connect: Open) -> None:
    path = "projects/7/registry/repositories/9/tags"
    link = "<https://elsewhere.example:81/api/v4/projects/8?id=8&last=v%2B1&pagination=keyset&per_page=1>; rel=next"
    async with ScriptedRegistry() as gitlab:
        first = f"/api/v4/{path}?pagination=keyset&per_page=100&sort=asc"
        gitlab.expect("GET", first, _rows(1, link=link))
        gitlab.expect("GET", f"{first}&last=v%2B1", _rows(2))
        query = {"pagination": "keyset", "sort": "asc"}
        found = await _walk(connect(gitlab).api.keyset_pages(path, Repository, query, subject="tags"))
    assert found == [1, 2]


async def test_a_cursor_that_leads_nowhere_ends_the_list(connect: Open) -> None:
    async with ScriptedRegistry() as gitlab:
        again = _rows(1, link="</x?cursor=a>; rel=next")
        gitlab.expect("GET", re.compile(r"/api/v4/projects\?.*"), again, is_repeated=True)
        with pytest.raises(RegistryProtocolError, match="no end"):
            await _walk(connect(gitlab).api.keyset_pages("projects", Repository, subject="projects"))
        gitlab.expect("GET", "/api/v4/groups?per_page=100", _rows(1, link="</x?page=2>; rel=next"))
        with pytest.raises(RegistryProtocolError, match="no cursor"):
            await _walk(connect(gitlab).api.keyset_pages("groups", Repository, subject="groups"))


async def test_a_project_that_moved_is_found_by_its_number_at_our_own_address(connect: Open) -> None:
    moved = Reply(301, headers={"Location": "https://elsewhere.example/api/v4/projects/7?x=1"})
    async with ScriptedRegistry() as gitlab:
        gitlab.expect("GET", "/api/v4/projects/old%2Fapp/registry/repositories?tags=true", moved)
        gitlab.expect("GET", "/api/v4/projects/7/registry/repositories?tags=true", json_reply({"id": 1}))
        api = connect(gitlab).api
        found = await api.get("projects/old%2Fapp/registry/repositories", Repository, {"tags": "true"}, subject="it")
    assert found.id == 1
    assert (await _refused(connect, Reply(301, headers={"Location": "https://evil.example/"}))).status == 301
    assert (await _refused(connect, Reply(302, headers={"Location": "/users/sign_in"}))).code == "registry-protocol"


@pytest.mark.parametrize(
    ("status", "document", "code"),
    [
        (403, {"error": "insufficient_scope", "error_description": "x", "scope": "api"}, "api-scope"),
        (403, {"message": "403 Forbidden"}, "api-forbidden"),
        (403, {"message": "403 Forbidden - cannot delete protected tag(s)"}, "tag-protected"),
        (
            403,
            {"message": "403 Forbidden - Deleting protected container repository forbidden."},
            "repository-protected",
        ),
        (404, {"message": "404 Project Not Found"}, "api-not-found"),
        (405, {"message": "405 Method Not Allowed"}, "api-unsupported"),
        (400, {"error": "name_regex_delete is an invalid regexp"}, "api-refused"),
        (422, {"message": {"error": ["x"]}}, "api-refused"),
        (503, {"message": "We are having trouble connecting to the Container Registry. …"}, "registry-failing"),
        (502, {}, "registry-failing"),
        (520, {}, "registry-protocol"),
    ],
)
async def test_refusals_are_told_apart(connect: Open, status: int, document: object, code: str) -> None:
    error = await _refused(connect, json_reply(document, status=status))
    assert (error.code, error.status) == (code, status)
    assert isinstance(error, RegistryDenied) == (status == 403)
    assert not isinstance(error, RegistryMissing)
    assert error.temporary == (status in {502, 503})
    assert "the project 7" in error.message
    assert "GitLab" in error.message
    if status == 503:
        assert "does not reach its registry" in error.message


async def test_pages_of_proxies_are_not_taken_for_gitlabs_word(connect: Open) -> None:
    html = Reply(404, b"<html><h1>Not here</h1></html>", {"Content-Type": "text/html"})
    error = await _refused(connect, html)
    assert (error.code, error.diagnostics) == ("registry-protocol", "Not here")


@pytest.mark.parametrize(
    ("document", "word"),
    [
        ({"message": "401 Unauthorized"}, "accept"),
        ({"error": "invalid_token", "error_description": "Token is expired. You can either …"}, "expired"),
        ({"error": "invalid_token", "error_description": "Token was revoked."}, "revoked"),
    ],
)
async def test_a_token_that_is_not_accepted_is_shown_once_only(connect: Open, document: object, word: str) -> None:
    async with ScriptedRegistry() as gitlab:
        gitlab.expect("GET", "/api/v4/user", json_reply(document, status=401))
        client = connect(gitlab)
        for _ in range(2):
            with pytest.raises(RegistryDenied, match=word) as caught:
                await client.api.get("user", object, subject="our own user")
            assert caught.value.code == "login-failed"
        with pytest.raises(RegistryDenied):
            client.tokens.find("repository:team/app:pull")


async def test_another_token_or_an_accepted_login_is_not_spoilt_by_the_api(connect: Open) -> None:
    async with ScriptedRegistry() as gitlab:
        gitlab.expect("GET", "/api/v4/user", *[json_reply({}, status=401)] * 2)
        other, deploying = connect(gitlab, api_token="glpat-other"), connect(gitlab)
        deploying.login.was_accepted = True
        for client in (other, deploying, other, deploying):
            with pytest.raises(RegistryDenied):
                await client.api.get("user", object, subject="our own user")
            assert client.tokens.find("repository:team/app:pull") is None


async def test_nobody_is_asked_to_sign_in_without_a_failed_login(connect: Open) -> None:
    error = await _refused(connect, json_reply({"message": "401 Unauthorized"}, status=401), credentials=Anonymous())
    assert error.code == "api-forbidden"


@pytest.mark.parametrize("header", ["Retry-After", "RateLimit-Reset"])
async def test_throttling_is_waited_for_as_long_as_gitlab_says(connect: Open, header: str) -> None:
    date = {"Date": "Thu, 01 Jan 2026 00:00:00 GMT"}
    said = {"Retry-After": "0"} if header == "Retry-After" else {"RateLimit-Reset": "1767225600"}
    async with ScriptedRegistry() as gitlab:
        throttled = Reply(429, b"Retry later", {**date, **said, "RateLimit-Remaining": "0"})
        gitlab.expect("GET", "/api/v4/user", throttled, json_reply({}))
        client = connect(gitlab)
        started = time.monotonic()
        await client.api.get("user", object, subject="our own user")
    assert time.monotonic() - started < 0.25
    assert client.traffic.throttled == 1
    error = await _refused(connect, Reply(429, b"Retry later", {**date, "RateLimit-Reset": "1767229200"}))
    assert (error.code, error.temporary) == ("registry-throttled", True)


async def test_a_delete_is_sent_once(connect: Open) -> None:
    path = "projects/7/registry/repositories/9"
    async with ScriptedRegistry() as gitlab:
        gitlab.expect("DELETE", f"/api/v4/{path}", json_reply(202, status=202), CloseWithoutAnswer(), Reply(503))
        client = connect(gitlab)
        assert await client.api.delete(path, subject="the repository") == 202
        for _ in range(2):
            with pytest.raises(RegistryError) as caught:
                await client.api.delete(path, subject="the repository")
            assert caught.value.temporary
    assert client.traffic.requests == 3


async def test_graphql_answers_with_data_and_errors(connect: Open) -> None:
    async with ScriptedRegistry() as gitlab:
        document = {"data": {"project": None}, "errors": [{"message": "not\navailable"}, "x"]}
        gitlab.expect("POST", "/api/graphql", json_reply(document), json_reply([]))
        api = connect(gitlab).api
        found = await api.graphql("rules", "query rules { x }", {"path": "a"}, subject="rules")
        with pytest.raises(RegistryProtocolError):
            await api.graphql("rules", "query rules { x }", {}, subject="rules")
        sent = json.loads(gitlab.requests[0].body)
    assert found == ({"project": None}, ("not available", "x"))
    assert sent == {"operationName": "rules", "query": "query rules { x }", "variables": {"path": "a"}}


async def test_answers_that_are_too_large_are_not_read(connect: Open) -> None:
    async with ScriptedRegistry() as gitlab:
        gitlab.expect("GET", "/api/v4/user", EndlessBody())
        with pytest.raises(RegistryProtocolError) as caught:
            await connect(gitlab).api.get("user", object, subject="our own user")
    assert caught.value.code == "registry-too-large"


@pytest.mark.parametrize("path", ["", "/user", "projects/../user", "projects/a b", "user?x=1", "user#x", "a//b"])
async def test_paths_stay_below_the_api(connect: Open, path: str) -> None:
    async with ScriptedRegistry() as gitlab:
        with pytest.raises(InputError):
            await connect(gitlab).api.get(path, object, subject="something")


@pytest.mark.parametrize("text", ["", ".", "..", "a\nb"])
def test_what_cannot_stand_in_an_address_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        quoted(text)
    assert quoted("a/b?c#d e%") == "a%2Fb%3Fc%23d%20e%25"
