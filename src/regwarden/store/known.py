"""What the inventory knows of one repository when a crawl comes to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import and_, bindparam, select
from sqlalchemy.engine import Connection

from regwarden.core.coverage import Problem
from regwarden.core.oci.digests import Digest
from regwarden.store.contents import UNREAD_CONFIG_STATES
from regwarden.store.problems import load_problems
from regwarden.store.schema import (
    crawl_checkpoints,
    manifest_children,
    manifests,
    repositories,
    repository_manifests,
    tags,
)


@dataclass(frozen=True, slots=True)
class KnownTag:
    """A tag as the inventory has it; ``digest`` is ``None`` where it led nowhere.

    ``is_unread``: only an event told of the manifest, its bytes were never read.
    """

    digest: Digest | None
    state: str
    is_unread: bool = False


@dataclass(frozen=True, slots=True)
class KnownRepository:
    """What the inventory holds of a repository when a crawl comes to it.

    ``absent_children`` are children of its indexes that were not found in it; ``unread_configs`` are its manifests
    whose config is still to be read; ``tried_at`` says when each lasting problem was last asked about.
    """

    repository_id: int | None
    tags: Mapping[str, KnownTag]
    absent_children: Mapping[Digest, tuple[Digest, ...]]
    unread_configs: tuple[Digest, ...]
    tried_at: Mapping[tuple[str, str, str], datetime]
    problems: tuple[Problem, ...]
    checkpoints: Mapping[str, Digest]


def load_repository(connection: Connection, registry_id: int, name: str, crawl_id: int) -> KnownRepository:
    """Everything a crawl needs to know of a repository to ask only for what is new."""
    found = connection.execute(
        select(repositories.c.id).where(repositories.c.registry_id == registry_id, repositories.c.name == name)
    ).scalar()
    if found is None:
        return KnownRepository(None, {}, {}, (), {}, (), {})
    repository_id = int(found)
    rows = connection.execute(
        select(tags.c.name, manifests.c.digest, tags.c.state, manifests.c.state.label("content"))
        .select_from(tags.outerjoin(manifests, manifests.c.id == tags.c.manifest_id))
        .where(tags.c.repository_id == repository_id)
    )
    known_tags = {
        row.name: KnownTag(Digest.from_bytes(row.digest) if row.digest else None, row.state, row.content == "unread")
        for row in rows
    }
    problems, tried_at = load_problems(connection, repository_id, name)
    checkpoints = connection.execute(
        select(crawl_checkpoints.c.tag, manifests.c.digest)
        .join(manifests, manifests.c.id == crawl_checkpoints.c.manifest_id)
        .where(crawl_checkpoints.c.crawl_id == crawl_id, crawl_checkpoints.c.repository_id == repository_id)
    )
    return KnownRepository(
        repository_id=repository_id,
        tags=known_tags,
        absent_children=_load_absent_children(connection, repository_id),
        unread_configs=_load_unread_configs(connection, repository_id),
        tried_at=tried_at,
        problems=problems,
        checkpoints={row.tag: Digest.from_bytes(row.digest) for row in checkpoints},
    )


# Built once: aliases cost more than the query, and this one runs for every repository of every crawl.
_PARENT, _CHILD, _HERE = manifests.alias("parent"), manifests.alias("child"), repository_manifests.alias("here")
_ABSENT_CHILDREN: Final = (
    select(_PARENT.c.digest.label("parent"), _CHILD.c.digest.label("child"))
    .select_from(
        repository_manifests.join(
            _PARENT, and_(_PARENT.c.id == repository_manifests.c.manifest_id, _PARENT.c.is_index == 1)
        )
        .join(manifest_children, manifest_children.c.parent_id == _PARENT.c.id)
        .join(_CHILD, _CHILD.c.id == manifest_children.c.child_id)
        .outerjoin(
            _HERE,
            and_(
                _HERE.c.repository_id == repository_manifests.c.repository_id,
                _HERE.c.manifest_id == _CHILD.c.id,
                _HERE.c.deleted_at.is_(None),
            ),
        )
    )
    .where(
        repository_manifests.c.repository_id == bindparam("repository_id"),
        repository_manifests.c.deleted_at.is_(None),
        _HERE.c.manifest_id.is_(None),
    )
)


def _load_absent_children(connection: Connection, repository_id: int) -> dict[Digest, tuple[Digest, ...]]:
    absent: dict[Digest, list[Digest]] = {}
    for row in connection.execute(_ABSENT_CHILDREN, {"repository_id": repository_id}):
        absent.setdefault(Digest.from_bytes(row.parent), []).append(Digest.from_bytes(row.child))
    return {digest: tuple(children) for digest, children in absent.items()}


def _load_unread_configs(connection: Connection, repository_id: int) -> tuple[Digest, ...]:
    rows = connection.execute(
        select(manifests.c.digest)
        .join(repository_manifests, repository_manifests.c.manifest_id == manifests.c.id)
        .where(
            repository_manifests.c.repository_id == repository_id,
            repository_manifests.c.deleted_at.is_(None),
            manifests.c.config_state.in_(UNREAD_CONFIG_STATES),
        )
    )
    return tuple(Digest.from_bytes(row.digest) for row in rows)


def load_existing_manifests(connection: Connection, repository_id: int) -> set[Digest]:
    """The manifests that are known to exist in a repository."""
    rows = connection.execute(
        select(manifests.c.digest)
        .join(repository_manifests, repository_manifests.c.manifest_id == manifests.c.id)
        .where(repository_manifests.c.repository_id == repository_id, repository_manifests.c.deleted_at.is_(None))
    ).scalars()
    return {Digest.from_bytes(digest) for digest in rows}
