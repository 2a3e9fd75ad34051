"""imagelist's contract, row by row: request, status, headers, exact body."""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import text

from regwarden import clock
from regwarden.errors import StoreError
from regwarden.settings_access import ImagelistSettings
from regwarden.store.allow_schema import allow_entries
from regwarden.store.audit import AuditFilter, list_audit
from regwarden.store.database import Access, Database, open_database
from regwarden.web.compat import imagelist
from tests.web.compat.imagelist_server import CLOSED, OPEN, TOKENS, Server, imagelist_server

JSON = "application/json; charset=utf-8"
NOWHERE = b"404 page not found"
PLAIN = "text/plain"
MOMENT = datetime(2026, 5, 1, 12, 0, 0, 120000, tzinfo=UTC)
T = "2026-05-01T12:00:00.120000Z"
DIGEST_ID = f"host:5000/org/app@sha256:{'ab' * 32}"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with open_database(f"sqlite:///{tmp_path / 'x.sqlite3'}", access=Access.WRITE, create=True) as database:
        yield database


@pytest.fixture
async def server(database: Database, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    """Open to everybody, and the clock stands still."""
    monkeypatch.setattr(clock, "now", lambda: MOMENT)
    async with imagelist_server(database) as server:
        yield server


def shown(image_id: str, name: str, tags: str = "", *, updated: str = T) -> bytes:
    ending = f',"tags":{tags}' if tags else ""
    return f'{{"created_at":"{T}","updated_at":"{updated}","id":"{image_id}","name":"{name}"{ending}}}'.encode()


A, B = shown("a", "app", '["1.0","latest"]'), shown("b", "base")
# Asked one after the other of one list: request, status, content type, body.
CONTRACT: list[tuple[str, bytes | None, int, str | None, bytes]] = [
    ("GET /health/ping", None, 200, None, b""),
    ("GET /images", None, 200, JSON, b"[]"),
    ("GET /images?name=app&sort=id", None, 200, JSON, b"[]"),
    ("GET /images/a", None, 404, None, b""),
    ("DELETE /images/a", None, 204, None, b""),
    ("PUT /images", b'{"id":"a","name":"app","tags":["1.0","latest"]}', 200, JSON, A),
    ("PUT /images", b'{"id":"b","name":"base"}', 200, JSON, B),
    ("GET /images/a", None, 200, JSON, A),
    ("GET /images/b", None, 200, JSON, B),
    ("GET /images?sort=id", None, 200, JSON, b"[" + B + b"," + A + b"]"),
    ("GET /images?sort=name&order=asc&limit=1&page=2", None, 200, JSON, b"[" + B + b"," + A + b"]"),
    ("GET /images?name=app", None, 200, JSON, b"[" + A + b"]"),
    ("GET /images?name=App", None, 200, JSON, b"[]"),
    ("GET /images?name=ap", None, 200, JSON, b"[]"),
    ("GET /images?name=app&name=base", None, 200, JSON, b"[" + A + b"]"),
    ("GET /images?name=", None, 200, JSON, b"[" + B + b"," + A + b"]"),
    ("GET /images?sort=size&sort=id", None, 200, JSON, b"[" + B + b"," + A + b"]"),
    # Validation: an empty 400.
    ("PUT /images", b"", 400, None, b""),
    ("PUT /images", b"no json", 400, None, b""),
    ("PUT /images", b"[]", 400, None, b""),
    ("PUT /images", b'{"name":"x"}', 400, None, b""),
    ("PUT /images", b'{"id":"","name":"x"}', 400, None, b""),
    ("PUT /images", b'{"id":"x","name":""}', 400, None, b""),
    ("PUT /images", b'{"id":7,"name":"x"}', 400, None, b""),
    ("PUT /images", b'{"id":"x","name":"x","tags":"1.0"}', 400, None, b""),
    ("PUT /images", b'{"id":"x","name":"x","tags":[1]}', 400, None, b""),
    ("GET /images/x", None, 404, None, b""),
    # A known id: the name never changes, tags are replaced by any list, nothing happens without one.
    ("PUT /images", b'{"id":"a","name":"other"}', 200, JSON, A),
    ("PUT /images", b'{"id":"a","name":"other","tags":null}', 200, JSON, A),
    ("PUT /images", b'{"id":"a","name":"other","tags":["2.0"]}', 200, JSON, shown("a", "app", '["2.0"]')),
    ("PUT /images", b'{"id":"a","name":"other","tags":[]}', 200, JSON, shown("a", "app")),
    ("GET /images/a", None, 200, JSON, shown("a", "app")),
    # The first value counts, whatever the case of its keys; times of the client do not.
    (
        "PUT /images",
        b' {"ID":"c","nAme":"n","TAGS":["x"],"created_at":"2001-01-01T00:00:00Z","size":1} and more',
        200,
        JSON,
        shown("c", "n", '["x"]'),
    ),
    ("DELETE /images/c", None, 204, None, b""),
    ("GET /images/c", None, 404, None, b""),
    ("DELETE /images/c", None, 204, None, b""),
    # Routes and methods that do not exist.
    ("GET /", None, 404, PLAIN, NOWHERE),
    ("GET /image", None, 404, PLAIN, NOWHERE),
    ("GET /Images", None, 404, PLAIN, NOWHERE),
    ("GET //images", None, 404, PLAIN, NOWHERE),
    ("GET /health", None, 404, PLAIN, NOWHERE),
    ("POST /images", b"{}", 404, PLAIN, NOWHERE),
    ("PATCH /images", b"{}", 404, PLAIN, NOWHERE),
    ("DELETE /images", None, 404, PLAIN, NOWHERE),
    ("OPTIONS /images", None, 404, PLAIN, NOWHERE),
    ("PUT /images/a", b"{}", 404, PLAIN, NOWHERE),
    ("POST /images/a", b"{}", 404, PLAIN, NOWHERE),
    ("POST /images/", b"{}", 404, PLAIN, NOWHERE),
    ("PUT /health/ping", b"", 404, PLAIN, NOWHERE),
    ("HEAD /images", None, 404, PLAIN, b""),
    ("HEAD /images/a", None, 404, PLAIN, b""),
    ("HEAD /health/ping", None, 404, PLAIN, b""),
]


async def test_the_contract(server):
    for line, body, status, content_type, expected in CONTRACT:
        method, _, path = line.partition(" ")
        answer = await server.ask(method, path, body)
        told = (answer.status, answer.headers.get("content-type"), answer.body)
        assert told == (status, content_type, expected), line
        assert "www-authenticate" not in answer.headers
        if status == 204:
            assert "content-length" not in answer.headers
        elif method != "HEAD":
            assert answer.headers["content-length"] == str(len(expected))


@pytest.mark.parametrize(
    ("mount", "request_line", "status", "location"),
    [
        ("", "GET /images/", 301, "/images"),
        ("", "PUT /images/", 307, "/images"),
        ("", "DELETE /images/", 307, "/images"),
        ("", "GET /images/?name=a%20b&sort=id", 301, "/images?name=a%20b&sort=id"),
        ("", "GET /health/ping/", 301, "/health/ping"),
        ("/compat/imagelist", "GET /compat/imagelist/images/", 301, "/compat/imagelist/images"),
        ("/compat/imagelist", "PUT /compat/imagelist/images/?x=1", 307, "/compat/imagelist/images?x=1"),
    ],
)
async def test_a_slash_at_the_end_is_redirected(database, mount, request_line, status, location):
    method, _, path = request_line.partition(" ")
    async with imagelist_server(database, mount=mount) as server:
        answer = await server.ask(method, path)
        assert (answer.status, answer.headers["location"], answer.body) == (status, location, b"")


async def test_it_answers_below_a_mount(database):
    async with imagelist_server(database, mount="/compat/imagelist") as server:
        assert (await server.ask("PUT", "/compat/imagelist/images", b'{"id":"a/b","name":"n"}')).status == 200
        assert (await server.ask("GET", "/compat/imagelist/images/a%2Fb")).json["id"] == "a/b"
        assert (await server.ask("GET", "/compat/imagelist/health/ping")).status == 200
        assert (await server.ask("GET", "/compat/imagelist")).body == NOWHERE


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/x-www-form-urlencoded", "x"])
async def test_the_content_type_does_not_matter(server, content_type):
    headers = {"Content-Type": content_type} if content_type else {}
    assert (await server.ask("PUT", "/images", b'{"id":"a","name":"n"}', **headers)).status == 200


@pytest.mark.parametrize(
    ("image_id", "written"),
    [
        (DIGEST_ID, DIGEST_ID),
        (DIGEST_ID, DIGEST_ID.replace("/", "%2F").replace("@", "%40").replace(":", "%3a")),
        ("a/", "a%2F"),
        ("a//b", "a//b"),
        ("/a", "%2Fa"),
        ("../a", "..%2Fa"),
        ("a b+c?d#e%", "a%20b+c%3Fd%23e%25"),
        ("ü", "%C3%BC"),
        ("health/ping", "health/ping"),
    ],
)
async def test_ids_with_any_characters_are_found_and_deleted(server, image_id, written):
    assert (await server.put(image_id, "app", "1.0")).status == 200
    found = await server.ask("GET", f"/images/{written}")
    assert (found.status, found.json["id"]) == (200, image_id)
    assert (await server.ask("DELETE", f"/images/{written}")).status == 204
    assert (await server.ask("GET", f"/images/{written}")).status == 404


async def test_tags_are_without_limit(server):
    tags = [f'{number} "\\,{{}} ü' for number in range(5000)]
    assert (await server.put("a", "app", *tags)).json["tags"] == tags
    assert (await server.ask("GET", "/images/a")).json["tags"] == tags


async def test_a_body_that_is_too_large_is_refused_and_nothing_kept(server):
    padding = b" " * imagelist.MAX_BODY_BYTES
    answer = await server.ask("PUT", "/images", io.BytesIO(b'{"id":"a","name":"n"}' + padding))
    assert (answer.status, answer.body) == (413, b"")
    assert (await server.ask("GET", "/images")).body == b"[]"


async def test_times_are_rfc_3339_with_microseconds(database):
    async with imagelist_server(database) as server:
        answer = await server.put("a", "n")
        for key in ("created_at", "updated_at"):
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", answer.json[key])
        later = await server.put("a", "n")
        assert later.json["created_at"] == answer.json["created_at"] < later.json["updated_at"]


async def test_the_allow_list_is_woken_after_every_change(server):
    await server.put("a", "n")
    await server.ask("DELETE", "/images/a")
    assert len(server.woken) == 2
    await server.ask("GET", "/images")
    await server.ask("PUT", "/images", b"{")
    assert len(server.woken) == 2


WITH_FILE = ImagelistSettings(tokens_file="tokens.yaml", unauthenticated_reads=True)
GUARDED = ImagelistSettings(tokens_file="tokens.yaml")
READS, WRITES = ("GET /images", "GET /images/a"), ("PUT /images", "DELETE /images/a")


@pytest.fixture
def tokens_file(tmp_path: Path) -> Path:
    file = tmp_path / "tokens.yaml"
    file.write_text(TOKENS, encoding="utf-8")
    return file


@pytest.fixture
def with_file(tokens_file: Path) -> ImagelistSettings:
    return ImagelistSettings(tokens_file=str(tokens_file), unauthenticated_reads=True)


@pytest.mark.parametrize(
    ("settings", "authorization", "is_reading", "is_writing"),
    [
        (OPEN, None, 200, 200),
        (OPEN, "Bearer nonsense", 200, 200),
        (WITH_FILE, None, 200, 401),
        (WITH_FILE, "Bearer s3cret", 200, 200),
        (WITH_FILE, "bearer s3cret", 200, 401),
        (WITH_FILE, "Bearer  s3cret", 200, 401),
        (WITH_FILE, "Bearer S3cret", 200, 401),
        (WITH_FILE, "s3cret", 200, 401),
        (WITH_FILE, "Bearer 0ld", 200, 401),
        (WITH_FILE, "Bearer ", 200, 401),
        (WITH_FILE, "Bearer ünnamed", 200, 200),
        (WITH_FILE, "Bearer operator", 200, 200),
        (WITH_FILE, "Bearer viewer", 200, 403),
        (GUARDED, None, 401, 401),
        (GUARDED, "Bearer s3cret", 200, 200),
        (CLOSED, None, 401, 401),
        (CLOSED, "Bearer s3cret", 401, 401),
        (CLOSED, "Bearer viewer", 200, 403),
        (CLOSED, "Bearer operator", 200, 200),
        (CLOSED, "Bearer part", 403, 403),
        (ImagelistSettings(unauthenticated_reads=True), None, 200, 401),
        (ImagelistSettings(unauthenticated_writes=True), None, 401, 200),
    ],
)
async def test_who_may_do_what(database, tokens_file, settings, authorization, is_reading, is_writing):
    if settings.tokens_file:
        settings = msgspec.structs.replace(settings, tokens_file=str(tokens_file))
    headers = {} if authorization is None else {"Authorization": authorization}
    async with imagelist_server(database, OPEN) as server:
        await server.put("a", "n")
    async with imagelist_server(database, settings) as server:
        for expected, lines in ((is_reading, READS), (is_writing, WRITES)):
            for method, _, path in (line.partition(" ") for line in lines):
                answer = await server.ask(method, path, b'{"id":"b","name":"n"}', **headers)
                assert answer.status == (204 if (method, expected) == ("DELETE", 200) else expected)
                if expected in (401, 403):
                    assert answer.body == b""
                    is_challenged = expected == 401 and not settings.tokens_file
                    assert ("www-authenticate" in answer.headers) == is_challenged
        assert (await server.ask("GET", "/health/ping")).status == 200


async def test_wrong_tokens_are_limited_and_no_token_is_no_failure(database, with_file):
    async with imagelist_server(database, with_file) as server:
        for _ in range(20):
            assert (await server.put("a", "n")).status == 401
        for _ in range(10):
            assert (await server.put("a", "n", Authorization="Bearer wrong")).status == 401
        limited = await server.put("a", "n", Authorization="Bearer s3cret")
        assert (limited.status, limited.body) == (429, b"")
        assert 0 < int(limited.headers["retry-after"]) <= 300
        assert (await server.ask("GET", "/images")).body == b"[]"
        # Tokens of ours are too long to be guessed.
        assert (await server.put("a", "n", Authorization="Bearer operator")).status == 200


async def test_many_requests_at_once_with_a_token_are_no_failures(database, with_file):
    async with imagelist_server(database, with_file) as server:
        asked = [server.put("a", "n", str(number), Authorization="Bearer s3cret") for number in range(50)]
        assert {answer.status for answer in await asyncio.gather(*asked)} == {200}


async def test_the_audit_says_who_it_was(database, with_file):
    async with imagelist_server(database, OPEN) as server:
        await server.put("a", "n")
    async with imagelist_server(database, with_file) as server:
        await server.put("b", "n", Authorization="Bearer s3cret")
        await server.put("c", "n", Authorization="Bearer ünnamed")
        await server.ask("DELETE", "/images/a", Authorization="Bearer operator")
    entries = database.read_now(lambda connection: list_audit(connection, AuditFilter()))
    assert [(one.action, one.principal, one.subject) for one in entries] == [
        ("imagelist-put", "imagelist (anonymous)", "a"),
        ("imagelist-put", "ci", "b"),
        ("imagelist-put", "token 3", "c"),
        ("imagelist-delete", "robot operator", "a"),
    ]


def break_database(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: Any, **__: Any) -> None:
        raise StoreError("PostgreSQL at db says: no", code="database-unreachable")

    monkeypatch.setattr(database, "read", fail)
    monkeypatch.setattr(database, "write", fail)


async def test_without_the_database_everything_is_an_empty_500(database, monkeypatch):
    break_database(database, monkeypatch)
    async with imagelist_server(database) as server:
        for line in ("GET /health/ping", *READS, *WRITES):
            method, _, path = line.partition(" ")
            answer = await server.ask(method, path, b'{"id":"b","name":"n"}')
            assert (answer.status, answer.body, answer.headers.get("content-type")) == (500, b"", None)
        assert (await server.ask("GET", "/nowhere")).status == 404


async def test_a_table_that_is_gone_is_an_empty_500(database):
    database.write_now(lambda connection: connection.execute(text(f"DROP TABLE {allow_entries.name}")))
    async with imagelist_server(database) as server:
        assert (await server.ask("GET", "/health/ping")).status == 500
