"""Routes that tell of the interface itself: where to begin, its description, and pages for people."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.resources import files
from typing import Final

from fastapi.routing import APIRoute
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from regwarden._version import __version__
from regwarden.errors import NotFound
from regwarden.web.api.documents import PREFIX, answer, encode, linked
from regwarden.web.api.inventory import Reader
from regwarden.web.api.openapi import describe
from regwarden.web.api.pages import render
from regwarden.web.api.parameters import Segment
from regwarden.web.api.routing import new_router, required_parameters

router = new_router("about")

_ASSETS: Final = {"style.css": "text/css; charset=utf-8"}
# No scripts at all, nothing from anywhere else.
_PAGE_POLICY: Final = (
    "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@router.get("", name="root")
@router.get("/", name="root-slash", include_in_schema=False)
async def show_root(_caller: Reader, request: Request) -> Response:
    """Say where everything begins: a link to each list and report."""
    root = linked({"version": __version__}, {"self": PREFIX, **dict(_beginnings(request.app))})
    for link in root["_links"].values():
        if "{" in link["href"]:
            link["templated"] = True
    return answer(root)


@router.get("/openapi.json", name="openapi", responses={200: {"content": {"application/json": {}}}})
async def show_description(request: Request) -> Response:
    """Show this description: OpenAPI 3.1, for programs."""
    return Response(_kept(request.app, "openapi", lambda: encode(describe(request.app))), media_type="application/json")


@router.get("/docs", name="docs", responses={200: {"content": {"text/html": {}}}})
async def show_pages(request: Request) -> Response:
    """Show this description as a page for people."""
    page = _kept(request.app, "docs", lambda: render(describe(request.app)).encode())
    return Response(page, headers={"Content-Security-Policy": _PAGE_POLICY}, media_type="text/html")


@router.get("/docs/{asset}", name="docs-asset", include_in_schema=False)
async def show_asset(asset: Segment) -> Response:
    """A file that the page needs."""
    if asset not in _ASSETS:
        raise NotFound("there is no such file")
    content = files("regwarden.web.api").joinpath("assets", asset).read_bytes()
    return Response(content, media_type=_ASSETS[asset])


def _beginnings(app: Starlette) -> Iterator[tuple[str, str]]:
    """Each list and report with its address; a template (RFC 6570) where it cannot be asked for without more words."""
    routes = [route for route in app.routes if isinstance(route, APIRoute) and route.include_in_schema]
    asked = {route.path_format: route for route in routes if "GET" in (route.methods or ())}
    for path, route in asked.items():
        listed, _, rest = path.partition("/{")
        name = listed.removeprefix(PREFIX).strip("/").replace("/", "-")
        if name and not (rest and (listed in asked or "/" in rest)):
            words = ",".join(required_parameters(route))
            yield name, f"{path}{{?{words}}}" if words else path


def _kept(app: Starlette, name: str, make: Callable[[], bytes]) -> bytes:
    """What never changes while the process runs is made once."""
    kept: dict[str, bytes] = app.state.kept
    if name not in kept:
        kept[name] = make()
    return kept[name]
