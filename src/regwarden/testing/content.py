"""What does a sample registry hold? Repositories, tags, manifests and blobs in memory, cheap at any layer size."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Self

import msgspec

from regwarden.core.oci.descriptors import Platform
from regwarden.core.oci.digests import Digest

_BLOCK_BYTES: Final = 64 * 1024


class _SubjectDescriptor(msgspec.Struct):
    digest: str


class _WithSubject(msgspec.Struct):
    subject: _SubjectDescriptor | None = None


_decode_subject = msgspec.json.Decoder(_WithSubject).decode


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob: real bytes, or only a declared size whose bytes are made when somebody reads them.

    The digest of a declared blob is invented (hashing gigabytes would take minutes), so its bytes do not match it.
    """

    digest: Digest
    size_bytes: int
    content: bytes | None = None

    @classmethod
    def of(cls, content: bytes) -> Self:
        """A blob of exactly these bytes, under their true digest."""
        return cls(Digest.of(content), len(content), content)

    @classmethod
    def declared(cls, seed: str, size_bytes: int) -> Self:
        """A blob of ``size_bytes`` that takes no memory; the same seed and size always give the same blob."""
        return cls(Digest.of(f"declared blob {seed} {size_bytes}".encode()), size_bytes)

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """The bytes from ``start`` up to, not including, ``stop``, in pieces of at most 64 KiB."""
        end = self.size_bytes if stop is None else min(stop, self.size_bytes)
        while start < end:
            block, offset = divmod(start, _BLOCK_BYTES)
            piece = self._block(block)[offset : offset + end - start]
            yield piece
            start += len(piece)

    def _block(self, number: int) -> bytes:
        first = number * _BLOCK_BYTES
        if self.content is not None:
            return self.content[first : first + _BLOCK_BYTES]
        return hashlib.shake_128(f"{self.digest} {number}".encode()).digest(_BLOCK_BYTES)


@dataclass(frozen=True, slots=True)
class StoredManifest:
    """The bytes of a manifest and the media type it was pushed with."""

    digest: Digest
    media_type: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class BuiltManifest:
    """A manifest together with everything it needs, ready for ``RepositoryContent.add``.

    ``platform``, ``artifact_type`` and ``entry_annotations`` are what an index that lists it says about it.
    """

    manifest: StoredManifest
    blobs: tuple[Blob, ...] = ()
    children: tuple[BuiltManifest, ...] = ()
    platform: Platform | None = None
    artifact_type: str = ""
    entry_annotations: tuple[tuple[str, str], ...] = ()

    @property
    def digest(self) -> Digest:
        """The digest of the manifest."""
        return self.manifest.digest

    @property
    def media_type(self) -> str:
        """The media type of the manifest."""
        return self.manifest.media_type

    @property
    def payload(self) -> bytes:
        """The bytes of the manifest."""
        return self.manifest.payload


@dataclass(slots=True)
class RepositoryContent:
    """One repository.

    ``has_tag_list`` is what decides between ``"tags":null`` and 404 ``NAME_UNKNOWN``: whether there was ever a tag.
    """

    name: str
    tags: dict[str, Digest] = field(default_factory=dict)
    manifests: dict[Digest, StoredManifest] = field(default_factory=dict)
    blobs: dict[Digest, Blob] = field(default_factory=dict)
    has_tag_list: bool = False
    _referrers: dict[Digest, list[Digest]] = field(default_factory=dict)

    def add(self, built: BuiltManifest, *tags: str, omit: Sequence[Digest] = ()) -> Digest:
        """Store a manifest with its children and blobs, except those in ``omit``, and point ``tags`` to it."""
        for child in built.children:
            if child.digest not in omit:
                self.add(child, omit=omit)
        self.blobs.update({blob.digest: blob for blob in built.blobs if blob.digest not in omit})
        self.put_manifest(built.manifest)
        for tag in tags:
            self.set_tag(tag, built.digest)
        return built.digest

    def put_manifest(self, manifest: StoredManifest) -> None:
        """Store a manifest without a tag."""
        if manifest.digest in self.manifests:
            return
        self.manifests[manifest.digest] = manifest
        subject = _find_subject(manifest.payload)
        if subject is not None:
            self._referrers.setdefault(subject, []).append(manifest.digest)

    def set_tag(self, tag: str, digest: Digest) -> None:
        """Point ``tag`` to ``digest``, which need not exist (a dangling tag)."""
        self.has_tag_list = True
        self.tags[tag] = digest

    def find_digest(self, reference: str) -> Digest | None:
        """What a tag or digest, as it stands in a path, points to; the manifest itself may be missing."""
        return Digest.parse(reference) if ":" in reference else self.tags.get(reference)

    def find_manifest(self, reference: str) -> StoredManifest | None:
        """The manifest a tag or digest names, if it is here."""
        digest = self.find_digest(reference)
        return None if digest is None else self.manifests.get(digest)

    def delete_manifest(self, digest: Digest) -> tuple[str, ...]:
        """Remove a manifest and every tag that points to it, nothing else; the removed tags are returned."""
        del self.manifests[digest]
        tags = tuple(sorted(tag for tag, target in self.tags.items() if target == digest))
        for tag in tags:
            del self.tags[tag]
        return tags

    def list_referrers(self, subject: Digest) -> tuple[StoredManifest, ...]:
        """The manifests here that name ``subject`` as their subject, in the order they came."""
        found = (self.manifests.get(digest) for digest in self._referrers.get(subject, ()))
        return tuple(manifest for manifest in found if manifest is not None)


class Content:
    """Everything a sample registry holds; change it freely while the server runs."""

    def __init__(self) -> None:
        self.repositories: dict[str, RepositoryContent] = {}

    def repository(self, name: str) -> RepositoryContent:
        """The repository of this name, made empty if it is new."""
        return self.repositories.setdefault(name, RepositoryContent(name))

    @property
    def tag_count(self) -> int:
        """The number of tags in all repositories."""
        return sum(len(repository.tags) for repository in self.repositories.values())

    def listed_names(self, hidden: Iterable[str] = ()) -> list[str]:
        """All names in the order of Distribution's walk through its directories.

        A child whose name starts with a digit comes before its parent (``1`` sorts before ``_manifests``), all
        other children after it.
        """
        names = self.repositories.keys() - set(hidden)
        return sorted(names, key=lambda name: (*name.split("/"), "_manifests"))


def _find_subject(payload: bytes) -> Digest | None:
    try:
        subject = _decode_subject(payload).subject
    except msgspec.DecodeError:
        return None
    return None if subject is None else Digest.parse(subject.digest)
