"""imagelist's clients at a running service: on its own listener and below the main one, with its tokens file."""

from __future__ import annotations

import http.client
import json
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from regwarden.store.allow import AllowFilter, list_entries
from tests.serving import Service, running_service, wait_for

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(sys.platform == "win32", reason="the service is stopped with SIGTERM here"),
]

HEX = "0123456789abcdef" * 4
IMAGE = f"host:5000/org/app@sha256:{HEX}"
CONFIGURATION = """
[server]
listen = ["127.0.0.1:0"]
[defaults]
crawl_every = "never"
[[registry]]
name = "prod"
url = "http://registry.example.test:5201"
[compat.imagelist]
enabled = true
listen = "127.0.0.1:0"
unauthenticated_reads = true
"""


def ask(port: int, method: str, path: str, body: object = None, token: str = "") -> tuple[int, bytes]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, answer.read()


def own_port(service: Service) -> int:
    return int(service.addresses("listening as imagelist on")[0].rpartition(":")[2])


def put(port: int, image_id: str, *tags: str, token: str = "") -> int:
    return ask(port, "PUT", "/images", {"id": image_id, "name": "app", "tags": tags}, token)[0]


def test_both_addresses_show_one_list(tmp_path: Path):
    with running_service(tmp_path, CONFIGURATION + "unauthenticated_writes = true\n") as service:
        own, main = own_port(service), service.port
        assert any("anybody who can reach imagelist's interface may allow images" in line for line in service.lines)
        assert ask(own, "GET", "/health/ping") == (200, b"")
        assert put(own, IMAGE, "1.0") == 200
        status, shown = ask(main, "GET", f"/compat/imagelist/images/{IMAGE.replace('/', '%2F')}")
        assert (status, json.loads(shown)["tags"]) == (200, ["1.0"])
        assert ask(own, "GET", f"/images/{IMAGE}") == (200, shown)
        assert ask(main, "GET", "/compat/imagelist/images") == (200, b"[" + shown + b"]")
        assert ask(main, "GET", "/images")[0] == 404
        with service.reader() as database:
            (entry,) = database.read_now(lambda connection: list_entries(connection, AllowFilter()))
        assert (entry.digest, entry.made_by) == (f"sha256:{HEX}", "imagelist (anonymous)")
        assert ask(main, "DELETE", f"/compat/imagelist/images/{IMAGE}") == (204, b"")
        assert ask(own, "GET", "/images") == (200, b"[]")
        assert service.stop() == 0


def test_a_tokens_file_that_another_replaces_counts_at_once(tmp_path: Path):
    file = tmp_path / "tokens.yaml"
    file.write_text("tokens: [{name: ci, token: first, is_disabled: false, description: x}]")
    configuration = f"{CONFIGURATION}tokens_file = {json.dumps(str(file))}\n"
    with running_service(tmp_path, configuration) as service:
        port = own_port(service)
        assert not any("anybody" in line for line in service.lines)
        assert put(port, "a") == 401
        assert put(port, "a", token="first") == 200
        other = tmp_path / "other.yaml"
        other.write_text("tokens: [{name: ci, token: second}]")
        other.replace(file)
        wait_for(lambda: put(port, "a", token="second") == 200, service.process)
        assert put(port, "a", token="first") == 401
        assert ask(port, "GET", "/images")[0] == 200


def test_first_puts_at_two_services_on_one_database_all_succeed(tmp_path: Path, postgresql_url: str):
    configuration = CONFIGURATION + "unauthenticated_writes = true\n"
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    with (
        running_service(tmp_path / "one", configuration, database_url=postgresql_url) as one,
        running_service(tmp_path / "other", configuration, database_url=postgresql_url) as other,
    ):
        ports = (own_port(one), own_port(other))
        statuses: list[int] = []

        def put_all(port: int) -> None:
            statuses.extend(put(port, f"id{number}", str(port)) for number in range(50))

        threads = [threading.Thread(target=put_all, args=(port,)) for port in ports * 2]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert statuses == [200] * 200
        first, second = (ask(port, "GET", "/images") for port in ports)
        assert first == second
        assert len(json.loads(first[1])) == 50
