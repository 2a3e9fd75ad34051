"""How does a call of the library become a crawl: arguments to settings, credentials and options, and one event loop?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypedDict

import msgspec
import structlog

from regwarden.core.patterns import parse_pattern
from regwarden.errors import InputError
from regwarden.flows.crawl import CrawlOptions, CrawlProgress, CrawlReport, Progress, crawl
from regwarden.library_remote import ServiceCommand, absolute_files
from regwarden.settings import RegistrySettings, Secret
from regwarden.store import reports
from regwarden.wiring import RegistryAccess, open_services, resolve_registry, run_async

if TYPE_CHECKING:
    from regwarden.settings_sources import LoadedSettings
    from regwarden.store.database import Database


class CrawlArguments(TypedDict, total=False):
    """What ``Inventory.crawl`` may be told; what is not given is taken from the settings.

    How the registry is reached: ``name`` (what it is called from now on), ``username`` and ``password``,
    ``docker_config``, ``digest_auth``, ``client_certificate``, ``client_key``, ``ca_bundle``, ``token_hosts``,
    ``blob_hosts``, ``concurrency``, ``requests_per_second``; of a GitLab ``gitlab_url`` (its own address),
    ``gitlab_groups``, ``gitlab_projects`` (without both: all). What is read: ``repositories`` (patterns),
    ``with_configs``, ``verify`` (probe that everything exists), ``verify_blobs`` (ask for each blob),
    ``accept_disappearance`` (believe it when suspiciously much has vanished, or when GitLab lists
    something no more and does not let us look).
    """

    name: str
    username: str
    password: str
    docker_config: str
    digest_auth: bool
    client_certificate: str
    client_key: str
    ca_bundle: str
    token_hosts: Sequence[str]
    blob_hosts: Sequence[str]
    concurrency: int
    requests_per_second: float
    gitlab_url: str
    gitlab_groups: Sequence[str]
    gitlab_projects: Sequence[str]
    repositories: Sequence[str]
    with_configs: bool
    verify: bool
    verify_blobs: bool
    accept_disappearance: bool


@dataclass(frozen=True, slots=True)
class CrawlCall:
    """One call of ``Inventory.crawl``."""

    registry: str
    arguments: CrawlArguments = field(repr=False)
    environ: Mapping[str, str] = field(repr=False)
    on_progress: CrawlProgress | None = None
    on_warning: Callable[[str], None] | None = None


def run_crawl(database: Database, loaded: LoadedSettings, call: CrawlCall) -> CrawlReport:
    """``perform_crawl`` for callers without an event loop."""
    return run_async(perform_crawl(database, loaded, call))


def remote_crawl(call: CrawlCall) -> ServiceCommand[CrawlReport]:
    """The crawl as the service does it, with its own settings and environment, and these arguments."""
    on_progress = call.on_progress

    def show(state: Any) -> None:
        if on_progress is not None:
            on_progress(msgspec.convert(state, Progress))

    arguments = {"registry": call.registry, "arguments": absolute_files(call.arguments)}
    return ServiceCommand("crawl", arguments, CrawlReport, show, call.on_warning)


async def perform_crawl(database: Database, loaded: LoadedSettings, call: CrawlCall) -> CrawlReport:
    """Find the registry, open it, crawl it, close it. Raises what ``flows.crawl`` and ``wiring`` raise."""
    registries = await database.read(reports.registry_overview)
    access = resolve_registry(
        call.registry,
        loaded,
        call.environ,
        known={one.registry: one.url for one in registries},
        changes=registry_changes(call.arguments),
    )
    options = _options(call.arguments, access, loaded)
    warn = call.on_warning or log_warning
    defaults, environ = loaded.settings.defaults, call.environ
    async with open_services(database, [access], defaults, environ=environ, warn=warn) as (services, targets):
        return await crawl(services, targets[0], options, call.on_progress)


def registry_changes(arguments: CrawlArguments) -> dict[str, Any]:
    """The arguments that change how a registry is reached, as ``wiring`` takes them."""
    check_argument_names(arguments)
    changes: dict[str, Any] = {
        key: value if isinstance(value, (str, bool, int, float)) else tuple(value)  # type: ignore[arg-type]  # the keys say the types
        for key, value in arguments.items()
        if key in RegistrySettings.__struct_fields__
    }
    if "password" in arguments:
        changes["password"] = Secret(arguments["password"])
    return changes


def _options(arguments: CrawlArguments, access: RegistryAccess, loaded: LoadedSettings) -> CrawlOptions:
    concurrency = access.registry.concurrency or loaded.settings.defaults.concurrency
    return CrawlOptions(
        with_configs=arguments.get("with_configs", True),
        verify=arguments.get("verify", False),
        verify_blobs=arguments.get("verify_blobs", False),
        accept_disappearance=arguments.get("accept_disappearance", False),
        repositories=tuple(parse_pattern(text) for text in arguments.get("repositories", ())),
        concurrency=concurrency,
    )


def check_argument_names(arguments: Mapping[str, Any]) -> None:
    """Raise InputError for an argument that ``Inventory.crawl`` does not have."""
    unknown = set(arguments) - set(CrawlArguments.__annotations__)
    if unknown:
        known = ", ".join(CrawlArguments.__annotations__)
        raise InputError(f"crawl has no argument {min(unknown)!r}", hint=f"It has: {known}.")


def log_warning(text: str) -> None:
    """What warnings do where nobody listens: they go to the log."""
    structlog.get_logger("regwarden").warning(text)
