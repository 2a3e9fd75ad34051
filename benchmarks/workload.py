"""Workload W: 50 repositories of 20 tags with shared layers, pushed to a real registry over its API.

1,000 tags, 950 manifests (``latest`` is the newest release), 950 configs, five layers each: two shared by the ten
repositories of a family, one by the tags of a repository, two by nothing.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import random
from dataclasses import dataclass
from urllib.parse import urlsplit

FAMILIES = 5
LAYER_BYTES = (64 * 1024, 32 * 1024, 16 * 1024, 4 * 1024, 1024)
DOCKER = {
    "manifest": "application/vnd.docker.distribution.manifest.v2+json",
    "config": "application/vnd.docker.container.image.v1+json",
    "layer": "application/vnd.docker.image.rootfs.diff.tar.gzip",
}
OCI = {
    "manifest": "application/vnd.oci.image.manifest.v1+json",
    "config": "application/vnd.oci.image.config.v1+json",
    "layer": "application/vnd.oci.image.layer.v1.tar+gzip",
}


@dataclass
class Push:
    """A connection that pushes blobs and manifests."""

    connection: http.client.HTTPConnection

    def call(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> str:
        self.connection.request(method, path, body=body, headers=headers or {})
        response = self.connection.getresponse()
        response.read()
        if response.status not in (201, 202):
            raise SystemExit(f"{method} {path}: {response.status}")
        return response.headers.get("Location", "")

    def blob(self, repository: str, content: bytes) -> dict[str, object]:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        place = urlsplit(self.call("POST", f"/v2/{repository}/blobs/uploads/"))
        query = f"{place.query}&digest={digest}" if place.query else f"digest={digest}"
        self.call("PUT", f"{place.path}?{query}", content, {"Content-Type": "application/octet-stream"})
        return {"digest": digest, "size": len(content)}


def push_workload(url: str, *, repositories: int = 50, tags: int = 20, is_oci: bool = False) -> None:
    """Fill the registry at ``url`` (``http://host:port``) with Docker's images, or with OCI's."""
    types = OCI if is_oci else DOCKER
    address = urlsplit(url)
    push = Push(http.client.HTTPConnection(address.hostname or "", address.port))
    for number in range(repositories):
        family = number % FAMILIES
        name = f"team{family}/app{number:02d}"
        shared = [push.blob(name, _bytes(f"family {family} {i}", LAYER_BYTES[i])) for i in (0, 1)]
        shared.append(push.blob(name, _bytes(f"repository {number}", LAYER_BYTES[2])))
        for release in range(tags - 1):
            own = [push.blob(name, _bytes(f"{number} {release} {i}", LAYER_BYTES[i])) for i in (3, 4)]
            config = json.dumps(
                {
                    "created": f"2026-01-{release % 28 + 1:02d}T00:00:00Z",
                    "architecture": "amd64",
                    "os": "linux",
                    "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in (*shared, *own)]},
                    # One of each layer: without it no registry converts the image for clients of the first schema.
                    "history": [{"created_by": "COPY"}] * len(LAYER_BYTES),
                    "x": f"{name} {release}",
                }
            )
            document = {
                "schemaVersion": 2,
                "mediaType": types["manifest"],
                "config": {"mediaType": types["config"], **push.blob(name, config.encode())},
                "layers": [{"mediaType": types["layer"], **layer} for layer in (*shared, *own)],
            }
            names = [f"1.{release}.0", *(["latest"] if release == tags - 2 else [])]
            for tag in names:
                body = json.dumps(document).encode()
                push.call("PUT", f"/v2/{name}/manifests/{tag}", body, {"Content-Type": types["manifest"]})


def _bytes(seed: str, size_bytes: int) -> bytes:
    return random.Random(seed).randbytes(size_bytes)
