"""What an event's ``references`` tell of a manifest whose bytes were not read yet: its blobs, its children, its sizes.

They stand in for the content until that is read: labels, creation time, subject and artifact type are not among them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import update
from sqlalchemy.engine import Connection

from regwarden.core.folding import ContentChange
from regwarden.core.oci import media_types
from regwarden.core.oci.digests import Digest
from regwarden.core.oci.manifests import Manifest
from regwarden.store.contents import save_outline
from regwarden.store.schema import manifests


def build_outlines(told: Mapping[Digest, ContentChange]) -> list[Manifest]:
    """What events tell of manifests; what is not an image or an index is left out."""
    return [
        _outline(digest, change, change.size_bytes)
        for digest, change in told.items()
        if change.media_type in media_types.READABLE_MANIFESTS and change.size_bytes is not None
    ]


def save_references(connection: Connection, outlines: Sequence[Manifest], blob_ids: Mapping[bytes, int]) -> None:
    """Keep the outlines of unread manifests; ``blob_ids`` has their blobs, which were kept before."""
    for manifest, columns in save_outline(connection, outlines, blob_ids):
        connection.execute(
            update(manifests)
            .where(manifests.c.digest == manifest.digest.to_bytes(), manifests.c.state == "unread")
            .values(columns)
        )


def _outline(digest: Digest, change: ContentChange, size_bytes: int) -> Manifest:
    if change.media_type in media_types.INDEXES:
        children = tuple(one for one in change.references if media_types.is_manifest(one.media_type))
        blobs = tuple(one for one in change.references if not media_types.is_manifest(one.media_type))
        return Manifest(change.media_type, digest, size_bytes, children=children, blobs=blobs)
    # Distribution lists the config first, then the layers in order.
    config, *layers = change.references
    return Manifest(change.media_type, digest, size_bytes, config=config, layers=tuple(layers))
