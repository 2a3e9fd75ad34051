"""Routes that show what notifications told: listed, live, and those that could not be read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, Final, cast

from fastapi import Depends, Header, Path, Query
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from regwarden.core.access import Permission
from regwarden.errors import Forbidden, InputError, NotFound
from regwarden.library_events import DELIVERY_FIELDS, EventFilters, build_event_query
from regwarden.store.deliveries import list_quarantine
from regwarden.store.event_reports import EventQuery, list_events_after, newest_event_id
from regwarden.web.api.context import ApiParts, Caller, Permitted
from regwarden.web.api.cursors import read_number, write_cursor
from regwarden.web.api.documents import NO_STORE, Listed, document, linked, listing, path_to
from regwarden.web.api.operations import begin
from regwarden.web.api.parameters import MAX_LIMIT, Cursor, Limit
from regwarden.web.api.problems import WrongParameter
from regwarden.web.api.questions import fields_named
from regwarden.web.api.routing import new_router
from regwarden.web.api.streams import EventStream, Sent
from regwarden.web.api.work import Body, Line, QueryWords, naming, note
from regwarden.web.operations import Work

_POLL_SECONDS: Final = 0.5
_SHOWN_BODY_BYTES: Final = 256 * 1024
_MOST: Final = 100
# What arguments of the library are called here.
_PARAMETERS: Final = {
    "registries": "registry",
    "repositories": "repository",
    "tags": "tag",
    "actors": "actor",
    "actions": "action",
    "targets": "target",
    "classes": "class",
}

router = new_router("events")
Reader = Annotated[Caller, Depends(Permitted(Permission.EVENTS_READ))]
Replayer = Annotated[Caller, Depends(Permitted(Permission.EVENTS_REPLAY))]
DeliveryId = Annotated[int, Path(ge=1, le=2**63 - 1, description="Id of a delivery.")]
Words = Annotated[list[Line], Field(default_factory=list, max_length=_MOST)]


class EventWords(QueryWords):
    """Which events are meant; of several values of one kind any may."""

    registry: Words = Field(description="Only of this registry.")
    repository: Words = Field(description="A name or a pattern: glob:team/**.")
    tag: Words = Field(description="A name or a pattern.")
    actor: Words = Field(description="Who did it: a name or a pattern.")
    action: Words = Field(description="push, pull, mount, delete or rename.")
    target: Words = Field(description="manifest, blob, tag, repository or content.")
    class_: Words = Field(
        alias="class", description="Pulls of workload, ci, human, scanner, replicator, crawler, other."
    )
    since: Line | None = Field(default=None, description="From this moment on, or of the last 2h, 30d, …")
    until: Line | None = Field(default=None, description="Before this moment, or older than 2h, 30d, …")
    unknown_hosts: bool = Field(default=False, description="Only events whose registry is not configured.")

    def filters(self) -> EventFilters:
        """As the library takes them. Raises ``WrongParameter`` for what cannot be understood."""
        found = EventFilters(
            registries=self.registry,
            repositories=self.repository,
            tags=self.tag,
            actors=self.actor,
            actions=self.action,
            targets=self.target,
            classes=self.class_,
            since=self.since,
            until=self.until,
            unknown_hosts=self.unknown_hosts,
        )
        for argument, given in found.items():
            with naming(_PARAMETERS.get(argument, argument)):
                build_event_query(cast("EventFilters", {argument: given}))
        return found


class EventListing(EventWords):
    """The same, a page at a time."""

    limit: int = Field(default=100, ge=1, le=MAX_LIMIT, description="How many entries a page has, at most.")
    cursor: str | None = Field(default=None, max_length=8000, description="Where the page before ended.")


@router.get("/events")
async def list_events(caller: Reader, request: Request, words: Annotated[EventListing, Query()]) -> Response:
    """What notifications told, the newest first by the registry's clock."""
    filters = words.filters()
    with fields_named():
        page = await caller.ask(
            lambda inventory: inventory.event_page(limit=words.limit, cursor=words.cursor, **filters)
        )
    return listing(request, Listed([linked(row, _links(row)) for row in page.rows], page.next_cursor))


@router.get("/events/stream", responses={200: {"content": {"text/event-stream": {}}}})
async def stream_events(
    caller: Reader,
    words: Annotated[EventWords, Query()],
    last_event_id: Annotated[str | None, Header(description="The id of the last event that was received.")] = None,
) -> Response:
    """Events as they are taken in, as server-sent events; with `since` those from then on come first.

    After a break a client sends the id of the last event as `Last-Event-ID`, and misses none.
    """
    query = replace(build_event_query(words.filters()), reach=caller.reach)
    database, operations = caller.parts.database, caller.parts.operations
    operations.check_streams(caller.principal)
    position = _parse_position(last_event_id)
    if position is None:
        position = 0 if query.since is not None else await database.read(newest_event_id)
    # What cannot be asked is told before the stream has begun.
    await database.read(partial(list_events_after, query=query, position=2**62, limit=1))
    events = _follow(caller.parts, query, position)
    return EventStream(events, operations.streaming(caller.principal), caller.is_still_permitted)


