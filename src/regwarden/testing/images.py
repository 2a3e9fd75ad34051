"""How are images, indexes and artifacts made for a sample registry? Pure builders: the same input, the same bytes.

Shapes: OCI image specification 1.1, Docker image manifest version 2 schema 2, BuildKit attestations and caches,
cosign's tag scheme, Helm's OCI layout.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from regwarden.core.oci import media_types
from regwarden.core.oci.descriptors import Platform
from regwarden.core.oci.digests import Digest
from regwarden.testing.content import Blob, BuiltManifest, StoredManifest

OCI_LAYER: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
DOCKER_LAYER: Final = "application/vnd.docker.image.rootfs.diff.tar.gzip"
FOREIGN_LAYER: Final = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
HELM_CHART: Final = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
IN_TOTO: Final = "application/vnd.in-toto+json"
SIMPLE_SIGNING: Final = "application/vnd.dev.cosign.simplesigning.v1+json"
SPDX: Final = "application/spdx+json"

_EPOCH: Final = datetime(2025, 1, 1, tzinfo=UTC)
_NO_PLATFORM: Final = Platform("unknown", "unknown")
_EMPTY: Final = Blob.of(b"{}")

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of an image. An empty ``media_type`` means that of the image's format; ``urls`` make it foreign."""

    blob: Blob
    media_type: str = ""
    urls: tuple[str, ...] = ()
    annotations: tuple[tuple[str, str], ...] = ()


def layer(seed: str, size_bytes: int) -> Layer:
    """A layer of declared size: costs no memory, can be crawled but not pulled (its digest is invented)."""
    return Layer(Blob.declared(seed, size_bytes))


def real_layer(content: bytes, media_type: str = "") -> Layer:
    """A layer of exactly these bytes, which can be pulled."""
    return Layer(Blob.of(content), media_type)


def foreign_layer(seed: str, size_bytes: int, url: str) -> Layer:
    """A layer that the registry does not store."""
    return Layer(Blob.declared(seed, size_bytes), FOREIGN_LAYER, (url,))


def image_config(
    platform: str = "linux/amd64", *, created: datetime = _EPOCH, labels: Mapping[str, str] | None = None
) -> Document:
    """An image configuration; ``platform`` is ``os/architecture[/variant]``."""
    os, architecture, *variant = platform.split("/")
    document: Document = {"architecture": architecture, "os": os, "created": timestamp(created)}
    if variant:
        document["variant"] = variant[0]
    document["config"] = {"Env": ["PATH=/usr/local/bin:/usr/bin:/bin"], "Labels": dict(labels or {})}
    return document


def image(
    layers: Sequence[Layer],
    config: Document | None = None,
    *,
    oci: bool = True,
    config_type: str = "",
    annotations: Mapping[str, str] | None = None,
) -> BuiltManifest:
    """An image manifest in OCI or Docker format; layers and history of the configuration are filled in."""
    format_type = media_types.OCI_CONFIG if oci else media_types.DOCKER_CONFIG
    document = config if config is not None else image_config()
    if not config_type:
        document = {**document, **_rootfs(layers, document.get("created", timestamp(_EPOCH)))}
    config_blob = Blob.of(_encode(document))
    layer_type = OCI_LAYER if oci else DOCKER_LAYER
    body: Document = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST if oci else media_types.DOCKER_MANIFEST,
        "config": _blob_descriptor(config_blob, config_type or format_type),
        "layers": [_layer_descriptor(part, layer_type) for part in layers],
    }
    if annotations:
        body["annotations"] = dict(annotations)
    return BuiltManifest(
        _stored(body),
        blobs=(config_blob, *(part.blob for part in layers if not part.urls)),
        platform=None if config_type else _platform(document),
    )


def index(
    children: Sequence[BuiltManifest],
    *,
    oci: bool = True,
    annotations: Mapping[str, str] | None = None,
) -> BuiltManifest:
    """An OCI index or Docker manifest list of ``children`` (images, attestations, indexes, artifacts)."""
    body: Document = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_INDEX if oci else media_types.DOCKER_LIST,
        "manifests": [_entry(child) for child in children],
    }
    if annotations:
        body["annotations"] = dict(annotations)
    return BuiltManifest(_stored(body), children=tuple(children))


def artifact(
    artifact_type: str,
    layers: Sequence[Layer],
    *,
    subject: BuiltManifest | None = None,
    annotations: Mapping[str, str] | None = None,
) -> BuiltManifest:
    """An OCI 1.1 artifact with the empty configuration, optionally referring to ``subject``."""
    body: Document = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "artifactType": artifact_type,
        "config": _blob_descriptor(_EMPTY, media_types.OCI_EMPTY),
        "layers": [_layer_descriptor(part, OCI_LAYER) for part in layers],
    }
    if subject is not None:
        body["subject"] = describe(subject.manifest)
    if annotations:
        body["annotations"] = dict(annotations)
    return BuiltManifest(
        _stored(body),
        blobs=(_EMPTY, *(part.blob for part in layers)),
        artifact_type=artifact_type,
        entry_annotations=tuple((annotations or {}).items()),
    )


