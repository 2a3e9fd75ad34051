"""How is one of several tags removed where a registry cannot? It is pointed to an empty manifest, which is deleted.

The manifest is made from the plan, the step and its tag alone: no other tag can point to it, and after a crash it is
recognised.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from regwarden.core.oci.digests import Digest
from regwarden.core.plan import Step
from regwarden.errors import RegistryError, RegistryProtocolError
from regwarden.flows.apply_records import Site
from regwarden.flows.asking import resolve
from regwarden.registries.api import PutsManifests

# Registries that know only Docker's types take these, and those that know OCI's as well.
_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG: Final = "application/vnd.docker.container.image.v1+json"


@dataclass(frozen=True, slots=True)
class Placeholder:
    """An image without layers: the bytes of its config and of its manifest, and the digest of the latter."""

    config: bytes
    payload: bytes
    digest: Digest


def placeholder_of(plan_id: int, step: Step) -> Placeholder:
    """The placeholder for the tag of an untag step; equal steps of one plan have equal ones."""
    about = {"plan": plan_id, "step": step.position, "repository": step.repository, "tag": step.tags[0]}
    history = [{"comment": f"placeholder of regwarden, to be deleted: {json.dumps(about)}", "empty_layer": True}]
    config = _dump(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": []},
            "history": history,
            "was": step.digest,
        }
    )
    payload = _dump(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": {"mediaType": _CONFIG, "size": len(config), "digest": str(Digest.of(config))},
            "layers": [],
        }
    )
    return Placeholder(config, payload, Digest.of(payload))


async def put_placeholder(site: Site, step: Step) -> Digest:
    """Point the tag of a step to its placeholder and look whether it does; returns its digest. Three requests.

    Raises ``RegistryError``; the tag may then point to it or not.
    """
    made = placeholder_of(site.plan_id, step)
    connector = await site.pace()
    if not isinstance(connector, PutsManifests):
        raise RegistryError("this kind of registry takes no placeholders", code="untag-unsupported", status=405)
    await connector.put_blob(site.repository, made.config)
    connector = await site.pace()
    assert isinstance(connector, PutsManifests)  # noqa: S101 -- the same as above
    await connector.put_manifest(site.repository, step.tags[0], _MANIFEST, made.payload)
    if await resolve(site, step.tags[0]) != str(made.digest):
        raise RegistryProtocolError(
            "the registry does not point the tag to the placeholder", code="placeholder-refused"
        )
    return made.digest


def _dump(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()
