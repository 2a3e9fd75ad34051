"""Listeners: who may have an address, and how long a connection may say nothing."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from contextlib import closing, suppress

import pytest

from regwarden.errors import Conflict
from regwarden.settings_sections import ListenAddress
from regwarden.web import listening
from regwarden.web.listening import bound, serving, shown_address

ANY = ListenAddress("127.0.0.1", 0)
posix = pytest.mark.skipif(sys.platform == "win32", reason="no Unix sockets there")


async def app(scope, receive, send):
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


async def test_connections_that_say_nothing_or_too_little_are_closed(monkeypatch):
    monkeypatch.setattr(listening, "_HEADER_SECONDS", 0.2)
    monkeypatch.setattr(listening, "_REQUEST_SECONDS", 0.4)
    with bound(ANY) as listeners:
        async with serving(app, listeners, None):
            port = listeners[0].getsockname()[1]
            for said in (
                b"",
                b"POST / HTTP/1.1\r\nHost:",
                b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab",
            ):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(said)
                assert await asyncio.wait_for(reader.read(), 5) == b""
                writer.close()


@pytest.mark.parametrize(
    "begun",
    [
        b"GET /",
        b"POST / HTTP/1.1\r\nHost: x\r\nX-Long: ",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Long: ",
    ],
    ids=["path", "header", "trailer"],
)
async def test_a_header_without_end_is_not_kept(begun):
    with bound(ANY) as listeners:
        async with serving(app, listeners, None):
            _, writer = await asyncio.open_connection("127.0.0.1", listeners[0].getsockname()[1])
            writer.write(begun)
            sent_bytes = 0
            with suppress(ConnectionError):
                while sent_bytes < 64 * 1024 * 1024:
                    writer.write(b"a" * 65536)
                    await asyncio.wait_for(writer.drain(), 5)
                    sent_bytes += 65536
            assert sent_bytes < 32 * 1024 * 1024
            writer.close()


async def test_a_long_body_and_many_requests_are_no_header():
    with bound(ANY) as listeners:
        async with serving(app, listeners, None):
            reader, writer = await asyncio.open_connection("127.0.0.1", listeners[0].getsockname()[1])
            for _ in range(40):
                writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nX: %b\r\n\r\n" % (b"y" * 4000))
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
            writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n" + b"z" * 3_000_000)
            assert (await reader.readuntil(b"3000000")).startswith(b"HTTP/1.1 200")
            writer.close()


async def test_an_idle_connection_may_be_used_again_later(monkeypatch):
    monkeypatch.setattr(listening, "_HEADER_SECONDS", 0.1)
    with bound(ANY) as listeners:
        async with serving(app, listeners, None):
            reader, writer = await asyncio.open_connection("127.0.0.1", listeners[0].getsockname()[1])
            for _ in range(2):
                writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi")
                assert (await reader.readuntil(b"\r\n\r\nhi")).startswith(b"HTTP/1.1 200")
                await asyncio.sleep(0.3)
            writer.close()


def test_an_address_in_use_is_said_with_a_hint():
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        address = ListenAddress("127.0.0.1", other.getsockname()[1])
        with pytest.raises(Conflict, match="another program listens there") as caught, bound(address):
            pass
    assert (caught.value.code, caught.value.exit_status) == ("cannot-listen", 1)
    assert caught.value.hint


@pytest.mark.parametrize("address", [ListenAddress("192.0.2.1", 0), ListenAddress("no.such.host.invalid", 1)], ids=str)
def test_an_address_of_another_machine_is_said_with_a_hint(address):
    with pytest.raises(Conflict, match="cannot listen on") as caught, bound(address):
        pass
    assert "address of this machine" in caught.value.hint


@posix
def test_a_socket_that_is_left_over_is_replaced_and_a_live_one_is_not(tmp_path):
    address = ListenAddress(path=str(tmp_path / "x.sock"))
    left_over = socket.socket(socket.AF_UNIX)
    left_over.bind(address.path)
    left_over.close()
    with bound(address) as (listener,):
        assert shown_address(listener, is_tls=False) == str(address)
        with pytest.raises(Conflict, match="another program listens there"), bound(address):
            pass
    assert not (tmp_path / "x.sock").exists()


@posix
def test_a_file_that_is_no_socket_is_not_touched(tmp_path):
    file = tmp_path / "precious"
    file.write_text("x")
    with pytest.raises(Conflict, match="not a socket"), bound(ListenAddress(path=str(file))):
        pass
    assert file.read_text() == "x"


async def who_is_told(listeners, header: str, trusted: tuple[str, ...]) -> str:
    seen: list[str] = []

    async def noting(scope, receive, send):
        seen.append(scope["client"][0] if scope.get("client") else "nobody")
        await app(scope, receive, send)

    async with serving(noting, listeners, None, trusted_proxies=trusted):
        name = listeners[0].getsockname()
        is_unix = listeners[0].family == getattr(socket, "AF_UNIX", None)
        connecting = asyncio.open_unix_connection(name) if is_unix else asyncio.open_connection(*name[:2])
        reader, writer = await connecting
        writer.write(f"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Forwarded-For: {header}\r\n\r\n".encode())
        await reader.read()
        writer.close()
        await writer.wait_closed()
    return seen[0]


@pytest.mark.parametrize(
    ("trusted", "header", "told"),
    [
        ((), "203.0.113.9", "127.0.0.1"),
        (("10.0.0.0/8",), "203.0.113.9", "127.0.0.1"),
        (("127.0.0.1",), "203.0.113.9", "203.0.113.9"),
        (("127.0.0.0/8", "10.0.0.0/8"), "192.0.2.1, 203.0.113.9, 10.1.2.3", "203.0.113.9"),
    ],
)
async def test_only_a_trusted_proxy_is_believed_about_who_asks(trusted, header, told):
    with bound(ANY) as listeners:
        assert await who_is_told(listeners, header, trusted) == told


@posix
@pytest.mark.parametrize(("trusted", "told"), [((), "nobody"), (("unix",), "203.0.113.9")])
async def test_a_proxy_at_a_unix_socket_is_believed_where_it_is_trusted(tmp_path, trusted, told):
    with bound(ListenAddress(path=str(tmp_path / "s"))) as listeners:
        assert await who_is_told(listeners, "203.0.113.9", trusted) == told


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (b"GET /?%b HTTP/1.1\r\nHost: x\r\n\r\n" % (b"a" * 70_000), 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: %b" % (b"a" * 70_000), 431),
        (b"this is nothing\r\n\r\n", 400),
    ],
    ids=["address", "header", "nothing"],
)
async def test_what_the_parser_refuses_is_answered_with_a_problem(asked, status):
    with bound(ANY) as listeners:
        async with serving(app, listeners, None):
            reader, writer = await asyncio.open_connection("127.0.0.1", listeners[0].getsockname()[1])
            writer.write(asked)
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
            assert head.startswith(b"HTTP/1.1 %d " % status)
            assert b"content-type: application/problem+json\r\n" in head.lower()
            told = json.loads(await asyncio.wait_for(reader.read(), 5))
            assert told["status"] == status
            writer.close()


async def test_an_endless_trailer_is_no_reason_for_a_second_answer():
    async def slow(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass

    with bound(ANY) as listeners:
        async with serving(slow, listeners, None):
            reader, writer = await asyncio.open_connection("127.0.0.1", listeners[0].getsockname()[1])
            writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Long: ")
            await asyncio.wait_for(reader.readuntil(b"begun"), 5)
            writer.write(b"a" * 70_000)
            with suppress(ConnectionError):
                assert b"431" not in await asyncio.wait_for(reader.read(), 5)
            writer.close()
