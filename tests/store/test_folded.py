"""What folded events change in the tables beside tags: names of the registry, content that is back."""

from __future__ import annotations

from datetime import timedelta
from itertools import permutations
from typing import Any

import pytest
from sqlalchemy import select

from regwarden.store.blob_checks import save_blob_checks
from regwarden.store.database import Access, Database, open_database
from regwarden.store.schema import repository_blobs, tags
from tests.notifications import BLOB, START, digest_of, event, push, take_in


def host_after(order: Any) -> str:
    database = open_database("sqlite:///:memory:", access=Access.WRITE)
    try:
        for one in order:
            take_in(database, one)
        return str(database.read_now(lambda connection: connection.execute(select(tags.c.host)).scalar_one()))
    finally:
        database.close()


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([push("a", "1", 1, 0, host="alias.example.test"), push("a", "1", 2, 1)], ""),
        ([push("a", "1", 1, 0), push("a", "1", 2, 1, host="alias.example.test")], "alias.example.test"),
        ([push("a", "1", 1, 0, host="alias.example.test"), push("a", "1", 1, 1), push("a", "1", 3, 2)], ""),
    ],
    ids=["the configured name last", "another name last", "the configured name twice"],
)
def test_a_tag_has_the_host_of_its_last_event_in_every_order(found: list[dict[str, Any]], expected: str) -> None:
    assert {host_after(order) for order in permutations(found)} == {expected}


def test_a_blob_that_a_crawl_found_missing_is_back_when_it_is_pushed(database: Database) -> None:
    uploaded = event("push", "a", digest=digest_of(7), media_type=BLOB, size=9)
    take_in(database, uploaded)
    missed = {(1, 1): False}
    at = START + timedelta(minutes=5)
    database.write_now(lambda connection: save_blob_checks(connection, missed, {1: "a"}, at))
    deleted = select(repository_blobs.c.deleted_at)
    assert database.read_now(lambda connection: connection.execute(deleted).scalar_one()) is not None
    take_in(database, event("push", "a", minute=10, digest=digest_of(7), media_type=BLOB, size=9))
    assert database.read_now(lambda connection: connection.execute(deleted).scalar_one()) is None
