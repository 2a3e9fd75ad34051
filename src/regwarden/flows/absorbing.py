"""Taking manifests in: following an index to its children and an image to its config, then keeping them all.

Works level by level, so that each level costs one look into the inventory and one round of concurrent requests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from regwarden.core.coverage import Problem
from regwarden.core.oci import media_types
from regwarden.core.oci.configs import (
    CREATED_ANNOTATION,
    MAX_CONFIG_BYTES,
    ConfigFacts,
    parse_config,
    parse_created,
)
from regwarden.core.oci.digests import Digest
from regwarden.core.oci.manifests import Manifest, UnsupportedManifest, parse_manifest
from regwarden.core.text import printable
from regwarden.errors import InputError, RegistryError, RegistryMissing
from regwarden.flows.concurrency import each
from regwarden.registries.api import Connector, FetchedManifest
from regwarden.store.chunks import chunked
from regwarden.store.contents import (
    UNREAD_CONFIG_STATES,
    KnownManifest,
    ManifestContent,
    date_indexes,
    find_manifests,
    load_payloads,
    save_contents,
)
from regwarden.store.database import Database

if TYPE_CHECKING:
    from regwarden.flows.reading import Findings

MAX_DEPTH: Final = 8
MAX_CACHED_CONFIGS: Final = 5_000
WRITTEN_MANIFEST_COUNT: Final = 100

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class AbsorbingContext:
    """Where manifests come from and go to. ``slots`` bounds the requests that are prepared at once."""

    connector: Connector
    database: Database
    with_configs: bool
    slots: asyncio.Semaphore
    configs: dict[Digest, ConfigFacts]
    on_manifest: Callable[[], None]

    async def each(self, work: Callable[[T], Awaitable[R]], values: Iterable[T]) -> list[R]:
        """``work`` for every value, as many at once as there are slots; results in the order of the values."""
        return await each(work, values, self.slots)


@dataclass(slots=True)
class _Draft:
    """A manifest whose bytes are at hand and whose facts are still being gathered."""

    digest: Digest
    media_type: str
    payload: bytes
    state: str = "read"
    manifest: Manifest | None = None
    config: ConfigFacts | None = None
    config_state: str = "none"
    created_at: datetime | None = None
    platform: str = ""

    def content(self) -> ManifestContent:
        return ManifestContent(
            self.digest,
            self.media_type,
            self.payload,
            state=self.state,
            manifest=self.manifest,
            config=self.config,
            config_state=self.config_state,
            created_at=self.created_at,
            platform=self.platform,
        )


class Absorber:
    """Takes manifests of one repository in. ``states`` tells of each whether it could be read.

    ``parents`` are those that list others. ``unread_configs`` were kept without their config before, by whatever
    crawl; ``tried_configs`` are those whose config has been asked for by this reading, or failed in it.
    """

    def __init__(self, context: AbsorbingContext, repository: str, findings: Findings) -> None:
        self._context = context
        self._repository = repository
        self._findings = findings
        self._facts: dict[Digest, KnownManifest] = {}
        self.states: dict[Digest, str] = {}
        self.parents: set[Digest] = set()
        self.unread_configs: set[Digest] = set()
        self.tried_configs: set[Digest] = set()

    async def absorb(self, fetched: Mapping[Digest, FetchedManifest | None]) -> None:
        """Keep fetched manifests and all that they lead to. Each exists in this repository; ``None`` is known."""
        await self._follow(fetched)

    async def absorb_children(self, digests: Iterable[Digest]) -> None:
        """Look for manifests by digest; keep those that exist, note those that do not."""
        await self._follow(await self._look_for(dict.fromkeys(digests)))

    async def _follow(self, frontier: Mapping[Digest, FetchedManifest | None]) -> None:
        drafts: dict[Digest, _Draft] = {}
        for _ in range(MAX_DEPTH):
            if not frontier:
                break
            frontier = await self._look_for(await self._take(frontier, drafts))
        if frontier:
            # Not read, so not counted as being here: the next crawl goes on from there.
            self._findings.here.difference_update(frontier)
            self._findings.is_partial = True
            self._problem(next(iter(frontier)), "too-deep", f"indexes are nested more than {MAX_DEPTH} levels deep")
        await self._finish(drafts)

    async def read_configs(self, digests: Collection[Digest]) -> None:
        """Read the configs of manifests that are kept already, and date the indexes that list them."""
        payloads = await self._context.database.read(lambda connection: load_payloads(connection, digests))
        drafts = {
            digest: self._draft(FetchedManifest(digest, media_type, payload))
            for digest, (media_type, payload) in payloads.items()
        }
        self._findings.examined.update(drafts)
        self.tried_configs.update(drafts)
        await self._finish(drafts)
        await self._context.database.write(lambda connection: date_indexes(connection, digests))

    async def _take(
        self, frontier: Mapping[Digest, FetchedManifest | None], drafts: dict[Digest, _Draft]
    ) -> dict[Digest, None]:
        """Sort manifests into known and new ones; returns the children they list that were not seen yet."""
        database = self._context.database
        known = await database.read(lambda connection: find_manifests(connection, frontier))
        self._findings.examined.update(frontier)
        indexes = [digest for digest, facts in known.items() if facts.is_index and facts.state == "read"]
        # As they are kept: bytes that come along now may be called by a type under which they cannot be read.
        payloads = await database.read(lambda connection: load_payloads(connection, indexes)) if indexes else {}
        children: dict[Digest, None] = {}
        for digest, found in frontier.items():
            manifest = None
            facts = known.get(digest)
            # What could not be read before is looked at again where its bytes come: another registry may have lied.
            if facts is not None and (facts.state == "read" or found is None):
                self._note_known(facts)
                if digest in payloads:
                    media_type, payload = payloads[digest]
                    manifest = parse_manifest(payload, media_type)
                if facts.state != "read":
                    self._problem(digest, f"{facts.state}-manifest", "the manifest cannot be read")
            elif found is not None:
                drafts[digest] = draft = self._draft(found)
                self.states[digest] = draft.state
                manifest = draft.manifest
                self._context.on_manifest()
            if manifest is not None and manifest.children:
                self.parents.add(digest)
                children |= dict.fromkeys(child.digest for child in manifest.children)
        here, absent = self._findings.here, self._findings.absent
        return {digest: None for digest in children if digest not in here and digest not in absent}

    def _note_known(self, facts: KnownManifest) -> None:
        self._facts[facts.digest] = facts
        self.states[facts.digest] = facts.state
        if facts.config_state in UNREAD_CONFIG_STATES:
            self.unread_configs.add(facts.digest)

    async def _look_for(self, digests: Mapping[Digest, None]) -> dict[Digest, FetchedManifest | None]:
        """Which manifests exist in this repository; bytes come along for those never read before."""
        if not digests:
            return {}
        found_before = await self._context.database.read(lambda connection: find_manifests(connection, digests))
        known = {digest for digest, facts in found_before.items() if facts.state == "read"}

        async def look(digest: Digest) -> tuple[Digest, FetchedManifest | None] | None:
            try:
                if digest in known:
                    # The content is known from elsewhere; only whether it is here is not.
                    head = await self._context.connector.head_manifest(self._repository, str(digest))
                    if head is not None:
                        return digest, None
                    self._note_missing(digest)
                    return None
                answer = await self._context.connector.fetch_manifest(self._repository, str(digest))
            except RegistryMissing:
                self._note_missing(digest)
                return None
            except RegistryError as error:
                self._findings.is_partial = True
                self._problem(digest, error.code, error.message)
                return None
            return (digest, answer) if isinstance(answer, FetchedManifest) else None

        self._findings.examined.update(digests)
        answers = await self._context.each(look, list(digests))
        found = dict(answer for answer in answers if answer is not None)
        self._findings.here.update(found)
        return found

    def _note_missing(self, digest: Digest) -> None:
        self._findings.absent.add(digest)
        self._problem(digest, "missing-child", "an index lists this manifest, but the repository does not have it")

    def _draft(self, found: FetchedManifest) -> _Draft:
        try:
            manifest = parse_manifest(found.payload, found.media_type)
        except UnsupportedManifest as error:
            self._problem(found.digest, "unsupported-manifest", error.message)
            return _Draft(found.digest, printable(found.media_type, 255), found.payload, state="unsupported")
        except InputError as error:
            self._problem(found.digest, "bad-manifest", error.message)
            return _Draft(found.digest, printable(found.media_type, 255), found.payload, state="bad")
        annotations = dict(manifest.annotations)
        return _Draft(
            found.digest,
            manifest.media_type,
            found.payload,
            manifest=manifest,
            created_at=parse_created(annotations.get(CREATED_ANNOTATION)),
        )

    async def _finish(self, drafts: Mapping[Digest, _Draft]) -> None:
        """Read the configs of new manifests, let indexes inherit from their children, and keep everything."""
        if not drafts:
            return
        images = [draft for draft in drafts.values() if draft.manifest is not None and not draft.manifest.is_index]
        await self._context.each(self._read_config, images)
        self.tried_configs.update(draft.digest for draft in images if draft.config_state == "failed")
        # Deepest level last in, so first out: a nested index is dated before the one that holds it.
        for draft in reversed(list(drafts.values())):
            if draft.manifest is not None and draft.manifest.is_index:
                self._inherit(draft, draft.manifest, drafts)
        # In short write units, what is listed before what lists it: a crawl may be killed between two of them.
        for contents in chunked([draft.content() for draft in reversed(list(drafts.values()))], WRITTEN_MANIFEST_COUNT):
            conflicts = await self._context.database.write(partial(save_contents, contents=contents))
            for conflict in conflicts:
                self._findings.problems.append(
                    Problem(self._repository, "", conflict.digest, conflict.code, conflict.message)
                )

    async def _read_config(self, draft: _Draft) -> None:
        config = draft.manifest.config if draft.manifest is not None else None
        if config is None or config.media_type not in media_types.IMAGE_CONFIGS:
            return
        if not self._context.with_configs:
            draft.config_state = "skipped"
            return
        facts = self._context.configs.get(config.digest)
        if facts is None:
            facts = await self._fetch_config(draft.digest, config.digest, config.size_bytes)
        if facts is None:
            draft.config_state = "failed"
            return
        if len(self._context.configs) < MAX_CACHED_CONFIGS:
            self._context.configs[config.digest] = facts
        draft.config, draft.config_state = facts, "read"
        draft.created_at = facts.created_at or draft.created_at
        draft.platform = str(facts.platform) if facts.platform is not None else ""

    async def _fetch_config(self, manifest: Digest, config: Digest, size_bytes: int) -> ConfigFacts | None:
        if size_bytes > MAX_CONFIG_BYTES:
            self._problem(manifest, "large-config", f"its config declares {size_bytes} bytes, more than is read")
            return None
        try:
            payload = await self._context.connector.fetch_blob(self._repository, config, max_bytes=MAX_CONFIG_BYTES)
            return parse_config(payload)
        except RegistryMissing:
            self._problem(manifest, "missing-config", f"its config {config} does not exist in the repository")
        except InputError as error:
            self._problem(manifest, "bad-config", error.message)
        except RegistryError as error:
            self._findings.is_partial = True
            self._problem(manifest, error.code, error.message)
        return None

    def _inherit(self, draft: _Draft, manifest: Manifest, drafts: Mapping[Digest, _Draft]) -> None:
        """An index is as new as its newest child and runs wherever its children do."""
        created = []
        for child in manifest.children:
            source = drafts.get(child.digest) or self._facts.get(child.digest)
            if source is not None and source.created_at is not None:
                created.append(source.created_at)
        if created:
            draft.created_at = max(created)
        platforms = dict.fromkeys(
            str(child.platform) for child in manifest.children if child.platform and child.platform.os != "unknown"
        )
        draft.platform = ",".join(platforms)

    def _problem(self, digest: Digest, code: str, message: str) -> None:
        self._findings.problems.append(Problem(self._repository, "", str(digest), code, printable(message, 500)))
