"""The commands that a service runs for processes beside it: each does what the library's method does."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from regwarden import InputError, NotFound
from regwarden.library_remote import call_service
from regwarden.store.database import Database
from regwarden.store.deliveries import QUARANTINED, NewDelivery, insert_deliveries
from regwarden.store.hook_secrets import load_hook_secrets
from regwarden.store.service_socket import socket_beside
from tests.control_service import control_service

AT = datetime(2026, 3, 1, tzinfo=UTC)


class Service:
    def __init__(self, url: str, database: Database, done: list[str]) -> None:
        self.database = database
        self.done = done
        self._socket = socket_beside(url)

    def call(self, command: str, **arguments: Any) -> Any:
        assert self._socket is not None
        return call_service(self._socket, command, arguments)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    url = f"sqlite:///{tmp_path / 'inventory.sqlite3'}"
    done: list[str] = []
    with control_service(url, done.append) as database:
        yield Service(url, database, done)


def set_aside(database: Database, *registries: str) -> None:
    rows = [NewDelivery(name, AT, "10.0.0.1", b"{", 1, QUARANTINED, "bad-json") for name in registries]
    database.write_now(lambda connection: insert_deliveries(connection, rows))


def test_deliveries_that_were_set_aside_are_looked_at_again(service):
    set_aside(service.database, "one", "one", "other")
    again = {"event_count": 0}  # they cannot be read, so they are set aside again
    assert service.call("replay", ids=[1]) == {"delivery_count": 1, "left_count": 1, **again}
    assert service.call("replay", registry="one") == {"delivery_count": 2, "left_count": 2, **again}
    assert service.call("replay") == {"delivery_count": 3, "left_count": 3, **again}
    with pytest.raises(NotFound, match="delivery 4"):
        service.call("replay", ids=[4])


def test_a_secret_is_made_once_and_the_one_before_a_new_one_stays_valid(service):
    (first,) = service.call("secret", registry="prod")["secrets"]
    assert service.call("secret", registry="prod")["secrets"] == [first]
    second, former = service.call("secret", registry="prod", rotate=True)["secrets"]
    assert former == first != second
    assert service.database.read_now(load_hook_secrets) == {"prod": (second, first)}


def test_the_service_learns_what_was_done_and_nothing_of_what_failed(service):
    service.call("secret", registry="prod")
    with pytest.raises(NotFound):
        service.call("crawl", registry="nowhere")
    assert service.done == ["secret"]


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("crawl", {}),
        ("crawl", {"registry": 3}),
        ("crawl", {"registry": "https://x.example", "arguments": {"verify": "yes"}}),
        ("crawl", {"registry": "https://x.example", "more": 1}),
        ("replay", {"ids": "all"}),
        ("secret", {"rotate": True}),
    ],
)
def test_arguments_that_a_command_does_not_take_are_refused(service, command, arguments):
    with pytest.raises(InputError, match=command) as caught:
        service.call(command, **arguments)
    assert caught.value.code == "bad-request"
