"""The background work of the service: what is due is done, failures end nothing, nothing is lost with the process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import insert, select, update

from regwarden.core.schedule import parse_schedule
from regwarden.errors import NotFound, StoreError
from regwarden.flows.crawl import CrawlOptions, Progress, RegistryTarget, crawl
from regwarden.flows.services import Services
from regwarden.jobs import upkeep
from regwarden.jobs.runner import (
    FAILURE_PAUSE_SECONDS,
    SHORTEST_PAUSE_SECONDS,
    JobStatus,
    RegistryWork,
    Runner,
    RunnerWork,
)
from regwarden.registries.client.limits import Limits
from regwarden.registries.client.settings import ClientSettings
from regwarden.registries.distribution.connector import open_connector
from regwarden.store.database import Access, Database, open_database
from regwarden.store.event_schema import deliveries
from regwarden.store.purging import Keeping
from regwarden.store.rereads import Reread, list_rereads, note_rereads
from regwarden.store.schema import crawls, manifests, registries, repositories, tags
from regwarden.store.times import to_micros
from regwarden.testing.behaviour import Behaviour, Fault
from regwarden.testing.content import Content
from regwarden.testing.images import image, index, layer
from regwarden.testing.server import SampleRegistry

DAY = timedelta(days=1)
KEEPING = Keeping(bodies=DAY, quarantine=DAY, events=DAY, pulls=DAY, trash=DAY)
NOBODY = "http://127.0.0.1:9"


class Clock:
    """A clock that stands still, and sleepers that wake when it is moved far enough."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 3, 4, 12, tzinfo=UTC)
        self.loop_count = 0
        self._sleepers: list[tuple[datetime, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        return self.moment

    async def sleep(self, seconds: float) -> None:
        sleeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.moment + timedelta(seconds=seconds), sleeper))
        await sleeper

    async def pass_by(self, *, until: Callable[[], bool] = lambda: False, **time: float) -> bool:
        """Let time go by in steps of a quarter of a second, or of a fortieth of a longer time."""
        end = self.moment + timedelta(**time)
        step = max(timedelta(milliseconds=250), timedelta(**time) / 40)
        await self._settle()
        while self.moment < end:
            if until():
                return True
            self.moment += step
            for at, sleeper in self._sleepers:
                if at <= self.moment and not sleeper.done():
                    sleeper.set_result(None)
            await self._settle()
        return until()

    async def _settle(self) -> None:
        """Let every loop do what there is to do at this moment, until it sleeps again."""
        with suppress(TimeoutError):
            async with asyncio.timeout(2):
                while True:
                    await asyncio.sleep(0.001)
                    self._sleepers = [one for one in self._sleepers if not one[1].done()]
                    if len(self._sleepers) == self.loop_count:
                        return


async def happens(is_so: Callable[[], bool]) -> None:
    """Wait in real time, the clock standing still, for what needs no time of its own."""
    async with asyncio.timeout(20):
        while not is_so():
            await asyncio.sleep(0.005)


