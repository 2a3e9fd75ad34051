"""Can manifests be deleted, and tags removed alone? Asks the registry, changes nothing there, and keeps the answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, fields
from typing import Final

from regwarden.errors import RegistryError
from regwarden.flows.services import Services
from regwarden.registries.api import (
    Ability,
    Capabilities,
    Connector,
    DeletesManifests,
    DeletesRepositories,
    DeletesTags,
    KnowsProjects,
)
from regwarden.store.capabilities import merge_capabilities

DROP_ABILITY: Final = "delete_repository"
"""Under which name the inventory keeps whether a repository can be deleted as a whole."""


@dataclass(frozen=True, slots=True)
class DeletionAnswer:
    """What a registry said; ``error`` is why it did not say all, where it was asked and refused."""

    delete: Ability = Ability.UNKNOWN
    delete_tag: Ability = Ability.UNKNOWN
    error: RegistryError | None = None

    @property
    def found(self) -> dict[str, str]:
        """The answers as the inventory keeps them."""
        return {"delete": str(self.delete), "delete_tag": str(self.delete_tag)}


async def ask_deletion(connector: Connector, repository: str) -> DeletionAnswer:
    """Ask in ``repository``, for which the delete scope is needed; whatever the registry refuses stays unknown.

    Raises ``InputError`` for a name that is none.
    """
    errors: list[RegistryError] = []

    async def ask(probe: Callable[[str], Awaitable[Ability]]) -> Ability:
        try:
            return await probe(repository)
        except RegistryError as error:
            errors.append(error)
            return Ability.UNKNOWN

    delete = await ask(connector.probe_delete) if isinstance(connector, DeletesManifests) else Ability.UNSUPPORTED
    # Who may not delete at all, or is not answered, need not be asked twice.
    if errors:
        return DeletionAnswer(error=errors[0])
    delete_tag = await ask(connector.probe_untag) if isinstance(connector, DeletesTags) else Ability.UNSUPPORTED
    return DeletionAnswer(delete, delete_tag, errors[0] if errors else None)


async def ask_drop(connector: Connector) -> Ability:
    """Whether a repository can be deleted as a whole, as far as our token decides that."""
    if not isinstance(connector, DeletesRepositories):
        return Ability.UNSUPPORTED
    if not isinstance(connector, KnowsProjects):
        return Ability.SUPPORTED
    projects: KnowsProjects = connector
    try:
        may = (await projects.describe_access()).can_delete_repositories
    except RegistryError:
        may = None
    return Ability.UNKNOWN if may is None else Ability.SUPPORTED if may else Ability.UNSUPPORTED


async def probe_deletion(services: Services, registry_name: str, repository: str) -> Capabilities:
    """Ask the registry, keep what it said in the inventory, and return all that is known of its abilities.

    Where it cannot be asked, what was known before stays. Raises ``InputError`` for a name that is none.
    """
    answer = await ask_deletion(services.connectors[registry_name], repository)
    known = await services.database.write(
        lambda connection: merge_capabilities(connection, registry_name, answer.found)
    )
    return parse_capabilities(known)


def parse_capabilities(known: dict[str, str]) -> Capabilities:
    """The stored record as the connectors' type; names and values of other releases are unknown."""
    abilities = {one.name for one in fields(Capabilities)} - {"server"}
    values = {name: Ability(value) for name, value in known.items() if name in abilities and value in set(Ability)}
    return Capabilities(**values, server=known.get("server", ""))
