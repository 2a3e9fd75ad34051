"""Who can come in after a first start, what lasts over a restart, and how a service ends that has much to do."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.fixtures.directory import PASSWORD, Directory
from tests.serving import Service, running_service, wait_for

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(sys.platform == "win32", reason="the service is stopped with SIGTERM here"),
]

PLAIN = '[server]\nlisten = ["127.0.0.1:0"]\n[defaults]\ncrawl_every = "never"\n'
# Long before what is still running would be given up.
END_SECONDS = 8.0


@contextmanager
def started(folder: Path, configuration: str, *, database_url: str = "") -> Iterator[Service]:
    with running_service(folder, configuration, wait=False, database_url=database_url) as service:
        wait_for(lambda: any(one.startswith(("notifications:", "no registry")) for one in service.lines))
        yield service
        assert "Traceback" not in "\n".join(service.lines)


def first_token(service: Service) -> str | None:
    return next((line.rpartition(" ")[2] for line in service.lines if line.startswith("first token")), None)


def run_beside(service: Service, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command on the same machine, or in the same container."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("REGWARDEN_", "REGISTRY"))}
    command = [sys.executable, "-m", "regwarden", *arguments, "--database", service.database_url]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def status_of(service: Service, token: str) -> int:
    return service.ask("GET", "/api/v1/me", token=token)[0]


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_where_others_could_come_in_a_command_beside_it_makes_the_first_token(
    tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    url = "" if kind == "sqlite" else request.getfixturevalue("postgresql_url")
    with started(tmp_path, PLAIN.replace("127.0.0.1", "0.0.0.0"), database_url=url) as service:
        assert first_token(service) is None
        hint = next(line for line in service.lines if "Nobody can sign in yet" in line)
        command = hint.partition("Run: regwarden ")[2].split()
        assert command[:2] == ["token", "create"]
        made = run_beside(service, *command)
        assert (made.returncode, made.stdout.count("\n")) == (0, 1), made.stderr
        token = made.stdout.strip()
        wait_for(lambda: status_of(service, token) == 200, seconds=2)
        assert token not in "\n".join(service.lines)
        revoked = run_beside(service, "token", "revoke", "admin")
        assert revoked.returncode == 0, revoked.stderr
        wait_for(lambda: status_of(service, token) == 401, seconds=2)
        assert service.stop() == 0


def test_where_people_can_sign_in_already_no_token_is_printed(tmp_path: Path, directory: Directory) -> None:
    file = tmp_path / "tokens.yaml"
    file.write_text("tokens: [{name: ci, token: 0123456789abcdef0123456789abcdef, role: viewer}]")
    role = '[[role]]\nrole = "viewer"\neveryone = true\n'
    for number, way in enumerate((directory.configuration + role, f"[auth]\ntokens_file = {json.dumps(str(file))}\n")):
        folder = tmp_path / str(number)
        folder.mkdir()
        with started(folder, PLAIN + way) as service:
            assert first_token(service) is None
            assert not any("rgw_" in line or "Nobody can sign in" in line for line in service.lines)


def test_a_start_that_fails_does_not_use_up_the_first_token(tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        taken = f'[compat.imagelist]\nlisten = "127.0.0.1:{other.getsockname()[1]}"\n'
        with running_service(tmp_path, PLAIN + taken, wait=False) as service:
            assert service.process.wait(timeout=60) == 1
            assert first_token(service) is None
    with started(tmp_path, PLAIN) as service:
        token = first_token(service)
        assert token is not None
        assert status_of(service, token) == 200


def test_sign_ins_and_tokens_outlive_a_restart(tmp_path: Path, directory: Directory) -> None:
    configuration = f'{PLAIN}{directory.configuration}[[role]]\nrole = "admin"\ngroups = ["company"]\n'
    with started(tmp_path, configuration) as service:
        status, tokens = service.ask("POST", "/auth/token", {"username": "alice", "password": PASSWORD})
        assert status == 200
        wanted = {"name": "ci", "grants": [{"role": "viewer"}]}
        status, made = service.ask("POST", "/api/v1/tokens", wanted, tokens["access_token"])
        assert status == 201
        ended = service.ask("POST", "/auth/token", {"username": "alice", "password": PASSWORD})[1]
        assert service.ask("POST", "/auth/revoke", token=ended["access_token"])[0] == 204
        assert service.stop() == 0
    with started(tmp_path, configuration) as service:
        assert [status_of(service, one) for one in (tokens["access_token"], made["token"])] == [200, 200]
        assert status_of(service, ended["access_token"]) == 401
        again = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
        status, renewed = service.ask("POST", "/auth/token", again)
        assert (status, status_of(service, renewed["access_token"])) == (200, 200)


@contextmanager
def silent_registry() -> Iterator[int]:
    """Takes connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


class Stream:
    """A client that reads a stream to its end."""

    def __init__(self, service: Service, path: str, token: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", service.port), timeout=30)
        self._socket.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
        self.received = b""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with self._socket:
            while piece := self._socket.recv(65536):
                self.received += piece

    def is_ended(self) -> bool:
        self._thread.join(5)
        return not self._thread.is_alive() and self.received.endswith(b"0\r\n\r\n")


def test_it_ends_in_time_whatever_is_going_on(tmp_path: Path) -> None:
    with silent_registry() as port:
        registry = f'[[registry]]\nname = "prod"\nurl = "http://127.0.0.1:{port}"\n'
        with started(tmp_path, PLAIN + registry) as service:
            token = first_token(service)
            assert token is not None
            status, begun = service.ask("POST", "/api/v1/crawls", {"registry": "prod"}, token)
            assert (status, begun["state"]) == (202, "running")
            own = begun["_links"]["self"]["href"]
            streams = [Stream(service, path, token) for path in ("/api/v1/events/stream", f"{own}/stream")]
            wait_for(lambda: all(b"text/event-stream" in stream.received for stream in streams), seconds=10)
            body = b'{"name": "reports", "grants": [{"role": "viewer"}]}'
            head = (
                f"POST /api/v1/tokens HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            idle = socket.create_connection(("127.0.0.1", service.port), timeout=20)
            slow = socket.create_connection(("127.0.0.1", service.port), timeout=20)
            with closing(idle), closing(slow):
                slow.sendall(head.encode() + body[:10])
                time.sleep(0.3)
                began_at = time.monotonic()
                service.process.send_signal(signal.SIGTERM)
                assert all(stream.is_ended() for stream in streams), [stream.received for stream in streams]
                slow.sendall(body[10:])
                assert slow.recv(65536).startswith(b"HTTP/1.1 201")
                assert service.process.wait(timeout=30) == 0
            assert time.monotonic() - began_at < END_SECONDS
