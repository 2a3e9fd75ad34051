"""What do the repositories and tags of one registry weigh in layers, in catalog order, piece by piece?

``layer_bytes`` and ``disk_bytes`` are the predecessor's `size` and `disk_size`; ``None`` is unknown: what could never
be read, or was not measured yet.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Row, Select, select
from sqlalchemy.engine import Connection

from regwarden.store.chunks import chunked
from regwarden.store.schema import registries, repositories, tags
from regwarden.store.times import from_micros


class SizedRegistry(NamedTuple):
    """A registry and when its last crawl ended (``None``: there was none)."""

    id: int
    crawled_at: datetime | None


class SizedRepository(NamedTuple):
    """A repository. ``tag_count`` is as of when it was measured."""

    id: int
    name: str
    layer_bytes: int | None
    disk_bytes: int | None
    tag_count: int

    @property
    def is_readable(self) -> bool:
        """Whether its tags are known; one that could never be read is not empty."""
        return self.layer_bytes is not None


class SizedTag(NamedTuple):
    """A tag."""

    name: str
    layer_bytes: int | None
    disk_bytes: int | None


def find_sized_registry(connection: Connection, name: str) -> SizedRegistry | None:
    """The registry with this name, if the inventory has it."""
    row = connection.execute(
        select(registries.c.id, registries.c.crawled_at).where(registries.c.name == name)
    ).one_or_none()
    return None if row is None else SizedRegistry(row.id, from_micros(row.crawled_at))


def list_sized_repositories(connection: Connection, registry_id: int) -> list[SizedRepository]:
    """All repositories in the order of the catalog; between equals by name, as ``disk_bytes`` is decided."""
    columns = repositories.c
    rows = connection.execute(_repositories(registry_id).order_by(columns.catalog_position, columns.name))
    return [_repository(row) for row in rows]


def find_sized_repository(connection: Connection, registry_id: int, name: str) -> SizedRepository | None:
    """One repository, if it is there."""
    row = connection.execute(_repositories(registry_id).where(repositories.c.name == name)).one_or_none()
    return None if row is None else _repository(row)


def find_sized_tag(connection: Connection, repository_id: int, name: str) -> SizedTag | None:
    """One tag, if it is there."""
    columns = tags.c
    row = connection.execute(
        select(columns.name, columns.layer_bytes, columns.disk_bytes).where(
            columns.repository_id == repository_id, columns.name == name
        )
    ).one_or_none()
    return None if row is None else SizedTag(*row)


def page_sized_tags(connection: Connection, repository_id: int, after: str, limit: int) -> list[SizedTag]:
    """At most ``limit`` tags of a repository by name, byte by byte, behind ``after`` (empty: from the first)."""
    columns = tags.c
    statement = (
        select(columns.name, columns.layer_bytes, columns.disk_bytes)
        .where(columns.repository_id == repository_id, columns.name > after)
        .order_by(columns.name)
        .limit(limit)
    )
    return [SizedTag(*row) for row in connection.execute(statement)]


def load_sized_tags(connection: Connection, repository_ids: Sequence[int]) -> dict[int, list[SizedTag]]:
    """All tags of some small repositories, by name; every repository has a list."""
    found: defaultdict[int, list[SizedTag]] = defaultdict(list)
    columns = tags.c
    for chunk in chunked(repository_ids):
        statement = (
            select(columns.repository_id, columns.name, columns.layer_bytes, columns.disk_bytes)
            .where(columns.repository_id.in_(chunk))
            .order_by(columns.repository_id, columns.name)
        )
        for repository_id, *sized in connection.execute(statement):
            found[repository_id].append(SizedTag(*sized))
    return {repository_id: found[repository_id] for repository_id in repository_ids}


def _repositories(registry_id: int) -> Select[Any]:
    columns = repositories.c
    return select(columns.id, columns.name, columns.layer_bytes, columns.disk_bytes, columns.tag_count).where(
        columns.registry_id == registry_id, columns.deleted_at.is_(None)
    )


def _repository(row: Row[Any]) -> SizedRepository:
    return SizedRepository(row.id, row.name, row.layer_bytes, row.disk_bytes, row.tag_count)
