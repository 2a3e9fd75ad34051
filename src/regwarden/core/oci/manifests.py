"""Manifests and indexes as values: what the bytes refer to, checked, nothing fetched.

Sources: OCI image specification 1.1 (manifest.md, image-index.md), Distribution image manifest version 2 schema 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from regwarden.core.oci import media_types
from regwarden.core.oci.descriptors import MAX_SIZE_BYTES, Descriptor, build_platform
from regwarden.core.oci.digests import Digest
from regwarden.core.text import printable
from regwarden.errors import InputError

MAX_MANIFEST_BYTES: Final = 4 * 1024 * 1024
MAX_REFERENCES: Final = 20_000
MAX_TYPE_LENGTH: Final = 255


@dataclass(frozen=True, slots=True)
class Manifest:
    """One manifest or index, parsed.

    ``children`` are an index's entries that are manifests; ``blobs`` are its entries that are not (a build cache
    lists its layers this way). ``layers`` keeps the order of the document, foreign layers included and marked.
    """

    media_type: str
    digest: Digest
    size_bytes: int
    config: Descriptor | None = None
    layers: tuple[Descriptor, ...] = ()
    children: tuple[Descriptor, ...] = ()
    blobs: tuple[Descriptor, ...] = ()
    subject: Descriptor | None = None
    artifact_type: str = ""
    annotations: tuple[tuple[str, str], ...] = ()

    @property
    def is_index(self) -> bool:
        """Whether this lists manifests rather than layers."""
        return self.media_type in media_types.INDEXES

    def stored_blobs(self) -> tuple[Descriptor, ...]:
        """The blobs the registry holds for this manifest alone: config, layers that are not foreign, other entries."""
        config = (self.config,) if self.config is not None else ()
        return tuple(part for part in (*self.layers, *self.blobs, *config) if not part.is_foreign)


class UnsupportedManifest(InputError):
    """A manifest of a kind whose contents we do not read (schema 1, unknown types); its raw facts are kept."""

    code = "unsupported-manifest"


class _Platform(msgspec.Struct):
    os: str = ""
    architecture: str = ""
    variant: str = ""


class _Descriptor(msgspec.Struct):
    digest: str
    size: int
    mediaType: str = ""
    platform: _Platform | None = None
    artifactType: str | None = None
    urls: list[str] | None = None
    annotations: dict[str, str] | None = None


class _Document(msgspec.Struct):
    schemaVersion: int = 2
    mediaType: str = ""
    artifactType: str | None = None
    config: _Descriptor | None = None
    layers: list[_Descriptor] | None = None
    manifests: list[_Descriptor] | None = None
    subject: _Descriptor | None = None
    annotations: dict[str, str] | None = None


_decode = msgspec.json.Decoder(_Document, strict=True).decode


def parse_manifest(payload: bytes, content_type: str = "") -> Manifest:
    """Read the bytes of a manifest or index.

    ``content_type`` is what the registry called it; the document's own ``mediaType`` wins where both stand, and
    where neither does, the shape decides. Raises ``UnsupportedManifest`` for schema 1 and unknown kinds and
    ``InputError`` (code ``bad-manifest``) for anything malformed, never anything else.
    """
    if len(payload) > MAX_MANIFEST_BYTES:
        raise _bad(f"it has {len(payload)} bytes, the limit is {MAX_MANIFEST_BYTES}")
    declared = media_types.essence(content_type)
    if declared in media_types.SCHEMA_1_MANIFESTS:
        raise UnsupportedManifest("schema 1 manifests are not read", hint="Push the image again with a current client.")
    try:
        document = _decode(payload)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise _bad(str(error)[:200]) from None
    media_type = _media_type(document, declared)
    if media_type in media_types.IMAGE_MANIFESTS and document.config is None:
        raise _bad("an image manifest needs a config")
    config = _descriptor(document.config) if document.config is not None else None
    entries = tuple(_descriptor(entry) for entry in _bounded(document.manifests))
    return Manifest(
        media_type=media_type,
        digest=Digest.of(payload),
        size_bytes=len(payload),
        config=config,
        layers=tuple(_descriptor(entry) for entry in _bounded(document.layers)),
        children=tuple(entry for entry in entries if media_types.is_manifest(entry.media_type)),
        blobs=tuple(entry for entry in entries if not media_types.is_manifest(entry.media_type)),
        subject=_descriptor(document.subject) if document.subject is not None else None,
        artifact_type=_artifact_type(document, config, media_type),
        annotations=_pairs(document.annotations),
    )


def _media_type(document: _Document, declared: str) -> str:
    if document.schemaVersion == 1:
        raise UnsupportedManifest("schema 1 manifests are not read", hint="Push the image again with a current client.")
    own = media_types.essence(document.mediaType)
    media_type = own or (declared if declared in media_types.READABLE_MANIFESTS else "")
    if not media_type:
        media_type = media_types.OCI_INDEX if document.manifests is not None else media_types.OCI_MANIFEST
    if media_type not in media_types.READABLE_MANIFESTS:
        raise UnsupportedManifest(f"manifests of type {media_type[:120]!r} are not read")
    # A document that is both would be counted differently by different readers: refuse it (CVE-2021-41190).
    is_index = media_type in media_types.INDEXES
    if is_index and (document.config is not None or document.layers is not None):
        raise _bad("an index must not have a config or layers")
    if not is_index and document.manifests is not None:
        raise _bad("an image manifest must not list manifests")
    return media_type


def _artifact_type(document: _Document, config: Descriptor | None, media_type: str) -> str:
    """The artifact type, with the fallback of the specification: the config's media type unless it is an image's."""
    if document.artifactType:
        return printable(document.artifactType, MAX_TYPE_LENGTH)
    if config is None or media_type != media_types.OCI_MANIFEST or config.media_type in media_types.IMAGE_CONFIGS:
        return ""
    return config.media_type


def _bounded(entries: list[_Descriptor] | None) -> list[_Descriptor]:
    if entries is not None and len(entries) > MAX_REFERENCES:
        raise _bad(f"it lists {len(entries)} entries, the limit is {MAX_REFERENCES}")
    return entries or []


def _descriptor(raw: _Descriptor) -> Descriptor:
    if not 0 <= raw.size <= MAX_SIZE_BYTES:
        raise _bad(f"it declares a size of {raw.size} bytes")
    platform = raw.platform
    media_type = printable(media_types.essence(raw.mediaType), MAX_TYPE_LENGTH)
    return Descriptor(
        media_type=media_type,
        digest=Digest.parse(raw.digest),
        size_bytes=raw.size,
        platform=build_platform(platform.os, platform.architecture, platform.variant) if platform else None,
        artifact_type=printable(raw.artifactType or "", MAX_TYPE_LENGTH),
        is_foreign=bool(raw.urls) or media_type in media_types.FOREIGN_LAYERS,
        annotations=_pairs(raw.annotations),
    )


def _pairs(mapping: dict[str, str] | None) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(mapping.items())) if mapping else ()


def _bad(reason: str) -> InputError:
    return InputError(f"not a valid manifest: {reason}", code="bad-manifest")
