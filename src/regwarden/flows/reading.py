"""Reading one repository: which tags it has, what they point to, and everything those manifests refer to.

Asks only for what the inventory does not have, and never takes an error for an absence.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from regwarden.core.coverage import CONFIG_PROBLEMS, LASTING_PROBLEMS, Problem
from regwarden.core.drift import crawl_margin
from regwarden.core.oci.digests import Digest
from regwarden.core.text import printable
from regwarden.errors import RegistryError, RegistryMissing
from regwarden.flows.absorbing import Absorber, AbsorbingContext
from regwarden.flows.reading_listed import ListedTags, note_published
from regwarden.registries.api import FetchedManifest, ListedTag, ListsReferrers, TagListing, Unchanged
from regwarden.store.chunks import chunked
from regwarden.store.crawls import save_checkpoint
from regwarden.store.inventory import Naming, RepositoryReading, TagReading
from regwarden.store.known import KnownRepository, KnownTag, load_existing_manifests, load_repository

CHUNK_TAG_COUNT: Final = 250
RETRY_LASTING_AFTER: Final = timedelta(hours=24)
REFERRER_ROTATION: Final = 4
MAX_REFERRER_DEPTH: Final = 4
PROBED_MANIFEST_COUNT: Final = 5


@dataclass(slots=True)
class Findings:
    """What a reading has found so far.

    ``is_partial`` is set as soon as anything that may exist could not be read; ``examined`` are the manifests that
    the registry was asked about, or whose bytes were looked at, in this reading.
    """

    tags: dict[str, TagReading] = field(default_factory=dict)
    vanished: list[str] = field(default_factory=list)
    here: set[Digest] = field(default_factory=set)
    absent: set[Digest] = field(default_factory=set)
    examined: set[Digest] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    is_partial: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingContext(AbsorbingContext):
    """What all readings of one crawl share."""

    now: Callable[[], datetime]
    registry_id: int
    crawl_id: int
    started_at: datetime
    naming: Naming
    verify: bool
    with_referrers: bool
    on_tags: Callable[[int, int], None]  # tags newly listed, tags newly read


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished reading and what made it doubtful."""

    reading: RepositoryReading
    known: KnownRepository
    doubts: tuple[str, ...]

    @property
    def is_absent(self) -> bool:
        """Whether the repository has no tag list, and nothing that was asked for in it exists."""
        return self.reading.state == "untagged"


async def read_repository(context: ReadingContext, name: str, position: int) -> Outcome:
    """Read one repository. Raises ``RegistryError`` only if its tags cannot be listed."""
    started_at = context.now()
    known = await context.database.read(
        lambda connection: load_repository(connection, context.registry_id, name, context.crawl_id)
    )
    async with context.slots:
        listed_at = context.now()
        listing = await context.connector.list_tags(name)
    findings = Findings(is_partial=not listing.is_complete)
    context.on_tags(len(listing.tags), 0)
    await _Reader(context, name, known, findings).read(listing, listed_at)
    if not listing.exists and (findings.tags or findings.here):
        findings.is_partial = True
        findings.doubts.append(f"{name}: the registry denies that there is a list of tags, but there are manifests")
    state = "partial" if findings.is_partial else "complete" if listing.exists else "untagged"
    reading = RepositoryReading(
        registry_id=context.registry_id,
        crawl_id=context.crawl_id,
        name=name,
        catalog_position=position,
        state=state,
        started_at=started_at,
        naming=context.naming,
        tags=findings.tags,
        vanished=tuple(findings.vanished),
        manifests=frozenset(findings.here),
        absent=frozenset(findings.absent - findings.here),
        problems=tuple(dict.fromkeys(findings.problems)),
        examined=frozenset(str(digest) for digest in findings.examined),
        is_verified=context.verify,
        margin=crawl_margin(context.connector.traffic.clock_skew),
    )
    doubts = (*findings.doubts, *((f"{name}: {listing.doubt}",) if listing.doubt else ()))
    return Outcome(reading, known, doubts)


