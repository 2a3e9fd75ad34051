"""Can a registry be asked, as whom, and what can it do? Asks it a few harmless questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from regwarden.errors import RegistryError
from regwarden.library_crawl import CrawlCall, log_warning, registry_changes
from regwarden.wiring import RegistryAccess, new_installation_id, open_registry, resolve_registry, run_async

if TYPE_CHECKING:
    from regwarden.settings_sources import LoadedSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryCheck:
    """What a registry answered, and what the inventory knows of it.

    ``capabilities`` are supported, unsupported or unknown; ``error`` is why it could not be asked.
    """

    registry: str
    url: str
    error: RegistryError | None = None
    server: str = ""
    credentials_source: str = ""
    capabilities: Mapping[str, str] = field(default_factory=dict)
    crawl_state: str | None = None
    crawled_at: datetime | None = None
    tag_count: int = 0
    problem_count: int = 0

    def to_record(self) -> dict[str, Any]:
        """The check as plain values, for programs."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        error = self.error
        values["error"] = None if error is None else {"code": error.code, "message": error.message, "hint": error.hint}
        return {"is_reachable": error is None, **values}


def check_registry(known: Sequence[Mapping[str, Any]], loaded: LoadedSettings, call: CrawlCall) -> RegistryCheck:
    """Ask a registry whether it is one and what it can do; ``known`` are the registries of the inventory.

    Raises ``InputError`` if no registry is meant or its settings cannot be used.
    """
    access = resolve_registry(
        call.registry,
        loaded,
        call.environ,
        known={row["registry"]: row["url"] for row in known},
        changes=registry_changes(call.arguments),
    )
    row = next((row for row in known if row["registry"] == access.registry.name), None)
    stored = (
        {}
        if row is None
        else {
            "crawl_state": row["crawl_state"],
            "crawled_at": row["crawled_at"],
            "tag_count": row["tag_count"],
            "problem_count": row["problem_count"],
        }
    )
    return run_async(_ask(access, loaded, call, stored))


async def _ask(
    access: RegistryAccess, loaded: LoadedSettings, call: CrawlCall, stored: dict[str, Any]
) -> RegistryCheck:
    warn = call.on_warning or log_warning
    about = {"registry": access.registry.name, "url": access.registry.url, **stored}
    async with open_registry(
        access, loaded.settings.defaults, new_installation_id(), environ=call.environ, warn=warn
    ) as opened:
        try:
            ping = await opened.connector.ping()
            capabilities = await opened.connector.probe_capabilities()
        except RegistryError as error:
            return RegistryCheck(**about, error=error, credentials_source=opened.credentials_source)
    words = {name: str(value) for name, value in asdict(capabilities).items() if name != "server"}
    return RegistryCheck(
        **about,
        server=capabilities.server or ping.server,
        credentials_source=opened.credentials_source,
        capabilities=words,
    )
