"""Content by digest: keeping manifests, their blobs and their children, once for all repositories."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
from typing import Any, Final

import msgspec
from sqlalchemy import func, select, update
from sqlalchemy.engine import Connection

from regwarden.core.coverage import Problem
from regwarden.core.graph import MAX_SUM_BYTES
from regwarden.core.oci import media_types
from regwarden.core.oci.configs import ConfigFacts
from regwarden.core.oci.digests import Digest
from regwarden.core.oci.manifests import Manifest
from regwarden.store.bulk import bulk_ids, bulk_upsert
from regwarden.store.chunks import chunked
from regwarden.store.packing import pack_blob_ids
from regwarden.store.schema import blobs, manifest_children, manifests, tags
from regwarden.store.times import from_micros, to_micros

UNREAD_CONFIG_STATES: Final = ("skipped", "failed")
_COMPRESSION_LEVEL: Final = 3
_MAX_ROUNDS: Final = 8
_CHILD: Final = manifests.alias("child")
_NEWEST_CHILD: Final = (
    select(func.max(_CHILD.c.created_at))
    .select_from(manifest_children.join(_CHILD, _CHILD.c.id == manifest_children.c.child_id))
    .where(manifest_children.c.parent_id == manifests.c.id)
    .scalar_subquery()
)


@dataclass(frozen=True, slots=True)
class KnownManifest:
    """Content that was read before, in whatever repository."""

    digest: Digest
    state: str
    is_index: bool
    config_state: str
    created_at: datetime | None
    platform: str


@dataclass(frozen=True, slots=True)
class ManifestContent:
    """A manifest's bytes and what was learned from them, ready to be kept.

    ``manifest`` is ``None`` where ``state`` is ``unsupported`` or ``bad``. ``created_at`` and ``platform`` are the
    config's, or for an index those of its children.
    """

    digest: Digest
    media_type: str
    payload: bytes
    state: str = "read"
    manifest: Manifest | None = None
    config: ConfigFacts | None = None
    config_state: str = "none"
    created_at: datetime | None = None
    platform: str = ""


def find_manifests(connection: Connection, digests: Iterable[Digest]) -> dict[Digest, KnownManifest]:
    """Those of ``digests`` whose bytes the inventory has, from whatever repository."""
    ids = bulk_ids(connection, manifests, "digest", [digest.to_bytes() for digest in digests])
    if not ids:
        return {}
    known = {}
    for chunk in chunked(list(ids.values())):
        rows = connection.execute(
            select(
                manifests.c.digest,
                manifests.c.state,
                manifests.c.is_index,
                manifests.c.config_state,
                manifests.c.created_at,
                manifests.c.platform,
            ).where(manifests.c.id.in_(chunk), manifests.c.state != "unread")
        )
        for row in rows:
            digest = Digest.from_bytes(row.digest)
            known[digest] = KnownManifest(
                digest, row.state, bool(row.is_index), row.config_state, from_micros(row.created_at), row.platform
            )
    return known


def load_payloads(connection: Connection, digests: Iterable[Digest]) -> dict[Digest, tuple[str, bytes]]:
    """The media type and exact bytes of manifests that were read."""
    ids = bulk_ids(connection, manifests, "digest", [digest.to_bytes() for digest in digests])
    found = {}
    for chunk in chunked(list(ids.values())):
        for row in connection.execute(
            select(manifests.c.digest, manifests.c.media_type, manifests.c.payload).where(manifests.c.id.in_(chunk))
        ):
            if row.payload is not None:
                found[Digest.from_bytes(row.digest)] = (row.media_type, zlib.decompress(row.payload))
    return found


def save_contents(connection: Connection, contents: Sequence[ManifestContent]) -> tuple[Problem, ...]:
    """Keep manifests by digest, with their blobs and children. Returns conflicts of declared blob sizes."""
    if not contents:
        return ()
    parsed = [content.manifest for content in contents if content.manifest is not None]
    blob_ids, problems = save_blobs(connection, parsed, {})
    own = {content.digest for content in contents}
    rows = [_manifest_row(content, blob_ids) for content in contents]
    bulk_upsert(
        connection,
        manifests,
        rows,
        update=[name for name in rows[0] if name != "digest"],
        conflict=("digest",),
    )
    _save_children(connection, parsed, own=own)
    return problems


def save_outline(
    connection: Connection, outlines: Sequence[Manifest], blob_ids: Mapping[bytes, int]
) -> tuple[tuple[Manifest, dict[str, Any]], ...]:
    """Keep the children of manifests whose bytes are not known. Returns the columns that follow from them.

    ``blob_ids`` has their blobs, which were kept before (``save_blobs``).
    """
    _save_children(connection, outlines, own=())
    return tuple((outline, _content_columns(outline, blob_ids)) for outline in outlines)


def _save_children(connection: Connection, parsed: Sequence[Manifest], *, own: Collection[Digest]) -> None:
    """Keep which manifests list which others; what is not among ``own`` is added as unread."""
    unread = {child.digest: child for manifest in parsed for child in manifest.children if child.digest not in own}
    bulk_upsert(
        connection,
        manifests,
        [_unread_row(child.digest, child.media_type, child.size_bytes) for child in unread.values()],
        conflict=("digest",),
    )
    parents = {manifest.digest for manifest in parsed if manifest.children}
    if not parents:
        return
    digests = {*parents, *(child.digest for manifest in parsed for child in manifest.children)}
    ids = bulk_ids(connection, manifests, "digest", [digest.to_bytes() for digest in digests])
    children = [
        {
            "parent_id": ids[manifest.digest.to_bytes()],
            "position": position,
            "child_id": ids[child.digest.to_bytes()],
            "platform": str(child.platform) if child.platform else "",
        }
        for manifest in parsed
        for position, child in enumerate(manifest.children)
    ]
    # The bytes say more of a child than an event does.
    bulk_upsert(connection, manifest_children, children, update=("platform",), conflict=("parent_id", "position"))


def date_indexes(connection: Connection, digests: Collection[Digest]) -> list[int]:
    """Let the indexes that list these manifests, directly or not, be as new as their newest child is by now.

    Returns the ids of those indexes.
    """
    dated: set[int] = set()
    ids = list(bulk_ids(connection, manifests, "digest", [digest.to_bytes() for digest in digests]).values())
    for _ in range(_MAX_ROUNDS):
        parents: set[int] = set()
        for chunk in chunked(ids):
            found = select(manifest_children.c.parent_id).where(manifest_children.c.child_id.in_(chunk))
            parents.update(connection.execute(found).scalars())
        ids = sorted(parents)
        dated |= parents
        for chunk in chunked(ids):
            connection.execute(
                update(manifests)
                .where(manifests.c.id.in_(chunk))
                .values(created_at=func.coalesce(_NEWEST_CHILD, manifests.c.created_at))
            )
    return sorted(dated)


def date_tags(connection: Connection, repository_id: int, manifest_ids: Collection[int]) -> None:
    """Let tags have the time of these manifests, which is learned later where configs were passed over at first."""
    created = select(manifests.c.created_at).where(manifests.c.id == tags.c.manifest_id).scalar_subquery()
    for chunk in chunked(sorted(manifest_ids)):
        connection.execute(
            update(tags)
            .where(
                tags.c.repository_id == repository_id,
                tags.c.manifest_id.in_(chunk),
                tags.c.created_at.is_distinct_from(created),
            )
            .values(created_at=created)
        )


def save_blobs(
    connection: Connection, parsed: Sequence[Manifest], others: Mapping[bytes, tuple[str, int]]
) -> tuple[dict[bytes, int], tuple[Problem, ...]]:
    """Keep the blobs of manifests; where declarations of one digest differ the smallest counts and it is noted.

    ``others`` are blobs (digest as stored → media type and size in bytes) of which nothing changes if they are known.
    Returns the ids of all. Whoever keeps blobs and manifests in one transaction keeps the blobs first
    (``row_locks``), and all of them at once.
    """
    declared: dict[bytes, tuple[str, int]] = {}
    conflicts: set[bytes] = set()
    for manifest in parsed:
        for blob in manifest.stored_blobs():
            key = blob.digest.to_bytes()
            before = declared.get(key)
            if before is not None and before[1] != blob.size_bytes:
                conflicts.add(key)
            if before is None or blob.size_bytes < before[1]:
                declared[key] = (blob.media_type, blob.size_bytes)
    more = {key: named for key, named in others.items() if key not in declared}
    # Looked up first: on PostgreSQL every insert that meets an existing row uses up an id, and packed ids are 32 bits.
    known = _find_blobs(connection, declared)
    ids = bulk_ids(connection, blobs, "digest", more)
    missing = {key: named for key, named in (declared | more).items() if key not in known and key not in ids}
    bulk_upsert(
        connection,
        blobs,
        [{"digest": key, "media_type": named[0], "size_bytes": named[1]} for key, named in missing.items()],
        conflict=("digest",),
    )
    known |= _find_blobs(connection, [key for key in missing if key in declared])
    ids |= bulk_ids(connection, blobs, "digest", [key for key in missing if key in more])
    for key, kept in sorted(known.items(), key=itemgetter(0)):
        media_type, size_bytes = declared[key]
        if media_type and kept.media_type in ("", media_types.ANY_BLOB):
            connection.execute(update(blobs).where(blobs.c.id == kept.id).values(media_type=media_type))
        known_bytes = kept.size_bytes
        if not kept.media_type:
            connection.execute(update(blobs).where(blobs.c.id == kept.id).values(size_bytes=size_bytes))
            known_bytes = size_bytes
        if key in conflicts or size_bytes != known_bytes:
            conflicts.add(key)
            connection.execute(
                update(blobs)
                .where(blobs.c.id == kept.id)
                .values(size_bytes=min(size_bytes, known_bytes), is_conflicting=1)
            )
    problems = tuple(
        Problem("", "", str(Digest.from_bytes(key)), "size-conflict", "manifests declare different sizes for this blob")
        for key in sorted(conflicts)
    )
    return ids | {key: kept.id for key, kept in known.items()}, problems


@dataclass(frozen=True, slots=True)
class _KnownBlob:
    """A blob's row. Its media type is empty where nothing has told of its size yet, and vague if only an event has."""

    id: int
    media_type: str
    size_bytes: int


