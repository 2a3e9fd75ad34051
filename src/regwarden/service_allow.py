"""The commands of the allow-list that the service runs for processes beside it. One line each in ``ALLOW_COMMANDS``."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from regwarden.library_allow import AllowRequest, end_entries, make_entry
from regwarden.service_context import Command, ServiceContext
from regwarden.store.allow import AllowRecord
from regwarden.web.control import Tell


class AllowAddRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An entry to be made, and who makes it."""

    entry: AllowRequest
    principal: str


async def _add(context: ServiceContext, asked: AllowAddRequest, _tell: Tell) -> AllowRecord:
    return await asyncio.to_thread(make_entry, context.database, asked.entry, asked.principal)


class AllowRemoveRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who ends which entries."""

    ids: tuple[int, ...]
    principal: str


async def _remove(context: ServiceContext, asked: AllowRemoveRequest, _tell: Tell) -> None:
    await asyncio.to_thread(end_entries, context.database, asked.ids, asked.principal)


ALLOW_COMMANDS: Final[Mapping[str, Command[Any]]] = {
    "allow-add": Command(AllowAddRequest, _add),
    "allow-remove": Command(AllowRemoveRequest, _remove),
}
