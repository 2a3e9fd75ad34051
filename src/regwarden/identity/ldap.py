"""Does a directory know this user with this password, and who are they there?

Names and passwords are never kept, an answer that is not certain lets nobody in, and a directory that cannot be asked
is never taken for a wrong password.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from regwarden import clock
from regwarden.core.role_rules import SignedIn
from regwarden.identity.ldap_entries import (
    has_windows_name,
    identity_filter,
    identity_of,
    is_disabled,
    signed_in,
    wanted_attributes,
)
from regwarden.identity.ldap_errors import DirectoryError, LoginRefused, ServerUnreachable
from regwarden.identity.ldap_groups import find_groups
from regwarden.identity.ldap_names import check_password, check_username, escape_dn, escape_filter, same_dn
from regwarden.identity.ldap_protocol import EVERYTHING, SUCCESS, Entry, Session
from regwarden.identity.ldap_servers import Servers
from regwarden.identity.ldap_tls import Deadline, Server
from regwarden.settings import Secret
from regwarden.settings_access import LdapSettings
from regwarden.settings_sources import read_secret_file

LOGIN_SECONDS: Final = 8.0
# What a refusal takes at least: longer than a directory's own work, so that the time tells nothing.
REFUSAL_SECONDS: Final = 0.3
_THREADS: Final = 8
_MAX_WAITING: Final = 64
_GRACE_SECONDS: Final = 0.5
_USERNAME: Final = "{username}"

log = structlog.get_logger("regwarden.identity")

Work = Callable[[Server, Deadline], SignedIn]


def open_directory(settings: LdapSettings) -> LdapDirectory:
    """The directory of these settings; nothing is asked of it yet. Raises ``InputError`` for the password's file."""
    file = settings.bind_password_file
    return LdapDirectory(settings, read_secret_file(Path(file).expanduser()) if file else None)


