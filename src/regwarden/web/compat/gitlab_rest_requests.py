"""What does a request to gitlab-registry-usage-rest ask for: which resource, how many levels, links, in which form?"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote

import msgspec
from starlette.datastructures import Headers
from starlette.types import Receive

from regwarden.web.compat.gitlab_rest_writers import HAL, HTML

MAX_BODY_BYTES: Final = 64 * 1024
_BODY_SECONDS: Final = 30.0
_MAX_FIELDS: Final = 1_000
# Deeper than documents are: repositories, tags collections, tags.
_ALL_LEVELS: Final = 9
_TRUE: Final = frozenset({"true", "yes", "1", "t", "y"})
# The first /tags ends the name of the repository, unless its slashes are encoded. (The predecessor's routes.)
_ROUTE: Final = re.compile(
    r"/(?P<family>repositories|images)(?:/(?P<repository>[^/].*?)(?P<tags>/tags(?:/(?P<tag>[^/].*))?)?)?"
)
_JSON: Final = re.compile(r"application/(?:json|[\w.-]+\+json)")
_FORM: Final = "application/x-www-form-urlencoded"


class BadBody(Exception):
    """The body is not what its content type says, too large, or did not come in time."""


@dataclass(frozen=True, slots=True)
class Target:
    """A resource: the collection, a repository, its tags (``is_tags``) or one tag."""

    family: str
    repository: str | None = None
    is_tags: bool = False
    tag: str | None = None

    @property
    def path(self) -> str:
        """Its path, as errors name it: below the mount, everything encoded."""
        path = f"/{self.family}"
        if self.repository is not None:
            path += f"/{quote(self.repository, safe='')}"
        if self.is_tags:
            path += "/tags"
        if self.tag is not None:
            path += f"/{quote(self.tag, safe='')}"
        return path


def parse_target(path: str) -> Target | None:
    """The resource that ``path`` (below the mount, as it was sent) names; ``None``: there is no such route."""
    match = _ROUTE.fullmatch(path)
    if match is None:
        return None
    repository, tag = match["repository"], match["tag"]
    return Target(
        match["family"],
        None if repository is None else unquote(repository),
        match["tags"] is not None,
        None if tag is None else unquote(tag),
    )


async def read_fields(query: bytes, headers: Headers, receive: Receive) -> dict[str, str]:
    """The parameters: those of a JSON body before those of the address before those of a form.

    Raises ``BadBody``.
    """
    try:
        found = dict(reversed(parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=_MAX_FIELDS)))
    except ValueError:
        raise BadBody from None
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if _JSON.fullmatch(kind):
        return found | _json_fields(await _read_body(receive))
    if kind == _FORM:
        return _form_fields(await _read_body(receive)) | found
    return found


def parse_embed(text: str | None) -> int:
    """How many levels are embedded."""
    if text is None:
        return 0
    if text.isdecimal():
        significant = text.lstrip("0")
        return int(significant or "0") if len(significant) <= 1 else _ALL_LEVELS
    return _ALL_LEVELS if text.lower() in _TRUE else 0


def parse_links(text: str | None) -> bool:
    """Whether links are wanted."""
    return text is not None and text.lower() in _TRUE


def choose_media_type(accept: str) -> str:
    """HAL, unless HTML is preferred."""
    hal, html = (_preference(accept, offered) for offered in (HAL, HTML))
    return HTML if html > hal and html[0] > 0 else HAL


def accepts_gzip(headers: Headers) -> bool:
    """Whether the answer may be compressed."""
    weights = dict(_weighed(headers.get("accept-encoding", "")))
    return weights.get("gzip", weights.get("*", 0.0)) > 0


def _preference(accept: str, offered: str) -> tuple[float, int]:
    """The weight of the most specific range that includes a type, and how specific that is."""
    ranges = {"*/*": 0, f"{offered.partition('/')[0]}/*": 1, offered: 2}
    matching = [(ranges[name], weight) for name, weight in _weighed(accept) if name in ranges]
    specificity, weight = max(matching, default=(0, 0.0))
    return weight, specificity


def _weighed(header: str) -> list[tuple[str, float]]:
    found = []
    for part in header.split(",")[:100]:
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        weight = next((text[2:] for text in parameters if text.startswith("q=")), "1")
        found.append((name, float(weight) if re.fullmatch(r"[01](?:\.\d{0,3})?", weight) else 0.0))
    return found


def _json_fields(body: bytes) -> dict[str, str]:
    try:
        document: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        raise BadBody from None
    if not isinstance(document, Mapping):
        raise BadBody
    firsts = {name: value[0] if isinstance(value, list) and value else value for name, value in document.items()}
    return {name: str(value) for name, value in firsts.items() if value is not None}


def _form_fields(body: bytes) -> dict[str, str]:
    try:
        return dict(reversed(parse_qsl(body.decode("latin-1"), keep_blank_values=True, max_num_fields=_MAX_FIELDS)))
    except ValueError:
        raise BadBody from None


async def _read_body(receive: Receive) -> bytes:
    body = b""
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            while True:
                message = await receive()
                piece: bytes = message.get("body", b"")
                body += piece
                if len(body) > MAX_BODY_BYTES or message["type"] != "http.request":
                    raise BadBody
                if not message.get("more_body", False):
                    return body
    except TimeoutError:
        raise BadBody from None
