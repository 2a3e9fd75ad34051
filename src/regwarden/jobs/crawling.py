"""When is a registry crawled? By its schedule, sooner after a failure, at once if it was cut off or somebody asks.

Rereads of single repositories run here too, because a registry is crawled by one at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import structlog

from regwarden.core.schedule import Schedule, next_run
from regwarden.core.text import printable
from regwarden.errors import Conflict, InputError, RegistryError
from regwarden.flows.crawl import CrawlOptions, Progress, RegistryTarget, crawl
from regwarden.flows.rereads import RereadTarget, pause_after, read_repositories
from regwarden.flows.services import Services
from regwarden.jobs.bell import Bell
from regwarden.store.crawl_times import CrawlTimes, load_crawl_times
from regwarden.store.rereads import (
    DueReread,
    due_rereads,
    next_reread_at,
    postpone_reread,
    release_rereads,
    settle_reread,
    take_rereads,
)

RETRY_AFTER: Final = tuple(timedelta(minutes=minutes) for minutes in (1, 2, 5, 15))
BUSY_PAUSE: Final = timedelta(seconds=15)
LOOK_AGAIN_SECONDS: Final = 5.0
MOST_REPOSITORIES: Final = 100

_FAILED: Final = "failed"
_RUNNING: Final = "running"
_READ: Final = ("complete", "partial")

log = structlog.get_logger("regwarden.jobs")


class CrawlingLoop:
    """The crawls of one registry. Its public attributes say how they stand."""

    def __init__(self, services: Services, target: RegistryTarget, options: CrawlOptions, schedule: Schedule) -> None:
        self.bell = Bell()
        self.progress: Progress | None = None
        self.last_started_at: datetime | None = None
        self.last_state: str | None = None
        self.next_at: datetime | None = None
        self.problem = ""
        self._services = services
        self._target = target
        self._options = options
        self._schedule = schedule
        self._is_asked = False
        self._must_release = True
        self._failure_count = 0
        self._failed_at: datetime | None = None
        self._busy_until: datetime | None = None

    def __str__(self) -> str:
        return f"crawling {self._target.name}"

    def ask(self) -> None:
        """Let a whole crawl be due now, whatever the schedule says."""
        self._is_asked = True
        self._busy_until = None
        self.bell.ring()

    def recover(self, problem: str) -> None:
        """Something went wrong: what was taken and not finished is due again."""
        self.progress = None
        self._must_release = True
        self._note_failure(problem)

    async def step(self) -> float:
        """Do what is due, if anything, and return after how many seconds to look again."""
        now = self._services.now()
        if self._busy_until is not None and now < self._busy_until:
            return (self._busy_until - now).total_seconds()
        times = await self._look(now)
        due = await self._load_due(times, now)
        asks_for_all = [row for row in due if not row.repository]
        try:
            if self._is_asked or asks_for_all or (self.next_at is not None and self.next_at <= now):
                await self._crawl(due)
            elif due and times is not None:
                await self._read_repositories(times, due)
        except Conflict:
            # Another process, or a command beside us, is at it; afterwards there may be nothing left to do.
            self._busy_until = self._services.now() + BUSY_PAUSE
            self._must_release = True
        finally:
            self.progress = None
        if times is not None and due:
            return 0.0
        return await self._idle_seconds()

    async def _look(self, now: datetime) -> CrawlTimes | None:
        """What the tables say of the last crawl, and what follows for the next one."""
        name = self._target.name
        times = (await self._services.database.read(lambda connection: load_crawl_times(connection, name))).get(name)
        if times is not None and self._must_release:
            registry_id = times.registry_id
            await self._services.database.write(
                lambda connection: release_rereads(connection, registry_id, now, of_manifests=False)
            )
            self._must_release = False
        self.last_started_at = times.started_at if times is not None else None
        self.last_state = times.state if times is not None else None
        if self._has_recovered():
            self._forget_failures()
        self.next_at = self._next_at(now)
        return times

    def _has_recovered(self) -> bool:
        """Whether somebody else has crawled the registry since our last attempt failed."""
        if self._failed_at is None or self.last_started_at is None:
            return False
        return self.last_state in _READ and self.last_started_at > self._failed_at

    def _next_at(self, now: datetime) -> datetime | None:
        if self._is_asked:
            return now
        if self._schedule.is_never:
            return None
        if self._failed_at is not None:
            return max(self._failed_at + self._retry_pause(self._failure_count), now)
        if self.last_state == _RUNNING:
            return now  # cut off: it continues where it stopped
        if self.last_state == _FAILED and self.last_started_at is not None:
            return max(self.last_started_at + self._retry_pause(1), now)
        return next_run(self._schedule, self.last_started_at, now, seed=self._target.name)

    def _retry_pause(self, failure_count: int) -> timedelta:
        pause = RETRY_AFTER[min(failure_count, len(RETRY_AFTER)) - 1]
        return pause if self._schedule.interval is None else min(pause, self._schedule.interval)

    async def _load_due(self, times: CrawlTimes | None, now: datetime) -> list[DueReread]:
        if times is None:
            return []
        registry_id = times.registry_id
        return await self._services.database.read(
            lambda connection: due_rereads(connection, now, registry_id, of_manifests=False, limit=MOST_REPOSITORIES)
        )

    async def _crawl(self, due: Sequence[DueReread]) -> None:
        """Crawl everything; what asked for parts of it is done with that as well."""
        services = self._services
        taken = await services.database.write(lambda connection: take_rereads(connection, due, services.now()))
        self.progress = Progress()
        try:
            report = await crawl(services, self._target, self._options, self._show)
        except (RegistryError, InputError) as error:
            problem = printable(error.message, 500)
            self._is_asked = False
            self._note_failure(problem)
            log.warning("a crawl failed", registry=self._target.name, problem=problem, code=error.code)
            if taken:
                due_at = services.now() + pause_after(max(row.attempt_count for row in taken) + 1)
                await services.database.write(lambda connection: postpone_reread(connection, taken, due_at, problem))
            return
        self._is_asked = False
        self._forget_failures()
        await services.database.write(lambda connection: settle_reread(connection, taken))
        log.info("a crawl ended", registry=self._target.name, state=report.state)

    async def _read_repositories(self, times: CrawlTimes, due: Sequence[DueReread]) -> None:
        target = RereadTarget(self._target, times.registry_id, self._options)
        self.progress = Progress()
        reading = await read_repositories(self._services, target, due, self._show)
        if reading.problem:
            log.warning("repositories could not be read", registry=self._target.name, problem=reading.problem)

    def _show(self, progress: Progress) -> None:
        self.progress = progress

    def _note_failure(self, problem: str) -> None:
        self._failure_count += 1
        self._failed_at = now = self._services.now()
        self.problem, self.next_at = problem, self._next_at(now)

    def _forget_failures(self) -> None:
        self._failed_at, self._failure_count, self.problem = None, 0, ""

    async def _idle_seconds(self) -> float:
        now = self._services.now()
        times = await self._look(now)
        moments = [self.next_at, self._busy_until]
        if times is not None:
            registry_id = times.registry_id
            moments.append(
                await self._services.database.read(
                    lambda connection: next_reread_at(connection, registry_id, of_manifests=False)
                )
            )
        seconds = [(moment - now).total_seconds() for moment in moments if moment is not None]
        # Another process may note something: with PostgreSQL nobody wakes us.
        return max(min([*seconds, LOOK_AGAIN_SECONDS]), 0.0)
