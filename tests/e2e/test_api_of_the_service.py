"""`regwarden serve` with the API: the first token, the listeners it tells of, and an end that finishes requests."""

from __future__ import annotations

import json
import signal
import socket
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tests.serving import Service, running_service, wait_for

PLAIN = '[server]\nlisten = ["127.0.0.1:0"]\n'


def token_of(service: Service) -> str:
    return next(line.rpartition(" ")[2] for line in service.lines if line.startswith("first token"))


def get(service: Service, path: str, token: str | None = None, **headers: str) -> tuple[int, Any]:
    sent = {**headers, **({"Authorization": f"Bearer {token}"} if token else {})}
    request = urllib.request.Request(f"http://127.0.0.1:{service.port}{path}", headers=sent)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read() or b"null")


def started(service: Service) -> None:
    wait_for(lambda: any(line.startswith(("notifications:", "no registry")) for line in service.lines), service.process)


def test_the_first_token_opens_the_api_and_is_told_once(tmp_path: Path):
    with running_service(tmp_path, PLAIN, wait=False) as service:
        started(service)
        token = token_of(service)
        assert any(line.startswith("API: http://127.0.0.1:") for line in service.lines)
        assert get(service, "/api/v1/registries", token)[1]["_embedded"]["items"] == []
        assert get(service, "/api/v1/registries")[0] == 401
        assert get(service, "/api/v1/registries", "rgw_x")[0] == 401
        assert get(service, "/auth/keys")[1]["keys"]
        assert get(service, "/healthz")[0] == 200
        assert get(service, "/api/v2")[0] == 404
        assert service.stop() == 0
    with running_service(tmp_path, PLAIN, wait=False) as service:
        started(service)
        assert not any(line.startswith("first token") for line in service.lines)
        assert get(service, "/api/v1/registries", token)[0] == 200


def test_without_the_api_only_hooks_answer(tmp_path: Path):
    with running_service(tmp_path, f"{PLAIN}api_enabled = false\n", wait=False) as service:
        started(service)
        assert not any("token" in line or "API" in line for line in service.lines)
        for path in ("/api/v1", "/api/v1/openapi.json", "/auth/keys", "/compat/imagelist/images"):
            assert get(service, path)[0] == 404


def test_an_address_that_others_reach_gets_no_first_token(tmp_path: Path):
    with running_service(tmp_path, PLAIN.replace("127.0.0.1", "0.0.0.0"), wait=False) as service:
        started(service)
        assert not any(line.startswith("first token") for line in service.lines)
        assert any("regwarden token create" in line for line in service.lines)


def test_the_predecessors_interfaces_are_mounted_and_listen_where_they_are_told(tmp_path: Path):
    interfaces = (
        '[[registry]]\nname = "prod"\nurl = "http://127.0.0.1:9"\ncrawl_every = "never"\n'
        '[compat.imagelist]\nenabled = true\nlisten = "127.0.0.1:0"\nunauthenticated_reads = true\n'
        '[compat.gitlab_registry_usage_rest]\nenabled = true\nlisten = "127.0.0.1:0"\n'
    )
    with running_service(tmp_path, PLAIN + interfaces) as service:
        assert get(service, "/compat/imagelist/images")[0] == 200
        assert get(service, "/compat/gitlab-registry-usage-rest/repositories")[0] == 401
        for name in ("imagelist", "gitlab-registry-usage-rest"):
            (address,) = service.addresses(f"listening as {name} on")
            assert address.startswith("http://127.0.0.1:")
        (own,) = service.addresses("listening as imagelist on")
        with urllib.request.urlopen(f"{own}/images", timeout=20) as answer:
            assert answer.status == 200


def test_a_request_that_has_begun_is_answered_before_the_end(tmp_path: Path):
    with running_service(tmp_path, PLAIN, wait=False) as service:
        started(service)
        body = b'{"name": "reports", "grants": [{"role": "viewer"}]}'
        head = (
            f"POST /api/v1/tokens HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token_of(service)}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
            connection.sendall(head.encode() + body[:10])
            time.sleep(0.3)
            service.process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            connection.sendall(body[10:])
            answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 201")
        assert service.process.wait(timeout=30) == 0
