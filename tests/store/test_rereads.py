"""What must be read again: noted many times, done once, put off and never lost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import insert

from regwarden.store.database import Database
from regwarden.store.rereads import (
    Reread,
    due_rereads,
    list_rereads,
    next_reread_at,
    note_rereads,
    postpone_registry,
    postpone_reread,
    release_rereads,
    settle_reread,
    take_rereads,
)
from regwarden.store.schema import registries

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
DIGEST = "sha256:" + "1" * 64


@pytest.fixture(autouse=True)
def _two_registries(database: Database) -> None:
    rows = [
        {"id": key, "name": name, "url": "https://r", "kind": "distribution", "first_seen_at": 0}
        for key, name in ((1, "one"), (2, "two"))
    ]
    database.write_now(lambda connection: connection.execute(insert(registries), rows))


def note(database, reference=DIGEST, *, repository="app", due_at=NOON, registry_id=1, reason="unread-content"):
    rows = [Reread(registry_id, repository, reference, reason, due_at)]
    database.write_now(lambda connection: note_rereads(connection, rows))


def due(database, now=NOON, **chosen):
    return database.read_now(lambda connection: due_rereads(connection, now, **chosen))


def test_what_is_noted_twice_is_due_once_at_the_earlier_time(database):
    note(database, due_at=NOON)
    note(database, due_at=NOON - MINUTE)
    note(database, due_at=NOON + MINUTE)
    (row,) = database.read_now(list_rereads)
    assert row.due_at == NOON - MINUTE


def test_only_what_is_due_is_given_and_the_longest_due_first(database):
    note(database, "", repository="late", due_at=NOON + SECOND)
    note(database, "", repository="second", due_at=NOON)
    note(database, "", repository="first", due_at=NOON - MINUTE)
    assert [row.repository for row in due(database)] == ["first", "second"]
    assert [row.repository for row in due(database, limit=1)] == ["first"]


def test_manifests_repositories_and_registries_are_told_apart(database):
    note(database)
    note(database, "")
    note(database, registry_id=2)
    assert [row.reference for row in due(database, registry_id=1, of_manifests=True)] == [DIGEST]
    assert [row.reference for row in due(database, registry_id=1, of_manifests=False)] == [""]
    assert len(due(database, registry_id=2)) == 1
    assert len(due(database)) == 3
    assert database.read_now(lambda connection: next_reread_at(connection, 1, of_manifests=True)) == NOON
    assert database.read_now(lambda connection: next_reread_at(connection, 2, of_manifests=False)) is None


def test_what_is_taken_is_not_due_and_goes_when_it_is_settled(database):
    note(database)
    taken = database.write_now(lambda connection: take_rereads(connection, due(database), NOON))
    assert due(database, NOON + MINUTE) == []
    database.write_now(lambda connection: settle_reread(connection, taken))
    assert database.read_now(list_rereads) == []


@pytest.mark.parametrize("delay", [timedelta(), MINUTE, 65 * SECOND])
def test_what_is_noted_again_while_it_is_read_stays(database, delay):
    note(database, "")
    taken = database.write_now(lambda connection: take_rereads(connection, due(database), NOON))
    note(database, "", due_at=NOON + delay)
    database.write_now(lambda connection: settle_reread(connection, taken))
    assert [row.due_at for row in database.read_now(list_rereads)] == [NOON + delay]


def test_what_fails_is_put_off_with_the_reason_and_the_attempt_counted(database):
    note(database)

    def fail(connection):
        taken = take_rereads(connection, due_rereads(connection, NOON + MINUTE), NOON)
        postpone_reread(connection, taken, NOON + MINUTE, "it is not there")

    for attempt in (1, 2):
        database.write_now(fail)
        (row,) = database.read_now(list_rereads)
        assert (row.attempt_count, row.problem, row.due_at) == (attempt, "it is not there", NOON + MINUTE)
    note(database, due_at=NOON)
    assert due(database)[0].attempt_count == 2


def test_a_registry_that_does_not_answer_puts_off_all_that_is_its_own(database):
    note(database)
    note(database, "", due_at=NOON + MINUTE)
    note(database, registry_id=2)
    database.write_now(lambda connection: postpone_registry(connection, 1, NOON + 10 * SECOND, "nobody answers"))
    assert [(row.registry_id, row.due_at - NOON, row.problem) for row in database.read_now(list_rereads)] == [
        (2, timedelta(), ""),
        (1, 10 * SECOND, "nobody answers"),
        (1, MINUTE, ""),
    ]


def test_what_a_process_took_before_it_was_killed_is_due_again(database):
    note(database)
    note(database, "")
    note(database, repository="later", due_at=NOON + timedelta(hours=1))
    database.write_now(lambda connection: take_rereads(connection, due(database), NOON))
    database.write_now(lambda connection: release_rereads(connection, 1, NOON, of_manifests=True))
    assert [row.reference for row in due(database)] == [DIGEST]
    database.write_now(lambda connection: release_rereads(connection, 1, NOON, of_manifests=False))
    assert len(due(database)) == 2
