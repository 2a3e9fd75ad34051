"""The database goes away under a running service and comes back: what still answers, what says 503, what recovers."""

from __future__ import annotations

import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from regwarden.core.robot_tokens import REFRESH, build_token
from regwarden.identity.random_texts import random_token
from tests.fixtures.postgresql import DurablePostgresql
from tests.serving import Service, running_service, wait_for

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
url = "http://127.0.0.1:9"
[compat.imagelist]
enabled = true
unauthenticated_reads = true
unauthenticated_writes = true
[compat.gitlab_registry_usage_rest]
enabled = true
"""
DIGEST = f"sha256:{'ab' * 32}"
END_SECONDS = 8.0
EMPTY: dict[str, Any] = {"events": []}
CHECK = f"/api/v1/allow/check?image={DIGEST}"
SAMPLES = {
    "registry": "prod",
    "repository": "team%2Fapp",
    "tag": "1.0",
    "digest": DIGEST,
    "entry_id": "1",
    "plan_id": "1",
    "crawl_id": "1",
    "event_id": "1",
    "delivery_id": "1",
    "number": "1",
}


def first_token(service: Service) -> str:
    return next(line.rpartition(" ")[2] for line in service.lines if line.startswith("first token"))


def reading_paths(service: Service) -> Iterator[str]:
    """A path for every route that reads."""
    status, described = service.ask("GET", "/api/v1/openapi.json")
    assert status == 200
    for path, methods in described["paths"].items():
        if "get" not in methods or path.endswith("stream"):
            continue
        for name, sample in SAMPLES.items():
            path = path.replace(f"{{{name}}}", sample)  # noqa: PLW2901 -- step by step
        wanted = [one for one in methods["get"].get("parameters", []) if one["in"] == "query" and one.get("required")]
        query = "&".join(f"{one['name']}={DIGEST}" for one in wanted)
        path = path.replace("{", "").replace("}", "")  # noqa: PLW2901 -- what is left is a name
        yield f"{path}?{query}" if query else path


def writes(token: str, secret: str) -> list[tuple[str, str, Any, str]]:
    return [
        ("POST", "/hooks/prod", EMPTY, secret),
        ("POST", "/api/v1/tokens", {"name": "late", "grants": [{"role": "viewer"}]}, token),
        ("POST", "/api/v1/allow", {"image": DIGEST}, token),
        ("DELETE", "/api/v1/allow/1", None, token),
        (
            "POST",
            "/auth/token",
            {"grant_type": "refresh_token", "refresh_token": build_token(random_token(), REFRESH)},
            "",
        ),
    ]


def assert_everything_works(service: Service, token: str, secret: str) -> None:
    assert service.ask("POST", "/hooks/prod", EMPTY, secret)[0] == 200
    status, found = service.ask("GET", CHECK, token=token)
    assert (status, found["outcome"], found["is_stale"]) == (200, "allow", False)
    status, entry = service.ask("POST", "/api/v1/allow", {"image": DIGEST, "effect": "deny"}, token)
    assert status == 201
    assert service.ask("GET", CHECK, token=token)[1]["outcome"] == "deny"
    assert service.ask("DELETE", f"/api/v1/allow/{entry['id']}", token=token)[0] == 204
    status, made = service.ask("POST", "/api/v1/tokens", {"name": "ci", "grants": [{"role": "viewer"}]}, token)
    assert (status, service.ask("GET", "/api/v1/me", token=made["token"])[0]) == (201, 200)
    assert service.ask("DELETE", f"/api/v1/tokens/{made['id']}", token=token)[0] == 204
    image = {"id": f"x{DIGEST}", "name": "app", "tags": ["1"]}
    assert service.ask("PUT", "/compat/imagelist/images", image)[0] == 200


def is_stale(service: Service, token: str) -> bool:
    status, found = service.ask("GET", CHECK, token=token)
    assert (status, found["outcome"]) == (200, "allow")
    return bool(found["is_stale"])


def test_postgresql_is_gone_for_a_while(tmp_path: Path, durable_postgresql: DurablePostgresql) -> None:
    url = durable_postgresql.url(durable_postgresql.create_database())
    with running_service(tmp_path, CONFIGURATION, database_url=url) as service:
        token, secret = first_token(service), service.secret("prod")
        assert service.ask("POST", "/api/v1/allow", {"image": DIGEST}, token)[0] == 201
        assert_everything_works(service, token, secret)
        paths = list(reading_paths(service))
        before = {path: service.ask("GET", path, token=token)[0] for path in paths}
        assert all(status < 500 for status in before.values()), before

        durable_postgresql.kill()
        wait_for(lambda: is_stale(service, token), service.process, seconds=5)
        statuses = {path: service.ask("GET", path, token=token) for path in paths}
        for path, (status, answered) in statuses.items():
            assert status in (503, before[path]), (path, status)
            assert status != 503 or answered["code"] == "database-unreachable", answered
        assert sum(status == 503 for status, _ in statuses.values()) > len(paths) // 2, statuses
        for method, path, body, who in writes(token, secret):
            status, answered = service.ask(method, path, body, who)
            assert (status, answered["status"]) == (503, 503), (path, answered)
        assert service.ask("GET", "/api/v1/me", token=token)[0] == 200
        assert service.ask("GET", "/api/v1/me", token=f"{token}x")[0] == 401
        assert service.ask("GET", "/readyz")[0] == 503
        assert service.ask("GET", "/healthz")[0] == 200

        durable_postgresql.start()
        wait_for(lambda: service.ask("GET", "/readyz")[0] == 200, service.process, seconds=15)
        wait_for(lambda: not is_stale(service, token), service.process, seconds=5)
        assert {path: service.ask("GET", path, token=token)[0] for path in paths} == before
        assert_everything_works(service, token, secret)
        assert service.stop() == 0
        assert "Traceback" not in "\n".join(service.lines)


def test_it_ends_in_time_without_its_database(tmp_path: Path, durable_postgresql: DurablePostgresql) -> None:
    url = durable_postgresql.url(durable_postgresql.create_database())
    with running_service(tmp_path, CONFIGURATION, database_url=url) as service:
        token = first_token(service)
        assert service.ask("POST", "/api/v1/allow", {"image": DIGEST}, token)[0] == 201
        durable_postgresql.kill()
        wait_for(lambda: is_stale(service, token), service.process, seconds=5)
        began_at = time.monotonic()
        assert service.stop() == 0
        assert time.monotonic() - began_at < END_SECONDS
        assert "Traceback" not in "\n".join(service.lines)


def test_a_locked_file_is_waited_for_and_then_told(tmp_path: Path) -> None:
    with running_service(tmp_path, CONFIGURATION) as service:
        token, secret = first_token(service), service.secret("prod")
        assert service.ask("POST", "/api/v1/allow", {"image": DIGEST}, token)[0] == 201
        with closing(sqlite3.connect(tmp_path / "inventory.sqlite3", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            status, answered = service.ask("POST", "/hooks/prod", EMPTY, secret)
            assert (status, answered["status"]) == (503, 503)
            # Readers do not wait for who writes.
            assert service.ask("GET", "/api/v1/registries", token=token)[0] == 200
            assert not is_stale(service, token)
            other.execute("ROLLBACK")
        wait_for(lambda: service.ask("GET", "/readyz")[0] == 200, service.process, seconds=15)
        assert_everything_works(service, token, secret)
        assert service.stop() == 0
        assert "Traceback" not in "\n".join(service.lines)
