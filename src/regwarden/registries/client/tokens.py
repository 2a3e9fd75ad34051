"""Where does a Bearer token come from? Realm rules, the token request, the cache per scope set.

Sources: Distribution "Token Authentication Specification" and "OAuth 2 token"; scopes as in registries.md 4.4.
"""

from __future__ import annotations

import asyncio
import base64
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Protocol

import msgspec
from yarl import URL

from regwarden import clock
from regwarden.errors import RegistryDenied, RegistryError, RegistryProtocolError
from regwarden.registries.client.addresses import check_literal, is_loopback_host, matches_host
from regwarden.registries.client.challenges import Challenge
from regwarden.registries.client.credentials import Anonymous, Basic, IdentityToken, denial_hint
from regwarden.registries.client.settings import ClientSettings
from regwarden.registries.client.transport import Call, Transport

_DEFAULT_LIFETIME_SECONDS: Final = 60
_MAX_LIFETIME_SECONDS: Final = 24 * 3600
_EARLY: Final = 0.8
_MAX_TOKENS: Final = 4096
_MAX_SCOPES: Final = 8
_MAX_SCOPE_LENGTH: Final = 512
_CLIENT_ID: Final = "regwarden"


@dataclass(frozen=True, slots=True)
class Token:
    """A token ready to be sent: the header, when to replace it (monotonic seconds), what it was asked for."""

    authorization: str = field(repr=False)
    replace_at: float
    fetched_at: float
    scopes: frozenset[str]

    @property
    def is_fresh(self) -> bool:
        """Whether it can still be used."""
        return clock.monotonic() < self.replace_at


class TokenSupply(Protocol):
    """Where ``AuthenticatedTransport`` gets its tokens from; see ``TokenSource`` for the methods.

    With ``is_only_way`` the registry itself never gets the credentials, whatever it asks for.
    """

    is_only_way: bool

    def find(self, scope: str) -> Token | None:
        """The remembered token for ``scope``, if it can still be used."""

    def refuse(self, scope: str, error: RegistryDenied) -> None:
        """Remember that ``scope`` is not granted, and forget the token that was not enough."""

    async def fetch(self, challenge: Challenge, scope: str, subject: str, *, rejected: str = "") -> Token:
        """A token for ``scope``, never the one whose header is ``rejected``."""


class _TokenAnswer(msgspec.Struct):
    token: str = ""
    access_token: str = ""
    expires_in: object = None


_decode = msgspec.json.Decoder(_TokenAnswer).decode


class TokenSource:
    """Fetches tokens for one registry, each scope only once at a time, and remembers them until shortly before expiry.

    A refused scope is remembered for a minute, so that a repository we may not read costs one token request.
    """

    is_only_way = False

    def __init__(self, settings: ClientSettings, transport: Transport) -> None:
        self._settings = settings
        self._transport = transport
        self._tokens: OrderedDict[str, Token] = OrderedDict()
        self._refused: dict[str, tuple[float, RegistryDenied]] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    def find(self, scope: str) -> Token | None:
        """The remembered token for ``scope``, if it can still be used."""
        token = self._tokens.get(scope)
        return token if token is not None and token.is_fresh else None

    def refuse(self, scope: str, error: RegistryDenied) -> None:
        """Remember that ``scope`` is not granted, and forget the token that was not enough."""
        self._tokens.pop(scope, None)
        self._refused[scope] = (clock.monotonic() + _DEFAULT_LIFETIME_SECONDS, error)

    async def fetch(self, challenge: Challenge, scope: str, subject: str, *, rejected: str = "") -> Token:
        """A token for ``scope`` and what the challenge wants besides; never the one whose header is ``rejected``.

        Raises ``RegistryDenied`` when the token server refuses, ``RegistryProtocolError`` for a realm that is not
        allowed or an answer that is no token.
        """
        lock = self._locks.setdefault(scope, asyncio.Lock())
        async with lock:
            self._raise_if_refused(scope)
            known = self.find(scope)
            if known is not None and known.authorization != rejected:
                return known
            try:
                token = await self._request(challenge, scope, subject)
            except RegistryDenied as error:
                self.refuse(scope, error)
                raise
            finally:
                self._locks.pop(scope, None)
            self._tokens[scope] = token
            if len(self._tokens) > _MAX_TOKENS:
                self._tokens.popitem(last=False)
            return token

    def _raise_if_refused(self, scope: str) -> None:
        until, error = self._refused.get(scope, (0.0, None))
        if error is None:
            return
        if clock.monotonic() < until:
            raise repeated(error)
        del self._refused[scope]

    async def _request(self, challenge: Challenge, scope: str, subject: str) -> Token:
        realm = allowed_realm(challenge.get("realm"), self._settings)
        scopes = _chosen_scopes(scope, challenge.scopes)
        asked_at = clock.monotonic()
        call, authorization = self._token_call(realm, challenge.get("service"), scopes, subject)
        self._transport.traffic.token_requests += 1
        answer = await self._transport.exchange(call, authorization)
        said = self._transport.redact.diagnose(answer)
        if answer.status in {400, 401, 403}:
            raise RegistryDenied(
                f"the token server {realm.host_port_subcomponent} refuses a token for {subject} ({answer.status})",
                hint=denial_hint(self._settings.credentials),
                status=answer.status,
                diagnostics=said,
            )
        if answer.status != 200:
            raise RegistryProtocolError(
                f"the token server {realm.host_port_subcomponent} answered {answer.status} instead of a token",
                status=answer.status,
                diagnostics=said,
            )
        value, lifetime = read_token(answer.body, realm)
        lifetime = lifetime or _DEFAULT_LIFETIME_SECONDS
        replace_at = asked_at + lifetime * _EARLY
        return Token(f"Bearer {value}", replace_at, clock.monotonic(), frozenset(scopes))

    def _token_call(self, realm: URL, service: str, scopes: tuple[str, ...], subject: str) -> tuple[Call, str | None]:
        credentials, subject = self._settings.credentials, f"a token for {subject}"
        limit = self._transport.limits.token_bytes
        if isinstance(credentials, IdentityToken):
            form = {
                "grant_type": "refresh_token",
                "service": service,
                "client_id": _CLIENT_ID,
                "scope": " ".join(scopes),
                "refresh_token": credentials.token,
            }
            return Call("POST", realm, subject, limit, form=form), None
        query = [("service", service)] if service else []
        query += [("scope", scope) for scope in scopes]
        call = Call("GET", realm.extend_query(query), subject, limit)
        return call, None if isinstance(credentials, Anonymous) else basic_header(credentials)


