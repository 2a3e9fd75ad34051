"""Routes about who may come in: who I am, tokens of programs, sign-ins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import Depends, Path, Query
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from regwarden.core.access import Permission, Role, narrower, permissions_of, reach
from regwarden.core.grants import grants_to_json, parse_grants
from regwarden.errors import Forbidden, NotFound
from regwarden.library_tokens import TokenMade
from regwarden.web.api.context import Caller, Permitted
from regwarden.web.api.documents import NO_STORE, Listed, document, linked, listing, path_to
from regwarden.web.api.routing import new_router
from regwarden.web.api.work import Body
from regwarden.web.control import Tell

router = new_router("access")

Anybody = Annotated[Caller, Depends(Permitted(Permission.INVENTORY_READ))]
Administrator = Annotated[Caller, Depends(Permitted(Permission.TOKENS_MANAGE))]
AccessId = Annotated[str, Path(description="Id of a token or a sign-in.", pattern="^[0-9A-Za-z-]{1,64}$")]
WantsEnded = Annotated[bool, Query(alias="ended", description="Also what has expired or was revoked.")]


class WantedGrant(Body):
    """A role, in the registries and repositories that match; empty is all."""

    role: str = Field(
        max_length=40, description="What may be done there.", json_schema_extra={"enum": [str(role) for role in Role]}
    )
    registries: list[str] = Field(default=[], max_length=100, description="Names or patterns; empty is all.")
    repositories: list[str] = Field(default=[], max_length=100, description="Names or patterns; empty is all.")


class WantedToken(Body):
    """A token to be made."""

    name: str = Field(min_length=1, max_length=100, description="What uses it; no two tokens have one name.")
    grants: list[WantedGrant] = Field(min_length=1, max_length=50, description="What it may do, and where.")
    expires: str | None = Field(
        default=None, max_length=40, description="A date, or how long from now; 90d unless given."
    )


@router.get("/me")
async def show_me(caller: Anybody) -> Response:
    """Who you are here, and what you may do where."""
    principal = caller.principal
    fields = {
        "id": principal.id,
        "name": principal.name,
        "display_name": principal.display_name,
        "kind": principal.kind.value,
        "grants": grants_to_json(principal.grants),
        "permissions": [permission.value for permission in permissions_of(principal)],
    }
    return document(fields, {"self": path_to("me"), "sessions": path_to("sessions")}, headers=NO_STORE)


@router.get("/tokens")
async def list_tokens(caller: Administrator, request: Request, *, ended: WantsEnded = False) -> Response:
    """Tokens of programs, oldest first, and when they were last used. Their secrets are kept nowhere."""
    rows = await caller.ask(lambda inventory: inventory.tokens(include_ended=ended))
    return listing(request, Listed([_token(row) for row in rows]))


@router.post("/tokens", status_code=201, responses={201: {"description": "Made"}, 409: {"description": "Name taken"}})
async def create_token(caller: Administrator, wanted: WantedToken) -> Response:
    """Make a token that may do no more than you. The answer has it; it is not shown again."""
    grants = [one.model_dump() for one in wanted.grants]
    if not narrower(parse_grants(grants), caller.principal):
        hint = "Ask for fewer roles, or for the areas that you have."
        raise Forbidden("a token may do no more than who makes it", hint=hint, code="wider-than-own")
    arguments = {
        "name": wanted.name,
        "grants": grants,
        "expires": wanted.expires,
        "principal": caller.principal.name,
    }
    made: TokenMade = await caller.parts.commands["token-create"](arguments, Tell())
    fields = {name: getattr(made, name) for name in TokenMade.__slots__}
    own = path_to("tokens", made.id)
    return document(fields, {"self": own}, status=201, headers={**NO_STORE, "Location": own})


@router.get("/tokens/{access_id}", responses={404: {"description": "There is none"}})
async def show_token(caller: Administrator, access_id: AccessId) -> Response:
    """One token, also when it has expired or was revoked."""
    rows = await caller.ask(lambda inventory: inventory.tokens(include_ended=True))
    for row in rows:
        if row.id == access_id:
            return document(row, {"self": path_to("tokens", access_id)})
    raise NotFound(f"there is no token {access_id}", code="unknown-token")


@router.delete("/tokens/{access_id}", status_code=204, responses={404: {"description": "There is none"}})
async def revoke_token(caller: Administrator, access_id: AccessId) -> Response:
    """Revoke a token, at once and for ever."""
    # Names may look like ids; here only an id counts.
    rows = await caller.ask(lambda inventory: inventory.tokens())
    if not any(row.id == access_id for row in rows):
        raise NotFound(f"there is no valid token {access_id}", code="unknown-token")
    arguments = {"name": access_id, "principal": caller.principal.name}
    await caller.parts.commands["token-revoke"](arguments, Tell())
    return Response(status_code=204)


@router.get("/sessions")
async def list_sessions(caller: Anybody, request: Request, *, ended: WantsEnded = False) -> Response:
    """Your sign-ins, oldest first; an administrator sees all."""
    subject = None if _manages(caller) else caller.principal.id
    rows = await caller.ask(lambda inventory: inventory.sessions(include_ended=ended, principal=subject))
    return listing(request, Listed([linked(row, {"self": path_to("sessions", row.id)}) for row in rows]))


@router.delete("/sessions/{access_id}", status_code=204, responses={404: {"description": "There is none"}})
async def end_session(caller: Anybody, access_id: AccessId) -> Response:
    """End a sign-in with all its tokens: one of yours; an administrator any."""
    subject = None if _manages(caller) else caller.principal.id
    arguments = {"id": access_id, "principal": caller.principal.name, "subject": subject}
    await caller.parts.commands["session-end"](arguments, Tell())
    return Response(status_code=204)


@router.delete("/sessions", status_code=204)
async def end_sessions(
    caller: Anybody,
    principal: Annotated[
        str | None, Query(max_length=1000, description="Id of somebody else; only an administrator may name one.")
    ] = None,
) -> Response:
    """End all your sign-ins, everywhere; an administrator may end those of somebody else."""
    subject = caller.principal.id if principal is None else principal
    if subject != caller.principal.id and not _manages(caller):
        raise Forbidden("only an administrator ends the sign-ins of somebody else")
    arguments = {"subject": subject, "principal": caller.principal.name}
    await caller.parts.commands["session-end-all"](arguments, Tell())
    return Response(status_code=204)


def _manages(caller: Caller) -> bool:
    return reach(caller.principal, Permission.TOKENS_MANAGE).is_everything


def _token(row: Mapping[str, Any]) -> dict[str, Any]:
    return linked(row, {"self": path_to("tokens", row["id"])})
