"""Reading what events asked for: single manifests by digest, repositories about which there is doubt.

What is due is a row of ``rereads``. A row goes when it has been read; whatever stands in the way puts it off, longer
each time, and is kept beside it. A manifest that is not there after several attempts was deleted meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from regwarden.core.coverage import Problem
from regwarden.core.oci.digests import Digest
from regwarden.core.patterns import Pattern, PatternKind, parse_pattern
from regwarden.core.text import printable
from regwarden.errors import InputError, RegistryError, RegistryMissing, RegistryUnreachable, RegwardenError
from regwarden.flows.absorbing import Absorber, AbsorbingContext
from regwarden.flows.concurrency import each
from regwarden.flows.crawl import CrawlOptions, CrawlProgress, RegistryTarget, crawl
from regwarden.flows.reading import Findings
from regwarden.flows.services import Services
from regwarden.registries.api import FetchedManifest
from regwarden.store.contents import find_manifests
from regwarden.store.crawl_times import load_unread_repositories
from regwarden.store.inventory import Naming
from regwarden.store.naming import load_naming
from regwarden.store.rereads import (
    DueReread,
    Reread,
    note_rereads,
    postpone_registry,
    postpone_reread,
    settle_reread,
    take_rereads,
)
from regwarden.store.single_manifests import SingleReading, load_deleted_manifests, publish_manifests

GIVEN_UP_AFTER: Final = 5
NOT_THERE: Final = "pushed-manifest-missing"
_HOPELESS: Final = (RegistryMissing, InputError)
_FIRST_PAUSE: Final = timedelta(seconds=10)
_LONGEST_PAUSE: Final = timedelta(hours=1)
_MOST_DOUBLINGS: Final = 12


@dataclass(frozen=True, slots=True)
class RereadTarget:
    """A registry whose rows are worked off, and how it is read."""

    registry: RegistryTarget
    registry_id: int
    options: CrawlOptions


@dataclass(frozen=True, slots=True)
class Reading:
    """How many rows were read, put off and given up; ``problem`` is the last that stood in the way."""

    read_count: int = 0
    postponed_count: int = 0
    given_up_count: int = 0
    problem: str = ""

    def __add__(self, other: Reading) -> Reading:
        return Reading(
            self.read_count + other.read_count,
            self.postponed_count + other.postponed_count,
            self.given_up_count + other.given_up_count,
            other.problem or self.problem,
        )


def pause_after(attempt_count: int) -> timedelta:
    """How long after so many failed attempts another one makes sense: 10 s, doubled each time, at most an hour."""
    doublings = min(max(attempt_count - 1, 0), _MOST_DOUBLINGS)
    return min(_FIRST_PAUSE * (1 << doublings), _LONGEST_PAUSE)


async def read_manifests(services: Services, target: RereadTarget, due: Sequence[DueReread]) -> Reading:
    """Read the manifests that rows with a digest name, and what they lead to; settle the rows or put them off.

    Raises ``StoreError`` only; the rows are then due again as soon as they are released.
    """
    at = services.now()
    taken, naming = await services.database.write(
        lambda connection: (take_rereads(connection, due, at), load_naming(connection, target.registry_id, at))
    )
    by_repository: dict[str, list[DueReread]] = {}
    for row in taken:
        by_repository.setdefault(row.repository, []).append(row)
    slots = asyncio.Semaphore(target.options.concurrency)
    readings: dict[str, Reading] = {}

    async def read(name: str) -> None:
        readings[name] = await _Repository(services, target, naming, name, slots).read(by_repository[name])

    try:
        # Repositories have slots of their own: one that waits for its requests must not keep them from being sent.
        await each(read, by_repository, asyncio.Semaphore(target.options.concurrency))
    except RegistryUnreachable as error:
        # Nobody answers: the others need not be tried.
        left = [row for row in taken if row.repository not in readings]
        readings[""] = await _postpone_all(services, target, left, error)
    return sum(readings.values(), Reading())


async def read_repositories(
    services: Services, target: RereadTarget, due: Sequence[DueReread], on_progress: CrawlProgress | None = None
) -> Reading:
    """Crawl exactly the repositories that rows without a digest name; settle the rows or put them off.

    Raises ``Conflict`` if the registry is being crawled already; the rows are then due again once released.
    """
    taken = await services.database.write(lambda connection: take_rereads(connection, due, services.now()))
    exact = {row.repository: pattern for row in taken if (pattern := _exactly(row.repository)) is not None}
    if not exact:
        await services.database.write(lambda connection: settle_reread(connection, taken))
        return Reading(given_up_count=len(taken))
    options = replace(target.options, repositories=tuple(exact.values()))
    try:
        report = await crawl(services, target.registry, options, on_progress)
    except (RegistryError, InputError) as error:
        return await _postpone_all(services, target, taken, error)
    unread = await services.database.read(lambda connection: load_unread_repositories(connection, report.crawl_id))
    failed = [row for row in taken if row.repository in unread and _is_worth_trying(row, unread[row.repository])]
    done = [row for row in taken if row not in failed]
    reasons = {problem.repository: problem.message for problem in reversed(report.problems)}
    total = Reading(read_count=len(done))
    for row in failed:
        reason = f"{row.repository}: {reasons.get(row.repository, 'it could not be read')}"
        await _postpone(services, [row], reason)
        total += Reading(postponed_count=1, problem=reason)
    await services.database.write(lambda connection: settle_reread(connection, done))
    return total


def _exactly(name: str) -> Pattern | None:
    """The pattern that means just this repository; none for what only an event could call a repository."""
    try:
        pattern = parse_pattern(name)
    except InputError:
        return None
    return pattern if pattern.kind is PatternKind.EXACT else None


def _is_worth_trying(row: DueReread, state: str) -> bool:
    """A part that cannot be read is left to the next crawl after a while; a refusal is tried on."""
    return state != "partial" or row.attempt_count + 1 < GIVEN_UP_AFTER


class _Repository:
    """Manifests of one repository, read by digest."""

    def __init__(
        self, services: Services, target: RereadTarget, naming: Naming, name: str, slots: asyncio.Semaphore
    ) -> None:
        self._services = services
        self._target = target
        self._naming = naming
        self._name = name
        self._context = AbsorbingContext(
            connector=services.connectors[target.registry.name],
            database=services.database,
            with_configs=target.options.with_configs,
            slots=slots,
            configs={},
            on_manifest=lambda: None,
        )
        self._failures: dict[Digest, RegistryError | InputError] = {}

    async def read(self, rows: Sequence[DueReread]) -> Reading:
        """Ask for every row's manifest; raises ``RegistryUnreachable`` if nobody answers."""
        at = self._services.now()
        wanted = await self._drop_deleted({Digest.parse(row.reference): row for row in rows})
        found = await self._fetch(list(wanted))
        findings = Findings(here=set(found), examined=set(wanted))
        await Absorber(self._context, self._name, findings).absorb(found)
        read = [wanted[digest] for digest in found]
        given_up = [
            row
            for digest, row in wanted.items()
            if isinstance(self._failures.get(digest), _HOPELESS) and row.attempt_count + 1 >= GIVEN_UP_AFTER
        ]
        findings.problems.extend(self._missing(row) for row in given_up)
        reading = SingleReading(
            registry_id=self._target.registry_id,
            repository=self._name,
            naming=self._naming,
            at=at,
            here=frozenset(findings.here),
            examined=frozenset(findings.examined),
            problems=tuple(dict.fromkeys(findings.problems)),
        )
        # What an index lists and could not be asked for is due on its own: the index itself has been read.
        unread = sorted(findings.examined - findings.here - findings.absent - set(wanted))
        if await self._services.database.write(lambda connection: publish_manifests(connection, reading)):
            await self._services.database.write(lambda connection: note_rereads(connection, self._children(unread)))
        await self._services.database.write(lambda connection: settle_reread(connection, [*read, *given_up]))
        problem = ""
        for digest, error in self._failures.items():
            if (row := wanted[digest]) not in given_up:
                problem = error.message
                await _postpone(self._services, [row], error.message)
        return Reading(len(read), len(wanted) - len(read) - len(given_up), len(given_up), problem)

    async def _drop_deleted(self, wanted: dict[Digest, DueReread]) -> dict[Digest, DueReread]:
        """What is left to be asked for: a manifest that an event deleted meanwhile is no longer missed."""
        registry_id, name = self._target.registry_id, self._name
        deleted = await self._services.database.read(
            lambda connection: load_deleted_manifests(connection, registry_id, name, list(wanted))
        )
        if deleted:
            gone = [wanted[digest] for digest in sorted(deleted)]
            await self._services.database.write(lambda connection: settle_reread(connection, gone))
        return {digest: row for digest, row in wanted.items() if digest not in deleted}

    async def _fetch(self, digests: Sequence[Digest]) -> dict[Digest, FetchedManifest | None]:
        """The manifests that are here; no bytes come along for those whose content is known from elsewhere."""
        known = await self._services.database.read(lambda connection: find_manifests(connection, digests))

        async def fetch(digest: Digest) -> tuple[Digest, FetchedManifest | None] | None:
            connector, reference = self._context.connector, str(digest)
            try:
                if (facts := known.get(digest)) is not None and facts.state == "read":
                    if await connector.head_manifest(self._name, reference) is not None:
                        return digest, None
                    raise RegistryMissing("the repository does not have this manifest")
                answer = await connector.fetch_manifest(self._name, reference)
            except RegistryUnreachable:
                raise
            except (RegistryError, InputError) as error:
                self._failures[digest] = error
                return None
            return (digest, answer) if isinstance(answer, FetchedManifest) else None

        answers = await self._context.each(fetch, digests)
        return dict(answer for answer in answers if answer is not None)

    def _children(self, digests: Sequence[Digest]) -> list[Reread]:
        due_at = self._services.now() + pause_after(1)
        registry_id = self._target.registry_id
        return [Reread(registry_id, self._name, str(digest), "unread-child", due_at) for digest in digests]

    def _missing(self, row: DueReread) -> Problem:
        message = "an event told of this manifest, but the repository does not have it"
        return Problem(self._name, "", row.reference, NOT_THERE, message)


async def _postpone(services: Services, rows: Sequence[DueReread], problem: str) -> None:
    attempt_count = max(row.attempt_count for row in rows) + 1
    due_at = services.now() + pause_after(attempt_count)
    text = printable(problem, 500)
    await services.database.write(lambda connection: postpone_reread(connection, rows, due_at, text))


async def _postpone_all(
    services: Services, target: RereadTarget, taken: Sequence[DueReread], error: RegwardenError
) -> Reading:
    """Put off these rows, and if nobody answers all others of the registry as well."""
    await _postpone(services, taken, error.message)
    if isinstance(error, RegistryUnreachable):
        due_at = services.now() + pause_after(max(row.attempt_count for row in taken) + 1)
        text = printable(error.message, 500)
        await services.database.write(
            lambda connection: postpone_registry(connection, target.registry_id, due_at, text)
        )
    return Reading(postponed_count=len(taken), problem=error.message)
