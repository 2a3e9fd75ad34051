"""What answers under ``/api/v1``? The routers of ``ROUTERS`` in one application, and what all of them share.

A part adds its router to ``ROUTERS``; names are one encoded segment of a path, so routes are found by the path as it
was sent.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

from fastapi import APIRouter, FastAPI
from starlette.types import ASGIApp

from regwarden._version import __version__
from regwarden.web.api.caching import Etags
from regwarden.web.api.compression import Compressed
from regwarden.web.api.context import ApiParts
from regwarden.web.api.problems import handle_errors
from regwarden.web.api.requests import Guarded

# Modules of this package with a ``router`` made by ``routing.new_router``, in the order of the documentation.
ROUTERS: Final[tuple[str, ...]] = (
    "inventory",
    "contents",
    "exports",
    "reports",
    "gitlab",
    "crawls",
    "events",
    "pulls",
    "policies",
    "plans",
    "plan_parts",
    "plan_changes",
    "protections",
    "allow",
    "audit",
    "operations",
    "tokens",
    "about",
)


def build_api(parts: ApiParts) -> ASGIApp:
    """The application that answers requests whose path begins with ``/api/v1``, from a listener's scope."""
    return Guarded(Compressed(Etags(build_routes(parts))), parts.authenticator.authenticate)


def build_routes(parts: Any) -> FastAPI:
    """The routes alone; ``parts`` may be ``None`` where only their description is wanted."""
    app = FastAPI(
        title="Regwarden",
        version=__version__,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.parts = parts
    app.state.kept = {}
    handle_errors(app)
    for name in ROUTERS:
        router: APIRouter = import_module(f"regwarden.web.api.{name}").router
        # Not include_router: it wraps every route once more, which each request would pay for.
        app.router.routes.extend(router.routes)
    return app
