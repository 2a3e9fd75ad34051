"""Reading and writing: snapshots, shared transactions, failures, and who may write."""

from __future__ import annotations

import asyncio
import threading
from typing import Self

import pytest
from sqlalchemy import func, insert, select, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError, IntegrityError

from regwarden.errors import Conflict, InputError, NotFound, StoreError
from regwarden.store.database import Access, Database
from regwarden.store.schema import installation


def put(name: str):
    def work(connection: Connection) -> str:
        connection.execute(insert(installation).values(name=name, value=""))
        return name

    return work


def names(connection: Connection) -> list[str]:
    return list(connection.execute(select(installation.c.name).order_by(installation.c.name)).scalars())


def fail(connection: Connection) -> None:
    put("of the failing one")(connection)
    raise NotFound("on purpose")


class Held:
    """Keeps the writer busy in its thread until released, so that more work piles up behind it."""

    def __init__(self, database: Database) -> None:
        self._go_on = threading.Event()
        self._has_begun = threading.Event()
        self._thread = threading.Thread(target=database.write_now, args=(self._wait,))

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._has_begun.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._go_on.set()
        self._thread.join()

    def _wait(self, connection: Connection) -> None:
        self._has_begun.set()
        assert self._go_on.wait(10)


@pytest.fixture(params=["sqlite", "postgresql", "memory"])
def database(request: pytest.FixtureRequest, tmp_path, opened) -> Database:
    if request.param == "postgresql":
        return opened(request.getfixturevalue("postgresql_url"))
    return opened(":memory:" if request.param == "memory" else f"sqlite:///{tmp_path / 'inventory.sqlite3'}")


async def test_what_is_written_is_read(database):
    assert await database.write(put("a")) == "a"
    assert await database.read(names) == ["a"]


def test_synchronous_callers_read_and_write_too(database):
    assert database.write_now(put("a")) == "a"
    assert database.read_now(names) == ["a"]


async def test_a_failing_write_keeps_nothing_and_its_caller_gets_the_exception(database):
    with pytest.raises(NotFound, match="on purpose"):
        await database.write(fail)
    assert await database.read(names) == []


async def test_a_failing_write_does_not_touch_those_that_share_its_transaction(database):
    numbers = []

    def numbered(name):
        def work(connection):
            numbers.append(id(connection.get_transaction()))
            return put(name)(connection)

        return work

    with Held(database):
        waiting = [asyncio.ensure_future(database.write(work)) for work in (numbered("a"), fail, numbered("b"))]
        waiting.append(asyncio.ensure_future(database.write(put("a"))))
        await asyncio.sleep(0.05)
    results = await asyncio.gather(*waiting, return_exceptions=True)

    assert [results[0], results[2]] == ["a", "b"]
    assert isinstance(results[1], NotFound)
    assert isinstance(results[3], DBAPIError)
    assert await database.read(names) == ["a", "b"]
    # On PostgreSQL each has its own (test_row_locks).
    assert database.dialect == "postgresql" or len(set(numbers)) == 1


async def test_nobody_is_answered_before_the_commit(database_url, opened):
    database = opened(database_url)
    seen = []

    def look(connection):
        seen.append(first.done())
        seen.append(database.read_now(names))

    with Held(database):
        first = asyncio.ensure_future(database.write(put("a")))
        second = asyncio.ensure_future(database.write(look))
        await asyncio.sleep(0.05)
    await asyncio.gather(first, second)
    was_answered, found = seen
    assert found == ["a"] or not was_answered
    # There both share a transaction.
    assert database.dialect == "postgresql" or seen == [False, []]
    assert await database.read(names) == ["a"]


async def test_a_cancelled_write_that_has_not_begun_never_runs(database):
    with Held(database):
        cancelled = asyncio.ensure_future(database.write(put("cancelled")))
        kept = asyncio.ensure_future(database.write(put("kept")))
        await asyncio.sleep(0.05)
        cancelled.cancel()
        await asyncio.sleep(0)
    assert await kept == "kept"
    assert await database.read(names) == ["kept"]