async def has_manifests(context: ReadingContext, known: KnownRepository, name: str) -> bool:
    """Whether manifests known in a repository may still be there; some are asked for, by digest."""
    repository_id = known.repository_id
    if repository_id is None:
        return False
    existing = await context.database.read(lambda connection: load_existing_manifests(connection, repository_id))
    for digest in sorted(existing)[:PROBED_MANIFEST_COUNT]:
        try:
            if await context.connector.head_manifest(name, str(digest)) is not None:
                return True
        except RegistryError:
            return True
    return False


class _Reader:
    """The steps of reading one repository."""

    def __init__(self, context: ReadingContext, name: str, known: KnownRepository, findings: Findings) -> None:
        self._context = context
        self._name = name
        self._known = known
        self._findings = findings
        self._absorber = Absorber(context, name, findings)
        self._listed = ListedTags(context, known, findings, self._absorber)
        self._subjects: set[Digest] = set()  # what was found to have referrers
        self._tried_at = _last_tries(known)
        self._unread_configs: set[Digest] = set()

    async def read(self, listing: TagListing, listed_at: datetime) -> None:
        await self._read_tags(listing, listed_at)
        if listing.is_complete:
            await self._confirm_vanished(set(listing.tags))
        await self._read_what_was_missing()
        if self._context.verify:
            await self._verify_others()
        self._carry_problems_over()

    async def _read_tags(self, listing: TagListing, listed_at: datetime) -> None:
        """Resolve every listed tag and keep what is new, a chunk at a time so that memory stays flat."""
        names = sorted(listing.tags)
        is_large = len(names) > 2 * CHUNK_TAG_COUNT
        listed = listing.listed or {}
        for start in range(0, len(names), CHUNK_TAG_COUNT):
            chunk = names[start : start + CHUNK_TAG_COUNT]
            told = {name: listed[name] for name in chunk if name in listed}
            earlier = len(self._findings.problems)
            # To verify is to ask for each tag itself.
            fresh, asked = (set(), chunk) if self._context.verify else await self._read_listed(chunk, told, listed_at)
            fresh |= await self._absorb_tags(self._read_tag, asked)
            await self._read_all_referrers(chunk, told, fresh)
            note_published(self._findings, told)
            if is_large:
                await self._save_checkpoint(asked, {problem.digest for problem in self._findings.problems[earlier:]})
            self._context.on_tags(0, len(chunk))

    async def _read_listed(
        self, chunk: list[str], told: Mapping[str, ListedTag], listed_at: datetime
    ) -> tuple[set[Digest], list[str]]:
        """Take over what the listing told of tags; returns new manifests, and the tags that must be asked for."""
        outcome = await self._listed.read(self._name, told, listed_at)
        for tag, error in outcome.failed.items():
            self._note_unreadable(tag, error)
        return outcome.fresh, [*(name for name in chunk if name not in told), *outcome.left]

    async def _read_all_referrers(self, chunk: list[str], told: Mapping[str, ListedTag], fresh: set[Digest]) -> None:
        """What refers to the manifests of these tags: as listed, or asked for where the listing does not tell."""
        answered = {name for name, one in told.items() if one.referrers is not None}
        new = await self._listed.read_referrers(told[name] for name in sorted(answered)) if answered else set()
        if not self._context.with_referrers:
            return
        await self._read_referrers([name for name in chunk if name not in answered], fresh)
        if new:  # of what refers to these the listing does not tell
            await self._ask_referrers(sorted(new))

    async def _absorb_tags(
        self, read: Callable[[str], Awaitable[FetchedManifest | None]], names: list[str]
    ) -> set[Digest]:
        """Ask for tags, keep the manifests that came as bytes, and return their digests."""
        fetched = await self._context.each(read, names)
        fresh = {found.digest: found for found in fetched if found is not None}
        await self._absorber.absorb(fresh)
        for name in names:
            tag = self._findings.tags.get(name)
            if tag is not None and tag.digest in fresh and self._absorber.states.get(tag.digest) != "read":
                self._findings.tags[name] = TagReading(tag.digest, "unreadable", tag.at, is_verified=tag.is_verified)
        return set(fresh)

    async def _read_tag(self, tag: str) -> FetchedManifest | None:
        """Resolve one tag; returns bytes only if they were sent."""
        at = self._context.now()
        checkpoint = self._known.checkpoints.get(tag)
        if checkpoint is not None:
            # When exactly it was read is not kept; it was after this crawl began.
            self._note(tag, TagReading(checkpoint, "ok", self._context.started_at, is_verified=True))
            return None
        known = self._known.tags.get(tag)
        digest = known.digest if known is not None and not known.is_unread else None
        try:
            if self._context.verify and known is not None and digest is not None:
                head = await self._context.connector.head_manifest(self._name, tag)
                if head is None:
                    self._note_dangling(tag, at)
                    return None
                if head.digest == digest:
                    self._note_same(tag, known, at, is_verified=True)
                    return None
                digest = None
            answer = await self._context.connector.fetch_manifest(self._name, tag, known=digest)
        except RegistryMissing:
            self._note_dangling(tag, at)
            return None
        except RegistryError as error:
            self._note_unreadable(tag, error)
            return None
        return self._note_answer(tag, answer, known, at)

    async def _confirm_vanished(self, listed: set[str]) -> None:
        """A known tag that the listing left out is gone only if asking for it says so."""
        for chunk in chunked(sorted(set(self._known.tags) - listed), CHUNK_TAG_COUNT):
            await self._absorb_tags(self._confirm_tag, chunk)

    async def _confirm_tag(self, tag: str) -> FetchedManifest | None:
        at, known = self._context.now(), self._known.tags[tag]
        try:
            digest = None if known.is_unread else known.digest
            answer = await self._context.connector.fetch_manifest(self._name, tag, known=digest)
        except RegistryMissing:
            self._findings.vanished.append(tag)
            return None
        except RegistryError as error:
            self._note_unreadable(tag, error)
            return None
        self._findings.doubts.append(f"{self._name}: the listing left out the tag {tag}, which exists")
        return self._note_answer(tag, answer, known, at)

    def _note(self, tag: str, reading: TagReading) -> None:
        self._findings.tags[tag] = reading
        if reading.is_verified and reading.digest is not None:
            self._findings.here.add(reading.digest)

    def _note_same(self, tag: str, known: KnownTag, at: datetime, *, is_verified: bool) -> None:
        self._note(tag, TagReading(known.digest, known.state, at, is_verified=is_verified))

    def _note_answer(
        self, tag: str, answer: FetchedManifest | Unchanged, known: KnownTag | None, at: datetime
    ) -> FetchedManifest | None:
        if isinstance(answer, FetchedManifest):
            self._note(tag, TagReading(answer.digest, "ok", at, is_verified=True))
            return answer
        if known is not None:
            self._note_same(tag, known, at, is_verified=False)
        return None

    def _note_dangling(self, tag: str, at: datetime) -> None:
        self._findings.tags[tag] = TagReading(None, "dangling", at)
        self._problem(tag, None, "dangling-tag", "the tag is listed but its manifest does not exist")

    def _note_unreadable(self, tag: str, error: RegistryError) -> None:
        """What is known of the tag stays; the repository becomes keep-only."""
        self._findings.is_partial = True
        self._problem(tag, None, error.code, error.message)

    def _problem(self, tag: str, digest: Digest | None, code: str, message: str) -> None:
        text = str(digest) if digest is not None else ""
        self._findings.problems.append(Problem(self._name, tag, text, code, printable(message, 500)))

    async def _save_checkpoint(self, chunk: list[str], problematic: set[str]) -> None:
        """Remember tags that need not be asked for again; only of images that led to nothing else and have no problem.

        What was found beyond a tag's own manifest is published with the repository, so it must be found again.
        """
        parents, subjects = self._absorber.parents, self._subjects
        resolved = {
            tag: reading.digest
            for tag in chunk
            if (reading := self._findings.tags.get(tag)) is not None
            and reading.digest is not None
            and reading.state == "ok"
            and reading.is_verified
            and reading.digest not in parents
            and reading.digest not in subjects
            and str(reading.digest) not in problematic
            and tag not in self._known.checkpoints
        }
        context = self._context
        if resolved:
            await context.database.write(
                lambda connection: save_checkpoint(connection, context.naming, context.crawl_id, self._name, resolved)
            )

    async def _read_what_was_missing(self) -> None:
        """Children and configs that an earlier crawl could not get, unless that is known to last."""
        seen = self._findings.here | self._findings.absent
        children = {child for absent in self._known.absent_children.values() for child in absent} - seen
        for chunk in chunked(sorted(filter(self._is_worth_asking, children)), CHUNK_TAG_COUNT):
            await self._absorber.absorb_children(chunk)
        self._unread_configs = {*self._known.unread_configs, *self._absorber.unread_configs}
        if self._context.with_configs:
            unread = filter(self._is_worth_asking, self._unread_configs - self._absorber.tried_configs)
            for chunk in chunked(sorted(unread), CHUNK_TAG_COUNT):
                await self._absorber.read_configs(chunk)

    def _is_worth_asking(self, digest: Digest) -> bool:
        """Whether to ask about a manifest again although the answer is likely to be the same."""
        tried_at = self._tried_at.get(str(digest))
        return self._context.verify or tried_at is None or self._context.now() - tried_at > RETRY_LASTING_AFTER

    def _carry_problems_over(self) -> None:
        """Lasting problems of manifests that were not looked at again are still there."""
        findings = self._findings
        wanted = {child for absent in self._known.absent_children.values() for child in absent} - findings.here
        untried_configs = self._unread_configs - self._absorber.tried_configs
        for problem in self._known.problems:
            if problem.tag or not problem.digest or problem.code not in LASTING_PROBLEMS | {"size-conflict"}:
                continue
            digest = Digest.parse(problem.digest)
            is_left = digest in untried_configs if problem.code in CONFIG_PROBLEMS else digest not in findings.examined
            has_reason = digest in wanted if problem.code == "missing-child" else digest not in findings.absent
            if is_left and has_reason:
                findings.problems.append(problem)

    async def _verify_others(self) -> None:
        """Ask for every known manifest that no tag has just proven: children, referrers, untagged ones."""
        repository_id = self._known.repository_id
        if repository_id is None:
            return
        existing = await self._context.database.read(
            lambda connection: load_existing_manifests(connection, repository_id)
        )
        others = sorted(existing - self._findings.here - self._findings.absent)
        for chunk in chunked(others, CHUNK_TAG_COUNT):
            await self._context.each(self._verify_manifest, chunk)

    async def _verify_manifest(self, digest: Digest) -> None:
        try:
            head = await self._context.connector.head_manifest(self._name, str(digest))
        except RegistryError as error:
            self._findings.is_partial = True
            self._problem("", digest, error.code, error.message)
            return
        (self._findings.here if head is not None else self._findings.absent).add(digest)

    async def _read_referrers(self, chunk: list[str], fresh: set[Digest]) -> None:
        """Ask what refers to new manifests, and in turn to a part of the others."""
        turn = self._context.crawl_id % REFERRER_ROTATION
        pointed = {reading.digest for tag in chunk if (reading := self._findings.tags.get(tag)) is not None}
        await self._ask_referrers(
            sorted(
                digest
                for digest in pointed
                if digest is not None
                and (digest in fresh or self._context.verify or int(digest.hex[:8], 16) % REFERRER_ROTATION == turn)
            )
        )

    async def _ask_referrers(self, pending: list[Digest]) -> None:
        connector = self._context.connector
        if not isinstance(connector, ListsReferrers):
            return
        lists: ListsReferrers = connector
        for _ in range(MAX_REFERRER_DEPTH):
            found = await self._context.each(lambda subject: self._list_referrers(lists, subject), pending)
            pending = sorted({digest for digests in found for digest in digests} - self._findings.here)
            if not pending:
                return
            await self._absorber.absorb_children(pending)

    async def _list_referrers(self, connector: ListsReferrers, subject: Digest) -> tuple[Digest, ...]:
        try:
            found = await connector.list_referrers(self._name, subject)
        except RegistryError as error:
            self._findings.is_partial = True
            self._problem("", subject, error.code, error.message)
            return ()
        if found:
            self._subjects.add(subject)
        return tuple(descriptor.digest for descriptor in found or ())


def _last_tries(known: KnownRepository) -> dict[str, datetime]:
    """When each manifest (as text) with a lasting problem was last asked about."""
    tries: dict[str, datetime] = {}
    for (_, digest, code), at in known.tried_at.items():
        if code in LASTING_PROBLEMS:
            tries[digest] = max(at, tries.get(digest, at))
    return tries
