"""Which commands does the service run for processes beside it? One line each in ``COMMANDS``."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final, cast

import msgspec

from regwarden import clock
from regwarden.core.projects import Access
from regwarden.errors import InputError
from regwarden.flows.crawl import CrawlReport
from regwarden.library_check import Findings
from regwarden.library_crawl import CrawlArguments, CrawlCall, check_argument_names, perform_crawl
from regwarden.library_notifications import RegistrySecrets, make_secret
from regwarden.library_replay import Replayed, replay_deliveries
from regwarden.service_access import ACCESS_COMMANDS
from regwarden.service_allow import ALLOW_COMMANDS
from regwarden.service_cleanup import CLEANUP_COMMANDS
from regwarden.service_context import Command, ServiceContext
from regwarden.store.purging import Purged, purge
from regwarden.web.control import Handler, Tell
from regwarden.wiring import build_keeping


class CrawlRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The arguments of ``Inventory.crawl``."""

    registry: str
    arguments: dict[str, Any] = {}


async def _crawl(context: ServiceContext, asked: CrawlRequest, tell: Tell) -> CrawlReport:
    check_argument_names(asked.arguments)
    arguments = cast("CrawlArguments", _convert("crawl", asked.arguments, CrawlArguments))
    call = CrawlCall(asked.registry, arguments, context.environ, tell.progress, tell.warning)
    return await perform_crawl(context.database, context.loaded, call)


class ReplayRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The arguments of ``Inventory.replay``."""

    ids: tuple[int, ...] | None = None
    registry: str | None = None


async def _replay(context: ServiceContext, asked: ReplayRequest, _tell: Tell) -> Replayed:
    return await replay_deliveries(context.database, context.loaded, asked.ids, asked.registry)


class SecretRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The arguments of ``Inventory.registry_secrets``."""

    registry: str
    rotate: bool = False


async def _secret(context: ServiceContext, asked: SecretRequest, _tell: Tell) -> RegistrySecrets:
    return await asyncio.to_thread(make_secret, context.database, asked.registry, rotate=asked.rotate)


class CapabilitiesRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What ``Inventory.check`` found out of a registry: abilities as they are stored, and who we are at a GitLab."""

    registry: str
    found: dict[str, str] | None = None
    access: Access | None = None


async def _capabilities(context: ServiceContext, asked: CapabilitiesRequest, _tell: Tell) -> None:
    findings = Findings(asked.found, asked.access)
    await context.database.write(lambda connection: findings.save(connection, asked.registry))


class PurgeRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``Inventory.purge`` has no arguments: how long rows are kept is the service's own setting."""


async def _purge(context: ServiceContext, _asked: PurgeRequest, _tell: Tell) -> Purged:
    return await purge(context.database, build_keeping(context.loaded.settings), clock.now())


COMMANDS: Final[Mapping[str, Command[Any]]] = {
    **ACCESS_COMMANDS,
    **ALLOW_COMMANDS,
    **CLEANUP_COMMANDS,
    "capabilities": Command(CapabilitiesRequest, _capabilities),
    "crawl": Command(CrawlRequest, _crawl),
    "purge": Command(PurgeRequest, _purge),
    "replay": Command(ReplayRequest, _replay),
    "secret": Command(SecretRequest, _secret),
}


def service_handlers(context: ServiceContext) -> dict[str, Handler]:
    """The commands as ``web.control.control_app`` takes them."""
    return {name: _handler(name, command, context) for name, command in COMMANDS.items()}


def _handler(name: str, command: Command[Any], context: ServiceContext) -> Handler:
    async def handle(arguments: dict[str, Any], tell: Tell, /) -> Any:
        result = await command.run(context, _convert(name, arguments, command.arguments), tell)
        await context.on_done(name)
        return result

    return handle


def _convert(name: str, arguments: Mapping[str, Any], wanted: Any) -> Any:
    try:
        return msgspec.convert(arguments, wanted)
    except msgspec.ValidationError as error:
        raise InputError(f"{name} does not take these arguments: {error}", code="bad-request") from error
