"""Routes that show manifests and blobs: lists, and who holds or needs the content with a digest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import Query
from starlette.requests import Request
from starlette.responses import Response

from regwarden.library import Inventory
from regwarden.library_rows import Row
from regwarden.web.api.documents import document, path_to, with_query
from regwarden.web.api.inventory import AsOf, Reader
from regwarden.web.api.links import content_entry
from regwarden.web.api.lists import answer_list
from regwarden.web.api.parameters import DigestText
from regwarden.web.api.questions import BlobList, ManifestList, fields_named
from regwarden.web.api.routing import new_router

router = new_router("inventory")


@router.get("/manifests")
async def list_manifests(caller: Reader, request: Request, asked: Annotated[ManifestList, Query()]) -> Response:
    """List the manifests of repositories: images, indexes and artifacts, tagged or not."""
    return await answer_list(caller, request, "manifest", asked, _entries)


@router.get("/manifests/{digest}")
async def show_content(
    caller: Reader,
    digest: DigestText,
    registry: Annotated[str | None, Query(max_length=300, description="Only places in this registry.")] = None,
    as_of: AsOf = None,
) -> Response:
    """Show what a digest is, and every place that holds or needs it.

    The digest may be that of a manifest, config or layer. Only places that you may see are told.
    """

    def work(inventory: Inventory) -> Response:
        with fields_named():
            found = inventory.find_content(digest, registry=registry, as_of=as_of)
        where = [(name, value) for name, value in (("registry", registry), ("as_of", as_of)) if value is not None]
        here = with_query(path_to("manifests", found.digest), where)
        selector = with_query(path_to("tags"), [("select", f"@{found.digest}")])
        return document(asdict(found), {"self": here, "tags": selector})

    return await caller.ask(work)


@router.get("/blobs")
async def list_blobs(caller: Reader, request: Request, asked: Annotated[BlobList, Query()]) -> Response:
    """List the blobs of repositories."""
    return await answer_list(caller, request, "blob", asked, _entries)


def _entries(_inventory: Inventory, rows: Sequence[Row]) -> list[dict[str, Any]]:
    return list(map(content_entry, rows))
