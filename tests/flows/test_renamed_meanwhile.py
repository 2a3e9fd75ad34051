"""A repository that is renamed while it is being read: the reading does not count, and the present name is read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select

from regwarden.core.patterns import parse_pattern
from regwarden.flows import crawl as crawl_flow
from regwarden.flows import reading as reading_flow
from regwarden.flows.crawl import CrawlOptions, CrawlReport, RegistryTarget
from regwarden.flows.rereads import RereadTarget, read_manifests, read_repositories
from regwarden.flows.services import Services
from regwarden.registries.client.limits import Limits
from regwarden.store import publishing
from regwarden.store.event_schema import drifts
from regwarden.store.rereads import DueReread, Reread, due_rereads, list_rereads, note_rereads
from regwarden.store.schema import crawl_problems, crawls, manifests, repositories, repository_blobs, tags
from regwarden.store.times import to_micros
from regwarden.testing.behaviour import Fault
from regwarden.testing.content import Content
from regwarden.testing.images import image, image_config, layer
from regwarden.testing.server import SampleRegistry
from tests.crawling import NAME, Inventory, open_inventory
from tests.flows.noting import note, pushed

OLD, NEW, OTHER = "team/old/app", "team/new/app", "team/other"
WAYS = ("crawl", "reread")
BUILT = datetime(2026, 1, 2, tzinfo=UTC)


class Clock:
    """A clock that goes on a little whenever it is looked at."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 3, 4, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.moment += timedelta(milliseconds=1)
        return self.moment


class World:
    """A registry whose events come in, and how it is read: as a whole, or just what a row asked for."""

    def __init__(self, content: Content, registry: SampleRegistry, inventory: Inventory, clock: Clock) -> None:
        self.content, self.registry, self.inventory, self.clock = content, registry, inventory, clock
        self.is_renamed = False

    async def rename(self, old: str = "team/old", new: str = "team/new") -> None:
        """The project moves at the registry, and the event of that is applied at once."""
        self.is_renamed = True
        for name in [name for name in self.content.repositories if name.startswith(f"{old}/")]:
            self.content.repositories[new + name[len(old) :]] = self.content.repositories.pop(name)
        await self.tell_of_rename(old, new)

    async def tell_of_rename(self, old: str = "team/old", new: str = "team/new") -> None:
        event = pushed(self.inventory, OLD, image([layer("none", 1)])) | {"action": "rename"}
        event["target"] = {"repository": old, "rename": {"type": "name", "from": old, "to": new}}
        await note(self.inventory, [event])

    async def rename_once(self) -> None:
        if not self.is_renamed:
            await self.rename()

    async def read(self, way: str) -> CrawlReport | None:
        """Read the old name; returns the report where it is a crawl."""
        if way == "crawl":
            return await self.inventory.crawl()
        rows = [Reread(1, OLD, "", "pull-disagrees", self.clock())]
        await self.inventory.database.write(lambda connection: note_rereads(connection, rows))
        reading = await read_repositories(self.services(), self.target(), await self.due(of_manifests=False))
        assert (reading.problem, reading.postponed_count) == ("", 0)
        return None

    async def reread(self) -> None:
        """Everything that is due, until nothing is."""
        self.clock.moment += timedelta(minutes=5)
        while due := await self.due(of_manifests=False):
            await read_repositories(self.services(), self.target(), due)
        while due := await self.due(of_manifests=True):
            await read_manifests(self.services(), self.target(), due)

    async def due(self, *, of_manifests: bool) -> list[DueReread]:
        now = self.clock()
        return await self.inventory.database.read(lambda one: due_rereads(one, now, of_manifests=of_manifests))

    def services(self) -> Services:
        return Services(self.inventory.database, self.clock, {NAME: self.inventory.connector})

    def target(self) -> RereadTarget:
        return RereadTarget(RegistryTarget(NAME, self.inventory.url), 1, CrawlOptions())

    def waiting(self) -> set[tuple[str, str]]:
        return {(row.repository, row.reason) for row in self.inventory.database.read_now(list_rereads)}

    def names(self) -> dict[str, str]:
        rows = self.inventory.rows(select(repositories.c.name, repositories.c.state))
        return {row["name"]: row["state"] for row in rows}

    def check_nothing_wrong(self, report: CrawlReport | None) -> None:
        """The crawl neither failed nor doubts anything, and the old name is nowhere."""
        assert OLD not in self.names()
        assert self.inventory.rows(select(crawl_problems)) == []
        assert {row["state"] for row in self.inventory.rows(select(crawls))} == {"complete"}
        if report is not None:
            found = report.certificate
            assert (found.doubts, found.problem_count, found.gone_tag_count) == ((), 0, 0)
            assert (found.denied_count, found.failed_count, found.partial_count) == (0, 0, 0)
            assert found.gone_repository_count == 0

    async def becomes_exact(self) -> None:
        """After what was noted has been read, the inventory is the registry."""
        assert NEW in {name for name, _ in self.waiting()}
        await self.reread()
        assert self.waiting() == set()
        assert self.names() == dict.fromkeys(self.content.repositories, "complete")
        rows = self.inventory.rows(
            select(repositories.c.name, tags.c.name.label("tag"), tags.c.state).select_from(tags.join(repositories))
        )
        assert {(row["name"], row["tag"]): row["state"] for row in rows} == {
            (name, tag): "ok" for name, held in self.content.repositories.items() for tag in held.tags
        }
        assert self.inventory.rows(select(crawl_problems)) == []
        assert {row["problem_count"] for row in self.inventory.rows(select(repositories.c.problem_count))} == {0}


