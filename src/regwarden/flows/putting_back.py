"""How does a manifest that we removed come back? What it lists first, then itself under a tag, and then it is read.

Blobs are still there: only a garbage collection removes them.
"""

from __future__ import annotations

from regwarden.core.oci.digests import Digest
from regwarden.core.plan import Step
from regwarden.errors import RegistryError, RegistryMissing, RegistryProtocolError
from regwarden.flows.apply_records import Site
from regwarden.flows.asking import exists, fetch, resolve
from regwarden.flows.bytes_to_keep import Payload, collect_tree
from regwarden.registries.api import PutsManifests
from regwarden.store import trash


async def put_back(site: Site, step: Step, digest: Digest, reference: str) -> None:
    """Let ``reference``, a tag or the digest itself, lead to ``digest`` again, with everything that it lists.

    The bytes come from the trash of ``step``, the inventory or the registry. Raises ``RegistryError`` where it cannot
    be done or is not to be seen afterwards.
    """
    tree = await _load_tree(site, step, digest)
    for child, (media_type, payload) in reversed(tree.items()):
        if child != digest and not await exists(site, str(child)):
            await _put(site, str(child), media_type, payload)
    media_type, payload = tree[digest]
    await _put(site, reference, media_type, payload)
    if (found := await resolve(site, reference)) != str(digest):
        message = f"{reference} was put back and leads to {found or 'nothing'}, not to {digest}"
        raise RegistryProtocolError(message, hint="Restart the registry: its cache may be wrong.", code="not-put-back")
    if (await fetch(site, str(digest))).payload != payload:
        raise RegistryProtocolError(f"the registry gives other bytes for {digest}", code="digest-mismatch")


async def _load_tree(site: Site, step: Step, digest: Digest) -> dict[Digest, Payload]:
    """The manifest and all below it, parents first: for the most part what the trash has."""
    kept = await site.services.database.read(
        lambda connection: trash.load(connection, site.plan_id, positions=[step.position])
    )
    known = {Digest.parse(one.digest): (one.media_type, one.payload) for one in kept}
    if digest in known and str(digest) == step.digest:
        return {digest: known.pop(digest), **known}
    try:
        return await collect_tree(site, digest)
    except RegistryMissing as error:
        raise RegistryError(f"the bytes of {digest} are known to nobody", code="bytes-lost") from error


async def _put(site: Site, reference: str, media_type: str, payload: bytes) -> None:
    connector = await site.pace()
    if not isinstance(connector, PutsManifests):
        raise RegistryError("this kind of registry cannot be written to", code="put-unsupported", status=405)
    await connector.put_manifest(site.repository, reference, media_type, payload)
