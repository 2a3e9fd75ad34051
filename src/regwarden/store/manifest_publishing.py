"""How what a crawl found out about manifests becomes their existence, beside what events have told of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.engine import Connection

from regwarden.core.oci.digests import Digest
from regwarden.store.bulk import bulk_ids, bulk_upsert
from regwarden.store.chunks import chunked
from regwarden.store.existence import Touched, note_removals, refresh_existence
from regwarden.store.inventory import RepositoryReading
from regwarden.store.schema import manifests, removals, repository_manifests
from regwarden.store.times import to_micros


def save_present(
    connection: Connection, *, repository_id: int, reading: RepositoryReading, digests: Sequence[Digest]
) -> None:
    """Manifests that were found to be there; a deletion that an event told of since the reading stands."""
    at = to_micros(reading.started_at)
    keys = [digest.to_bytes() for digest in digests]
    ids = bulk_ids(connection, manifests, "digest", keys)
    alive_at = to_micros(reading.started_at - reading.margin)
    before = _load_alive(connection, repository_id, list(ids.values()))
    verified: dict[str, Any] = {"verified_at": at} if reading.is_verified else {}
    rows = [
        {
            "repository_id": repository_id,
            "manifest_id": manifest_id,
            "first_seen_at": at,
            "alive_at": max(alive_at, before.get(manifest_id) or alive_at),
            "deleted_at": None,
        }
        | verified
        for manifest_id in ids.values()
    ]
    columns = ("alive_at", "deleted_at", *verified)
    bulk_upsert(connection, repository_manifests, rows, update=columns, conflict=("repository_id", "manifest_id"))
    has_removals = select(removals.c.at).where(removals.c.repository_id == repository_id).limit(1)
    if connection.execute(has_removals).first() is not None:
        refresh_existence(connection, repository_id, Touched(set(keys)))


def save_absent(
    connection: Connection, *, repository_id: int, reading: RepositoryReading, digests: Sequence[Digest]
) -> None:
    """Manifests that were found to be gone; one that an event told of since the reading stays."""
    ids = bulk_ids(connection, manifests, "digest", [digest.to_bytes() for digest in digests])
    removed_at = to_micros(reading.started_at - reading.margin)
    before = connection.execute(
        select(manifests.c.digest, repository_manifests.c.verified_at)
        .join(manifests, manifests.c.id == repository_manifests.c.manifest_id)
        .where(
            repository_manifests.c.repository_id == repository_id,
            repository_manifests.c.manifest_id.in_(list(ids.values())),
            repository_manifests.c.deleted_at.is_(None),
            or_(repository_manifests.c.alive_at.is_(None), repository_manifests.c.alive_at < removed_at),
        )
    )
    # What an earlier reading proved is no evidence against this one, however soon that was before.
    rows = [
        (repository_id, bytes(row.digest), max(removed_at, -1 if row.verified_at is None else row.verified_at + 1))
        for row in before
    ]
    note_removals(connection, rows)
    refresh_existence(connection, repository_id, Touched({digest for _, digest, _ in rows}))


def _load_alive(connection: Connection, repository_id: int, manifest_ids: Sequence[int]) -> dict[int, int | None]:
    rows = repository_manifests.c
    return {
        row.manifest_id: row.alive_at
        for chunk in chunked(manifest_ids)
        for row in connection.execute(
            select(rows.manifest_id, rows.alive_at).where(
                rows.repository_id == repository_id, rows.manifest_id.in_(chunk)
            )
        )
    }
