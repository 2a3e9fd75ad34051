"""How do commands reach the one process that may write: POST /run on an owner-only Unix socket, answered by lines.

Each line is a JSON object: ``{"progress": …}``, ``{"warning": "…"}``, ``{}`` (still at work), and last
``{"result": …}`` or ``{"error": {…}}``. A client that goes away cancels its command.
"""

from __future__ import annotations

import asyncio
import traceback
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from regwarden import clock, errors
from regwarden._version import __version__
from regwarden.errors import Conflict, InputError, NotFound, RegistryError, RegwardenError
from regwarden.store.service_socket import bound_socket, has_unix_sockets, is_peer_trusted
from regwarden.telemetry import hide_secrets

MAX_REQUEST_BYTES: Final = 8 * 1024 * 1024

_TICK_SECONDS: Final = 0.1
_HEARTBEAT_SECONDS: Final = 5.0
_KEPT_WARNING_COUNT: Final = 1000
_SHUTDOWN_SECONDS: Final = 5


class Tell:
    """What a running command says meanwhile; may be called from any thread, and never waits.

    Only the latest progress is sent; of warnings that nobody takes, the last thousand are kept.
    """

    def __init__(self) -> None:
        self._progress: deque[Any] = deque(maxlen=1)
        self._warnings: deque[str] = deque(maxlen=_KEPT_WARNING_COUNT)

    def progress(self, state: Any) -> None:
        """Tell how far the command is: something that msgspec can write as JSON."""
        self._progress.append(state)

    def warning(self, text: str) -> None:
        """Tell people something that looks wrong or unsafe."""
        self._warnings.append(text)

    def take(self) -> Iterator[dict[str, Any]]:
        """What was said since the last time."""
        while self._warnings:
            yield {"warning": self._warnings.popleft()}
        while self._progress:
            yield {"progress": self._progress.pop()}


class Handler(Protocol):
    """A command: takes its arguments, returns a result that msgspec can write as JSON, raises ``RegwardenError``."""

    async def __call__(self, arguments: dict[str, Any], tell: Tell, /) -> Any:
        """Do it."""


class CommandRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a request. ``version`` is the sender's; another one than ours is refused."""

    command: str
    arguments: dict[str, Any] = {}
    version: str = __version__


def control_app(handlers: Mapping[str, Handler]) -> Starlette:
    """The application that runs ``handlers``; serve it with ``control_socket`` only: it asks for no credentials."""
    runs = _Runs(handlers)
    app = Starlette(routes=[Route("/run", runs, methods=["POST"])])
    app.state.runs = runs
    return app


@asynccontextmanager
async def control_socket(path: Path, app: Starlette) -> AsyncIterator[None]:
    """Serve ``app`` on a socket at ``path`` while the block lasts; at its end running commands are cancelled.

    Where the platform has no Unix sockets there is none, and commands beside the service say so.
    Raises Conflict or StoreError if ``path`` cannot be used.
    """
    if not has_unix_sockets():
        structlog.get_logger("regwarden").warning("no Unix sockets here: no commands beside the service")
        yield
        return
    with bound_socket(path) as listening:
        server = _Server(_config(app))
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            # Leaving before it has started would leave it running.
            while not server.started and not serving.done():  # noqa: ASYNC110 -- uvicorn offers no event
                await asyncio.sleep(0.01)
            yield
        finally:
            await app.state.runs.cancel_all()
            server.should_exit = True
            await serving


class _Server(uvicorn.Server):
    """A server beside others: signals are the business of whoever runs it."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield


class _OwnerProtocol(H11Protocol):
    """HTTP for this user's own processes."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, or end it at once if another user is at its other end."""
        super().connection_made(transport)
        if not is_peer_trusted(transport.get_extra_info("socket")):
            transport.abort()


def _config(app: Starlette) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=_OwnerProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,  # arguments are nobody's business
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )


