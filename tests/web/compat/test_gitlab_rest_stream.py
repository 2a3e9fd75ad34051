"""Large documents of gitlab-registry-usage-rest: in pieces, in little memory, for slow clients and for those who go."""

from __future__ import annotations

import asyncio
import json
import socket
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Iterator, MutableMapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from regwarden.errors import StoreError
from regwarden.settings_sections import parse_listen_address
from regwarden.store.database import Access, Database, open_database
from regwarden.web.compat import gitlab_rest_documents, gitlab_rest_stream
from regwarden.web.listening import bound, serving
from tests.web.compat.gitlab_rest_server import GitlabRest, fill, opened

# Large and small ones in turn, so that pages and groups of every kind meet.
COUNTS = (2_500, 3, 0, 999, 1, 1_000, 1_001, 0, 7, 4_000)
EVERYTHING = "/repositories?embed=true&links=true"


@pytest.fixture(params=["sqlite", "postgresql", "memory"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    address = {"sqlite": f"sqlite:///{tmp_path / 'x.sqlite3'}", "memory": ":memory:"}.get(request.param)
    url = address or str(request.getfixturevalue("postgresql_url"))
    with open_database(url, access=Access.WRITE, create=True) as database:
        database.write_now(lambda connection: fill(connection, large()))
        yield database


def large() -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for number, count in enumerate(COUNTS):
        tags = {f"v{tag:05}": (tag, 1) for tag in range(count)}
        found.append((f"team/app{number}", (sum(range(count)), count, tags)))
    return [*found[:4], ("denied", (None, None, {})), *found[4:]]


@pytest.fixture
async def rest(database: Database) -> AsyncIterator[GitlabRest]:
    async with opened(database) as rest:
        yield rest


async def test_all_tags_come_in_order_however_they_are_read(rest: GitlabRest, monkeypatch: pytest.MonkeyPatch) -> None:
    for part_bytes in (512 * 1024, 1):
        monkeypatch.setattr(gitlab_rest_stream, "PART_BYTES", part_bytes)
        document = (await rest.get(EVERYTHING)).json
        repositories = document["_embedded"]["items"]
        assert [one["name"] for one in repositories] == [name for name, _ in large()]
        for (name, (size, _, tags)), found in zip(large(), repositories, strict=True):
            if size is None:
                assert "_embedded" not in found
                continue
            related = found["_embedded"]["related"]
            items = related["_embedded"].get("items", [])
            assert [one["name"] for one in items] == list(tags)
            assert sum(one["size"] for one in items) == size
            assert [one["title"] for one in related["_links"].get("items", [])] == list(tags), name


async def test_parts_are_small_and_have_no_length(rest: GitlabRest, monkeypatch: pytest.MonkeyPatch) -> None:
    largest = [0]
    read = Database.read

    async def watched(self: Database, work: Any, **options: Any) -> Any:
        part = await read(self, work, **options)
        found = part[1] if isinstance(part, tuple) else part
        largest[0] = max(largest[0], len(found) if isinstance(found, bytes) else 0)
        return part

    monkeypatch.setattr(Database, "read", watched)
    answer = await rest.get(EVERYTHING)
    assert "content-length" not in answer.headers
    page_bytes = 200 * gitlab_rest_documents.PAGE_ROWS
    assert gitlab_rest_stream.PART_BYTES <= largest[0] < gitlab_rest_stream.PART_BYTES + 2 * page_bytes
    html = await rest.get(EVERYTHING, Accept="text/html")
    assert html.body.count(b"<th>disk_size</th>") == sum(COUNTS) + len(COUNTS) + 1


async def test_head_of_a_large_document_reads_only_its_beginning(
    rest: GitlabRest, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = {"Authorization": f"Bearer {await rest.token()}"}
    reads = []
    read = Database.read

    async def counted(self: Database, work: Any) -> Any:
        reads.append(1)
        return await read(self, work)

    monkeypatch.setattr(Database, "read", counted)
    answer = await rest.ask(EVERYTHING, method="HEAD", headers=headers)
    assert (answer.status, answer.body, "content-length" in answer.headers, len(reads)) == (200, b"", False, 1)


@asynccontextmanager
async def connected(rest: GitlabRest, *headers: str) -> AsyncIterator[socket.socket]:
    """A connection on which everything was asked for, and nothing was read yet."""
    with bound(parse_listen_address("127.0.0.1:0")) as listeners:
        async with serving(rest.app, listeners, None):
            with socket.socket() as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.setblocking(False)
                loop = asyncio.get_running_loop()
                await loop.sock_connect(client, listeners[0].getsockname())
                lines = [f"GET {EVERYTHING} HTTP/1.1", "Host: x", "Connection: close", *headers]
                lines.append(f"Authorization: Bearer {await rest.token()}")
                await loop.sock_sendall(client, "\r\n".join([*lines, "", ""]).encode())
                yield client


async def test_a_slow_client_holds_no_reader_and_one_that_goes_ends_the_walk(
    rest: GitlabRest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gitlab_rest_stream, "PART_BYTES", 64 * 1024)
    running, reads = [0], [0]
    read = Database.read

    async def watched(self: Database, work: Any) -> Any:
        running[0] += 1
        reads[0] += 1
        try:
            return await read(self, work)
        finally:
            running[0] -= 1

    monkeypatch.setattr(Database, "read", watched)
    async with connected(rest):
        async with asyncio.timeout(10):
            seen = -1
            while seen != reads[0] or not seen:  # until it waits for the client
                seen = reads[0]
                await asyncio.sleep(0.15)
        assert running[0] == 0
        headers = {"Authorization": f"Bearer {await rest.token()}"}
        assert (await rest.ask("/repositories", headers=headers)).status == 200
        stopped_at = reads[0]
    assert reads[0] <= stopped_at + 1


async def test_gzip_is_streamed_too(rest: GitlabRest) -> None:
    async with connected(rest, "Accept-Encoding: gzip") as client:
        received = b""
        while chunk := await asyncio.get_running_loop().sock_recv(client, 65536):
            received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"content-encoding: gzip" in head.lower()
    assert b"transfer-encoding: chunked" in head.lower()
    packed = b""
    while body:
        length, _, rest_of_body = body.partition(b"\r\n")
        packed += rest_of_body[: int(length, 16)]
        body = rest_of_body[int(length, 16) + 2 :]
    plain = zlib.decompress(packed, wbits=31)
    assert len(json.loads(plain)["_embedded"]["items"]) == len(COUNTS) + 1
    assert plain == (await rest.get(EVERYTHING)).body


async def test_a_database_that_fails_in_the_middle_cuts_the_answer_off(
    rest: GitlabRest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gitlab_rest_stream, "PART_BYTES", 64 * 1024)
    reads = [0]
    read = Database.read

    async def failing(self: Database, work: Any) -> Any:
        reads[0] += 1
        if reads[0] > 3:
            raise StoreError("gone")
        return await read(self, work)

    monkeypatch.setattr(Database, "read", failing)
    async with connected(rest) as client:
        received = b""
        while chunk := await asyncio.get_running_loop().sock_recv(client, 65536):
            received += chunk
    assert received.startswith(b"HTTP/1.1 200")
    assert not received.endswith(b"0\r\n\r\n")


async def test_memory_stays_flat(tmp_path: Path) -> None:
    many = ("many", (1, 1, {f"v{tag:06}": (tag, 1) for tag in range(40_000)}))
    with open_database(f"sqlite:///{tmp_path / 'x.sqlite3'}", access=Access.WRITE, create=True) as database:
        database.write_now(lambda connection: fill(connection, [many]))
        async with opened(database) as rest:
            size_bytes, peak_bytes = await weigh(rest)
    assert size_bytes > 8_000_000
    assert peak_bytes < 3_000_000


async def weigh(rest: GitlabRest) -> tuple[int, int]:
    """How long the whole document is, and how much memory was taken at most to send it."""
    size_bytes = 0

    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: MutableMapping[str, Any]) -> None:
        nonlocal size_bytes
        size_bytes += len(message.get("body", b""))

    path, _, query = EVERYTHING.partition("?")
    scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": query.encode()}
    lines = [(b"authorization", f"Bearer {await rest.token()}".encode())]
    tracemalloc.start()
    try:
        await rest.app({**scope, "headers": lines, "client": ("10.1.2.3", 1)}, receive, send)
        return size_bytes, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
