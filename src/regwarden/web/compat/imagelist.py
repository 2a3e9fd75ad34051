"""What does imagelist's interface answer? Its routes, statuses and bodies, on the entries of the allow-list.

Errors have no body, as its clients know them; only a route that does not exist is told in words.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import parse_qsl, quote

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from regwarden import clock
from regwarden.core.access import Permission
from regwarden.core.imagelist_request import parse_put_request
from regwarden.errors import Forbidden, InputError, RegwardenError, TooManyAttempts, Unauthorized
from regwarden.identity.tokens_file import TokensFile
from regwarden.settings_access import ImagelistSettings
from regwarden.store.connections import Connection
from regwarden.store.database import Database
from regwarden.store.imagelist import ImagelistImage, delete_image, find_image, list_images, ping, put_image
from regwarden.web.api.context import Authenticator
from regwarden.web.attempts import Attempts
from regwarden.web.bodies import BodyReader
from regwarden.web.compat.imagelist_access import Gate

MAX_BODY_BYTES: Final = 4 * 1024 * 1024
_IMAGES: Final = "/images"
_PING: Final = "/health/ping"
_JSON: Final = "application/json; charset=utf-8"

log = structlog.get_logger("regwarden.imagelist")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagelistParts:
    """What the interface works with, given by the service.

    ``tokens`` are those of imagelist's tokens file, None where none is named. ``wake`` tells the allow-list of this
    process that it has changed.
    """

    database: Database
    settings: ImagelistSettings
    authenticator: Authenticator
    attempts: Attempts
    tokens: TokensFile | None
    wake: Callable[[], None]


def imagelist_app(parts: ImagelistParts, *, mount: str = "") -> ASGIApp:
    """The interface as an application; ``mount`` is the path under which it lives, and does not stand in requests."""
    return _Imagelist(parts, mount)


class _Imagelist:
    """The routes."""

    def __init__(self, parts: ImagelistParts, mount: str) -> None:
        self._parts = parts
        self._mount = mount
        self._gate = Gate(parts.settings, parts.tokens, parts.authenticator, parts.attempts)
        self._bodies = BodyReader(max_body_bytes=MAX_BODY_BYTES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        answer, argument = self._route(scope["method"], scope["path"])
        request = Request(scope, receive)
        try:
            response = await answer(request, argument)
        except RegwardenError as error:
            response = self._refusal(error)
        if response is not None:
            await response(scope, receive, send)

    def _route(self, method: str, path: str) -> tuple[_Answer, str]:
        """Who answers, and the id in the path: everything behind /images/, its slashes too."""
        if path == _IMAGES and method in self._on_all:
            return self._on_all[method], ""
        if path == f"{_IMAGES}/" and method in _REDIRECTED:
            return self._redirect, _IMAGES
        if path.startswith(f"{_IMAGES}/") and path != f"{_IMAGES}/" and method in self._on_one:
            return self._on_one[method], path.removeprefix(f"{_IMAGES}/")
        if path.rstrip("/") == _PING and method == "GET":
            return (self._ping, "") if path == _PING else (self._redirect, _PING)
        return _nowhere, ""

    @property
    def _on_all(self) -> Mapping[str, _Answer]:
        return {"GET": self._list, "PUT": self._put}

    @property
    def _on_one(self) -> Mapping[str, _Answer]:
        return {"GET": self._get, "DELETE": self._delete}

    async def _list(self, request: Request, _argument: str) -> Response:
        await self._gate.admit(request, Permission.ALLOW_READ)
        query = _first_values(request.scope["query_string"])
        name, sort = query.get("name", ""), query.get("sort", "")

        def encode(connection: Connection) -> bytes:
            return b"[" + b",".join(_encode(image) for image in list_images(connection, name=name, sort=sort)) + b"]"

        return _json(await self._parts.database.read(encode))

    async def _get(self, request: Request, image_id: str) -> Response:
        await self._gate.admit(request, Permission.ALLOW_READ)
        image = await self._parts.database.read(lambda connection: find_image(connection, image_id))
        return Response(status_code=404) if image is None else _json(_encode(image))

    async def _put(self, request: Request, _argument: str) -> Response | None:
        principal = await self._gate.admit(request, Permission.ALLOW_WRITE)
        body = await self._bodies.read(request.receive)
        if body is None:
            return None
        if body.reason:
            return Response(status_code=413)
        wanted = parse_put_request(body.content)
        now = clock.now()
        image = await self._parts.database.write(
            lambda connection: put_image(connection, wanted, principal=principal, now=now), urgent=True
        )
        self._parts.wake()
        return _json(_encode(image))

    async def _delete(self, request: Request, image_id: str) -> Response:
        principal = await self._gate.admit(request, Permission.ALLOW_WRITE)
        now = clock.now()
        await self._parts.database.write(
            lambda connection: delete_image(connection, image_id, principal=principal, now=now), urgent=True
        )
        self._parts.wake()
        return Response(status_code=204)

    async def _ping(self, _request: Request, _argument: str) -> Response:
        await self._parts.database.read(ping)
        return Response()

    async def _redirect(self, request: Request, path: str) -> Response:
        query = request.scope["query_string"].decode("ascii", "replace")
        location = quote(f"{self._mount}{path}") + (f"?{quote(query, safe=_QUERY_CHARACTERS)}" if query else "")
        return Response(status_code=301 if request.method == "GET" else 307, headers={"Location": location})

    def _refusal(self, error: RegwardenError) -> Response:
        """The answer to what could not be done. What stands in ``error`` is for the log."""
        if isinstance(error, InputError):
            return Response(status_code=400)
        if isinstance(error, Unauthorized):
            # imagelist never said which credentials it wants.
            challenge = {} if self._parts.tokens is not None else {"WWW-Authenticate": 'Bearer realm="regwarden"'}
            return Response(status_code=401, headers=challenge)
        if isinstance(error, Forbidden):
            return Response(status_code=403)
        if isinstance(error, TooManyAttempts):
            return Response(status_code=429, headers={"Retry-After": str(error.retry_after_seconds)})
        if error.code in _BODY_TROUBLES:
            return Response(status_code=503, headers={"Retry-After": "5"})
        log.error("a request failed", reason=error.message, code=error.code)
        return Response(status_code=500)


_Answer = Callable[[Request, str], Awaitable[Response | None]]
_REDIRECTED: Final = frozenset({"GET", "PUT", "DELETE"})
# What may stand in a query as it is (RFC 3986 3.4), and the percent of what is encoded already.
_QUERY_CHARACTERS: Final = "/?:@!$&'()*+,;=-._~%"
_BODY_TROUBLES: Final = frozenset({"intake-slow", "intake-full"})


async def _nowhere(_request: Request, _argument: str) -> Response:
    # Without a charset, as the router of Go's gin said it.
    return Response("404 page not found", 404, {"Content-Type": "text/plain"})


def _first_values(query_string: bytes) -> dict[str, str]:
    """The parameters of a query; of one given twice the first."""
    pairs = parse_qsl(query_string.decode("ascii", "replace"), keep_blank_values=True, errors="replace")
    return dict(reversed(pairs))


def _encode(image: ImagelistImage) -> bytes:
    shown: dict[str, Any] = {
        "created_at": _moment(image.created_at),
        "updated_at": _moment(image.updated_at),
        "id": image.id,
        "name": image.name,
    }
    if image.tags:
        shown["tags"] = image.tags
    return msgspec.json.encode(shown)


def _moment(moment: datetime) -> str:
    return f"{moment.replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


def _json(content: bytes) -> Response:
    return Response(content, 200, {"Content-Type": _JSON})
