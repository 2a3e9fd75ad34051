"""What does a tag or digest point to at the registry at this moment? Unconditionally asked, and never guessed."""

from __future__ import annotations

from regwarden.core.oci.digests import Digest
from regwarden.errors import RegistryMissing, RegistryProtocolError
from regwarden.flows.apply_records import Site
from regwarden.registries.api import FetchedManifest


async def resolve(site: Site, reference: str) -> str | None:
    """The digest that a tag or digest leads to, ``None`` for an honest 404: one HEAD.

    A registry that names no digest is asked for the bytes. Raises ``RegistryError`` where it cannot be told.
    """
    connector = await site.pace()
    head = await connector.head_manifest(site.repository, reference)
    if head is None:
        return None
    if head.digest is not None:
        if ":" in reference and str(head.digest) != reference:
            message = f"the registry answers {head.digest} where {reference} was asked for"
            raise RegistryProtocolError(message, code="digest-mismatch")
        return str(head.digest)
    try:
        return str((await fetch(site, reference)).digest)
    except RegistryMissing:
        return None


async def fetch(site: Site, reference: str) -> FetchedManifest:
    """The manifest that a tag or digest leads to, its bytes verified. Raises ``RegistryError``."""
    connector = await site.pace()
    answer = await connector.fetch_manifest(site.repository, reference)
    if not isinstance(answer, FetchedManifest):
        raise RegistryProtocolError("the registry answered 304 without being asked", status=304)
    return answer


async def exists(site: Site, digest: str) -> bool:
    """Whether a manifest is there. Raises ``RegistryError`` where it cannot be told."""
    return await resolve(site, str(Digest.parse(digest))) is not None
