"""How does a part make its router, and which parameters does a route have?"""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from fastapi import APIRouter, Depends
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from starlette.requests import Request
from starlette.responses import Response

from regwarden.web.api.documents import PREFIX
from regwarden.web.api.problems import WrongParameter


async def refuse_unknown_parameters(request: Request) -> None:
    """A misspelled parameter must not silently mean another question. Every route has this dependency.

    Raises ``InputError`` (code ``unknown-parameter``) with the nearest name.
    """
    given = request.query_params
    if not given:
        return
    known = known_parameters(request.scope.get("route"))
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name[:80], known, n=1)
            hint = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(known) or 'none'}."
            message = f"there is no parameter {name[:80]!r} here"
            raise WrongParameter(name[:80], message, hint=hint, code="unknown-parameter")


def new_router(tag: str) -> APIRouter:
    """A router whose routes begin behind ``/api/v1``; ``tag`` is its heading in the documentation."""
    return APIRouter(
        prefix=PREFIX,
        tags=[tag],
        dependencies=[Depends(refuse_unknown_parameters)],
        redirect_slashes=False,
        default_response_class=Response,
    )


_KNOWN: dict[int, tuple[APIRoute, tuple[str, ...]]] = {}


def known_parameters(route: object) -> tuple[str, ...]:
    """The names of the parameters that a route understands behind the question mark."""
    if not isinstance(route, APIRoute):
        return ()
    found = _KNOWN.get(id(route))
    if found is None:
        found = _KNOWN[id(route)] = (route, tuple(name for name, _ in _fields(route.dependant)))
    return found[1]


def required_parameters(route: APIRoute) -> tuple[str, ...]:
    """The names of those without which nothing can be asked."""
    return tuple(name for name, field in _fields(route.dependant) if field.is_required())


def _fields(dependant: Dependant) -> Iterator[tuple[str, FieldInfo]]:
    for field in dependant.query_params:
        kind = field.field_info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from ((one.alias or name, one) for name, one in kind.model_fields.items())
        else:
            yield field.alias, field.field_info
    for one in dependant.dependencies:
        yield from _fields(one)
