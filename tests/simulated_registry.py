"""A registry without HTTP, at a time of its own: for tests that do thousands of things to it and kill whoever asks it.

Whatever changes is told to ``watcher`` before it happens. Requests of ours can be made to fail, to be overtaken by
somebody else, or to be the last thing that a process does.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from regwarden.core.oci.descriptors import Descriptor
from regwarden.core.oci.digests import Digest
from regwarden.errors import RegistryError, RegistryMissing, RegistryUnreachable
from regwarden.registries.api import (
    Ability,
    BlobHead,
    Capabilities,
    FetchedManifest,
    ListedTag,
    ManifestHead,
    Ping,
    Removal,
    RepositoryPage,
    TagListing,
    Traffic,
    Unchanged,
)
from regwarden.testing.content import Blob, BuiltManifest, Content, RepositoryContent, StoredManifest
from regwarden.testing.notifications import Action, Caller, Event, Target

OURS = "0123456789abcdef"
_OURSELVES = Caller("PUT", "registry", "192.0.2.9:1", f"regwarden/0 ({OURS})", "")
_OTHERS = Caller("PUT", "registry", "192.0.2.1:1", "docker/20.10", "")
_TICK = timedelta(milliseconds=1)


class Died(BaseException):
    """The process ended here."""


@dataclass
class SimulatedClock:
    """The time of everybody; it stands still unless it is moved."""

    present: datetime = datetime(2026, 12, 17, 11, 30, tzinfo=UTC)
    is_frozen: bool = False

    def now(self) -> datetime:
        return self.present

    def tick(self) -> None:
        """The least that lies between two changes."""
        self.present += timedelta() if self.is_frozen else _TICK


@dataclass
class Lifeline:
    """What happens to our requests and to what we write, counted together from 1.

    At number ``dies_at`` the process ends, before or (``after``) behind its effect; later attempts end it again.
    """

    dies_at: int = 0
    after: bool = False
    count: int = 0
    is_dead: bool = False

    @contextmanager
    def around(self) -> Iterator[None]:
        """One request or one transaction."""
        if self.is_dead:
            raise Died
        self.count += 1
        is_last = self.count == self.dies_at
        self.is_dead = is_last
        if is_last and not self.after:
            raise Died
        yield
        if is_last or self.is_dead:
            raise Died


class MortalDatabase:
    """A database whose user may die before or after each transaction that writes."""

    def __init__(self, database: Any, lifeline: Lifeline) -> None:
        self._database = database
        self._lifeline = lifeline

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    async def write(self, work: Callable[[Any], Any], *, urgent: bool = False) -> Any:
        with self._lifeline.around():
            return await self._database.write(work, urgent=urgent)


class Watcher(Protocol):
    """Who looks at each request of ours that changes something, before it does."""

    def on_delete(self, repository: str, reference: str) -> None: ...

    def on_put(self, repository: str, reference: str, payload: bytes) -> None: ...


@dataclass
class Plot:
    """What is to happen to the requests of one run: the ``number``-th of ``method`` (empty: of any) is disturbed.

    ``act`` is done by somebody else before the request, or after it; it is told the repository and what is asked for
    there. ``breaks`` lets the answer get lost: before or
    after the request had its effect.
    """

    method: str = ""
    number: int = 0
    after: bool = False
    act: Callable[[str, str], object] | None = None
    breaks: bool = False
    count: int = 0

    @contextmanager
    def around(self, method: str, repository: str, reference: str) -> Iterator[None]:
        is_meant = False
        if self.number and self.method in ("", method):
            self.count += 1
            is_meant = self.count == self.number
        if is_meant and not self.after:
            self._happen(repository, reference)
        yield
        if is_meant and self.after:
            self._happen(repository, reference)

    def _happen(self, repository: str, reference: str) -> None:
        if self.act is not None:
            self.act(repository, reference)
        if self.breaks:
            raise RegistryUnreachable("the connection broke", temporary=True)


@dataclass
class SimulatedRegistry:
    """What the registry holds, and every event that it emitted, in order; what others do to it are its methods."""

    clock: SimulatedClock
    content: Content = field(default_factory=Content)
    events: list[Event] = field(default_factory=list)
    deletes: bool = True
    untags: bool = False
    untag_takes_all: bool = False
    lists_referrers: bool = False
    collected: set[Digest] = field(default_factory=set)
    tells_digests: bool = False  # its listing says what tags point to, since when, and what refers to that
    published: dict[tuple[str, str], datetime] = field(default_factory=dict)

    def push(self, repository: str, built: BuiltManifest, tag: str = "") -> list[Event]:
        """Somebody pushes a manifest with all that it lists; the events that this causes, the last one its own."""
        told = [event for child in built.children for event in self.push(repository, child)]
        here = self.content.repository(repository)
        here.blobs.update({blob.digest: blob for blob in built.blobs})
        return [*told, self.write(repository, built.manifest, tag, _OTHERS)]

    def write(self, repository: str, manifest: StoredManifest, tag: str, caller: Caller) -> Event:
        self.clock.tick()
        here = self.content.repository(repository)
        here.put_manifest(manifest)
        if tag:
            here.set_tag(tag, manifest.digest)
            self.published[repository, tag] = self.clock.now()
        target = Target(repository, manifest.digest, manifest.media_type, len(manifest.payload), tag)
        return self.emit("push", target, caller)

    def remove(self, repository: str, digest: Digest, caller: Caller = _OTHERS) -> list[Event]:
        """A manifest goes with its tags."""
        self.clock.tick()
        tags = self.content.repository(repository).delete_manifest(digest)
        told = [self.emit("delete", Target(repository, digest), caller)]
        return [*told, *(self.emit("delete", Target(repository, tag=tag), caller) for tag in tags)]

    def untag(self, repository: str, tag: str, caller: Caller = _OTHERS) -> Event:
        """A tag goes, its manifest stays."""
        self.clock.tick()
        del self.content.repository(repository).tags[tag]
        return self.emit("delete", Target(repository, tag=tag), caller)

    def pull(self, repository: str, reference: str, caller: Caller = _OTHERS) -> Event | None:
        """Somebody pulls, if it is there."""
        manifest = self.find(repository, reference)
        if manifest is None:
            return None
        tag = "" if ":" in reference else reference
        target = Target(repository, manifest.digest, manifest.media_type, len(manifest.payload), tag)
        return self.emit("pull", target, Caller("GET", *(getattr(caller, one) for one in _REST)))

    def emit(self, action: Action, target: Target, caller: Caller) -> Event:
        event = Event(action, target, caller, event_id=f"event-{len(self.events) + 1}", at=self.clock.now())
        self.events.append(event)
        return event

    def find(self, repository: str, reference: str) -> StoredManifest | None:
        return self.content.repositories.get(repository, RepositoryContent(repository)).find_manifest(reference)

    def list_tags(self, repository: str) -> dict[str, ListedTag]:
        """What GitLab's registry says of tags in its own listing."""
        here = self.content.repository(repository)
        return {
            tag: ListedTag(
                digest,
                here.manifests[digest].media_type if digest in here.manifests else "",
                self.published.get((repository, tag)),
                tuple(one.digest for one in here.list_referrers(digest)),
            )
            for tag, digest in sorted(here.tags.items())
        }

    def collect_garbage(self) -> None:
        """Every blob goes that no manifest of any repository names."""
        needed = set()
        for repository in self.content.repositories.values():
            for manifest in repository.manifests.values():
                document = json.loads(manifest.payload)
                for part in (document.get("config"), *document.get("layers", ())):
                    needed |= {Digest.parse(part["digest"])} if part else set()
        for repository in self.content.repositories.values():
            self.collected |= repository.blobs.keys() - needed
            repository.blobs = {digest: blob for digest, blob in repository.blobs.items() if digest in needed}