@asynccontextmanager
async def opened(address: str = ":memory:", *, tag_count: int = 3) -> AsyncIterator[World]:
    """The old name is there and not read yet; another repository has been."""
    content, clock = Content(), Clock()
    content.repository(OTHER).add(image([layer("other", 10)]), "1")
    async with (
        SampleRegistry(content) as registry,
        open_inventory(registry.url, address, limits=Limits(retries=0), now=clock) as inventory,
    ):
        await inventory.crawl()
        for number in range(tag_count):
            content.repository(OLD).add(image([layer(f"app {number}", 10)]), f"1.{number}")
        clock.moment += timedelta(hours=1)
        yield World(content, registry, inventory, clock)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with opened() as world:
        yield world


def after(real: Callable[..., Awaitable[Any]], act: Callable[[], Awaitable[None]], name: str) -> Callable[..., Any]:
    """A method of the connector, after whose answer about a repository (also a failure) something happens."""

    async def call(self: object, repository: str, *arguments: Any, **named: Any) -> Any:
        try:
            return await real(self, repository, *arguments, **named)
        finally:
            if repository == name:
                await act()

    return call


def act_after(
    monkeypatch: pytest.MonkeyPatch, world: World, method: str, act: Callable[[], Awaitable[None]] | None = None
) -> None:
    kind = type(world.inventory.connector)
    monkeypatch.setattr(kind, method, after(getattr(kind, method), act or world.rename_once, OLD))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("method", ["list_tags", "fetch_manifest"])
async def test_before_there_is_a_row_of_it(
    world: World, monkeypatch: pytest.MonkeyPatch, way: str, method: str
) -> None:
    act_after(monkeypatch, world, method)
    world.check_nothing_wrong(await world.read(way))
    await world.becomes_exact()


