"""The connector for a GitLab and its registry: the contract of ``registries.api``, one short method per question.

The registry is read as any other, by its own listing where it has one; GitLab is asked whose its repositories are.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

from regwarden.core.oci.descriptors import Descriptor
from regwarden.core.oci.digests import Digest
from regwarden.core.projects import Access, Discovery, Features, RepositorySize, RepositoryStatus
from regwarden.errors import InputError, RegistryDenied, RegistryMissing
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
from regwarden.registries.client.credentials import Basic, IdentityToken
from regwarden.registries.client.limits import Limits
from regwarden.registries.distribution import blob_proofs, blobs, manifests, putting, tags
from regwarden.registries.distribution import deleting as common_deleting
from regwarden.registries.distribution.referrers import Referrers
from regwarden.registries.gitlab import deleting, listing, probes
from regwarden.registries.gitlab.absence import Absence
from regwarden.registries.gitlab.access import AccessProbe
from regwarden.registries.gitlab.client import GitLabClient, open_client
from regwarden.registries.gitlab.discovery_projects import Discoverer
from regwarden.registries.gitlab.discovery_walks import Walks
from regwarden.registries.gitlab.features import FeatureProbe
from regwarden.registries.gitlab.finding import Finder
from regwarden.registries.gitlab.learned import Learned
from regwarden.registries.gitlab.people import People
from regwarden.registries.gitlab.project_rules import RuleReader
from regwarden.registries.gitlab.settings import GitLabSettings

_JOB_USER = "gitlab-ci-token"
_NOT_GRANTED = "not-granted"


class GitLabConnector:
    """One GitLab with its registry; see ``registries.api`` for the methods."""

    def __init__(self, settings: GitLabSettings, client: GitLabClient) -> None:
        credentials = settings.client.credentials
        is_job = isinstance(credentials, Basic) and credentials.username == _JOB_USER and not settings.api_token
        people, learned, registry, api = People(client.api, is_job=is_job), Learned(), client.registry, client.api
        self._settings, self._client, self._learned, self._registry = settings, client, learned, registry
        self._people = people
        self._features = FeatureProbe(registry, is_anonymous=settings.is_anonymous)
        self._walks = Walks(settings, registry, api, people, learned, client.login)
        self._discoverer = Discoverer(self._walks, client.tokens, RuleReader(api))
        self._finder = Finder(registry, client.tokens, api, people, learned)
        self._absence = Absence(self._walks, self._finder)
        self._access = AccessProbe(settings, client, people, self._features, learned)
        self._referrers = Referrers(registry)
        self._delete = Ability.UNKNOWN
        self._delete_tag = Ability.UNKNOWN

    @property
    def traffic(self) -> Traffic:
        """Counters of this connector, of the registry and GitLab together."""
        return self._client.traffic

    @property
    def removes_by_tag(self) -> bool:
        """Whether manifests go by themselves once no tag points to them, as with the metadata database."""
        return self._features.collects_itself

    async def ping(self) -> Ping:
        """Check that this is the registry of our GitLab and that the credentials are accepted."""
        is_anonymous = self._settings.is_anonymous
        answered = await probes.ping(self._registry, self._settings.gitlab_url, is_anonymous=is_anonymous)
        if not is_anonymous:
            self._features.note(answered.headers)
        return answered

    async def probe_capabilities(self) -> Capabilities:
        """Find out by reading alone what the registry can do; deletes are known only after their own probes."""
        found = await self._features.try_ensure()
        catalog = None if self._settings.is_anonymous else await probes.can_list_catalog(self._registry)
        capabilities = probes.capabilities(found, has_catalog=catalog, referrers=self._referrers.ability)
        return replace(capabilities, delete=self._delete, delete_tag=self._delete_tag)

    async def list_repositories(self) -> AsyncIterator[RepositoryPage]:
        """The repositories of the scope: from the catalog, or by walking groups and projects."""
        self._people.forget_refusal()
        self._discoverer.owners.clear()
        self._absence.restart()
        await self._features.renew()  # the registry is the first to see the credentials: see ``Login``
        async for page in self._walks.pages():
            self._client.tokens.expect(page.names)
            yield page

    async def list_tags(self, repository: str) -> TagListing:
        """All tags of a repository, with what they point to where the registry has a metadata database.

        One that we may not read is denied, unless GitLab shows that it is gone.
        """
        try:
            return await self._list_tags(repository)
        except RegistryDenied as denied:
            if denied.code != _NOT_GRANTED or not await self._absence.is_proven(repository):
                raise
        self._learned.gone.add(repository)
        return TagListing(repository, (), exists=False)

    async def _list_tags(self, repository: str) -> TagListing:
        doubt = ""
        if (await self._features.try_ensure(repository)).features is Features.DATABASE:
            try:
                return await listing.list_tags(self._registry, repository)
            except listing.UnreadableListing as reason:
                doubt = f"{reason}; the common listing was read instead"
                self._features.distrust(str(reason))
        return listing.with_doubt(await tags.list_tags(self._registry, repository), doubt)

    async def fetch_manifest(
        self, repository: str, reference: str, *, known: Digest | None = None
    ) -> FetchedManifest | Unchanged:
        """A manifest's bytes, verified, or ``Unchanged`` where the tag still points at ``known``."""
        if repository in self._learned.gone:
            raise RegistryMissing(f"GitLab has no repository {repository} any more")
        return await manifests.fetch_manifest(self._registry, repository, reference, known)

    async def head_manifest(self, repository: str, reference: str) -> ManifestHead | None:
        """Unconditional HEAD; ``None`` for an honest 404."""
        if repository in self._learned.gone:
            return None
        return await manifests.head_manifest(self._registry, repository, reference)

    async def fetch_blob(self, repository: str, digest: Digest, *, max_bytes: int) -> bytes:
        """A blob's bytes, verified; follows redirects to configured blob hosts."""
        return await blobs.fetch_blob(self._registry, repository, digest, max_bytes)

    async def head_blob(self, repository: str, digest: Digest) -> BlobHead:
        """Whether a blob is there, and its stored size."""
        return await blobs.head_blob(self._registry, repository, digest)

    async def list_referrers(self, repository: str, subject: Digest) -> tuple[Descriptor, ...] | None:
        """Descriptors of what refers to ``subject``; ``None`` from GitLab's registry: its listing has them."""
        if (await self._features.try_ensure(repository)).features in {Features.DATABASE, Features.FILES}:
            return None
        return await self._referrers.list(repository, subject)

    async def probe_delete(self, repository: str) -> Ability:
        """Ask to delete a digest that cannot exist; changes nothing."""
        self._delete = await deleting.probe_delete(self._registry, repository)
        return self._delete

    async def probe_untag(self, repository: str) -> Ability:
        """Ask to delete a tag that cannot exist; changes nothing."""
        found = await self._features.try_ensure(repository)
        self._delete_tag = await deleting.probe_untag(self._registry, self._finder, repository, features=found.features)
        return self._delete_tag

    async def delete_manifest(self, repository: str, digest: Digest) -> Removal:
        """Delete a manifest with all its tags; one request, never repeated where it may have been done."""
        return await common_deleting.delete_manifest(self._registry, repository, digest)

    async def delete_tag(self, repository: str, tag: str) -> Removal:
        """Delete a tag alone, by the registry or by GitLab's API."""
        found = await self._features.try_ensure(repository)
        return await deleting.delete_tag(self._registry, self._finder, repository, tag=tag, features=found.features)

    async def put_manifest(self, repository: str, reference: str, media_type: str, payload: bytes) -> None:
        """Put exact bytes under a tag or digest; what they name must be in the repository."""
        await putting.put_manifest(self._registry, repository, reference, media_type=media_type, payload=payload)

    async def put_blob(self, repository: str, payload: bytes) -> Digest:
        """Upload a small blob in one piece."""
        return await putting.put_blob(self._registry, repository, payload)

    async def mount_blob(self, repository: str, digest: Digest, source: str) -> bool:
        """Link a blob of another repository; false where the registry wants an upload instead."""
        return await putting.mount_blob(self._registry, repository, digest, source)

    async def prove_blob(self, repository: str, digest: Digest, size_bytes: int) -> bool:
        """Whether a byte of a blob can really be read."""
        return await blob_proofs.prove_blob(self._registry, repository, digest, size_bytes)

    async def describe_access(self) -> Access:
        """Who we are at GitLab, what we may do, and what is missing."""
        return await self._access.describe()

    async def discover(self) -> Discovery:
        """The projects of the repositories that were listed last, with owners, rules and figures."""
        return await self._discoverer.discover()

    async def measure_repository(self, repository: str) -> RepositorySize | None:
        """GitLab's figure for a repository; only the metadata database has one."""
        if (await self._features.try_ensure(repository)).features is not Features.DATABASE:
            return None
        return await listing.measure(self._registry, repository)

    async def delete_repository(self, repository: str) -> RepositoryStatus:
        """Ask GitLab to delete a repository as a whole."""
        return await deleting.delete_repository(self._finder, repository)

    async def find_repository_status(self, repository: str) -> RepositoryStatus:
        """Whether a repository is still there, being deleted, or gone."""
        return await self._finder.status(repository)

    async def close(self) -> None:
        """End all connections."""
        await self._client.close()


def open_gitlab(settings: GitLabSettings, limits: Limits | None = None) -> GitLabConnector:
    """A connector for one GitLab; no connection is made before the first question.

    Raises ``InputError`` for credentials of a kind that GitLab does not know.
    """
    if isinstance(settings.client.credentials, IdentityToken):
        raise InputError(
            "the Docker configuration has an identity token for this registry, which GitLab does not take",
            hint="Set username and password_file, with an access token as password.",
            code="bad-credentials",
        )
    client = open_client(settings.client, settings.gitlab_url, api_token=settings.api_token, limits=limits)
    return GitLabConnector(settings, client)
