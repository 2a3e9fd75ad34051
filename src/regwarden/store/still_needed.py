"""Which of these contents does a registry need, because a manifest that exists somewhere in it is or names them?"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from sqlalchemy import Select, select
from sqlalchemy.engine import Connection

from regwarden.core.oci.digests import Digest
from regwarden.store.chunks import chunked
from regwarden.store.packing import unpack_blob_ids
from regwarden.store.schema import blobs, manifest_children, manifests, registries, repositories, repository_manifests

_ROWS: Final = 10_000


def find_still_needed(connection: Connection, registry: str, digests: Collection[str]) -> frozenset[str]:
    """Those of ``digests`` (``algorithm:hex``, of manifests and blobs) that a collection must not remove.

    Reads the blob lists of every manifest that exists in the registry: a second for a million.
    """
    blob_ids: dict[int, str] = {}
    manifest_ids: dict[int, str] = {}
    for chunk in chunked(sorted(Digest.parse(digest).to_bytes() for digest in digests)):
        for table, found in ((blobs, blob_ids), (manifests, manifest_ids)):
            rows = connection.execute(select(table.c.id, table.c.digest).where(table.c.digest.in_(chunk)))
            found.update((row.id, str(Digest.from_bytes(row.digest))) for row in rows)
    needed: set[str] = set()
    for manifest_id, packed in connection.execute(_existing(registry)):
        if manifest_id in manifest_ids:
            needed.add(manifest_ids[manifest_id])
        needed.update(blob_ids[one] for one in blob_ids.keys() & unpack_blob_ids(packed))
    # An index keeps the documents that it lists, also where they do not exist beside it.
    for asked in chunked(sorted(manifest_ids)):
        listed = select(manifest_children.c.child_id).where(
            manifest_children.c.child_id.in_(asked), manifest_children.c.parent_id.in_(_existing_ids(registry))
        )
        needed.update(manifest_ids[one] for one in connection.execute(listed).scalars())
    return frozenset(needed)


def _existing(registry: str) -> Select[Any]:
    here = _existing_ids(registry)
    return (
        select(manifests.c.id, manifests.c.blob_ids).where(manifests.c.id.in_(here)).execution_options(yield_per=_ROWS)
    )


def _existing_ids(registry: str) -> Select[Any]:
    return (
        select(repository_manifests.c.manifest_id)
        .join_from(repository_manifests, repositories, repositories.c.id == repository_manifests.c.repository_id)
        .join(registries, registries.c.id == repositories.c.registry_id)
        .where(
            registries.c.name == registry,
            repositories.c.deleted_at.is_(None),
            repository_manifests.c.deleted_at.is_(None),
        )
    )