class Site:
    """Registries, a database and a clock, with a runner that can be started and stopped."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self.database = database
        self.clock = clock
        self.works: list[RegistryWork] = []
        self.services = Services(database, clock.now, {})
        self.runner: Runner

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Runner]:
        self.runner = Runner(RunnerWork(self.services, tuple(self.works), KEEPING), sleep=self.clock.sleep)
        self.clock.loop_count = 3 * len(self.works) + 2
        task = asyncio.create_task(self.runner.run())
        try:
            yield self.runner
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def add(self, name: str, url: str, schedule: str = "1h") -> None:
        self.services.connectors[name] = open_connector(ClientSettings(url), Limits(retries=0))
        self.works.append(RegistryWork(RegistryTarget(name, url), parse_schedule(schedule), CrawlOptions()))

    def status(self, name: str) -> JobStatus:
        return next(one for one in self.runner.status() if one.registry == name)

    def crawls(self, name: str) -> list[str]:
        """The states of the crawls of a registry, the first one first."""
        wanted = select(crawls.c.state).join(registries).where(registries.c.name == name).order_by(crawls.c.id)
        return self.database.read_now(lambda connection: list(connection.execute(wanted).scalars()))

    def write(self, statement) -> None:
        self.database.write_now(lambda connection: connection.execute(statement))

    def note(self, *rows: Reread) -> None:
        self.database.write_now(lambda connection: note_rereads(connection, rows))
        self.runner.wake()

    def waiting(self) -> list[str]:
        return [row.repository for row in self.database.read_now(list_rereads)]


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    with open_database(":memory:", access=Access.WRITE, create=True) as database:
        site = Site(database, Clock())
        yield site
        for connector in site.services.connectors.values():
            await connector.close()


def a_content(count: int = 3) -> Content:
    content = Content()
    for number in range(count):
        content.repository(f"app{number}").add(image([layer(f"{number}", 10)]), "1.0")
    return content


@pytest.fixture
async def registry() -> AsyncIterator[SampleRegistry]:
    async with SampleRegistry(a_content()) as registry:
        yield registry


async def test_a_registry_is_crawled_at_once_and_then_at_its_interval(site, registry):
    site.add("one", registry.url, "1h")
    async with site.running() as runner:
        await happens(lambda: site.crawls("one") == ["complete"])
        started = site.clock.moment
        assert not await site.clock.pass_by(minutes=59, until=lambda: len(site.crawls("one")) > 1)
        (status,) = runner.status()
        assert (status.registry, status.running, status.last_state) == ("one", False, "complete")
        assert status.last_started_at == started
        assert timedelta(hours=1) <= status.next_at - started <= timedelta(hours=1, minutes=5)
        assert await site.clock.pass_by(minutes=8, until=lambda: site.crawls("one") == ["complete"] * 2)


async def test_a_registry_that_fails_is_tried_again_and_the_others_go_on(site, registry):
    site.add("bad", NOBODY, "1h")
    site.add("good", registry.url, "10m")
    async with site.running():
        await happens(lambda: site.status("bad").problem != "")
        await happens(lambda: site.crawls("good") == ["complete"])
        first = site.clock.moment
        assert site.status("bad").next_at == first + timedelta(minutes=1)
        assert site.crawls("bad") == []
        assert await site.clock.pass_by(minutes=30, until=lambda: site.crawls("good") == ["complete"] * 2)
        assert site.status("bad").problem
        assert site.status("bad").next_at is not None


async def test_a_registry_that_answers_again_is_crawled_after_a_short_while(site, registry):
    site.add("one", registry.url, "12h")
    registry.behaviour.faults["GET", "/v2/"] = [Fault(503)] * 2
    async with site.running():
        await happens(lambda: site.status("one").problem != "")
        first = site.clock.moment
        assert await site.clock.pass_by(minutes=5, until=lambda: site.crawls("one") == ["complete"])
        assert site.clock.moment - first >= timedelta(minutes=3)
        await site.clock.pass_by(seconds=2)
        assert site.status("one").problem == ""
        assert site.status("one").next_at - first > timedelta(hours=12)


async def test_retries_are_never_rarer_than_the_schedule(site):
    site.add("one", NOBODY, "30s")
    async with site.running():
        await happens(lambda: site.status("one").problem != "")
        assert site.status("one").next_at == site.clock.moment + timedelta(seconds=30)


async def test_something_unforeseen_ends_nothing(site, registry, monkeypatch):
    site.add("one", registry.url, "12h")
    calls = []

    async def broken_once(*arguments):
        calls.append(arguments)
        if len(calls) == 1:
            message = "a bug"
            raise ZeroDivisionError(message)
        return await crawl(*arguments)

    monkeypatch.setattr("regwarden.jobs.crawling.crawl", broken_once)
    async with site.running():
        await happens(lambda: "unforeseen" in site.status("one").problem)
        assert await site.clock.pass_by(minutes=3, until=lambda: site.crawls("one") == ["complete"])


async def test_never_means_only_when_asked(site, registry):
    site.add("one", registry.url, "never")
    async with site.running() as runner:
        assert not await site.clock.pass_by(hours=100, until=lambda: bool(registry.requests))
        assert site.status("one").next_at is None
        runner.crawl_now("one")
        await site.clock.pass_by(seconds=1)
        await happens(lambda: site.crawls("one") == ["complete"])
        with pytest.raises(NotFound):
            runner.crawl_now("two")


async def test_a_registry_is_never_crawled_twice_at_a_time(site, registry):
    site.add("one", registry.url)
    with site.database.exclusive("crawl one"):
        async with site.running():
            await site.clock.pass_by(seconds=60)
            assert registry.requests == []
            assert site.status("one").problem == ""
    async with site.running():
        await happens(lambda: site.crawls("one") == ["complete"])


async def test_what_is_done_by_others_counts(site, registry):
    site.add("one", registry.url, "1h")
    async with site.running():
        await happens(lambda: site.crawls("one") == ["complete"])
        await site.clock.pass_by(minutes=50)
        registry.forget()
        again = crawl(site.services, RegistryTarget("one", registry.url), CrawlOptions())
        await again
        registry.forget()
        await site.clock.pass_by(minutes=50)
        assert registry.requests == []


async def test_a_crawl_that_was_cut_off_is_continued_at_the_next_start(site):
    content = a_content(40)
    async with SampleRegistry(content, behaviour=Behaviour(latency_seconds=0.02)) as registry:
        site.add("one", registry.url, "12h")
        async with site.running():
            await happens(lambda: (site.status("one").progress or Progress()).repositories_done >= 10)
            assert site.status("one").running
        assert site.crawls("one") == ["running"]
        registry.behaviour.latency_seconds = 0.0
        registry.forget()
        async with site.running():
            await happens(lambda: site.crawls("one") == ["complete"])
        asked = {request.path.split("/")[2] for request in registry.requests if "/tags/list" in request.path}
        assert len(asked) <= 30


async def test_an_image_pushed_to_a_known_registry_is_read_about_a_second_later(site, registry):
    site.add("one", registry.url)
    async with site.running():
        await happens(lambda: site.crawls("one") == ["complete"])
        await site.clock.pass_by(seconds=20)
        pushed = index([image([layer("a", 5)]), image([layer("b", 5)])])
        registry.content.repository("app0").add(pushed, "new")
        site.note(Reread(1, "app0", str(pushed.digest), "unread-content", site.clock.moment))
        assert await site.clock.pass_by(seconds=2, until=lambda: site.waiting() == [])
        known = site.database.read_now(lambda c: set(c.execute(select(manifests.c.digest)).scalars()))
        assert {built.digest.to_bytes() for built in (pushed, *pushed.children)} <= known


async def test_manifests_are_read_while_a_crawl_is_running(site, registry):
    site.add("one", registry.url)
    async with site.running():
        await happens(lambda: site.crawls("one") == ["complete"])
    pushed = image([layer("a", 5)])
    registry.content.repository("app0").add(pushed, "new")
    with site.database.exclusive("crawl one"):
        async with site.running():
            site.note(Reread(1, "app0", str(pushed.digest), "unread-content", site.clock.moment))
            await site.clock.pass_by(seconds=3, until=lambda: site.waiting() == [])
            assert site.waiting() == []


async def test_repositories_in_doubt_are_crawled_soon_and_the_schedule_stays(site, registry):
    site.add("one", registry.url)
    async with site.running():
        await happens(lambda: site.crawls("one") == ["complete"])
        await site.clock.pass_by(minutes=10)
        due_at = site.status("one").next_at
        registry.content.repository("app1").add(image([layer("new", 5)]), "2.0")
        registry.forget()
        site.note(Reread(1, "app1", "", "pull-disagrees", site.clock.moment + timedelta(seconds=5)))
        assert await site.clock.pass_by(seconds=10, until=lambda: len(site.crawls("one")) == 2)
        await site.clock.pass_by(seconds=3, until=lambda: site.waiting() == [])
        assert site.waiting() == []
        assert not [request for request in registry.requests if "/app0/" in request.path]
        await site.clock.pass_by(seconds=8)
        assert site.status("one").next_at == due_at
        names = site.database.read_now(lambda c: set(c.execute(select(tags.c.name)).scalars()))
        assert "2.0" in names


async def test_doubt_about_a_whole_registry_means_a_whole_crawl(site, registry):
    site.add("one", registry.url)
    async with site.running():
        await happens(lambda: site.crawls("one") == ["complete"])
        await site.clock.pass_by(minutes=10)
        site.note(
            Reread(1, "", "", "sender-restarted", site.clock.moment),
            Reread(1, "app1", "", "pull-disagrees", site.clock.moment),
        )
        assert await site.clock.pass_by(seconds=6, until=lambda: site.crawls("one") == ["complete"] * 2)
        await site.clock.pass_by(seconds=6, until=lambda: site.waiting() == [])
        assert site.waiting() == []
        assert site.crawls("one") == ["complete"] * 2
        assert site.status("one").next_at - site.clock.moment > timedelta(minutes=50)


async def test_sizes_are_computed_anew_after_events_but_not_all_the_time(site, registry, monkeypatch):
    site.add("one", registry.url)
    counted = []

    async def materialise(database, registry_id, at):
        counted.append(at)
        site.write(update(registries).values(sized_at=to_micros(at)))

    monkeypatch.setattr(upkeep, "materialise_sizes", materialise)
    elapsed = iter(range(0, 100_000, 2))
    monkeypatch.setattr(upkeep, "monotonic", lambda: float(next(elapsed)))
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(site.running())
        await happens(lambda: site.crawls("one") == ["complete"])
        await site.clock.pass_by(seconds=30)
        assert counted == []
        for _ in range(40):
            site.write(update(registries).values(changed_at=to_micros(site.clock.moment)))
            await site.clock.pass_by(seconds=1)
        assert 1 <= len(counted) <= 4
        await site.clock.pass_by(seconds=60, until=lambda: counted[-1] > site.clock.moment)
        count = len(counted)
        await site.clock.pass_by(minutes=5)
        assert len(counted) - count <= 1


async def test_sizes_wait_until_what_was_pushed_has_been_read(site, monkeypatch):
    at = to_micros(site.clock.moment)
    row = {"name": "one", "url": NOBODY, "kind": "distribution", "first_seen_at": at}
    site.write(insert(registries).values(row))
    loop, time, counted = upkeep.SizesLoop(site.services, lambda _name: False), [100.0], []

    async def materialise(_database, registry_id, _at):
        counted.append(registry_id)

    monkeypatch.setattr(upkeep, "materialise_sizes", materialise)
    monkeypatch.setattr(upkeep, "monotonic", lambda: time[0])
    for changed_at, sized_at, seconds in ((at, None, 0), (at, at + 6_000_000, 60), (at + 9_000_000, at, 0)):
        site.write(update(registries).values(changed_at=changed_at, sized_at=sized_at))
        counted.clear()
        time[0] += seconds
        await loop.step()
        assert counted == []
        time[0] += upkeep.SIZE_AFTER_SECONDS
        await loop.step()
        assert counted == ([] if seconds else [1])


async def test_sizes_that_cannot_be_computed_do_not_keep_other_registries_from_theirs(site, monkeypatch):
    at = to_micros(site.clock.moment)
    for name in ("bad", "good"):
        row = {"name": name, "url": NOBODY, "kind": "distribution", "first_seen_at": at, "changed_at": at}
        site.write(insert(registries).values(row))
    loop, time, counted = upkeep.SizesLoop(site.services, lambda _name: False), [100.0], []

    async def materialise(_database, registry_id, _at):
        if registry_id == 1:
            raise StoreError("the database failed")
        counted.append(registry_id)

    monkeypatch.setattr(upkeep, "materialise_sizes", materialise)
    monkeypatch.setattr(upkeep, "monotonic", lambda: time[0])
    for _ in range(4):
        with suppress(StoreError):
            await loop.step()
        time[0] += FAILURE_PAUSE_SECONDS + SHORTEST_PAUSE_SECONDS
    assert counted == [2]


async def test_old_rows_are_purged_every_hour(site):
    def applied(age: timedelta) -> dict[str, object]:
        at = to_micros(site.clock.moment - age)
        return {"registry": "one", "received_at": at, "sender": "", "state": "applied", "body_bytes": 0}

    def left() -> int:
        return len(site.database.read_now(lambda c: c.execute(select(deliveries.c.id)).all()))

    site.write(insert(deliveries).values([applied(2 * DAY), applied(DAY - timedelta(minutes=30))]))
    async with site.running():
        await happens(lambda: left() == 1)
        assert not await site.clock.pass_by(minutes=55, until=lambda: left() == 0)
        assert await site.clock.pass_by(minutes=10, until=lambda: left() == 0)


async def test_a_runner_without_registries_waits_quietly(site):
    async with site.running() as runner:
        await site.clock.pass_by(minutes=5)
        assert runner.status() == []
    assert site.database.read_now(lambda c: c.execute(select(repositories.c.id)).all()) == []
