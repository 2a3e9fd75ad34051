"""Registries that nobody thought of: random content with genuine layers, laid out on disk as Distribution stores it.

Everything that cleanup meets is in them: layers and configurations shared within and between repositories, several
tags of one digest, copies, indexes in indexes that share children, signatures by tag, referrers behind fallback tags.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from regwarden.core.oci.digests import Digest
from regwarden.testing.content import Blob, BuiltManifest, Content, RepositoryContent
from regwarden.testing.images import (
    Layer,
    artifact,
    attestation,
    build_cache,
    cosign_signature,
    foreign_layer,
    helm_chart,
    image,
    image_config,
    index,
    real_layer,
    referrers_tag,
    sbom,
    signature_tag,
)
from tests.gitlab_double.modes import ROOT

NAMES: Final = tuple(ROOT + name for name in ("app", "app/web", "mirror/deep/er", "team/lib", "team/tool"))
PLATFORMS: Final = ("linux/amd64", "linux/arm64", "linux/arm/v7")
NEWEST: Final = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class RandomRegistry:
    """What a random registry holds. ``garbage`` are blobs that no manifest names."""

    content: Content
    garbage: tuple[Blob, ...]

    def regular_tags(self) -> list[tuple[str, str]]:
        """Repository and tag of all that people tagged, in a fixed order."""
        return [
            (name, tag)
            for name, one in sorted(self.content.repositories.items())
            for tag in sorted(one.tags)
            if not tag.startswith("sha256-")
        ]


def random_registry(seed: int, *, has_untagged: bool = False) -> RandomRegistry:
    """The same registry for the same seed; ``has_untagged``: with manifests that no tag leads to, as pushes leave."""
    return _Maker(random.Random(seed), has_untagged=has_untagged).make()


def lay_out(registry: RandomRegistry, root: Path) -> None:
    """Write the storage folder of a registry (Distribution's storage layout, version 2)."""
    top = root / "docker" / "registry" / "v2"
    for blob in registry.garbage:
        _write(_blob_path(top, blob.digest), b"".join(blob.chunks()))
    for name, one in registry.content.repositories.items():
        place = top / "repositories" / name
        (place / "_layers" / "sha256").mkdir(parents=True, exist_ok=True)
        (place / "_manifests" / "tags").mkdir(parents=True, exist_ok=True)
        for blob in one.blobs.values():
            _write(_blob_path(top, blob.digest), b"".join(blob.chunks()))
            _link(place / "_layers", blob.digest)
        for manifest in one.manifests.values():
            _write(_blob_path(top, manifest.digest), manifest.payload)
            _link(place / "_manifests" / "revisions", manifest.digest)
        for tag, digest in one.tags.items():
            _write(place / "_manifests" / "tags" / tag / "current" / "link", str(digest).encode())
            _link(place / "_manifests" / "tags" / tag / "index", digest)


def stored_bytes(root: Path) -> int:
    """The size of the blob store: every blob, byte for byte."""
    blobs = root / "docker" / "registry" / "v2" / "blobs"
    return sum(path.stat().st_size for path in blobs.rglob("data"))


def stored_tags(root: Path, repository: str) -> dict[str, str]:
    """Every tag of a repository with the digest that it leads to, as the storage folder has it."""
    tags = root / "docker" / "registry" / "v2" / "repositories" / repository / "_manifests" / "tags"
    return {link.parent.parent.name: link.read_text() for link in sorted(tags.glob("*/current/link"))}


def missing_from(root: Path, content: Content, repository: str, digest: str) -> list[str]:
    """What of a manifest with all that it lists and names is not stored any more: nothing, if it is whole."""
    top = root / "docker" / "registry" / "v2"
    revisions = top / "repositories" / repository / "_manifests" / "revisions"
    manifest = content.repositories[repository].manifests[Digest.parse(digest)]
    missing = [] if (revisions / "sha256" / manifest.digest.hex / "link").is_file() else [f"manifest {digest}"]
    found = _blob_path(top, manifest.digest)
    if not found.is_file() or found.read_bytes() != manifest.payload:
        missing.append(f"document {digest}")
    for named in _descriptors(manifest.payload):
        if named in content.repositories[repository].manifests:
            missing += missing_from(root, content, repository, str(named))
        elif named in content.repositories[repository].blobs:
            blob = content.repositories[repository].blobs[named]
            path = _blob_path(top, named)
            if not path.is_file() or path.stat().st_size != blob.size_bytes:
                missing.append(f"blob {named}")
    return missing


@dataclass
class _Maker:
    random: random.Random
    has_untagged: bool
    content: Content = field(default_factory=Content)
    shared: list[Layer] = field(default_factory=list)
    built: list[tuple[str, BuiltManifest]] = field(default_factory=list)
    number: int = 0

    def make(self) -> RandomRegistry:
        self.shared = [self._own_layer() for _ in range(6)]
        names = self.random.sample(NAMES, self.random.randint(3, len(NAMES)))
        for name in sorted(names):
            self._fill(self.content.repository(name))
        garbage = tuple(self._own_layer().blob for _ in range(self.random.randint(0, 3)))
        return RandomRegistry(self.content, garbage)

    def _fill(self, repository: RepositoryContent) -> None:
        for minor in range(self.random.randint(3, 9)):
            built = self._pick()
            self._add(repository, built, *self._tags(minor))
        if self.has_untagged:
            for _ in range(self.random.randint(1, 3)):
                self._add(repository, self._pick())
            signed = self.random.choice(list(repository.manifests.values()))
            self._add(repository, artifact("application/example", [self._layer()], subject=BuiltManifest(signed)))

    def _add(self, repository: RepositoryContent, built: BuiltManifest, *tags: str) -> None:
        repository.add(built, *tags)
        self.built.append((repository.name, built))
        if not tags:
            return
        if self._happens(0.25):
            repository.add(cosign_signature(built.digest, repository.name), signature_tag(built.digest))
        if referrers_tag(built.digest) not in repository.tags and self._happens(0.25):
            referrers = [
                sbom(built, f"of {self.number}"),
                artifact("application/example", [self._layer()], subject=built),
            ]
            repository.add(index(referrers[: self.random.randint(1, 2)]), referrers_tag(built.digest))
        if built.children and self._happens(0.2):
            # A child with a tag of its own.
            repository.set_tag(f"{tags[0]}-child", self.random.choice(built.children).digest)

    def _tags(self, minor: int) -> Iterator[str]:
        yield f"1.{minor}"
        if self._happens(0.4):
            yield f"dev-{minor}"
        if self._happens(0.2):
            yield "latest"

    def _pick(self) -> BuiltManifest:
        """Something new, or a copy of what is in this or another repository."""
        if self.built and self._happens(0.15):
            return self.random.choice(self.built)[1]
        kind = self.random.random()
        if kind < 0.5:
            return self._image()
        if kind < 0.85:
            return self._index()
        if kind < 0.92:
            return helm_chart("chart", f"1.0.{self._next()}")
        return build_cache([self._layer(), self._layer()], as_index=self._happens(0.5))

    def _index(self) -> BuiltManifest:
        children = [self._image(platform) for platform in self.random.sample(PLATFORMS, self.random.randint(1, 3))]
        known = [child for _, one in self.built for child in (one, *one.children) if not child.artifact_type]
        if known and self._happens(0.3):
            children.append(self.random.choice(known))
        if self._happens(0.3):
            children.append(attestation(children[0]))
        built = index(children, oci=self._happens(0.7), annotations={"n": str(self._next())})
        return index([built, self._image()]) if self._happens(0.2) else built

    def _image(self, platform: str = "linux/amd64") -> BuiltManifest:
        layers = self.random.sample(self.shared, self.random.randint(0, 3))
        layers += [self._own_layer() for _ in range(self.random.randint(0, 2))]
        if layers and self._happens(0.1):
            layers.append(layers[0])
        is_oci = self._happens(0.6)
        if not is_oci and self._happens(0.1):
            layers.append(foreign_layer(str(self._next()), 5_000, "https://example.invalid/layer"))
        created = NEWEST - timedelta(days=self.random.randint(0, 300))
        # Some have the configuration of another, with other layers in the manifest.
        labels = {"n": str(self.random.choice([0, self._next()]))}
        annotations = {"n": str(self._next())} if is_oci and self._happens(0.2) else None
        return image(
            layers, image_config(platform, created=created, labels=labels), oci=is_oci, annotations=annotations
        )

    def _layer(self) -> Layer:
        return self.random.choice(self.shared) if self._happens(0.5) else self._own_layer()

    def _own_layer(self) -> Layer:
        return real_layer(gzip.compress(self.random.randbytes(self.random.randint(10, 3_000)), mtime=0))

    def _happens(self, share: float) -> bool:
        return self.random.random() < share

    def _next(self) -> int:
        self.number += 1
        return self.number


def _descriptors(payload: bytes) -> Iterator[Digest]:
    """Everything that a document names, but not its subject: an artifact is whole without it."""
    document = json.loads(payload)
    for one in (document.get("config"), *document.get("layers", ()), *document.get("manifests", ())):
        if one is not None:
            yield Digest.parse(one["digest"])


def _blob_path(top: Path, digest: Digest) -> Path:
    return top / "blobs" / "sha256" / digest.hex[:2] / digest.hex / "data"


def _link(place: Path, digest: Digest) -> None:
    _write(place / "sha256" / digest.hex / "link", str(digest).encode())


def _write(path: Path, content: bytes) -> None:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
