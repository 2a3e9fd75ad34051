"""Which notifications leave GitLab's registry, and how? Events that the fork alone sends, and a queue to the receivers.

Source: docs/notifications of GitLab's container registry; the envelope is Distribution's.
"""

from __future__ import annotations

import http.client
import json
import queue
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from aiohttp import web

MEDIA_TYPE = "application/vnd.docker.distribution.events.v1+json"
SOURCE = {"addr": "registry:5000", "instanceID": "gitlab-double"}
RETRY_SECONDS = 0.2
TRIES = 10
Target = tuple[str, str]  # the address, and the value of Authorization (empty: none)


def build_event(action: str, target: Mapping[str, Any], *, actor: Mapping[str, Any], request: Any) -> dict[str, Any]:
    """One event of now."""
    return {
        "id": str(uuid4()),
        "timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        "action": action,
        "target": dict(target),
        "request": dict(request),
        "actor": dict(actor),
        "source": dict(SOURCE),
    }


def describe_request(request: web.BaseRequest) -> dict[str, str]:
    """What an event tells of the request that caused it."""
    return {
        "id": str(uuid4()),
        "addr": f"{request.remote}:0",
        "host": request.host,
        "method": request.method,
        "useragent": request.headers.get("User-Agent", ""),
    }


def describe_actor(claims: Mapping[str, Any]) -> dict[str, str]:
    """What an event tells of the holder of a token."""
    pairs = (("name", "sub"), ("user_type", "auth_type"), ("user", "user"))
    return {name: claims[claim] for name, claim in pairs if claim in claims}


class Outbox:
    """Sends events one by one, in order, each again until it is accepted; what fails ten times is dropped."""

    def __init__(self, targets: Sequence[Target]) -> None:
        self.targets = targets
        self.sent: list[dict[str, Any]] = []
        self._events: queue.SimpleQueue[tuple[int, dict[str, Any]] | None] = queue.SimpleQueue()
        self._source = SOURCE
        self._is_ended = threading.Event()
        self._generation = 0
        self._thread = threading.Thread(target=self._run, name="notifications", daemon=True)
        self._thread.start()

    def add(self, event: dict[str, Any]) -> None:
        """What the double says by itself comes from the process that sends the other events, once that is known."""
        if event["source"] == SOURCE:
            event = {**event, "source": self._source}
        else:
            self._source = event["source"]
        self._events.put((self._generation, event))

    def forget(self) -> None:
        """What waits is lost, as with a process that dies."""
        self._generation += 1

    def close(self) -> None:
        """End it; what waits is lost."""
        self._is_ended.set()
        self._events.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (waiting := self._events.get()) is not None and not self._is_ended.is_set():
            generation, event = waiting
            body = json.dumps({"events": [event]}).encode()
            for target in self.targets:
                self._deliver(body, target, generation)
            self.sent.append(event)

    def _deliver(self, body: bytes, target: Target, generation: int) -> None:
        for _ in range(TRIES):
            if self._is_ended.is_set() or generation != self._generation or _post(body, target):
                return
            time.sleep(RETRY_SECONDS)


def _post(body: bytes, target: Target) -> bool:
    """Whether it was accepted."""
    address, authorization = target
    parts = urlsplit(address)
    headers = {"Content-Type": MEDIA_TYPE} | ({"Authorization": authorization} if authorization else {})
    path = f"{parts.path}?{parts.query}" if parts.query else parts.path
    with closing(http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=5)) as connection:
        try:
            connection.request("POST", path or "/", body, headers)
            return 200 <= connection.getresponse().status < 400
        except (OSError, http.client.HTTPException):
            return False


def build_receiver(outbox: Outbox) -> web.Application:
    """Takes the real registry's events and passes on those that GitLab's sends with its database.

    That is: of a deleted manifest the digest alone, although its tags go with it.
    """

    async def receive(request: web.Request) -> web.Response:
        for event in (await request.json())["events"]:
            if event["action"] != "delete" or not event["target"].get("tag"):
                outbox.add(event)
        return web.Response()

    app = web.Application(client_max_size=1 << 26)
    app.router.add_post("/events", receive)
    return app
