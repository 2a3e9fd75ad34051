"""A crawl, from the registry to the inventory: list, read each repository, settle what vanished, certify.

A repository is published as a whole or not at all; one that cannot be read never stops the others; only what the
registry itself answered 404 for is marked as gone, and not even that if suspiciously much vanished at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Final, Protocol

import msgspec

from regwarden.core.coverage import Certificate, Problem, suspicions
from regwarden.core.drift import crawl_margin
from regwarden.core.patterns import Pattern
from regwarden.core.text import printable
from regwarden.errors import InputError, RegistryDenied, RegistryError
from regwarden.flows.blob_checks import check_blobs
from regwarden.flows.concurrency import each
from regwarden.flows.discovering import ProjectDiscovery
from regwarden.flows.listing import Listing, list_names
from regwarden.flows.reading import Outcome, ReadingContext, has_manifests, read_repository
from regwarden.flows.services import Services
from regwarden.registries.api import Ability, Connector, KnowsProjects, ListsReferrers, Traffic
from regwarden.store.analytics import materialise_sizes
from regwarden.store.blob_checks import note_missing_blobs
from regwarden.store.capabilities import merge_capabilities
from regwarden.store.crawls import (
    BegunCrawl,
    NewCrawl,
    begin_crawl,
    drop_old_checkpoints,
    finish_crawl,
    forget_unread_registry,
    known_repositories,
    load_disappearance,
    load_totals,
    mark_repository_vanished,
    save_unread_repository,
)
from regwarden.store.naming import discard_renamed
from regwarden.store.problems import load_first_problems
from regwarden.store.publishing import publish
from regwarden.store.settling import disbelieve, settle_vanished
from regwarden.store.statistics import refresh_statistics

REPORTED_PROBLEM_COUNT: Final = 100
REPORTED_DOUBT_COUNT: Final = 20
_NOT_GRANTED: Final = "not-granted"


@dataclass(frozen=True, slots=True, kw_only=True)
class CrawlOptions:
    """What a crawl reads. ``repositories`` restricts it; then nothing outside is asked for or marked as gone."""

    with_configs: bool = True
    verify: bool = False
    verify_blobs: bool = False
    accept_disappearance: bool = False
    repositories: tuple[Pattern, ...] = ()
    concurrency: int = 16


@dataclass(frozen=True, slots=True)
class RegistryTarget:
    """A registry to crawl. ``endpoint_fingerprint`` identifies the address and who we are there."""

    name: str
    url: str
    kind: str = "distribution"
    endpoint_fingerprint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a crawl is; ``phase`` is listing, reading, blobs, projects, sizes or done."""

    phase: str = "listing"
    repositories_total: int = 0
    repositories_done: int = 0
    tags_total: int = 0
    tags_done: int = 0
    manifests_fetched: int = 0
    problems: int = 0
    repository: str = ""


class CrawlProgress(Protocol):
    """Called often with the state of a crawl; must return at once."""

    def __call__(self, progress: Progress, /) -> None:
        """Take the state of the crawl, to show it or not."""


@dataclass(frozen=True, slots=True)
class CrawlReport:
    """How a crawl ended. ``state`` is complete or partial; ``problems`` are the first of them."""

    registry: str
    crawl_id: int
    state: str
    certificate: Certificate
    problems: tuple[Problem, ...]


@dataclass(slots=True)
class _Run:
    """A running crawl: what it works with, and what it has counted so far."""

    services: Services
    begun: BegunCrawl
    options: CrawlOptions
    connector: Connector
    on_progress: CrawlProgress | None
    progress: Progress = field(default_factory=Progress)
    problem_count: int = 0
    lacks_named: bool = False  # a repository that was asked for by name does not exist
    doubts: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    def show(self, **changes: int | str) -> None:
        """Change the progress and tell whoever watches."""
        self.progress = replace(self.progress, **changes)  # type: ignore[arg-type]
        if self.on_progress is not None:
            self.on_progress(self.progress)

    def count(self, name: str, amount: int = 1) -> None:
        """Add to one of the certificate's counts."""
        self.counts[name] = self.counts.get(name, 0) + amount

    def doubt(self, found: Iterable[str]) -> None:
        """Keep the first doubts of a crawl, each once."""
        for text in found:
            if len(self.doubts) < REPORTED_DOUBT_COUNT and text not in self.doubts:
                self.doubts.append(text)

    def on_tags(self, listed: int, read: int) -> None:
        """Count tags as they are listed and read."""
        before = self.progress
        self.show(tags_total=before.tags_total + listed, tags_done=before.tags_done + read)

    def on_manifest(self) -> None:
        """Count a manifest that was fetched."""
        self.show(manifests_fetched=self.progress.manifests_fetched + 1)


