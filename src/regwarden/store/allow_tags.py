"""What does a tag point to by the inventory, for an answer of the allow-list?"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Final

from sqlalchemy import select
from sqlalchemy.engine import Connection

from regwarden.core.allow_images import Image, Synonyms
from regwarden.core.allowlist import TagState, Target
from regwarden.store.registry_hosts import Hosts
from regwarden.store.schema import manifests, registries, repositories, tags
from regwarden.store.times import to_micros

_READ: Final = "ok"


def synonyms_of(hosts: Hosts) -> Synonyms:
    """For each host of a registry, its others."""
    return {one: tuple(other for other in some if other != one) for some in hosts.values() for one in some}


def find_target(connection: Connection, image: Image, hosts: Hosts, moved_before: datetime) -> Target:
    """What the tag of ``image`` points to, if that is known and the tag was not moved at ``moved_before`` or later."""
    by_host = {host: name for name, some in sorted(hosts.items()) for host in some}
    places = {(by_host[host], path) for host, _, path in (one.partition("/") for one in image.names) if host in by_host}
    found = {row for place in sorted(places) for row in _find(connection, *place, image.tag)}
    if len({digest for digest, _ in found}) != 1:
        return Target(TagState.MISSING)
    if max(since for _, since in found) > to_micros(moved_before):
        return Target(TagState.MOVED)
    return Target(TagState.KNOWN, next(digest for digest, _ in found))


def _find(connection: Connection, registry: str, repository: str, tag: str) -> Collection[tuple[bytes, int]]:
    statement = (
        select(manifests.c.digest, tags.c.tagged_at)
        .join_from(tags, manifests, manifests.c.id == tags.c.manifest_id)
        .join(repositories, repositories.c.id == tags.c.repository_id)
        .join(registries, registries.c.id == repositories.c.registry_id)
        .where(
            registries.c.name == registry,
            repositories.c.name == repository,
            repositories.c.deleted_at.is_(None),
            tags.c.name == tag,
            tags.c.state == _READ,
        )
    )
    return [(bytes(row.digest), row.tagged_at) for row in connection.execute(statement)]
