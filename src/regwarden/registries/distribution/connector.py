"""The distribution connector: the contract of ``registries.api`` over ``/v2/``, one short method per question."""

from __future__ import annotations

from collections.abc import AsyncIterator

from regwarden.core.oci.descriptors import Descriptor
from regwarden.core.oci.digests import Digest
from regwarden.registries.api import (
    Ability,
    BlobHead,
    Capabilities,
    FetchedManifest,
    ManifestHead,
    Ping,
    RepositoryPage,
    TagListing,
    Traffic,
    Unchanged,
)
from regwarden.registries.client.client import RegistryClient
from regwarden.registries.client.limits import Limits
from regwarden.registries.client.settings import ClientSettings
from regwarden.registries.distribution import blobs, manifests, probes, tags
from regwarden.registries.distribution.catalog import CatalogWalk
from regwarden.registries.distribution.referrers import Referrers


class DistributionConnector:
    """One registry that speaks the distribution API; see ``Connector`` and ``ListsReferrers`` for the methods."""

    def __init__(self, client: RegistryClient) -> None:
        self._client = client
        self._referrers = Referrers(client)
        self._delete = Ability.UNKNOWN

    @property
    def traffic(self) -> Traffic:
        """Counters of this connector."""
        return self._client.traffic

    async def ping(self) -> Ping:
        """Check that this is a registry and that the credentials are accepted."""
        return await probes.ping(self._client)

    async def probe_capabilities(self) -> Capabilities:
        """Find out by reading alone what the registry can do; deletes stay unknown until ``probe_delete``."""
        return await probes.probe_capabilities(self._client, self._referrers, self._delete)

    async def probe_delete(self, repository: str) -> Ability:
        """Ask to delete a digest that cannot exist: changes nothing, emits nothing, tells whether deletes are on."""
        self._delete = await probes.probe_delete(self._client, repository)
        return self._delete

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

    async def close(self) -> None:
        """End all connections."""
        await self._client.close()


def open_connector(settings: ClientSettings, limits: Limits | None = None) -> DistributionConnector:
    """A connector for one registry; no connection is made before the first question."""
    return DistributionConnector(RegistryClient(settings, limits or Limits()))
