"""What are the short answers of gitlab-registry-usage-rest: errors, refusals, options; and the headers of them all?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from starlette.datastructures import Headers
from starlette.types import Send

from regwarden.errors import ProviderError, RegwardenError, TooManyAttempts
from regwarden.web.compat.gitlab_rest_requests import BadBody
from regwarden.web.compat.gitlab_rest_resources import Missing
from regwarden.web.compat.gitlab_rest_tokens import NoLogin, Refused
from regwarden.web.compat.gitlab_rest_writers import HAL

JSON: Final = "application/json"
HTML_TEXT: Final = "text/html; charset=utf-8"
_METHODS: Final = "GET, HEAD, OPTIONS"
_CORS_METHODS: Final = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"
_MAX_ECHO: Final = 1_000
_DIRECTORY_SECONDS: Final = 30
_DATABASE_SECONDS: Final = 5

EXPECTED: Final = (Missing, Refused, BadBody, NoLogin, RegwardenError)

HeaderLines = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Answer:
    """A short answer."""

    status: int
    body: bytes = b""
    media_type: str = JSON
    headers: HeaderLines = ()


NO_ROUTE: Final = Answer(
    404, b"<!DOCTYPE html><title>404 Not Found</title><h1>Not Found</h1><p>There is no such page.</p>", HTML_TEXT
)
OUTSIDE: Final = Answer(404, media_type="text/plain")
OPTIONS: Final = Answer(200, media_type=HTML_TEXT, headers=(("allow", _METHODS),))
WRONG_METHOD: Final = Answer(
    405,
    b'{"message":"The method is not allowed for the requested URL."}',
    HAL,
    (("allow", _METHODS),),
)
_NO_LOGIN: Final = Answer(
    401, b"Unauthorized Access", HTML_TEXT, (("www-authenticate", 'Basic realm="Authentication Required"'),)
)


def token_answer(token: str) -> Answer:
    """What /auth_token gives."""
    return Answer(200, msgspec.json.encode({"auth_token": token}), headers=(("cache-control", "no-store"),))


def redirect(path: str, query: bytes) -> Answer:
    """The same resource, written with single slashes."""
    location = f"{path}?{query.decode('latin-1')}" if query else path
    return Answer(308, b"", HTML_TEXT, (("location", location),))


def answer_to(error: Exception) -> Answer:
    """What one of ``EXPECTED`` is answered with; says nothing about the inside."""
    if isinstance(error, Missing):
        return Answer(404, _message(f'The resource "{error.path}" does not exist'))
    if isinstance(error, Refused):
        return Answer(error.status, msgspec.json.encode({"msg": error.message}))
    if isinstance(error, BadBody):
        return Answer(400, _message("The body of the request cannot be understood."), HAL)
    if isinstance(error, NoLogin):
        return _NO_LOGIN
    if isinstance(error, TooManyAttempts):
        return _later(429, "There were too many attempts.", error.retry_after_seconds)
    if isinstance(error, ProviderError):
        return _later(503, "The directory cannot be asked at the moment.", _DIRECTORY_SECONDS)
    return _later(503, "This cannot be done at the moment.", _DATABASE_SECONDS)


def cross_origin(method: str, headers: Headers) -> HeaderLines:
    """Every origin may ask, and with every header."""
    origin = headers.get("origin", "")
    if not origin or len(origin) > _MAX_ECHO:
        return (("access-control-allow-origin", "*"),)
    lines = [("access-control-allow-origin", origin), ("vary", "Origin")]
    if method == "OPTIONS" and "access-control-request-method" in headers:
        lines.append(("access-control-allow-methods", _CORS_METHODS))
        asked = headers.get("access-control-request-headers", "")
        lines += [("access-control-allow-headers", asked)] if 0 < len(asked) <= _MAX_ECHO else []
    return lines


def start_message(status: int, headers: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """The first message of an answer."""
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    return {"type": "http.response.start", "status": status, "headers": encoded}


async def send_answer(send: Send, answer: Answer, extra: HeaderLines, *, is_head: bool) -> None:
    """Send a short answer."""
    length = ("content-length", str(len(answer.body)))
    await send(start_message(answer.status, [("content-type", answer.media_type), length, *answer.headers, *extra]))
    await send({"type": "http.response.body", "body": b"" if is_head else answer.body})


def _message(text: str) -> bytes:
    return msgspec.json.encode({"message": text})


def _later(status: int, message: str, seconds: int) -> Answer:
    return Answer(status, _message(message), headers=(("retry-after", str(seconds)),))
