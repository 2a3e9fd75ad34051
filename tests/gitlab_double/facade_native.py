"""What does GitLab's own API of the registry answer? ``/gitlab/v1``: probe, a repository's size, tags in detail.

Behaviour: GitLab's container registry 4.32, docs/spec/gitlab/api.md and registry/handlers/repositories.go.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tests.gitlab_double.facade_errors import refuse
from tests.gitlab_double.facade_native_tags import answer_tag_list
from tests.gitlab_double.manifests import Manifest
from tests.gitlab_double.view import View, describe_times, milliseconds, read_config

if TYPE_CHECKING:
    from tests.gitlab_double.facade import Facade

ROOT = "/gitlab/v1/"
TAG_LIST = re.compile(r"/gitlab/v1/repositories/(?P<name>.+)/tags/list/")
TAG_DETAIL = re.compile(r"/gitlab/v1/repositories/(?P<name>.+)/tags/detail/(?P<tag>[^/]+)/")
REPOSITORY = re.compile(r"/gitlab/v1/repositories/(?P<name>.+?)/")
SIZES = ("self", "self_with_descendants")


async def answer_native(facade: Facade, request: web.Request) -> web.Response | None:
    """The answer, ``None`` where the double knows none."""
    path = request.path
    if request.method != "GET":
        return None
    if not path.endswith("/"):
        target = request.rel_url.with_path(f"{path}/", keep_query=True)
        return web.Response(status=301, headers={"Location": str(target)})
    if path == ROOT:
        is_known = facade.bearer(request) is not None
        return web.Response(status=200) if is_known else await facade.challenge(request, "/v2/")
    for pattern, answer in ((TAG_LIST, answer_tag_list), (TAG_DETAIL, _answer_tag), (REPOSITORY, _answer_repository)):
        if found := pattern.fullmatch(path):
            bearer = facade.bearer(request)
            if bearer is None or not bearer.allows(found["name"], "pull"):
                return await facade.challenge(request, f"/v2/{found['name']}/tags/list")
            return answer(facade.view, request, **found.groupdict())
    return None


def _answer_repository(view: View, request: web.Request, *, name: str) -> web.Response:
    size = request.query.get("size", "")
    if size and size not in SIZES:
        return refuse("INVALID_QUERY_PARAMETER_VALUE", {"parameter": "size", "validValues": SIZES})
    if size == "self_with_descendants":  # needs a right for "<name>/*", which GitLab gives to itself only
        return refuse("UNAUTHORIZED", [{"Type": "repository", "Name": f"{name}/*", "Action": "pull"}])
    if not view.storage.exists(name):
        return refuse("NAME_UNKNOWN")
    found: dict[str, Any] = {"name": name.rpartition("/")[2], "path": name}
    if size:
        found |= {"size_bytes": view.layer_bytes(name), "size_precision": "default"}
    tags = view.storage.tags(name)
    first = min((tag.created_at for tag in tags), default=view.storage.created_at(name))
    found["created_at"] = milliseconds(min(first, view.storage.created_at(name)))
    if tags:
        found["last_published_at"] = milliseconds(max(tag.published_at for tag in tags))
    return web.json_response(found)


def _answer_tag(view: View, request: web.Request, *, name: str, tag: str) -> web.Response:
    del request
    if not view.storage.exists(name):
        return refuse("NAME_UNKNOWN", {"name": name})
    found = view.storage.tag(name, tag)
    manifest = view.storage.manifest(found.digest) if found is not None else None
    if found is None or manifest is None:
        return refuse("TAG_UNKNOWN", {"tagName": tag})
    return web.json_response({"repository": name, "name": tag, "image": _image(view, manifest)} | describe_times(found))


def _image(view: View, manifest: Manifest) -> dict[str, Any]:
    described: dict[str, Any] = {"digest": manifest.digest, "media_type": manifest.media_type}
    if manifest.is_index:
        children = (view.storage.manifest(child) for child in manifest.children)
        described["references"] = [_image(view, child) for child in children if child is not None]
    found: dict[str, Any] = {"size_bytes": manifest.size_bytes, "manifest": described}
    if manifest.config_digest:
        config = read_config(view.storage, manifest)
        found["config"] = {"digest": manifest.config_digest, "media_type": manifest.config_type}
        if "architecture" in config:
            found["config"]["platform"] = {"architecture": config["architecture"], "os": config.get("os", "")}
    return found
