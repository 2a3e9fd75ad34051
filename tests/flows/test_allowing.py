"""The list in memory: as the database says within seconds, whole after every change, and there without a database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from regwarden.core.allowlist import TAG_MOVES, Outcome, Rules, TagMode
from regwarden.errors import InputError, NotReady, StoreError
from regwarden.flows import allow_snapshot, allowing
from regwarden.flows.allow_questions import AllowOptions, Place, ask_once
from regwarden.flows.allowing import AllowList
from regwarden.flows.decision_log import DecisionLog
from regwarden.store import schema
from regwarden.store.allow import remove_entry
from regwarden.store.database import Access, Database, open_database
from regwarden.store.decisions import Decided, DecisionFilter, StoredDecision, delete_old_decisions, list_decisions
from regwarden.store.times import to_micros
from tests.allowing import DAY, NOW, add, insert_children, insert_inventory, insert_manifest, named

M = [named("manifest", number) for number in range(10)]
C = [named("config", number) for number in range(10)]
HOSTS = {"prod": ("reg.example.com", "old.example.com")}
APP = "reg.example.com/team/app"


@dataclass
class World:
    """A list in memory, its database, and a clock that a test moves."""

    database: Database
    options: AllowOptions = field(default_factory=AllowOptions)
    seconds: float = 0.0
    is_down: bool = False
    allow: AllowList = field(init=False)

    def __post_init__(self) -> None:
        database: Any = self  # one that can be lost
        self.allow = AllowList(database, self.options, HOSTS, now=lambda: NOW, monotonic=lambda: self.seconds)

    async def read(self, work: Callable[[Any], Any]) -> Any:
        if self.is_down:
            raise StoreError("it is gone")
        return await self.database.read(work)

    async def write(self, work: Callable[[Any], Any]) -> Any:
        if self.is_down:
            raise StoreError("it is gone")
        return await self.database.write(work)

    def outcome(self, image: str, **place: Any) -> str:
        return str(self.allow.check(image, **place).outcome)

    async def once(self, image: str) -> str:
        now: datetime = NOW
        asked = await self.database.read(lambda found: ask_once(found, image, Place(), self.options, now))
        return str(asked.outcome)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    with open_database(f"sqlite:///{tmp_path / 'file'}", access=Access.WRITE, create=True) as database:
        database.write_now(insert_inventory)
        found = World(database)
        await found.allow.open()
        await found.allow.refresh()
        yield found


@asynccontextmanager
async def watched(world: World) -> AsyncIterator[None]:
    """Its list keeps up with the database."""
    watching = asyncio.create_task(world.allow.watch())
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


def is_allowed(world: World, image: str) -> bool:
    return world.outcome(image) == "allow"


async def until(condition: Callable[[], bool]) -> None:
    """Wait until it is true, two seconds at most."""
    async with asyncio.timeout(2):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_change_is_known_after_a_refresh(world: World) -> None:
    assert world.outcome(M[6]) == "deny"
    number = add(world.database, M[6])
    assert world.outcome(M[6]) == "deny"
    await world.allow.refresh()
    assert (world.outcome(M[6]), world.outcome(C[6]), len(world.allow)) == ("allow", "allow", 1)
    add(world.database, C[6], effect="deny")
    await world.allow.refresh()
    assert world.outcome(M[6]) == "deny"
    world.database.write_now(lambda connection: remove_entry(connection, number + 1, "ann", NOW))
    await world.allow.refresh()
    assert world.outcome(M[6]) == "allow"


async def test_watching_finds_changes_of_others_and_is_woken(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allowing, "_LOOK_SECONDS", 0.05)
    async with watched(world):
        for wakes in (False, True):
            image = M[7] if wakes else M[6]
            if wakes:
                monkeypatch.setattr(allowing, "_LOOK_SECONDS", 60)
                await asyncio.sleep(0.1)
            add(world.database, image)
            if wakes:
                world.allow.wake()
            await until(partial(is_allowed, world, image))


async def test_an_allowed_index_allows_what_it_lists_and_not_the_other_way(world: World) -> None:
    add(world.database, M[3])
    await world.allow.refresh()
    for image, wanted in ((M[3], "allow"), (M[4], "allow"), (C[5], "allow"), (M[1], "deny"), (M[2], "deny")):
        assert (world.outcome(image), await world.once(image)) == (wanted, wanted), image


async def test_a_denied_part_denies_the_whole(world: World) -> None:
    add(world.database, M[1])
    add(world.database, C[4], effect="deny")
    await world.allow.refresh()
    for image, wanted in ((M[1], "deny"), (M[3], "deny"), (M[4], "deny"), (M[5], "allow"), (M[2], "allow")):
        assert (world.outcome(image), await world.once(image)) == (wanted, wanted), image


async def test_what_comes_into_the_inventory_later_belongs_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    add(world.database, M[8])
    await world.allow.refresh()
    assert world.outcome(M[9]) == "deny"
    monkeypatch.setattr("tests.allowing.CHILDREN", {8: (9,)})

    def come(connection: Any) -> None:
        insert_manifest(connection, 8, state="unread")
        insert_manifest(connection, 9)

    world.database.write_now(come)
    await world.allow.refresh()
    assert world.outcome(M[9]) == "deny"

    def read(connection: Any) -> None:
        insert_children(connection, 8)
        connection.execute(update(schema.manifests).where(schema.manifests.c.id == 8).values(state="read"))

    world.database.write_now(read)
    world.seconds += 60
    await world.allow.refresh()
    assert (world.outcome(M[9]), world.outcome(C[9])) == ("allow", "allow")


async def test_a_tag_is_answered_by_what_it_points_to(world: World) -> None:
    add(world.database, M[1])
    await world.allow.refresh()
    assert world.allow.check(f"{APP}:1.0").reason == "tag-unresolved"
    for host in ("reg.example.com", "OLD.example.com:443"):
        answer = await world.allow.answer(f"{host}/team/app:1.0")
        assert (answer.outcome, answer.digest, answer.warnings) == (Outcome.ALLOW, M[1], (TAG_MOVES,))
    reasons = [(await world.allow.answer(f"{APP}:{tag}")).reason for tag in ("six", "none")]
    assert reasons == ["not-listed", "tag-unknown"]
    assert [await world.once(f"{APP}:{tag}") for tag in ("1.0", "six", "none")] == ["allow", "deny", "unknown"]


async def test_a_tag_that_moved_is_not_trusted_for_a_while(world: World) -> None:
    add(world.database, M[7])
    settled = World(world.database, AllowOptions(settled_after=timedelta(hours=2)))
    await settled.allow.open()
    await settled.allow.refresh()
    assert (await settled.allow.answer(f"{APP}:moved")).reason == "tag-moved"
    move = update(schema.tags).where(schema.tags.c.name == "moved").values(tagged_at=to_micros(NOW - DAY))
    world.database.write_now(lambda connection: connection.execute(move).rowcount)
    assert (await settled.allow.answer(f"{APP}:moved")).outcome is Outcome.ALLOW


async def test_without_a_database_the_last_state_answers_for_a_while(world: World) -> None:
    add(world.database, M[6])
    await world.allow.refresh()
    world.is_down = True
    with pytest.raises(StoreError):
        await world.allow.refresh()
    answer = world.allow.check(M[6])
    assert (answer.outcome, answer.is_stale) == (Outcome.ALLOW, True)
    tagged = await world.allow.answer(f"{APP}:1.0")
    assert (tagged.outcome, tagged.reason, tagged.is_stale) == (Outcome.UNKNOWN, "tag-unresolved", True)
    world.seconds += 3601
    assert world.allow.check(M[6])[:2] == (Outcome.UNKNOWN, "stale")
    world.is_down = False
    await world.allow.refresh()
    assert world.allow.check(M[6])[:2] == (Outcome.ALLOW, "allowed")
    assert not world.allow.is_stale
    world.seconds += 6  # a database that answers nothing at all
    assert world.allow.is_stale


async def test_before_it_is_loaded_nothing_is_answered(world: World) -> None:
    add(world.database, M[6])
    fresh = World(world.database, AllowOptions(rules=Rules(Outcome.ALLOW, TagMode.ANY)))
    with pytest.raises(NotReady):
        fresh.allow.check(M[6])
    with pytest.raises(NotReady):
        await fresh.allow.answer(f"{APP}:1.0")
    assert not fresh.allow.is_loaded


async def test_watching_loads_the_list_as_soon_as_the_database_is_there(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(allowing, "_LOOK_SECONDS", 0.02)
    add(world.database, M[6])
    fresh = World(world.database, is_down=True)
    async with watched(fresh):
        await asyncio.sleep(0.1)
        assert not fresh.allow.is_loaded
        fresh.is_down = False
        await until(lambda: fresh.allow.is_loaded)
        assert fresh.outcome(M[6]) == "allow"


async def test_loading_ends_when_nobody_wants_it_any_more(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allow_snapshot, "_BATCH", 1)
    monkeypatch.setattr(allow_snapshot, "_PAUSE_SECONDS", 60)
    add(world.database, M[6])
    fresh = World(world.database)
    async with watched(fresh):
        await asyncio.sleep(0.1)
    # Closing waits for what is being read.
    async with asyncio.timeout(10):
        await asyncio.to_thread(world.database.close)
    assert not fresh.allow.is_loaded


async def test_changes_are_known_while_everything_is_loaded_anew(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    add(world.database, M[6])
    await world.allow.refresh()
    monkeypatch.setattr(allow_snapshot, "_BATCH", 1)
    monkeypatch.setattr(allow_snapshot, "_PAUSE_SECONDS", 0.5)
    loading = asyncio.create_task(world.allow.reload())
    await asyncio.sleep(0.1)
    add(world.database, M[6], effect="deny")
    await world.allow.refresh()
    assert (world.outcome(M[6]), loading.done()) == ("deny", False)
    await loading
    assert (world.outcome(M[6]), world.allow.is_stale) == ("deny", False)


async def test_a_grown_inventory_is_loaded_anew(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allowing, "_LOOK_SECONDS", 0.02)
    monkeypatch.setattr(allow_snapshot, "_MOST_NEW", 1)
    add(world.database, M[8])
    async with watched(world):
        await until(lambda: world.outcome(M[8]) == "allow")

        def come(connection: Any) -> None:
            insert_manifest(connection, 8)
            insert_manifest(connection, 9)

        world.database.write_now(come)
        await until(lambda: world.outcome(C[8]) == "allow")


async def test_many_changes_are_taken_in_together(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allow_snapshot, "_SLICE", 3)
    for number in range(10):
        add(world.database, named("many", number), effect="deny" if number % 2 else "allow")
    await world.allow.refresh()
    assert [world.outcome(named("many", number)) for number in (0, 1, 9)] == ["allow", "deny", "deny"]


async def test_settings_decide_and_bad_names_are_refused(world: World) -> None:
    lenient = World(world.database, AllowOptions(rules=Rules(Outcome.ALLOW, TagMode.ANY)))
    await lenient.allow.open()
    await lenient.allow.refresh()
    assert lenient.outcome("anything:1") == "allow"
    with pytest.raises(InputError, match="image"):
        world.allow.check("a\x00b")


ANSWER = Decided("ci", "api", "app:1", M[1], "prod", "", "allow", "allowed", (1,))


def kept(database: Database) -> list[StoredDecision]:
    return database.read_now(lambda connection: list_decisions(connection, DecisionFilter()))


async def test_equal_answers_within_a_minute_are_one_row(world: World) -> None:
    moments = iter([NOW + timedelta(seconds=at) for at in (0, 1, 1, 2, 2, 70, 70)])
    log = DecisionLog(world.database, lambda: next(moments))
    log.note(ANSWER)
    log.note(ANSWER)
    await log.flush()
    log.note(ANSWER)
    await log.flush()
    log.note(ANSWER)
    await log.flush()
    await log.flush()
    newer, older = kept(world.database)
    assert (older.count, older.at, older.last_at) == (3, NOW, NOW + timedelta(seconds=2))
    assert (newer.count, newer.principal, newer.digest, newer.cluster) == (1, "ci", M[1], "prod")
    assert (newer.outcome, newer.entry_ids) == ("allow", (1,))
    cut = to_micros(NOW + timedelta(seconds=60))
    assert world.database.write_now(lambda connection: delete_old_decisions(connection, before=cut, limit=9)) == 1
    assert [one.id for one in kept(world.database)] == [newer.id]


async def test_answers_wait_for_the_database_and_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regwarden.flows.decision_log._MOST_WAITING", 2)
    database: Any = world  # one that can be lost
    log = DecisionLog(database, lambda: NOW)
    world.is_down = True
    for number in range(4):
        log.note(ANSWER._replace(image=f"app:{number}"))
    with pytest.raises(StoreError):
        await log.flush()
    log.note(ANSWER._replace(image="app:0"))
    world.is_down = False
    running = asyncio.create_task(log.run())
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert sorted((one.image, one.count) for one in kept(world.database)) == [("app:0", 2), ("app:1", 1)]
