"""How do tests push to and pull from GitLab's registry as if nobody had to sign in there? By a door before it.

Whoever brings no token gets one for what is asked, but for Regwarden, which has to sign in as anywhere else.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import aiohttp
from aiohttp import web
from yarl import URL

from tests.gitlab_double import keys
from tests.gitlab_double.facade import HOP_BY_HOP, MAX_BODY_BYTES, OWN_HEADERS
from tests.gitlab_double.state import Settings

NAMED = re.compile(r"/v2/(?P<name>.+)/(?:blobs|manifests|tags)/.*")
OURS = "regwarden/"
TOKEN_SECONDS = 3600


@dataclass
class Door:
    """The proxy. ``pushing`` is told of each repository that somebody writes to; ``lines`` is the access log."""

    registry_url: str
    settings: Settings
    pushing: Callable[[str], object]
    lines: list[str] = field(default_factory=list)
    _tokens: dict[tuple[str, ...], str] = field(default_factory=dict)
    _session: aiohttp.ClientSession | None = None

    def build_app(self) -> web.Application:
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.cleanup_ctx.append(self._connect)
        app.router.add_route("*", "/{path:.*}", self.handle)
        return app

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Pass the request on and its answer back, byte by byte; the address that clients see is this one."""
        headers = [(name, value) for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP]
        agent = request.headers.get("User-Agent", "")
        found = NAMED.fullmatch(request.path)
        if not agent.startswith(OURS):
            names = [found["name"]] if found else []
            if request.method not in ("GET", "HEAD", "DELETE"):
                self.pushing(names[0])
            if "Authorization" not in request.headers:
                headers.append(("Authorization", f"Bearer {self._token(*names, *request.query.getall('from', []))}"))
        answer = await self._forward(request, headers)
        self.lines.append(
            f'{request.remote} - - [{datetime.now(UTC):%d/%b/%Y:%H:%M:%S +0000}] "{request.method} {request.raw_path}'
            f' HTTP/1.1" {answer.status} {answer.content_length or 0} "" "{agent}"'
        )
        return answer

    async def _forward(self, request: web.Request, headers: list[tuple[str, str]]) -> web.Response:
        assert self._session is not None
        url = URL(self.registry_url + request.raw_path, encoded=True)
        body = await request.read()
        try:
            async with self._session.request(
                request.method, url, headers=headers, data=body or None, allow_redirects=False
            ) as answer:
                kept = {"content-length"} if request.method == "HEAD" else set()
                found = [
                    (name, text) for name, text in answer.headers.items() if name.lower() not in OWN_HEADERS - kept
                ]
                response = web.Response(status=answer.status, body=await answer.read() or None)
        except aiohttp.ClientError as error:
            return web.Response(status=502, text=f"the registry behind is not there: {error}\n")
        response.headers.popall("Content-Type", None)
        response.headers.extend(found)
        return response

    def _token(self, *repositories: str) -> str:
        if repositories not in self._tokens:
            now, everything = int(time.time()), ["pull", "push", "delete"]
            access = [{"type": "repository", "name": name, "actions": everything} for name in repositories]
            access.append({"type": "registry", "name": "catalog", "actions": ["*"]})
            times = {"iat": now, "nbf": now - 5, "exp": now + TOKEN_SECONDS}
            who = {"aud": self.settings.service, "iss": self.settings.issuer, "sub": "root"}
            self._tokens[repositories] = keys.sign({"access": access, **who, **times})
        return self._tokens[repositories]

    async def _connect(self, app: web.Application) -> AsyncIterator[None]:
        del app
        async with aiohttp.ClientSession(
            auto_decompress=False,
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
            timeout=aiohttp.ClientTimeout(total=120),
        ) as self._session:
            yield
