"""Who may ask a sample registry for what? Basic, Bearer with its own token endpoint, and HTTP Digest.

Sources: Distribution token specification, RFC 7617 (Basic), RFC 7616 (Digest).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol
from urllib.parse import parse_qsl
from urllib.request import parse_http_list, parse_keqv_list

from aiohttp import web

from regwarden import clock
from regwarden.testing.images import timestamp

TOKEN_PATH: Final = "/token"  # noqa: S105
_NO_STORE: Final = {"Cache-Control": "no-store", "Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Access:
    """A right: ``repository:team/app:pull`` or ``registry:catalog:*``."""

    kind: str
    name: str
    actions: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Access:
        """Read one scope; the name may contain colons (a host with a port)."""
        kind, _, rest = text.partition(":")
        name, _, actions = rest.rpartition(":")
        return cls(kind, name, tuple(actions.split(",")))

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}:{','.join(self.actions)}"


@dataclass(frozen=True, slots=True)
class Granted:
    """The request may go on; ``actor`` is the user's name, empty for nobody."""

    actor: str = ""


@dataclass(frozen=True, slots=True)
class Challenged:
    """The request is answered 401 with these ``WWW-Authenticate`` values."""

    challenges: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BasicAuth:
    """User and password with every request, as with an htpasswd file; every user may do everything."""

    users: Mapping[str, str]
    realm: str = "sample registry"


@dataclass(frozen=True, slots=True)
class DigestAuth:
    """HTTP Digest. A nonce is stale after ``nonce_uses`` requests (0: never)."""

    users: Mapping[str, str]
    realm: str = "sample registry"
    algorithm: Literal["MD5", "SHA-256"] = "SHA-256"
    nonce_uses: int = 0


@dataclass(frozen=True, slots=True)
class BearerAuth:
    """Tokens from the server's own ``/token``.

    A token is refused ``lifetime_seconds`` after it was given and after ``token_uses`` requests (0: no limit, for
    tests of expiry that need no waiting). ``denied_repositories`` are never granted, so requests with a fresh token
    are answered ``insufficient_scope``; ``is_catalog_denied`` is the same for the catalog. ``field_names`` says in
    which fields the token is answered. ``refresh_tokens`` maps identity tokens to users. ``realm`` replaces the
    address of the token endpoint in the challenge.
    """

    users: Mapping[str, str] = field(default_factory=dict)
    service: str = "sample registry"
    has_anonymous_pull: bool = False
    denied_repositories: frozenset[str] = frozenset()
    is_catalog_denied: bool = False
    lifetime_seconds: float = 300.0
    token_uses: int = 0
    field_names: tuple[str, ...] = ("token", "access_token")
    announces_expiry: bool = True
    refresh_tokens: Mapping[str, str] = field(default_factory=dict)
    realm: str = ""


Auth = BasicAuth | BearerAuth | DigestAuth | None


class Gate(Protocol):
    """Decides about requests."""

    def check(self, request: web.BaseRequest, needed: Sequence[Access]) -> Granted | Challenged:
        """Whether ``request`` has the rights it needs."""

    async def answer_token(self, request: web.BaseRequest) -> web.Response | None:
        """The answer of the token endpoint; ``None`` where there is none."""


def build_gate(auth: Auth) -> Gate:
    """The gate for a configuration."""
    match auth:
        case BasicAuth():
            return _BasicGate(auth)
        case BearerAuth():
            return _BearerGate(auth)
        case DigestAuth():
            return _DigestGate(auth)
        case None:
            return _OpenGate()


class _OpenGate:
    def check(self, request: web.BaseRequest, needed: Sequence[Access]) -> Granted | Challenged:
        del request, needed
        return Granted()

    async def answer_token(self, request: web.BaseRequest) -> web.Response | None:
        del request
        return None


class _BasicGate(_OpenGate):
    def __init__(self, auth: BasicAuth) -> None:
        self._auth = auth

    def check(self, request: web.BaseRequest, needed: Sequence[Access]) -> Granted | Challenged:
        del needed
        user = _find_basic_user(request, self._auth.users)
        return Granted(user) if user else Challenged((f'Basic realm="{self._auth.realm}"',))


