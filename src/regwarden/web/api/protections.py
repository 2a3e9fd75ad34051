"""Routes about what people hold by hand, so that no cleanup takes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import Depends, Path, Query
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from regwarden.core.access import Permission, Reach, reach
from regwarden.core.pattern_reach import has_pattern
from regwarden.core.patterns import parse_pattern
from regwarden.errors import Forbidden, InputError, NotFound
from regwarden.library_protections import Protected, find_protections, parse_hold
from regwarden.web.api.context import Caller, Permitted
from regwarden.web.api.cursors import read_number, write_cursor
from regwarden.web.api.documents import Listed, document, linked, listing, path_to
from regwarden.web.api.parameters import Cursor, Limit
from regwarden.web.api.routing import new_router
from regwarden.web.api.work import Body, Line, Reason, known_registries, naming
from regwarden.web.control import Tell

router = new_router("protections")
Reader = Annotated[Caller, Depends(Permitted(Permission.PROTECTIONS_READ))]
Writer = Annotated[Caller, Depends(Permitted(Permission.PROTECTIONS_WRITE))]
ProtectionId = Annotated[int, Path(ge=1, le=2**63 - 1, description="Id of a protection.")]


class ProtectionBody(Body):
    """What is to be held, and why."""

    reference: Line = Field(description="[REGISTRY/]REPOSITORY[:TAG][@DIGEST]; the repository may be a pattern.")
    reason: Reason = Field(description="Others will want to know why.")
    until: Line | None = Field(default=None, description="A date, or how long from now; without it, until removed.")
    registry: Line | None = Field(default=None, description="The registry, where the inventory has several.")


@router.get("/protections")
async def list_protections(
    caller: Reader,
    request: Request,
    *,
    registry: Annotated[Line | None, Query(description="Only in this registry.")] = None,
    ended: Annotated[bool, Query(description="Also what was held once.")] = False,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """What people hold by hand, by id: in repositories that you may see."""
    after = read_number(cursor) or 0
    rows = await caller.parts.database.read(lambda connection: find_protections(connection, registry, ended))
    found = [row for row in rows if _id(row) > after and _lies_in(caller.reach, row)]
    shown = found[:limit]
    last = write_cursor(_id(shown[-1])) if len(found) > limit else None
    return listing(request, Listed([linked(row, {"self": _path(_id(row))}) for row in shown], last))


@router.post("/protections", status_code=201)
async def protect(caller: Writer, body: ProtectionBody) -> Response:
    """Hold a repository, tag or digest by hand."""
    known = sorted(await known_registries(caller))
    with naming("reference"):
        hold = parse_hold(body.reference, body.registry, known)
    if not has_pattern(caller.reach, hold.registry, parse_pattern(hold.repository)):
        seen = reach(caller.principal, Permission.INVENTORY_READ)
        if not has_pattern(seen, hold.registry, parse_pattern(hold.repository)) and not seen.touches(hold.registry):
            raise NotFound(f"the inventory has no {body.reference[:160]}")
        raise Forbidden(f"{caller.principal.name} may not protect {body.reference[:160]}")
    arguments = {
        "text": body.reference,
        "reason": body.reason,
        "until": body.until,
        "registry": hold.registry,
        "principal": caller.principal.name,
    }
    with naming("until"):  # all else was read above
        made: Protected = await caller.parts.commands["protection-add"](arguments, Tell())
    own = _path(made.id)
    return document(asdict(made), {"self": own}, status=201, headers={"Location": own})


@router.get("/protections/{protection_id}")
async def show_protection(caller: Reader, protection_id: ProtectionId) -> Response:
    """One protection, also one that has ended."""
    row = await _find(caller, protection_id)
    return document(row, {"self": _path(protection_id)})


@router.delete("/protections/{protection_id}", status_code=204)
async def unprotect(caller: Writer, protection_id: ProtectionId) -> Response:
    """End a protection. It stays in the list of those that ended."""
    row = await _find(caller, protection_id)
    if not _lies_in(caller.reach, row):
        raise Forbidden(f"{caller.principal.name} may not end protection {protection_id}")
    arguments = {"ids": [protection_id], "principal": caller.principal.name}
    await caller.parts.commands["protection-remove"](arguments, Tell())
    return Response(status_code=204)


async def _find(caller: Caller, protection_id: int) -> dict[str, object]:
    """One that may be seen. Raises ``NotFound``."""
    seen = reach(caller.principal, Permission.PROTECTIONS_READ)
    rows = await caller.parts.database.read(lambda connection: find_protections(connection, None, include_ended=True))
    for row in rows:
        if _id(row) == protection_id and _lies_in(seen, row):
            return row
    raise NotFound(
        f"there is no protection {protection_id}", hint="GET /api/v1/protections shows them.", code="no-protection"
    )


def _lies_in(granted: Reach, row: Mapping[str, Any]) -> bool:
    """Whether all that a protection holds lies in reach."""
    if granted.is_everything:
        return True
    try:
        pattern = parse_pattern(row["repository"])
    except InputError:  # written by an older release: nobody knows what it holds
        return granted.has_all_of(row["registry"])
    return has_pattern(granted, row["registry"], pattern)


def _id(row: Mapping[str, Any]) -> int:
    return int(row["id"])


def _path(protection_id: int) -> str:
    return path_to("protections", str(protection_id))
