"""How are the answers of ``/api/v1`` written? As HAL: fields, ``_links`` and ``_embedded``, in bytes made once.

Values are those of the command line's JSON (docs/reference/fields.md): sizes in bytes, times in UTC, null is unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from regwarden.library_rows import Row, fields_of

PREFIX: Final = "/api/v1"
MEDIA_TYPE: Final = "application/hal+json"
# Headers of what must not be kept: secrets, and what is another at every look. There is no ETag then.
NO_STORE: Final = {"Cache-Control": "no-store"}

# Legal in a segment (RFC 3986 3.3), and easier to read as they are in digests and versions.
_SEGMENT_CHARACTERS: Final = ":@+"

Links = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Listed:
    """Rows of an answer and what is known beside them; each row already has its ``_links``."""

    rows: Iterable[Mapping[str, Any]]
    next_cursor: str | None = None
    total: int | None = None
    more: Mapping[str, Any] = field(default_factory=dict)
    links: Links = field(default_factory=dict)


@lru_cache(maxsize=20_000)
def _segment(text: str) -> str:
    return quote(text, safe=_SEGMENT_CHARACTERS)


def path_to(*segments: str) -> str:
    """The address of a thing: ``path_to("registries", "prod", "repositories", "team/app")``; names are encoded."""
    return "/".join((PREFIX, *map(_segment, segments)))


def with_query(path: str, parameters: Iterable[tuple[str, str]]) -> str:
    """``path`` with these parameters, if there are any."""
    text = urlencode(list(parameters))
    return f"{path}?{text}" if text else path


def own_path(request: Request) -> str:
    """The path and the parameters that were asked for."""
    query = request.url.query
    return f"{request.scope['path']}?{query}" if query else str(request.scope["path"])


def linked(fields: Mapping[str, Any], links: Links, embedded: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A thing as an object of HAL: its fields, its ``_links`` (name to address), what is embedded in it."""
    plain = fields_of(fields) if isinstance(fields, Row) else fields
    made: dict[str, Any] = {**plain, "_links": {name: {"href": href} for name, href in links.items()}}
    if embedded is not None:
        made["_embedded"] = embedded
    return made


def document(
    fields: Mapping[str, Any],
    links: Links,
    embedded: Mapping[str, Any] | None = None,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The answer that is one thing; ``links`` must have ``self``."""
    return answer(linked(fields, links, embedded), status=status, headers=headers)


def listing(request: Request, listed: Listed) -> Response:
    """The answer that is a page of things: links to itself and to the next page, the total where it was asked for."""
    links = {"self": own_path(request), **listed.links}
    if listed.next_cursor is not None:
        links["next"] = _next_path(request, listed.next_cursor)
    fields = dict(listed.more)
    if listed.total is not None:
        fields["total"] = listed.total
    return answer(linked(fields, links, {"items": listed.rows}))


def answer(content: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """``content`` in JSON."""
    return Response(encode(content), status, headers, media_type=MEDIA_TYPE)


def encode(content: Any) -> bytes:
    """JSON of rows, dataclasses, dictionaries; times as ISO 8601 with ``Z``."""
    return _ENCODER.encode(content)


def _next_path(request: Request, cursor: str) -> str:
    kept = [(name, value) for name, value in parse_qsl(request.url.query, keep_blank_values=True) if name != "cursor"]
    return with_query(request.scope["path"], [*kept, ("cursor", cursor)])


def _written(value: Any) -> Any:
    if isinstance(value, (Row, Mapping)):
        return dict(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        return list(value)
    return str(value)


_ENCODER: Final = msgspec.json.Encoder(enc_hook=_written)
