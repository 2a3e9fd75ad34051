"""What can a registry do, as far as anybody found out? The stored record, which no question makes poorer."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from sqlalchemy import select, update
from sqlalchemy.engine import Connection

from regwarden.store.schema import registries, repositories

_UNKNOWN = "unknown"


def load_capabilities(connection: Connection, registry: str) -> dict[str, str]:
    """The record of a registry by name: ability → supported, unsupported or unknown; empty where there is none."""
    stored = connection.scalar(select(registries.c.capabilities).where(registries.c.name == registry))
    return {} if stored is None else msgspec.json.decode(stored, type=dict[str, str])


def merge_capabilities(
    connection: Connection, registry: str, found: Mapping[str, str], *, is_elsewhere: bool = False
) -> dict[str, str]:
    """Store what was found out of a registry, named, and return the whole record.

    An ability that was found out stays known when somebody else could not tell. ``is_elsewhere``: another address or
    user was asked, so that nothing of before counts. Where the inventory has no such registry nothing is stored.
    """
    row = connection.execute(
        select(registries.c.id, registries.c.capabilities)
        .where(registries.c.name == registry)
        .with_for_update(key_share=True)
    ).first()
    known = {} if row is None or is_elsewhere else msgspec.json.decode(row.capabilities, type=dict[str, str])
    news = {name: value for name, value in found.items() if value != _UNKNOWN or name not in known}
    merged = {**known, **news}
    if row is not None:
        stored = msgspec.json.encode(merged).decode()
        connection.execute(update(registries).where(registries.c.id == row.id).values(capabilities=stored))
    return merged


def find_probe_repository(connection: Connection, registry: str) -> str | None:
    """A repository of a registry in which a harmless question can be asked; ``None`` where none is known."""
    found: str | None = connection.scalar(
        select(repositories.c.name)
        .join(registries, registries.c.id == repositories.c.registry_id)
        .where(registries.c.name == registry, repositories.c.deleted_at.is_(None), repositories.c.state != "denied")
        .order_by(repositories.c.name)
        .limit(1)
    )
    return found
