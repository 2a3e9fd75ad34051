"""The commands about who may come in that the service runs for others. One line each in ``ACCESS_COMMANDS``."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from regwarden.library_tokens import TokenMade, end_session, end_sessions_of, end_token, make_token
from regwarden.service_context import Command, ServiceContext
from regwarden.web.control import Tell


class CreateTokenRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A token to be made, and who makes it."""

    name: str
    grants: list[dict[str, Any]]
    expires: str | None = None
    principal: str


async def _create_token(context: ServiceContext, asked: CreateTokenRequest, _tell: Tell) -> TokenMade:
    return await asyncio.to_thread(
        make_token,
        context.database,
        name=asked.name,
        grants=asked.grants,
        expires=asked.expires,
        principal=asked.principal,
    )


class RevokeTokenRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The name or the id of a token to be revoked, and who does it."""

    name: str
    principal: str


async def _revoke_token(context: ServiceContext, asked: RevokeTokenRequest, _tell: Tell) -> None:
    await asyncio.to_thread(end_token, context.database, asked.name, asked.principal)


class EndSessionRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A sign-in to be ended, and who does it; with ``subject`` only if it is theirs."""

    id: str
    principal: str
    subject: str | None = None


async def _end_session(context: ServiceContext, asked: EndSessionRequest, _tell: Tell) -> None:
    await asyncio.to_thread(end_session, context.database, asked.id, asked.principal, subject=asked.subject)


class EndSessionsRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose sign-ins are all to be ended, and who does it."""

    subject: str
    principal: str


async def _end_sessions(context: ServiceContext, asked: EndSessionsRequest, _tell: Tell) -> int:
    return await asyncio.to_thread(end_sessions_of, context.database, asked.subject, asked.principal)


ACCESS_COMMANDS: Final[Mapping[str, Command[Any]]] = {
    "session-end": Command(EndSessionRequest, _end_session),
    "session-end-all": Command(EndSessionsRequest, _end_sessions),
    "token-create": Command(CreateTokenRequest, _create_token),
    "token-revoke": Command(RevokeTokenRequest, _revoke_token),
}
