"""An OpenID provider on loopback, for tests: real keys, discovery, JWKS, authorization and token endpoints.

What it is not asked for in a test, it must not be asked for: leaving it fails the test then.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import secrets
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from aiohttp import web
from joserfc import jws
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey

from regwarden.settings_access import OidcSettings

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
CLIENT = "regwarden"
AUDIENCE = "https://regwarden.example.com"
REDIRECT_URI = "http://127.0.0.1:1/auth/oidc/sso/callback"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def make_key(kid: str, kind: str = "RSA") -> Key:
    """A fresh key pair."""
    parameters: Any = {"kid": kid, "use": "sig"}
    if kind == "RSA":
        return RSAKey.generate_key(2048, parameters)
    if kind == "OKP":
        return OKPKey.generate_key("Ed25519", parameters)
    return ECKey.generate_key(kind, parameters)


# Making an RSA key takes a tenth of a second.
FIRST_KEY = make_key("first")
OTHER_KEY = make_key("other")


@dataclass
class Grant:
    """A code that was given to a browser."""

    nonce: str
    challenge: str
    redirect_uri: str


@dataclass
class IdentityProvider:
    """One provider; its fields may be changed while it runs."""

    issuer: str = ""
    keys: dict[str, Key] = field(default_factory=lambda: {"first": FIRST_KEY})
    signing: str = "first"
    algorithm: str = "RS256"
    secret: str = ""
    now: datetime = NOW
    claims: dict[str, Any] = field(default_factory=dict)
    header: dict[str, Any] = field(default_factory=dict)
    document: dict[str, Any] = field(default_factory=dict)
    answer: dict[str, str] = field(default_factory=dict)
    replaced: dict[str, Handler] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    unexpected: list[str] = field(default_factory=list)
    access_token: str = ""
    _grants: dict[str, Grant] = field(default_factory=dict)

    def settings(self, **changes: Any) -> OidcSettings:
        """What an administrator would configure."""
        return OidcSettings(**{"name": "sso", "issuer": self.issuer, "client_id": CLIENT, **changes})

    def person(self, **changes: Any) -> dict[str, Any]:
        """Claims of an ID token for somebody."""
        seconds = int(self.now.timestamp())
        claims = {
            "iss": self.issuer,
            "sub": "0001",
            "aud": CLIENT,
            "iat": seconds,
            "exp": seconds + 300,
            "preferred_username": "alice",
            "name": "Alice Example",
            "groups": ["registry-users", "team"],
            **changes,
        }
        return {name: value for name, value in claims.items() if value is not None}

    def job(self, **changes: Any) -> dict[str, Any]:
        """Claims of an ID token for a CI job."""
        seconds = int(self.now.timestamp())
        claims = {
            "iss": self.issuer,
            "sub": "project_path:team/app:ref_type:branch:ref:main",
            "aud": AUDIENCE,
            "iat": seconds,
            "nbf": seconds - 5,
            "exp": seconds + 300,
            "jti": secrets.token_hex(8),
            "project_path": "team/app",
            "ref_protected": "true",
            **changes,
        }
        return {name: value for name, value in claims.items() if value is not None}

    def sign(self, claims: Mapping[str, Any], **header: Any) -> str:
        """A token with these claims, signed with the present key."""
        whole = {"alg": self.algorithm, "kid": self.signing, "typ": "JWT", **self.header, **header}
        whole = {name: value for name, value in whole.items() if value is not None}
        return sign(claims, whole, self.keys[self.signing])

    def visit(self, address: str) -> str:
        """What a browser does that is sent to ``address``: sign in there; returns where it is sent then."""
        asked = {name: found[0] for name, found in parse_qs(urlsplit(address).query).items()}
        assert address.startswith(f"{self.issuer}/authorize?"), address
        assert asked["response_type"] == "code"
        assert asked["client_id"] == CLIENT
        assert "openid" in asked["scope"].split()
        assert asked["code_challenge_method"] == "S256"
        code = secrets.token_urlsafe(16)
        self._grants[code] = Grant(asked["nonce"], asked["code_challenge"], asked["redirect_uri"])
        return f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state'], **self.answer})}"

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer a request."""
        path = request.path
        self.asked[path] += 1
        if path in self.replaced:
            return await self.replaced[path](request)
        if path == "/.well-known/openid-configuration":
            return web.json_response(self._discovery())
        if path == "/keys":
            return web.json_response({"keys": [key.as_dict(private=False) for key in self.keys.values()]})
        if path == "/token" and request.method == "POST":
            return self._redeem(request, await request.post())
        self.unexpected.append(f"{request.method} {path}")
        return web.Response(status=400)

    def _discovery(self) -> dict[str, Any]:
        document = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
            **self.document,
        }
        return {name: value for name, value in document.items() if value is not None}

    def _redeem(self, request: web.Request, form: Mapping[str, Any]) -> web.Response:
        grant = self._grants.pop(str(form["code"]), None)
        challenge = hashlib.sha256(str(form["code_verifier"]).encode()).digest()
        if grant is None or encode(challenge) != grant.challenge or form["redirect_uri"] != grant.redirect_uri:
            return web.json_response({"error": "invalid_grant"}, status=400)
        if self.secret and not self._is_our_client(request, form):
            return web.json_response({"error": "invalid_client"}, status=401)
        claims = self.person(**{"nonce": grant.nonce, **self.claims})
        tokens = {"access_token": "opaque", "token_type": "Bearer", "id_token": self.sign(claims)}
        return web.json_response(tokens)

    def _is_our_client(self, request: web.Request, form: Mapping[str, Any]) -> bool:
        basic = base64.b64encode(f"{CLIENT}:{self.secret}".encode()).decode()
        return form.get("client_secret") == self.secret or request.headers.get("Authorization") == f"Basic {basic}"


@asynccontextmanager
async def running_provider(tls: ssl.SSLContext | None = None) -> AsyncIterator[IdentityProvider]:
    """A provider that listens while the block lasts."""
    provider = IdentityProvider()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", provider.serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        provider.issuer = f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
        yield provider
    finally:
        await runner.cleanup()
    assert provider.unexpected == []


def sign(claims: Mapping[str, Any], header: Mapping[str, Any], key: Key) -> str:
    """A signed token, whatever it says."""
    algorithm = str(header["alg"])
    return jws.serialize_compact(dict(header), json.dumps(claims), key, registry=_Anything(algorithms=[algorithm]))


def encode(content: bytes) -> str:
    """URL-safe base64 without padding."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def sign_with_secret(claims: Mapping[str, Any], header: Mapping[str, Any], secret: bytes) -> str:
    """A token with an HMAC, by hand: the library does not let a public key be the secret."""
    signed = f"{encode(json.dumps(header).encode())}.{encode(json.dumps(claims).encode())}"
    return f"{signed}.{encode(hmac.new(secret, signed.encode(), hashlib.sha256).digest())}"


async def hang(_request: web.Request) -> web.StreamResponse:
    """An answer that never comes."""
    await asyncio.Event().wait()
    raise AssertionError


class _Anything(jws.JWSRegistry):
    def check_header(self, header: Any) -> None:
        """Attackers write what they like."""
