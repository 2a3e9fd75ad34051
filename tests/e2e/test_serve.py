"""The service as users run it: started, sent to, stopped, killed."""

from __future__ import annotations

import base64
import http.client
import shutil
import signal
import socket
import ssl
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import select

from regwarden.store.deliveries import count_deliveries
from regwarden.store.event_schema import deliveries
from regwarden.store.schema import tags
from regwarden.testing.certificates import make_certificates
from tests.serving import Service, recorded_bodies, running_service, wait_for

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(sys.platform == "win32", reason="the service is stopped with SIGTERM here"),
]

CONFIGURATION = """
[server]
listen = ["127.0.0.1:0"]
[defaults]
crawl_every = "never"
[[registry]]
name = "prod"
url = "http://registry.example.test:5201"
"""
EMPTY = b'{"events": []}'


def post(service: Service, body: bytes, secret: str, path: str = "/hooks/prod", **options) -> tuple[int, bytes]:
    connection = options.get("connection") or http.client.HTTPConnection("127.0.0.1", service.port, timeout=20)
    with closing(connection):
        headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()


def stored(service: Service) -> list[bytes]:
    with service.reader() as database:
        found = database.read_now(
            lambda connection: connection.execute(select(deliveries.c.body).order_by(deliveries.c.id)).scalars().all()
        )
    return [bytes(body) for body in found]


def is_applied(service: Service) -> bool:
    with service.reader() as database:
        return database.read_now(count_deliveries).pending_count == 0


@pytest.fixture
def service(tmp_path: Path):
    with running_service(tmp_path, CONFIGURATION) as service:
        yield service


def test_a_recorded_delivery_is_stored_as_sent_and_becomes_a_tag(service):
    secret = service.secret("prod")
    bodies = recorded_bodies("02-push-oci-manifest-skopeo")
    for body in bodies:
        assert post(service, body, secret) == (200, b"")
    assert stored(service) == bodies
    wait_for(lambda: is_applied(service))
    with service.reader() as database:
        names = database.read_now(lambda connection: connection.execute(select(tags.c.name)).scalars().all())
    assert len(names) == 1
    assert service.stop() == 0
    assert "Traceback" not in "\n".join(service.lines)


def test_without_the_secret_nothing_is_stored(service):
    status, body = post(service, EMPTY, "wrong")
    assert (status, b"hook-denied" in body) == (401, True)
    assert post(service, EMPTY, service.secret("prod"), "/hooks/other")[0] == 401
    assert post(service, EMPTY, "", "/nothing")[0] == 404
    assert stored(service) == []


def test_it_says_that_it_lives_and_is_ready(service):
    for path in ("/healthz", "/readyz"):
        with closing(http.client.HTTPConnection("127.0.0.1", service.port, timeout=20)) as connection:
            connection.request("GET", path)
            assert connection.getresponse().status == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_request_that_has_begun_is_answered_before_it_stops(service, number):
    secret = service.secret("prod")
    with closing(socket.create_connection(("127.0.0.1", service.port), timeout=20)) as sender:
        head = f"POST /hooks/prod HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {secret}\r\n"
        sender.sendall(f"{head}Content-Length: {len(EMPTY)}\r\n\r\n".encode() + EMPTY[:5])
        time.sleep(0.3)
        service.process.send_signal(number)
        time.sleep(0.3)
        sender.sendall(EMPTY[5:])
        assert sender.recv(1000).startswith(b"HTTP/1.1 200")
    assert service.process.wait(timeout=30) == 0
    assert stored(service) == [EMPTY]


def test_what_was_acknowledged_survives_being_killed(service):
    secret = service.secret("prod")
    bodies = [b'{"events": [], "number": %d}' % number for number in range(50)]
    for body in bodies:
        assert post(service, body, secret)[0] == 200
    service.process.kill()
    service.process.wait()
    assert stored(service) == bodies


def test_a_path_is_listened_on_too_and_vanishes_with_the_service(tmp_path):
    path = tmp_path / "hooks.sock"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()
    with running_service(tmp_path, CONFIGURATION, "--listen", f"unix:{path}") as service:
        assert service.addresses() == [f"unix:{path}"]
        secret = service.secret("prod")
        with closing(socket.socket(socket.AF_UNIX)) as sender:
            sender.connect(str(path))
            password = base64.b64encode(f"x:{secret}".encode()).decode()
            sender.sendall(
                f"POST /hooks/prod HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {password}\r\n"
                f"Content-Length: {len(EMPTY)}\r\n\r\n".encode()
                + EMPTY
            )
            assert sender.recv(1000).startswith(b"HTTP/1.1 200")
        assert stored(service) == [EMPTY]
        assert service.stop() == 0
    assert not path.exists()


