"""The interface of gitlab-registry-usage-rest: what does each route answer, and to whom?

Its answers are kept, row by row, in tests/web/compat/test_gitlab_rest.py; where they differ on purpose the how-to page
docs/how-to/from-gitlab-registry-usage-rest.md says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from regwarden import clock
from regwarden.core.access import Permission, Reach, reach
from regwarden.core.quantities import parse_duration
from regwarden.core.role_rules import parse_rule
from regwarden.settings import Settings
from regwarden.settings_checks import shown_registry
from regwarden.store.connections import Connection
from regwarden.store.database import Database
from regwarden.web.compat import gitlab_rest_answers as answers
from regwarden.web.compat.gitlab_rest_answers import Answer
from regwarden.web.compat.gitlab_rest_documents import Shape, TagPages
from regwarden.web.compat.gitlab_rest_requests import (
    Target,
    accepts_gzip,
    choose_media_type,
    parse_embed,
    parse_links,
    parse_target,
    read_fields,
)
from regwarden.web.compat.gitlab_rest_resources import Wanted, begin_walk
from regwarden.web.compat.gitlab_rest_stream import Channel, Telling, send_parts
from regwarden.web.compat.gitlab_rest_tokens import Attempts, Authentication, Directory, Tokens
from regwarden.web.compat.gitlab_rest_writers import HTML, HtmlWriter, JsonWriter
from regwarden.web.mounting import is_below, raw_path

_AUTH_TOKEN: Final = "/auth_token"  # noqa: S105 -- a path


@dataclass(frozen=True, slots=True, kw_only=True)
class GitlabRestParts:
    """What the interface works with: the one registry that it shows, and who decides who may ask."""

    database: Database
    registry: str
    tokens: Tokens


def open_gitlab_rest(
    database: Database,
    settings: Settings,
    *,
    authentication: Authentication,
    attempts: Attempts,
    directory: Directory | None,
    now: Callable[[], datetime] = clock.now,
) -> GitlabRestParts:
    """The parts, by the settings. Raises ``InputError`` where it is not clear which registry is meant."""
    registry = shown_registry(settings)
    tokens = Tokens(
        database=database,
        registry=registry,
        authentication=authentication,
        attempts=attempts,
        directory=directory,
        rules=[parse_rule(rule) for rule in settings.role],
        lifetime=parse_duration(settings.compat.gitlab_registry_usage_rest.token_lifetime),
        now=now,
    )
    return GitlabRestParts(database=database, registry=registry, tokens=tokens)


def gitlab_rest_app(parts: GitlabRestParts, *, mount: str) -> ASGIApp:
    """The application below the path ``mount`` (``/`` is the root), with links that include it.

    It is given whole paths, with ``raw_path``. What lies outside is an empty 404.
    """
    return _Interface(parts, mount.rstrip("/"))


class _Interface:
    def __init__(self, parts: GitlabRestParts, mount: str) -> None:
        self._parts = parts
        self._mount = mount

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        path, is_head = raw_path(scope).decode("ascii"), scope["method"] == "HEAD"
        if not is_below(path, self._mount):
            await answers.send_answer(send, answers.OUTSIDE, (), is_head=is_head)
            return
        extra = answers.cross_origin(scope["method"], Headers(scope=scope))
        answer = await self._answer(Request(scope), path[len(self._mount) :], Channel(receive, send, is_head=is_head))
        if answer is not None:
            await answers.send_answer(send, answer, extra, is_head=is_head)

    async def _answer(self, request: Request, path: str, channel: Channel) -> Answer | None:
        """A short answer; ``None`` if a document has been sent."""
        path = "/" + path.lstrip("/")
        merged = re.sub("//+", "/", path)
        target = parse_target(merged)
        if target is None and merged != _AUTH_TOKEN:
            return answers.NO_ROUTE
        if merged != path:
            return answers.redirect(self._mount + merged, request.scope["query_string"])
        if request.method not in {"GET", "HEAD"}:
            return answers.OPTIONS if request.method == "OPTIONS" else answers.WRONG_METHOD
        try:
            if target is None:
                return answers.token_answer(await self._parts.tokens.issue(request))
            principal = await self._parts.tokens.admit(request)
            await self._tell(request, channel, target, reach(principal, Permission.INVENTORY_READ))
        except answers.EXPECTED as error:
            return answers.answer_to(error)
        return None

    async def _tell(self, request: Request, channel: Channel, target: Target, granted: Reach) -> None:
        fields = await read_fields(request.scope["query_string"], request.headers, channel.receive)
        collection = f"{self._mount}/{target.family}"
        shape = Shape(collection, parse_embed(fields.get("embed")), parse_links(fields.get("links")))
        writer = HtmlWriter() if choose_media_type(request.headers.get("accept", "")) == HTML else JsonWriter()
        wanted = Wanted(self._parts.registry, target, granted, shape)
        is_compressed = accepts_gzip(request.headers)

        def begin(connection: Connection) -> tuple[Telling, bytes]:
            pages = TagPages()
            telling = Telling(begin_walk(connection, wanted, writer, pages), writer, pages, is_compressed=is_compressed)
            return telling, telling(connection)

        telling, first = await self._parts.database.read(begin)

        def start(length: int | None) -> dict[str, Any]:
            headers = [("content-type", telling.media_type), ("vary", "Accept-Encoding")]
            headers += answers.cross_origin(request.method, request.headers)
            headers += [("content-encoding", "gzip")] if telling.is_compressed else []
            headers += [] if length is None else [("content-length", str(length))]
            return answers.start_message(200, headers)

        await send_parts(telling, first, self._parts.database, start, channel)
