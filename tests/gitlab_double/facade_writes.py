"""What does GitLab's registry allow to be pushed and deleted? By tag alone, never children of an index, and by rules.

A tag goes by removing its folder from the registry's storage, which is what Distribution does itself when a manifest
goes. The other way, to push a throwaway manifest over the tag and delete that, leaves blobs and events that nobody
asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from tests.gitlab_double.facade_errors import refuse

if TYPE_CHECKING:
    from tests.gitlab_double.facade import Facade


async def put_manifest(facade: Facade, request: web.Request, *, name: str, reference: str) -> web.Response:
    """``PUT …/manifests/<reference>``."""
    bearer = facade.bearer(request)
    tag = "" if ":" in reference else reference
    if bearer is not None and bearer.allows(name, "pull", "push"):
        if name in facade.renaming:
            return refuse("RENAME_IN_PROGRESS")
        if tag and bearer.denies(name, "push", tag):
            return refuse("PROTECTED_TAG")
        if tag and bearer.is_immutable(name, tag) and facade.storage.tag(name, tag) is not None:
            return refuse("IMMUTABLE_TAG")
    answer = await facade.forward(request)
    facade.storage.touch(name, tag)
    return answer


async def delete_by_tag(facade: Facade, request: web.Request, *, name: str, tag: str) -> web.Response:
    """``DELETE …/manifests/<tag>``: the tag goes, its manifest and the other tags of it stay."""
    bearer = facade.bearer(request)
    if bearer is None or not bearer.allows(name, "delete"):
        return await facade.forward(request)
    if name in facade.renaming:
        return refuse("RENAME_IN_PROGRESS")
    if bearer.is_immutable(name, tag):
        return refuse("IMMUTABLE_TAG")
    if bearer.denies(name, "delete", tag):
        return refuse("PROTECTED_TAG")
    if not facade.storage.exists(name):
        return refuse("NAME_UNKNOWN", {"name": name})
    if not facade.storage.delete_tag(name, tag):
        return refuse("MANIFEST_UNKNOWN", {"Name": name, "Tag": tag})
    facade.tag_deleted(name, tag, bearer, request)
    return web.Response(status=202, headers={"Docker-Distribution-Api-Version": "registry/2.0"})


async def delete_by_digest(facade: Facade, request: web.Request, *, name: str, digest: str) -> web.Response:
    """``DELETE …/manifests/<digest>``: the manifest and its tags."""
    bearer = facade.bearer(request)
    if bearer is not None and bearer.allows(name, "delete"):
        if name in facade.renaming:
            return refuse("RENAME_IN_PROGRESS")
        if bearer.protects_manifests(name):
            return refuse("PROTECTED_MANIFEST")
        if facade.view.has_database and digest in facade.view.relations(name).children:
            return refuse("MANIFEST_REFERENCED", {"digest": digest})
    answer = await facade.forward(request)
    facade.storage.touch(name)
    return answer
