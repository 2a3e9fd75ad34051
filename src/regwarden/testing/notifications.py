"""Which notifications would a registry send? Events as Distribution 2.8 and 3.x emit them, kept and posted."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal

import aiohttp

from regwarden import clock
from regwarden.core.oci.digests import Digest

Action = Literal["push", "pull", "mount", "delete"]
_BLOB_TYPE: Final = "application/octet-stream"
_MEDIA_TYPES: Final = {
    2: "application/vnd.docker.distribution.events.v1+json",
    3: "application/vnd.docker.distribution.events.v2+json",
}


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request; ``request_id`` is shared by all events that the request causes."""

    method: str
    host: str
    address: str
    user_agent: str
    actor: str
    scheme: str = "http"
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))


@dataclass(frozen=True, slots=True)
class Target:
    """What an event is about. A deletion of a tag has no digest, a deletion by digest no tag and no size."""

    repository: str
    digest: Digest | None = None
    media_type: str = _BLOB_TYPE
    size_bytes: int = 0
    tag: str = ""
    from_repository: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """One notification. ``registries.md`` calls the same fields action, target, request, actor and source."""

    action: Action
    target: Target
    caller: Caller
    event_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    at: datetime = field(default_factory=clock.now)

    @property
    def repository(self) -> str:
        """The repository of the target."""
        return self.target.repository

    @property
    def tag(self) -> str:
        """The tag that the client addressed, if it did."""
        return self.target.tag

    @property
    def digest(self) -> Digest | None:
        """The digest of the target."""
        return self.target.digest

    @property
    def user_agent(self) -> str:
        """The user agent of the request."""
        return self.caller.user_agent

    @property
    def is_manifest(self) -> bool:
        """Whether the event is about a manifest (deletions do not tell)."""
        return self.action != "delete" and self.target.media_type != _BLOB_TYPE

    def as_json(self, *, generation: int, source: Mapping[str, str]) -> dict[str, Any]:
        """The event as it stands in an envelope of Distribution 2.x or 3.x."""
        caller = self.caller
        return {
            "id": self.event_id,
            "timestamp": self.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "action": self.action,
            "target": self._deleted(generation) if self.action == "delete" else self._described(),
            "request": {
                "id": caller.request_id,
                "addr": caller.address,
                "host": caller.host,
                "method": caller.method,
                "useragent": caller.user_agent,
            },
            "actor": {"name": caller.actor} if caller.actor else {},
            "source": dict(source),
        }

    def _described(self) -> dict[str, Any]:
        target, caller = self.target, self.caller
        folder = "manifests" if self.is_manifest else "blobs"
        described: dict[str, Any] = {
            "mediaType": target.media_type,
            "size": target.size_bytes,
            "digest": str(target.digest),
            "length": target.size_bytes,
            "repository": target.repository,
        }
        if target.from_repository:
            described["fromRepository"] = target.from_repository
        described["url"] = f"{caller.scheme}://{caller.host}/v2/{target.repository}/{folder}/{target.digest}"
        if target.tag:
            described["tag"] = target.tag
        return described

    def _deleted(self, generation: int) -> dict[str, Any]:
        target = self.target
        described: dict[str, Any] = {}
        if generation >= 3:
            described = {"mediaType": "", "digest": "", "size": 0}
        if target.digest is not None:
            described["digest"] = str(target.digest)
        described["repository"] = target.repository
        if target.tag:
            described["tag"] = target.tag
        return described


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where events are posted to, with static headers; ``backoff_seconds`` is the pause between tries."""

    url: str
    headers: tuple[tuple[str, str], ...] = ()
    timeout_seconds: float = 1.0
    backoff_seconds: float = 0.1


class Notifier:
    """Keeps every event and posts them one by one in order, each until a status of 200 to 399, for ever.

    What still waits when the notifier stops is lost, as in Distribution.
    """

    def __init__(self, endpoint: Endpoint | None, *, generation: int, node: str) -> None:
        self.events: list[Event] = []
        self.source = {"addr": node, "instanceID": str(uuid.uuid4())}
        self._endpoint = endpoint
        self._generation = generation
        self._queue: asyncio.Queue[Event] = asyncio.Queue()
        self._sender: asyncio.Task[None] | None = None

    def emit(self, action: Action, target: Target, caller: Caller) -> None:
        """Record one event and queue it for the endpoint, if there is one."""
        event = Event(action, target, caller)
        self.events.append(event)
        if self._endpoint is not None:
            self._queue.put_nowait(event)

    def start(self) -> None:
        """Begin to post events (needs a running loop)."""
        if self._endpoint is not None:
            self._sender = asyncio.create_task(self._send_all(self._endpoint))

    async def flush(self, timeout_seconds: float = 10.0) -> None:
        """Wait until all events so far are delivered; raises ``TimeoutError``."""
        async with asyncio.timeout(timeout_seconds):
            await self._queue.join()

    async def stop(self) -> None:
        """Stop posting; what waits is lost."""
        if self._sender is not None:
            self._sender.cancel()
            await asyncio.gather(self._sender, return_exceptions=True)
            self._sender = None

    async def _send_all(self, endpoint: Endpoint) -> None:
        timeout = aiohttp.ClientTimeout(total=endpoint.timeout_seconds)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                event = await self._queue.get()
                await self._deliver(session, endpoint, event)
                self._queue.task_done()

    async def _deliver(self, session: aiohttp.ClientSession, endpoint: Endpoint, event: Event) -> None:
        while True:
            if await self._is_delivered(session, endpoint, event):
                return
            await asyncio.sleep(endpoint.backoff_seconds)

    async def _is_delivered(self, session: aiohttp.ClientSession, endpoint: Endpoint, event: Event) -> bool:
        envelope = {"events": [event.as_json(generation=self._generation, source=self.source)]}
        headers = {"Content-Type": _MEDIA_TYPES[self._generation], "User-Agent": "Go-http-client/1.1"}
        headers.update(dict(endpoint.headers))
        body = json.dumps(envelope, indent=3, ensure_ascii=False).encode()
        try:
            async with session.post(endpoint.url, data=body, headers=headers) as response:
                return response.status < 400
        except (aiohttp.ClientError, TimeoutError):
            return False
