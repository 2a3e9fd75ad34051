"""What does the service do by itself, and when? Crawls by schedule, rereads when due, sizes and purges.

What is due is always read from the tables, so that nothing is lost with the process; whatever fails is logged, tried
again later, and never ends the schedule of anything else.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import structlog

from regwarden.core.schedule import Schedule
from regwarden.errors import NotFound, RegwardenError
from regwarden.flows.crawl import CrawlOptions, Progress, RegistryTarget
from regwarden.flows.services import Services
from regwarden.jobs.bell import Loop, Sleep
from regwarden.jobs.crawling import CrawlingLoop
from regwarden.jobs.reading import ManifestLoop
from regwarden.jobs.restoring import RestoringLoop
from regwarden.jobs.upkeep import PurgeLoop, SizesLoop
from regwarden.store.purging import Keeping

log = structlog.get_logger("regwarden.jobs")

SHORTEST_PAUSE_SECONDS: Final = 0.2
FAILURE_PAUSE_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class RegistryWork:
    """A registry that the service looks after: where it is, how it is read, and when as a whole."""

    target: RegistryTarget
    schedule: Schedule
    options: CrawlOptions = field(default_factory=CrawlOptions)


@dataclass(frozen=True, slots=True)
class RunnerWork:
    """Everything there is to do. ``services`` has a connector for each of ``registries``; its clock is the clock."""

    services: Services
    registries: tuple[RegistryWork, ...]
    keeping: Keeping


@dataclass(frozen=True, slots=True)
class JobStatus:
    """How the crawling of one registry stands.

    ``last_started_at`` and ``last_state`` (running, complete, partial, failed, interrupted) are of the last crawl of
    the whole registry; ``next_at`` is when the next one is due, ``problem`` why the last attempt failed.
    """

    registry: str
    running: bool
    last_started_at: datetime | None = None
    last_state: str | None = None
    next_at: datetime | None = None
    problem: str = ""
    progress: Progress | None = None


class Runner:
    """Does what is due until cancelled. ``sleep`` is for tests."""

    def __init__(self, work: RunnerWork, *, sleep: Sleep = asyncio.sleep) -> None:
        self._sleep = sleep
        services = work.services
        self._crawling = {
            one.target.name: CrawlingLoop(services, one.target, one.options, one.schedule) for one in work.registries
        }
        self._loops: list[Loop] = [*self._crawling.values()]
        self._loops += [ManifestLoop(services, one.target, one.options) for one in work.registries]
        self._restoring = [RestoringLoop(services, one.target.name) for one in work.registries]
        self._loops += self._restoring
        self._loops += [SizesLoop(services, self._is_measuring), PurgeLoop(services, work.keeping)]

    async def run(self) -> None:
        """Work until cancelled; a crawl that is cut off then continues the next time."""
        async with asyncio.TaskGroup() as group:
            for loop in self._loops:
                group.create_task(self._keep_going(loop))

    def wake(self) -> None:
        """Something became due: look now. To be called from the event loop's thread, as often as one likes."""
        for loop in self._loops:
            loop.bell.ring()

    def note_events(self) -> None:
        """Events were applied: one of them may tell of a push that raced a deletion."""
        for loop in self._restoring:
            loop.bell.ring()

    def crawl_now(self, name: str) -> None:
        """Let a whole crawl of this registry begin as soon as possible; raises ``NotFound`` for an unknown one."""
        if name not in self._crawling:
            names = ", ".join(sorted(self._crawling)) or "none"
            raise NotFound(f"the service does not crawl a registry {name[:160]!r}", hint=f"It crawls: {names}.")
        self._crawling[name].ask()

    def status(self) -> list[JobStatus]:
        """How each registry stands, by name, as of the last look into the tables."""
        return [_status(name, loop) for name, loop in sorted(self._crawling.items())]

    def _is_measuring(self, name: str) -> bool:
        """Whether a crawl of this registry is just computing its sizes."""
        loop = self._crawling.get(name)
        return loop is not None and loop.progress is not None and loop.progress.phase == "sizes"

    async def _pause_after_failure(self) -> float:
        """However often it is woken, a failure does not come round all the time."""
        await self._sleep(FAILURE_PAUSE_SECONDS)
        return 0.0

    async def _keep_going(self, loop: Loop) -> None:
        while True:
            loop.bell.reset()
            try:
                pause_seconds = await loop.step()
            except RegwardenError as error:
                log.warning("background work failed", work=str(loop), problem=error.message)
                loop.recover(error.message)
                pause_seconds = await self._pause_after_failure()
            except Exception:  # whatever happens to one piece of work, the others go on
                log.exception("background work failed", work=str(loop))
                loop.recover("something unforeseen went wrong; the log says what")
                pause_seconds = await self._pause_after_failure()
            await self._sleep(SHORTEST_PAUSE_SECONDS)
            await loop.bell.wait(pause_seconds - SHORTEST_PAUSE_SECONDS, self._sleep)


def _status(name: str, loop: CrawlingLoop) -> JobStatus:
    return JobStatus(
        registry=name,
        running=loop.progress is not None,
        last_started_at=loop.last_started_at,
        last_state=loop.last_state,
        next_at=loop.next_at,
        problem=loop.problem,
        progress=loop.progress,
    )
