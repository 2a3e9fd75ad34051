"""How do people sign in over HTTP? ``/auth``: a password becomes tokens, tokens are refreshed, and given back.

Other ways to sign in add routes of their own. Nothing that is answered here may be kept by anybody.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol
from urllib.parse import parse_qsl

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from regwarden import clock
from regwarden.core.access import PrincipalKind
from regwarden.core.role_rules import SignedIn
from regwarden.errors import InputError, RegwardenError, Unauthorized
from regwarden.web.api.problems import error_answer
from regwarden.web.attempts import Attempts
from regwarden.web.authentication import Authentication, bearer_of, peer_of
from regwarden.web.problems import problem
from regwarden.web.sign_ins import Issued, LookUp, SignIns

MAX_BODY_BYTES: Final = 64 * 1024
BODY_TIMEOUT_SECONDS: Final = 10.0
MAX_PASSWORD_CHARACTERS: Final = 1024
MAX_USERNAME_CHARACTERS: Final = 256

_NO_STORE: Final = {"Cache-Control": "no-store", "Pragma": "no-cache"}
_FORM: Final = "application/x-www-form-urlencoded"
_FIELDS: Final = frozenset({"grant_type", "username", "password", "refresh_token"})
_KEYS_SECONDS: Final = 300


class SignIn(LookUp, Protocol):
    """A directory: finds out by name and password who somebody is."""

    async def sign_in(self, username: str, password: str) -> SignedIn:
        """Who it is. Raises ``Unauthorized`` (``bad-login``) and ``ProviderError`` (cannot be asked)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthParts:
    """What the application is made of.

    ``directory`` is ``None`` where nobody signs in with a password; ``providers``, by name, find people again whose
    sign-in is refreshed; ``routes`` are added, with paths behind ``/auth``.
    """

    sign_ins: SignIns
    authentication: Authentication
    attempts: Attempts
    directory: SignIn | None = None
    providers: Mapping[str, LookUp] = field(default_factory=dict)
    routes: Sequence[BaseRoute] = ()


def build_auth(parts: AuthParts) -> ASGIApp:
    """The application; paths begin behind ``/auth``."""
    endpoints = _Endpoints(parts)
    return Starlette(
        routes=[
            Route("/token", endpoints.token, methods=["POST"]),
            Route("/revoke", endpoints.revoke, methods=["POST"]),
            Route("/keys", endpoints.keys, methods=["GET"]),
            *parts.routes,
        ],
        exception_handlers={RegwardenError: _deliberate, HTTPException: _refused, Exception: _unforeseen},
    )


class _Endpoints:
    """What is answered."""

    def __init__(self, parts: AuthParts) -> None:
        self._parts = parts

    async def token(self, request: Request) -> Response:
        """A password or a refresh token for tokens (RFC 6749 4.3, 6)."""
        fields = await _read_fields(request)
        grant_type = fields.get("grant_type", "password")
        if grant_type == "refresh_token":
            issued = await self._parts.sign_ins.refresh(_required(fields, "refresh_token"), self._parts.providers)
        elif grant_type == "password":
            issued = await self._password(request, fields)
        else:
            hint = "Send password or refresh_token."
            raise InputError(f"there is no grant_type {grant_type[:80]!r}", hint=hint, code="bad-request")
        return JSONResponse(issued.document(), headers=_NO_STORE)

    async def revoke(self, request: Request) -> Response:
        """End a sign-in, by its refresh token or its access token (RFC 7009)."""
        fields = await _read_fields(request)
        if "refresh_token" in fields:
            await self._parts.sign_ins.end_by_refresh(fields["refresh_token"])
        else:
            token = bearer_of(request)
            if token is None:
                raise Unauthorized("this needs a token", hint="Send refresh_token, or Authorization: Bearer TOKEN.")
            await self._parts.sign_ins.end_by_access(token)
        return Response(status_code=204, headers=_NO_STORE)

    async def keys(self, _request: Request) -> Response:
        """The public keys with which access tokens can be verified (RFC 7517)."""
        document = self._parts.authentication.ring().jwks(clock.now())
        headers = {"Cache-Control": f"public, max-age={_KEYS_SECONDS}"}
        return JSONResponse(document, headers=headers, media_type="application/jwk-set+json")

    async def _password(self, request: Request, fields: Mapping[str, str]) -> Issued:
        directory, peer = self._parts.directory, peer_of(request)
        if directory is None:
            hint = "Configure [ldap], or use a token."
            raise Unauthorized("nobody can sign in with a password here", hint=hint, code="no-password-login")
        username, password = _credentials(request, fields)
        with self._parts.attempts.begin(peer, username) as attempt:
            _check_credentials(username, password)
            who = await directory.sign_in(username, password)
            attempt.succeed()
        return await self._parts.sign_ins.begin(
            who, kind=PrincipalKind.DIRECTORY, peer=peer, is_refreshable=bool(who.login)
        )


