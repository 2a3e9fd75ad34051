"""What do the answers of a registry look like? Bodies and headers as Distribution 2.8 writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, unquote

from aiohttp import web

API_HEADERS: Final = {"Docker-Distribution-Api-Version": "registry/2.0", "Server": "sample-registry"}
_JSON: Final = "application/json; charset=utf-8"
_TEXT: Final = "text/plain; charset=utf-8"

_MESSAGES: Final = {
    "BLOB_UNKNOWN": "blob unknown to registry",
    "BLOB_UPLOAD_UNKNOWN": "blob upload unknown to registry",
    "DENIED": "requested access to the resource is denied",
    "DIGEST_INVALID": "provided digest did not match uploaded content",
    "MANIFEST_BLOB_UNKNOWN": "blob unknown to registry",
    "MANIFEST_INVALID": "manifest invalid",
    "MANIFEST_REFERENCED": "manifest is referenced by another manifest",
    "MANIFEST_UNKNOWN": "manifest unknown",
    "NAME_UNKNOWN": "repository name not known to registry",
    "PAGINATION_NUMBER_INVALID": "invalid number of results requested",
    "RANGE_INVALID": "invalid content range",
    "UNAUTHORIZED": "authentication required",
    "UNKNOWN": "unknown error",
    "UNSUPPORTED": "The operation is unsupported.",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One entry of an error body; an absent ``detail`` is left out, and no ``message`` means the usual one."""

    code: str
    detail: object = None
    message: str = ""

    def as_json(self) -> dict[str, Any]:
        """The entry as a JSON object."""
        entry: dict[str, Any] = {"code": self.code, "message": self.message or _MESSAGES[self.code]}
        if self.detail is not None:
            entry["detail"] = self.detail
        return entry


def error_body(*problems: Problem) -> bytes:
    """The error document of the distribution specification ("Error Codes")."""
    return json.dumps({"errors": [problem.as_json() for problem in problems]}, separators=(",", ":")).encode() + b"\n"


def refuse(status: int, *problems: Problem, headers: Mapping[str, str] | None = None) -> web.Response:
    """An error answer in JSON."""
    return web.Response(
        status=status, body=error_body(*problems), headers={**API_HEADERS, "Content-Type": _JSON, **(headers or {})}
    )


def answer_json(document: object, headers: Mapping[str, str] | None = None) -> web.Response:
    """A 200 answer in JSON."""
    body = json.dumps(document, separators=(",", ":")).encode() + b"\n"
    return web.Response(body=body, headers={**API_HEADERS, "Content-Type": _JSON, **(headers or {})})


def answer_empty(status: int, headers: Mapping[str, str] | None = None) -> web.Response:
    """An answer without a body."""
    return web.Response(status=status, headers={**API_HEADERS, **(headers or {})})


def page_not_found() -> web.Response:
    """Distribution's plain-text answer to an unknown route or an invalid name."""
    headers = {**API_HEADERS, "Content-Type": _TEXT, "X-Content-Type-Options": "nosniff"}
    return web.Response(status=404, body=b"404 page not found\n", headers=headers)


def method_not_allowed(*allowed: str) -> web.Response:
    """Distribution's plain-text answer to a method that the route does not have."""
    headers = {**API_HEADERS, "Content-Type": _TEXT, "Allow": ", ".join(allowed)}
    return web.Response(status=405, body=b"Method not allowed\n", headers=headers)


def next_link(path: str, *, last: str, limit: int) -> dict[str, str]:
    """The ``Link`` header to the page after ``last``: a relative reference."""
    return {"Link": f'<{path}?last={quote(last, safe="")}&n={limit}>; rel="next"'}


def query_parameters(raw_query: str) -> dict[str, str]:
    """The parameters of a query, the last of each name."""
    pairs = (part.partition("=") for part in raw_query.split("&") if part)
    return {unquote(name): unquote(value.replace("+", " ")) for name, _, value in pairs}