@pytest.mark.parametrize("way", WAYS)
async def test_before_it_is_read_at_all(world: World, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """The names are known, nothing has been asked for: the registry does not know the old one any more."""
    real = crawl_flow._read_all

    async def rename_first(*arguments: Any) -> None:
        await world.rename_once()
        await real(*arguments)

    monkeypatch.setattr(crawl_flow, "_read_all", rename_first)
    world.check_nothing_wrong(await world.read(way))
    await world.becomes_exact()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("is_known", [False, True], ids=["new", "known"])
async def test_between_finding_its_row_and_writing_to_it(
    world: World, monkeypatch: pytest.MonkeyPatch, way: str, is_known: bool
) -> None:
    if is_known:
        await world.read("crawl")
        world.content.repository(OLD).add(image([layer("moved", 10)]), "1.0")
    rename_before_writing(world, monkeypatch)
    world.check_nothing_wrong(await world.read(way))
    assert world.is_renamed
    await world.becomes_exact()


def rename_before_writing(world: World, monkeypatch: pytest.MonkeyPatch, survey_count: int = 1) -> None:
    """The rename is applied after what must be written of the old name was worked out."""
    survey, write = publishing._survey, world.inventory.database.write
    surveyed: list[str] = []

    def survey_and_tell(connection: Any, **arguments: Any) -> Any:
        surveyed.append(arguments["reading"].name)
        return survey(connection, **arguments)

    async def rename_then_write(work: Any) -> Any:
        if surveyed.count(OLD) == survey_count and not world.is_renamed:
            world.is_renamed = True
            await world.rename()
        return await write(work)

    monkeypatch.setattr(publishing, "_survey", survey_and_tell)
    monkeypatch.setattr(world.inventory.database, "write", rename_then_write)


@pytest.mark.parametrize("way", WAYS)
async def test_where_the_new_name_was_heard_of_first(world: World, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """Both names have rows then, which are joined while one of them is being written to."""
    await world.read("crawl")
    newer = image([layer("newer", 10)])
    real = world.rename

    async def push_and_rename() -> None:
        world.content.repository(OLD).add(newer, "2.0")
        await note(world.inventory, [pushed(world.inventory, NEW, newer, "2.0")])
        await real()

    monkeypatch.setattr(world, "rename", push_and_rename)
    rename_before_writing(world, monkeypatch)
    world.check_nothing_wrong(await world.read(way))
    await world.becomes_exact()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("status", "is_known"), [(403, False), (403, True), (404, True)])
async def test_what_could_not_be_read_under_the_old_name_is_no_problem(
    monkeypatch: pytest.MonkeyPatch, way: str, is_known: bool, status: int
) -> None:
    async with opened() as world:
        if is_known:
            await world.read("crawl")
        world.registry.behaviour.faults["GET", f"/v2/{OLD}/tags/list"] = [Fault(status)] * 20
        act_after(monkeypatch, world, "list_tags")
        world.check_nothing_wrong(await world.read(way))
        await world.becomes_exact()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("number", [3, 8])
async def test_in_the_middle_of_a_large_repository(monkeypatch: pytest.MonkeyPatch, way: str, number: int) -> None:
    """Some of its tags are noted as read, the others are not there under the old name."""
    monkeypatch.setattr(reading_flow, "CHUNK_TAG_COUNT", 2)
    async with opened(tag_count=10) as world:
        asked: list[int] = []

        async def rename_at() -> None:
            asked.append(1)
            if len(asked) > number:
                await world.rename_once()

        act_after(monkeypatch, world, "fetch_manifest", rename_at)
        world.check_nothing_wrong(await world.read(way))
        await world.becomes_exact()


async def test_with_postgresql_it_is_the_same(monkeypatch: pytest.MonkeyPatch, postgresql_url: str) -> None:
    monkeypatch.setattr(reading_flow, "CHUNK_TAG_COUNT", 2)
    async with opened(postgresql_url, tag_count=10) as world:
        act_after(monkeypatch, world, "fetch_manifest")
        world.check_nothing_wrong(await world.read("crawl"))
        await world.becomes_exact()


@pytest.mark.parametrize("is_told_late", [False, True], ids=["before the end", "after the end"])
async def test_what_was_published_before_the_event_came_is_read_again(
    world: World, monkeypatch: pytest.MonkeyPatch, is_told_late: bool
) -> None:
    """At the registry it was renamed before, so that tags were missing: none of that may stay, or be called gone."""
    await world.read("crawl")
    app = world.content.repositories[OLD]
    world.content.repositories[NEW] = app
    at = world.clock()
    world.clock.moment += timedelta(seconds=1)
    missing = dict(app.tags)
    world.content.repositories[OLD] = type(app)(OLD)
    real = crawl_flow._settle

    async def tell_and_settle(*arguments: Any) -> bool:
        is_first = world.content.repositories.pop(OLD, None) is not None
        if is_first and not is_told_late:
            await tell()
        return await real(*arguments)

    async def tell() -> None:
        later, world.clock.moment = world.clock.moment, at
        await world.tell_of_rename()
        world.clock.moment = later

    monkeypatch.setattr(crawl_flow, "_settle", tell_and_settle)
    report = await world.inventory.crawl(
        repositories=(parse_pattern("glob:team/old/*"), parse_pattern(OTHER)), accept_disappearance=True
    )
    if is_told_late:
        await tell()
    else:
        assert report.certificate.gone_tag_count == 0
        assert [row["kind"] for row in world.inventory.rows(select(drifts))] == []
    assert dict(app.tags) == missing
    await world.becomes_exact()


@pytest.mark.parametrize("is_too_late", [False, True], ids=["while it is read", "before it is asked for"])
async def test_a_single_manifest_whose_config_was_not_there_any_more(
    world: World, monkeypatch: pytest.MonkeyPatch, is_too_late: bool
) -> None:
    newer = image([layer("newer", 10)], image_config(created=BUILT))
    world.content.repository(OLD).add(newer, "2.0")
    await note(world.inventory, [pushed(world.inventory, OLD, newer, "2.0")])
    due = await world.due(of_manifests=True)
    assert [row.repository for row in due] == [OLD]
    if is_too_late:
        await world.rename()
    act_after(monkeypatch, world, "fetch_manifest")
    await read_manifests(world.services(), world.target(), due)
    await world.reread()
    times = select(manifests.c.created_at).where(manifests.c.digest == newer.digest.to_bytes())
    assert world.inventory.rows(times) == [{"created_at": to_micros(BUILT)}]
    assert OLD not in world.names()
    assert world.waiting() == set()
    assert world.inventory.rows(select(crawl_problems)) == []


async def test_what_was_to_be_read_under_the_old_name_is_read_under_the_new_one(world: World) -> None:
    await world.read("crawl")
    newer = image([layer("newer", 10)])
    world.content.repository(OLD).add(newer, "2.0")
    await note(world.inventory, [pushed(world.inventory, OLD, newer, "2.0")])
    rows = [Reread(1, OLD, "", "pull-disagrees", world.clock())]
    await world.inventory.database.write(lambda connection: note_rereads(connection, rows))
    await world.rename()
    assert {name for name, _ in world.waiting()} == {NEW}
    world.registry.forget()
    await world.reread()
    assert not [request for request in world.registry.requests if "/team/old/" in request.path]
    assert world.names() == dict.fromkeys((NEW, OTHER), "complete")


async def test_a_name_that_was_taken_again_is_read_as_well(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    again = image([layer("again", 10)])

    async def rename_and_push() -> None:
        if not world.is_renamed:
            await world.rename()
            world.content.repository(OLD).add(again, "again")
            await note(world.inventory, [pushed(world.inventory, OLD, again, "again")])

    act_after(monkeypatch, world, "list_tags", rename_and_push)
    report = await world.inventory.crawl()
    assert report.state == "complete"
    assert {(OLD, "renamed"), (NEW, "renamed")} <= world.waiting()
    await world.becomes_exact()


async def test_a_rename_of_before_does_not_stop_a_reading(world: World) -> None:
    await world.rename()
    world.content.repository(OLD).add(image([layer("again", 10)]), "again")
    assert (await world.inventory.crawl()).state == "complete"
    assert world.names() == dict.fromkeys((OLD, NEW, OTHER), "complete")
    assert world.waiting() == set()


async def test_blobs_asked_for_under_the_old_name_are_not_missing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = type(world.inventory.connector)
    real = kind.head_blob

    async def rename_first(self: Any, name: str, digest: Any) -> Any:
        await world.rename_once()
        return await real(self, name, digest)

    monkeypatch.setattr(kind, "head_blob", rename_first)
    report = await world.inventory.crawl(verify_blobs=True, concurrency=1)
    assert report.certificate.missing_blob_count == 0
    assert not [row for row in world.inventory.rows(select(repository_blobs)) if row["deleted_at"] is not None]
    await world.becomes_exact()


async def test_one_that_nobody_renamed_and_nobody_knows_is_still_told_of(world: World) -> None:
    report = await world.inventory.crawl(repositories=(parse_pattern("team/none"),))
    assert report.state == "partial"
    assert report.certificate.doubts == ("the registry does not know the repository team/none",)
