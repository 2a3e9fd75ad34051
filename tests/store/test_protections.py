"""What people hold by hand is in force until it ends or is removed, and stays on record."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from regwarden.core.observed import Hold
from regwarden.errors import NotFound
from regwarden.store.database import Database
from regwarden.store.protections import list_protections, load_holds, remove_protection, save_protection

NOW = datetime(2026, 11, 1, tzinfo=UTC)
DAY = timedelta(days=1)
HOLD = Hold(id=0, registry="prod", repository="team/*", tag="1.0", reason="audit", by="ann")


def save(database: Database, **changes: object) -> int:
    hold = Hold(**({name: getattr(HOLD, name) for name in Hold.__slots__} | changes))
    return database.write_now(lambda connection: save_protection(connection, hold, NOW))


def ids(database: Database, now: datetime, registry: str = "prod") -> list[int]:
    return [hold.id for hold in database.read_now(lambda connection: load_holds(connection, registry, now))]


def test_a_protection_is_kept_as_it_was_made(database: Database) -> None:
    number = save(database, digest="sha256:" + "a" * 64, until=NOW + DAY)
    (hold,) = database.read_now(lambda connection: load_holds(connection, "prod", NOW))
    assert (hold.id, hold.repository, hold.tag, hold.digest) == (number, "team/*", "1.0", "sha256:" + "a" * 64)
    assert (hold.until, hold.reason, hold.by) == (NOW + DAY, "audit", "ann")


def test_a_protection_holds_until_its_end_and_in_its_registry(database: Database) -> None:
    short, long = save(database, until=NOW + DAY), save(database)
    assert ids(database, NOW) == [short, long]
    assert ids(database, NOW + DAY) == [long]
    assert ids(database, NOW, "elsewhere") == []


def test_a_removed_protection_stays_on_record(database: Database) -> None:
    first, second = save(database), save(database, registry="other")
    removed = database.write_now(lambda connection: remove_protection(connection, first, NOW + DAY))
    assert (removed.removed_at, removed.made_at) == (NOW + DAY, NOW)
    assert ids(database, NOW) == []
    everything = database.read_now(list_protections)
    assert [(one.hold.id, one.removed_at) for one in everything] == [(first, NOW + DAY), (second, None)]
    in_force = database.read_now(lambda connection: list_protections(connection, now=NOW))
    assert [one.hold.id for one in in_force] == [second]
    for number in (first, 99):
        with pytest.raises(NotFound, match=str(number)):
            database.write_now(partial(remove_protection, protection_id=number, at=NOW))
