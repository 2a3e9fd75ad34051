"""How does a client that has an answer already learn that it still holds? By ETag and ``If-None-Match``.

The tag is weak: the same answer may be sent compressed or not.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_DIGEST_BYTES: Final = 16
_DROPPED: Final = ("content-length", "content-type")


class Etags:
    """Adds an ETag to whole answers of GET with status 200; answers 304 to whoever has that one. Streams pass by."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["method"] != "GET":
            await self._app(scope, receive, send)
            return
        await self._app(scope, receive, _Tagging(scope, send))


class _Tagging:
    """Holds the beginning of an answer until it is known whether the first piece is all of it."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope = scope
        self._send = send
        self._start: Message | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        if (start := self._start) is not None:
            self._start = None
            is_whole = not message.get("more_body", False)
            if start["status"] == 200 and is_whole:
                start, message = self._tagged(start, message)
            await self._send(start)
        await self._send(message)

    def _tagged(self, start: Message, message: Message) -> tuple[Message, Message]:
        headers = MutableHeaders(raw=list(start["headers"]))
        if headers.get("cache-control") == "no-store":
            return start, message
        digest = hashlib.blake2b(message.get("body", b""), digest_size=_DIGEST_BYTES).hexdigest()
        headers["ETag"] = tag = f'W/"{digest}"'
        headers.setdefault("Cache-Control", "private, no-cache")
        changed: dict[str, Any] = {**start, "headers": headers.raw}
        if not _has(Headers(scope=self._scope).getlist("if-none-match"), tag):
            return changed, message
        for name in _DROPPED:
            if name in headers:
                del headers[name]
        return {**changed, "status": 304, "headers": headers.raw}, {**message, "body": b""}


def _has(given: list[str], tag: str) -> bool:
    """Weak comparison (RFC 9110 13.1.2): with or without ``W/``."""
    named = [one.strip() for line in given for one in line.split(",")]
    return "*" in named or tag in named or tag.removeprefix("W/") in named
