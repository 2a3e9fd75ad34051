"""How does GitLab's registry list repositories and tags in the common API? Sorted, in pages, without empty ones."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING

from aiohttp import web

from tests.gitlab_double.facade_errors import link, refuse

if TYPE_CHECKING:
    from tests.gitlab_double.facade import Facade

DEFAULT_COUNT = 100
MAX_CATALOG_COUNT = 1000


async def answer_catalog(facade: Facade, request: web.Request) -> web.Response:
    """``GET /v2/_catalog`` with the database: repositories with a manifest, in path order."""
    bearer = facade.bearer(request)
    if bearer is None or not bearer.allows_catalog:
        return await facade.challenge(request, "/v2/_catalog")
    count = _count(request)
    if count > MAX_CATALOG_COUNT:
        return refuse("PAGINATION_NUMBER_INVALID", {"n": count})
    names = [name for name in facade.storage.repositories() if facade.storage.revisions(name)]
    return _page(request, names, count, lambda page: {"repositories": page})


async def answer_tags(facade: Facade, request: web.Request, name: str) -> web.Response:
    """``GET /v2/<name>/tags/list`` with the database: 100 tags unless another number is asked for."""
    bearer = facade.bearer(request)
    if bearer is None or not bearer.allows(name, "pull"):
        return await facade.challenge(request, request.path)
    if not facade.storage.exists(name):
        return refuse("NAME_UNKNOWN", {"name": name})
    names = facade.storage.tag_names(name)
    return _page(request, names, _count(request), lambda page: {"name": name, "tags": page})


def with_sorted_tags(answer: web.Response) -> web.Response:
    """The real registry's answer with its tags in order, as GitLab's gives them without the database too."""
    if answer.status != 200 or not isinstance(answer.body, bytes):
        return answer
    document = json.loads(answer.body)
    document["tags"] = sorted(document["tags"]) if document["tags"] is not None else None
    sorted_answer = web.json_response(document)
    sorted_answer.headers.extend({n: v for n, v in answer.headers.items() if n.lower().startswith("docker-")})
    return sorted_answer


def _count(request: web.Request) -> int:
    """What is asked for; what is no positive number is no wish."""
    try:
        count = int(request.query.get("n", ""))
    except ValueError:
        return DEFAULT_COUNT
    return count if count > 0 else DEFAULT_COUNT


def _page(request: web.Request, names: Sequence[str], count: int, build: object) -> web.Response:
    start = bisect_right(names, request.query.get("last", ""))
    page = list(names[start : start + count])
    assert callable(build)
    answer = web.json_response(build(page), headers={"Docker-Distribution-Api-Version": "registry/2.0"})
    if start + count < len(names):
        answer.headers["Link"] = link(request.path, "next", {"last": page[-1], "n": str(count)})
    return answer
