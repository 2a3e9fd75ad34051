"""How are events sent to a client that stays (server-sent events)? In order, no faster than it reads, until it goes.

The form is that of WHATWG HTML 9.2: ``id``, ``event`` and ``data`` lines, an empty line, comments as signs of life.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import Any, Final

import structlog
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from regwarden import clock
from regwarden.errors import RegwardenError
from regwarden.web.api.documents import encode

HEARTBEAT_SECONDS: Final = 15.0
# How long somebody is told more who may not see it any longer, beside the second until that is known.
LOOK_AGAIN_SECONDS: Final = 1.0
# Then the client comes again, and shows once more who it is; it goes on where it was.
MAX_SECONDS: Final = 900.0
_SEND_SECONDS: Final = 60.0
_RETRY_MILLISECONDS: Final = 2_000
_HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}

log = structlog.get_logger("regwarden.api")


@dataclass(frozen=True, slots=True)
class Sent:
    """One event: ``name`` is its type, ``content`` becomes JSON; with ``id`` a client says later where it was."""

    name: str
    content: Any
    id: str = ""

    def to_bytes(self) -> bytes:
        """As it is sent; JSON has no line breaks of its own."""
        lines = [f"id: {self.id}".encode()] if self.id else []
        return b"\n".join((*lines, f"event: {self.name}".encode(), b"data: " + encode(self.content), b"", b""))


class EventStream(StreamingResponse):
    """The answer that is a stream of ``events``, until they end, the client goes or the service is stopped.

    ``opened`` is entered while it is open, and gives what is set when the service is stopped. It ends too when
    ``is_permitted`` says so, which is asked every second.
    """

    def __init__(
        self,
        events: AsyncGenerator[Sent, None],
        opened: AbstractContextManager[asyncio.Event],
        is_permitted: Callable[[], Awaitable[bool]],
        *,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        max_seconds: float = MAX_SECONDS,
    ) -> None:
        super().__init__((), headers=_HEADERS, media_type="text/event-stream")
        self._events = events
        self._opened = opened
        self._is_permitted = is_permitted
        self._heartbeat_seconds = heartbeat_seconds
        self._max_seconds = max_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 -- as Starlette calls it
        """Send them."""
        with self._opened as stopping:
            gone = asyncio.create_task(_wait_for_disconnect(receive))
            ending = asyncio.create_task(stopping.wait())
            refused = asyncio.create_task(self._wait_until_refused())
            try:
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                is_taken = await _send(send, f"retry: {_RETRY_MILLISECONDS}\n\n".encode())
                if is_taken and await self._relay(send, {gone, ending, refused}):
                    await _send(send, b"", is_last=True)
            finally:
                gone.cancel()
                ending.cancel()
                refused.cancel()
                await self._events.aclose()

    async def _wait_until_refused(self) -> None:
        with suppress(RegwardenError):
            while await self._is_permitted():  # noqa: ASYNC110 -- nothing tells when it is over
                await asyncio.sleep(LOOK_AGAIN_SECONDS)

    async def _relay(self, send: Send, ends: set[asyncio.Task[Any]]) -> bool:
        """Pass on events; returns whether the answer is to be ended properly."""
        began_at = clock.monotonic()
        coming: asyncio.Task[Sent] | None = None
        try:
            while clock.monotonic() - began_at < self._max_seconds:
                coming = coming or asyncio.create_task(_next(self._events))
                await asyncio.wait({coming, *ends}, timeout=self._heartbeat_seconds, return_when="FIRST_COMPLETED")
                if any(one.done() for one in ends):
                    return True
                piece = b": \n\n"
                if coming.done():
                    piece, coming = coming.result().to_bytes(), None
                if not await _send(send, piece):
                    return False
        except StopAsyncIteration:
            return True
        except RegwardenError as error:
            # The status has been sent: what is left is to end, and to be asked again.
            log.warning("a stream ended early", code=error.code, reason=error.message)
        finally:
            if coming is not None:
                coming.cancel()  # it may have ended at the same moment, and somebody must look how
                await asyncio.gather(coming, return_exceptions=True)
        return True


async def _next(events: AsyncGenerator[Sent, None]) -> Sent:
    """The next event; a task cannot end with ``StopAsyncIteration`` unless it is raised by a coroutine of ours."""
    return await events.__anext__()


async def _send(send: Send, piece: bytes, *, is_last: bool = False) -> bool:
    """Send, and wait until the client takes it; False if it does not."""
    sending: Awaitable[None] = send({"type": "http.response.body", "body": piece, "more_body": not is_last})
    with suppress(TimeoutError):
        async with asyncio.timeout(_SEND_SECONDS):
            await sending
            return True
    return False


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
