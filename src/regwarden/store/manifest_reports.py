"""What is one manifest: its layers, children, labels, and what refers to it?

Layers are shown as the document lists them, repeated and foreign ones included; where the document was not kept,
from the packed list of its distinct blobs.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Row, and_, or_, select
from sqlalchemy.engine import Connection

from regwarden.core.oci.descriptors import Descriptor
from regwarden.core.oci.digests import Digest
from regwarden.core.oci.manifests import Manifest, parse_manifest
from regwarden.errors import InputError
from regwarden.store.chunks import chunked
from regwarden.store.packing import unpack_blob_ids
from regwarden.store.schema import (
    blobs,
    manifest_children,
    manifests,
    registries,
    repositories,
    repository_blobs,
    repository_manifests,
    tags,
)
from regwarden.store.times import from_micros


@dataclass(frozen=True, slots=True)
class LayerEntry:
    """One layer, config or other blob of a manifest. ``is_foreign``: the registry does not store it."""

    digest: str
    media_type: str
    size_bytes: int
    is_foreign: bool = False


@dataclass(frozen=True, slots=True)
class ChildEntry:
    """One manifest of an index. ``state`` is the manifest's: ``unread`` where it was not found."""

    digest: str
    platform: str
    media_type: str
    state: str
    size_bytes: int
    logical_bytes: int | None


@dataclass(frozen=True, slots=True)
class ReferrerEntry:
    """Something that belongs to a manifest: ``kind`` is ``subject``, ``fallback-tag`` or ``cosign-tag``.

    ``tag`` is empty for a referrer found by its subject; ``digest`` may be ``None`` for a tag that leads nowhere.
    """

    registry: str
    repository: str
    digest: str | None
    artifact_type: str
    kind: str
    tag: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestReport:
    """The facts of one manifest or index; sizes in bytes, ``None`` where not computed yet.

    ``missing`` are the digests of those of its blobs that a repository was found to lack.
    """

    digest: str
    state: str
    media_type: str
    artifact_type: str
    is_index: bool
    config: LayerEntry | None
    config_state: str
    subject: str | None
    platforms: tuple[str, ...]
    created_at: datetime | None
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    size_bytes: int
    logical_bytes: int | None
    total_size: int | None
    size: int | None
    layers: tuple[LayerEntry, ...]
    missing: frozenset[str]
    children: tuple[ChildEntry, ...]
    referrers: tuple[ReferrerEntry, ...]


def describe_manifest(connection: Connection, manifest_id: int) -> ManifestReport:
    """A stored manifest by its row id, with what refers to it in any repository."""
    row = connection.execute(select(manifests).where(manifests.c.id == manifest_id)).one()
    document = _document(row)
    layers = _layers(connection, row, document)
    config = document.config if document is not None else None
    return ManifestReport(
        digest=str(Digest.from_bytes(row.digest)),
        state=row.state,
        media_type=row.media_type,
        artifact_type=row.artifact_type,
        is_index=bool(row.is_index),
        config=_entry(config) if config is not None else None,
        config_state=row.config_state,
        subject=str(Digest.from_bytes(row.subject_digest)) if row.subject_digest else None,
        platforms=tuple(part.strip() for part in row.platform.split(",") if part.strip()),
        created_at=from_micros(row.created_at),
        labels=msgspec.json.decode(row.labels) if row.labels else {},
        annotations=dict(document.annotations) if document is not None else {},
        size_bytes=row.size_bytes,
        logical_bytes=row.logical_bytes,
        total_size=row.total_size,
        size=row.layer_bytes,
        layers=layers,
        missing=_missing(connection, row),
        children=_children(connection, manifest_id),
        referrers=list_referrers(connection, bytes(row.digest)),
    )


def _document(row: Row[Any]) -> Manifest | None:
    """The manifest as parsed from the kept bytes; ``None`` where there are none or they cannot be read."""
    if row.payload is None or row.state != "read":
        return None
    try:
        return parse_manifest(zlib.decompress(row.payload), row.media_type)
    except (InputError, zlib.error):
        return None


def _layers(connection: Connection, row: Row[Any], document: Manifest | None) -> tuple[LayerEntry, ...]:
    if document is not None:
        return tuple(_entry(part) for part in (*document.layers, *document.blobs))
    ids = unpack_blob_ids(row.blob_ids)[: row.layer_count]
    found = {
        blob.id: LayerEntry(str(Digest.from_bytes(blob.digest)), blob.media_type, blob.size_bytes)
        for chunk in chunked(ids)
        for blob in connection.execute(select(blobs).where(blobs.c.id.in_(chunk)))
    }
    return tuple(found[blob_id] for blob_id in ids if blob_id in found)


