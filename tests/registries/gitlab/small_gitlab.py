"""A token issuer and a registry that trusts it, as small as tests of the client need them; it checks no signatures."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Self

from aiohttp import web

SECRET: Final = "glpat-verysecret"
ALL: Final = frozenset({"pull", "push", "delete", "*"})


def build_jwt(claims: object) -> str:
    """A JWT with ``claims`` and a signature that is none."""
    parts = (b'{"alg":"none"}', json.dumps(claims).encode(), b"signature")
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


def build_claims(
    access: object, *, lifetime_seconds: float = 300, issued_at: float = 1_000_000, number: int = 0
) -> dict[str, object]:
    """Claims by a clock that is long past: only their difference may matter."""
    return {"access": access, "iat": issued_at, "exp": issued_at + lifetime_seconds, "jti": f"{number}"}


@dataclass
class SmallGitLab:
    """``granted`` is what the user gets at most; ``answers`` are given to the next token requests in place of tokens.

    ``asked`` has the scopes of each token request, ``paths`` what came to the registry. Tokens in ``spent`` are not
    accepted any more.
    """

    granted: Mapping[str, frozenset[str]] = field(default_factory=dict)
    default: frozenset[str] = ALL
    answers: list[tuple[int, str]] = field(default_factory=list)
    refusals: list[tuple[int, str]] = field(default_factory=list)
    metas: Mapping[str, object] = field(default_factory=dict)
    lifetime_seconds: float = 300
    padding: int = 0
    delay_seconds: float = 0.0
    asked: list[list[str]] = field(default_factory=list)
    authorizations: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    spent: set[str] = field(default_factory=set)
    url: str = ""

    async def __aenter__(self) -> Self:
        self._runner = web.ServerRunner(web.Server(self._handle, access_log=None))
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.Response:
        if request.path == "/jwt/auth":
            return await self._issue(request)
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token in {"", *self.spent}:
            challenge = f'Bearer realm="{self.url}/jwt/auth",service="container_registry",error="invalid_token"'
            return web.Response(status=401, headers={"WWW-Authenticate": challenge})
        self.paths.append(f"{request.method} {request.path}")
        if self.refusals:
            status, code = self.refusals.pop(0)
            return web.json_response({"errors": [{"code": code, "message": "no"}]}, status=status)
        return web.json_response({"name": "x", "tags": ["latest"]})

    async def _issue(self, request: web.BaseRequest) -> web.Response:
        scopes = [each for text in request.query.getall("scope", []) for each in text.split()]
        self.asked.append(scopes)
        self.authorizations.append(request.headers.get("Authorization", ""))
        await asyncio.sleep(self.delay_seconds)
        if self.answers:
            status, body = self.answers.pop(0)
            return web.Response(status=status, text=body)
        entries = []
        for scope in scopes:
            name, _, actions = scope.rpartition(":")
            kind, _, thing = name.partition(":")
            allowed = set(actions.split(",")) & self.granted.get(thing, self.default)
            if allowed:
                entry = {"type": kind, "name": thing, "actions": sorted(allowed)}
                entries.append(entry | ({"meta": self.metas[thing]} if thing in self.metas else {}))
        claims = build_claims(entries, lifetime_seconds=self.lifetime_seconds, number=len(self.asked))
        claims["padding"] = "x" * self.padding * len(scopes)
        return web.json_response({"token": build_jwt(claims)})
