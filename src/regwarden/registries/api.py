"""What a registry of any kind can be asked: the connector contract, optional abilities, the capability record.

Flows depend on this file alone; ``wiring`` chooses the kind. A connector turns every failure into one of the
``RegistryError`` classes of ``regwarden.errors``; no exception of an HTTP library passes it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol, runtime_checkable

from regwarden.core.oci.descriptors import Descriptor
from regwarden.core.oci.digests import Digest
from regwarden.core.projects import Access, Discovery, RepositorySize, RepositoryStatus


class Ability(StrEnum):
    """Whether a registry can do something."""

    SUPPORTED = "supported"
    UNSUPPORTED = "unsupported"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What this registry can do, as far as it was seen."""

    catalog: Ability = Ability.UNKNOWN
    referrers: Ability = Ability.UNKNOWN
    delete: Ability = Ability.UNKNOWN
    delete_tag: Ability = Ability.UNKNOWN
    token_auth: Ability = Ability.UNKNOWN
    server: str = ""  # what the registry says it is, for people; never decides anything


@dataclass(frozen=True, slots=True)
class RepositoryPage:
    """One page of the catalog.

    ``is_trustworthy`` is false where this registry is known to be able to lose entries at this page
    (a break after a parent/digit-child pair, a page that had to be asked for twice); ``doubt`` then says why.
    ``is_complete`` is false where one of several lists broke off there, and others followed.
    """

    names: tuple[str, ...]
    is_trustworthy: bool = True
    doubt: str = ""
    is_complete: bool = True


@dataclass(frozen=True, slots=True)
class ListedTag:
    """What a registry's own listing says of a tag, without its manifest being asked for.

    ``published_at`` is since when the tag points to ``digest``, by the registry's clock. ``referrers`` are the
    manifests that refer to ``digest``; ``None`` where the listing does not tell.
    """

    digest: Digest
    media_type: str = ""
    published_at: datetime | None = None
    referrers: tuple[Digest, ...] | None = None


@dataclass(frozen=True, slots=True)
class TagListing:
    """All tags of a repository as listed.

    ``is_complete`` is true only if the registry said that there is nothing more. ``exists`` is false where the
    repository is in the catalog but has no tag list (404 ``NAME_UNKNOWN``): it then has no tags. ``listed`` says more
    of each tag, where the registry does; it is as true as an answer about that tag alone.
    """

    repository: str
    tags: tuple[str, ...]
    is_complete: bool = True
    exists: bool = True
    page_count: int = 1
    doubt: str = ""
    listed: Mapping[str, ListedTag] | None = None


@dataclass(frozen=True, slots=True)
class FetchedManifest:
    """The bytes of a manifest, verified against ``digest``, and what the registry called them.

    ``digest`` is always computed from ``payload`` except for schema 1, whose registry digest covers other bytes.
    """

    digest: Digest
    media_type: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Unchanged:
    """304: the tag's link is what we know. It does not prove that the manifest can be read."""

    digest: Digest


@dataclass(frozen=True, slots=True)
class ManifestHead:
    """The answer of an unconditional HEAD: proof of existence."""

    digest: Digest | None
    media_type: str
    size_bytes: int | None


@dataclass(frozen=True, slots=True)
class BlobHead:
    """A blob's existence and stored size (``None`` where the registry does not say)."""

    exists: bool
    size_bytes: int | None = None


@dataclass(slots=True)
class Traffic:
    """What a connector sent and received since it was made; updated in place."""

    requests: int = 0
    retries: int = 0
    throttled: int = 0
    received_bytes: int = 0
    manifest_bodies: int = 0
    not_modified: int = 0
    token_requests: int = 0
    clock_skew: timedelta | None = None  # registry's Date header minus our clock, the largest seen


@dataclass(frozen=True, slots=True)
class Ping:
    """The answer of ``GET /v2/``."""

    is_authenticated: bool
    server: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    date: datetime | None = None


class Connector(Protocol):
    """One registry, whatever its kind. Safe for concurrent use by many tasks of one event loop."""

    @property
    def traffic(self) -> Traffic:
        """Counters of this connector."""

    async def ping(self) -> Ping:
        """Check that this is a registry and that the credentials are accepted.

        Raises ``RegistryUnreachable``, ``RegistryDenied`` or ``RegistryProtocolError`` (not a registry).
        """

    async def probe_capabilities(self) -> Capabilities:
        """Find out, without changing anything, what the registry can do."""

    def list_repositories(self) -> AsyncIterator[RepositoryPage]:
        """The catalog, page by page. Raises if it breaks off; what was yielded stays valid as a partial answer."""

    async def list_tags(self, repository: str) -> TagListing:
        """All tags of a repository, paging to the end. Raises ``RegistryDenied`` and temporary errors."""

    async def fetch_manifest(
        self, repository: str, reference: str, *, known: Digest | None = None
    ) -> FetchedManifest | Unchanged:
        """Get a manifest by tag or digest, conditionally when ``known`` is given (only useful by tag).

        Raises ``RegistryMissing`` when it is gone and ``RegistryProtocolError`` when the bytes do not match.
        """

    async def head_manifest(self, repository: str, reference: str) -> ManifestHead | None:
        """Unconditional HEAD; ``None`` for an honest 404. Leaves a pull event at the registry."""

    async def fetch_blob(self, repository: str, digest: Digest, *, max_bytes: int) -> bytes:
        """A blob's bytes, verified; raises ``RegistryProtocolError`` when larger than ``max_bytes`` or different."""

    async def head_blob(self, repository: str, digest: Digest) -> BlobHead:
        """Whether a blob is there. Leaves a pull event at the registry."""

    async def close(self) -> None:
        """End all connections."""