def sbom(subject: BuiltManifest, text: str = "SPDX-2.3") -> BuiltManifest:
    """A software bill of materials that refers to ``subject``."""
    document = _encode({"spdxVersion": text, "documentDescribes": [str(subject.digest)]})
    return artifact(SPDX, [real_layer(document, SPDX)], subject=subject)


def attestation(child: BuiltManifest) -> BuiltManifest:
    """BuildKit's provenance of one image of an index: an entry for platform ``unknown/unknown`` that names it."""
    statement = _encode({"predicateType": "https://slsa.dev/provenance/v1", "subject": [{"digest": str(child.digest)}]})
    built = image([real_layer(statement, IN_TOTO)], image_config("unknown/unknown"))
    return BuiltManifest(
        built.manifest,
        blobs=built.blobs,
        platform=_NO_PLATFORM,
        entry_annotations=(
            ("vnd.docker.reference.digest", str(child.digest)),
            ("vnd.docker.reference.type", "attestation-manifest"),
        ),
    )


def cosign_signature(subject: Digest, repository: str) -> BuiltManifest:
    """A signature in cosign's tag scheme; store it under ``signature_tag(subject)``."""
    payload = _encode(
        {
            "critical": {
                "identity": {"docker-reference": repository},
                "image": {"docker-manifest-digest": str(subject)},
                "type": "cosign container image signature",
            },
            "optional": None,
        }
    )
    signature = Layer(Blob.of(payload), SIMPLE_SIGNING, annotations=(("dev.cosignproject.cosign/signature", "MEUCIQ"),))
    return image([signature])


def build_cache(layers: Sequence[Layer], *, as_index: bool = True) -> BuiltManifest:
    """A BuildKit registry cache: an index whose entries are layers and a cache configuration, or the newer image."""
    config: Document = {"layers": [{"blob": str(part.blob.digest)} for part in layers], "records": []}
    if not as_index:
        return image(layers, config, config_type=media_types.BUILDKIT_CACHE_CONFIG)
    config_blob = Blob.of(_encode(config))
    body: Document = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_INDEX,
        "manifests": [
            *(_layer_descriptor(part, OCI_LAYER) for part in layers),
            _blob_descriptor(config_blob, media_types.BUILDKIT_CACHE_CONFIG),
        ],
    }
    return BuiltManifest(_stored(body), blobs=(config_blob, *(part.blob for part in layers)))


def helm_chart(name: str, release: str) -> BuiltManifest:
    """A Helm chart as Helm 3 pushes it."""
    chart = real_layer(f"chart {name} {release}\n".encode() * 200, HELM_CHART)
    config: Document = {"name": name, "version": release, "apiVersion": "v2", "type": "application"}
    return image([chart], config, config_type=media_types.HELM_CONFIG)


def signature_tag(subject: Digest) -> str:
    """Where cosign keeps the signature of ``subject``."""
    return f"{referrers_tag(subject)}.sig"


def referrers_tag(subject: Digest) -> str:
    """The fallback tag of ``subject`` (OCI distribution specification 1.1, "Referrers Tag Schema")."""
    return f"{subject.algorithm}-{subject.hex}"


def describe(manifest: StoredManifest) -> Document:
    """The descriptor of a manifest as a JSON object."""
    size_bytes = len(manifest.payload)
    return {"mediaType": manifest.media_type, "digest": str(manifest.digest), "size": size_bytes}


def timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC, as image configurations write it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _rootfs(layers: Sequence[Layer], created: str) -> Document:
    stored = [part for part in layers if not part.urls]
    return {
        "rootfs": {"type": "layers", "diff_ids": [str(part.blob.digest) for part in stored]},
        "history": [{"created": created, "created_by": f"COPY layer {number}"} for number, _ in enumerate(stored)],
    }


def _platform(config: Document) -> Platform:
    return Platform(config.get("os", ""), config.get("architecture", ""), config.get("variant", ""))


def _entry(child: BuiltManifest) -> Document:
    entry = describe(child.manifest)
    if child.platform is not None:
        entry["platform"] = {"architecture": child.platform.architecture, "os": child.platform.os}
        if child.platform.variant:
            entry["platform"]["variant"] = child.platform.variant
    if child.artifact_type:
        entry["artifactType"] = child.artifact_type
    if child.entry_annotations:
        entry["annotations"] = dict(child.entry_annotations)
    return entry


def _layer_descriptor(part: Layer, default_type: str) -> Document:
    descriptor = _blob_descriptor(part.blob, part.media_type or default_type)
    if part.urls:
        descriptor["urls"] = list(part.urls)
    if part.annotations:
        descriptor["annotations"] = dict(part.annotations)
    return descriptor


def _blob_descriptor(blob: Blob, media_type: str) -> Document:
    return {"mediaType": media_type, "digest": str(blob.digest), "size": blob.size_bytes}


def _stored(body: Document) -> StoredManifest:
    payload = _encode(body)
    return StoredManifest(Digest.of(payload), body["mediaType"], payload)


def _encode(document: Document) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
