"""The contract of gitlab-registry-usage-rest, row by row: routes, levels, links, media types, errors."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from regwarden.errors import StoreError
from regwarden.store.database import Access, Database, open_database
from tests.web.compat.gitlab_rest_server import CRAWLED_AT, REPOSITORIES, GitlabRest, basic, fill, opened
from tests.web.conftest import Answer

HAL = "application/hal+json"
JSON = "application/json"
HTML = "text/html; charset=utf-8"
STAMP = CRAWLED_AT.timestamp()
FAMILIES = ("repositories", "images")


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    file = tmp_path_factory.mktemp("gitlab-rest") / "x.sqlite3"
    with open_database(f"sqlite:///{file}", access=Access.WRITE, create=True) as database:
        database.write_now(fill)
        yield database


@pytest.fixture
async def rest(database: Database) -> AsyncIterator[GitlabRest]:
    async with opened(database) as rest:
        yield rest


def sized(name: str) -> dict[str, Any]:
    size, disk, _ = REPOSITORIES[name]
    return {"name": name, "size": size, "disk_size": disk}


def tags_of(name: str) -> list[dict[str, Any]]:
    return [{"name": tag, "size": a, "disk_size": b} for tag, (a, b) in sorted(REPOSITORIES[name][2].items())]


def with_tags(name: str) -> dict[str, Any]:
    """A repository with everything in it, as nested dicts."""
    if REPOSITORIES[name][0] is None:
        return sized(name)
    return {**sized(name), "_embedded": {"related": {"_embedded": {"items": tags_of(name)} if tags_of(name) else {}}}}


LEVELS: dict[int, dict[str, Any]] = {
    0: {"timestamp": STAMP},
    1: {"timestamp": STAMP, "_embedded": {"items": [sized(name) for name in REPOSITORIES]}},
    2: {
        "timestamp": STAMP,
        "_embedded": {
            "items": [
                {**sized(name), **({} if size is None else {"_embedded": {"related": {}}})}
                for name, (size, *_) in REPOSITORIES.items()
            ]
        },
    },
    3: {"timestamp": STAMP, "_embedded": {"items": [with_tags(name) for name in REPOSITORIES]}},
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("embed", "level"),
    [
        ("", 0),
        ("?embed=0", 0),
        ("?embed=-1", 0),
        ("?embed=no", 0),
        ("?embed=", 0),
        ("?embed=%C2%B2", 0),
        ("?embed=1", 1),
        ("?embed=01", 1),
        ("?embed=2", 2),
        ("?embed=3", 3),
        ("?embed=true", 3),
        ("?embed=YES", 3),
        ("?embed=t", 3),
        ("?embed=Y", 3),
        ("?embed=99999999999999999999", 3),
        (f"?embed={'9' * 5000}", 3),
        ("?embed=1&embed=3", 1),
    ],
)
async def test_the_collection_has_as_many_levels_as_asked_for(
    rest: GitlabRest, family: str, embed: str, level: int
) -> None:
    answer = await rest.get(f"/{family}{embed}")
    assert (answer.status, answer.headers["content-type"]) == (200, HAL)
    assert answer.json == LEVELS[level]
    assert json.dumps(answer.json) == json.dumps(LEVELS[level])  # the order of the members too
    assert int(answer.headers["content-length"]) == len(answer.body)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/repositories/team%2Fapp", sized("team/app")),
        ("/repositories/team%2fapp", sized("team/app")),
        ("/repositories/team/app", sized("team/app")),
        ("/repositories/denied", sized("denied")),
        ("/repositories/denied?embed=true", sized("denied")),
        ("/repositories/empty", sized("empty")),
        ("/repositories/empty?embed=true", with_tags("empty")),
        ("/repositories/empty?embed=1", {**sized("empty"), "_embedded": {"related": {}}}),
        ("/repositories/team/app?embed=1", {**sized("team/app"), "_embedded": {"related": {}}}),
        ("/repositories/team/app?embed=2", with_tags("team/app")),
        ("/repositories/team/app/tags", {}),
        ("/repositories/team/app/tags?embed=1", {"_embedded": {"items": tags_of("team/app")}}),
        ("/repositories/empty/tags?embed=1", {"_embedded": {}}),
        ("/repositories/denied/tags?embed=1", {}),
        ("/repositories/team/app/tags/1.0", tags_of("team/app")[0]),
        ("/repositories/team%2Fapp/tags/1.0?embed=true", tags_of("team/app")[0]),
        ("/repositories/team%2Fapp/tags/1%2E0", tags_of("team/app")[0]),
        # Without the encoded slash these are the tag "tags" of a repository "tags", as the predecessor had it.
        ("/repositories/tags%2Ftags/tags/tags", {"name": "tags", "size": 24, "disk_size": 0}),
        ("/repositories/tags%2Ftags/tags/unread", {"name": "unread", "size": None, "disk_size": None}),
        # Deviation: this was a 500.
        ("/repositories/denied/tags/any", {"name": "any", "size": None, "disk_size": None}),
    ],
)
async def test_a_resource_by_its_path(rest: GitlabRest, path: str, expected: dict[str, Any]) -> None:
    for family in FAMILIES:
        answer = await rest.get(path.replace("/repositories", f"/{family}"))
        assert (answer.status, answer.headers["content-type"]) == (200, HAL)
        assert json.dumps(answer.json) == json.dumps(expected)


@pytest.mark.parametrize("truth", ["true", "YES", "1", "t", "Y"])
async def test_links_of_every_resource(rest: GitlabRest, truth: str) -> None:
    collection = (await rest.get(f"/images?links={truth}")).json
    assert list(collection) == ["timestamp", "_links"]
    names = list(REPOSITORIES)
    assert collection["_links"] == {
        "self": {"href": "/images"},
        "items": [{"href": f"/images/{name.replace('/', '%2F')}", "title": name} for name in names],
    }
    assert (await rest.get(f"/repositories/team%2Fapp?links={truth}")).json["_links"] == {
        "self": {"href": "/repositories/team%2Fapp"},
        "collection": {"href": "/repositories"},
        "related": {"href": "/repositories/team%2Fapp/tags", "title": "tags"},
    }
    assert (await rest.get(f"/repositories/team%2Fapp/tags?links={truth}")).json == {
        "_links": {
            "self": {"href": "/repositories/team%2Fapp/tags"},
            "up": {"href": "/repositories/team%2Fapp"},
            "items": [
                {"href": f"/repositories/team%2Fapp/tags/{tag}", "title": tag} for tag in ("1.0", "2.0")
            ],  # deviation: the title was that of the repository
        }
    }
    assert (await rest.get(f"/repositories/team%2Fapp/tags/1.0?links={truth}")).json["_links"] == {
        "self": {"href": "/repositories/team%2Fapp/tags/1.0"},  # deviation: was /repositories/1.0
        "collection": {"href": "/repositories/team%2Fapp/tags"},
    }
    unreadable = {"self": {"href": "/repositories/denied"}, "collection": {"href": "/repositories"}}
    assert (await rest.get(f"/repositories/denied?links={truth}")).json["_links"] == unreadable
    for name in ("denied", "empty"):
        assert (await rest.get(f"/repositories/{name}/tags?links={truth}")).json == {
            "_links": {"self": {"href": f"/repositories/{name}/tags"}, "up": {"href": f"/repositories/{name}"}}
        }


@pytest.mark.parametrize("falsehood", ["", "0", "2", "no", "on"])
async def test_links_only_when_asked_for(rest: GitlabRest, falsehood: str) -> None:
    assert "_links" not in (await rest.get(f"/repositories?links={falsehood}")).json


def links_in(document: Any) -> Iterator[str]:
    if isinstance(document, dict):
        if isinstance(document.get("href"), str):
            yield document["href"]
        for value in document.values():
            yield from links_in(value)
    elif isinstance(document, list):
        for value in document:
            yield from links_in(value)


@pytest.mark.parametrize("mount", ["", "/compat/gitlab-registry-usage-rest", "/old/place"])
@pytest.mark.parametrize("family", FAMILIES)
async def test_every_link_leads_to_what_it_says(database: Database, mount: str, family: str) -> None:
    async with opened(database, mount=mount) as rest:
        everything = (await rest.get(f"/{family}?embed=true&links=true")).json
        links = set(links_in(everything))
        assert len(links) == 15
        for link in links:
            assert link.startswith(f"{mount}/{family}")
            found = await rest.get(f"{link.removeprefix(mount)}?links=true")
            assert found.status == 200
            assert found.json["_links"]["self"]["href"] == link


async def test_the_frontend_finds_what_it_reads(rest: GitlabRest) -> None:
    """gitlab-registry-usage-frontend: it signs in, asks for everything, and reads exactly these members."""
    data = (await rest.get("/repositories?embed=true")).json
    assert data["timestamp"] == STAMP
    seen = {}
    for repository in data["_embedded"]["items"]:
        tags = None
        if repository["size"] is not None:
            tags = {
                tag["name"]: (tag["size"], tag["disk_size"])
                for tag in repository["_embedded"]["related"]["_embedded"].get("items", [])
            }
        seen[repository["name"]] = (repository["size"], repository["disk_size"], tags or {})
    assert seen == REPOSITORIES


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("", HAL),
        ("*/*", HAL),
        ("application/xml", HAL),
        ("application/json", HAL),
        ("application/hal+json", HAL),
        ("text/html;q=0", HAL),
        ("text/html;q=x", HAL),
        ("text/html", "text/html"),
        ("text/*", "text/html"),
        ("text/html;q=0.5, application/hal+json;q=0.4", "text/html"),
        ("text/html;q=0.4, application/hal+json;q=0.5", HAL),
        ("application/json, text/html;q=0.9, */*;q=0.1", "text/html"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "text/html"),
    ],
)
async def test_the_media_type_is_negotiated(rest: GitlabRest, accept: str, media_type: str) -> None:
    answer = await rest.get("/repositories?embed=true&links=true", Accept=accept)
    assert (answer.status, answer.headers["content-type"]) == (200, media_type)
    if media_type != HAL:
        assert answer.body.startswith(b"<!DOCTYPE html>")
        for text in (b"<th>timestamp</th>", b"<td>team/app</td>", b"<td>/repositories/team%2Fapp/tags/1.0</td>"):
            assert text in answer.body
        assert answer.body.count(b"<table") == answer.body.count(b"</table>")
        assert answer.body.count(b"<tr>") == answer.body.count(b"</tr>")


async def test_html_is_escaped() -> None:
    with open_database(":memory:", access=Access.WRITE, create=True) as hostile:
        name = "<script>alert(1)</script>&"
        hostile.write_now(lambda connection: fill(connection, [(name, (1, 1, {name: (1, 1)}))]))
        async with opened(hostile) as rest:
            answer = await rest.get("/repositories?embed=true&links=true", Accept="text/html")
            assert b"<script>" not in answer.body
            assert b"<td>&lt;script&gt;alert(1)&lt;/script&gt;&amp;</td>" in answer.body
            everything = (await rest.get("/repositories?embed=true&links=true")).json
            for link in set(links_in(everything)):
                assert (await rest.get(f"{link}?links=1")).json["_links"]["self"]["href"] == link


@pytest.mark.parametrize(
    ("content_type", "body", "query", "level"),
    [
        ("application/json", b'{"embed": true}', "", 3),
        ("application/json; charset=utf-8", b'{"embed": 1}', "", 1),
        ("application/hal+json", b'{"embed": "2"}', "", 2),
        ("application/json", b'{"embed": ["1", "3"]}', "", 1),
        ("application/json", b'{"embed": null}', "?embed=2", 2),
        ("application/json", b'{"embed": "3"}', "?embed=1", 3),
        ("application/json", b'{"other": {}}', "?embed=1", 1),
        ("application/x-www-form-urlencoded", b"embed=1&embed=2", "", 1),
        ("application/x-www-form-urlencoded", b"embed=1", "?embed=2", 2),
        ("text/plain", b"embed=1", "", 0),
    ],
)
async def test_parameters_come_from_the_body_too(
    rest: GitlabRest, content_type: str, body: bytes, query: str, level: int
) -> None:
    headers = {"Authorization": f"Bearer {await rest.token()}", "Content-Type": content_type}
    answer = await rest.ask(f"/repositories{query}", headers=headers, body=body)
    assert (answer.status, answer.json) == (200, LEVELS[level])


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"\xff", b"[" * 60_000, b'"' + b"x" * 70_000 + b'"'])
async def test_a_body_that_is_no_json_object_is_an_error(rest: GitlabRest, body: bytes) -> None:
    headers = {"Authorization": f"Bearer {await rest.token()}", "Content-Type": "application/json"}
    answer = await rest.ask("/repositories", headers=headers, body=body)
    assert (answer.status, answer.headers["content-type"], list(answer.json)) == (400, HAL, ["message"])


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("/repositories/nope", "/repositories/nope"),
        ("/repositories/no%20%3Cpe/tags", "/repositories/no%20%3Cpe/tags"),
        ("/repositories/plain/tags/n%C3%A4%2fx", "/repositories/plain/tags/n%C3%A4%2Fx"),
        ("/repositories/plain/", "/repositories/plain%2F"),
        ("/repositories/plain/tags/", "/repositories/plain%2Ftags%2F"),
        ("/repositories/plain/tags/latest/", "/repositories/plain/tags/latest%2F"),
        ("/repositories/tags/tags", "/repositories/tags/tags"),
        ("/repositories/tags/tags/tags/tags", "/repositories/tags/tags/tags%2Ftags"),
        ("/repositories/secret", "/repositories/secret"),
        ("/images/nope/tags", "/images/nope/tags"),
        ("/repositories/nul%00", "/repositories/nul%00"),
        ("/repositories/plain/tags/nul%00", "/repositories/plain/tags/nul%00"),
        ("/repositories/%FF", "/repositories/%EF%BF%BD"),
    ],
)
async def test_an_unknown_resource_is_named_in_the_error(rest: GitlabRest, path: str, named: str) -> None:
    answer = await rest.get(path)
    assert (answer.status, answer.headers["content-type"]) == (404, JSON)
    assert (
        answer.body == json.dumps({"message": f'The resource "{named}" does not exist'}, separators=(",", ":")).encode()
    )


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "HEAD"])
@pytest.mark.parametrize(
    "path",
    ["/", "", "/nowhere", "/auth_token/", "/repositories/", "/images/", "/repositoriesx", "//nowhere", "/auth_token//"],
)
async def test_an_unknown_route_is_html(rest: GitlabRest, method: str, path: str) -> None:
    answer = await rest.ask(path, method=method)
    assert (answer.status, answer.headers["content-type"]) == (404, HTML)
    assert (b"<h1>" in answer.body) == (method != "HEAD")


async def test_doubled_slashes_lead_to_the_same_place_with_single_ones(database: Database) -> None:
    async with opened(database, mount="/old") as rest:
        for path in ("/repositories//plain?x", "/repositories///a//b", "//repositories//plain"):
            answer = await rest.ask(path)
            single = "/old" + path.replace("///", "/").replace("//", "/")
            assert (answer.status, answer.headers["location"]) == (308, single)
        # Whose address of the service ends in a slash is understood.
        assert (await rest.get("//repositories/plain")).json == sized("plain")
        assert (await rest.ask("//auth_token", headers=basic("alice", "ecila"))).status == 200


@pytest.mark.parametrize("path", ["/repositories", "/images/x/tags/y", "/auth_token"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE"])
async def test_other_methods_are_refused_before_anybody_is_asked_for(rest: GitlabRest, path: str, method: str) -> None:
    answer = await rest.ask(path, method=method)
    assert (answer.status, answer.headers["content-type"]) == (405, HAL)
    assert answer.json == {"message": "The method is not allowed for the requested URL."}
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}


@pytest.mark.parametrize("path", ["/repositories", "/images/x/tags/y", "/auth_token"])
async def test_every_origin_may_ask_and_a_preflight_needs_nobody(rest: GitlabRest, path: str) -> None:
    asked = {
        "Origin": "https://gui.example",
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "authorization, x-a",
    }
    preflight = await rest.ask(path, method="OPTIONS", headers=asked)
    assert (preflight.status, preflight.body, preflight.headers["content-length"]) == (200, b"", "0")
    assert set(preflight.headers["allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}
    assert preflight.headers["access-control-allow-origin"] == "https://gui.example"
    assert preflight.headers["access-control-allow-headers"] == "authorization, x-a"
    assert "GET" in preflight.headers["access-control-allow-methods"].split(", ")
    assert "access-control-allow-credentials" not in preflight.headers
    assert (await rest.ask(path)).headers["access-control-allow-origin"] == "*"


async def test_documents_and_errors_are_for_every_origin(rest: GitlabRest) -> None:
    for answer in (
        await rest.get("/repositories", Origin="null"),
        await rest.get("/repositories/nope", Origin="null"),
        await rest.ask("/nowhere", headers={"Origin": "null"}),
        await rest.ask("/repositories", headers={"Origin": "null"}),
    ):
        assert answer.headers["access-control-allow-origin"] == "null"
        assert "Origin" in answer.headers["vary"]


async def test_head_is_get_without_the_body(rest: GitlabRest) -> None:
    headers = {"Authorization": f"Bearer {await rest.token()}"}
    for path in ("/repositories?embed=true", "/repositories/plain", "/repositories/nope"):
        got, head = await rest.ask(path, headers=headers), await rest.ask(path, method="HEAD", headers=headers)
        assert (head.status, head.headers, head.body) == (got.status, got.headers, b"")
    for path in ("/repositories", "/auth_token"):
        assert (await rest.ask(path, method="HEAD")).status == 401


async def test_gzip_if_asked_for_and_worth_it(rest: GitlabRest) -> None:
    plain = await rest.get("/repositories?embed=true&links=true")
    packed = await rest.get("/repositories?embed=true&links=true", Accept_Encoding="br, gzip")
    assert (packed.headers["content-encoding"], len(packed.body) < len(plain.body)) == ("gzip", True)
    assert gzip.decompress(packed.body) == plain.body
    for answer in (
        plain,
        await rest.get("/repositories/plain", Accept_Encoding="gzip"),
        await rest.get("/repositories?embed=true&links=true", Accept_Encoding="gzip;q=0, *"),
    ):
        assert "content-encoding" not in answer.headers
        assert "Accept-Encoding" in answer.headers["vary"]


async def test_outside_of_its_mount_is_an_empty_404(database: Database) -> None:
    async with opened(database, mount="/old") as rest:
        assert (await rest.get("/repositories")).status == 200
        rest.mount = ""
        for path in ("/repositories", "/oldish/repositories", "/auth_token", "/"):
            answer = await rest.ask(path)
            assert (answer.status, answer.body) == (404, b"")


async def test_a_registry_that_was_never_crawled_is_an_empty_collection(tmp_path: Path) -> None:
    with open_database(f"sqlite:///{tmp_path / 'y.sqlite3'}", access=Access.WRITE, create=True) as empty:
        async with opened(empty) as rest:
            assert (await rest.get("/repositories?embed=true")).json == {"timestamp": None, "_embedded": {}}
            assert (await rest.get("/repositories?links=true")).json["_links"] == {"self": {"href": "/repositories"}}
            assert (await rest.get("/repositories/x")).status == 404


async def test_a_database_that_is_gone_is_503(rest: GitlabRest, monkeypatch: pytest.MonkeyPatch) -> None:
    headers = {"Authorization": f"Bearer {await rest.token()}"}

    async def fail(*_: object) -> Answer:
        raise StoreError("secret details", hint="secret hint")

    monkeypatch.setattr(Database, "read", fail)
    answer = await rest.ask("/repositories", headers=headers)
    assert (answer.status, "retry-after" in answer.headers, b"secret" in answer.body) == (503, True, False)
    monkeypatch.setattr(Database, "write", fail)
    assert (await rest.ask("/auth_token", headers=basic("alice", "ecila"))).status == 503
