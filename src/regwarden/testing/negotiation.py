"""What does Distribution do with a manifest the client did not say it accepts? ``registries.md`` 4.1 as code."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from regwarden.core.oci import media_types
from regwarden.core.oci.digests import Digest
from regwarden.testing.content import RepositoryContent, StoredManifest
from regwarden.testing.replies import Problem

_UNACCEPTED_OCI: Final = "OCI {kind} found, but accept header does not support OCI {kind}s"


@dataclass(frozen=True, slots=True)
class Offer:
    """The manifest to answer with, or the status and problem in its place."""

    manifest: StoredManifest | None = None
    status: int = 200
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """What the client asked for: a manifest by tag (empty: by digest), with these types in ``Accept``."""

    repository: RepositoryContent
    manifest: StoredManifest
    tag: str
    accepted: Collection[str]
    generation: int


def negotiate(question: Question) -> Offer:
    """What the registry answers. Wildcards and quality values count for nothing, as in Distribution."""
    manifest = question.manifest
    kind = manifest.media_type
    if kind in question.accepted:
        return Offer(manifest)
    if kind == media_types.OCI_MANIFEST:
        return _unaccepted("manifest")
    if kind == media_types.OCI_INDEX:
        return _unaccepted("index") if question.generation == 2 else Offer(manifest)
    if not question.tag:
        return Offer(manifest)
    if kind == media_types.DOCKER_LIST:
        return _from_list(question)
    return Offer(_downgrade(question, manifest)) if question.generation == 2 else Offer(manifest)


def _unaccepted(kind: str) -> Offer:
    return Offer(status=404, problem=Problem("MANIFEST_UNKNOWN", message=_UNACCEPTED_OCI.format(kind=kind)))


def _from_list(question: Question) -> Offer:
    accepts_child = media_types.DOCKER_MANIFEST in question.accepted
    if question.generation > 2 and not accepts_child:
        return Offer(status=400, problem=Problem("MANIFEST_INVALID"))
    entries = json.loads(question.manifest.payload)["manifests"]
    child = next((_find_child(question.repository, entry) for entry in entries if _is_default(entry)), None)
    if child is None:
        return Offer(status=404, problem=Problem("MANIFEST_UNKNOWN"))
    return Offer(child if accepts_child else _downgrade(question, child))


def _is_default(entry: dict[str, Any]) -> bool:
    platform = entry.get("platform", {})
    return (platform.get("os"), platform.get("architecture")) == ("linux", "amd64")


def _find_child(repository: RepositoryContent, entry: dict[str, Any]) -> StoredManifest | None:
    return repository.manifests.get(Digest.parse(entry["digest"]))


def _downgrade(question: Question, manifest: StoredManifest) -> StoredManifest:
    """The schema 1 document that 2.x makes up: another body under another digest."""
    layers = json.loads(manifest.payload)["layers"]
    document = {
        "schemaVersion": 1,
        "name": question.repository.name,
        "tag": question.tag,
        "architecture": "amd64",
        "fsLayers": [{"blobSum": entry["digest"]} for entry in reversed(layers)],
        "history": [{"v1Compatibility": "{}"} for _ in layers],
        "signatures": [],
    }
    payload = json.dumps(document, indent=3).encode()
    return StoredManifest(Digest.of(payload), media_types.SCHEMA_1_SIGNED, payload)