class LdapDirectory:
    """A directory in which people sign in. Close it after use."""

    def __init__(self, settings: LdapSettings, password: Secret | None = None) -> None:
        self._settings = settings
        self._servers = Servers(settings, password)
        self._attributes = wanted_attributes(settings)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="ldap")
        self._waiting_count = 0
        self._is_closed = False

    async def sign_in(self, username: str, password: str) -> SignedIn:
        """Who this is. Raises ``LoginRefused`` (whatever the reason) or ``DirectoryError``."""
        started = clock.monotonic()
        try:
            work = partial(self._sign_in, check_username(username), check_password(password))
            return await self._run(work, started)
        except LoginRefused:
            await asyncio.sleep(max(0.0, started + REFUSAL_SECONDS - clock.monotonic()))
            raise

    async def look_up(self, login: str) -> SignedIn:
        """The same person as they are now, with the groups of now; ``login`` is what ``SignedIn.login`` was.

        Raises ``LoginRefused`` when they are gone or disabled, or when nobody may read their entry again: where users
        are not searched (``user_dn``) and there is no service account, only their password opens it. Raises
        ``DirectoryError``.
        """
        return await self._run(partial(self._look_up, *_parse_login(login)), clock.monotonic())

    async def close(self) -> None:
        """End the connections; nobody can sign in any more."""
        self._is_closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(self._servers.close)

    async def _run(self, work: Work, started: float) -> SignedIn:
        """``work`` in a thread, on one server after the other, in the time that a sign-in may take."""
        if self._is_closed:
            raise DirectoryError("the service is ending")
        if self._waiting_count >= _MAX_WAITING:
            raise DirectoryError(f"{self._waiting_count} others are signing in: the directory is too slow for them")
        self._waiting_count += 1
        deadline = Deadline(started + LOGIN_SECONDS)
        call = partial(self._on_servers, work, deadline)
        try:
            async with asyncio.timeout(LOGIN_SECONDS + _GRACE_SECONDS):
                return await asyncio.get_running_loop().run_in_executor(self._threads, call)
        except TimeoutError:
            failure = DirectoryError("the directory takes too long")
            self._log(failure)
            raise failure from None
        except DirectoryError as error:
            self._log(error)
            raise
        finally:
            self._waiting_count -= 1

    def _on_servers(self, work: Work, deadline: Deadline) -> SignedIn:
        problems: list[str] = []
        for server in self._servers.in_order():
            if problems and deadline.ends_at <= clock.monotonic():
                break
            try:
                found = work(server, deadline)
            except ServerUnreachable as error:
                problems.append(error.diagnostics)
                self._servers.punish(server)
            except LoginRefused:
                self._servers.forgive(server)
                raise
            else:
                self._servers.forgive(server)
                return found
        raise DirectoryError("; ".join(problems))

    def _sign_in(self, username: str, password: str, server: Server, deadline: Deadline) -> SignedIn:
        if self._settings.user_dn:
            return self._sign_in_by_dn(username, password, server, deadline)
        with self._servers.service_session(server, deadline) as service:
            query = self._user_filter(f"({self._settings.username_attribute}={escape_filter(username)})")
            found = service.search(self._settings.user_base, query, self._attributes, limit=2)
            if len(found) != 1:
                if found:
                    log.warning("ldap.ambiguous_user", server=server.url, entries=[entry.dn for entry in found])
                self._pretend_to_sign_in(password, server, deadline)
                raise LoginRefused(f"{len(found)} entries under {self._settings.user_base} match {query}")
            (entry,) = found
            with self._servers.connect(server, deadline) as session:
                self._bind(session, entry.dn, password, entry)
            return self._accept(service, entry)

    def _sign_in_by_dn(self, username: str, password: str, server: Server, deadline: Deadline) -> SignedIn:
        refusals = []
        for template in self._settings.user_dn:
            dn = template.replace(_USERNAME, escape_dn(username))
            with self._servers.connect(server, deadline) as session:
                try:
                    self._bind(session, dn, password)
                except LoginRefused as error:
                    refusals.append(error.diagnostics)
                    continue
                if not self._settings.bind_dn:
                    return self._accept_dn(session, dn)
                with self._servers.service_session(server, deadline) as service:
                    return self._accept_dn(service, dn)
        raise LoginRefused("no DN of user_dn takes this password: " + "; ".join(refusals))

    def _bind(self, session: Session, dn: str, password: str, entry: Entry | None = None) -> None:
        """Sign in as ``dn``, and make sure that this is who signed in: a bind can succeed as nobody."""
        code = session.bind(dn, password)
        if code != SUCCESS:
            session.check_bound(code)
        identity = session.who_am_i()
        if identity.startswith("u:"):
            if entry is None:
                raise DirectoryError(f"{session.server.url} names users by account: search them with user_base")
            is_same = has_windows_name(entry, identity)
        else:
            is_same = same_dn(identity.removeprefix("dn:"), dn)
        if not is_same:
            log.warning("ldap.bound_as_another", server=session.server.url, asked=dn, is_nobody=not identity)
            raise LoginRefused(f"the bind as {dn} was taken for one as {identity or 'nobody'}")

    def _pretend_to_sign_in(self, password: str, server: Server, deadline: Deadline) -> None:
        """What a sign-in costs, for a user who is not there."""
        dn = f"{self._settings.username_attribute}=nobody-{secrets.token_hex(8)},{self._settings.user_base}"
        with self._servers.connect(server, deadline) as session:
            session.bind(dn, password)

    def _look_up(self, identity: str, dn: str, server: Server, deadline: Deadline) -> SignedIn:
        if self._needs_password:
            raise LoginRefused("without bind_dn nobody may read entries again")
        with self._servers.service_session(server, deadline) as service:
            if self._settings.user_dn:
                entry = service.read(dn, self._user_filter(), self._attributes)
            else:
                query = self._user_filter(_identity_filter(identity, self._settings))
                found = service.search(self._settings.user_base, query, self._attributes, limit=2)
                entry = found[0] if len(found) == 1 else None
            if entry is None or identity_of(entry, self._settings) != identity:
                raise LoginRefused(f"the entry {dn} is gone or does not match any more")
            return self._accept(service, entry)

    def _accept_dn(self, reader: Session, dn: str) -> SignedIn:
        entry = reader.read(dn, self._user_filter(), self._attributes)
        if entry is None:
            raise LoginRefused(f"{dn} may not be read, or does not match user_filter")
        return self._accept(reader, entry)

    def _accept(self, reader: Session, entry: Entry) -> SignedIn:
        if is_disabled(entry):
            raise LoginRefused(f"{entry.dn} is disabled")
        who = signed_in(entry, self._settings, find_groups(reader, self._settings, entry))
        return replace(who, login=self._login(entry))

    def _login(self, entry: Entry) -> str:
        """By what ``look_up`` finds somebody again; empty: it cannot, see there."""
        if self._needs_password:
            return ""
        return json.dumps({"id": identity_of(entry, self._settings), "dn": entry.dn}, ensure_ascii=False)

    @property
    def _needs_password(self) -> bool:
        """Whether nobody but users themselves may read their entries."""
        return bool(self._settings.user_dn) and not self._settings.bind_dn

    def _user_filter(self, condition: str = "") -> str:
        parts = [part for part in (condition, self._settings.user_filter) if part]
        return f"(&{''.join(parts)})" if len(parts) > 1 else next(iter(parts), EVERYTHING)

    def _log(self, error: DirectoryError) -> None:
        log.warning("ldap.unavailable", diagnostics=error.diagnostics)


def _identity_filter(identity: str, settings: LdapSettings) -> str:
    try:
        return identity_filter(identity, settings)
    except ValueError:
        # Kept when another attribute was configured.
        raise LoginRefused("the session was kept with another identity_attribute") from None


def _parse_login(login: str) -> tuple[str, str]:
    try:
        kept = json.loads(login)
        identity, dn = kept["id"], kept["dn"]
    except (ValueError, LookupError, TypeError):
        raise LoginRefused("what the session kept cannot be read") from None
    if not isinstance(identity, str) or not isinstance(dn, str) or not identity or not dn:
        raise LoginRefused("what the session kept cannot be read")
    return identity, dn
