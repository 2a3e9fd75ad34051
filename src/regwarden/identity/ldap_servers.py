"""Which server of a directory is asked, and over which connection? The next one when one is down."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from regwarden import clock
from regwarden.identity.ldap_errors import DirectoryError, LoginRefused
from regwarden.identity.ldap_protocol import SUCCESS, Session
from regwarden.identity.ldap_tls import Deadline, Server, make_tls_context, parse_server
from regwarden.settings import Secret
from regwarden.settings_access import LdapSettings

PENALTY_SECONDS: Final = 30.0
MAX_IDLE_SECONDS: Final = 60.0
MAX_IDLE_SESSIONS: Final = 4


class Servers:
    """The servers of a directory, and connections on which the service account has signed in. For many threads."""

    def __init__(self, settings: LdapSettings, password: Secret | None) -> None:
        self._all = tuple(parse_server(url, starts_tls=settings.start_tls) for url in settings.servers)
        self._context: ssl.SSLContext | None = None
        self._settings = settings
        self._password = password
        self._lock = threading.Lock()
        self._down_until: dict[Server, float] = {}
        self._idle: dict[Server, list[tuple[float, Session]]] = {}
        self._is_closed = False

    def in_order(self) -> list[Server]:
        """As configured, but those that failed a short time ago last."""
        now = clock.monotonic()
        with self._lock:
            return sorted(self._all, key=lambda server: self._down_until.get(server, 0.0) > now)

    def punish(self, server: Server) -> None:
        """Ask this one last for a while."""
        with self._lock:
            self._down_until[server] = clock.monotonic() + PENALTY_SECONDS

    def forgive(self, server: Server) -> None:
        """It answered."""
        with self._lock:
            self._down_until.pop(server, None)

    def connect(self, server: Server, deadline: Deadline) -> Session:
        """A fresh connection, for somebody to sign in. Raises ``DirectoryError``."""
        needs_tls = server.is_tls or server.starts_tls
        if needs_tls and self._context is None:
            self._context = make_tls_context(self._settings)
        return Session(server, self._context if needs_tls else None, deadline)

    @contextmanager
    def service_session(self, server: Server, deadline: Deadline) -> Iterator[Session]:
        """A connection of the service account (or of nobody, without one), kept for the next use if all went well."""
        session = self._take_idle(server) or self._sign_in_service(server, deadline)
        try:
            session.start_use(deadline)
            yield session
        except LoginRefused:
            self._give_back(session)
            raise
        except BaseException:
            session.close()
            raise
        self._give_back(session)

    def close(self) -> None:
        """Close what is idle; what is in use is closed after use."""
        with self._lock:
            self._is_closed = True
            idle = [session for sessions in self._idle.values() for _, session in sessions]
            self._idle.clear()
        for session in idle:
            session.close()

    def _take_idle(self, server: Server) -> Session | None:
        oldest = clock.monotonic() - MAX_IDLE_SECONDS
        while True:
            with self._lock:
                sessions = self._idle.get(server)
                if not sessions:
                    return None
                since, session = sessions.pop()
            if since >= oldest and session.is_usable():
                return session
            session.close()

    def _give_back(self, session: Session) -> None:
        with self._lock:
            sessions = self._idle.setdefault(session.server, [])
            if not self._is_closed and len(sessions) < MAX_IDLE_SESSIONS:
                sessions.append((clock.monotonic(), session))
                return
        session.close()

    def _sign_in_service(self, server: Server, deadline: Deadline) -> Session:
        session = self.connect(server, deadline)
        try:
            if self._settings.bind_dn and self._password is not None:
                code = session.bind(self._settings.bind_dn, self._password.reveal())
                self._check_service(session, code)
            else:
                session.bind_anonymously()
        except BaseException:
            session.close()
            raise
        return session

    def _check_service(self, session: Session, code: int) -> None:
        """A refused service account is a fault of ours, not of the one who wants to sign in."""
        try:
            if code != SUCCESS:
                session.check_bound(code)
        except LoginRefused:
            message = f"{session.server.url} refuses the account {self._settings.bind_dn} (result {code})"
            raise DirectoryError(f"{message}: check bind_dn and bind_password_file") from None
