"""What does a stored manifest say? Just what GitLab's registry tells of it: kind, config, layers, children, subject."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from regwarden.core.oci import media_types


@dataclass(frozen=True, slots=True)
class Manifest:
    """``layers`` are digest and bytes of each; ``children`` the digests that an index lists.

    ``size_bytes`` is payload, config and layers together, 0 for an index, as GitLab's registry has it.
    """

    digest: str
    media_type: str
    payload_bytes: int
    config_digest: str = ""
    config_type: str = ""
    layers: tuple[tuple[str, int], ...] = ()
    children: tuple[str, ...] = ()
    subject: str = ""
    artifact_type: str = ""
    size_bytes: int = 0

    @property
    def is_index(self) -> bool:
        return bool(self.children) or self.media_type in (media_types.OCI_INDEX, media_types.DOCKER_LIST)


def parse_manifest(digest: str, payload: bytes) -> Manifest | None:
    """Read a manifest; ``None`` if it is none."""
    try:
        document = json.loads(payload)
    except ValueError:
        return None
    if not isinstance(document, dict):
        return None
    subject = str((document.get("subject") or {}).get("digest", ""))
    if "manifests" in document:
        return Manifest(
            digest,
            document.get("mediaType", media_types.OCI_INDEX),
            len(payload),
            children=tuple(entry["digest"] for entry in document["manifests"]),
            subject=subject,
            artifact_type=document.get("artifactType", ""),
        )
    config: dict[str, Any] = document.get("config") or {}
    layers = tuple((layer["digest"], int(layer["size"])) for layer in document.get("layers", ()) if "digest" in layer)
    return Manifest(
        digest,
        document.get("mediaType", media_types.OCI_MANIFEST),
        len(payload),
        config_digest=config.get("digest", ""),
        config_type=config.get("mediaType", ""),
        layers=layers,
        subject=subject,
        artifact_type=document.get("artifactType", "") or config.get("mediaType", ""),
        size_bytes=len(payload) + int(config.get("size", 0)) + sum(size for _, size in layers),
    )
