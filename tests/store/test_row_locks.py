"""On PostgreSQL processes do not wait for each other: all lock in one order, and what is given up is repeated."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any, Final

import numpy as np
import psycopg
import pytest
from sqlalchemy import Table, select
from sqlalchemy.engine import Connection

from regwarden.core.oci.digests import Digest
from regwarden.errors import StoreError
from regwarden.store import migrations, schema
from regwarden.store.bulk import Join, bulk_join, bulk_upsert
from regwarden.store.crawls import BegunCrawl
from regwarden.store.database import Access, Database, open_database
from regwarden.store.figures import FigureRows, write_rows
from regwarden.store.inventory import Naming
from regwarden.store.project_rules import mark_tags
from regwarden.store.repeating import MOST_ATTEMPTS
from regwarden.store.row_locks import lock_repositories
from regwarden.store.schema import installation, manifests, repositories
from regwarden.store.settling import settle_vanished
from regwarden.store.single_manifests import SingleReading, publish_manifests
from tests.fixtures.postgresql import PostgresqlServer
from tests.notifications import START, digest_of, push, take_in

GIVEN_UP: Final = "DO $$ BEGIN RAISE EXCEPTION 'given up' USING ERRCODE = '40P01'; END $$"
WAIT_SECONDS: Final = 20.0
# In the order of their names, which is not that of their ids.
NAMES: Final = ("team/a", "team/b", "team/c")
CRAWL: Final = 7


@pytest.fixture(scope="module")
def prepared(postgresql_server: PostgresqlServer) -> str:
    """A database with three repositories, each with a tag that points to a manifest of its own; to be copied."""
    name = postgresql_server.create_database()
    with open_database(postgresql_server.url(name), access=Access.WRITE, create=True) as database:
        for number, name_of_repository in enumerate(reversed(NAMES), 1):
            take_in(database, push(name_of_repository, "1.0", number, number))
    return name


@pytest.fixture
def writer(postgresql_server: PostgresqlServer, prepared: str) -> Iterator[Database]:
    name = postgresql_server.create_database(template=prepared)
    with open_database(postgresql_server.url(name), access=Access.WRITE) as database:
        yield database
    postgresql_server.drop_database(name)


@contextmanager
def another(url: str) -> Iterator[psycopg.Connection[Any]]:
    """Another process in the middle of a transaction, which is rolled back in the end."""
    with psycopg.connect(url) as connection:
        yield connection
        connection.rollback()


def ids_by_name(database: Database) -> dict[str, int]:
    found = select(repositories.c.name, repositories.c.id)
    return {row.name: row.id for row in database.read_now(lambda read: read.execute(found).all())}


def wait_until_waiting(url: str) -> None:
    """Return when some transaction of the database waits for a lock."""
    waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    deadline = time.monotonic() + WAIT_SECONDS
    with psycopg.connect(url, autocommit=True) as looking:
        while looking.execute(waiting).fetchone() is None:
            assert time.monotonic() < deadline, "nothing waits"
            time.sleep(0.01)


def test_repositories_are_locked_by_name_whatever_order_they_are_given_in(writer: Database) -> None:
    ids = ids_by_name(writer)
    backwards = [ids[name] for name in reversed(NAMES)]
    with another(writer.url) as other, ThreadPoolExecutor() as threads:
        other.execute("SELECT 1 FROM repositories WHERE name = %s FOR NO KEY UPDATE", (NAMES[0],))
        waiting = threads.submit(writer.write_now, partial(lock_repositories, repository_ids=backwards))
        wait_until_waiting(writer.url)
        # Whoever waits for the first one has none of the others yet.
        other.execute("SELECT 1 FROM repositories WHERE name = ANY(%s) FOR UPDATE NOWAIT", (list(NAMES[1:]),))
        other.rollback()
        waiting.result(WAIT_SECONDS)


@pytest.mark.parametrize("is_join", [False, True], ids=["upsert", "join"])
def test_rows_are_written_by_their_keys_whatever_order_they_are_given_in(writer: Database, is_join: bool) -> None:
    rows = [{"name": name, "value": "0"} for name in "abc"]
    writer.write_now(partial(bulk_upsert, table=installation, rows=rows))
    backwards = [{"name": name, "value": "1"} for name in "cba"]

    def write(connection: Connection) -> None:
        if is_join:
            bulk_join(connection, installation, backwards, Join(greatest=("value",)))
        else:
            bulk_upsert(connection, installation, backwards, update=("value",))

    with another(writer.url) as other, ThreadPoolExecutor() as threads:
        other.execute("SELECT 1 FROM installation WHERE name = 'a' FOR UPDATE")
        waiting = threads.submit(writer.write_now, write)
        wait_until_waiting(writer.url)
        other.execute("SELECT 1 FROM installation WHERE name IN ('b', 'c') FOR UPDATE NOWAIT")
        other.rollback()
        waiting.result(WAIT_SECONDS)


def figures(table: Table, **keys: list[int]) -> FigureRows:
    columns = {name: np.array(numbers, dtype=np.int64) for name, numbers in keys.items()}
    return FigureRows(table, columns, {"exclusive_bytes": np.full(len(NAMES), 5, dtype=np.int64)})


def settle(database: Database) -> None:
    at = START + timedelta(days=1)
    begun = BegunCrawl(CRAWL, 1, at, False, False, False, {}, frozenset(), Naming(1, at))
    assert asyncio.run(settle_vanished(database, begun, timedelta())).tag_count == len(NAMES)


# What changes rows of several repositories, or of one. Each tag, and its manifest, has the id of its repository.
UNITS: Final[dict[str, Callable[[Database], object]]] = {
    "sizes of tags": lambda database: database.write_now(
        partial(write_rows, rows=figures(schema.tags, id=[1, 2, 3])),
    ),
    "sizes of manifests": lambda database: database.write_now(
        partial(write_rows, rows=figures(schema.repository_manifests, repository_id=[1, 2, 3], manifest_id=[1, 2, 3])),
    ),
    "protected tags": lambda database: database.write_now(partial(mark_tags, ids=[3, 2, 1], flag=1)),
    "single manifests": lambda database: database.write_now(
        partial(
            publish_manifests,
            reading=SingleReading(
                registry_id=1,
                repository=NAMES[2],
                naming=Naming(1, START),
                at=START,
                here=frozenset({Digest.parse(digest_of(1))}),
            ),
        )
    ),
    "vanished tags": settle,
}


@pytest.mark.parametrize("name", UNITS)
def test_nothing_of_a_repository_is_locked_before_its_own_row(writer: Database, name: str) -> None:
    vanished = schema.tags.update().values(vanished_in=CRAWL)
    writer.write_now(lambda connection: connection.execute(vanished))
    with another(writer.url) as other, ThreadPoolExecutor() as threads:
        other.execute("SELECT 1 FROM repositories FOR NO KEY UPDATE")
        waiting = threads.submit(UNITS[name], writer)
        wait_until_waiting(writer.url)
        for table in ("tags", "repository_manifests", "manifests", "registries"):
            other.execute(f"SELECT 1 FROM {table} FOR UPDATE NOWAIT")
        other.rollback()
        waiting.result(WAIT_SECONDS)


def test_events_keep_blobs_before_manifests_as_crawls_do(writer: Database) -> None:
    layer = {"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "size": 9, "digest": digest_of(90)}
    told = push(NAMES[0], "2.0", 80, 5)
    told["target"]["references"] = [{**layer, "digest": digest_of(91)}, layer]
    blob, manifest = (Digest.parse(digest_of(number)).to_bytes() for number in (90, 80))
    with another(writer.url) as other, ThreadPoolExecutor() as threads:
        other.execute("INSERT INTO blobs (digest, media_type, size_bytes) VALUES (%s, '', 9)", (blob,))
        waiting = threads.submit(take_in, writer, told)
        wait_until_waiting(writer.url)
        other.execute("SET LOCAL lock_timeout = '1s'")
        other.execute(
            "INSERT INTO manifests (digest, state, media_type, size_bytes, blob_ids) VALUES (%s, 'unread', '', 1, '')",
            (manifest,),
        )
        other.rollback()
        waiting.result(WAIT_SECONDS)
    kept = select(manifests.c.layer_count).where(manifests.c.digest == manifest)
    assert writer.read_now(lambda read: read.execute(kept).scalar_one()) == 1


async def test_pieces_of_work_have_transactions_of_their_own(writer: Database) -> None:
    def number(connection: Connection) -> str:
        time.sleep(0.05)  # so that the others are queued when it ends
        return str(connection.exec_driver_sql("SELECT pg_current_xact_id()").scalar())

    assert len(set(await asyncio.gather(*(writer.write(number) for _ in range(3))))) == 3


def test_a_read_that_met_a_deadlock_is_repeated(writer: Database) -> None:
    has_read, is_locked = threading.Event(), threading.Event()
    attempts: list[int] = []

    def read(connection: Connection) -> int:
        attempts.append(len(attempts))
        connection.exec_driver_sql("SET LOCAL deadlock_timeout = '50ms'")
        connection.execute(select(schema.tags.c.id)).all()
        has_read.set()
        assert is_locked.wait(WAIT_SECONDS)
        return len(connection.execute(select(repositories.c.id)).all())

    with another(writer.url) as migrating, ThreadPoolExecutor() as threads:
        migrating.execute("SET LOCAL deadlock_timeout = '1h'")  # it is the reader that is given up
        reading = threads.submit(writer.read_now, read)
        assert has_read.wait(WAIT_SECONDS)
        migrating.execute("LOCK TABLE repositories")
        locking = threads.submit(migrating.execute, "LOCK TABLE tags")
        wait_until_waiting(writer.url)
        is_locked.set()
        locking.result(WAIT_SECONDS)
        migrating.rollback()
        assert reading.result(WAIT_SECONDS) == len(NAMES)
    assert len(attempts) == 2


@pytest.mark.parametrize("kind", ["read", "write", "unrepeatable read"])
async def test_what_is_given_up_again_and_again_says_so(writer: Database, kind: str) -> None:
    attempts: list[int] = []

    def give_up(connection: Connection) -> None:
        attempts.append(len(attempts))
        connection.exec_driver_sql(GIVEN_UP)

    working = writer.write(give_up) if kind == "write" else writer.read(give_up, is_repeatable=kind == "read")
    with pytest.raises(StoreError, match="changed the same rows") as raised:
        await working
    assert raised.value.code == "database-conflict"
    assert len(attempts) == (1 if kind.startswith("un") else MOST_ATTEMPTS)


def test_a_migration_that_met_a_deadlock_is_begun_anew(writer: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts: list[str] = []

    def upgrade(connection: Connection, place: str) -> None:
        attempts.append(place)
        connection.execute(installation.insert().values(name="migrated", value=""))
        if len(attempts) == 1:
            connection.exec_driver_sql(GIVEN_UP)

    monkeypatch.setattr(migrations, "_upgrade", upgrade)
    open_database(writer.url, access=Access.WRITE).close()
    assert len(attempts) == 2
    written = select(installation.c.name).where(installation.c.name == "migrated")
    assert len(writer.read_now(lambda read: read.execute(written).all())) == 1