def repeated(error: RegistryDenied) -> RegistryDenied:
    """The same refusal for somebody else who asks, with a traceback of its own."""
    return RegistryDenied(
        error.message, hint=error.hint, code=error.code, status=error.status, diagnostics=error.diagnostics
    )


def allowed_realm(text: str, settings: ClientSettings) -> URL:
    """The realm of a challenge as URL, if the rules allow it: https (or plain like the registry), a configured host.

    Raises ``RegistryProtocolError`` (``token-host-refused`` where the settings could allow it).
    """
    try:
        realm = URL(text)
        host = realm.host or ""
    except ValueError:
        host = ""
    if not host or realm.scheme not in {"http", "https"} or realm.raw_user is not None:
        raise RegistryProtocolError(f"the registry names no usable token server: {text[:120]!r}")
    if realm.scheme == "http" and not settings.is_plain_http:
        raise RegistryProtocolError(
            f"the registry sends us to an unencrypted token server, {realm.host_port_subcomponent}; not followed",
            hint="Configure the registry's token server for https.",
            code="token-host-refused",
        )
    own_host = URL(settings.url).host or ""
    is_own = host.lower() == own_host.lower()
    if not is_own and not matches_host(realm, tuple(e for e in settings.token_hosts if "*" not in e)):
        raise RegistryProtocolError(
            f"the registry sends us to the token server {realm.host_port_subcomponent}, which is not configured",
            hint=f'If it is the right one, set token_hosts = ["{realm.host_port_subcomponent}"] for this registry.',
            code="token-host-refused",
        )
    allow_loopback = is_own or is_loopback_host(own_host) or matches_host(realm, settings.token_hosts)
    if reason := check_literal(realm, allow_loopback=allow_loopback):
        raise RegistryProtocolError(f"the token server {host} is {reason}, which is never connected to")
    return realm.with_fragment(None)


def basic_header(credentials: Basic) -> str:
    """The ``Authorization`` value of RFC 7617, UTF-8."""
    pair = f"{credentials.username}:{credentials.password}".encode()
    return f"Basic {base64.b64encode(pair).decode()}"


def _chosen_scopes(scope: str, wanted: Iterable[str]) -> tuple[str, ...]:
    """Our own scopes (separated by spaces) and the reading ones that the registry names besides.

    Some have own words for reading. What the registry asks for is not trusted: it could ask for more rights than we
    need and then use the token.
    """
    scopes = dict.fromkeys(scope.split())
    own_names = {_scope_name(own) for own in scopes}
    for other in wanted:
        is_reading = not set(other.rpartition(":")[2].split(",")) & {"push", "delete", "*"}
        is_same_thing = not scope or _scope_name(other) in own_names
        if is_reading and is_same_thing and len(scopes) < _MAX_SCOPES and len(other) <= _MAX_SCOPE_LENGTH:
            scopes[other] = None
    return tuple(scopes)


def _scope_name(scope: str) -> str:
    """Type and name of ``type:name:actions``."""
    return scope.rpartition(":")[0]


def read_token(body: bytes, realm: URL) -> tuple[str, float]:
    """The token of a token server's answer, and its lifetime in seconds as said there (0: not said).

    Raises ``RegistryProtocolError`` for what is no token or cannot stand in a header.
    """
    problem: RegistryError = RegistryProtocolError(
        f"the answer of the token server {realm.host_port_subcomponent} is no token"
    )
    try:
        answer = _decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise problem from None
    value = answer.token or answer.access_token
    if not value or not value.isascii() or not value.isprintable() or " " in value:
        raise problem
    lifetime = answer.expires_in
    if isinstance(lifetime, bool) or not isinstance(lifetime, (int, float)) or lifetime <= 0:
        return value, 0.0
    return value, float(min(lifetime, _MAX_LIFETIME_SECONDS))
