"""What does a registry's own listing spare? Of a tag whose digest it tells, only content nobody has read is asked for.

The listing is an answer of the registry about each of its tags: that it points there, and that the manifest is there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING

from regwarden.core.oci.digests import Digest
from regwarden.errors import RegistryError, RegistryMissing
from regwarden.flows.absorbing import Absorber
from regwarden.registries.api import FetchedManifest, ListedTag
from regwarden.store.contents import find_manifests
from regwarden.store.inventory import TagReading
from regwarden.store.known import KnownRepository, load_existing_manifests

if TYPE_CHECKING:
    from regwarden.flows.reading import Findings, ReadingContext


@dataclass(slots=True)
class ListedOutcome:
    """What came of some listed tags.

    ``fresh`` are manifests that are new here, ``left`` tags that must be asked for by name after all, ``failed`` those
    whose manifest the registry did not give, and what it said.
    """

    fresh: set[Digest] = field(default_factory=set)
    left: list[str] = field(default_factory=list)
    failed: dict[str, RegistryError] = field(default_factory=dict)


class ListedTags:
    """The tags of one repository that its listing tells the digests of; each digest is asked for once at most."""

    def __init__(self, context: ReadingContext, known: KnownRepository, findings: Findings, absorber: Absorber) -> None:
        self._context = context
        self._known = known
        self._findings = findings
        self._absorber = absorber
        self._errors: dict[Digest, RegistryError] = {}
        self._existing: set[Digest] | None = None

    async def read(self, repository: str, told: Mapping[str, ListedTag], at: datetime) -> ListedOutcome:
        """Take tags in as listed at ``at``, the moment before the listing was asked for."""
        outcome = ListedOutcome()
        by_digest: dict[Digest, list[str]] = {}
        for tag, one in told.items():
            known = self._known.tags.get(tag)
            if known is not None and known.digest == one.digest and not known.is_unread:
                # As an answer 304: it points there still, and nothing is written of it.
                self._findings.tags[tag] = TagReading(known.digest, known.state, at)
            else:
                by_digest.setdefault(one.digest, []).append(tag)
        if not by_digest:
            return outcome
        found = await self._find(repository, by_digest)
        self._findings.here.update(found)
        seen = self._absorber.states.keys()
        outcome.fresh = set(found) - seen
        await self._absorber.absorb({digest: found[digest] for digest in by_digest if digest in outcome.fresh})
        for digest, tags in by_digest.items():
            if digest in found:
                # A listed tag is a row beside its manifest's: that proves both, as far as a registry can.
                state = "ok" if self._absorber.states.get(digest) == "read" else "unreadable"
                self._findings.tags.update(dict.fromkeys(tags, TagReading(digest, state, at, is_verified=True)))
            elif isinstance(error := self._errors[digest], RegistryMissing):
                outcome.left.extend(tags)  # it may have moved meanwhile
            else:
                outcome.failed.update(dict.fromkeys(tags, error))
        return outcome

    async def read_referrers(self, told: Iterable[ListedTag]) -> set[Digest]:
        """Take in what the listing says refers to these; returns what is new here."""
        listed = {digest for one in told for digest in one.referrers or ()}
        listed -= self._findings.here | self._findings.absent
        if not listed:
            return set()
        new = listed - await self._load_existing()
        known = await self._find_read(new)
        self._findings.here.update(known)
        await self._absorber.absorb(dict.fromkeys(sorted(known)))
        await self._absorber.absorb_children(sorted(new - known))
        return new & self._findings.here

    async def _find(self, repository: str, digests: Collection[Digest]) -> dict[Digest, FetchedManifest | None]:
        """Those that can be had, bytes only of content that was never read; of the others the error is kept."""
        seen = {digest for digest in digests if digest in self._absorber.states and digest in self._findings.here}
        known = seen | await self._find_read(set(digests) - seen - self._errors.keys())

        async def fetch(digest: Digest) -> FetchedManifest | None:
            try:
                answer = await self._context.connector.fetch_manifest(repository, str(digest))
                if isinstance(answer, FetchedManifest) and answer.digest == digest:
                    return answer
                self._errors[digest] = RegistryMissing(f"{repository}: {digest} was answered with something else")
            except RegistryError as error:
                self._errors[digest] = error
            return None

        asked = sorted(set(digests) - known - self._errors.keys())
        answers = await self._context.each(fetch, asked)
        fetched = {digest: answer for digest, answer in zip(asked, answers, strict=True) if answer is not None}
        return {**dict.fromkeys(sorted(known)), **fetched}

    async def _find_read(self, digests: Collection[Digest]) -> set[Digest]:
        if not digests:
            return set()
        found = await self._context.database.read(lambda connection: find_manifests(connection, digests))
        return {digest for digest, facts in found.items() if facts.state == "read"}

    async def _load_existing(self) -> set[Digest]:
        """What the inventory knows to be here; loaded only where something is listed that is not at hand."""
        repository_id = self._known.repository_id
        if self._existing is None:
            self._existing = (
                set()
                if repository_id is None
                else await self._context.database.read(
                    lambda connection: load_existing_manifests(connection, repository_id)
                )
            )
        return self._existing


def note_published(findings: Findings, told: Mapping[str, ListedTag]) -> None:
    """Since when tags point where they were found to point, as the listing tells."""
    for tag, one in told.items():
        reading = findings.tags.get(tag)
        if reading is not None and reading.digest == one.digest and one.published_at is not None:
            findings.tags[tag] = replace(reading, published_at=one.published_at)
