"""Two services on one PostgreSQL: what is changed at one counts at the other within two seconds."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.directory import PASSWORD, Directory
from tests.fixtures.postgresql import PostgresqlServer
from tests.serving import Service, running_service, wait_for

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(sys.platform == "win32", reason="the service is stopped with SIGTERM here"),
]

CONFIGURATION = """
[server]
listen = ["127.0.0.1:0"]
[compat.imagelist]
enabled = true
unauthenticated_reads = true
unauthenticated_writes = true
[[role]]
role = "admin"
groups = ["company"]
"""
DIGEST = f"sha256:{'ab' * 32}"
OTHER = f"sha256:{'cd' * 32}"
THIRD = f"sha256:{'ef' * 32}"
SPREAD_SECONDS = 2.0


@contextmanager
def started(folder: Path, directory: Directory, url: str) -> Iterator[Service]:
    folder.mkdir()
    with running_service(folder, CONFIGURATION + directory.configuration, database_url=url, wait=False) as service:
        wait_for(lambda: any(line.startswith("no registry") for line in service.lines), service.process)
        yield service


@pytest.fixture(scope="module")
def replicas(
    tmp_path_factory: pytest.TempPathFactory, directory: Directory, postgresql_server: PostgresqlServer
) -> Iterator[tuple[Service, Service]]:
    folder, name = tmp_path_factory.mktemp("replicas"), postgresql_server.create_database()
    url = postgresql_server.url(name)
    with started(folder / "one", directory, url) as one, started(folder / "other", directory, url) as other:
        yield one, other
        for service in (one, other):
            assert service.stop() == 0
            assert "Traceback" not in "\n".join(service.lines)
    postgresql_server.drop_database(name)


def sign_in(service: Service, name: str = "alice") -> dict[str, Any]:
    status, tokens = service.ask("POST", "/auth/token", {"username": name, "password": PASSWORD})
    assert status == 200, tokens
    found: dict[str, Any] = tokens
    return found


def refresh(service: Service, token: str) -> tuple[int, Any]:
    return service.ask("POST", "/auth/token", {"grant_type": "refresh_token", "refresh_token": token})


def is_let_in(service: Service, token: str) -> bool:
    status, _ = service.ask("GET", "/api/v1/me", token=token)
    assert status in (200, 401)
    return status == 200


def within_spread(condition: Callable[[], bool]) -> None:
    """It becomes true in the time that a change may take."""
    began_at = time.monotonic()
    while not condition():
        assert time.monotonic() - began_at < SPREAD_SECONDS, "the other service does not know yet"
        time.sleep(0.02)


def test_tokens_and_sign_ins_of_one_hold_and_end_at_the_other(replicas: tuple[Service, Service]) -> None:
    one, other = replicas
    admin = sign_in(one)["access_token"]
    # The one that started later may sign with a key that the earlier one has not seen yet.
    assert is_let_in(other, admin)
    assert is_let_in(one, sign_in(other)["access_token"])
    wanted = {"name": "ci", "grants": [{"role": "viewer"}]}
    status, made = one.ask("POST", "/api/v1/tokens", wanted, admin)
    assert status == 201, made
    assert is_let_in(one, made["token"])
    within_spread(lambda: is_let_in(other, made["token"]))
    assert other.ask("DELETE", f"/api/v1/tokens/{made['id']}", token=admin)[0] == 204
    assert not is_let_in(other, made["token"])
    within_spread(lambda: not is_let_in(one, made["token"]))

    second = sign_in(one)
    assert is_let_in(other, second["access_token"])
    assert one.ask("POST", "/auth/revoke", {"refresh_token": second["refresh_token"]})[0] == 204
    assert not is_let_in(one, second["access_token"])
    within_spread(lambda: not is_let_in(other, second["access_token"]))
    assert refresh(other, second["refresh_token"])[0] == 401
    assert is_let_in(other, admin)


def test_a_refresh_token_that_is_used_twice_ends_the_sign_in_everywhere(replicas: tuple[Service, Service]) -> None:
    one, other = replicas
    first = sign_in(one)
    status, second = refresh(other, first["refresh_token"])
    assert status == 200
    assert is_let_in(one, second["access_token"])
    assert refresh(one, first["refresh_token"])[0] == 401
    assert not is_let_in(one, second["access_token"])
    within_spread(lambda: not is_let_in(other, second["access_token"]))
    assert refresh(other, second["refresh_token"])[0] == 401


def use(service: Service, token: str, statuses: list[int]) -> None:
    statuses.append(refresh(service, token)[0])


def test_of_two_that_refresh_at_once_at_two_services_one_wins(replicas: tuple[Service, Service]) -> None:
    for _ in range(5):
        token = sign_in(replicas[0])["refresh_token"]
        statuses: list[int] = []
        both = [threading.Thread(target=use, args=(service, token, statuses)) for service in replicas]
        for thread in both:
            thread.start()
        for thread in both:
            thread.join()
        assert sorted(statuses) == [200, 401]


def test_what_may_run_is_the_same_everywhere(replicas: tuple[Service, Service]) -> None:
    one, other = replicas
    admin = sign_in(one)["access_token"]

    def outcome(service: Service, image: str = DIGEST) -> str:
        status, found = service.ask("GET", f"/api/v1/allow/check?image={image}", token=admin)
        assert (status, found["is_stale"]) == (200, False)
        return str(found["outcome"])

    assert outcome(other) == "deny"
    status, allowed = one.ask("POST", "/api/v1/allow", {"image": DIGEST}, admin)
    assert status == 201
    within_spread(lambda: outcome(other) == "allow")
    status, denied = other.ask("POST", "/api/v1/allow", {"image": DIGEST, "effect": "deny"}, admin)
    assert status == 201
    within_spread(lambda: outcome(one) == "deny")
    assert one.ask("DELETE", f"/api/v1/allow/{denied['id']}", token=admin)[0] == 204
    within_spread(lambda: outcome(other) == "allow")
    assert other.ask("DELETE", f"/api/v1/allow/{allowed['id']}", token=admin)[0] == 204
    within_spread(lambda: outcome(one) == "deny")

    assert one.ask("PUT", "/compat/imagelist/images", {"id": OTHER, "name": "app", "tags": ["1"]})[0] == 200
    assert other.ask("GET", f"/compat/imagelist/images/{OTHER}")[1]["tags"] == ["1"]
    within_spread(lambda: outcome(other, OTHER) == "allow")
    assert other.ask("DELETE", f"/compat/imagelist/images/{OTHER}")[0] == 204
    within_spread(lambda: outcome(one, OTHER) == "deny")


def test_puts_of_one_image_at_both_at_once_leave_one_entry(replicas: tuple[Service, Service]) -> None:
    statuses: list[int] = []

    def put(service: Service, mark: str) -> None:
        for number in range(20):
            body = {"id": THIRD, "name": "app", "tags": [f"{mark}{number}"]}
            statuses.append(service.ask("PUT", "/compat/imagelist/images", body)[0])

    threads = [threading.Thread(target=put, args=(service, mark)) for service in replicas for mark in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 80
    admin = sign_in(replicas[0])["access_token"]
    listed = [
        service.ask("GET", f"/api/v1/allow?image={THIRD}", token=admin)[1]["_embedded"]["items"] for service in replicas
    ]
    assert listed[0] == listed[1]
    assert len(listed[0]) == 1
    shown = [service.ask("GET", f"/compat/imagelist/images/{THIRD}")[1] for service in replicas]
    assert shown[0] == shown[1]
