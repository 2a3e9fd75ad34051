"""Routes that watch and cancel long work, and how other routes begin some: 202, and where to look."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Annotated, Any, Final

from fastapi import Depends, Path
from starlette.requests import Request
from starlette.responses import Response

from regwarden.core.access import Permission
from regwarden.web.api.context import Caller, Permitted
from regwarden.web.api.documents import NO_STORE, Links, Listed, document, linked, listing, path_to
from regwarden.web.api.routing import new_router
from regwarden.web.api.streams import EventStream, Sent
from regwarden.web.operations import Operation, OperationState, Work

_LOOK_SECONDS: Final = 0.25

router = new_router("operations")
Watcher = Annotated[Caller, Depends(Permitted(Permission.INVENTORY_READ))]
OperationId = Annotated[str, Path(description="Id of an operation.", pattern="^[0-9a-f]{32}$")]


def begin(caller: Caller, work: Work) -> Response:
    """Begin long work for ``caller``: the answer is 202 with the operation and its address in ``Location``."""
    operation = caller.parts.operations.start(work, caller.principal)
    links = _links(operation)
    return document(_fields(operation), links, status=202, headers={**NO_STORE, "Location": links["self"]})


@router.get("/operations")
async def list_operations(caller: Watcher, request: Request) -> Response:
    """Long work that you began and that runs, or ended within a day, the newest first. Administrators see all."""
    found = caller.parts.operations.list_for(caller.principal)
    return listing(request, Listed([linked(_fields(one, is_short=True), _links(one)) for one in found]))


@router.get("/operations/{operation_id}")
async def show_operation(caller: Watcher, operation_id: OperationId) -> Response:
    """How far long work is; when it has ended its result, or the problem that ended it."""
    operation = caller.parts.operations.find(operation_id, caller.principal)
    return document(_fields(operation), _links(operation), headers=NO_STORE)


@router.get("/operations/{operation_id}/stream", responses={200: {"content": {"text/event-stream": {}}}})
async def stream_operation(caller: Watcher, operation_id: OperationId) -> Response:
    """The same as server-sent events: `progress` whenever something changes, `end` at the end."""
    operations = caller.parts.operations
    operation = operations.find(operation_id, caller.principal)
    operations.check_streams(caller.principal)
    return EventStream(_watch(operation), operations.streaming(caller.principal), caller.is_still_permitted)


@router.delete("/operations/{operation_id}")
async def cancel_operation(caller: Watcher, operation_id: OperationId) -> Response:
    """Cancel long work. What it has done stays done; the same request goes on or begins anew."""
    operations = caller.parts.operations
    operation = operations.find(operation_id, caller.principal)
    await operations.cancel(operation)
    return document(_fields(operation), _links(operation), headers=NO_STORE)


async def _watch(operation: Operation) -> AsyncGenerator[Sent, None]:
    seen = -1
    while operation.state is OperationState.RUNNING:
        if operation.change_count != seen:
            seen = operation.change_count
            yield Sent("progress", _fields(operation))
        with suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_SECONDS):
                await operation.ended.wait()
    yield Sent("end", linked(_fields(operation), _links(operation)))


def _fields(operation: Operation, *, is_short: bool = False) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "id": operation.id,
        "kind": operation.kind,
        "subject": operation.subject,
        "state": str(operation.state),
        "made_at": operation.made_at,
        "made_by": operation.made_by,
        "ended_at": operation.ended_at,
        "progress": operation.latest,
        "warnings": list(operation.warnings),
        "warning_count": operation.warning_count,
    }
    if operation.error is not None:
        fields["error"] = operation.error
    if operation.result is not None and not is_short:
        fields["result"] = operation.result
    return fields


def _links(operation: Operation) -> Links:
    own = path_to("operations", operation.id)
    return {"self": own, "stream": f"{own}/stream", **operation.links}