def _missing(connection: Connection, row: Row[Any]) -> frozenset[str]:
    found: set[str] = set()
    for chunk in chunked(unpack_blob_ids(row.blob_ids)):
        digests = connection.execute(
            select(blobs.c.digest)
            .join(repository_blobs, repository_blobs.c.blob_id == blobs.c.id)
            .where(blobs.c.id.in_(chunk), repository_blobs.c.deleted_at.is_not(None))
        ).scalars()
        found.update(str(Digest.from_bytes(digest)) for digest in digests)
    return frozenset(found)


def _entry(descriptor: Descriptor) -> LayerEntry:
    return LayerEntry(
        str(descriptor.digest), descriptor.media_type, descriptor.size_bytes, is_foreign=descriptor.is_foreign
    )


def _children(connection: Connection, manifest_id: int) -> tuple[ChildEntry, ...]:
    rows = connection.execute(
        select(manifest_children.c.platform.label("listed_platform"), manifests)
        .join(manifests, manifests.c.id == manifest_children.c.child_id)
        .where(manifest_children.c.parent_id == manifest_id)
        .order_by(manifest_children.c.position)
    )
    return tuple(
        ChildEntry(
            digest=str(Digest.from_bytes(row.digest)),
            platform=row.listed_platform or row.platform,
            media_type=row.media_type,
            state=row.state,
            size_bytes=row.size_bytes,
            logical_bytes=row.logical_bytes,
        )
        for row in rows
    )


def list_referrers(connection: Connection, subject: bytes) -> tuple[ReferrerEntry, ...]:
    """What refers to a manifest (given by its stored digest) in any repository.

    By ``subject`` (OCI distribution specification 1.1), by the fallback tag ``sha256-<hex>`` and by the tags that
    cosign makes of it (``.sig``, ``.att``, ``.sbom``).
    """
    return (*_by_subject(connection, subject), *_by_tag(connection, subject))


def _by_subject(connection: Connection, subject: bytes) -> Iterator[ReferrerEntry]:
    statement = (
        select(
            manifests.c.digest,
            manifests.c.artifact_type,
            repositories.c.name.label("repository"),
            registries.c.name.label("registry"),
        )
        .join(
            repository_manifests,
            and_(repository_manifests.c.manifest_id == manifests.c.id, repository_manifests.c.deleted_at.is_(None)),
        )
        .join(repositories, repositories.c.id == repository_manifests.c.repository_id)
        .join(registries, registries.c.id == repositories.c.registry_id)
        .where(manifests.c.subject_digest == subject, repositories.c.deleted_at.is_(None))
        .order_by(registries.c.name, repositories.c.name, manifests.c.digest)
    )
    for row in connection.execute(statement):
        digest = str(Digest.from_bytes(row.digest))
        yield ReferrerEntry(row.registry, row.repository, digest, row.artifact_type, "subject", "")


def _by_tag(connection: Connection, subject: bytes) -> Iterator[ReferrerEntry]:
    digest = Digest.from_bytes(subject)
    stem = f"{digest.algorithm}-{digest.hex}"
    statement = (
        select(
            tags.c.name.label("tag"),
            manifests.c.digest,
            manifests.c.artifact_type,
            repositories.c.name.label("repository"),
            registries.c.name.label("registry"),
        )
        .join(repositories, repositories.c.id == tags.c.repository_id)
        .join(registries, registries.c.id == repositories.c.registry_id)
        .outerjoin(manifests, manifests.c.id == tags.c.manifest_id)
        # A full stop sorts directly before a slash, so this range is the stem with any extension.
        .where(
            or_(tags.c.name == stem, and_(tags.c.name >= f"{stem}.", tags.c.name < f"{stem}/")),
            repositories.c.deleted_at.is_(None),
        )
        .order_by(registries.c.name, repositories.c.name, tags.c.name)
    )
    for row in connection.execute(statement):
        yield ReferrerEntry(
            row.registry,
            row.repository,
            str(Digest.from_bytes(row.digest)) if row.digest else None,
            row.artifact_type or "",
            "fallback-tag" if row.tag == stem else "cosign-tag",
            row.tag,
        )
