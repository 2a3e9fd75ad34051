"""How do errors of ``/api/v1`` become problem documents: which status, which headers, which field was wrong?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from regwarden.core.text import printable
from regwarden.errors import InputError, RegwardenError, StoreError, TooManyAttempts, Unauthorized
from regwarden.web.problems import MEDIA_TYPE, problem

_SHOWN_CHARACTERS: Final = 200
_MOST_FIELDS: Final = 50
_RETRY_SECONDS: Final = "5"
# Where a wrong value stood, for people; a body is named by its fields alone.
_PLACES: Final = frozenset({"query", "path", "body", "header"})

log = structlog.get_logger("regwarden.api")


class WrongParameter(InputError):
    """One parameter or field is wrong; ``field`` is its name."""

    def __init__(self, field: str, message: str, *, hint: str = "", code: str | None = None) -> None:
        super().__init__(message, hint=hint, code=code)
        self.field = field


def handle_errors(app: FastAPI) -> None:
    """Answer every error of ``app`` with a problem document."""
    app.add_exception_handler(RegwardenError, _deliberate)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(Exception, _unforeseen)


def error_answer(error: RegwardenError) -> Response:
    """The problem document of a deliberate error, with the headers that belong to its status."""
    headers: dict[str, str] = {}
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = 'Bearer realm="regwarden"'
    elif isinstance(error, TooManyAttempts):
        headers["Retry-After"] = str(error.retry_after_seconds)
    elif isinstance(error, StoreError):
        # What the database said names files and hosts; it is for the log.
        log.error("the database failed", reason=error.message, code=error.code)
        headers["Retry-After"] = _RETRY_SECONDS
        return problem(error.http_status, "the database cannot be asked at present", code=error.code, headers=headers)
    elif error.http_status == 503:
        headers["Retry-After"] = _RETRY_SECONDS
    if isinstance(error, WrongParameter):
        return _problem_of_fields(error, [{"field": error.field, "message": error.message}])
    return problem(
        error.http_status,
        printable(error.message, 1000),
        code=error.code,
        hint=printable(error.hint, 1000),
        headers=headers,
    )


def _problem_of_fields(error: InputError, fields: Sequence[Mapping[str, str]]) -> Response:
    content: dict[str, Any] = {
        "title": "Bad Request",
        "status": 400,
        "detail": error.message,
        "code": error.code,
        **({"hint": error.hint} if error.hint else {}),
        "errors": list(fields),
    }
    return Response(msgspec.json.encode(content), 400, {"Cache-Control": "no-store"}, media_type=MEDIA_TYPE)


async def _deliberate(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RegwardenError)  # noqa: S101 -- as registered
    return error_answer(error)


async def _invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 -- as registered
    fields = [_wrong_field(one) for one in error.errors()[:_MOST_FIELDS]]
    first = fields[0] if fields else {"field": "", "message": "it cannot be understood"}
    message = f"{first['field'] or 'the body'}: {first['message']}"
    return _problem_of_fields(InputError(message, code="bad-request"), fields)


def _wrong_field(one: Mapping[str, Any]) -> dict[str, str]:
    """The name of what was wrong and why; never its value, which may be a secret."""
    place = one["loc"][1:] if one["loc"] and one["loc"][0] in _PLACES else one["loc"]
    name = ".".join(str(part) for part in place if not (one["type"] == "json_invalid" and isinstance(part, int)))
    message = str(one["msg"]).removeprefix("Value error, ")
    return {"field": printable(name, _SHOWN_CHARACTERS), "message": printable(message, _SHOWN_CHARACTERS)}


async def _refused(request: Request, error: Exception) -> Response:
    """What Starlette and FastAPI refuse by themselves: no such path, no such method, a body that is no JSON."""
    assert isinstance(error, HTTPException)  # noqa: S101 -- as registered
    if error.status_code == 404:
        return problem(404, "there is nothing here", code="not-found")
    if error.status_code == 405:
        headers = {"Allow": ", ".join(_allowed_methods(request))}
        return problem(405, "this method is not possible here", code="method-not-allowed", headers=headers)
    if error.status_code == 413:
        return problem(413, str(error.detail), code="body-too-large")
    return problem(error.status_code, "the request cannot be understood", code="bad-request")


def _allowed_methods(request: Request) -> list[str]:
    """The methods of every route with this path, not only of the first."""
    found: set[str] = set()
    for route in request.app.routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            found |= getattr(route, "methods", None) or set()
    return sorted(found | {"HEAD"} if "GET" in found else found)


async def _unforeseen(_request: Request, _error: Exception) -> Response:
    """The server logs the error; who asked learns nothing of it."""
    return problem(500, "something went wrong here; the log of the service says what", code="internal")