async def test_a_cancelled_write_that_has_begun_is_committed_whole(database):
    has_begun, go_on = threading.Event(), threading.Event()

    def work(connection):
        put("a")(connection)
        has_begun.set()
        assert go_on.wait(10)
        put("b")(connection)

    task = asyncio.ensure_future(database.write(work))
    assert await asyncio.to_thread(has_begun.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go_on.set()
    await database.write(put("c"))
    assert await database.read(names) == ["a", "b", "c"]


async def test_many_writers_at_once_lose_nothing(database):
    count = 300
    await asyncio.gather(*(database.write(put(f"{number:03}")) for number in range(count)))
    assert await database.read(names) == [f"{number:03}" for number in range(count)]


async def test_a_read_sees_one_moment(database_url, opened):
    database = opened(database_url)
    await database.write(put("before"))

    def read_twice(connection):
        first = names(connection)
        database.write_now(put("meanwhile"))
        return first, names(connection)

    assert await database.read(read_twice) == (["before"], ["before"])
    assert await database.read(names) == ["before", "meanwhile"]


async def test_a_read_cannot_write(database):
    with pytest.raises((StoreError, DBAPIError), match=r"(?i)read-?only|cannot be written"):
        await database.read(put("a"))
    assert await database.write(names) == []


async def test_reads_go_on_during_a_write(database_url, opened):
    database = opened(database_url)
    with Held(database):
        assert await asyncio.wait_for(database.read(names), 5) == []


def test_work_that_writes_through_the_database_again_is_refused_instead_of_waiting_for_itself(database):
    with pytest.raises(RuntimeError, match="connection it was given"):
        database.write_now(lambda connection: database.write_now(put("a")))


def test_work_queued_before_closing_is_done(database, opened, tmp_path):
    results = []
    threads = [
        threading.Thread(target=lambda number=number: results.append(database.write_now(put(str(number)))))
        for number in range(5)
    ]
    with Held(database):
        for thread in threads:
            thread.start()
        for _ in range(500):
            if database._writer is not None and database._writer._queue.qsize() == len(threads):
                break
            threading.Event().wait(0.01)
        closing = threading.Thread(target=database.close)
        closing.start()
    closing.join()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["0", "1", "2", "3", "4"]


async def test_a_closed_database_says_so(database):
    database.close()
    database.close()
    for use in (database.read(names), database.write(names)):
        with pytest.raises(StoreError) as caught:
            await use
        assert caught.value.code == "database-closed"


def test_a_name_is_held_by_one_at_a_time(database):
    with database.exclusive("registry one"), database.exclusive("registry two"):
        with pytest.raises(Conflict) as caught, database.exclusive("registry one"):
            pass
        assert "registry one" in str(caught.value)
        assert caught.value.hint
    with database.exclusive("registry one"):
        pass


def test_a_name_is_free_again_after_an_exception(database):
    with pytest.raises(NotFound), database.exclusive("registry"):
        raise NotFound("on purpose")
    with database.exclusive("registry"):
        pass


async def test_reading_needs_no_right_to_write(database_url, opened):
    opened(database_url).write_now(put("a"))
    reader = opened(database_url, access=Access.READ)
    assert await reader.read(names) == ["a"]
    for use in (lambda: reader.write_now(names), lambda: reader.exclusive("x").__enter__()):
        with pytest.raises(StoreError) as caught:
            use()
        assert caught.value.code == "database-read-only"


async def test_a_reader_beside_the_writer_sees_each_commit(database_url, opened):
    writer = opened(database_url)
    reader = opened(database_url, access=Access.READ)
    for name in ("a", "b"):
        await writer.write(put(name))
        assert (await reader.read(names))[-1] == name


def test_what_was_written_is_there_after_reopening(database_url, opened):
    first = opened(database_url)
    first.write_now(put("a"))
    first.close()
    assert opened(database_url, create=False).read_now(names) == ["a"]


@pytest.mark.parametrize("access", Access)
def test_a_place_without_an_inventory_names_the_next_step(database_url, opened, access):
    with pytest.raises(StoreError) as caught:
        opened(database_url, access=access, create=False)
    assert caught.value.code == "no-inventory"
    assert str(caught.value).startswith("there is no inventory at ")
    assert caught.value.hint == "Run: regwarden crawl https://registry.example.com"


def test_what_is_shown_of_a_database_has_no_password(postgresql_server, postgresql_url, opened):
    database = opened(postgresql_url)
    assert database.url == postgresql_url
    assert postgresql_server.password not in f"{database!r}{database.display_url}{database}"


async def test_work_that_met_a_deadlock_is_repeated(postgresql_url, opened):
    writers = [opened(postgresql_url), opened(postgresql_url)]
    for name in ("a", "b"):
        writers[0].write_now(put(name))
    both_locked = threading.Barrier(2, timeout=10)
    attempts = []

    def change(order):
        def work(connection):
            attempts.append(order)
            is_first = attempts.count(order) == 1
            for place, name in enumerate(order):
                connection.execute(installation.update().where(installation.c.name == name).values(value=order))
                if place == 0 and is_first:
                    both_locked.wait()

        return work

    await asyncio.gather(writers[0].write(change("ab")), writers[1].write(change("ba")))
    assert len(attempts) == 3
    values = writers[0].read_now(lambda connection: connection.execute(select(installation.c.value)).scalars().all())
    assert len(set(values)) == 1


async def test_a_lost_connection_fails_its_own_work_and_repeats_that_of_others(postgresql_url, opened):
    database = opened(postgresql_url)

    def end_own_connection(connection):
        connection.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")

    with Held(database):
        waiting = [asyncio.ensure_future(database.write(work)) for work in (put("a"), end_own_connection, put("b"))]
        await asyncio.sleep(0.05)
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [results[0], results[2]] == ["a", "b"]
    assert isinstance(results[1], StoreError)
    assert await database.read(names) == ["a", "b"]


async def test_a_full_disk_fails_and_the_writer_lives_on(tmp_path, opened):
    database = opened(f"sqlite:///{tmp_path / 'inventory.sqlite3'}")
    database.write_now(put("a"))

    def limit(connection, pages):
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

    def fill(connection):
        connection.execute(insert(installation).values(name="big", value="x" * 10_000_000))

    database.write_now(lambda connection: limit(connection, 1))
    with Held(database):
        waiting = [asyncio.ensure_future(database.write(work)) for work in (put("b"), fill, put("c"))]
        await asyncio.sleep(0.05)
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [results[0], results[2]] == ["b", "c"]
    assert isinstance(results[1], StoreError)
    assert results[1].code == "disk-full"
    assert (
        await database.read(lambda connection: connection.scalar(select(func.count()).select_from(installation))) == 3
    )


def test_a_text_that_cannot_be_kept_is_the_mistake_of_who_gave_it_and_is_not_repeated(postgresql_url, opened):
    database = opened(postgresql_url)
    asked = text("SELECT id FROM tokens WHERE name = :name")
    with pytest.raises(InputError) as raised:
        database.read_now(lambda connection: connection.execute(asked, {"name": "secret\0"}).all())
    assert raised.value.code == "bad-text"
    assert "secret" not in f"{raised.value} {raised.value.__cause__}"


def test_errors_of_the_database_do_not_repeat_what_was_to_be_kept(database):
    asked = text("INSERT INTO signing_keys (kid, interface) VALUES (:kid, :interface)")
    with pytest.raises(IntegrityError) as raised:
        database.write_now(lambda connection: connection.execute(asked, {"kid": "secret", "interface": "x"}))
    assert "[SQL parameters hidden" in str(raised.value)
