"""On which sockets does the service listen, and how are connections there served and ended?"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
from asyncio import TimerHandle
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, cast

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from regwarden.errors import Conflict
from regwarden.settings_sections import UNIX_PEER, ListenAddress
from regwarden.web.problems import problem
from regwarden.web.tls import ServerCertificate

_BACKLOG: Final = 1024
_MAX_CONNECTIONS: Final = 5_000
_HEADER_SECONDS: Final = 15.0
# Longer than a body may take, so that a slow one is answered.
_REQUEST_SECONDS: Final = 90.0
# What is read of one request without any part of its body: its header, and what may stand between and behind the body.
_MAX_HEADER_BYTES: Final = 64 * 1024
# Registries keep connections for 90 s; whoever closes second loses no request.
_KEEP_ALIVE_SECONDS: Final = 120
_SHUTDOWN_SECONDS: Final = 10
_TICK_SECONDS: Final = 0.01


@contextmanager
def bound(address: ListenAddress) -> Iterator[list[socket.socket]]:
    """Sockets that are bound to ``address`` while the block lasts; a name may stand for several addresses.

    Raises ``Conflict`` if that cannot be.
    """
    with ExitStack() as stack:
        try:
            listeners = _bind(address, stack)
        except (OSError, AttributeError) as error:  # some platforms have no Unix sockets
            raise _cannot_listen(address, error) from error
        yield listeners


def shown_address(listener: socket.socket, *, is_tls: bool) -> str:
    """How a socket is reached, for people."""
    name = listener.getsockname()
    if listener.family == getattr(socket, "AF_UNIX", None):
        return f"unix:{name}"
    host = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"http{'s' if is_tls else ''}://{host}:{name[1]}"


@asynccontextmanager
async def serving(
    app: ASGIApp,
    listeners: Sequence[socket.socket],
    certificate: ServerCertificate | None,
    *,
    trusted_proxies: Sequence[str] = (),
) -> AsyncIterator[None]:
    """Serve ``app`` while the block lasts; at its end requests that have begun are answered.

    ``trusted_proxies`` are networks, and ``unix``, whose word about who asks (``X-Forwarded-For``) is taken.
    """
    config = uvicorn.Config(
        _behind(app, trusted_proxies),
        http=_Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # decided above: without proxies that were named a header may say anything
        server_header=False,
        backlog=_BACKLOG,
        limit_concurrency=_MAX_CONNECTIONS,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )
    config.load()
    config.ssl = certificate.context if certificate is not None else None
    server = _Server(config)
    running = asyncio.create_task(server.serve(sockets=list(listeners)))
    try:
        # Leaving before it has started would leave it running.
        while not server.started and not running.done():  # noqa: ASYNC110 -- uvicorn offers no event
            await asyncio.sleep(_TICK_SECONDS)
        yield
    finally:
        server.should_exit = True
        await running


def _behind(app: ASGIApp, trusted_proxies: Sequence[str]) -> ASGIApp:
    """``app`` with the client's address as a trusted proxy tells it; others are who they are."""
    if not trusted_proxies:
        return app
    told = ProxyHeadersMiddleware(cast("Any", app), trusted_hosts=list(trusted_proxies))

    async def named(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope.get("client") is None:
            scope = {**scope, "client": (UNIX_PEER, 0)}
        await told(cast("Any", scope), cast("Any", receive), cast("Any", send))

    return named


class _Server(uvicorn.Server):
    """One of several servers: signals are the business of whoever runs them."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield


class _Protocol(HttpToolsProtocol):
    """HTTP for which nobody has endless time or memory: not for the header, and not for the whole request."""

    _deadline: TimerHandle | None = None
    _header_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Expect a header."""
        super().connection_made(transport)
        self._expect(_HEADER_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Expect nothing any more."""
        self._expect(None)
        super().connection_lost(exc)

    def data_received(self, received: bytes) -> None:
        """Read on, unless it is a header without end: the parser keeps it whole, and has no limit of its own."""
        self._header_bytes += len(received)
        super().data_received(received)
        if self._header_bytes > _MAX_HEADER_BYTES and not self.transport.is_closing():
            self._refuse(431, f"the header is larger than {_MAX_HEADER_BYTES} bytes")

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 -- as uvicorn calls it
        """Say what was wrong as everywhere; the parser takes no long address, and says no more than that."""
        if self._header_bytes > _MAX_HEADER_BYTES:
            self._refuse(431, f"the header is larger than {_MAX_HEADER_BYTES} bytes")
        else:
            self._refuse(400, "this is no HTTP request")

    def on_body(self, body: bytes) -> None:
        """Take a part of the body; how much there may be of that is not decided here."""
        self._header_bytes = 0
        super().on_body(body)

    def on_message_begin(self) -> None:
        """Expect the rest of the header."""
        super().on_message_begin()
        self._expect(_HEADER_SECONDS)

    def on_headers_complete(self) -> None:
        """Expect the body."""
        self._expect(_REQUEST_SECONDS)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Expect nothing: an idle connection has its own limit."""
        self._header_bytes = 0
        self._expect(None)
        super().on_message_complete()

    def _refuse(self, status: int, detail: str) -> None:
        """Answer and close, or only close where another answer has begun on the connection."""
        cycle = cast("RequestResponseCycle | None", self.cycle)  # None before the first request
        if cycle is None or cycle.response_complete:
            answer = problem(status, detail)
            named = [(b"Connection", b"close"), *answer.raw_headers]
            head = b"".join(b"%b: %b\r\n" % pair for pair in named)
            phrase = HTTPStatus(status).phrase
            self.transport.write(f"HTTP/1.1 {status} {phrase}\r\n".encode() + head + b"\r\n" + bytes(answer.body))
        self.transport.close()

    def _expect(self, seconds: float | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None if seconds is None else self.loop.call_later(seconds, self.transport.close)


def _bind(address: ListenAddress, stack: ExitStack) -> list[socket.socket]:
    if address.path:
        return [_bind_path(Path(address.path), stack)]
    found = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_ADDRCONFIG
    )
    places = dict.fromkeys((family, place) for family, *_, place in found)
    # Any free port is a different one for each address.
    chosen = list(places)[: 1 if address.port == 0 else None]
    return [_bind_port(family, place, stack) for family, place in chosen]


def _bind_port(family: int, place: Any, stack: ExitStack) -> socket.socket:
    listener = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
    if os.name == "posix":  # elsewhere it would let two processes share a port
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    listener.bind(place)
    listener.listen(_BACKLOG)
    return listener


def _bind_path(path: Path, stack: ExitStack) -> socket.socket:
    _remove_stale(path)
    listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
    listener.bind(str(path))
    stack.callback(_remove_ours, path, path.lstat())
    path.chmod(0o666)  # a reverse proxy is another user; the directory and the secrets decide
    listener.listen(_BACKLOG)
    return listener


def _remove_ours(path: Path, ours: os.stat_result) -> None:
    with suppress(OSError):
        if os.path.samestat(path.lstat(), ours):
            path.unlink()


def _remove_stale(path: Path) -> None:
    """Remove a socket on which nobody listens any more; raises OSError if somebody does, or if it is no socket."""
    if not path.exists() and not path.is_symlink():
        return
    if not stat.S_ISSOCK(path.lstat().st_mode):
        raise FileExistsError(errno.EEXIST, "something that is not a socket is in its place")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _cannot_listen(address: ListenAddress, error: Exception) -> Conflict:
    number = getattr(error, "errno", None)
    if number == errno.EADDRINUSE:
        reason, hint = "another program listens there", "End it, or choose another address with --listen."
    elif number in {errno.EACCES, errno.EPERM}:
        reason = "that is not permitted"
        hint = "Choose a port above 1023 or a directory that you may write to, or grant CAP_NET_BIND_SERVICE."
    else:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        hint = "Give an address of this machine, for example --listen 127.0.0.1:8350."
    return Conflict(f"cannot listen on {address}: {reason}", hint=hint, code="cannot-listen")
