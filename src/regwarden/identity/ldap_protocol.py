"""What is said to one directory server: bind, who am I, search, read, and what its result codes mean to us."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, NamedTuple, Self

import ldap3
from ldap3.core.exceptions import LDAPException
from ldap3.strategy.sync import SyncStrategy

from regwarden.identity.ldap_errors import DirectoryError, LoginRefused, ServerUnreachable
from regwarden.identity.ldap_tls import OPERATION_SECONDS, BoundedSocket, Deadline, Server, connect, describe

EVERYTHING: Final = "(objectClass=*)"
SUCCESS: Final = 0
_SIZE_LIMIT_EXCEEDED: Final = 4
_NO_SUCH_OBJECT: Final = 32
_START_TLS: Final = "1.3.6.1.4.1.1466.20037"  # RFC 4511 4.14
_WHO_AM_I: Final = "1.3.6.1.4.1.4203.1.11.3"  # RFC 4532

# RFC 4511 appendix A, and what directories answer for accounts that are locked, expired or have no password:
# constraint violation, no such object, invalid DN, inappropriate authentication, invalid credentials, insufficient
# rights, unwilling to perform.
_REFUSALS: Final = frozenset({19, 32, 34, 48, 49, 50, 53})
# Operations error, time limit, busy, unavailable, other: another server may do better.
_NOT_NOW: Final = frozenset({1, 3, 51, 52, 80})

# Whatever a broken answer makes of the library that reads it.
_BROKEN: Final = (LDAPException, RecursionError, OSError, ValueError, LookupError, TypeError, AttributeError)


class Entry(NamedTuple):
    """An entry of the directory: its DN and the attributes that were asked for, with their names in lower case."""

    dn: str
    attributes: Mapping[str, tuple[bytes, ...]]

    def values(self, name: str) -> tuple[bytes, ...]:
        """All values of an attribute, as they came."""
        return self.attributes.get(name.lower(), ())

    def texts(self, name: str) -> tuple[str, ...]:
        """The values that are text in UTF-8."""
        found = []
        for value in self.values(name):
            with suppress(UnicodeDecodeError):
                found.append(value.decode())
        return tuple(found)


class Session:
    """A connection to a server, verified, on which nobody has signed in yet. Close it after use."""

    def __init__(self, server: Server, context: ssl.SSLContext | None, deadline: Deadline) -> None:
        self.server = server
        self._socket = connect(server, context, deadline)
        self._connection = ldap3.Connection(
            ldap3.Server("directory", get_info=ldap3.NONE, allowed_referral_hosts=[]),
            auto_referrals=False,
            check_names=False,
            auto_escape=False,
            return_empty_attributes=False,
        )
        _Exchange(self._connection).use(self._socket)
        if server.starts_tls:
            try:
                self._start_tls(context)
            except BaseException:
                self.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start_use(self, deadline: Deadline) -> None:
        """Use it for another sign-in, with its own time."""
        self._socket.start_use(deadline)

    def is_usable(self) -> bool:
        """Whether the server has not ended it."""
        return not self._connection.closed and self._socket.is_quiet()

    def close(self) -> None:
        """Say goodbye and close; that the other side has gone already is no matter."""
        with suppress(*_BROKEN, DirectoryError):
            self._connection.unbind()
        self._socket.close()

    def bind(self, dn: str, password: str) -> int:
        """Sign in; both must not be empty. Returns the result code; raises ``DirectoryError``."""
        if not dn or not password:
            raise ValueError("a bind without a name or a password signs in nobody")
        # As bytes: the library would normalise a text, which other clients of the directory do not.
        self._connection.user = dn
        self._connection.password = password.encode("utf-8", "surrogatepass")
        self._connection.authentication = ldap3.SIMPLE
        try:
            with self._talking():
                self._connection.bind(read_server_info=False)
        finally:
            self._connection.password = None
        return self._result_code()

    def bind_anonymously(self) -> None:
        """Sign in as nobody. Where that is refused, the connection stays what it was: nobody's."""
        self._connection.authentication = ldap3.ANONYMOUS
        with self._talking():
            self._connection.bind(read_server_info=False)
        self._refuse_when_busy()

    def check_bound(self, code: int) -> None:
        """Nothing after a bind that worked; raises ``LoginRefused`` or, when that cannot be known, ``DirectoryError``.

        Busy, unavailable, referred elsewhere or in need of TLS is never a wrong password: users would change theirs.
        """
        if code == SUCCESS:
            return
        if code in _REFUSALS:
            raise LoginRefused(f"{self.server.url} refuses the password: {self._result_text()}")
        self._refuse_when_busy()
        raise DirectoryError(f"{self.server.url}: signing in answered {self._result_text()}")

    def who_am_i(self) -> str:
        """Who is signed in: ``dn:…``, ``u:…``, or empty for nobody (RFC 4532). Raises as ``check_bound``."""
        with self._talking():
            self._connection.extended(_WHO_AM_I)
        if self._result_code() != SUCCESS:
            if self._result_code() in _REFUSALS - {53}:
                raise LoginRefused(f"{self.server.url} lets this account do nothing: {self._result_text()}")
            self._refuse_when_busy()
            raise DirectoryError(f"{self.server.url} does not say who is signed in: {self._result_text()}")
        answer = self._connection.result.get("responseValue") or b""
        with self._talking():
            return bytes(answer).decode()

    def search(self, top: str, query: str, attributes: Sequence[str], *, limit: int) -> list[Entry]:
        """The entries under ``top`` that match; at most ``limit``, and ``limit`` of them also when there are more.

        Raises ``DirectoryError``, also when ``top`` is not there or may not be seen.
        """
        found = self._search(top, query, attributes, limit=limit, scope=ldap3.SUBTREE)
        if found is None:
            raise DirectoryError(f"{self.server.url}: {top} is not there, or may not be read")
        return found

    def read(self, dn: str, query: str, attributes: Sequence[str]) -> Entry | None:
        """One entry by its DN, if it is there, may be seen and matches. Raises ``DirectoryError``."""
        found = self._search(dn, query, attributes, limit=1, scope=ldap3.BASE)
        return found[0] if found else None

    def _search(self, top: str, query: str, attributes: Sequence[str], *, limit: int, scope: str) -> list[Entry] | None:
        with self._talking():
            self._connection.search(
                top,
                query,
                search_scope=scope,
                dereference_aliases=ldap3.DEREF_NEVER,
                attributes=list(attributes),
                size_limit=limit,
                time_limit=int(OPERATION_SECONDS),
            )
        code = self._result_code()
        if code == _NO_SUCH_OBJECT:
            return None
        if code not in {SUCCESS, _SIZE_LIMIT_EXCEEDED}:
            self._refuse_when_busy()
            raise DirectoryError(f"{self.server.url}: a search under {top} answered {self._result_text()}")
        with self._talking():
            answers = self._connection.response or []
            return [_read_entry(one) for one in answers if one["type"] == "searchResEntry"][:limit]

    def _start_tls(self, context: ssl.SSLContext | None) -> None:
        if context is None:
            raise ValueError("TLS needs a context")
        with self._talking():
            self._connection.extended(_START_TLS)
        if self._result_code() != SUCCESS:
            raise ServerUnreachable(f"{self.server.url} refuses StartTLS: {self._result_text()}")
        with self._talking():
            self._socket.start_tls(context, self.server.host)

    def _result_code(self) -> int:
        result = self._connection.result
        return int(result["result"]) if isinstance(result, dict) and "result" in result else 80

    def _result_text(self) -> str:
        """Result code, its name and the first words of what the server says about it."""
        result: dict[str, Any] = self._connection.result or {}
        said = re.sub(r"[^\x20-\x7e]+", " ", str(result.get("message") or ""))[:120].strip()
        return f"{self._result_code()} {result.get('description', '')}{f' ({said})' if said else ''}"

    def _refuse_when_busy(self) -> None:
        if self._result_code() in _NOT_NOW:
            raise ServerUnreachable(f"{self.server.url} answered {self._result_text()}")

    @contextmanager
    def _talking(self) -> Iterator[None]:
        try:
            yield
        except (DirectoryError, LoginRefused):
            raise
        except _BROKEN as error:
            raise ServerUnreachable(f"{self.server.url}: {describe(error)}") from None


class _Exchange(SyncStrategy):  # type: ignore[misc]  # the library has no types
    """The library's way to send and receive, over a socket that is there already."""

    def use(self, socket: BoundedSocket) -> None:
        """Make the connection use this, and the socket."""
        self._outstanding: dict[int, Any] = {}
        connection = self.connection
        connection.socket, connection.closed, connection.listening = socket, False, True
        connection.strategy = self
        connection.send, connection.get_response = self.send, self.get_response
        connection.post_send_single_response = self.post_send_single_response
        connection.post_send_search = self.post_send_search


def _read_entry(answer: Mapping[str, Any]) -> Entry:
    attributes = {
        str(name).lower(): tuple(bytes(value) for value in values or ())
        for name, values in answer["raw_attributes"].items()
    }
    return Entry(str(answer["dn"]), attributes)
