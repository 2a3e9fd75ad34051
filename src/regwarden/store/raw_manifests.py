"""The exact bytes of every manifest of a repository, for those who trust nothing that was derived from them."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

from sqlalchemy import select
from sqlalchemy.engine import Connection

from regwarden.core.oci.digests import Digest
from regwarden.store.past_rows import fetch
from regwarden.store.schema import manifests, registries, repositories, repository_manifests


def load_raw(connection: Connection, registry: str, repository: str) -> Mapping[str, bytes]:
    """The bytes of the manifests that exist in a repository, by digest (``algorithm:hex``).

    Those whose bytes are not known, or cannot be unpacked, are absent; and so is everything of an unknown repository.
    """
    here = repository_manifests.c
    statement = (
        select(manifests.c.digest, manifests.c.payload)
        .select_from(
            repository_manifests.join(manifests, manifests.c.id == here.manifest_id)
            .join(repositories, repositories.c.id == here.repository_id)
            .join(registries, registries.c.id == repositories.c.registry_id)
        )
        .where(
            registries.c.name == registry,
            repositories.c.name == repository,
            repositories.c.deleted_at.is_(None),
            here.deleted_at.is_(None),
            manifests.c.payload.is_not(None),
        )
    )
    found: dict[str, bytes] = {}
    for stored, packed in fetch(connection, statement):
        payload = _unpack(packed)
        if payload is not None:
            found[str(Digest.from_bytes(bytes(stored)))] = payload
    return found


def _unpack(packed: bytes) -> bytes | None:
    try:
        return zlib.decompress(packed)
    except zlib.error:
        return None
