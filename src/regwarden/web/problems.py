"""How does a web answer say what went wrong? As a problem document (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import msgspec
from starlette.responses import Response

from regwarden.errors import RegwardenError

MEDIA_TYPE: Final = "application/problem+json"


def problem(
    status: int, detail: str, *, code: str = "", hint: str = "", headers: Mapping[str, str] | None = None
) -> Response:
    """An answer with this status; ``detail`` and ``hint`` are sentences for people, ``code`` is for programs."""
    content = {"title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    content |= {key: value for key, value in (("code", code), ("hint", hint)) if value}
    return Response(
        msgspec.json.encode(content), status, {"Cache-Control": "no-store", **(headers or {})}, media_type=MEDIA_TYPE
    )


def error_problem(error: RegwardenError, headers: Mapping[str, str] | None = None) -> Response:
    """The answer that tells of a deliberate error, all of it: for those who may know about the inside."""
    return problem(error.http_status, error.message, code=error.code, hint=error.hint, headers=headers)
