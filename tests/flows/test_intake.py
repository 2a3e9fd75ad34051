"""Deliveries on their way to the disk: nobody is answered before the commit, nobody waits for company."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import select

from regwarden.errors import StoreError
from regwarden.flows import intake as intake_module
from regwarden.flows.intake import Intake
from regwarden.store.database import Access, Database, open_database
from regwarden.store.deliveries import NewDelivery
from regwarden.store.event_schema import deliveries

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def delivery(body: bytes) -> NewDelivery:
    return NewDelivery("prod", NOW, "", body, len(body))


@pytest.fixture
def database(tmp_path: Path):
    with open_database(f"sqlite:///{tmp_path / 'x.sqlite3'}", access=Access.WRITE, create=True) as database:
        yield database


def kept(database: Database) -> list[bytes]:
    return database.read_now(
        lambda connection: list(connection.execute(select(deliveries.c.body).order_by(deliveries.c.id)).scalars())
    )


async def test_a_database_that_hangs_is_not_waited_for_for_ever(database, monkeypatch):
    monkeypatch.setattr(intake_module, "LONGEST_WAIT_SECONDS", 0.05)
    gate = Gate()
    blocking = asyncio.create_task(database.write(gate))
    await asyncio.to_thread(gate.has_begun.wait, 10)
    intake = Intake(database)
    with pytest.raises(StoreError) as caught:
        await intake.store(delivery(b"1"))
    assert caught.value.code == "intake-slow"
    gate.open()
    await blocking
    # How long a healthy database takes on a busy machine is not what this asks.
    monkeypatch.undo()
    await intake.store(delivery(b"2"))
    assert kept(database) == [b"1", b"2"]


class Gate:
    """Work that holds the writer until it is opened."""

    def __init__(self) -> None:
        self.has_begun, self._go_on = threading.Event(), threading.Event()

    def __call__(self, _connection: object) -> None:
        self.has_begun.set()
        assert self._go_on.wait(10)

    def open(self) -> None:
        self._go_on.set()


async def hold(database: Database) -> tuple[Gate, asyncio.Future]:
    gate = Gate()
    running = asyncio.ensure_future(database.write(gate))
    assert await asyncio.to_thread(gate.has_begun.wait, 10)
    return gate, running


async def test_a_delivery_is_on_the_disk_when_its_sender_is_answered(database):
    intake = Intake(database)
    for number in range(20):
        await intake.store(delivery(b"%d" % number))
        assert kept(database)[-1] == b"%d" % number


async def test_what_comes_during_a_commit_shares_the_next_one_and_is_told_after_it(database):
    stored = []
    intake = Intake(database, lambda: stored.append(len(kept(database))))
    gate, running = await hold(database)
    first = asyncio.ensure_future(intake.store(delivery(b"first")))
    await asyncio.sleep(0.01)
    others = [asyncio.ensure_future(intake.store(delivery(b"%d" % number))) for number in range(100)]
    await asyncio.sleep(0.01)
    assert not first.done()
    gate.open()
    await asyncio.gather(running, first, *others)
    assert stored == [1, 101]
    assert kept(database) == [b"first", *[b"%d" % number for number in range(100)]]


async def test_too_many_waiting_are_refused_and_those_that_wait_are_kept(database, monkeypatch):
    monkeypatch.setattr(intake_module, "MAX_WAITING_COUNT", 3)
    monkeypatch.setattr(intake_module, "MAX_WAITING_BYTES", 1000)
    intake = Intake(database)
    gate, running = await hold(database)
    waiting = [asyncio.ensure_future(intake.store(delivery(b"1"))) for _ in range(4)]
    await asyncio.sleep(0.01)
    with pytest.raises(StoreError) as caught:
        await intake.store(delivery(b"2"))
    assert caught.value.code == "intake-full"
    gate.open()
    await asyncio.gather(running, *waiting)
    await intake.store(delivery(b"3"))
    assert kept(database) == [b"1"] * 4 + [b"3"]
    with pytest.raises(StoreError):
        await intake.store(delivery(b"x" * 1001))


async def test_a_failing_database_is_told_to_every_sender_and_tried_again(database):
    intake = Intake(database)

    def limit(pages: int):
        return lambda connection: connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

    await database.write(limit(1))
    results = await asyncio.gather(*[intake.store(delivery(b"x" * 100_000)) for _ in range(5)], return_exceptions=True)
    assert all(isinstance(result, StoreError) for result in results)
    await database.write(limit(1_000_000))
    await intake.store(delivery(b"later"))
    assert kept(database) == [b"later"]


async def test_a_sender_that_goes_away_does_not_take_its_delivery_back(database):
    intake = Intake(database)
    gate, running = await hold(database)
    gone = asyncio.ensure_future(intake.store(delivery(b"gone")))
    waits = asyncio.ensure_future(intake.store(delivery(b"waits")))
    await asyncio.sleep(0.01)
    gone.cancel()
    gate.open()
    await asyncio.gather(running, waits)
    await intake.drain()
    assert kept(database) == [b"gone", b"waits"]


async def test_a_closed_database_is_no_commit(database):
    intake = Intake(database)
    database.close()
    with pytest.raises(StoreError):
        await intake.store(delivery(b"x"))


async def test_draining_waits_for_everything(database):
    intake = Intake(database)
    senders = [asyncio.ensure_future(intake.store(delivery(b"x"))) for _ in range(50)]
    await asyncio.sleep(0)
    await intake.drain()
    assert len(kept(database)) == 50
    await asyncio.gather(*senders)