async def crawl(
    services: Services, target: RegistryTarget, options: CrawlOptions, on_progress: CrawlProgress | None = None
) -> CrawlReport:
    """Read a registry into the inventory and certify how complete the reading is.

    Interrupted, it can be called again and continues. Raises ``RegistryError`` if the registry cannot be reached,
    refuses the credentials or is none (nothing stored changes), ``Conflict`` if another process is crawling it.
    """
    with services.database.exclusive(f"crawl {target.name}"):
        connector = services.connectors[target.name]
        before = replace(connector.traffic)
        await connector.ping()  # before anything is written: a mistyped address is no registry
        begun = await _begin(services, target, options)
        run = _Run(services, begun, options, connector, on_progress)
        try:
            run.show(phase="listing")
            with_referrers = await _learn_capabilities(run, target.name)
            listing = await _list(run)
            await _read_all(run, listing, _context(run, with_referrers=with_referrers))
            if options.verify_blobs:
                run.show(phase="blobs")
                await _check_blobs(run)
        except (RegistryError, InputError):
            await _fail(run)
            raise
        was_suspicious = await _settle(run)
        await _discover(run, listing)  # after it is known what is gone: that is measured again, too
        run.show(phase="sizes")
        await materialise_sizes(services.database, begun.registry_id, services.now())
        await refresh_statistics(services.database)
        await note_missing_blobs(services.database, begun.registry_id, begun.started_at)
        certificate = await _certify(run, listing, _spent(before, connector.traffic))
        is_whole = _is_complete(certificate) and not was_suspicious and not run.lacks_named
        state = "complete" if is_whole else "partial"
        fingerprint = target.endpoint_fingerprint if _is_endpoint_accepted(run, state) else None
        await services.database.write(
            lambda connection: finish_crawl(
                connection, begun, state=state, certificate=certificate, fingerprint=fingerprint
            )
        )
        run.show(phase="done")
        problems = await services.database.read(
            lambda connection: load_first_problems(connection, begun.crawl_id, REPORTED_PROBLEM_COUNT)
        )
        return CrawlReport(target.name, begun.crawl_id, state, certificate, problems)


async def _begin(services: Services, target: RegistryTarget, options: CrawlOptions) -> BegunCrawl:
    scope = msgspec.json.encode(
        {
            "with_configs": options.with_configs,
            "verify": options.verify,
            "verify_blobs": options.verify_blobs,
            "repositories": [str(pattern) for pattern in options.repositories],
            # What another address, or somebody else, was told is no part of this crawl: it must not be continued.
            "endpoint": target.endpoint_fingerprint,
        }
    ).decode()
    new = NewCrawl(target.name, target.url, target.kind, target.endpoint_fingerprint, options=scope)
    begun = await services.database.write(lambda connection: begin_crawl(connection, new, at=services.now()))
    while not await services.database.write(lambda connection: drop_old_checkpoints(connection, begun.registry_id)):
        pass
    return begun


async def _learn_capabilities(run: _Run, registry: str) -> bool:
    """Whether the registry lists referrers; asked once, then remembered until a verifying crawl or a new address."""
    remembered, is_elsewhere = dict(run.begun.capabilities), run.begun.endpoint_changed
    if "referrers" not in remembered or run.options.verify or is_elsewhere:
        probed = await run.connector.probe_capabilities()  # which asks nothing about deletion: what is known stays
        found = {name: str(value) for name, value in asdict(probed).items()}
        remembered = await run.services.database.write(
            lambda connection: merge_capabilities(connection, registry, found, is_elsewhere=is_elsewhere)
        )
    return isinstance(run.connector, ListsReferrers) and remembered.get("referrers") != Ability.UNSUPPORTED


async def _list(run: _Run) -> Listing:
    registry_id = run.begun.registry_id
    known = await run.services.database.read(lambda connection: known_repositories(connection, registry_id))
    return await list_names(run.connector, known, run.options.repositories)