def _find_blobs(connection: Connection, keys: Iterable[bytes]) -> dict[bytes, _KnownBlob]:
    """Those blobs that are known."""
    return {
        bytes(row.digest): _KnownBlob(row.id, row.media_type, row.size_bytes)
        for chunk in chunked(list(keys))
        for row in connection.execute(
            select(blobs.c.id, blobs.c.digest, blobs.c.media_type, blobs.c.size_bytes).where(blobs.c.digest.in_(chunk))
        )
    }


def _unread_row(digest: Digest, media_type: str, size_bytes: int) -> dict[str, Any]:
    return {
        "digest": digest.to_bytes(),
        "state": "unread",
        "media_type": media_type,
        "size_bytes": size_bytes,
        "blob_ids": b"",
    }


def _manifest_row(content: ManifestContent, blob_ids: Mapping[bytes, int]) -> dict[str, Any]:
    manifest = content.manifest
    row: dict[str, Any] = {
        "digest": content.digest.to_bytes(),
        "state": content.state,
        "media_type": content.media_type,
        "artifact_type": "",
        "config_media_type": "",
        "config_digest": None,
        "config_state": content.config_state,
        "subject_digest": None,
        "is_index": 0,
        "platform": content.platform,
        "created_at": to_micros(content.created_at) if content.created_at is not None else None,
        "labels": msgspec.json.encode(dict(content.config.labels)).decode()
        if content.config is not None and content.config.labels
        else None,
        "size_bytes": len(content.payload),
        "layer_count": 0,
        "blob_ids": b"",
        "logical_bytes": None,
        "layer_bytes": None,
        "total_size": None,
        "payload": zlib.compress(content.payload, _COMPRESSION_LEVEL),
    }
    if manifest is not None:
        row.update(_content_columns(manifest, blob_ids))
    return row


