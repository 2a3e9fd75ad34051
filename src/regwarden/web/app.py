"""What does the main listener answer? Notifications, life and readiness, and the applications below its paths."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from regwarden import clock
from regwarden.errors import StoreError
from regwarden.store.database import Database
from regwarden.store.deliveries import probe_writing
from regwarden.web.hooks import PREFIX
from regwarden.web.mounting import Mount, is_below, strip_prefix
from regwarden.web.problems import problem
from regwarden.web.refusals import Refusals

_READ: Final = frozenset({"GET", "HEAD"})
_STUCK_SECONDS: Final = 60.0
_REMEMBERED_SECONDS: Final = 1.0
_PROBE_SECONDS: Final = 10.0


class Readiness:
    """Whether deliveries can be kept and applied. Asked often: an answer holds for a second."""

    def __init__(self, database: Database, applying_problem: Callable[[], str]) -> None:
        """``applying_problem`` says why nothing can be applied at the moment; empty if all is well."""
        self._database = database
        self._applying_problem = applying_problem
        self._failing_since: float | None = None
        self._looked_at: float | None = None
        self._problem = ""

    async def problem(self) -> str:
        """Why the service is not ready; empty if it is. Says nothing that a stranger may not know."""
        now = clock.monotonic()
        if self._looked_at is None or now - self._looked_at >= _REMEMBERED_SECONDS:
            self._looked_at = now
            self._problem = await self._look(now)
        return self._problem

    async def _look(self, now: float) -> str:
        if not self._applying_problem():
            self._failing_since = None
        elif self._failing_since is None:
            self._failing_since = now
        elif now - self._failing_since >= _STUCK_SECONDS:
            return "events cannot be applied"
        try:
            async with asyncio.timeout(_PROBE_SECONDS):
                await self._database.write(probe_writing, urgent=True)
        except (StoreError, TimeoutError):  # a server that hangs says nothing at all
            return "the database cannot be written"
        return ""


class Application:
    """The main listener: ``/hooks/NAME``, ``/healthz``, ``/readyz``, and what is mounted. It redirects nothing."""

    def __init__(self, hooks: ASGIApp, readiness: Readiness, mounts: Sequence[Mount] = ()) -> None:
        self._hooks = hooks
        self._mounts = tuple(mounts)
        self._readiness = readiness
        self._refusals = Refusals()
        self._answers: dict[str, Callable[[], Awaitable[Response]]] = {
            "/healthz": self._health,
            "/readyz": self._ready,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        path: str = scope["path"]
        if path.startswith(PREFIX):
            await self._hooks(scope, receive, send)
            return
        for mount in self._mounts:
            if is_below(path, mount.prefix):
                seen = strip_prefix(scope, mount.prefix) if mount.is_stripped else scope
                await mount.app(seen, receive, send)
                return
        answer = self._answers.get(path)
        if answer is None:
            if scope["method"] == "POST":
                self._refusals.note("path", f"notifications are sent to {PREFIX}NAME", scope)
            response: Response = problem(404, "there is nothing here", code="not-found")
        elif scope["method"] not in _READ:
            response = problem(405, "this can only be read", headers={"Allow": "GET, HEAD"})
        else:
            response = await answer()
        await response(scope, receive, send)

    async def _health(self) -> Response:
        return JSONResponse({"status": "alive"}, headers={"Cache-Control": "no-store"})

    async def _ready(self) -> Response:
        reason = await self._readiness.problem()
        if reason:
            return problem(503, reason, code="not-ready", headers={"Retry-After": "5"})
        return JSONResponse({"status": "ready"}, headers={"Cache-Control": "no-store"})
