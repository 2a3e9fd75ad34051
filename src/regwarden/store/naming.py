"""Is a repository still called what it was called when its reading began? Otherwise that reading must not be kept.

What counts is which renames have become known since, not when they happened: clocks differ, and events come late.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.engine import Connection

from regwarden.store.event_rows import lock_events
from regwarden.store.event_schema import repository_renames
from regwarden.store.inventory import Naming, ensure_repository, find_repository
from regwarden.store.renamed_readings import read_again
from regwarden.store.renaming import load_renames, present_name
from regwarden.store.schema import registries, repositories


def load_naming(connection: Connection, registry_id: int, at: datetime) -> Naming:
    """What is known of renames now; ``at`` is when the repositories' names are going to be learned."""
    return Naming(registry_id, at, frozenset(load_renames(connection, registry_id)))


def discard_renamed(connection: Connection, naming: Naming, name: str) -> bool:
    """Whether a repository was renamed since its name was learned; then what is called now is noted to be read.

    So is the old name, where that has been taken again. What the reading found is nobody's for certain.
    """
    since = _renames_since(connection, naming, name)
    if not since:
        return False
    first = min(at for _, _, at in since)
    wanted = {present_name(name, first - 1, load_renames(connection, naming.registry_id))}
    if find_repository(connection, naming.registry_id, name) is not None:
        wanted.add(name)
    for one in sorted(wanted):
        read_again(connection, naming.registry_id, one, first)
    return True


def _renames_since(connection: Connection, naming: Naming, name: str) -> set[tuple[str, str, int]]:
    parts = name.split("/")
    paths = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
    columns = repository_renames.c
    found = connection.execute(
        select(columns.old_path, columns.new_path, columns.at).where(
            columns.registry_id == naming.registry_id, columns.old_path.in_(paths)
        )
    )
    return {(row.old_path, row.new_path, row.at) for row in found} - naming.renames


def hold_repository(connection: Connection, naming: Naming, name: str) -> int | None:
    """The id of a repository that keeps its name until the transaction ends; ``None`` if none is called so."""
    named = select(repositories.c.id).where(
        repositories.c.registry_id == naming.registry_id, repositories.c.name == name
    )
    found = connection.execute(named.with_for_update(key_share=True)).scalar()
    return None if found is None else int(found)


def ensure_named(connection: Connection, naming: Naming, name: str) -> int | None:
    """The id of a repository, which is added if it is new and then keeps its name until the transaction ends.

    ``None`` if it has been renamed since its name was learned; see ``discard_renamed``.
    """
    held = hold_repository(connection, naming, name)
    if held is None:
        # No row can be locked that is not there; no event is applied meanwhile either.
        of_registry = select(registries.c.name).where(registries.c.id == naming.registry_id)
        lock_events(connection, connection.execute(of_registry).scalar_one())
    if discard_renamed(connection, naming, name):
        return None
    return held if held is not None else ensure_repository(connection, naming.registry_id, name, naming.at)
