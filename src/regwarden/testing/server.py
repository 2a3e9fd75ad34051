"""The sample registry: a real HTTP server that speaks the distribution API over content in memory.

Every request goes gate → route → ``Reader`` or ``Writer``; requests and notifications are kept for tests to read.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, Self

from aiohttp import web

from regwarden.core.oci.digests import Digest
from regwarden.testing.authentication import TOKEN_PATH, Access, Auth, Challenged, build_gate
from regwarden.testing.behaviour import Behaviour, Fault
from regwarden.testing.content import Content
from regwarden.testing.notifications import Caller, Endpoint, Event, Notifier
from regwarden.testing.reading import Reader
from regwarden.testing.replies import (
    API_HEADERS,
    Problem,
    answer_empty,
    answer_json,
    method_not_allowed,
    page_not_found,
    query_parameters,
    refuse,
)
from regwarden.testing.threads import running_in_thread
from regwarden.testing.writing import Writer

_COMPONENT: Final = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_ROUTE: Final = re.compile(
    rf"/v2/(?P<name>{_COMPONENT}(?:/{_COMPONENT})*)/"
    r"(?:(?P<tags>tags/list)"
    r"|manifests/(?P<reference>[A-Za-z0-9_][A-Za-z0-9._-]{0,127}|[a-z0-9]+:[0-9a-fA-F]+)"
    r"|blobs/uploads/(?P<upload>[0-9a-f-]*)"
    r"|blobs/(?P<blob>sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})"
    r"|referrers/(?P<subject>[^/]+))"
)
_READING: Final = ("GET", "HEAD")
_PULL: Final = ("pull",)
_PUSH: Final = ("pull", "push")


@dataclass(frozen=True, slots=True)
class Listen:
    """Where the server listens; port 0 takes a free one. ``tls`` may demand a client's certificate."""

    host: str = "127.0.0.1"
    port: int = 0
    tls: ssl.SSLContext | None = None


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """A request that was answered; status 0 means that the connection was closed without an answer."""

    method: str
    path: str
    query: str
    status: int
    user_agent: str
    is_conditional: bool
    authorization_scheme: str


class SampleRegistry:
    """An async context manager; ``url`` is known inside. Content and behaviour may be changed while it runs."""

    def __init__(
        self,
        content: Content,
        *,
        auth: Auth = None,
        behaviour: Behaviour | None = None,
        listen: Listen | None = None,
        notify: Endpoint | None = None,
    ) -> None:
        self.content = content
        self.behaviour = behaviour if behaviour is not None else Behaviour()
        self.requests: list[RecordedRequest] = []
        self.url = ""
        self._listen = listen if listen is not None else Listen()
        self._gate = build_gate(auth)
        self._notify = notify
        self._make_workers(node="sample-registry")

    @property
    def events(self) -> list[Event]:
        """Every notification so far, in order."""
        return self._notifier.events

    @property
    def pull_events(self) -> list[Event]:
        """The pull notifications of manifests: what a crawl without footprint must not leave."""
        return [event for event in self.events if event.action == "pull" and event.is_manifest]

    async def flush_events(self, timeout_seconds: float = 10.0) -> None:
        """Wait until the endpoint has taken every event so far; raises ``TimeoutError``."""
        await self._notifier.flush(timeout_seconds)

    def forget(self) -> None:
        """Empty ``requests`` and ``events``, as before a second crawl."""
        self.requests.clear()
        self.events.clear()

    async def __aenter__(self) -> Self:
        # Bound here and not by the site, so that the number of a free port is known.
        bound = socket.create_server((self._listen.host, self._listen.port))
        self._runner = web.ServerRunner(
            web.Server(self._handle, access_log=None), handle_signals=False, shutdown_timeout=1.0
        )
        await self._runner.setup()
        await web.SockSite(self._runner, bound, ssl_context=self._listen.tls).start()
        host, port = bound.getsockname()[:2]
        scheme = "http" if self._listen.tls is None else "https"
        self.url = f"{scheme}://{host}:{port}"
        self._make_workers(node=f"{host}:{port}")
        self._notifier.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._notifier.stop()
        await self._runner.cleanup()

    def _make_workers(self, *, node: str) -> None:
        self._notifier = Notifier(self._notify, generation=self.behaviour.generation, node=node)
        self._reader = Reader(self.content, self.behaviour, self._notifier)
        self._writer = Writer(self.content, self.behaviour, self._notifier)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if self.behaviour.latency_seconds:
            await asyncio.sleep(self.behaviour.latency_seconds)
        fault = self.behaviour.take_fault(request.method, request.path)
        response = await self._answer(request) if fault is None else _answer_fault(request, fault)
        self.requests.append(
            RecordedRequest(
                method=request.method,
                path=request.path,
                query=request.rel_url.raw_query_string,
                status=response.status if fault is None else fault.status,
                user_agent=request.headers.get("User-Agent", ""),
                is_conditional="If-None-Match" in request.headers,
                authorization_scheme=request.headers.get("Authorization", "").partition(" ")[0],
            )
        )
        return response

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.path
        if path == TOKEN_PATH:
            return await self._gate.answer_token(request) or page_not_found()
        if path == "/v2":
            return answer_empty(301, {"Location": "/v2/"})
        route = _ROUTE.fullmatch(path)
        if route is None and path not in ("/v2/", "/v2/_catalog"):
            return page_not_found()
        needed = _needed_access(request, route)
        outcome = self._gate.check(request, needed)
        if isinstance(outcome, Challenged):
            return _refuse_unauthorized(outcome, needed)
        if route is not None:
            return await self._answer_route(request, route, _caller(request, outcome.actor))
        if request.method != "GET":
            return method_not_allowed("GET")
        return answer_json({}) if path == "/v2/" else self._reader.list_catalog(request)

    async def _answer_route(self, request: web.BaseRequest, route: re.Match[str], caller: Caller) -> web.StreamResponse:
        name = route["name"]
        if self.behaviour.is_read_only and request.method not in _READING and route["tags"] is None:
            return method_not_allowed(*_READING)
        if route["reference"] is not None:
            return await self._answer_manifest(request, route, caller)
        if route["upload"] is not None:
            return await self._answer_upload(request, route, caller)
        if route["blob"] is not None:
            return self._answer_blob(request, route, caller)
        if request.method != "GET":
            return method_not_allowed("GET")
        if route["tags"] is not None:
            return self._reader.list_tags(request, name)
        return self._reader.list_referrers(request, name, route["subject"])

    async def _answer_manifest(self, request: web.BaseRequest, route: re.Match[str], caller: Caller) -> web.Response:
        match request.method:
            case "GET" | "HEAD":
                return self._reader.answer_manifest(request, route["name"], route["reference"], caller)
            case "PUT":
                return await self._writer.put_manifest(request, route["name"], route["reference"], caller)
            case "DELETE":
                return self._writer.delete_manifest(route["name"], route["reference"], caller)
        return method_not_allowed("DELETE", "GET", "HEAD", "PUT")

    def _answer_blob(self, request: web.BaseRequest, route: re.Match[str], caller: Caller) -> web.StreamResponse:
        digest = Digest.parse(route["blob"])
        match request.method:
            case "GET" | "HEAD":
                return self._reader.answer_blob(request, route["name"], digest, caller)
            case "DELETE":
                return self._writer.delete_blob(route["name"], digest, caller)
        return method_not_allowed("DELETE", "GET", "HEAD")

    async def _answer_upload(self, request: web.BaseRequest, route: re.Match[str], caller: Caller) -> web.Response:
        identifier = route["upload"]
        match (request.method, bool(identifier)):
            case ("POST", False):
                return await self._writer.start_upload(request, route["name"], caller)
            case ("PATCH", True):
                return await self._writer.continue_upload(request, identifier)
            case ("PUT", True):
                return await self._writer.finish_upload(request, identifier, caller)
            case ("GET" | "DELETE", True):
                return self._writer.answer_upload(request, identifier)
        return method_not_allowed("DELETE", "GET", "PATCH", "POST", "PUT")


