"""What is stored is applied, whatever its neighbours are and whatever goes wrong meanwhile."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import select

from regwarden.errors import StoreError
from regwarden.flows import ingest
from regwarden.flows.ingest import Applier
from regwarden.store import applying, folded
from regwarden.store.database import Access, Database, open_database
from regwarden.store.deliveries import count_deliveries, list_quarantine
from regwarden.store.event_schema import events
from tests.notifications import FOLDING, RECEIVED, envelope, push, store_bodies, tags_of


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path):
    is_file = request.param == "sqlite"
    url = f"sqlite:///{tmp_path / 'inventory.sqlite3'}" if is_file else request.getfixturevalue("postgresql_url")
    with open_database(url, access=Access.WRITE, create=True) as database:
        yield database


def applier(database: Database) -> Applier:
    return Applier(database, lambda: RECEIVED, FOLDING)


@contextmanager
def running(one: Applier):
    task = asyncio.create_task(one.run())
    try:
        yield
    finally:
        task.cancel()


async def until(database: Database, count: int = 0) -> None:
    async with asyncio.timeout(20):
        while (await database.read(count_deliveries)).pending_count > count:
            await asyncio.sleep(0.01)


@pytest.fixture
def poisoned(monkeypatch):
    """What nobody thought of: events of one repository cannot be written."""

    def failing(connection, place, changes, now):
        outcome = folded.apply_changes(connection, place, changes, now)
        if "poison" in changes.repositories:
            raise ZeroDivisionError("nobody thought of this")
        return outcome

    monkeypatch.setattr(applying, "apply_changes", failing)


async def test_a_delivery_that_cannot_be_applied_is_set_aside_and_its_neighbours_are_not(database, poisoned):
    names = ["before", "poison", "after", "poison", "last"]
    store_bodies(database, [envelope(push(name, "v1", number, 1)) for number, name in enumerate(names)])
    assert await applier(database).drain() == 3
    assert {repository for repository, _ in tags_of(database)} == {"before", "after", "last"}
    aside = database.read_now(lambda connection: list_quarantine(connection, limit=10))
    assert [one.reason for one in aside] == ["it cannot be applied: ZeroDivisionError: nobody thought of this"] * 2
    kept = database.read_now(lambda connection: connection.execute(select(events.c.repository)).scalars().all())
    assert sorted(kept) == ["after", "before", "last"]


async def test_a_database_that_fails_sets_nothing_aside(database, monkeypatch):
    store_bodies(database, [envelope(push("team", "v1", 1, 1))])
    failures = [StoreError("the disk is full"), StoreError("the disk is full")]
    mark = applying._mark

    def failing(*arguments):
        if failures:
            raise failures.pop()
        mark(*arguments)

    monkeypatch.setattr(applying, "_mark", failing)
    with running(applier(database)):
        await until(database)
    assert tags_of(database) == {("team", "v1"): 1}


async def test_large_deliveries_do_not_wait_for_others_to_come(database, monkeypatch):
    monkeypatch.setattr(applying, "MAX_BATCH_BYTES", 1)
    monkeypatch.setattr(ingest, "_LOOK_AGAIN_SECONDS", 1000.0)
    store_bodies(database, [envelope(push("team", f"v{number}", number, 1)) for number in range(5)])
    with running(applier(database)):
        await until(database)
    assert len(tags_of(database)) == 5
