"""Which blobs a registry should hold, and what it answered when each was asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

import numpy as np
from sqlalchemy import select
from sqlalchemy.engine import Connection

from regwarden.core.oci.digests import Digest
from regwarden.store.bulk import bulk_upsert
from regwarden.store.chunks import chunked
from regwarden.store.schema import blobs, manifests, repositories, repository_blobs, repository_manifests
from regwarden.store.times import to_micros


def list_holders(connection: Connection, registry_id: int) -> dict[int, list[tuple[int, str]]]:
    """Every blob that existing manifests need: blob id → the repositories (id, name) that need it, in name order."""
    rows = connection.execute(
        select(repositories.c.id, repositories.c.name, manifests.c.blob_ids)
        .select_from(repository_manifests.join(repositories).join(manifests))
        .where(
            repositories.c.registry_id == registry_id,
            repositories.c.deleted_at.is_(None),
            repository_manifests.c.deleted_at.is_(None),
        )
        .order_by(repositories.c.name)
    )
    holders: dict[int, dict[int, str]] = {}
    for row in rows:
        for blob_id in np.frombuffer(row.blob_ids, dtype="<u4").tolist():
            holders.setdefault(blob_id, {}).setdefault(row.id, row.name)
    return {blob_id: list(found.items()) for blob_id, found in holders.items()}


def load_digests(connection: Connection, blob_ids: Iterable[int]) -> dict[int, Digest]:
    """The digests of blobs, by id."""
    found = {}
    for chunk in chunked(list(blob_ids)):
        for row in connection.execute(select(blobs.c.id, blobs.c.digest).where(blobs.c.id.in_(chunk))):
            found[row.id] = Digest.from_bytes(row.digest)
    return found


def save_blob_checks(connection: Connection, checks: Mapping[tuple[int, int], bool], at: datetime) -> None:
    """Keep answers to blob probes: (repository id, blob id) → whether it is there."""
    moment = to_micros(at)
    bulk_upsert(
        connection,
        repository_blobs,
        [
            {
                "repository_id": repository_id,
                "blob_id": blob_id,
                "first_seen_at": moment,
                "verified_at": moment,
                "deleted_at": None if is_there else moment,
            }
            for (repository_id, blob_id), is_there in checks.items()
        ],
        update=("verified_at", "deleted_at"),
        conflict=("repository_id", "blob_id"),
    )
