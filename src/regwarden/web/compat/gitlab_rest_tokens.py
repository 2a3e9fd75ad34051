"""Who may ask gitlab-registry-usage-rest? Whoever shows a token that its /auth_token gave, or a robot token.

The tokens have the predecessor's claims, and the grants to read what they were given for. They are good for nothing
else, and end with their session: the claim ``jti`` is its public id.
"""

from __future__ import annotations

import base64
import binascii
import re
import uuid
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, Protocol

import structlog
from starlette.requests import Request

from regwarden.core.access import ROLE_PERMISSIONS, Grant, Permission, Principal, PrincipalKind, Role, reach
from regwarden.core.grants import grants_to_json, parse_grants
from regwarden.core.role_rules import Rule, SignedIn, grants_for
from regwarden.core.text import printable
from regwarden.errors import InputError, Unauthorized
from regwarden.identity.signing import KeyRing
from regwarden.store import audit
from regwarden.store.connections import Connection
from regwarden.store.database import Database
from regwarden.store.sessions import NewSession, SignedInAs, save_session

INTERFACE: Final = "gitlab-registry-usage-rest"
_ROBOT: Final = "rgw_"
_SIGNED_DOTS: Final = 2
_MAX_NAME: Final = 256
_MAX_PASSWORD: Final = 1_024
_EXPECTED: Final = "Expected 'Authorization: Bearer <JWT>'"

log = structlog.get_logger("regwarden.auth")


class Refused(Exception):
    """The request is refused as the predecessor did: a status, and what ``msg`` says."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class NoLogin(Exception):
    """/auth_token gives no token for these credentials; it never says why."""


class Attempt(Protocol):
    """One attempt to sign in."""

    def succeed(self) -> None:
        """It was the right password."""


class Attempts(Protocol):
    """Counts failures, of every way to sign in together (``web.attempts``)."""

    def begin(self, peer_address: str, typed_name: str, /) -> AbstractContextManager[Attempt]:
        """Raises ``TooManyAttempts``."""


class Authentication(Protocol):
    """What is taken of ``web.authentication``."""

    def ring(self, interface: str, /) -> KeyRing:
        """The keys of an interface."""

    async def verify(self, interface: str, token: str, /) -> dict[str, Any]:
        """The claims of a token of an interface whose session has not ended. Raises ``Unauthorized``."""

    async def principal_of(self, token: str, peer: str, /) -> Principal:
        """Who shows a token of the API. Raises ``Unauthorized``."""


class Directory(Protocol):
    """What is taken of ``identity.ldap``."""

    async def sign_in(self, username: str, password: str, /) -> SignedIn:
        """Raises ``Unauthorized`` and ``ProviderError``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """Gives tokens for one registry, and knows them again."""

    database: Database
    registry: str
    authentication: Authentication
    attempts: Attempts
    directory: Directory | None
    rules: Sequence[Rule]
    lifetime: timedelta
    now: Callable[[], datetime]

    async def issue(self, request: Request) -> str:
        """A token for the user and password in the header.

        Raises ``NoLogin``, ``TooManyAttempts``, ``ProviderError`` (the directory is down) and ``StoreError``.
        """
        username, password = _read_basic(request.headers.get("authorization", ""))
        peer = _peer(request)
        if self.directory is None or not username or not password:
            raise NoLogin
        try:
            with self.attempts.begin(peer, username) as attempt:
                who = await self.directory.sign_in(username, password)
                attempt.succeed()
        except Unauthorized:
            raise NoLogin from None
        _check_names(who)
        grants = _reading(grants_for(self.rules, who))
        if not reach(_principal(who.name, grants), Permission.INVENTORY_READ).touches(self.registry):
            raise NoLogin
        return await self._sign(who, grants, peer)

    async def admit(self, request: Request) -> Principal:
        """Who asks. Raises ``Refused`` and ``TooManyAttempts``."""
        token = _read_bearer(request.headers.get("authorization", ""))
        if token.count(".") == _SIGNED_DOTS and token.startswith("ey"):
            return await self._verified(token)
        try:
            principal = await self.authentication.principal_of(token, _peer(request))
        except Unauthorized:
            if token.startswith(_ROBOT):
                raise Refused(401, "Token is not valid") from None
            is_signed = token.count(".") == _SIGNED_DOTS
            raise Refused(422, "Signature verification failed" if is_signed else "Not enough segments") from None
        if not reach(principal, Permission.INVENTORY_READ).touches(self.registry):
            raise Refused(403, "Token may not read this registry")
        return principal

    async def _verified(self, token: str) -> Principal:
        try:
            claims = await self.authentication.verify(INTERFACE, token)
        except Unauthorized as error:
            raise self._explain(token, error) from None
        try:
            grants = parse_grants(claims.get("grants"))
        except InputError:
            raise Refused(422, "Signature verification failed") from None
        if claims["type"] != "access":
            raise Refused(422, "Only non-refresh tokens are allowed")
        return _principal(claims["sub"], grants)

    def _explain(self, token: str, error: Unauthorized) -> Refused:
        """Why a token does not count; a genuine one that has not expired belongs to a session that was ended."""
        if error.code == "token-expired":
            return Refused(401, "Token has expired")
        try:
            self.authentication.ring(INTERFACE).verify(token, now=self.now())
        except Unauthorized as again:
            if again.code == "token-expired":
                return Refused(401, "Token has expired")
            return Refused(422, "Signature verification failed")
        return Refused(401, "Token has been revoked")

    async def _sign(self, who: SignedIn, grants: Sequence[Grant], peer: str) -> str:
        now = self.now()
        session = NewSession(
            public_id=str(uuid.uuid4()),
            principal=SignedInAs(
                subject=who.subject,
                kind=PrincipalKind.DIRECTORY,
                name=who.name,
                display_name=printable(who.display_name, _MAX_NAME),
            ),
            provider=who.provider,
            login=who.login,
            expires_at=now + self.lifetime,
            interface=INTERFACE,
            made_from=peer,
        )
        claims = {
            "fresh": False,
            "jti": session.public_id,
            "type": "access",
            "sub": who.name,
            "nbf": int(now.timestamp()),
            "grants": grants_to_json(grants),
        }
        token = self.authentication.ring(INTERFACE).sign(claims, now=now, expires_at=session.expires_at)
        await self.database.write(partial(_keep, session=session, at=now))
        log.info("signed in", name=who.name, provider=who.provider, sender=peer, interface=INTERFACE)
        return token


