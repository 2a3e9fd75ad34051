"""Media types of manifests, indexes, configs and layers, and which of them mean what.

Sources: OCI image specification 1.1 (media-types.md), Distribution image manifest version 2 schema 1 and 2.
"""

from __future__ import annotations

from typing import Final

DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
SCHEMA_1: Final = "application/vnd.docker.distribution.manifest.v1+json"
SCHEMA_1_SIGNED: Final = "application/vnd.docker.distribution.manifest.v1+prettyjws"
OCI_ARTIFACT_MANIFEST: Final = "application/vnd.oci.artifact.manifest.v1+json"

DOCKER_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
OCI_EMPTY: Final = "application/vnd.oci.empty.v1+json"
HELM_CONFIG: Final = "application/vnd.cncf.helm.config.v1+json"
BUILDKIT_CACHE_CONFIG: Final = "application/vnd.buildkit.cacheconfig.v0"
# What registries call every blob in answers and notifications.
ANY_BLOB: Final = "application/octet-stream"

IMAGE_MANIFESTS: Final = frozenset({DOCKER_MANIFEST, OCI_MANIFEST})
INDEXES: Final = frozenset({DOCKER_LIST, OCI_INDEX})
SCHEMA_1_MANIFESTS: Final = frozenset({SCHEMA_1, SCHEMA_1_SIGNED})
READABLE_MANIFESTS: Final = IMAGE_MANIFESTS | INDEXES
MANIFESTS: Final = READABLE_MANIFESTS | SCHEMA_1_MANIFESTS | {OCI_ARTIFACT_MANIFEST}
IMAGE_CONFIGS: Final = frozenset({DOCKER_CONFIG, OCI_CONFIG})

# All four, always: with fewer, Distribution 2.x converts to schema 1 and writes to the registry while doing so.
ACCEPT_MANIFESTS: Final = (OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST)

FOREIGN_LAYERS: Final = frozenset(
    {
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "application/vnd.docker.image.rootfs.foreign.diff.tar",
    }
)


def essence(content_type: str) -> str:
    """A media type without parameters, in lower case: ``application/json; charset=utf-8`` → ``application/json``."""
    return content_type.partition(";")[0].strip().lower()


def is_manifest(media_type: str) -> bool:
    """Whether a descriptor of this type addresses a manifest (an index's other entries are plain blobs)."""
    return essence(media_type) in MANIFESTS
