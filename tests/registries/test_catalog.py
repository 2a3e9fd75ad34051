"""Is the catalog read to its end, around the ways in which registries lose entries, and is doubt said?"""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from regwarden.errors import RegistryDenied, RegistryError, RegistryProtocolError, RegistryUnreachable
from regwarden.registries.api import RepositoryPage
from regwarden.registries.distribution.catalog import digit_parents
from regwarden.testing.scripted import ScriptedRegistry
from regwarden.testing.scripted_replies import (
    Answer,
    CloseWithoutAnswer,
    EndlessBody,
    Reply,
    catalog_reply,
    error_reply,
    json_reply,
    tags_reply,
)
from tests.fixtures.distribution_servers import StartRegistry
from tests.registries.conftest import QUICK, Connect

FIRST = "/v2/_catalog?n=3"
SMALL = replace(QUICK, page_size=3, retries=1)


async def _pages(connect: Connect, registry: ScriptedRegistry) -> list[RepositoryPage]:
    return [page async for page in connect(registry.url, SMALL).list_repositories()]


def _names(pages: list[RepositoryPage]) -> list[str]:
    return [name for page in pages for name in page.names]


async def test_links_are_followed_to_the_end_and_each_name_comes_once(connect: Connect) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("GET", FIRST, catalog_reply(["a", "b", "c"], next_target="/v2/_catalog?last=c&n=3"))
        registry.expect("GET", "/v2/_catalog?last=c&n=3", catalog_reply(["c", "d/e"]))
        pages = await _pages(connect, registry)
    assert [page.names for page in pages] == [("a", "b", "c"), ("d/e",)]
    assert all(page.is_trustworthy for page in pages)


async def test_a_link_with_words_of_its_own_and_an_absolute_address_is_followed(connect: Connect) -> None:
    async with ScriptedRegistry() as registry:
        target = f"{registry.url}/v2/_catalog?next_page=xyz&n=3"
        registry.expect("GET", FIRST, catalog_reply(["a"], next_target=target))
        registry.expect("GET", "/v2/_catalog?next_page=xyz&n=3", catalog_reply(["b"]))
        assert _names(await _pages(connect, registry)) == ["a", "b"]


async def test_a_proxy_may_hide_its_prefix_in_links(connect: Connect) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("GET", f"/docker{FIRST}", catalog_reply(["a"], next_target="/v2/_catalog?last=a&n=3"))
        registry.expect("GET", "/docker/v2/_catalog?last=a&n=3", catalog_reply(["b"]))
        connector = connect(f"{registry.url}/docker", SMALL)
        assert [page.names async for page in connector.list_repositories()] == [("a",), ("b",)]


@pytest.mark.parametrize(
    "target",
    [
        "http://elsewhere.example.com/v2/_catalog?last=c&n=3",
        "//elsewhere.example.com/v2/_catalog?last=c",
        "https://127.0.0.1/v2/_catalog?last=c",
        "/v2/other/tags/list?last=c",
        "/admin?last=c",
        "http://[broken/v2/_catalog",
    ],
)
async def test_a_link_elsewhere_is_not_followed_and_what_was_read_stays(connect: Connect, target: str) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("GET", FIRST, catalog_reply(["a"], next_target=target))
        with pytest.raises(RegistryProtocolError) as caught:
            await _pages(connect, registry)
    assert caught.value.code == "foreign-link"


async def test_pages_in_a_circle_are_noticed(connect: Connect) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("GET", FIRST, catalog_reply(["a"], next_target="/v2/_catalog?last=a&n=3"))
        registry.expect("GET", "/v2/_catalog?last=a&n=3", catalog_reply(["b"], next_target="/v2/_catalog?last=b&n=3"))
        registry.expect("GET", "/v2/_catalog?last=b&n=3", catalog_reply(["c"], next_target="/v2/_catalog?last=a&n=3"))
        with pytest.raises(RegistryProtocolError, match="circle"):
            await _pages(connect, registry)


