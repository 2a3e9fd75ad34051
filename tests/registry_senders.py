"""Senders of notifications as registries are: one event after the other, each again until it is accepted.

What was accepted is noted here, outside of the service that may be killed at any moment.
"""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from tests.notifications import START, envelope, event, pull, push, remove, untag

PAUSE_SECONDS = 0.02
TIMEOUT_SECONDS = 20.0
ACTIONS = ("push", "push", "pull", "pull", "pull", "head", "untag", "remove", "mount", "repository")


def traffic(seed: int, count: int) -> list[bytes]:
    """Bodies of one sender, mostly with one event: everything that registries tell of, in a few repositories."""
    random = Random(seed)
    # Yesterday: neither in the future, nor so long ago that anything of it is purged.
    start = (datetime.now(UTC) - START) / timedelta(minutes=1) - 24 * 60
    found: list[dict[str, Any]] = []
    for number in range(count):
        repository = random.choice(["shared", f"own{seed}", "other/one"])
        tag, content, minute = f"t{random.randrange(4)}", random.randrange(12), start + random.randrange(600)
        extra = {"event_id": f"{seed}-{number}"}
        match random.choice(ACTIONS):
            case "push":
                found.append(push(repository, tag, content, minute, **extra))
            case "pull":
                named = random.choice([tag, None])
                found.append(pull(repository, named, content, minute, useragent="containerd/1.7", **extra))
            case "head":
                found.append(pull(repository, tag, content, minute, method="HEAD", useragent="docker/1", **extra))
            case "untag":
                found.append(untag(repository, tag, minute) | {"id": extra["event_id"]})
            case "remove":
                found.append(remove(repository, content, minute) | {"id": extra["event_id"]})
            case "mount":
                place = {"fromRepository": "base", "mediaType": "application/octet-stream", "size": 7}
                digest = f"sha256:{content:064x}"
                found.append(event("mount", repository, minute=minute, digest=digest, target=place, **extra))
            case _:
                found.append(remove(repository, None, minute) | {"id": extra["event_id"]})
    return list(_enveloped(found, random))


def _enveloped(events: list[dict[str, Any]], random: Random) -> Iterator[bytes]:
    while events:
        size = random.choice([1, 1, 1, 1, 2, 5])
        yield envelope(*events[:size])
        del events[:size]


@dataclass
class Senders:
    """Where they send to, with what secret, and what was acknowledged. ``statuses`` has every answer."""

    secret: str
    port: int = 0
    acknowledged: list[bytes] = field(default_factory=list)
    statuses: list[tuple[float, int]] = field(default_factory=list)
    _is_ended: threading.Event = field(default_factory=threading.Event)
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def post(self, body: bytes, *, timeout: float = TIMEOUT_SECONDS) -> int:
        """Send once; raises ``OSError`` or ``HTTPException`` if there is no answer."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)) as connection:
            connection.request("POST", "/hooks/prod", body, {"Authorization": f"Bearer {self.secret}"})
            return connection.getresponse().status

    def ask(self, path: str) -> int:
        """The status of what is to be read there."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_SECONDS)) as connection:
            connection.request("GET", path)
            return connection.getresponse().status

    def deliver(self, body: bytes) -> None:
        """Send until it is accepted, as registries do."""
        while not self._is_ended.is_set():
            with suppress(OSError, http.client.HTTPException):
                status = self.post(body)
                with self._guard:
                    self.statuses.append((time.monotonic(), status))
                    if 200 <= status < 400:
                        self.acknowledged.append(body)
                        return
            time.sleep(PAUSE_SECONDS)

    def end(self) -> None:
        """What was not accepted by now is not sent again."""
        self._is_ended.set()

    @contextmanager
    def sending(self, queues: Iterable[Iterable[bytes]]) -> Iterator[Callable[[float], None]]:
        """Send each of ``queues`` by a sender of its own; what is given waits until all is accepted."""
        threads = [threading.Thread(target=self._work, args=(queue,), daemon=True) for queue in queues]
        for thread in threads:
            thread.start()

        def finish(seconds: float) -> None:
            deadline = time.monotonic() + seconds
            for thread in threads:
                thread.join(max(deadline - time.monotonic(), 0))
                assert not thread.is_alive(), "not everything was accepted in time"

        try:
            yield finish
        finally:
            self.end()
            for thread in threads:
                thread.join(TIMEOUT_SECONDS + 1)

    def _work(self, queue: Iterable[bytes]) -> None:
        for body in queue:
            if self._is_ended.is_set():
                return
            self.deliver(body)
