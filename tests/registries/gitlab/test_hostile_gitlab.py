"""Does a GitLab or a registry that lies get nothing of ours, and is what it leaves out never taken for gone?"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from regwarden import clock
from regwarden.errors import RegistryDenied, RegistryProtocolError
from regwarden.registries.client.client import pull_scope
from regwarden.registries.client.credentials import Basic
from regwarden.registries.client.limits import Limits
from regwarden.registries.client.settings import ClientSettings
from regwarden.registries.client.transport import Call
from regwarden.registries.gitlab import listing, login
from regwarden.registries.gitlab.client import GitLabClient, open_client
from regwarden.registries.gitlab.people import People
from regwarden.testing.scripted import ScriptedRegistry
from regwarden.testing.scripted_replies import Reply, json_reply
from tests.registries.gitlab.small_gitlab import SECRET, SmallGitLab

QUICK = Limits(request_timeout_seconds=5, retry_wait_seconds=0.05, retries=1, page_size=3)
REFUSED = (401, '{"errors":[{"code":"UNAUTHORIZED","message":"HTTP Basic: Access denied"}]}')
Open = Callable[..., GitLabClient]


@pytest.fixture
async def connect() -> AsyncIterator[Open]:
    """Opens clients; all are closed after the test."""
    opened: list[GitLabClient] = []

    def open_to(gitlab: SmallGitLab, *, registry: str = "", password: str = SECRET) -> GitLabClient:
        settings = ClientSettings(registry or gitlab.url, Basic("regwarden", password))
        opened.append(open_client(settings, gitlab.url, limits=QUICK))
        return opened[-1]

    yield open_to
    for client in opened:
        await client.close()


async def _ask(client: GitLabClient, repository: str = "team/app") -> int:
    call = Call("GET", client.registry.url(f"{repository}/tags/list"), "tags", 10_000, scope=pull_scope(repository))
    return (await client.registry.send(call)).status


async def test_a_refused_login_is_not_tried_again_by_the_next_connector(
    connect: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SmallGitLab(answers=[REFUSED, REFUSED]) as gitlab:
        for _ in range(50):
            with pytest.raises(RegistryDenied) as caught:
                await _ask(connect(gitlab))
            assert caught.value.code == "login-failed"
        assert len(gitlab.asked) == 1
        with pytest.raises(RegistryDenied):  # another secret may be the right one
            await _ask(connect(gitlab, password="glpat-other-secret"))
        assert len(gitlab.asked) == 2
        later = clock.monotonic() + login.PAUSE_SECONDS + 1
        monkeypatch.setattr(clock, "monotonic", lambda: later)
        assert await _ask(connect(gitlab)) == 200


async def test_a_service_comes_back_by_itself_after_a_refusal(connect: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    async with SmallGitLab(answers=[REFUSED]) as gitlab:
        client = connect(gitlab)
        await asyncio.gather(*(_ask(client, f"team/app{number}") for number in range(16)), return_exceptions=True)
        assert len(gitlab.asked) == 1
        later = clock.monotonic() + login.PAUSE_SECONDS + 1
        monkeypatch.setattr(clock, "monotonic", lambda: later)
        assert await _ask(client) == 200


async def test_a_refusal_of_the_api_says_nothing_of_other_connectors(connect: Open) -> None:
    """A deploy token is good for the registry and unknown to the API."""
    async with ScriptedRegistry() as rest:
        rest.expect("GET", "/api/v4/user", json_reply({"message": "401 Unauthorized"}, status=401))
        settings = ClientSettings(rest.url, Basic("regwarden", SECRET))
        first, second = (open_client(settings, rest.url, limits=QUICK) for _ in range(2))
        with pytest.raises(RegistryDenied, match="401"):
            await first.api.get("user", object, subject="our own user")
        assert first.login.failure is not None
        assert second.login.failure is None
        await first.close()
        await second.close()


@pytest.mark.parametrize("scheme", ["Basic", 'Digest nonce="x",qop="auth",algorithm=SHA-256,'])
async def test_a_registry_that_asks_for_the_password_itself_does_not_get_it(connect: Open, scheme: str) -> None:
    async with ScriptedRegistry() as registry, SmallGitLab() as gitlab:
        reply = Reply(401, headers={"WWW-Authenticate": f'{scheme} realm="registry"'})
        registry.expect("GET", "/v2/team/app/tags/list", reply, headers={"authorization": None})
        with pytest.raises(RegistryDenied, match="user and password"):
            await _ask(connect(gitlab, registry=registry.url))
    assert gitlab.asked == []


@pytest.mark.parametrize("place", ["{own}/jwt/auth", "{user}/jwt/auth", "{port}/jwt/auth"])
async def test_a_realm_that_is_not_our_gitlab_gets_nothing(connect: Open, place: str) -> None:
    async with ScriptedRegistry() as registry, SmallGitLab() as gitlab:
        named = {"own": registry.url, "user": gitlab.url.replace("//", "//a@"), "port": "http://127.0.0.1:1"}
        challenge = f'Bearer realm="{place.format(**named)}",service="container_registry"'
        registry.expect("GET", "/v2/team/app/tags/list", Reply(401, headers={"WWW-Authenticate": challenge}))
        with pytest.raises(RegistryProtocolError):
            await _ask(connect(gitlab, registry=registry.url))
    assert gitlab.asked == []


async def test_what_a_registry_echoes_of_a_token_is_not_shown(connect: Open) -> None:
    async with SmallGitLab() as gitlab:
        client = connect(gitlab)
        await _ask(client)
        token = client.tokens.find(pull_scope("team/app"))
        assert token is not None
        value = token.authorization.removeprefix("Bearer ")
        basic = gitlab.authorizations[0].removeprefix("Basic ")
        shown = client.registry.transport.redact.clean(f"what is {value}? and {value[:90]}, {basic}, {SECRET}")
    assert "eyJ" not in shown
    assert basic[:8] not in shown
    assert SECRET not in shown


def _rows(count: int, start: int = 0) -> list[dict[str, int]]:
    return [{"id": start + number} for number in range(count)]


async def _walked(pages: AsyncIterator[tuple[Any, ...]]) -> int:
    return sum([len(page) async for page in pages])


async def test_a_full_page_is_not_the_last_because_a_proxy_dropped_the_headers(connect: Open) -> None:
    async with ScriptedRegistry() as rest:
        for number, count in ((1, 100), (2, 1)):
            page = json_reply(_rows(count, number * 1000))
            rest.expect("GET", f"/api/v4/groups?page={number}&per_page=100", page)
        client = connect(rest)
        assert await _walked(client.api.pages("groups", object, subject="the groups")) == 101


async def test_a_link_counts_where_the_header_for_the_next_page_is_empty(connect: Open) -> None:
    async with ScriptedRegistry() as rest:
        more = {"X-Next-Page": " ", "Link": '<https://elsewhere.example/api/v4/groups?page=9>; rel="next"'}
        rest.expect("GET", "/api/v4/groups?page=1&per_page=100", json_reply(_rows(2), headers=more))
        rest.expect("GET", "/api/v4/groups?page=2&per_page=100", json_reply(_rows(1, 7)))
        assert await _walked(connect(rest).api.pages("groups", object, subject="the groups")) == 3


async def test_a_full_page_by_cursor_without_a_link_is_not_the_end(connect: Open) -> None:
    async with ScriptedRegistry() as rest:
        rest.expect("GET", "/api/v4/projects?pagination=keyset&per_page=100", json_reply(_rows(100)))
        pages = connect(rest).api.keyset_pages("projects", object, {"pagination": "keyset"}, subject="the projects")
        with pytest.raises(RegistryProtocolError, match="next page"):
            await _walked(pages)


def _tag(name: str, fill: str = "a", **more: object) -> dict[str, object]:
    return {
        "name": name,
        "digest": f"sha256:{fill * 64}",
        "media_type": "application/vnd.oci.image.manifest.v1+json",
    } | more


class Liar(SmallGitLab):
    """Its listing has the pages of ``script``, each with the marker that leads on; then the last again and again."""

    script: list[tuple[list[dict[str, object]], str]]
    listings = 0

    async def _handle(self, request: Any) -> Any:
        answer = await super()._handle(request)
        if answer.status != 200 or not request.path.startswith("/gitlab/v1/repositories/"):
            return answer
        rows, marker = self.script[min(self.listings, len(self.script) - 1)]
        self.listings += 1
        marker = marker.format(self.listings)
        headers = {"Link": f'<{request.path}?n=3&last={marker}>; rel="next"'} if marker else {}
        return type(answer)(text=json.dumps(rows), headers=headers, content_type="application/json")


async def test_a_tag_that_is_listed_twice_must_be_asked_for(connect: Open) -> None:
    async with Liar() as gitlab:
        gitlab.script = [([_tag("a"), _tag("b"), _tag("a", "c")], "b"), ([_tag("c"), _tag("b")], "")]
        found = await listing.list_tags(connect(gitlab).registry, "team/app")
    assert (found.tags, found.is_complete) == (("a", "b", "c"), True)
    assert set(found.listed or {}) == {"b", "c"}


async def test_pages_that_bring_nothing_new_end_the_listing_with_a_doubt(connect: Open) -> None:
    async with Liar() as gitlab:
        gitlab.script = [([_tag("a"), _tag("b")], "m{}")]
        found = await listing.list_tags(connect(gitlab).registry, "team/app")
    assert gitlab.listings <= 4
    assert (found.tags, found.is_complete) == (("a", "b"), False)


@pytest.mark.parametrize(
    "moment", ["0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000+14:00", "9999-12-31T23:59:59-12:00", "1970-01-01", 7]
)
async def test_a_moment_that_cannot_be_makes_no_tag_old(connect: Open, moment: object) -> None:
    async with Liar() as gitlab:
        gitlab.script = [([_tag("a", published_at=moment)], "")]
        found = await listing.list_tags(connect(gitlab).registry, "team/app")
    assert found.listed is not None
    assert found.listed["a"].published_at is None


async def test_a_listing_of_other_shapes_is_no_truth(connect: Open) -> None:
    async with Liar() as gitlab:
        client = connect(gitlab)
        for rows in ([{"name": "../x"}], [7, None], [{"name": ["a"]}]):
            gitlab.script = [(rows, "")]  # type: ignore[list-item]  # that is the point
            with pytest.raises(listing.UnreadableListing):
                await listing.list_tags(client.registry, "team/app")
        gitlab.script = [([_tag("a"), {"name": "x" * 200}, _tag("b", digest="md5:abc"), _tag("c", referrers=7)], "")]
        found = await listing.list_tags(client.registry, "team/app")
    assert (found.tags, found.is_complete) == (("a", "b", "c"), False)
    assert found.listed is not None
    assert ("b" in found.listed, found.listed["c"].referrers) == (False, None)


async def test_a_refusal_of_the_api_is_not_remembered_for_ever(connect: Open) -> None:
    async with ScriptedRegistry() as rest:
        refused = json_reply({"message": "403 Forbidden"}, status=403)
        for path in ("personal_access_tokens/self", "metadata"):
            rest.expect("GET", f"/api/v4/{path}", refused, refused)
        rest.expect("GET", "/api/v4/user", refused, json_reply({"username": "mia"}))
        people = People(connect(rest).api)
        assert (await people.find()).refusal
        assert (await people.find()).refusal
        people.forget_refusal()
        assert (await people.find()).user == "mia"
