"""What is done with every request of ``/api/v1`` before and after its route: limits, headers, HEAD, the raw path."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from regwarden.errors import RegwardenError
from regwarden.web.api.problems import error_answer
from regwarden.web.mounting import raw_path
from regwarden.web.problems import problem

MAX_BODY_BYTES: Final = 4 * 1024 * 1024
# Whoever sends more shows first who they are: bodies are read, and kept, before a route asks for that.
STRANGERS_BODY_BYTES: Final = 64 * 1024
_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_MOST_DIGITS: Final = 20
_VARY: Final = "Authorization, Accept-Encoding"


class Guarded:
    """The outermost layer. HEAD is answered as GET without the body."""

    def __init__(self, app: ASGIApp, authenticate: Callable[[Request], Awaitable[object]]) -> None:
        """``authenticate`` raises ``RegwardenError`` for strangers."""
        self._app = app
        self._authenticate = authenticate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        is_head = scope["method"] == "HEAD"
        changed = {
            **scope,
            # Routes are found by the path as it was sent, or an encoded slash would end a name.
            "path": raw_path(scope).decode(),
            "method": "GET" if is_head else scope["method"],
        }
        answering: Send = _Headed(send)
        if is_head:
            answering, receive = _without_body(answering)
        refusal = await self._refuse_body(Request(scope))
        if refusal is None:
            await self._app(changed, _Limited(receive), answering)
        else:
            await refusal(changed, receive, answering)

    async def _refuse_body(self, request: Request) -> Response | None:
        """The answer to a body that is not even read."""
        length = request.headers.get("content-length", "")
        size_bytes = int(length) if length.isdecimal() and len(length) < _MOST_DIGITS else 0
        if size_bytes > MAX_BODY_BYTES or len(length) >= _MOST_DIGITS:
            return problem(413, _too_large(), code="body-too-large")
        if size_bytes > STRANGERS_BODY_BYTES or "transfer-encoding" in request.headers:
            try:
                await self._authenticate(request)
            except RegwardenError as error:
                return error_answer(error)
        return None


def _too_large() -> str:
    return f"the body is larger than {MAX_BODY_BYTES} bytes"


class _Limited:
    """Receives no more of a body than may be kept in memory."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._received_bytes = 0

    async def __call__(self) -> Message:
        message = await self._receive()
        self._received_bytes += len(message.get("body", b""))
        if self._received_bytes > MAX_BODY_BYTES:
            raise HTTPException(413, _too_large())
        return message


class _Headed:
    """Adds the headers that every answer has, where the route did not set them."""

    def __init__(self, send: Send) -> None:
        self._send = send

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=list(message["headers"]))
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
            headers["Vary"] = _VARY
            message = {**message, "headers": headers.raw}
        await self._send(message)


def _without_body(send: Send) -> tuple[Send, Receive]:
    """What answers a HEAD: the beginning alone. A stream is told that the client has gone, or it would never end."""
    over, received = asyncio.Event(), asyncio.Event()

    async def answer(message: Message) -> None:
        if message["type"] == "http.response.start":
            await send(message)
        elif not over.is_set():
            over.set()
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def receive() -> Message:
        if not received.is_set():
            received.set()
            return {"type": "http.request", "body": b"", "more_body": False}
        await over.wait()
        return {"type": "http.disconnect"}

    return answer, receive
