"""When registries were crawled as a whole, and which have outdated sizes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from sqlalchemy import insert, update

from regwarden.store.crawl_times import load_crawl_times, load_unread_repositories, registries_to_size
from regwarden.store.database import Database
from regwarden.store.schema import crawls, registries, repositories
from regwarden.store.times import to_micros

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@pytest.fixture(autouse=True)
def _two_registries(database: Database) -> None:
    rows = [
        {"id": key, "name": name, "url": "https://r", "kind": "distribution", "first_seen_at": 0}
        for key, name in ((1, "one"), (2, "two"))
    ]
    database.write_now(lambda connection: connection.execute(insert(registries), rows))


def add_crawl(database, started_at, state, *repositories):
    options = {
        "with_configs": True,
        "verify": False,
        "verify_blobs": False,
        "repositories": repositories,
        "endpoint": "",
    }
    row = {
        "registry_id": 1,
        "state": state,
        "started_at": to_micros(started_at),
        "options": msgspec.json.encode(options).decode(),
    }
    database.write_now(lambda connection: connection.execute(insert(crawls), row))


def set_times(database, *, changed_at, sized_at):
    values = {"changed_at": to_micros(changed_at), "sized_at": to_micros(sized_at)}
    database.write_now(
        lambda connection: connection.execute(update(registries).where(registries.c.id == 1).values(values))
    )


def test_only_crawls_of_whole_registries_count(database):
    add_crawl(database, NOON, "complete")
    add_crawl(database, NOON + SECOND, "failed")
    add_crawl(database, NOON + 2 * SECOND, "complete", "app")
    add_crawl(database, NOON + 3 * SECOND, "complete", 'glob:"repositories":[],')
    times = database.read_now(load_crawl_times)
    assert (times["one"].started_at, times["one"].state) == (NOON + SECOND, "failed")
    assert (times["two"].started_at, times["two"].state, times["two"].registry_id) == (None, None, 2)
    assert set(database.read_now(lambda connection: load_crawl_times(connection, "two"))) == {"two"}


def test_repositories_that_a_crawl_could_not_read_are_told(database):
    rows = [
        {"registry_id": 1, "name": state, "state": state, "first_seen_at": 0, "crawl_id": 7}
        for state in ("complete", "partial", "denied", "failed", "untagged")
    ]
    rows.append({"registry_id": 1, "name": "other", "state": "failed", "first_seen_at": 0, "crawl_id": 6})
    database.write_now(lambda connection: connection.execute(insert(repositories), rows))
    unread = database.read_now(lambda connection: load_unread_repositories(connection, 7))
    assert unread == {"partial": "partial", "denied": "denied", "failed": "failed"}


@pytest.mark.parametrize(
    ("changed_at", "sized_at", "is_due"),
    [
        (None, None, False),
        (None, NOON, False),
        (NOON, None, True),
        (NOON, NOON - SECOND, True),
        (NOON, NOON + SECOND, True),  # may have been committed after the sizes were read
        (NOON, NOON + 10 * SECOND, False),
    ],
)
def test_sizes_are_due_when_something_changed_after_they_were_computed(database, changed_at, sized_at, is_due):
    set_times(database, changed_at=changed_at, sized_at=sized_at)
    assert database.read_now(registries_to_size) == ({"one": 1} if is_due else {})