def _keep(connection: Connection, session: NewSession, at: datetime) -> None:
    save_session(connection, session, at)
    detail = {"provider": session.provider, "from": session.made_from, "session": session.public_id}
    detail["interface"] = session.interface
    audit.record(connection, at=at, principal=session.principal.name, action="sign-in", detail=detail)


def _check_names(who: SignedIn) -> None:
    """Names end up in the audit and in logs; a directory that makes them unreadable is not believed."""
    for text in (who.name, who.subject):
        if not 0 < len(text) <= _MAX_NAME or not text.isprintable():
            raise NoLogin


def _reading(grants: Sequence[Grant]) -> tuple[Grant, ...]:
    """What of the grants is good for reading, and no more than that."""
    areas = (grant.area for grant in grants if Permission.INVENTORY_READ in ROLE_PERMISSIONS[grant.role])
    return tuple(dict.fromkeys(Grant(Role.VIEWER, area) for area in areas))


def _principal(name: str, grants: Sequence[Grant]) -> Principal:
    return Principal(id=f"{INTERFACE}:{name}", name=name, kind=PrincipalKind.DIRECTORY, grants=tuple(grants))


def _peer(request: Request) -> str:
    return request.client.host if request.client else ""


def _read_basic(header: str) -> tuple[str, str]:
    """User and password; empty where there are none."""
    scheme, _, encoded = header.partition(" ")
    try:
        decoded = base64.b64decode(encoded.strip(), validate=True) if scheme.lower() == "basic" else b""
    except (binascii.Error, ValueError):
        return "", ""
    try:
        text = decoded.decode()
    except UnicodeDecodeError:
        text = decoded.decode("latin-1")
    username, colon, password = text.partition(":")
    is_possible = colon and len(username) <= _MAX_NAME and len(password) <= _MAX_PASSWORD and "\0" not in text
    return (username, password) if is_possible else ("", "")


def _read_bearer(header: str) -> str:
    """The token. Raises ``Refused`` as the predecessor's library does, for headers with several schemes too."""
    if not header.strip():
        raise Refused(401, "Missing Authorization Header")
    bearers = [part.split() for part in re.split(r",\s*", header) if part.split()[:1] == ["Bearer"]]
    if len(bearers) != 1:
        raise Refused(401, f"Missing 'Bearer' type in 'Authorization' header. {_EXPECTED}")
    if len(bearers[0]) != 2:
        raise Refused(422, f"Bad Authorization header. {_EXPECTED}")
    return bearers[0][1]