def test_a_port_in_use_is_one_sentence_with_a_hint(tmp_path):
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with running_service(tmp_path, CONFIGURATION, "--listen", address, wait=False) as service:
            assert service.process.wait(timeout=60) == 1
    said = "\n".join(service.lines)
    assert f"error[cannot-listen]: cannot listen on {address}: another program listens there" in said
    assert "hint: " in said
    assert "Traceback" not in said
    assert not (tmp_path / "inventory.sqlite3").exists()


def test_tls_is_served_and_a_new_certificate_taken_without_a_restart(tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    first, second = (make_certificates(_made(tmp_path / name)) for name in ("first", "second"))
    live, key = tmp_path / "live.crt", tmp_path / "live.key"
    _install(first.server, first.server_key, live, key)
    tls = f'[server]\nlisten = ["127.0.0.1:0"]\ntls_certificate = "{live}"\ntls_key = "{key}"\n'
    configuration = CONFIGURATION.replace('[server]\nlisten = ["127.0.0.1:0"]\n', tls)
    with running_service(tmp_path, configuration) as service:
        secret = service.secret("prod")

        def connect(certificates) -> http.client.HTTPSConnection:
            context = certificates.client_context()
            return http.client.HTTPSConnection("127.0.0.1", service.port, timeout=20, context=context)

        def is_trusted(certificates) -> bool:
            try:
                return post(service, EMPTY, secret, connection=connect(certificates))[0] == 200
            except ssl.SSLCertVerificationError:
                return False

        assert is_trusted(first)
        assert not is_trusted(second)
        kept = connect(first)
        kept.connect()
        live.write_text("not a certificate")
        wait_for(lambda: any("the old certificate stays in use" in line for line in service.lines))
        assert is_trusted(first)
        _install(second.server, second.server_key, live, key)
        wait_for(lambda: is_trusted(second))
        assert not is_trusted(first)
        assert post(service, EMPTY, secret, connection=kept)[0] == 200


def test_regstats_listener_takes_events_from_anybody_only_when_asked_to(tmp_path):
    settings = CONFIGURATION + '[compat.regstat]\nlisten = "127.0.0.1:0"\n'
    for is_open in (False, True):
        directory = _made(tmp_path / str(is_open))
        with running_service(directory, settings + f"unauthenticated = {str(is_open).lower()}\n") as service:
            (address,) = service.addresses("listening as regstat on")
            connection = http.client.HTTPConnection("127.0.0.1", int(address.rpartition(":")[2]), timeout=20)
            assert post(service, EMPTY, "", "/any/path", connection=connection)[0] == (200 if is_open else 401)
            assert stored(service) == ([EMPTY] if is_open else [])
            assert any("events are taken from anybody" in line for line in service.lines) is is_open


def test_a_registry_without_its_password_does_not_keep_the_service_from_starting(tmp_path):
    broken = '[[registry]]\nname = "dev"\nurl = "https://dev.example.test"\nusername = "x"\npassword_env = "NOT_SET"\n'
    with running_service(tmp_path, CONFIGURATION + broken) as service:
        assert any("registry dev: not crawled" in line and "NOT_SET" in line for line in service.lines)
        assert post(service, EMPTY, service.secret("dev"), "/hooks/dev")[0] == 200


def test_secrets_in_files_take_precedence_and_are_read_again(tmp_path):
    file = tmp_path / "secret"
    file.write_text("from-a-file\n")
    with running_service(tmp_path, CONFIGURATION + f'hook_secret_files = ["{file}"]\n') as service:
        assert post(service, EMPTY, "from-a-file")[0] == 200
        file.write_text("another\n")
        wait_for(lambda: post(service, EMPTY, "another")[0] == 200)
        assert post(service, EMPTY, "from-a-file")[0] == 401
        file.unlink()
        wait_for(lambda: any("a hook secret cannot be read" in line for line in service.lines))
        assert post(service, EMPTY, "another")[0] == 200


def test_it_works_on_postgresql(tmp_path, postgresql_url):
    with running_service(tmp_path, CONFIGURATION, database_url=postgresql_url) as service:
        assert post(service, EMPTY, service.secret("prod"))[0] == 200
        wait_for(lambda: is_applied(service))
        assert stored(service) == [EMPTY]
        assert service.stop() == 0


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory


def _install(certificate: Path, key: Path, live_certificate: Path, live_key: Path) -> None:
    """Exchange both files as tools that renew certificates do: by renaming."""
    for source, target in ((key, live_key), (certificate, live_certificate)):
        fresh = target.with_suffix(".new")
        fresh.write_bytes(source.read_bytes())
        fresh.replace(target)