async def test_links_that_bring_nothing_new_for_ever_are_noticed(connect: Connect) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("GET", FIRST, catalog_reply(["a"], next_target="/v2/_catalog?last=1"))
        for number in range(1, 5):
            target = f"/v2/_catalog?last={number + 1}"
            registry.expect("GET", f"/v2/_catalog?last={number}&n=3", catalog_reply(["a"], next_target=target))
        with pytest.raises(RegistryProtocolError, match="circle"):
            await _pages(connect, registry)


async def test_a_full_page_without_a_link_is_not_believed_to_be_the_last(connect: Connect) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("GET", FIRST, catalog_reply(["a", "b", "c"]))
        registry.expect("GET", "/v2/_catalog?last=c&n=3", catalog_reply(["d"]))
        assert _names(await _pages(connect, registry)) == ["a", "b", "c", "d"]


async def test_a_server_that_ignores_the_last_name_ends_the_walk(connect: Connect) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("GET", FIRST, catalog_reply(["a", "b", "c"]))
        registry.expect("GET", "/v2/_catalog?last=c&n=3", catalog_reply(["a", "b", "c"]))
        pages = await _pages(connect, registry)
    assert _names(pages) == ["a", "b", "c"]
    assert all(page.is_trustworthy for page in pages)


async def test_a_page_size_above_the_limit_is_halved(connect: Connect) -> None:
    async with ScriptedRegistry() as registry:
        refusal = error_reply(400, "PAGINATION_NUMBER_INVALID")
        registry.expect("GET", FIRST, refusal)
        registry.expect("GET", "/v2/_catalog?n=1", catalog_reply(["a"], next_target="/v2/_catalog?last=a&n=1"))
        registry.expect("GET", "/v2/_catalog?last=a&n=1", catalog_reply([]))
        assert _names(await _pages(connect, registry)) == ["a"]


async def test_a_page_that_breaks_is_asked_for_with_another_size_and_marked(connect: Connect) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("GET", FIRST, CloseWithoutAnswer(), CloseWithoutAnswer())
        registry.expect("GET", "/v2/_catalog?n=2", catalog_reply(["a", "b"], next_target="/v2/_catalog?last=b&n=2"))
        registry.expect("GET", "/v2/_catalog?last=b&n=3", catalog_reply(["c"]))
        pages = await _pages(connect, registry)
    assert _names(pages) == ["a", "b", "c"]
    assert [page.is_trustworthy for page in pages] == [False, True]
    assert "another size" in pages[0].doubt


async def test_a_page_that_breaks_at_every_size_is_an_error_after_what_was_read(connect: Connect) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("GET", FIRST, catalog_reply(["a"], next_target="/v2/_catalog?last=a&n=3"))
        registry.expect("GET", re.compile(r"/v2/_catalog\?last=a&n=\d+"), CloseWithoutAnswer(), is_repeated=True)
        pages = connect(registry.url, SMALL).list_repositories()
        assert await anext(pages) == RepositoryPage(("a",))
        with pytest.raises(RegistryUnreachable):
            await anext(pages)


async def test_a_parent_that_the_listing_lost_is_found_by_asking(connect: Connect) -> None:
    async with ScriptedRegistry() as registry:
        link = "/v2/_catalog?last=a%2F1b&n=3"
        registry.expect("GET", FIRST, catalog_reply(["a/1b"], next_target=link))
        registry.expect("GET", link, catalog_reply(["a/c", "x/2y"]))
        registry.expect("GET", "/v2/a/tags/list?n=1", tags_reply("a", ["t"]))
        registry.expect("GET", "/v2/x/tags/list?n=1", error_reply(404, "NAME_UNKNOWN"))
        pages = await _pages(connect, registry)
    assert _names(pages) == ["a/1b", "a/c", "x/2y", "a"]
    assert [page.is_trustworthy for page in pages] == [False, True, False]
    assert "left out 1" in pages[-1].doubt


