"""Can a registry be asked, as whom, and what can it do? Asks it a few harmless questions."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

from regwarden.core.projects import Access
from regwarden.errors import Conflict, RegistryError
from regwarden.flows.deletion_probe import DeletionAnswer, ask_deletion
from regwarden.library_crawl import CrawlCall, log_warning, registry_changes
from regwarden.library_remote import ServiceCommand
from regwarden.registries.api import Ability, KnowsProjects
from regwarden.store import reports
from regwarden.store.capabilities import find_probe_repository, merge_capabilities
from regwarden.store.projects import save_access_of
from regwarden.wiring import RegistryAccess, new_installation_id, open_registry, resolve_registry, run_async

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from regwarden.settings_sources import LoadedSettings
    from regwarden.store.database import Database

Read = Callable[[Callable[[Any], Any]], Any]

_UNKNOWN: Final = "unknown"
_SWITCH_ON: Final = (
    "storage:\n  delete:\n    enabled: true\n",
    "REGISTRY_STORAGE_DELETE_ENABLED=true",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryCheck:
    """What a registry answered, and what the inventory knows of it.

    ``capabilities`` are supported, unsupported or unknown; ``error`` is why it could not be asked. Deletion was asked
    about in ``probed_repository`` (empty: none is known), ``deletion_doubt`` is why the answer is not known, and
    ``deletion_configuration`` what to write into a registry's configuration, or environment, to switch it on.
    ``access`` is who we are at a GitLab and what that allows.
    """

    registry: str
    url: str
    error: RegistryError | None = None
    server: str = ""
    credentials_source: str = ""
    capabilities: Mapping[str, str] = field(default_factory=dict)
    access: Access | None = None
    probed_repository: str = ""
    deletion_doubt: str = ""
    deletion_configuration: tuple[str, ...] = ()
    crawl_state: str | None = None
    crawled_at: datetime | None = None
    tag_count: int = 0
    problem_count: int = 0

    def to_record(self) -> dict[str, Any]:
        """The check as plain values, for programs."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        error = self.error
        values["error"] = None if error is None else {"code": error.code, "message": error.message, "hint": error.hint}
        values["access"] = None if self.access is None else msgspec.to_builtins(self.access)
        return {"is_reachable": error is None, **values}


@dataclass(frozen=True, slots=True)
class Findings:
    """What of an answer is worth keeping: abilities to delete, and who we are at a GitLab."""

    found: dict[str, str] | None = None
    access: Access | None = None

    def save(self, connection: Connection, registry: str) -> None:
        """Keep it of a registry, named; where the inventory has none nothing is stored."""
        if self.found is not None:
            merge_capabilities(connection, registry, self.found)
        if self.access is not None:
            save_access_of(connection, registry, self.access)

    def __bool__(self) -> bool:
        return self.found is not None or self.access is not None


def check_registry(
    known: Sequence[Mapping[str, Any]], loaded: LoadedSettings, call: CrawlCall, read: Read
) -> RegistryCheck:
    """Ask a registry whether it is one and what it can do; ``known`` are the registries of the inventory.

    ``read`` reads from the inventory; it is used for a known registry only.
    Raises ``InputError`` if no registry is meant or its settings cannot be used.
    """
    access, row = _resolve(known, loaded, call)
    name = access.registry.name
    repository = None if row is None else read(lambda connection: find_probe_repository(connection, name))
    return run_async(_ask(access, loaded, call, _stored(row, repository)))


async def perform_check(database: Database, loaded: LoadedSettings, call: CrawlCall) -> RegistryCheck:
    """As ``check_registry`` in an event loop; what was found out about deletion is kept in the inventory."""
    overview = await database.read(reports.registry_overview)
    access, row = _resolve([asdict(one) for one in overview], loaded, call)
    name = access.registry.name
    repository = (
        None if row is None else await database.read(lambda connection: find_probe_repository(connection, name))
    )
    check = await _ask(access, loaded, call, _stored(row, repository))
    if row is not None and (findings := _worth_keeping(check)):
        await database.write(lambda connection: findings.save(connection, name))
    return check


def _resolve(
    known: Sequence[Mapping[str, Any]], loaded: LoadedSettings, call: CrawlCall
) -> tuple[RegistryAccess, Mapping[str, Any] | None]:
    """How the registry is reached, and its row of the inventory, if it has one."""
    access = resolve_registry(
        call.registry,
        loaded,
        call.environ,
        known={row["registry"]: row["url"] for row in known},
        changes=registry_changes(call.arguments),
    )
    return access, next((row for row in known if row["registry"] == access.registry.name), None)


def _stored(row: Mapping[str, Any] | None, repository: str | None) -> dict[str, Any]:
    """What the inventory knows of the registry, as fields of the answer."""
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
    return {**stored, "probed_repository": repository or ""}


def keep_found(check: RegistryCheck, write: Callable[[Callable[[Database], Any], ServiceCommand[Any]], Any]) -> None:
    """Keep in the inventory what was found out; while another process writes it is left undone."""
    findings = _worth_keeping(check)
    if not findings or (findings.found is None and check.crawl_state is None):
        return
    arguments = {"registry": check.registry, "found": findings.found, "access": msgspec.to_builtins(findings.access)}
    command = ServiceCommand("capabilities", arguments, type(None))
    with contextlib.suppress(Conflict):  # the answer is shown all the same, and a plan asks again
        write(
            lambda database: database.write_now(lambda connection: findings.save(connection, check.registry)), command
        )


def _worth_keeping(check: RegistryCheck) -> Findings:
    """What was found out about deletion, if anything, and who we are."""
    found = {name: check.capabilities.get(name, _UNKNOWN) for name in ("delete", "delete_tag")}
    is_nothing = not check.probed_repository or set(found.values()) == {_UNKNOWN}
    return Findings(None if is_nothing else found, check.access)


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
            repository = stored["probed_repository"]
            deletion = await ask_deletion(opened.connector, repository) if repository else DeletionAnswer()
            connector = opened.connector
            who = await connector.describe_access() if isinstance(connector, KnowsProjects) else None
        except RegistryError as error:
            return RegistryCheck(**about, error=error, credentials_source=opened.credentials_source)
    words = {name: str(value) for name, value in asdict(capabilities).items() if name != "server"}
    is_off = deletion.delete is Ability.UNSUPPORTED
    return RegistryCheck(
        **about,
        server=capabilities.server or ping.server,
        credentials_source=opened.credentials_source,
        capabilities={**words, **deletion.found},
        access=who,
        deletion_doubt=_doubt(deletion, repository),
        deletion_configuration=_SWITCH_ON if is_off else (),
    )


def _doubt(deletion: DeletionAnswer, repository: str) -> str:
    if not repository:
        return "the inventory knows no repository of it in which to ask; crawl it first"
    if deletion.error is not None:
        return f"{deletion.error.message}. {deletion.error.hint}".strip()
    if Ability.UNKNOWN in (deletion.delete, deletion.delete_tag):
        return "its answer to a harmless question is none that we know"
    return ""
