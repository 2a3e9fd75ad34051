"""Urgent work: it waits for one ordinary unit at most, shares its transaction with no other, and stops nobody."""

from __future__ import annotations

import asyncio
import threading

import pytest
from sqlalchemy import insert, select
from sqlalchemy.engine import Connection

from regwarden.errors import StoreError
from regwarden.store.database import Database
from regwarden.store.schema import installation


class Recorder:
    """Units of work that write down in which order and in which transaction they ran."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.transactions: dict[str, object] = {}

    def unit(self, name: str):
        def work(connection: Connection) -> str:
            connection.execute(insert(installation).values(name=name, value=""))
            self.ran.append(name)
            self.transactions[name] = connection.get_transaction()
            return name

        return work


class Gate:
    """An ordinary unit that holds the writer until it is opened."""

    def __init__(self) -> None:
        self.has_begun, self._go_on = threading.Event(), threading.Event()

    def __call__(self, _connection: Connection) -> None:
        self.has_begun.set()
        assert self._go_on.wait(10)

    def open(self) -> None:
        self._go_on.set()


async def held(database: Database) -> tuple[Gate, asyncio.Future]:
    gate = Gate()
    running = asyncio.ensure_future(database.write(gate))
    assert await asyncio.to_thread(gate.has_begun.wait, 10)
    return gate, running


async def queue(database: Database, recorder: Recorder, *names: str) -> list[asyncio.Future]:
    """Queue units in this order; those whose name begins with u are urgent."""
    waiting: list[asyncio.Future] = [
        asyncio.ensure_future(database.write(recorder.unit(name), urgent=name.startswith("u"))) for name in names
    ]
    await asyncio.sleep(0.01)
    return waiting


async def test_an_urgent_unit_waits_for_the_running_ordinary_unit_and_no_other(database):
    recorder = Recorder()
    gate, running = await held(database)
    waiting = await queue(database, recorder, "a", "b", "c", "u1")
    gate.open()
    assert await asyncio.gather(*waiting) == ["a", "b", "c", "u1"]
    await running
    assert recorder.ran == ["u1", "a", "b", "c"]


async def test_urgent_units_share_a_transaction_with_each_other_only(database):
    recorder = Recorder()
    gate, running = await held(database)
    waiting = await queue(database, recorder, "a", "u1", "b", "u2")
    gate.open()
    await asyncio.gather(running, *waiting)
    assert recorder.transactions["u1"] is recorder.transactions["u2"]
    # On PostgreSQL each ordinary one has its own, so that rows are locked in one order (decision 3).
    is_shared = recorder.transactions["a"] is recorder.transactions["b"]
    assert is_shared is (database.dialect != "postgresql")
    assert recorder.transactions["a"] is not recorder.transactions["u1"]


async def test_an_urgent_unit_that_comes_during_a_batch_ends_it_and_what_was_done_is_committed(database):
    recorder = Recorder()
    first, running = await held(database)
    second = Gate()
    holding = asyncio.ensure_future(database.write(second))
    rest = await queue(database, recorder, "a", "b")
    first.open()
    assert await asyncio.to_thread(second.has_begun.wait, 10)
    (urgent,) = await queue(database, recorder, "u1")
    second.open()
    await urgent
    assert running.done()
    assert holding.done()
    await asyncio.gather(*rest)
    assert recorder.ran == ["u1", "a", "b"]


async def test_a_stream_of_urgent_units_does_not_stop_ordinary_ones(database):
    recorder = Recorder()
    goes_on = True

    async def stream(number: int) -> None:
        count = 0
        while goes_on:
            await database.write(recorder.unit(f"u{number}-{count}"), urgent=True)
            count += 1

    senders = [asyncio.ensure_future(stream(number)) for number in range(8)]
    await asyncio.sleep(0.05)
    for number in range(20):
        await asyncio.wait_for(database.write(recorder.unit(f"ordinary {number}")), 5)
    goes_on = False
    await asyncio.gather(*senders)
    kept = await database.read(lambda connection: set(connection.execute(select(installation.c.name)).scalars()))
    assert kept == set(recorder.ran)


async def test_a_unit_that_is_repeated_lets_urgent_ones_pass(postgresql_url, opened):
    database = opened(postgresql_url)
    recorder = Recorder()
    seen: list[int] = []

    def lose_connection_once(connection):
        seen.append(len(seen))
        if len(seen) < 3:
            connection.exec_driver_sql("DO $$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = '40001'; END $$")
        return recorder.unit("repeated")(connection)

    repeated = asyncio.ensure_future(database.write(lose_connection_once))
    while not seen:
        await asyncio.sleep(0.001)
    for number in range(5):
        await database.write(recorder.unit(f"u{number}"), urgent=True)
    assert await repeated == "repeated"
    assert recorder.ran.index("u0") < recorder.ran.index("repeated")


async def test_urgent_units_queued_before_closing_are_done_and_later_ones_refused(database):
    recorder = Recorder()
    gate, running = await held(database)
    waiting = await queue(database, recorder, "a", "u1", "u2")
    closing = asyncio.create_task(asyncio.to_thread(database.close))
    await asyncio.sleep(0.02)
    gate.open()
    await closing
    await asyncio.gather(running, *waiting)
    assert recorder.ran == ["u1", "u2", "a"]
    with pytest.raises(StoreError):
        await database.write(recorder.unit("u3"), urgent=True)