async def test_a_parent_that_cannot_be_asked_for_leaves_a_doubt(connect: Connect) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("GET", FIRST, catalog_reply(["a/1b"], next_target="/v2/_catalog?last=x&n=3"))
        registry.expect("GET", "/v2/_catalog?last=x&n=3", catalog_reply([]))
        registry.expect("GET", "/v2/a/tags/list?n=1", error_reply(403, "DENIED"))
        pages = await _pages(connect, registry)
    assert pages[-1] == RepositoryPage((), is_trustworthy=False, doubt="1 possible parents could not be asked for")


async def test_a_catalog_of_one_page_needs_no_further_questions(connect: Connect) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("GET", FIRST, catalog_reply(["a/1b"]))
        assert await _pages(connect, registry) == [RepositoryPage(("a/1b",))]


async def test_names_that_cannot_be_names_are_left_out_and_make_the_page_doubtful(connect: Connect) -> None:
    async with ScriptedRegistry() as registry:
        names = ["ok", 5, None, "../etc", "UPPER", "a//b", "x" * 300, "a?b", "é", ["x"], "a/b#c", ""]
        registry.expect("GET", FIRST, json_reply({"repositories": names}))
        registry.expect("GET", re.compile(r"/v2/_catalog\?.*"), json_reply({"repositories": []}), is_optional=True)
        (page,) = [page for page in await _pages(connect, registry) if page.names]
    assert page.names == ("ok",)
    assert not page.is_trustworthy
    assert page.doubt.startswith("11 entries")


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Reply(200, b"<html>", {"Content-Type": "text/html"}), RegistryProtocolError),
        (Reply(200, b"{}"), RegistryProtocolError),
        (Reply(200, b"[" * 100_000), RegistryProtocolError),
        (json_reply({"repositories": "a"}), RegistryProtocolError),
        (error_reply(404, "NAME_UNKNOWN"), RegistryProtocolError),
        (Reply(404, b"404 page not found"), RegistryProtocolError),
        (error_reply(403, "DENIED"), RegistryDenied),
        (EndlessBody(), RegistryError),
    ],
)
async def test_what_is_no_catalog_is_never_an_empty_one(
    connect: Connect, answer: Answer, kind: type[RegistryError]
) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("GET", FIRST, answer)
        with pytest.raises(kind):
            await _pages(connect, registry)


async def test_null_is_an_empty_catalog(connect: Connect) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("GET", FIRST, json_reply({"repositories": None}))
        assert await _pages(connect, registry) == [RepositoryPage(())]


@pytest.mark.parametrize(
    ("name", "parents"),
    [("a", ()), ("a/b", ()), ("a/1b", ("a",)), ("a/1/2", ("a", "a/1")), ("a/b/3", ("a/b",)), ("1/b", ())],
)
def test_possible_parents_are_those_above_a_component_that_begins_with_a_digit(
    name: str, parents: tuple[str, ...]
) -> None:
    assert digit_parents(name) == parents


NAMES = ["a", "a/1b", "a/2", "a/b", "b/1", "b", "c/3/4", "c/3", "c", "c/d/5x", "c/d", "d", "e/9", "e", "f"]


@pytest.mark.e2e
@pytest.mark.parametrize("kind", ["docker_registry", "distribution3"])
@pytest.mark.parametrize("size", [1, 2, 4, 5, 7, 15])
async def test_a_real_registry_loses_no_repository_whatever_the_page_size(
    connect: Connect, kind: str, size: int, request: pytest.FixtureRequest
) -> None:
    start: StartRegistry = request.getfixturevalue(kind)
    server = start()
    for name in NAMES:
        for folder in ("_layers", "_manifests/tags"):
            (server.root / "docker/registry/v2/repositories" / name / folder).mkdir(parents=True)
    connector = connect(server.url, replace(QUICK, page_size=size))
    pages = [page async for page in connector.list_repositories()]
    assert sorted(_names(pages)) == sorted(NAMES)
