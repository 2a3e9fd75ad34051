"""The distribution connector: the contract of ``registries.api`` over ``/v2/``, one short method per question."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

from regwarden.core.oci.descriptors import Descriptor
from regwarden.core.oci.digests import Digest
from regwarden.registries.api import (
    Ability,
    BlobHead,
    Capabilities,
    FetchedManifest,
    ManifestHead,
    Ping,
    Removal,
    RepositoryPage,
    TagListing,
    Traffic,
    Unchanged,
)
from regwarden.registries.client.client import RegistryClient
from regwarden.registries.client.limits import Limits
from regwarden.registries.client.settings import ClientSettings
from regwarden.registries.distribution import blob_proofs, blobs, deleting, manifests, probes, putting, tags
from regwarden.registries.distribution.catalog import CatalogWalk
from regwarden.registries.distribution.referrers import Referrers


class DistributionConnector:
    """One registry that speaks the distribution API; see ``registries.api`` for the methods."""

    def __init__(self, client: RegistryClient) -> None:
        self._client = client
        self._referrers = Referrers(client)
        self._delete = Ability.UNKNOWN
        self._delete_tag = Ability.UNKNOWN

    @property
    def traffic(self) -> Traffic:
        """Counters of this connector."""
        return self._client.traffic

    async def ping(self) -> Ping:
        """Check that this is a registry and that the credentials are accepted."""
        return await probes.ping(self._client)

    async def probe_capabilities(self) -> Capabilities:
        """Find out by reading alone what the registry can do; deletes are known only after their own probes."""
        found = await probes.probe_capabilities(self._client, self._referrers)
        return replace(found, delete=self._delete, delete_tag=self._delete_tag)

    async def list_repositories(self) -> AsyncIterator[RepositoryPage]:
        """The catalog, page by page, and then possible parents that such listings are known to lose."""
        async for page in CatalogWalk(self._client).pages():
            yield page

    async def list_tags(self, repository: str) -> TagListing:
        """All tags of a repository, in the order of the listing."""
        return await tags.list_tags(self._client, repository)

    async def fetch_manifest(
        self, repository: str, reference: str, *, known: Digest | None = None
    ) -> FetchedManifest | Unchanged:
        """A manifest's bytes, verified, or ``Unchanged`` where the tag still points at ``known``."""
        return await manifests.fetch_manifest(self._client, repository, reference, known)

    async def head_manifest(self, repository: str, reference: str) -> ManifestHead | None:
        """Unconditional HEAD (GET where the server cannot do HEAD); ``None`` for an honest 404."""
        return await manifests.head_manifest(self._client, repository, reference)

    async def fetch_blob(self, repository: str, digest: Digest, *, max_bytes: int) -> bytes:
        """A blob's bytes, verified; follows redirects to configured blob hosts."""
        return await blobs.fetch_blob(self._client, repository, digest, max_bytes)

    async def head_blob(self, repository: str, digest: Digest) -> BlobHead:
        """Whether a blob is there, and its stored size."""
        return await blobs.head_blob(self._client, repository, digest)

    async def list_referrers(self, repository: str, subject: Digest) -> tuple[Descriptor, ...] | None:
        """Descriptors of what refers to ``subject``; ``None`` where this registry has no referrers API."""
        return await self._referrers.list(repository, subject)

    async def probe_delete(self, repository: str) -> Ability:
        """Ask to delete a digest that cannot exist: changes nothing, emits nothing, tells whether deletes are on."""
        self._delete = await deleting.probe_delete(self._client, repository)
        return self._delete

    async def probe_untag(self, repository: str) -> Ability:
        """Ask to delete a tag that cannot exist: changes nothing, tells whether a tag can be removed alone."""
        self._delete_tag = await deleting.probe_untag(self._client, repository)
        return self._delete_tag

    async def delete_manifest(self, repository: str, digest: Digest) -> Removal:
        """Delete a manifest with all its tags; one request, never repeated where it may have been done."""
        return await deleting.delete_manifest(self._client, repository, digest)

    async def delete_tag(self, repository: str, tag: str) -> Removal:
        """Delete a tag alone, where the registry can."""
        return await deleting.delete_tag(self._client, repository, tag)

    async def put_manifest(self, repository: str, reference: str, media_type: str, payload: bytes) -> None:
        """Put exact bytes under a tag or digest; what they name must be in the repository."""
        await putting.put_manifest(self._client, repository, reference, media_type=media_type, payload=payload)

    async def put_blob(self, repository: str, payload: bytes) -> Digest:
        """Upload a small blob in one piece."""
        return await putting.put_blob(self._client, repository, payload)

    async def mount_blob(self, repository: str, digest: Digest, source: str) -> bool:
        """Link a blob of another repository; false where the registry wants an upload instead."""
        return await putting.mount_blob(self._client, repository, digest, source)

    async def prove_blob(self, repository: str, digest: Digest, size_bytes: int) -> bool:
        """Whether a byte of a blob can really be read."""
        return await blob_proofs.prove_blob(self._client, repository, digest, size_bytes)

    async def close(self) -> None:
        """End all connections."""
        await self._client.close()


def open_connector(settings: ClientSettings, limits: Limits | None = None) -> DistributionConnector:
    """A connector for one registry; no connection is made before the first question."""
    return DistributionConnector(RegistryClient(settings, limits or Limits()))
