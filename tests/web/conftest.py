"""An application is asked here without a network: requests are the messages that a server would pass on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
import structlog
from structlog.testing import capture_logs

from regwarden.errors import StoreError
from regwarden.store.deliveries import NewDelivery


@dataclass
class Answer:
    """What came back; ``status`` is 0 if nothing did."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


@dataclass
class Storage:
    """Keeps deliveries in a list, or fails."""

    kept: list[NewDelivery] = field(default_factory=list)
    is_broken: bool = False

    async def store(self, delivery: NewDelivery) -> None:
        await asyncio.sleep(0)
        if self.is_broken:
            raise StoreError("the disk is full", hint="Free some space.", code="disk-full")
        self.kept.append(delivery)


@pytest.fixture
def storage() -> Storage:
    return Storage()


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    """What is logged, however an earlier test has configured that."""
    former = structlog.get_config()
    structlog.reset_defaults()
    with capture_logs() as entries:
        yield entries
    structlog.configure(**former)


async def ask(
    app: Any,
    path: str,
    *pieces: bytes,
    method: str = "POST",
    headers: Iterable[tuple[str, str]] = (),
    ending: str = "complete",
) -> Answer:
    """Send one request; ``ending`` is complete, disconnect (the sender goes away) or hang."""
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    if ending == "complete":
        messages.append({"type": "http.request", "body": b"", "more_body": False})
    elif ending == "disconnect":
        messages.append({"type": "http.disconnect"})
    answer = Answer()

    async def receive() -> dict[str, Any]:
        if not messages:
            await asyncio.Event().wait()
        return messages.pop(0)

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {key.decode().lower(): value.decode() for key, value in message["headers"]}
        else:
            answer.body += message.get("body", b"")

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(key.lower().encode(), value.encode("latin-1")) for key, value in headers],
        "client": ("10.1.2.3", 40000),
    }
    await app(scope, receive, send)
    return answer
