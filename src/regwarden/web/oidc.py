"""How does somebody come in by an identity provider? The routes below ``/auth`` for browsers and for CI jobs.

``GET /oidc/NAME/login`` sends a browser to the provider, ``GET /oidc/NAME/callback`` takes it back and answers with
tokens of ours; ``POST /exchange`` gives an access token for the ID token of a CI job.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final
from urllib.parse import quote

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from regwarden import clock
from regwarden.core.access import PrincipalKind
from regwarden.errors import InputError, Unauthorized
from regwarden.identity.oidc import LoginAttempt
from regwarden.identity.oidc_providers import Providers
from regwarden.store.assertions import ensure_seal_key, spend_assertion
from regwarden.store.database import Database
from regwarden.web.attempts import Attempts
from regwarden.web.auth import read_body
from regwarden.web.authentication import peer_of
from regwarden.web.login_cookie import LIFETIME, cookie_name, open_sealed, seal
from regwarden.web.sign_ins import SignIns

_OUR_LOGINS: Final = "regwarden:login"
_HEADERS: Final = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff"}

log = structlog.get_logger("regwarden.oidc")


@dataclass(frozen=True, slots=True, kw_only=True)
class OidcParts:
    """What the routes work with. ``public_url`` is how browsers reach the service."""

    providers: Providers
    public_url: str
    sign_ins: SignIns
    attempts: Attempts
    database: Database
    now: Callable[[], datetime] = clock.now


class _Exchange(msgspec.Struct, forbid_unknown_fields=True):
    """The body of ``POST /exchange``."""

    token: str
    provider: str = ""


def oidc_routes(parts: OidcParts) -> list[Route]:
    """The routes, relative to ``/auth``; errors are raised as ``RegwardenError``."""
    oidc = _Oidc(parts)
    callback = Route("/oidc/{provider}/callback", oidc.callback, methods=["GET"])
    # A route that takes GET takes HEAD too; whoever only looks must not use up the sign-in.
    callback.methods = {"GET"}
    return [
        Route("/oidc/{provider}/login", oidc.login, methods=["GET"]),
        callback,
        Route("/exchange", oidc.exchange, methods=["POST"]),
    ]


class _Oidc:
    def __init__(self, parts: OidcParts) -> None:
        self._parts = parts
        self._is_secure = parts.public_url.startswith("https:")
        self._cookie = cookie_name(is_secure=self._is_secure)
        self._key: str | None = None

    async def login(self, request: Request) -> Response:
        """Send the browser to the provider, with a cookie by which it is known when it comes back."""
        provider = self._parts.providers.for_people(request.path_params["provider"])
        key = await self._seal_key()
        address, attempt = await provider.begin(self._redirect_uri(provider.settings.name))
        response = RedirectResponse(address, 303, dict(_HEADERS))
        response.set_cookie(
            self._cookie,
            seal(attempt, key, self._parts.now()),
            max_age=int(LIFETIME.total_seconds()),
            path="/",
            secure=self._is_secure,
            httponly=True,
            samesite="lax",
        )
        return response

    async def callback(self, request: Request) -> Response:
        """Take the browser back: once, if it is the one that was sent."""
        provider = self._parts.providers.for_people(request.path_params["provider"])
        name, peer = provider.settings.name, peer_of(request)
        answer = dict(request.query_params)
        # Nobody has given a name yet, so failures count for the address alone.
        with self._parts.attempts.begin(peer, f"oidc:{peer}") as counted:
            if len(answer) != len(request.query_params.multi_items()):
                raise _not_begun("a parameter of the answer is given twice")
            attempt = await self._take(request.cookies.get(self._cookie, ""), name, answer.get("state", ""))
            who = await provider.complete(attempt, answer, self._redirect_uri(name))
            counted.succeed()
        issued = await self._parts.sign_ins.begin(who, kind=PrincipalKind.OIDC, peer=peer, is_refreshable=True)
        response = JSONResponse(issued.document(), headers=_HEADERS)
        response.delete_cookie(self._cookie, path="/", secure=self._is_secure, httponly=True, samesite="lax")
        return response

    async def exchange(self, request: Request) -> Response:
        """An access token for the ID token of a CI job, which is taken once."""
        asked, peer = await _read(request), peer_of(request)
        with self._parts.attempts.begin(peer, f"assertion:{peer}") as counted:
            provider = self._parts.providers.for_assertion(asked.token, asked.provider)
            assertion = await provider.verify_assertion(asked.token)
            if not await self._spend(assertion.issuer, assertion.jti, assertion.expires_at):
                log.warning("a token was shown again", provider=provider.settings.name, subject=assertion.who.subject)
                raise Unauthorized(
                    "this token is not accepted", hint="The service's log says why.", code="bad-assertion"
                )
            counted.succeed()
        issued = await self._parts.sign_ins.begin(
            assertion.who, kind=PrincipalKind.WORKLOAD, peer=peer, is_refreshable=False
        )
        return JSONResponse(issued.document(), headers=_HEADERS)

    async def _take(self, cookie: str, provider: str, state: str) -> LoginAttempt:
        """The sign-in that this browser has begun; it is used up by this."""
        opened = open_sealed(cookie, await self._seal_key(), self._parts.now())
        if opened is None:
            raise _not_begun("the browser has no cookie of a sign-in, or an old one")
        attempt, expires_at = opened
        if attempt.provider != provider or not hmac.compare_digest(attempt.state.encode(), state.encode()):
            raise _not_begun("the answer belongs to another sign-in")
        if not await self._spend(_OUR_LOGINS, attempt.state, expires_at):
            raise _not_begun("the answer was given before")
        return attempt

    async def _spend(self, issuer: str, jti: str, expires_at: datetime) -> bool:
        spend = partial(spend_assertion, issuer=issuer, jti=jti, expires_at=expires_at)
        return await self._parts.database.write(spend, urgent=True)

    async def _seal_key(self) -> str:
        if self._key is None:
            candidate, now = secrets.token_urlsafe(32), self._parts.now()
            self._key = await self._parts.database.write(
                lambda connection: ensure_seal_key(connection, candidate, now), urgent=True
            )
        return self._key

    def _redirect_uri(self, provider: str) -> str:
        return f"{self._parts.public_url.rstrip('/')}/auth/oidc/{quote(provider, safe='')}/callback"


def _not_begun(reason: str) -> Unauthorized:
    log.warning("a sign-in was refused", reason=reason)
    return Unauthorized(
        "the sign-in did not succeed",
        hint="Begin again, in the same browser, and within ten minutes.",
        code="bad-login",
    )


async def _read(request: Request) -> _Exchange:
    try:
        return msgspec.json.decode(await read_body(request), type=_Exchange)
    except (ValueError, RecursionError):  # msgspec's own errors are among them
        raise InputError(
            "the body is not a token", hint='Send {"token": "…"} and, if you like, "provider".', code="bad-request"
        ) from None