class _Runs:
    """The ASGI application of ``/run``: every request is one command that runs as long as its client listens."""

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        self._handlers = handlers
        self._running: set[asyncio.Task[bytes]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            asked = await _read_request(Request(scope, receive))
            handler = self._find(asked)
        except ClientDisconnect:
            return
        except RegwardenError as error:
            await _start(send, error.http_status)
            await _send_last(send, _error_line(error))
            return
        tell = Tell()
        work = asyncio.create_task(_result_line(handler, asked.arguments, tell))
        self._running.add(work)
        gone = asyncio.create_task(_wait_for_disconnect(receive))
        try:
            await _start(send, 200)
            await _relay(work, gone, tell, send)
            if work.done():
                await _send_last(send, _lines(tell) + _last_line(work, asked.command))
        finally:
            gone.cancel()
            await _cancel(work)
            self._running.discard(work)

    async def cancel_all(self) -> None:
        """Cancel what is running and wait until it has ended."""
        for work in tuple(self._running):
            await _cancel(work)

    def _find(self, asked: CommandRequest) -> Handler:
        if asked.version != __version__:
            raise Conflict(
                f"the service that writes this database is Regwarden {__version__}, this command is {asked.version}",
                hint="Restart the service with the same version.",
                code="service-version",
            )
        if asked.command not in self._handlers:
            raise NotFound(
                f"the service has no command {asked.command[:120]!r}",
                hint=f"It has: {', '.join(sorted(self._handlers))}.",
                code="unknown-command",
            )
        return self._handlers[asked.command]


async def _read_request(request: Request) -> CommandRequest:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_REQUEST_BYTES:
            raise InputError(
                f"the arguments of a command are limited to {MAX_REQUEST_BYTES >> 20} MiB", code="bad-request"
            )
    try:
        return msgspec.json.decode(body, type=CommandRequest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"this is not a request for a command: {error}", code="bad-request") from error


async def _result_line(handler: Handler, arguments: dict[str, Any], tell: Tell) -> bytes:
    return _line({"result": await handler(arguments, tell)})


async def _relay(work: asyncio.Task[bytes], gone: asyncio.Task[None], tell: Tell, send: Send) -> None:
    """Pass on what the command says until it has ended or nobody listens any more."""
    sent_at = clock.monotonic()
    while not work.done() and not gone.done():
        await asyncio.wait({work, gone}, timeout=_TICK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        lines = _lines(tell)
        if not lines and clock.monotonic() - sent_at >= _HEARTBEAT_SECONDS:
            lines = _line({})
        if lines:
            await send({"type": "http.response.body", "body": lines, "more_body": True})
            sent_at = clock.monotonic()


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _cancel(work: asyncio.Task[bytes]) -> None:
    """End ``work`` if it is still running; how it ended is for whoever asks the task."""
    work.cancel()
    await asyncio.wait({work})
    if not work.cancelled():
        work.exception()


def _last_line(work: asyncio.Task[bytes], command: str) -> bytes:
    """The result of an ended command, or why there is none."""
    if work.cancelled():
        return _error_line(
            Conflict(
                "the service was stopped before the command had ended",
                hint="Run the same command again.",
                code="service-stopped",
            )
        )
    error = work.exception()
    if error is None:
        return work.result()
    if isinstance(error, RegwardenError):
        return _error_line(error)
    # Local variables may hold passwords: the plain traceback names none of them.
    trace = hide_secrets("".join(traceback.format_exception(error)))
    structlog.get_logger("regwarden").error("a command failed", command=command, traceback=trace)
    text = f"this should not have happened ({type(error).__name__}: {hide_secrets(str(error))[:300]})"
    hint = "Please report it with what the service wrote to its log."
    return _error_line(RegwardenError(text, hint=hint, code="unforeseen"))


def _error_line(error: RegwardenError) -> bytes:
    """An error with the nearest class that every client knows."""
    kind = next(one for one in type(error).__mro__ if one.__module__ == errors.__name__)
    record: dict[str, Any] = {
        "class": kind.__name__,
        "code": error.code,
        "message": error.message,
        "hint": error.hint,
        "exit_status": error.exit_status,
    }
    if isinstance(error, RegistryError):
        record |= {"temporary": error.temporary, "status": error.status, "diagnostics": error.diagnostics}
    return _line({"error": record})


def _lines(tell: Tell) -> bytes:
    return b"".join(map(_line, tell.take()))


def _line(record: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode(record) + b"\n"


async def _start(send: Send, status: int) -> None:
    headers = [(b"content-type", b"application/x-ndjson"), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def _send_last(send: Send, line: bytes) -> None:
    await send({"type": "http.response.body", "body": line, "more_body": False})
