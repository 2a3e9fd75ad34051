"""The socket of the service: who may use it, what a command answers, how it ends."""

from __future__ import annotations

import asyncio
import http.client
import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from regwarden import Conflict, InputError, NotFound, RegistryDenied, RegwardenError, StoreError
from regwarden.library_remote import call_service
from regwarden.store import service_socket
from regwarden.store.service_socket import bind_socket, bound_socket, connect_socket, is_answered, socket_beside
from regwarden.web import control
from regwarden.web.control import Tell, control_app, control_socket

AT = datetime(2026, 1, 2, tzinfo=UTC)


async def echo(arguments: dict[str, Any], tell: Tell) -> Any:
    tell.warning("careful")
    tell.progress({"done": 1})
    return {"arguments": arguments, "at": AT}


async def deny(arguments: dict[str, Any], tell: Tell) -> Any:
    raise RegistryDenied("no entry", hint="Ask.", code="registry-denied", status=401, diagnostics="UNAUTHORIZED")


async def break_down(arguments: dict[str, Any], tell: Tell) -> Any:
    raise ZeroDivisionError("password=hunter2")


class Waiting:
    """A command that runs until it is cancelled or told to go on."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.go_on = asyncio.Event()
        self.was_cancelled = asyncio.Event()
        self.running_count = 0

    async def __call__(self, arguments: dict[str, Any], tell: Tell) -> Any:
        self.running_count += 1
        self.started.set()
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.was_cancelled.set()
            raise
        return self.running_count


@asynccontextmanager
async def running(place: Path, **handlers: Any) -> AsyncIterator[Path]:
    path = place / "inventory.sqlite3.sock"
    handlers = {"echo": echo, "deny": deny, "break": break_down, **handlers}
    async with control_socket(path, control_app(handlers)):
        yield path


async def call(path: Path, command: str, arguments: dict[str, Any] | None = None, **listeners: Any) -> Any:
    return await asyncio.to_thread(call_service, path, command, arguments or {}, **listeners)


async def test_a_command_gets_its_arguments_and_its_result_comes_back(tmp_path):
    warnings: list[str] = []
    states: list[Any] = []
    async with running(tmp_path) as path:
        result = await call(path, "echo", {"name": "ü"}, on_warning=warnings.append, on_progress=states.append)
    assert result == {"arguments": {"name": "ü"}, "at": "2026-01-02T00:00:00Z"}
    assert (warnings, states) == (["careful"], [{"done": 1}])


async def test_an_error_keeps_its_class_and_what_it_says(tmp_path):
    async with running(tmp_path) as path:
        with pytest.raises(RegistryDenied) as caught:
            await call(path, "deny")
    error = caught.value
    assert (error.message, error.hint, error.code) == ("no entry", "Ask.", "registry-denied")
    assert (error.status, error.diagnostics, error.exit_status) == (401, "UNAUTHORIZED", 1)


async def test_an_unforeseen_error_is_a_sentence_without_secrets_and_the_service_goes_on(tmp_path, logged, capsys):
    async with running(tmp_path) as path:
        with pytest.raises(RegwardenError, match="ZeroDivisionError") as caught:
            await call(path, "break", {"password": "swordfish"})
        assert (await call(path, "echo"))["arguments"] == {}
    printed = f"{logged}{capsys.readouterr()}"
    assert caught.value.code == "unforeseen"
    assert "break_down" in printed
    assert "hunter2" not in printed + caught.value.message
    assert "swordfish" not in printed


async def test_a_command_that_the_service_does_not_have_is_named(tmp_path):
    async with running(tmp_path) as path:
        with pytest.raises(NotFound, match="'nothing'") as caught:
            await call(path, "nothing")
    assert caught.value.code == "unknown-command"
    assert "deny" in caught.value.hint


async def test_a_service_of_another_version_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setattr("regwarden.library_remote.__version__", "0.0.1")
    async with running(tmp_path) as path:
        with pytest.raises(Conflict, match=r"0\.0\.1") as caught:
            await call(path, "echo")
    assert caught.value.code == "service-version"


async def test_what_is_no_request_is_refused(tmp_path):
    async with running(tmp_path) as path:
        for body in (b"", b"[]", b'{"command": 3}', b"\xff", b"[" * 100_000):
            status, answer = await asyncio.to_thread(post, path, body)
            assert (status, answer["error"]["code"]) == (400, "bad-request")


async def test_arguments_beyond_the_limit_are_refused(tmp_path):
    async with running(tmp_path) as path:
        with pytest.raises(InputError, match="8 MiB"):
            await call(path, "echo", {"text": "x" * control.MAX_REQUEST_BYTES})
        length = control.MAX_REQUEST_BYTES - 200
        assert len((await call(path, "echo", {"text": "x" * length}))["arguments"]["text"]) == length


async def test_a_client_that_goes_away_cancels_its_command(tmp_path):
    waiting = Waiting()
    async with running(tmp_path, wait=waiting) as path:
        client = await asyncio.to_thread(send_request, path, "wait")
        await asyncio.wait_for(waiting.started.wait(), 5)
        client.close()
        await asyncio.wait_for(waiting.was_cancelled.wait(), 5)


async def test_two_clients_run_their_commands_at_once(tmp_path):
    waiting = Waiting()
    async with running(tmp_path, wait=waiting) as path:
        calls = [asyncio.create_task(call(path, "wait")) for _ in range(2)]
        while waiting.running_count < 2:
            await asyncio.sleep(0.01)
        waiting.go_on.set()
        assert await asyncio.gather(*calls) == [2, 2]


async def test_a_silent_command_gives_signs_of_life(tmp_path, monkeypatch):
    monkeypatch.setattr(control, "_HEARTBEAT_SECONDS", 0.1)
    monkeypatch.setattr("regwarden.library_remote.SILENCE_SECONDS", 0.5)
    waiting = Waiting()
    async with running(tmp_path, wait=waiting) as path:
        asked = asyncio.create_task(call(path, "wait"))
        await asyncio.sleep(1)
        waiting.go_on.set()
        assert await asked == 1


async def test_a_service_that_falls_silent_is_lost(tmp_path, monkeypatch):
    monkeypatch.setattr("regwarden.library_remote.SILENCE_SECONDS", 0.2)
    waiting = Waiting()
    async with running(tmp_path, wait=waiting) as path:
        with pytest.raises(Conflict, match="timed out") as caught:
            await call(path, "wait")
    assert caught.value.code == "service-lost"


async def test_a_service_that_stops_says_so_to_running_commands_and_removes_its_socket(tmp_path):
    waiting = Waiting()
    async with running(tmp_path, wait=waiting) as path:
        asked = asyncio.create_task(call(path, "wait"))
        await asyncio.wait_for(waiting.started.wait(), 5)
    with pytest.raises(Conflict) as caught:
        await asked
    assert caught.value.code == "service-stopped"
    assert waiting.was_cancelled.is_set()
    assert not path.exists()


async def test_a_service_that_dies_meanwhile_is_lost(tmp_path):
    path = tmp_path / "dying.sock"
    with bound_socket(path) as listening:
        asked = asyncio.create_task(call(path, "echo"))
        accepted, _ = await asyncio.to_thread(listening.accept)
        await asyncio.to_thread(accepted.recv, 100)
        accepted.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{}\n\r\n")
        accepted.close()
        with pytest.raises(Conflict) as caught:
            await asked
    assert caught.value.code == "service-lost"


def test_only_the_owner_may_use_the_socket(tmp_path):
    path = tmp_path / "x.sock"
    former = os.umask(0)
    try:
        with bound_socket(path):
            assert stat.S_IMODE(path.lstat().st_mode) == 0o600
            assert os.umask(0) == 0
            assert is_answered(path)
    finally:
        os.umask(former)
    assert not path.exists()


def test_a_stale_socket_is_replaced(tmp_path):
    path = tmp_path / "x.sock"
    bind_socket(path).close()
    assert path.exists()
    assert not is_answered(path)
    with bound_socket(path):
        assert is_answered(path)


def test_a_socket_that_somebody_answers_is_left_alone(tmp_path):
    path = tmp_path / "x.sock"
    with bound_socket(path):
        with pytest.raises(Conflict) as caught:
            bind_socket(path)
        assert is_answered(path)
    assert caught.value.code == "service-running"


def test_something_else_of_this_name_is_left_alone(tmp_path):
    path = tmp_path / "x.sock"
    path.write_text("precious")
    with pytest.raises(StoreError, match="no socket") as caught:
        bind_socket(path)
    assert (caught.value.code, path.read_text()) == ("service-socket", "precious")
    link = tmp_path / "y.sock"
    link.symlink_to(path)
    with pytest.raises(StoreError, match="no socket"):
        connect_socket(link)


def test_a_socket_of_another_user_is_neither_used_nor_replaced(tmp_path, monkeypatch):
    path = tmp_path / "x.sock"
    with bound_socket(path):
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 4321)
        for use in (bind_socket, connect_socket, is_answered):
            with pytest.raises(StoreError, match="another user"):
                use(path)


async def test_a_connection_of_another_user_is_ended_without_a_word(tmp_path, monkeypatch):
    monkeypatch.setattr(control, "is_peer_trusted", lambda connected: False)
    async with running(tmp_path) as path:
        with pytest.raises(Conflict) as caught:
            await call(path, "echo")
    assert caught.value.code == "service-lost"


@pytest.mark.skipif(not hasattr(socket, "SO_PEERCRED"), reason="this system does not tell who is at the other end")
def test_the_other_end_is_trusted_if_it_is_this_user_or_root(monkeypatch):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert service_socket.is_peer_trusted(ours)
        peer = os.getuid()
        monkeypatch.setattr(os, "geteuid", lambda: 4321)
        assert service_socket.is_peer_trusted(ours) == (peer == 0)
        monkeypatch.setattr(service_socket, "_ROOT", 4321)
        assert not service_socket.is_peer_trusted(ours)
        assert service_socket.is_peer_trusted(ours, {peer})


def test_the_socket_lies_beside_the_database_file(tmp_path):
    assert socket_beside(f"sqlite:///{tmp_path}/a.sqlite3") == tmp_path / "a.sqlite3.sock"
    assert socket_beside(":memory:") is None
    assert socket_beside("postgresql://db/regwarden") is None


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs Linux")
async def test_a_path_that_is_too_long_for_a_socket_works_all_the_same(tmp_path):
    place = tmp_path / ("long" * 30)
    place.mkdir()
    async with running(place) as path:
        assert len(str(path)) > 108
        assert (await call(path, "echo"))["arguments"] == {}
    assert list(place.iterdir()) == []


async def test_without_unix_sockets_the_service_runs_without_one(tmp_path, monkeypatch, logged):
    monkeypatch.setattr(control, "has_unix_sockets", lambda: False)
    async with running(tmp_path) as path:
        assert not path.exists()
    assert ["no Unix sockets" in entry["event"] for entry in logged] == [True]


def test_of_many_states_the_latest_is_told_and_warnings_are_kept_in_order():
    tell = Tell()
    for number in range(5000):
        tell.progress(number)
        tell.warning(str(number))
    said = list(tell.take())
    assert said[-1] == {"progress": 4999}
    assert [one["warning"] for one in said[:-1]] == [str(number) for number in range(4000, 5000)]
    assert list(tell.take()) == []


def post(path: Path, body: bytes) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection("localhost")
    connection.sock = connect_socket(path)
    connection.request("POST", "/run", body)
    response = connection.getresponse()
    answer = response.status, msgspec.json.decode(response.read().splitlines()[-1])
    connection.close()
    return answer


def send_request(path: Path, command: str) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection("localhost")
    connection.sock = connect_socket(path)
    connection.request("POST", "/run", msgspec.json.encode({"command": command}))
    return connection
