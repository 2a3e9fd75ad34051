"""How does a sign-in begin, go on and end? Short access tokens, and refresh tokens that are good once.

Roles are asked for again at every refresh, so whoever loses them, or the account, is out within minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, Protocol

import structlog

from regwarden.core.access import PEOPLE, Grant, PrincipalKind
from regwarden.core.grants import grants_to_json
from regwarden.core.quantities import parse_duration
from regwarden.core.robot_tokens import REFRESH, TokenParts, build_token, parse_token
from regwarden.core.role_rules import Rule, SignedIn, grants_for
from regwarden.core.text import printable
from regwarden.errors import Forbidden, InputError, StoreError, Unauthorized
from regwarden.identity.random_texts import random_id, random_token
from regwarden.settings_access import AuthSettings
from regwarden.store import audit
from regwarden.store.database import Database
from regwarden.store.sessions import (
    NewSession,
    SignedInAs,
    StoredSession,
    end_if_spent,
    end_session,
    find_session,
    rotate_refresh,
    save_session,
)
from regwarden.web.authentication import Authentication

# How long a sign-in lasts that cannot be prolonged.
_ONCE: Final = timedelta(minutes=15)
_MAX_NAME_CHARACTERS: Final = 256
_MAX_SUBJECT_CHARACTERS: Final = 1000

log = structlog.get_logger("regwarden.auth")


class LookUp(Protocol):
    """Finds somebody again who signed in before."""

    async def look_up(self, login: str) -> SignedIn:
        """Who they are now. Raises ``Unauthorized`` (no longer anybody) and ``ProviderError`` (cannot be asked)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifetimes:
    """How long access tokens are valid, and how long a sign-in can be prolonged."""

    access: timedelta
    refresh: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """What somebody gets who signed in, or refreshed; ``refresh_token`` may be empty."""

    access_token: str = field(repr=False)
    expires_in_seconds: int
    refresh_token: str = field(default="", repr=False)
    refresh_expires_in_seconds: int = 0

    def document(self) -> dict[str, Any]:
        """As the token endpoint answers (RFC 6749 5.1)."""
        answer = {
            "access_token": self.access_token,
            "token_type": "Bearer",
            "expires_in": self.expires_in_seconds,
        }
        if self.refresh_token:
            answer |= {"refresh_token": self.refresh_token, "refresh_expires_in": self.refresh_expires_in_seconds}
        return answer


def parse_lifetimes(settings: AuthSettings) -> Lifetimes:
    """How long sign-ins last, of settings that were checked when they were read."""
    return Lifetimes(access=parse_duration(settings.access_lifetime), refresh=parse_duration(settings.refresh_lifetime))