@runtime_checkable
class ListsReferrers(Protocol):
    """Optional: the referrers API (OCI distribution specification 1.1, "Listing Referrers")."""

    async def list_referrers(self, repository: str, subject: Digest) -> tuple[Descriptor, ...] | None:
        """Descriptors of what refers to ``subject``; ``None`` where this registry has no referrers API."""


class Removal(StrEnum):
    """What a deletion at the registry found."""

    REMOVED = "removed"
    ALREADY_GONE = "already-gone"  # an honest 404


@runtime_checkable
class DeletesManifests(Protocol):
    """Optional: deleting by digest (OCI distribution specification, "Deleting Manifests")."""

    async def probe_delete(self, repository: str) -> Ability:
        """Whether manifests can be deleted, by asking to delete a digest that cannot exist; changes nothing.

        Raises what ``delete_manifest`` raises where the registry refuses to say: no rights, read-only mode.
        """

    async def delete_manifest(self, repository: str, digest: Digest) -> Removal:
        """Delete a manifest from a repository, with every tag that points to it. One request, never repeated blindly.

        Raises ``RegistryError`` (code ``delete-disabled``, ``manifest-referenced``, ``registry-read-only``) and what
        other requests raise. Nobody knows whether it was done where the error's ``status`` is ``None`` (the
        connection broke) or at least 500.
        """


@runtime_checkable
class DeletesTags(Protocol):
    """Optional: deleting a tag without its manifest (OCI distribution specification, "Deleting tags")."""

    async def probe_untag(self, repository: str) -> Ability:
        """Whether a tag can be deleted alone, by asking to delete one that cannot exist; changes nothing.

        Raises as ``probe_delete``. Some registries take the manifest along: look at its digest after ``delete_tag``.
        """

    async def delete_tag(self, repository: str, tag: str) -> Removal:
        """Delete a tag; its manifest stays. Raises ``RegistryError`` (code ``untag-unsupported``, …)."""


@runtime_checkable
class PutsManifests(Protocol):
    """Optional: writing manifests and small blobs, for undo and placeholders (needs the push scope)."""

    async def put_manifest(self, repository: str, reference: str, media_type: str, payload: bytes) -> None:
        """Put exact bytes under a tag or digest.

        Raises ``RegistryError``, with the code ``manifest-blob-unknown`` where content that it names is missing.
        """

    async def put_blob(self, repository: str, payload: bytes) -> Digest:
        """Upload a small blob in one piece; returns its digest."""

    async def mount_blob(self, repository: str, digest: Digest, source: str) -> bool:
        """Link a blob that the repository ``source`` has; false where the registry wants an upload instead.

        An upload that the registry opened instead is cancelled.
        """


@runtime_checkable
class ProvesBlobs(Protocol):
    """Optional: reading a byte of a blob, which reaches the storage where a HEAD may be answered from a cache."""

    async def prove_blob(self, repository: str, digest: Digest, size_bytes: int) -> bool:
        """Whether a blob can really be read: a ranged GET of one byte, a full GET where it is empty.

        False for an honest 404 or a body that breaks off. Leaves a pull event at the registry.
        """


@runtime_checkable
class KnowsProjects(Protocol):
    """Optional: a registry whose repositories belong to projects of somebody (GitLab)."""

    async def describe_access(self) -> Access:
        """Who we are there and what we may do, found out without changing anything; never raises for a refusal."""

    async def discover(self) -> Discovery:
        """The projects of the repositories that ``list_repositories`` listed last, and what else is known of them.

        What could not be asked is a doubt of the answer. Raises ``RegistryError`` only if nothing is known at all.
        """

    async def measure_repository(self, repository: str) -> RepositorySize | None:
        """The registry's own figure for a repository; ``None`` where it has none."""


@runtime_checkable
class DeletesRepositories(Protocol):
    """Optional: deleting a repository as a whole, which takes the registry a while."""

    async def delete_repository(self, repository: str) -> RepositoryStatus:
        """Ask for it once, and return how it stands then. Raises ``RegistryError`` (``repository-protected``, …)."""

    async def find_repository_status(self, repository: str) -> RepositoryStatus:
        """How it stands now; changes nothing."""


@runtime_checkable
class RemovesByTag(Protocol):
    """Optional: a registry that removes what no tag points to by itself, and is asked to remove tags alone."""

    @property
    def removes_by_tag(self) -> bool:
        """Whether a tagged manifest is removed by removing each of its tags; known after the first request."""
