"""What is done with a notification before its sender is answered? Who is it, read it, keep it; nothing else.

A registry sends one event after the other and repeats what is refused for ever: whoever has a registry's secret is
answered 200 once the bytes are on the disk, 503 while they cannot be, and never anything else.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final, Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from regwarden.errors import StoreError
from regwarden.settings_sections import RegstatSettings
from regwarden.store.deliveries import QUARANTINED, NewDelivery
from regwarden.store.event_schema import PENDING
from regwarden.web.bodies import KEPT_HEAD_BYTES, Body, BodyReader
from regwarden.web.problems import error_problem, problem
from regwarden.web.refusals import Refusals
from regwarden.web.senders import Senders

PREFIX: Final = "/hooks/"
_RETRY_AFTER_SECONDS: Final = "1"
_DENIED: Final = "the registry's secret is missing or wrong"
_CHALLENGE: Final = 'Bearer realm="regwarden", Basic realm="regwarden"'


class Storage(Protocol):
    """Where deliveries go; ``store`` returns after the commit and raises ``StoreError`` if there was none."""

    async def store(self, delivery: NewDelivery) -> None:
        """Keep one."""


class _Receiver:
    """What both kinds of listener do with a request whose sender is known."""

    def __init__(self, storage: Storage, senders: Senders, now: Callable[[], datetime], bodies: BodyReader) -> None:
        self._storage = storage
        self._senders = senders
        self._now = now
        self._bodies = bodies
        self._refusals = Refusals()

    def _refuse(self, registry: str, scope: Scope) -> Response:
        """A refused registry stands still, and only the log can tell."""
        self._refusals.note(registry if self._senders.knows(registry) else "", _DENIED, scope)
        return _unauthorized(scope)

    async def _take(self, registry: str, scope: Scope, receive: Receive, *, is_empty_kept: bool) -> Response | None:
        """Read and keep the body; None if there is nobody left to be answered."""
        try:
            body = await self._bodies.read(receive)
            if body is None:
                return None
            if body.size_bytes or is_empty_kept:
                await self._storage.store(self._delivery(registry, scope, body))
        except StoreError as error:
            return _not_durable(error)
        return Response(status_code=200)

    def _delivery(self, registry: str, scope: Scope, body: Body) -> NewDelivery:
        client = scope.get("client")
        return NewDelivery(
            registry,
            self._now(),
            client[0] if client else "",
            body.content,
            body.size_bytes,
            state=QUARANTINED if body.reason else PENDING,
            reason=body.reason,
            body_sha256=body.sha256,
        )


class Hooks(_Receiver):
    """``POST /hooks/NAME``: the path names the registry, whose secret must be presented."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        registry = scope["path"].removeprefix(PREFIX).rstrip("/")
        answer: Response | None
        if scope["method"] not in {"POST", "PUT"}:
            answer = problem(405, "notifications are sent with POST", headers={"Allow": "POST, PUT"})
        elif not self._senders.is_authentic(registry, _header(scope, b"authorization")):
            answer = self._refuse(registry, scope)
        else:
            answer = await self._take(registry, scope, receive, is_empty_kept=True)
        if answer is not None:
            await answer(scope, receive, send)


class CompatibleHooks(_Receiver):
    """regstat's listener: any path, any method; each event's host decides of which registry it is."""

    def __init__(
        self,
        storage: Storage,
        senders: Senders,
        now: Callable[[], datetime],
        bodies: BodyReader,
        settings: RegstatSettings,
    ) -> None:
        super().__init__(storage, senders, now, bodies)
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        registry = self._find_registry(_header(scope, b"authorization"))
        if registry is None:
            answer: Response | None = self._refuse("", scope)
        else:
            answer = await self._take(registry, scope, receive, is_empty_kept=False)
        if answer is not None:
            await answer(scope, receive, send)

    def _find_registry(self, authorization: bytes | None) -> str | None:
        """The registry of all that is sent; empty if the hosts decide, None if the sender may send nothing."""
        if fixed := self._settings.registry:
            is_accepted = self._senders.is_authentic(fixed, authorization) or self._settings.unauthenticated
            return fixed if is_accepted else None
        found = self._senders.find_registry(authorization)
        return "" if found is None and self._settings.unauthenticated else found


def _header(scope: Scope, name: bytes) -> bytes | None:
    value: bytes
    for key, value in scope["headers"]:
        if key == name:
            return value
    return None


def _unauthorized(scope: Scope) -> Response:
    headers = {"WWW-Authenticate": _CHALLENGE}
    length = _header(scope, b"content-length") or b""
    # A small body is let pass, so that the answer arrives; a large or endless one is not waited for.
    if _header(scope, b"transfer-encoding") or (length.isdigit() and int(length[:20]) > KEPT_HEAD_BYTES):
        headers["Connection"] = "close"
    hint = "`regwarden registry check NAME` prints the notifications block with the registry's secret."
    return problem(401, _DENIED, code="hook-denied", hint=hint, headers=headers)


def _not_durable(error: StoreError) -> Response:
    return error_problem(error, {"Retry-After": _RETRY_AFTER_SECONDS})