_REST = ("host", "address", "user_agent", "actor")


class SimulatedConnector:
    """Our side of a simulated registry, with every ability. ``deletions`` are all DELETE requests, in order."""

    def __init__(self, registry: SimulatedRegistry) -> None:
        self.registry = registry
        self.traffic = Traffic()
        self.deletions: list[tuple[str, str]] = []
        self.asked: list[tuple[str, str, str]] = []  # method, repository, what of it
        self.watcher: Watcher | None = None
        self.lifeline = Lifeline()
        self.plot = Plot()

    @contextmanager
    def _request(self, method: str, repository: str = "", reference: object = "") -> Iterator[None]:
        self.traffic.requests += 1
        self.asked.append((method, repository, str(reference)))
        with self.lifeline.around(), self.plot.around(method, repository, str(reference)):
            yield

    async def ping(self) -> Ping:
        return Ping(is_authenticated=True)

    async def probe_capabilities(self) -> Capabilities:
        referrers = Ability.SUPPORTED if self.registry.lists_referrers else Ability.UNSUPPORTED
        return Capabilities(catalog=Ability.SUPPORTED, referrers=referrers)

    async def list_repositories(self) -> AsyncIterator[RepositoryPage]:
        with self._request("GET"):
            yield RepositoryPage(tuple(self.registry.content.listed_names()))

    async def list_tags(self, repository: str) -> TagListing:
        with self._request("GET", repository):
            here = self.registry.content.repositories.get(repository)
            if here is None or not here.has_tag_list:
                return TagListing(repository, (), exists=False)
            listed = self.registry.list_tags(repository) if self.registry.tells_digests else None
            return TagListing(repository, tuple(sorted(here.tags)), listed=listed)
        raise AssertionError

    async def fetch_manifest(
        self, repository: str, reference: str, *, known: Digest | None = None
    ) -> FetchedManifest | Unchanged:
        with self._request("GET", repository, reference):
            here = self.registry.content.repositories.get(repository, RepositoryContent(repository))
            digest = here.find_digest(reference)
            if digest is not None and digest == known:
                return Unchanged(digest)
            found = here.find_manifest(reference)
            if found is None:
                raise RegistryMissing(f"{repository} has no {reference}", status=404)
            self.registry.pull(repository, reference, _OURSELVES)
            return FetchedManifest(found.digest, found.media_type, found.payload)
        raise AssertionError

    async def head_manifest(self, repository: str, reference: str) -> ManifestHead | None:
        with self._request("HEAD", repository, reference):
            found = self.registry.find(repository, reference)
            if found is None:
                return None
            self.registry.pull(repository, reference, _OURSELVES)
            return ManifestHead(found.digest, found.media_type, len(found.payload))
        raise AssertionError

    async def fetch_blob(self, repository: str, digest: Digest, *, max_bytes: int) -> bytes:
        with self._request("GET", repository, digest):
            blob = self._find_blob(repository, digest)
            if blob is None:
                raise RegistryMissing(f"{repository} has no blob {digest}", status=404)
            assert blob.size_bytes <= max_bytes
            return b"".join(blob.chunks())
        raise AssertionError

    async def head_blob(self, repository: str, digest: Digest) -> BlobHead:
        with self._request("HEAD", repository, digest):
            blob = self._find_blob(repository, digest)
            return BlobHead(exists=blob is not None, size_bytes=None if blob is None else blob.size_bytes)
        raise AssertionError

    async def close(self) -> None:
        """Nothing is open."""

    async def list_referrers(self, repository: str, subject: Digest) -> tuple[Descriptor, ...] | None:
        with self._request("GET", repository, subject):
            if not self.registry.lists_referrers:
                return None
            found = self.registry.content.repository(repository).list_referrers(subject)
            return tuple(Descriptor(one.media_type, one.digest, len(one.payload)) for one in found)
        raise AssertionError

    async def probe_delete(self, _repository: str) -> Ability:
        return Ability.SUPPORTED if self.registry.deletes else Ability.UNSUPPORTED

    async def probe_untag(self, _repository: str) -> Ability:
        return Ability.SUPPORTED if self.registry.untags else Ability.UNSUPPORTED

    async def delete_manifest(self, repository: str, digest: Digest) -> Removal:
        with self._request("DELETE", repository, digest):
            self._watched().on_delete(repository, str(digest))
            self.deletions.append((repository, str(digest)))
            if not self.registry.deletes:
                raise RegistryError("nothing is deleted here", code="delete-disabled", status=405)
            if self.registry.find(repository, str(digest)) is None:
                return Removal.ALREADY_GONE
            self.registry.remove(repository, digest, _OURSELVES)
            return Removal.REMOVED
        raise AssertionError

    async def delete_tag(self, repository: str, tag: str) -> Removal:
        with self._request("DELETE", repository, tag):
            assert self.registry.untags
            self._watched().on_delete(repository, tag)
            self.deletions.append((repository, tag))
            if tag not in self.registry.content.repository(repository).tags:
                return Removal.ALREADY_GONE
            if self.registry.untag_takes_all:
                self.registry.remove(repository, self.registry.content.repository(repository).tags[tag], _OURSELVES)
            else:
                self.registry.untag(repository, tag, _OURSELVES)
            return Removal.REMOVED
        raise AssertionError

    async def put_manifest(self, repository: str, reference: str, media_type: str, payload: bytes) -> None:
        with self._request("PUT", repository, reference):
            digest = Digest.of(payload)
            assert ":" not in reference or reference == str(digest)
            here = self.registry.content.repository(repository)
            document = json.loads(payload)
            blobs = [part for part in (document.get("config"), *document.get("layers", ())) if part]
            missing = [part["digest"] for part in blobs if Digest.parse(part["digest"]) not in here.blobs]
            missing += [
                part["digest"]
                for part in document.get("manifests", ())
                if Digest.parse(part["digest"]) not in here.manifests
            ]
            if missing:
                raise RegistryError(f"unknown: {missing}", code="manifest-blob-unknown", status=400)
            self._watched().on_put(repository, reference, payload)
            tag = "" if ":" in reference else reference
            self.registry.write(repository, StoredManifest(digest, media_type, payload), tag, _OURSELVES)

    async def put_blob(self, repository: str, payload: bytes) -> Digest:
        with self._request("PUT", repository):
            blob = Blob.of(payload)
            self.registry.content.repository(repository).blobs[blob.digest] = blob
            return blob.digest
        raise AssertionError

    async def mount_blob(self, repository: str, digest: Digest, source: str) -> bool:
        with self._request("POST", repository, digest):
            blob = self._find_blob(source, digest)
            if blob is not None:
                self.registry.content.repository(repository).blobs[digest] = blob
            return blob is not None
        raise AssertionError

    async def prove_blob(self, repository: str, digest: Digest, _size_bytes: int) -> bool:
        with self._request("GET", repository, digest):
            return self._find_blob(repository, digest) is not None
        raise AssertionError

    def _find_blob(self, repository: str, digest: Digest) -> Blob | None:
        return self.registry.content.repositories.get(repository, RepositoryContent(repository)).blobs.get(digest)

    def _watched(self) -> Watcher:
        assert self.watcher is not None, "nobody expects changes"
        return self.watcher
