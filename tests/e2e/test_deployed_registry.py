"""Does the registry of the compose file notify, with the secret that it is given in a file?"""

from __future__ import annotations

import hashlib
import http.client
import http.server
import json
import os
import queue
import subprocess
import threading
from collections.abc import Callable, Iterator

import pytest
import yaml

from regwarden.store.database import Access, open_database
from tests import servers

SCRIPT = servers.ROOT / "deploy" / "registry.sh"
COMPOSE = yaml.safe_load((servers.ROOT / "deploy" / "compose.yaml").read_text())
SECRET = "0123456789abcdef" * 4
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG = b"{}"

pytestmark = pytest.mark.e2e


@pytest.fixture
def hooks() -> Iterator[tuple[str, queue.Queue]]:
    """The address of a receiver, and what it is sent: path, Authorization and body."""
    received: queue.Queue = queue.Queue()

    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.put((self.path, self.headers["Authorization"], json.loads(body)))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", received
        server.shutdown()


@pytest.mark.parametrize("kind", ["docker_registry", "distribution3"])
def test_the_registry_notifies_with_the_secret_of_the_file(request, kind, hooks, tmp_path):
    address, received = hooks
    registry = request.getfixturevalue(kind)(is_started=False)
    registry.config["http"]["addr"] = f"127.0.0.1:{free_port()}"
    registry._write_config()
    secret = tmp_path / "hook-secret"
    secret.write_text(f"{SECRET}\nsecond line\n")
    settings = {"HOOK_URL": f"{address}/hooks/local", "HOOK_SECRET_FILE": str(secret), "OTEL_TRACES_EXPORTER": "none"}
    command = ["sh", str(SCRIPT), str(registry.program), "serve", str(registry.config_path)]
    process = subprocess.Popen(
        command, env={**os.environ, **settings}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        host = registry.config["http"]["addr"]
        servers.wait_until(lambda: servers.answers_http(f"http://{host}/v2/"), what="the registry to answer")
        push(host)
        path, authorization, body = received.get(timeout=20)
        assert (path, authorization) == ("/hooks/local", f"Bearer {SECRET}")
        (event,) = body["events"]
        assert (event["action"], event["target"]["repository"], event["target"]["tag"]) == ("push", "app", "1")
        assert received.empty()  # of blobs nothing is told
    finally:
        servers.end_process(process)


@pytest.mark.parametrize("missing", ["HOOK_URL", "HOOK_SECRET_FILE", "content"])
def test_without_address_or_secret_it_does_not_start(tmp_path, missing):
    secret = tmp_path / "hook-secret"
    secret.write_text("" if missing == "content" else SECRET)
    settings = {"HOOK_URL": "http://127.0.0.1:1/hooks/local", "HOOK_SECRET_FILE": str(secret)}
    settings.pop(missing, "")
    completed = subprocess.run(
        ["sh", str(SCRIPT), "echo", "started"],
        env={"PATH": os.environ["PATH"], **settings},
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert completed.returncode != 0
    assert completed.stdout == ""
    assert SECRET not in completed.stderr


def test_the_compose_file_starts_it_so():
    service = COMPOSE["services"]["registry"]
    assert service["entrypoint"] == ["/bin/sh", "/registry.sh"]
    assert service["command"][:2] == ["registry", "serve"]
    assert {"HOOK_URL", "HOOK_SECRET_FILE"} <= set(service["environment"])
    assert "./registry.sh:/registry.sh:ro" in service["volumes"]


async def test_the_password_of_postgresql_may_be_in_the_environment_alone(postgresql_url, monkeypatch):
    user, _, rest = postgresql_url.removeprefix("postgresql://").partition(":")
    password, _, host = rest.partition("@")
    monkeypatch.setenv("PGPASSWORD", password)
    with open_database(f"postgresql://{user}@{host}", access=Access.WRITE, create=True) as database:
        assert password not in database.display_url
        assert await database.read(lambda connection: connection.exec_driver_sql("SELECT 1").scalar_one()) == 1


def push(host: str) -> None:
    """Put the smallest manifest that there is."""
    digest = f"sha256:{hashlib.sha256(CONFIG).hexdigest()}"
    config = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": len(CONFIG)}
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config, "layers": []}
    ask = asking(host)
    location = ask("POST", "/v2/app/blobs/uploads/", b"").partition(host)[2]
    ask("PUT", f"{location}{'&' if '?' in location else '?'}digest={digest}", CONFIG, "application/octet-stream")
    ask("PUT", "/v2/app/manifests/1", json.dumps(manifest).encode(), MANIFEST_TYPE)


def asking(host: str) -> Callable[..., str]:
    def ask(method: str, path: str, body: bytes, media_type: str = "") -> str:
        connection = http.client.HTTPConnection(host, timeout=20)
        connection.request(method, path, body, {"Content-Type": media_type} if media_type else {})
        answer = connection.getresponse()
        assert answer.status in {201, 202}, answer.read()
        location = answer.headers["Location"] or ""
        connection.close()
        return location if "://" in location else f"{host}{location}"

    return ask


def free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