class SignIns:
    """Begins, prolongs and ends sign-ins of the API."""

    def __init__(
        self,
        database: Database,
        authentication: Authentication,
        *,
        rules: Sequence[Rule],
        lifetimes: Lifetimes,
        now: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._authentication = authentication
        self._rules = tuple(rules)
        self._lifetimes = lifetimes
        self._now = now

    async def begin(self, who: SignedIn, *, kind: PrincipalKind, peer: str, is_refreshable: bool) -> Issued:
        """Sign in somebody who has shown who they are. Raises ``Forbidden`` (``no-role``) and ``StoreError``."""
        who = _checked(who)
        grants = grants_for(self._rules, who)
        if not grants:
            raise _no_role(who.name)
        now, public_id, principal = self._now(), random_id(), _described(who, kind)
        refresh = random_token(public_id) if is_refreshable else None
        new = NewSession(
            public_id=public_id,
            principal=principal,
            provider=who.provider,
            login=who.login,
            expires_at=now + (self._lifetimes.refresh if refresh else min(self._lifetimes.access, _ONCE)),
            made_from=peer,
            refresh_sha256=refresh.secret_sha256 if refresh else None,
        )
        issued = self._issue(new, grants, refresh)  # first: roles that fit into no token begin no sign-in
        await self._database.write(partial(_keep, new=new, at=now))
        log.info("signed in", name=who.name, provider=who.provider, sender=peer)
        return issued

    async def refresh(self, text: str, providers: Mapping[str, LookUp]) -> Issued:
        """Prolong a sign-in: new tokens, with the roles that they have now; ``providers`` by name.

        Raises ``Unauthorized`` (``bad-refresh``), ``Forbidden`` (``no-role``), ``ProviderError`` (nothing has changed).
        """
        shown = _parse_refresh(text)
        session = await self._valid_session(shown)
        who = await self._look_up(session, providers)
        grants = grants_for(self._rules, who)
        if not grants:
            await self._end(session.public_id, "no role any more")
            raise _no_role(who.name)
        new, principal = random_token(session.public_id), _described(who, session.principal.kind)
        now = self._now()
        rotate = partial(
            rotate_refresh,
            public_id=session.public_id,
            spent=shown.secret_sha256,
            new=new.secret_sha256,
            principal=principal,
            at=now,
        )
        if not await self._database.write(rotate):
            await self._note()
            raise _bad_refresh()
        return self._issue(session, grants, new, principal)

    async def end_by_refresh(self, text: str) -> None:
        """End the sign-in of a refresh token, whether it is spent or not; unknown ones are ignored."""
        try:
            shown = _parse_refresh(text)
        except Unauthorized:
            return
        session = await self._database.read(partial(find_session, public_id=shown.public_id))
        if session is None:
            return
        if session.refresh_sha256 == shown.secret_sha256:
            await self._end(session.public_id, "signed out")
        else:
            await self._end_if_spent(shown)

    async def end_by_access(self, text: str) -> None:
        """End the sign-in of an access token. Raises ``Unauthorized``."""
        claims = await self._authentication.verify("api", text)
        await self._end(str(claims["sid"]), "signed out")

    async def _valid_session(self, shown: TokenParts) -> StoredSession:
        session = await self._database.read(partial(find_session, public_id=shown.public_id))
        if session is None:
            raise _bad_refresh()
        if session.refresh_sha256 != shown.secret_sha256:
            await self._end_if_spent(shown)
            raise _bad_refresh()
        if not session.is_living(self._now()):
            raise _bad_refresh()
        return session

    async def _look_up(self, session: StoredSession, providers: Mapping[str, LookUp]) -> SignedIn:
        try:
            return _checked(await _ask(session, providers.get(session.provider)))
        except Unauthorized:
            await self._end(session.public_id, "the account is not valid any more")
            raise

    def _issue(
        self,
        session: NewSession,
        grants: Sequence[Grant],
        refresh: TokenParts | None,
        principal: SignedInAs | None = None,
    ) -> Issued:
        """The tokens of a sign-in; none is valid longer than the sign-in itself."""
        now, who = self._now(), principal or session.principal
        ends = min(now + self._lifetimes.access, session.expires_at)
        claims = {
            "sub": who.subject,
            "sid": session.public_id,
            "jti": random_id(),
            "name": who.name,
            "kind": who.kind,
            "grants": grants_to_json(grants),
        }
        if who.display_name:
            claims["display_name"] = who.display_name
        return Issued(
            access_token=self._authentication.ring().sign(claims, now=now, expires_at=ends),
            expires_in_seconds=int((ends - now).total_seconds()),
            refresh_token=build_token(refresh, REFRESH) if refresh else "",
            refresh_expires_in_seconds=int((session.expires_at - now).total_seconds()) if refresh else 0,
        )

    async def _end(self, public_id: str, reason: str) -> None:
        await self._database.write(partial(end_session, public_id=public_id, reason=reason, at=self._now()))
        await self._note()

    async def _end_if_spent(self, shown: TokenParts) -> None:
        """A spent refresh token is shown: either by a thief, or by somebody who was robbed."""
        end = partial(end_if_spent, public_id=shown.public_id, refresh_sha256=shown.secret_sha256, at=self._now())
        if await self._database.write(end):
            log.warning("a refresh token was used twice: the sign-in has ended", session=shown.public_id)
            await self._note()

    async def _note(self) -> None:
        """Know of it at once ourselves; other processes do within a second."""
        self._authentication.wake()  # looks again if the next line fails
        with suppress(StoreError):
            await self._authentication.catch_up()


async def _ask(session: StoredSession, provider: LookUp | None) -> SignedIn:
    if provider is None:
        raise Unauthorized(f"nobody can sign in with {session.provider} any more", code="bad-refresh")
    who = await provider.look_up(session.login)
    if who.subject != session.principal.subject or who.provider != session.provider:
        raise Unauthorized("the account is another one now", hint="Sign in again.", code="bad-refresh")
    return who


def _keep(connection: Any, new: NewSession, at: datetime) -> None:
    save_session(connection, new, at)
    if new.principal.kind in PEOPLE:
        detail = {"provider": new.provider, "from": new.made_from, "session": new.public_id}
        audit.record(connection, at=at, principal=new.principal.name, action="sign-in", detail=detail)


def _checked(who: SignedIn) -> SignedIn:
    """Names end up in the audit and in logs; a provider that makes them unreadable is not believed."""
    is_sound = 0 < len(who.name) <= _MAX_NAME_CHARACTERS and who.name.isprintable()
    if not is_sound or not 0 < len(who.subject) <= _MAX_SUBJECT_CHARACTERS or not who.subject.isprintable():
        raise Unauthorized("the account has a name that cannot be used here", code="bad-login")
    return who


def _described(who: SignedIn, kind: str) -> SignedInAs:
    display_name = printable(who.display_name, _MAX_NAME_CHARACTERS)
    return SignedInAs(subject=who.subject, kind=str(kind), name=who.name, display_name=display_name)


def _parse_refresh(text: str) -> TokenParts:
    try:
        return parse_token(text, REFRESH)
    except InputError:
        raise _bad_refresh() from None


def _bad_refresh() -> Unauthorized:
    return Unauthorized("the refresh token is not valid", hint="Sign in again.", code="bad-refresh")


def _no_role(name: str) -> Forbidden:
    hint = "Ask an administrator for a role."
    return Forbidden(f"{name} has no role here", hint=hint, code="no-role")
