"""imagelist's interface on a real listener, and a client that says exactly what it is told."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from starlette.requests import Request
from yarl import URL

from regwarden.core.access import Area, Grant, Principal, PrincipalKind, Role
from regwarden.core.patterns import parse_pattern
from regwarden.errors import Unauthorized
from regwarden.identity.tokens_file import TokensFile
from regwarden.settings_access import ImagelistSettings
from regwarden.settings_sections import parse_listen_address
from regwarden.store.database import Database
from regwarden.web.attempts import Attempts
from regwarden.web.compat.imagelist import ImagelistParts, imagelist_app
from regwarden.web.listening import bound, serving, shown_address
from regwarden.web.mounting import strip_prefix

OPEN = ImagelistSettings(unauthenticated_reads=True, unauthenticated_writes=True)
CLOSED = ImagelistSettings()


TOKENS = """
tokens:
  - {name: ci, token: s3cret, is_disabled: false, description: the pipeline}
  - {name: old, token: 0ld, is_disabled: true}
  - {token: "ünnamed"}
"""


class FakeAuthenticator:
    """``Bearer <role>`` is a robot token with that role, ``Bearer part`` an operator of some repositories."""

    async def authenticate(self, request: Request) -> Principal:
        name = request.headers.get("authorization", "").removeprefix("Bearer ")
        if name == "part":
            grants = (Grant(Role.OPERATOR, Area(repositories=(parse_pattern("glob:team/**"),))),)
        elif name in set(Role):
            grants = (Grant(Role(name)),)
        else:
            raise Unauthorized("unknown")
        return Principal(id=f"token:{name}", name=f"robot {name}", kind=PrincipalKind.TOKEN, grants=grants)


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


@dataclass
class Server:
    """A listener at ``address``; ``woken`` counts how often the allow-list was told of a change."""

    address: str
    session: aiohttp.ClientSession
    woken: list[None] = field(default_factory=list)

    async def ask(self, method: str, path: str, body: bytes | io.BytesIO | None = None, **headers: str) -> Answer:
        """One request, redirects not followed; ``path`` is sent as it is."""
        url = URL(f"{self.address}{path}", encoded=True)
        asked = self.session.request(method, url, data=body, headers=headers, allow_redirects=False)
        async with asked as response:
            lowered = {key.lower(): value for key, value in response.headers.items()}
            return Answer(response.status, lowered, await response.read())

    async def put(self, image_id: str, name: str, *tags: str, **headers: str) -> Answer:
        body = msgspec.json.encode({"id": image_id, "name": name, "tags": tags})
        return await self.ask("PUT", "/images", body, **headers)


@asynccontextmanager
async def imagelist_server(
    database: Database,
    settings: ImagelistSettings = OPEN,
    *,
    mount: str = "",
    wake: Callable[[], None] = lambda: None,
) -> AsyncIterator[Server]:
    """Serve it while the block lasts."""
    woken = list[None]()
    tokens = TokensFile(Path(settings.tokens_file), needs_roles=False) if settings.tokens_file else None
    if tokens is not None:
        tokens.reload()

    def woken_by() -> None:
        woken.append(None)
        wake()

    parts = ImagelistParts(
        database=database,
        settings=settings,
        authenticator=FakeAuthenticator(),
        attempts=Attempts(),
        tokens=tokens,
        wake=woken_by,
    )
    app = imagelist_app(parts, mount=mount)

    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        await app(strip_prefix(scope, mount), receive, send)

    with bound(parse_listen_address("127.0.0.1:0")) as listeners:
        async with (
            serving(mounted if mount else app, listeners, None),
            aiohttp.ClientSession(skip_auto_headers=["Content-Type"]) as session,
        ):
            yield Server(shown_address(listeners[0], is_tls=False), session, woken)