def running_sample_registry(
    content: Content,
    *,
    auth: Auth = None,
    behaviour: Behaviour | None = None,
    listen: Listen | None = None,
    notify: Endpoint | None = None,
) -> AbstractContextManager[SampleRegistry]:
    """A sample registry in a thread, for synchronous tests; entering it gives the running ``SampleRegistry``."""
    return running_in_thread(
        lambda: SampleRegistry(content, auth=auth, behaviour=behaviour, listen=listen, notify=notify)
    )


def _needed_access(request: web.BaseRequest, route: re.Match[str] | None) -> tuple[Access, ...]:
    if route is None:
        return (Access("registry", "catalog", ("*",)),) if request.path == "/v2/_catalog" else ()
    name = route["name"]
    if request.method in ("GET", "HEAD"):
        return (Access("repository", name, _PULL),)
    if request.method == "DELETE" and route["upload"] is None:
        return (Access("repository", name, ("delete",)),)
    source = query_parameters(request.rel_url.raw_query_string).get("from", "")
    push = Access("repository", name, _PUSH)
    return (push, Access("repository", source, _PULL)) if source else (push,)


def _refuse_unauthorized(outcome: Challenged, needed: tuple[Access, ...]) -> web.Response:
    detail = [
        {"Type": access.kind, "Class": "", "Name": access.name, "Action": action}
        for access in needed
        for action in access.actions
    ]
    response = refuse(401, Problem("UNAUTHORIZED", detail or None))
    for challenge in outcome.challenges:
        response.headers.add("WWW-Authenticate", challenge)
    return response


def _answer_fault(request: web.BaseRequest, fault: Fault) -> web.Response:
    if fault.status == 0:
        if request.transport is not None:
            request.transport.close()
        return web.Response(status=500)
    return web.Response(status=fault.status, body=fault.body.encode(), headers={**API_HEADERS, **dict(fault.headers)})


def _caller(request: web.BaseRequest, actor: str) -> Caller:
    peer = request.transport.get_extra_info("peername") if request.transport is not None else None
    return Caller(
        method=request.method,
        host=request.host,
        address=f"{peer[0]}:{peer[1]}" if peer else "",
        user_agent=request.headers.get("User-Agent", ""),
        actor=actor,
        scheme=request.scheme,
    )
