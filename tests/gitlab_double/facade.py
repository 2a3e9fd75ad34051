"""What stands before the real registry and makes GitLab's of it? A proxy that adds what the fork does otherwise."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web
from yarl import URL

from tests.gitlab_double.facade_access import Bearer, read_bearer
from tests.gitlab_double.facade_native import answer_native
from tests.gitlab_double.facade_tags import answer_catalog, answer_tags, with_sorted_tags
from tests.gitlab_double.facade_writes import delete_by_digest, delete_by_tag, put_manifest
from tests.gitlab_double.faults import misbehave
from tests.gitlab_double.recording import FaultPlan, Recorded, Recording, grouped, without_secrets
from tests.gitlab_double.state import Settings
from tests.gitlab_double.storage import Storage
from tests.gitlab_double.view import View

VERSION = "4.32.0-gitlab"
MAX_BODY_BYTES = 1 << 30
TAG_LIST = re.compile(r"/v2/(?P<name>.+)/tags/list")
MANIFEST = re.compile(r"/v2/(?P<name>.+)/manifests/(?P<reference>[^/]+)")
HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade"})
OWN_HEADERS = HOP_BY_HOP | {"content-length", "date", "server"}


class Unscripted(Exception):
    """Nobody knows what the registry would answer."""


@dataclass
class Facade:
    """The proxy. ``tag_deleted`` is told of each tag that went by its name: path, tag, token, request.

    ``renaming`` are paths of repositories that GitLab says to be moving just now.
    """

    registry_url: str
    view: View
    settings: Settings
    tag_deleted: Callable[[str, str, Bearer, web.BaseRequest], None]
    recording: Recording = field(default_factory=Recording)
    faults: FaultPlan = field(default_factory=FaultPlan)
    renaming: set[str] = field(default_factory=set)
    _session: aiohttp.ClientSession | None = None

    def build_app(self) -> web.Application:
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.cleanup_ctx.append(self._connect)
        app.router.add_route("*", "/{path:.*}", self.handle)
        return app

    @property
    def storage(self) -> Storage:
        return self.view.storage

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer and record; a planned fault comes first."""
        is_scripted = True
        path = request.rel_url.raw_path
        try:
            fault = self.faults.take("registry", request.method, path, query=request.rel_url.raw_query_string)
            answer = await (misbehave(fault, request, self._answer) if fault else self._answer(request))
        except aiohttp.ClientError as error:
            answer = web.Response(status=502, text=f"the registry behind is not there: {error}\n")
        except Unscripted:
            is_scripted = False
            answer = web.json_response({"message": f"nobody scripted {request.method} {path}"}, status=501)
        query, headers = grouped(request.query.items()), without_secrets(request.headers.items())
        self.recording.add(
            Recorded("registry", request.method, path, query, headers, answer.status, is_scripted=is_scripted)
        )
        return answer

    def bearer(self, request: web.BaseRequest) -> Bearer | None:
        return read_bearer(request, self.settings)

    async def challenge(self, request: web.Request, path: str) -> web.Response:
        """The real registry's refusal of this request's token for ``path`` of it, with its ``WWW-Authenticate``."""
        answer = await self.forward(request, method="GET", path=path, body=b"")
        if answer.status != 401:
            raise AssertionError(f"the registry answers {answer.status} for {path} and not 401")
        return answer

    async def forward(
        self, request: web.Request, *, method: str = "", path: str = "", body: bytes | None = None
    ) -> web.Response:
        """Ask the real registry, the same or about another ``path``, and hand back its answer."""
        assert self._session is not None
        headers = [(name, value) for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP]
        if body is not None:
            headers = [(name, value) for name, value in headers if name.lower() not in ("content-length", "range")]
        content = await request.read() if body is None else body
        url = URL(self.registry_url + (path or request.raw_path), encoded=True)
        async with self._session.request(
            method or request.method, url, headers=headers, data=content or None, allow_redirects=False
        ) as answer:
            kept = {"content-length"} if request.method == "HEAD" else set()
            found = [(name, value) for name, value in answer.headers.items() if name.lower() not in OWN_HEADERS - kept]
            response = web.Response(status=answer.status, body=await answer.read() or None)
        for name, value in found:
            if name.lower() == "content-type":
                response.headers[name] = value
            else:
                response.headers.add(name, value)
        return response

    async def _answer(self, request: web.Request) -> web.Response:
        path = request.path
        if path.startswith("/gitlab/v1"):
            if not self.view.has_database:
                return web.Response(status=404, text="404 page not found\n")
            return await answer_native(self, request) or _unscripted()
        if path != "/v2" and not path.startswith("/v2/"):
            return _unscripted()
        if path == "/v2/":
            return self._with_features(await self.forward(request))
        if path == "/v2/_catalog" and self.view.has_database:
            return await answer_catalog(self, request)
        if found := MANIFEST.fullmatch(path):
            return await self._answer_manifest(request, found["name"], found["reference"])
        if (found := TAG_LIST.fullmatch(path)) and request.method == "GET":
            return await self._answer_tags(request, found["name"])
        return await self.forward(request)

    async def _answer_tags(self, request: web.Request, name: str) -> web.Response:
        if self.view.has_database:
            return await answer_tags(self, request, name)
        return with_sorted_tags(await self.forward(request))

    async def _answer_manifest(self, request: web.Request, name: str, reference: str) -> web.Response:
        if request.method == "PUT":
            return await put_manifest(self, request, name=name, reference=reference)
        if request.method == "DELETE" and ":" in reference:
            return await delete_by_digest(self, request, name=name, digest=reference)
        if request.method == "DELETE":
            return await delete_by_tag(self, request, name=name, tag=reference)
        return await self.forward(request)

    def _with_features(self, answer: web.Response) -> web.Response:
        if answer.status == 200:
            answer.headers["Gitlab-Container-Registry-Version"] = VERSION
            answer.headers["Gitlab-Container-Registry-Features"] = "tag_delete"
            answer.headers["Gitlab-Container-Registry-Database-Enabled"] = "true" if self.view.has_database else "false"
        return answer

    async def _connect(self, app: web.Application) -> AsyncIterator[None]:
        del app
        async with aiohttp.ClientSession(
            auto_decompress=False,
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
            timeout=aiohttp.ClientTimeout(total=120),
        ) as self._session:
            yield


def _unscripted() -> web.Response:
    raise Unscripted