def _context(run: _Run, *, with_referrers: bool) -> ReadingContext:
    return ReadingContext(
        connector=run.connector,
        database=run.services.database,
        now=run.services.now,
        registry_id=run.begun.registry_id,
        crawl_id=run.begun.crawl_id,
        started_at=run.begun.started_at,
        naming=run.begun.naming,
        with_configs=run.options.with_configs,
        verify=run.options.verify,
        with_referrers=with_referrers,
        slots=asyncio.Semaphore(run.options.concurrency),
        configs={},
        on_tags=run.on_tags,
        on_manifest=run.on_manifest,
    )


async def _read_all(run: _Run, listing: Listing, context: ReadingContext) -> None:
    """Read every repository, a few at a time; what an interrupted crawl has published is not read again."""
    run.doubt(listing.doubts)
    todo = [(position, name) for position, name in enumerate(listing.names) if name not in run.begun.done]
    run.show(phase="reading", repositories_total=len(listing.names), repositories_done=len(listing.names) - len(todo))

    async def read(place: tuple[int, str]) -> None:
        position, name = place
        run.show(repository=name)
        await _read_one(run, listing, context, position, name)
        run.show(repositories_done=run.progress.repositories_done + 1, problems=run.problem_count)

    # Repositories have slots of their own: one that waits for its requests must not keep them from being sent.
    await each(read, todo, asyncio.Semaphore(run.options.concurrency))


async def _read_one(run: _Run, listing: Listing, context: ReadingContext, position: int, name: str) -> None:
    try:
        outcome = await read_repository(context, name, position)
    except RegistryError as error:
        if _is_given_up(run, listing, name, error):
            await _mark_vanished(run, name)
        else:
            await _note_unread(run, name, error)
        return
    if await _keep(run, listing, context, outcome):
        run.doubt(outcome.doubts)


async def _keep(run: _Run, listing: Listing, context: ReadingContext, outcome: Outcome) -> bool:
    """Take a reading into the inventory. Returns whether it counts: not where the repository was renamed meanwhile."""
    name, known = outcome.reading.name, outcome.known
    if name in listing.listed or not outcome.is_absent:
        return await _publish(run, outcome)
    if known.repository_id is None:
        return await _note_unknown(run, name)
    # Neither the catalog nor the repository itself knows it. Without tags the second answer is always this, so the
    # catalog must be beyond doubt, or the manifests that the tags left behind must be gone as well.
    if known.tags and not listing.is_trustworthy and await has_manifests(context, known, name):
        return await _publish(run, outcome)
    if known.tags or listing.is_trustworthy:
        return await _mark_vanished(run, name)
    return True


async def _note_unknown(run: _Run, name: str) -> bool:
    naming = run.begun.naming
    if await run.services.database.write(lambda connection: discard_renamed(connection, naming, name)):
        return False
    run.doubt((f"the registry does not know the repository {name}",))
    run.lacks_named = True
    return True


def _is_given_up(run: _Run, listing: Listing, name: str, error: RegistryError) -> bool:
    """Whether somebody said that what is listed no more, and may not be read, is to be taken for gone.

    Whether it is, or rights were lost, some registries do not tell. What is only named is never taken for gone.
    """
    is_unlisted = listing.is_trustworthy and name not in listing.listed
    return run.options.accept_disappearance and is_unlisted and error.code == _NOT_GRANTED


async def _mark_vanished(run: _Run, name: str) -> bool:
    begun = run.begun
    return await run.services.database.write(lambda connection: mark_repository_vanished(connection, begun, name))


async def _publish(run: _Run, outcome: Outcome) -> bool:
    reading = outcome.reading
    published = await publish(run.services.database, reading, run.services.now)
    if published is None:
        return False
    run.count("new_tag_count", published.new_tag_count)
    run.count("moved_tag_count", published.moved_tag_count)
    run.problem_count += len(reading.problems)
    return True


async def _note_unread(run: _Run, name: str, error: RegistryError) -> None:
    """A repository whose tags cannot be listed keeps what is known of it."""
    state = "denied" if isinstance(error, RegistryDenied) else "failed"
    problem = Problem(name, "", "", error.code, printable(error.message, 500))
    begun, at = run.begun, run.services.now()
    run.problem_count += await run.services.database.write(
        lambda connection: save_unread_repository(connection, begun, problem, state=state, at=at)
    )