def _cache_config(manifest: Manifest) -> str:
    """The type of the config that BuildKit puts among the entries where it writes a cache as an index."""
    is_cache = any(blob.media_type == media_types.BUILDKIT_CACHE_CONFIG for blob in manifest.blobs)
    return media_types.BUILDKIT_CACHE_CONFIG if is_cache else ""


def _content_columns(manifest: Manifest, blob_ids: Mapping[bytes, int]) -> dict[str, Any]:
    sizes = {blob.digest: blob.size_bytes for blob in manifest.stored_blobs()}
    layers = {blob.digest: blob.size_bytes for blob in (*manifest.layers, *manifest.blobs) if not blob.is_foreign}
    packed, layer_count = pack_blob_ids(
        (blob_ids[digest.to_bytes()] for digest in layers), (blob_ids[digest.to_bytes()] for digest in sizes)
    )
    config = manifest.config
    return {
        "artifact_type": manifest.artifact_type,
        "config_media_type": config.media_type if config is not None else _cache_config(manifest),
        "config_digest": config.digest.to_bytes() if config is not None else None,
        "subject_digest": manifest.subject.digest.to_bytes() if manifest.subject is not None else None,
        "is_index": int(manifest.is_index),
        "layer_count": layer_count,
        "blob_ids": packed,
        # An index's sums need its children: the engine fills them in.
        "logical_bytes": None if manifest.is_index else min(manifest.size_bytes + sum(sizes.values()), MAX_SUM_BYTES),
        "layer_bytes": None if manifest.is_index else min(sum(layers.values()), MAX_SUM_BYTES),
        "total_size": None
        if manifest.is_index
        else min(sum(blob.size_bytes for blob in manifest.layers if not blob.is_foreign), MAX_SUM_BYTES),
    }
