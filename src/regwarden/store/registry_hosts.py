"""Under which hosts is each registry known? What the settings said last, for questions that have no settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
from sqlalchemy import select
from sqlalchemy.engine import Connection

from regwarden.core.allow_images import compared_host, host_of
from regwarden.store.bulk import bulk_upsert
from regwarden.store.schema import installation, registries

_NAME: Final = "registry-hosts"

Hosts = Mapping[str, tuple[str, ...]]


def save_hosts(connection: Connection, hosts: Hosts) -> None:
    """Keep the hosts that the settings have for each registry; those of registries that they do not have stay."""
    known = _stored(connection)
    wanted = {**known, **{name: list(some) for name, some in hosts.items()}}
    if wanted != known:
        text = msgspec.json.encode(wanted, order="deterministic").decode()
        bulk_upsert(connection, installation, [{"name": _NAME, "value": text}], update=("value",))


def load_hosts(connection: Connection) -> dict[str, tuple[str, ...]]:
    """Registry → its hosts in the form in which they are compared: of its address, and of the settings kept last."""
    found = {
        row.name: {compared_host(host_of(row.url)): None}
        for row in connection.execute(select(registries.c.name, registries.c.url))
    }
    for name, hosts in _stored(connection).items():
        found.setdefault(name, {}).update(dict.fromkeys(hosts))
    return {name: tuple(hosts) for name, hosts in found.items()}


def _stored(connection: Connection) -> dict[str, list[str]]:
    found: str | None = connection.scalar(select(installation.c.value).where(installation.c.name == _NAME))
    return {} if found is None else msgspec.json.decode(found, type=dict[str, list[str]])
