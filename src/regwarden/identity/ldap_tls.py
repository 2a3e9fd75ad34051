"""How is a connection to a directory made: resolved, connected, inside TLS that was verified, and never endless?

The sockets are ours and not the library's: its TLS verifies nothing by default, and its time limits end at single
operations.
"""

from __future__ import annotations

import selectors
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from regwarden import clock
from regwarden.identity.ldap_errors import DirectoryError, ServerUnreachable
from regwarden.settings_access import LdapSettings

CONNECT_SECONDS: Final = 3.0
OPERATION_SECONDS: Final = 5.0
MAX_RECEIVED_BYTES: Final = 32 * 1024 * 1024
_PORTS: Final = {"ldap": 389, "ldaps": 636}


@dataclass(frozen=True, slots=True)
class Server:
    """Where a directory listens. ``is_tls``: from the first byte; ``starts_tls``: by StartTLS before all else."""

    url: str
    host: str
    port: int
    is_tls: bool
    starts_tls: bool


def parse_server(url: str, *, starts_tls: bool) -> Server:
    """``ldaps://HOST[:PORT]`` or ``ldap://…``, as checked in ``settings_access_checks``."""
    parts = urlsplit(url)
    is_tls = parts.scheme == "ldaps"
    port = parts.port or _PORTS[parts.scheme]
    return Server(url, parts.hostname or "", port, is_tls, starts_tls and not is_tls)


def make_tls_context(settings: LdapSettings) -> ssl.SSLContext:
    """A context that verifies certificate and name. Raises ``DirectoryError`` when its file cannot be used."""
    try:
        context = ssl.create_default_context(
            cafile=str(Path(settings.ca_bundle).expanduser()) if settings.ca_bundle else None
        )
    except OSError as error:
        raise DirectoryError(f"ca_bundle {settings.ca_bundle} cannot be used: {error.strerror or error}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


class Deadline:
    """When a whole sign-in must have ended, whatever it consists of."""

    def __init__(self, ends_at: float) -> None:
        self.ends_at = ends_at

    def seconds(self, most: float) -> float:
        """How long the next step may take. Raises ``ServerUnreachable`` when no time is left."""
        left = self.ends_at - clock.monotonic()
        if left <= 0:
            raise ServerUnreachable("the directory takes too long")
        return min(most, left)


class BoundedSocket:
    """A socket as the LDAP library uses it: every step has its time, and what is received is bounded."""

    def __init__(self, raw: socket.socket, deadline: Deadline) -> None:
        self._raw = raw
        self._received_bytes = 0
        self.deadline = deadline

    def start_use(self, deadline: Deadline) -> None:
        """Begin to count anew, for another sign-in over the same connection."""
        self.deadline, self._received_bytes = deadline, 0

    def start_tls(self, context: ssl.SSLContext, host: str) -> None:
        """Go on inside TLS."""
        self._raw = _wrap(self._raw, context, host, self.deadline)

    def recv(self, size_bytes: int) -> bytes:
        """What has arrived; nothing at the end."""
        self._raw.settimeout(self.deadline.seconds(OPERATION_SECONDS))
        received = self._raw.recv(size_bytes)
        self._received_bytes += len(received)
        if self._received_bytes > MAX_RECEIVED_BYTES:
            raise ServerUnreachable(f"the directory's answers have more than {MAX_RECEIVED_BYTES} bytes")
        return received

    def sendall(self, text: bytes) -> None:
        """Send all of it."""
        self._raw.settimeout(self.deadline.seconds(OPERATION_SECONDS))
        self._raw.sendall(text)

    def is_quiet(self) -> bool:
        """Whether it is open and nothing has arrived: an idle connection on which something has is of no use."""
        if self._raw.fileno() < 0:
            return False
        with selectors.DefaultSelector() as selector:
            selector.register(self._raw, selectors.EVENT_READ)
            return not selector.select(0)

    def shutdown(self, how: int) -> None:
        """Tell the other side."""
        self._raw.shutdown(how)

    def close(self) -> None:
        """Close it; it is never used again."""
        self._raw.close()


def connect(server: Server, context: ssl.SSLContext | None, deadline: Deadline) -> BoundedSocket:
    """A connection to a server, with TLS where it begins with it. Raises ``ServerUnreachable``."""
    try:
        found = socket.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    except (OSError, UnicodeError) as error:
        raise ServerUnreachable(f"{server.url}: its address is not found ({error})") from None
    problem = "it has no address"
    for family, kind, protocol, _, address in found:
        raw = socket.socket(family, kind, protocol)
        try:
            raw.settimeout(deadline.seconds(CONNECT_SECONDS))
            raw.connect(address)
            if context is not None and server.is_tls:
                raw = _wrap(raw, context, server.host, deadline)
            return BoundedSocket(raw, deadline)
        except OSError as error:
            raw.close()
            problem = describe(error)
        except BaseException:
            raw.close()
            raise
    raise ServerUnreachable(f"{server.url}: {problem}")


def describe(error: Exception) -> str:
    """What went wrong with a connection, in a few words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted ({error.verify_message})"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return (error.strerror if isinstance(error, OSError) else "") or str(error)[:200] or type(error).__name__


def _wrap(raw: socket.socket, context: ssl.SSLContext, host: str, deadline: Deadline) -> ssl.SSLSocket:
    """``raw`` inside TLS, the certificate verified for ``host`` (a name, or an address among its names)."""
    raw.settimeout(deadline.seconds(OPERATION_SECONDS))
    wrapped = context.wrap_socket(raw, server_hostname=host, do_handshake_on_connect=False)
    try:
        wrapped.do_handshake()
    except BaseException:
        wrapped.close()
        raise
    return wrapped