class _DigestGate(_OpenGate):
    def __init__(self, auth: DigestAuth) -> None:
        self._auth = auth
        self._counts_by_nonce: dict[str, set[str]] = {}

    def check(self, request: web.BaseRequest, needed: Sequence[Access]) -> Granted | Challenged:
        del needed
        scheme, _, rest = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "digest":
            return self._challenge()
        given = parse_keqv_list(parse_http_list(rest))
        user = given.get("username", "")
        if user not in self._auth.users or not self._is_right(request, given):
            return self._challenge()
        counts = self._counts_by_nonce.get(given["nonce"])
        limit = self._auth.nonce_uses
        if counts is None or given["nc"] in counts or (limit and len(counts) >= limit):
            return self._challenge(is_stale=True)
        counts.add(given["nc"])
        return Granted(user)

    def _is_right(self, request: web.BaseRequest, given: Mapping[str, str]) -> bool:
        required = ("username", "realm", "nonce", "uri", "response", "qop", "nc", "cnonce")
        if any(name not in given for name in required) or given["uri"] != request.raw_path:
            return False
        user = given["username"]
        secret = self._checksum(f"{user}:{self._auth.realm}:{self._auth.users[user]}")
        asked = self._checksum(f"{request.method}:{given['uri']}")
        parts = (secret, given["nonce"], given["nc"], given["cnonce"], given["qop"], asked)
        return hmac.compare_digest(self._checksum(":".join(parts)), given["response"])

    def _checksum(self, text: str) -> str:
        algorithm = hashlib.md5 if self._auth.algorithm == "MD5" else hashlib.sha256
        return algorithm(text.encode()).hexdigest()

    def _challenge(self, *, is_stale: bool = False) -> Challenged:
        nonce = secrets.token_urlsafe(16)
        self._counts_by_nonce[nonce] = set()
        stale = ", stale=true" if is_stale else ""
        realm, algorithm = self._auth.realm, self._auth.algorithm
        challenge = f'Digest realm="{realm}", qop="auth", algorithm={algorithm}, nonce="{nonce}", opaque="c2FtcGxl"'
        return Challenged((challenge + stale,))


@dataclass(slots=True)
class _Token:
    actor: str
    rights: frozenset[tuple[str, str, str]]
    expires_at: float
    use_count: int = 0


class _BearerGate:
    def __init__(self, auth: BearerAuth) -> None:
        self._auth = auth
        self._tokens: dict[str, _Token] = {}

    def check(self, request: web.BaseRequest, needed: Sequence[Access]) -> Granted | Challenged:
        scheme, _, value = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return self._challenge(request, needed, error="")
        token = self._tokens.get(value.strip())
        if token is None or self._is_used_up(token):
            return self._challenge(request, needed, error="invalid_token")
        if not all(_is_covered(access, token.rights) for access in needed):
            return self._challenge(request, needed, error="insufficient_scope")
        token.use_count += 1
        return Granted(token.actor)

    async def answer_token(self, request: web.BaseRequest) -> web.Response | None:
        if request.method == "POST":
            form = dict(parse_qsl((await request.read()).decode()))
            user = self._find_form_user(form)
            scopes = form.get("scope", "").split()
            is_allowed = bool(user)
        else:
            query = parse_qsl(request.rel_url.raw_query_string)
            scopes = [scope for name, value in query if name == "scope" for scope in value.split()]
            user = _find_basic_user(request, self._auth.users)
            is_allowed = bool(user) or (self._auth.has_anonymous_pull and "Authorization" not in request.headers)
        if not is_allowed:
            body = json.dumps({"errors": [{"code": "UNAUTHORIZED", "message": "incorrect username or password"}]})
            return web.Response(status=401, text=body, headers=_NO_STORE)
        return self._give_token(user, [Access.parse(scope) for scope in scopes])

    def _find_form_user(self, form: Mapping[str, str]) -> str:
        if form.get("grant_type") == "refresh_token":
            return self._auth.refresh_tokens.get(form.get("refresh_token", ""), "")
        user = form.get("username", "")
        return user if user and self._auth.users.get(user) == form.get("password") else ""

    def _give_token(self, user: str, asked: Sequence[Access]) -> web.Response:
        rights = {
            (access.kind, access.name, action)
            for access in asked
            for action in access.actions
            if self._is_grantable(user, access, action)
        }
        value = secrets.token_urlsafe(24)
        self._tokens[value] = _Token(user, frozenset(rights), clock.monotonic() + self._auth.lifetime_seconds)
        body: dict[str, object] = dict.fromkeys(self._auth.field_names, value)
        if self._auth.announces_expiry:
            body["expires_in"] = int(self._auth.lifetime_seconds)
            body["issued_at"] = timestamp(clock.now())
        return web.Response(text=json.dumps(body), headers=_NO_STORE)

    def _is_grantable(self, user: str, access: Access, action: str) -> bool:
        if access.kind == "registry":
            return bool(user) and not self._auth.is_catalog_denied
        return access.name not in self._auth.denied_repositories and (bool(user) or action == "pull")

    def _is_used_up(self, token: _Token) -> bool:
        limit = self._auth.token_uses
        return clock.monotonic() >= token.expires_at or (limit > 0 and token.use_count >= limit)

    def _challenge(self, request: web.BaseRequest, needed: Sequence[Access], *, error: str) -> Challenged:
        realm = self._auth.realm or f"{request.scheme}://{request.host}{TOKEN_PATH}"
        parts = [f'realm="{realm}"', f'service="{self._auth.service}"']
        if needed:
            parts.append(f'scope="{" ".join(str(access) for access in needed)}"')
        if error:
            parts.append(f'error="{error}"')
        return Challenged(("Bearer " + ",".join(parts),))


def _is_covered(access: Access, rights: frozenset[tuple[str, str, str]]) -> bool:
    return all((access.kind, access.name, action) in rights for action in access.actions)


def _find_basic_user(request: web.BaseRequest, users: Mapping[str, str]) -> str:
    scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return ""
    expected = users.get(user)
    return user if expected is not None and hmac.compare_digest(expected.encode(), password.encode()) else ""
