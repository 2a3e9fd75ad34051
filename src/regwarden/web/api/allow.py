"""Routes about what may run: the entries of the allow-list, and its answers, which come from memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Final

from fastapi import Depends, Path, Query
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from regwarden.core.access import Permission
from regwarden.core.allow_images import MAX_IMAGE_LENGTH, Image, parse_image
from regwarden.core.allowlist import Answer
from regwarden.errors import InputError, NotFound
from regwarden.library_allow import (
    MOST_EVIDENCE,
    MOST_PATTERNS,
    build_decision_filter,
    build_filter,
    entry_row,
    find_decisions,
)
from regwarden.store.allow import AllowFilter, AllowRecord, list_entries, load_entry, missing_entry
from regwarden.store.decisions import Decided
from regwarden.store.registry_hosts import Hosts, load_hosts
from regwarden.web.api.context import Caller, Permitted
from regwarden.web.api.cursors import read_number, write_cursor
from regwarden.web.api.documents import NO_STORE, Listed, answer, document, linked, listing, own_path, path_to
from regwarden.web.api.parameters import MAX_LIMIT, Cursor, Limit
from regwarden.web.api.problems import WrongParameter
from regwarden.web.api.routing import new_router
from regwarden.web.api.work import Body, Line, Sentence, naming
from regwarden.web.control import Tell

router = new_router("allow-list")
Reader = Annotated[Caller, Depends(Permitted(Permission.ALLOW_READ))]
Writer = Annotated[Caller, Depends(Permitted(Permission.ALLOW_WRITE))]
EntryId = Annotated[int, Path(ge=1, le=2**63 - 1, description="Id of an entry.")]
ImageText = Annotated[
    str, Query(min_length=1, max_length=MAX_IMAGE_LENGTH, description="A digest, HOST/REPOSITORY:TAG, or any text.")
]
PlaceText = Annotated[str, Query(max_length=253, description="Where it is to run; empty: not said.")]

MOST_IMAGES: Final = 1000
INTERFACE: Final = "api"
_READ_AT_ONCE: Final = MAX_LIMIT + 1


class AllowBody(Body):
    """An entry of the allow-list."""

    image: Line | None = Field(default=None, description="A digest, HOST/REPOSITORY:TAG, or any other text.")
    pattern: Line | None = Field(default=None, description="Names HOST/REPOSITORY, such as glob:HOST/team/**.")
    effect: str = Field(
        default="allow",
        max_length=10,
        description="Deny beats everything.",
        json_schema_extra={"enum": ["allow", "deny"]},
    )
    name: Sentence = Field(default="", description="What people call it.")
    tags: list[Line] = Field(default=[], max_length=MOST_PATTERNS, description="With pattern: patterns of tags.")
    clusters: list[Line] = Field(default=[], max_length=MOST_PATTERNS, description="Patterns; empty is all.")
    namespaces: list[Line] = Field(default=[], max_length=MOST_PATTERNS, description="Patterns; empty is all.")
    not_before: Line | None = Field(default=None, description="A date, or how long from now.")
    expires: Line | None = Field(default=None, description="A date, or how long from now; without it, until removed.")
    reason: Sentence = Field(default="", description="Others will want to know why.")
    evidence: dict[str, str] = Field(default={}, max_length=MOST_EVIDENCE, description="What it was allowed by.")
    is_protecting: bool = Field(default=True, description="Keep from cleanup what it allows.")


class CheckBody(Body):
    """Images that are to run in one place."""

    images: list[str] = Field(min_length=1, max_length=MOST_IMAGES, description="What is asked about.")
    cluster: str = Field(default="", max_length=253, description="Where they are to run; empty: not said.")
    namespace: str = Field(default="", max_length=253, description="Where they are to run; empty: not said.")


@router.get("/allow")
async def list_allow(  # noqa: PLR0913 -- one for each parameter
    caller: Reader,
    request: Request,
    *,
    image: Annotated[Line | None, Query(description="Only entries of this digest, text or name.")] = None,
    effect: Annotated[str | None, Query(max_length=10, description="allow or deny.")] = None,
    ended: Annotated[bool, Query(description="Also what is over or was removed.")] = False,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """List the entries of the allow-list, the oldest first; without a role everywhere, those of your repositories."""
    after = read_number(cursor) or 0
    with naming("effect" if effect not in (None, "allow", "deny") else "image"):
        wanted = build_filter(effect=effect, image=image, include_ended=ended, after_id=after, limit=_READ_AT_ONCE)
    found = await caller.parts.database.read(lambda read: _visible(caller, read, wanted, limit + 1))
    shown = found[:limit]
    last = write_cursor(shown[-1].id) if len(found) > limit else None
    return listing(request, Listed([_linked(one) for one in shown], last))


@router.post("/allow", status_code=201)
async def add_allow(caller: Writer, body: AllowBody) -> Response:
    """Allow an image, or deny it."""
    entry = {name: value for name, value in body.model_dump().items() if value is not None}
    try:
        arguments = {"entry": entry, "principal": caller.principal.name}
        made: AllowRecord = await caller.parts.commands["allow-add"](arguments, Tell())
    except InputError as error:
        field, _, message = error.message.partition(": ")
        if field in AllowBody.model_fields and message:
            raise WrongParameter(field, message, hint=error.hint, code=error.code) from error
        raise
    own = _path(made.id)
    return document(entry_row(made), {"self": own}, status=201, headers={"Location": own})


@router.get("/allow/check")
async def check_allow(
    caller: Reader, request: Request, image: ImageText, cluster: PlaceText = "", namespace: PlaceText = ""
) -> Response:
    """Ask whether an image may run: `outcome` is allow, deny or unknown.

    It is answered from memory, also while the database is gone: then `is_stale` is true.
    """
    with naming("image"):
        found = await _answer(caller, image, cluster, namespace)
    return document({"image": image, **found._asdict()}, {"self": own_path(request)}, headers=NO_STORE)


@router.post("/allow/check")
async def check_many(caller: Reader, body: CheckBody) -> Response:
    """Ask about up to 1,000 images at once; the answers are in the order of the images."""
    rows = []
    for image in body.images:
        with naming("images"):
            found = await _answer(caller, image, body.cluster, body.namespace)
        rows.append({"image": image, **found._asdict()})
    return answer(linked({}, {"self": path_to("allow", "check")}, {"items": rows}), headers=NO_STORE)


@router.get("/allow/decisions")
async def list_allow_decisions(  # noqa: PLR0913 -- one for each parameter
    caller: Reader,
    request: Request,
    *,
    image: Annotated[Line | None, Query(description="Only about this text.")] = None,
    outcome: Annotated[str | None, Query(max_length=10, description="allow, deny or unknown.")] = None,
    principal: Annotated[Line | None, Query(description="Only those that this one got.")] = None,
    since: Annotated[str | None, Query(max_length=60, description="A date, or how long ago: 7d.")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """List what was answered, the newest first; without a role everywhere, what you were told of your repositories.

    Equal answers within a minute are one entry with a `count`.
    """
    asker = principal if caller.reach.is_everything else caller.principal.name
    with naming("outcome" if outcome not in (None, "allow", "deny", "unknown") else "since"):
        wanted = build_decision_filter(
            image=image,
            outcome=outcome,
            principal=asker,
            since=since,
            before_id=read_number(cursor),
            limit=limit + 1,
        )
    if principal not in (None, asker):
        return listing(request, Listed([]))
    found, hosts = await caller.parts.database.read(lambda read: (find_decisions(read, wanted), load_hosts(read)))
    shown = found[:limit]
    last = write_cursor(shown[-1]["id"]) if len(found) > limit else None
    # Names are not unique among providers: of what was answered to a namesake only their own repositories are shown.
    rows = [linked(row, {}) for row in shown if _sees_image(caller, row["image"], hosts)]
    return listing(request, Listed(rows, last))


@router.get("/allow/{entry_id:int}")
async def show_allow(caller: Reader, entry_id: EntryId) -> Response:
    """Show an entry, also one that was removed."""
    return document(entry_row(await _find(caller, entry_id)), {"self": _path(entry_id)})


@router.delete("/allow/{entry_id:int}", status_code=204)
async def remove_allow(caller: Writer, entry_id: EntryId) -> Response:
    """End an entry. It stays in the list of those that ended."""
    arguments = {"ids": [entry_id], "principal": caller.principal.name}
    await caller.parts.commands["allow-remove"](arguments, Tell())
    return Response(status_code=204)


async def _answer(caller: Caller, image: str, cluster: str, namespace: str) -> Answer:
    """The answer, from memory where the service keeps the list there; it is written down later."""
    allow = caller.parts.allow
    if not caller.reach.is_everything:
        hosts = allow.hosts if allow is not None else await caller.parts.database.read(load_hosts)
        if not _sees(caller, parse_image(image), hosts, otherwise=True):
            raise NotFound(f"there is no image {image[:160]}")
    if allow is None:
        row = await caller.ask(lambda inventory: inventory.allow_check(image, cluster=cluster, namespace=namespace))
        return Answer(**{name: row[name] for name in Answer._fields})
    found = await allow.answer(image, cluster=cluster, namespace=namespace)
    told = (found.digest, cluster, namespace, str(found.outcome), found.reason, found.entry_ids)
    allow.decisions.note(Decided(caller.principal.name, INTERFACE, image, *told))
    return found


async def _find(caller: Caller, entry_id: int) -> AllowRecord:
    found, hosts = await caller.parts.database.read(lambda read: (load_entry(read, entry_id), load_hosts(read)))
    if not _sees_entry(caller, found, hosts):
        raise missing_entry(entry_id)
    return found


def _visible(caller: Caller, read: Any, wanted: AllowFilter, most: int) -> list[AllowRecord]:
    """The first entries that the caller sees: neither the length of a page nor a cursor tells of others."""
    hosts, kept = load_hosts(read), list[AllowRecord]()
    while len(kept) < most:
        page = list_entries(read, wanted)
        kept += [one for one in page if _sees_entry(caller, one, hosts)]
        if len(page) < _READ_AT_ONCE:
            break
        wanted = replace(wanted, after_id=page[-1].id)
    return kept[:most]


def _sees_entry(caller: Caller, record: AllowRecord, hosts: Hosts) -> bool:
    return _sees_image(caller, record.image, hosts)


def _sees_image(caller: Caller, text: str, hosts: Hosts) -> bool:
    if caller.reach.is_everything:
        return True
    try:
        image = parse_image(text)
    except InputError:
        return False
    return _sees(caller, image, hosts, otherwise=False)


def _sees(caller: Caller, image: Image, hosts: Hosts, *, otherwise: bool) -> bool:
    """Whether what is named lies in reach; ``otherwise`` where it is in no registry that is known."""
    by_host = {host: name for name, some in hosts.items() for host in some}
    host, _, path = image.names[0].partition("/") if image.names else ("", "", "")
    return caller.reach.has(by_host[host], path) if host in by_host else otherwise


def _linked(record: AllowRecord) -> Mapping[str, Any]:
    return linked(entry_row(record), {"self": _path(record.id)})


def _path(entry_id: int) -> str:
    return path_to("allow", str(entry_id))
