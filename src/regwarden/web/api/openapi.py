"""How is the interface described to programs? As OpenAPI 3.1, made from the routes, with everything they all answer."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Any, Final

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from regwarden.web.api.context import PUBLIC
from regwarden.web.api.documents import MEDIA_TYPE, PREFIX
from regwarden.web.problems import MEDIA_TYPE as PROBLEM_TYPE

_DESCRIPTION: Final = """\
Everything that the command line can ask or do. Answers are HAL: `_links` lead on, `_embedded` holds entries.
Send a token with every request: `Authorization: Bearer TOKEN`. `regwarden token create` makes one.
Names with slashes are one encoded segment of a path: `team%2Fapp`. Sizes are bytes, times are UTC, null is unknown.
Lists take the conditions and orders of the command line; follow the link `next` for more.
What you may not see is as if it were not there. Errors are problem documents (RFC 9457).
"""
_PROBLEMS: Final = {
    "400": "The request cannot be understood; `errors` names the fields.",
    "401": "Nobody has shown who they are.",
    "403": "You may not do this.",
    "404": "There is no such thing, or you may not see it.",
    "429": "Too many requests; `Retry-After` says when to come again.",
    "431": "The address and the header are larger than 64 KiB together.",
    "503": "The database, or something else that is needed, cannot be asked at present.",
}
_OBJECT_TYPES: Final = ("/json", "+json", "/yaml")
_PUBLIC_PROBLEMS: Final = ("400", "404", "431")
_CHANGING: Final = {
    "409": "It does not fit the present state.",
    "413": "The body is too large.",
    "502": "A registry could not be asked.",
}
_SUCCESSES: Final = {
    "200": "What was asked for.",
    "201": "It was made; `Location` says where it is.",
    "202": "It has begun; `Location` says where to watch it, and where its result will be.",
    "204": "It was done.",
}
_LINKS_SCHEMA: Final = {
    "type": "object",
    "required": ["self"],
    "additionalProperties": {"$ref": "#/components/schemas/Link"},
    "description": "What leads on, by name.",
}
_ROW_SCHEMA: Final = {
    "type": "object",
    "properties": {"_links": {**_LINKS_SCHEMA, "required": []}},
}
_SCHEMAS: Final[dict[str, Any]] = {
    "Link": {
        "type": "object",
        "required": ["href"],
        "properties": {"href": {"type": "string"}, "templated": {"type": "boolean"}},
    },
    "Document": {
        "type": "object",
        "description": "One thing: its fields, and what may be embedded in it.",
        "required": ["_links"],
        "properties": {"_links": _LINKS_SCHEMA, "_embedded": {"type": "object"}},
    },
    "List": {
        "type": "object",
        "description": "A page of a list; there is a link `next` where it goes on.",
        "required": ["_links", "_embedded"],
        "properties": {
            "_links": _LINKS_SCHEMA,
            "_embedded": {
                "type": "object",
                "required": ["items"],
                "properties": {"items": {"type": "array", "items": _ROW_SCHEMA}},
            },
            "total": {"type": "integer", "minimum": 0, "description": "How many there are in all, where asked for."},
            "unknown_count": {
                "type": "integer",
                "minimum": 0,
                "description": "How many were left out because a condition could not decide, where asked for.",
            },
        },
    },
}
_PROBLEM_SCHEMA: Final = {
    "type": "object",
    "description": "What went wrong (RFC 9457).",
    "example": {
        "title": "Bad Request",
        "status": 400,
        "detail": "limit: Input should be less than or equal to 1000",
        "code": "bad-request",
        "errors": [{"field": "limit", "message": "Input should be less than or equal to 1000"}],
    },
    "required": ["title", "status", "detail"],
    "properties": {
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "One sentence about what happened."},
        "code": {"type": "string", "description": "Names the error for programs; it never changes."},
        "hint": {"type": "string", "description": "One sentence about what to do."},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "message"],
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}


def describe(app: FastAPI) -> dict[str, Any]:
    """The document, for the routes of ``app``."""
    document: dict[str, Any] = get_openapi(
        title=app.title,
        version=app.version,
        openapi_version="3.1.0",
        description=_DESCRIPTION,
        routes=app.routes,
    )
    components = document.setdefault("components", {})
    components["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "A robot token, or an access token of /auth."}
    }
    schemas = components.setdefault("schemas", {})
    schemas |= {**_SCHEMAS, "Problem": _PROBLEM_SCHEMA}
    examples = msgspec.json.decode(files("regwarden.web.api").joinpath("assets", "examples.json").read_bytes())
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for route in app.routes:
        if isinstance(route, APIRoute) and route.include_in_schema:
            for method in route.methods or ():
                operation = document["paths"][route.path_format][method.lower()]
                _complete(operation, method, is_public=route.name in PUBLIC)
                path = route.path_format.removeprefix(PREFIX)
                _illustrate(operation, examples.get(f"{method} {path}".strip(), {}))
    return document


def _complete(operation: dict[str, Any], method: str, *, is_public: bool) -> None:
    """Add what FastAPI cannot know: who may ask, which problems there may be, the media type of what succeeds."""
    summary, _, rest = operation.pop("description", operation["summary"]).partition("\n\n")
    operation["summary"] = summary.replace("\n", " ")
    if rest:
        operation["description"] = rest
    answers: dict[str, Any] = operation["responses"]
    answers.pop("422", None)
    if not is_public:
        operation["security"] = [{"bearer": []}]
    for status, found in answers.items():
        if status in _SUCCESSES:
            found["description"] = _SUCCESSES[status]
            if status != "204" and not found.get("content"):
                found["content"] = {MEDIA_TYPE: {}}
    if method == "GET":
        answers.setdefault("304", {"description": "You have it already (`If-None-Match`)."})
    problems = {status: _PROBLEMS[status] for status in _PUBLIC_PROBLEMS} if is_public else dict(_PROBLEMS)
    if method != "GET":
        problems |= _CHANGING
    for status, sentence in problems.items():
        answers.setdefault(status, {"description": sentence}).setdefault("content", _problem_content())
    operation["responses"] = dict(sorted(answers.items()))


def _illustrate(operation: dict[str, Any], example: Mapping[str, Any]) -> None:
    """Add what is sent and answered, as a service did once, and the form that such answers have."""
    shown = example.get("answer")
    for status, answer in operation["responses"].items():
        if not status.startswith("2"):
            continue
        for place, (media_type, content) in enumerate(answer.get("content", {}).items()):
            if media_type == MEDIA_TYPE:
                is_list = "items" in (shown or {}).get("_embedded", {})
                content["schema"] = {"$ref": f"#/components/schemas/{'List' if is_list else 'Document'}"}
            elif media_type == "text/event-stream":
                content["schema"] = {"description": "Server-sent events; the data of each is JSON."}
            else:
                content["schema"] = {"type": "object" if media_type.endswith(_OBJECT_TYPES) else "string"}
            if shown is not None and place == 0:
                content["example"] = shown
    if "body" in example:
        for content in operation["requestBody"]["content"].values():
            content["example"] = example["body"]


def _problem_content() -> dict[str, Any]:
    return {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