def _credentials(request: Request, fields: Mapping[str, str]) -> tuple[str, str]:
    """Name and password from the body, else from ``Authorization: Basic`` (RFC 7617)."""
    if "username" in fields or "password" in fields:
        return _required(fields, "username"), fields.get("password", "")
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        hint = "Send username and password as JSON, or Authorization: Basic."
        raise Unauthorized("this needs a name and a password", hint=hint, code="no-credentials")
    try:
        username, colon, password = base64.b64decode(encoded.strip(), validate=True).decode("utf-8").partition(":")
    except (binascii.Error, ValueError):
        raise InputError("Authorization: Basic cannot be read", code="bad-request") from None
    if not colon:
        raise InputError("Authorization: Basic has no password", code="bad-request")
    return username, password


def _check_credentials(username: str, password: str) -> None:
    """An empty password makes directories say yes to anybody (RFC 4513 5.1.2), so it never reaches one."""
    is_name = 0 < len(username) <= MAX_USERNAME_CHARACTERS and username.isprintable() and username == username.strip()
    if not is_name or not 0 < len(password) <= MAX_PASSWORD_CHARACTERS or "\0" in password:
        raise Unauthorized("the name or the password is wrong", code="bad-login")


def _required(fields: Mapping[str, str], name: str) -> str:
    if name not in fields:
        raise InputError(f"the field {name} is missing", code="bad-request")
    return fields[name]


async def _read_fields(request: Request) -> dict[str, str]:
    """The fields of a JSON object or a form; none of an empty body. Raises ``InputError`` that repeats no value."""
    body = await read_body(request)
    if not body:
        return {}
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        if media_type == _FORM:
            pairs = parse_qsl(body.decode("utf-8"), keep_blank_values=True, strict_parsing=True, max_num_fields=20)
        else:
            pairs = list(msgspec.json.decode(body, type=dict[str, str]).items())
    except (ValueError, RecursionError):
        hint = 'Send {"username": "…", "password": "…"}.'
        raise InputError(
            "the body is neither a JSON object of texts nor a form", hint=hint, code="bad-request"
        ) from None
    fields: dict[str, str] = {}
    for name, value in pairs:
        if name not in _FIELDS or name in fields:
            raise InputError(f"the field {name[:80]!r} is unknown or there twice", code="bad-request")
        fields[name] = value
    return fields


async def read_body(request: Request) -> bytes:
    """The body of a request that asks for tokens; raises ``HTTPException`` if it is large (413) or slow (408)."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_SECONDS):
            async for piece in request.stream():
                body += piece
                if len(body) > MAX_BODY_BYTES:
                    raise HTTPException(413)
    except (TimeoutError, ClientDisconnect):
        raise HTTPException(408) from None
    return bytes(body)


async def _deliberate(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RegwardenError)  # noqa: S101 -- registered for these only
    answer = error_answer(error)
    answer.headers.update(_NO_STORE)
    return answer


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 -- registered for these only
    details: dict[int, Any] = {404: "there is nothing here", 405: "this path does not take this method"}
    details |= {413: "the body is too large", 408: "the body came too slowly"}
    return problem(error.status_code, details.get(error.status_code, "this is not answered"), headers=error.headers)


async def _unforeseen(_request: Request, _error: Exception) -> Response:
    """The server logs the error; who asked learns nothing of it."""
    detail = "something went wrong here; the log of the service says what"
    return problem(500, detail, code="internal", headers=_NO_STORE)