@router.get("/events/quarantine")
async def list_set_aside(
    caller: Reader,
    request: Request,
    registry: Annotated[Line | None, Query(description="Only what was sent for this registry.")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """Deliveries that could not be read, or whose registry is not configured, the newest first."""
    _require_everything(caller)
    before_id = read_number(cursor)
    rows = await caller.parts.database.read(
        lambda connection: list_quarantine(connection, registry=registry, limit=limit + 1, before_id=before_id)
    )
    shown = [{name: getattr(one, name) for name in DELIVERY_FIELDS} for one in rows[:limit]]
    last = write_cursor(rows[limit - 1].id) if len(rows) > limit else None
    return listing(request, Listed([linked(row, {"self": _delivery_path(row["id"])}) for row in shown], last))


@router.get("/events/quarantine/{delivery_id}")
async def show_delivery(caller: Reader, delivery_id: DeliveryId) -> Response:
    """One delivery with the text of its body, or the beginning of it where `is_body_cut`."""
    delivery = await caller.ask(lambda inventory: inventory.delivery(delivery_id))
    body: bytes | None = delivery.body
    shown = None if body is None else body[:_SHOWN_BODY_BYTES].decode("utf-8", "backslashreplace")
    is_cut = body is not None and (len(body) > _SHOWN_BODY_BYTES or delivery.body_sha256 is not None)
    fields = {**delivery, "body": shown, "is_body_cut": is_cut}
    own = _delivery_path(delivery_id)
    links = {"self": own} if body is None else {"self": own, "body": f"{own}/body"}
    return document(fields, links, headers=NO_STORE)


@router.get("/events/quarantine/{delivery_id}/body", responses={200: {"content": {"application/octet-stream": {}}}})
async def show_delivery_body(caller: Reader, delivery_id: DeliveryId) -> Response:
    """The body of a delivery, byte for byte as it was sent, as far as it is kept."""
    delivery = await caller.ask(lambda inventory: inventory.delivery(delivery_id))
    if delivery.body is None:
        raise NotFound(f"the body of delivery {delivery_id} is no longer kept")
    headers = {**NO_STORE, "Content-Disposition": f'attachment; filename="delivery-{delivery_id}"'}
    return Response(delivery.body, headers=headers, media_type="application/octet-stream")


class ReplayBody(Body):
    """Which deliveries: `ids`, or all with `is_all`, if wanted of one registry."""

    ids: list[Annotated[int, Field(ge=1, le=2**63 - 1)]] = Field(
        default=[], max_length=10_000, description="Ids of deliveries."
    )
    is_all: bool = Field(default=False, description="All that were set aside.")
    registry: Line | None = Field(default=None, description="Of these only what was sent for this registry.")


@router.post("/events/replay", status_code=202)
async def replay(caller: Replayer, body: ReplayBody) -> Response:
    """Look again at deliveries that were set aside, for example when a registry has been configured."""
    if bool(body.ids) == body.is_all:
        raise WrongParameter("ids", "give either ids or is_all", code="bad-request")
    arguments: dict[str, Any] = {"ids": None if body.is_all else body.ids, "registry": body.registry}
    await note(caller, "event-replay", subject=body.registry or "", detail={"ids": body.ids[:100]})
    return begin(
        caller,
        Work(
            kind="event-replay",
            subject=body.registry or "",
            run=lambda tell: caller.parts.commands["replay"](arguments, tell),
            links=lambda _found: {"quarantine": path_to("events", "quarantine")},
        ),
    )


async def _follow(parts: ApiParts, query: EventQuery, position: int) -> AsyncGenerator[Sent, None]:
    stopping = parts.operations.stopping
    while not stopping.is_set():
        rows, position = await parts.database.read(partial(list_events_after, query=query, position=position))
        for row in rows:
            yield Sent("event", linked(row, _links(row)), id=str(row["id"]))
        if not rows:
            with suppress(TimeoutError):
                async with asyncio.timeout(_POLL_SECONDS):
                    await stopping.wait()


def _parse_position(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise InputError(f"{text[:40]!r} is not the id of an event", code="bad-event-id")
    return int(text)


def _require_everything(caller: Caller) -> None:
    """A delivery is of any repositories: it is for those who may see all of them. Raises ``Forbidden``."""
    if not caller.reach.is_everything:
        raise Forbidden(f"{caller.principal.name} may not see deliveries", hint="They may be about any repository.")


def _delivery_path(delivery_id: object) -> str:
    return path_to("events", "quarantine", str(delivery_id))


def _links(row: Any) -> dict[str, str]:
    if not row["registry"]:
        return {}
    registry = path_to("registries", row["registry"])
    if not row["repository"]:
        return {"registry": registry}
    return {
        "registry": registry,
        "repository": path_to("registries", row["registry"], "repositories", row["repository"]),
    }
