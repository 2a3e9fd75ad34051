"""In what form does GitLab answer and refuse? Bodies of errors, times, and the parameters of a request."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from tests.gitlab_double.faults import oauth_refusal


class Refused(Exception):
    """A request that gets another answer than it wanted."""

    def __init__(self, answer: web.Response) -> None:
        super().__init__(answer.status)
        self.answer = answer


def refuse(status: int, text: str) -> Refused:
    """A refusal with the key ``message``."""
    return Refused(web.json_response({"message": f"{status} {text}"}, status=status))


def invalid(text: str, *, status: int = 400) -> Refused:
    """A refusal of a parameter, with the key ``error``."""
    return Refused(web.json_response({"error": text}, status=status))


def unauthorized() -> Refused:
    return refuse(401, "Unauthorized")


def forbidden(reason: str = "") -> Refused:
    return refuse(403, f"Forbidden - {reason}" if reason else "Forbidden")


def bad_token(text: str) -> Refused:
    """An expired or revoked token."""
    return Refused(oauth_refusal("invalid_token", text))


def insufficient_scope(scopes: tuple[str, ...]) -> Refused:
    """A token without any of these scopes."""
    text = "The request requires higher privileges than provided by the access token."
    return Refused(oauth_refusal("insufficient_scope", text, status=403, scope=" ".join(scopes)))


def accepted(status: int) -> web.Response:
    """The answer to a removal: a bare number, which nobody should rely on."""
    return web.json_response(status, status=status)


def time_text(moment: datetime | None) -> str | None:
    """With milliseconds and ``Z``."""
    return None if moment is None else f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z"


def offset_time_text(moment: datetime | None) -> str | None:
    """With milliseconds and ``+00:00``, as the dates of tags are written."""
    text = time_text(moment)
    return None if text is None else text.removesuffix("Z") + "+00:00"


def truth(values: Mapping[str, str], name: str, *, default: bool = False) -> bool:
    """A parameter that is true or false."""
    text = values.get(name)
    if text is None or text == "":
        return default
    if text.lower() in {"true", "1", "t", "on", "yes"}:
        return True
    if text.lower() in {"false", "0", "f", "off", "no"}:
        return False
    raise invalid(f"{name} is invalid")


def number(values: Mapping[str, Any], name: str, default: int) -> int:
    """A parameter that is a number."""
    value = values.get(name)
    if value is None:
        return default
    try:
        return int(value)
    except (TypeError, ValueError):
        raise invalid(f"{name} is invalid") from None


async def parameters(request: web.Request) -> dict[str, Any]:
    """Those of the query and of the body, which may be JSON or a form."""
    found: dict[str, Any] = dict(request.query)
    if not request.can_read_body:
        return found
    if request.content_type == "application/json":
        try:
            sent = json.loads(await request.text())
        except ValueError:
            raise invalid("400 Bad Request") from None
        return found | sent if isinstance(sent, dict) else found
    return found | dict(await request.post())