async def _discover(run: _Run, listing: Listing) -> None:
    """Whose the repositories are, where the registry knows that; of single ones only what is known already."""
    if not isinstance(run.connector, KnowsProjects):
        return
    run.show(phase="projects")
    discovery = ProjectDiscovery(
        services=run.services,
        begun=run.begun,
        connector=run.connector,
        is_thorough=run.options.verify,
        concurrency=run.options.concurrency,
        told=listing.doubts,
    )
    if listing.page_count:
        await discovery.find_all(listing.names)
    else:  # the catalog was not asked, because everything wanted was named
        await discovery.note_protected()
    run.doubt(discovery.doubts)


async def _check_blobs(run: _Run) -> None:
    checked = await check_blobs(run.services, run.begun, run.connector, concurrency=run.options.concurrency)
    run.count("verified_blob_count", checked.present_count)
    run.count("missing_blob_count", checked.missing_count)
    run.problem_count += checked.missing_count
    if checked.failed_count:
        run.doubts.insert(0, f"{checked.failed_count} blobs could not be asked for: {checked.first_failure}")


async def _settle(run: _Run) -> bool:
    """Mark what vanished as gone, unless that would be suspiciously much. Returns whether it was."""
    database, begun = run.services.database, run.begun
    disappearance = await database.read(lambda connection: load_disappearance(connection, begun))
    reasons = suspicions(disappearance)
    if reasons and not run.options.accept_disappearance:
        # The marks stay until the crawl ends, so that one that is killed before is suspicious again when continued.
        run.doubts[:0] = (f"{reason}; nothing was marked as gone (--accept-disappearance does)" for reason in reasons)
        await database.write(lambda connection: disbelieve(connection, begun))
        return True
    settled = await settle_vanished(database, begun, crawl_margin(run.connector.traffic.clock_skew))
    run.count("gone_tag_count", settled.tag_count)
    run.count("gone_repository_count", settled.repository_count)
    return False


async def _fail(run: _Run) -> None:
    """The registry could not be read at all. What was published stays; a registry never read is forgotten."""
    begun, finished = run.begun, run.services.now()
    if begun.is_first:
        await run.services.database.write(lambda connection: forget_unread_registry(connection, begun))
        return
    certificate = Certificate(
        started_at=begun.started_at,
        finished_at=finished,
        duration_seconds=(finished - begun.started_at).total_seconds(),
        is_listing_complete=False,
        is_listing_trustworthy=False,
    )
    await run.services.database.write(
        lambda connection: finish_crawl(connection, begun, state="failed", certificate=certificate, fingerprint=None)
    )


async def _certify(run: _Run, listing: Listing, traffic: Traffic) -> Certificate:
    begun, finished = run.begun, run.services.now()
    # Counted from what is stored, so that a continued crawl certifies all of it.
    totals = await run.services.database.read(lambda connection: load_totals(connection, begun))
    return Certificate(
        started_at=begun.started_at,
        finished_at=finished,
        duration_seconds=(finished - begun.started_at).total_seconds(),
        scope=" ".join(str(pattern) for pattern in run.options.repositories),
        was_resumed=begun.was_resumed,
        is_listing_complete=listing.is_complete,
        is_listing_trustworthy=listing.is_trustworthy,
        doubts=tuple(dict.fromkeys(run.doubts))[:REPORTED_DOUBT_COUNT],
        page_count=listing.page_count,
        fetched_manifest_count=run.progress.manifests_fetched,
        request_count=traffic.requests,
        retry_count=traffic.retries,
        token_request_count=traffic.token_requests,
        not_modified_count=traffic.not_modified,
        manifest_body_count=traffic.manifest_bodies,
        received_bytes=traffic.received_bytes,
        **totals,
        **run.counts,
    )


def _is_endpoint_accepted(run: _Run, state: str) -> bool:
    """Whether address and credentials count as the usual ones: a change does when everything was read with them."""
    if not run.begun.endpoint_changed or run.options.accept_disappearance:
        return True
    return state == "complete" and not run.options.repositories


def _is_complete(certificate: Certificate) -> bool:
    return certificate.is_listing_complete and not (
        certificate.denied_count or certificate.failed_count or certificate.partial_count
    )


def _spent(before: Traffic, after: Traffic) -> Traffic:
    return Traffic(
        requests=after.requests - before.requests,
        retries=after.retries - before.retries,
        throttled=after.throttled - before.throttled,
        received_bytes=after.received_bytes - before.received_bytes,
        manifest_bodies=after.manifest_bodies - before.manifest_bodies,
        not_modified=after.not_modified - before.not_modified,
        token_requests=after.token_requests - before.token_requests,
        clock_skew=after.clock_skew,
    )
