"""Which manifests need a blob that is known to be missing? One pass over the packed lists where blobs are missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from regwarden.store.arrays import Integers
from regwarden.store.chunks import chunked
from regwarden.store.columns import read_integers
from regwarden.store.packing import blob_id_array
from regwarden.store.query_conditions import Check, Filter
from regwarden.store.schema import manifests, repositories, repository_blobs, repository_manifests

_STREAMED_ROWS: Final = 2_000
_REPOSITORIES: Final = 500


def lacking_manifests(connection: Connection, registry_ids: Sequence[int]) -> Filter:
    """A filter for rows of ``repository_manifests`` that lets through what needs a missing blob there."""
    found: set[tuple[int, int]] = set()
    for repository_ids in chunked(_repositories_with_gaps(connection, registry_ids), _REPOSITORIES):
        found |= _find_lacking(connection, repository_ids)
    columns = (repository_manifests.c.repository_id, repository_manifests.c.manifest_id)
    is_near = repositories.c.id.in_(
        select(repository_blobs.c.repository_id).where(repository_blobs.c.deleted_at.is_not(None))
    )
    return Filter(is_near, Check(columns, lambda repository_id, manifest_id: (repository_id, manifest_id) in found))


def _repositories_with_gaps(connection: Connection, registry_ids: Sequence[int]) -> list[int]:
    statement = (
        select(repositories.c.id)
        .join(repository_blobs, repository_blobs.c.repository_id == repositories.c.id)
        .where(
            repositories.c.registry_id.in_(registry_ids),
            repositories.c.deleted_at.is_(None),
            repository_blobs.c.deleted_at.is_not(None),
        )
        .distinct()
    )
    return list(connection.execute(statement).scalars())


def _find_lacking(connection: Connection, repository_ids: Sequence[int]) -> set[tuple[int, int]]:
    gaps = _load_gaps(connection, repository_ids)
    statement = (
        select(repository_manifests.c.repository_id, manifests.c.id, manifests.c.blob_ids)
        .select_from(repository_manifests.join(manifests, manifests.c.id == repository_manifests.c.manifest_id))
        .where(
            repository_manifests.c.repository_id.in_(repository_ids),
            repository_manifests.c.deleted_at.is_(None),
            func.length(manifests.c.blob_ids) > 0,
        )
    )
    found: set[tuple[int, int]] = set()
    with connection.execute(statement, execution_options={"yield_per": _STREAMED_ROWS}) as rows:
        for part in rows.partitions():
            lengths = np.array([len(row.blob_ids) // 4 for row in part])
            # A repository and a blob, both below 2**32, as one number.
            owners = np.repeat(np.array([row.repository_id for row in part], dtype=np.int64), lengths) << 32
            needed = owners | blob_id_array(b"".join(bytes(row.blob_ids) for row in part)).astype(np.int64)
            lacking = np.isin(needed, gaps)
            places = np.unique(np.repeat(np.arange(len(part)), lengths)[lacking])
            found.update((part[place].repository_id, part[place].id) for place in places.tolist())
    return found


def _load_gaps(connection: Connection, repository_ids: Sequence[int]) -> Integers:
    """The missing blobs of the repositories, each as repository and blob in one number."""
    statement = select(repository_blobs.c.repository_id, repository_blobs.c.blob_id).where(
        repository_blobs.c.repository_id.in_(repository_ids), repository_blobs.c.deleted_at.is_not(None)
    )
    repository, blob = read_integers(connection, statement)
    return repository << 32 | blob
