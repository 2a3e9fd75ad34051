"""One key signs, the next is known before it does, and an old one is kept as long as what it signed is valid."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest

from regwarden.store.database import Database
from regwarden.store.signing_keys import KeyUse, StoredKey, ensure_keys, load_keys, needs_keys

NOW = datetime(2026, 11, 1, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


@pytest.fixture
def make_kid() -> Callable[[], str]:
    numbers = count(1)
    return lambda: f"k{next(numbers)}"


def use_of(make_kid: Callable[[], str], interface: str = "api", lifetime: timedelta = HOUR) -> KeyUse:
    return KeyUse(
        interface=interface, signing=30 * DAY, lifetime=lifetime, make_kid=make_kid, make_key=lambda: b"\x00secret"
    )


def ensure(database: Database, use: KeyUse, now: datetime) -> list[StoredKey]:
    database.write_now(lambda connection: ensure_keys(connection, use, now))
    assert not database.read_now(lambda connection: needs_keys(connection, use, now))
    return database.read_now(lambda connection: load_keys(connection, now))


def test_at_first_a_key_signs_at_once_and_the_next_is_known(database: Database, make_kid: Callable[[], str]) -> None:
    use = use_of(make_kid)
    assert database.read_now(lambda connection: needs_keys(connection, use, NOW))
    current, following = ensure(database, use, NOW)
    assert (current.signs_from, current.signs_until) == (NOW, NOW + 30 * DAY)
    assert (following.signs_from, following.signs_until) == (NOW + 30 * DAY, NOW + 60 * DAY)
    assert current.verifies_until == NOW + 30 * DAY + HOUR
    assert current.private_key == b"\x00secret"
    assert "secret" not in repr(current)
    assert ensure(database, use, NOW) == [current, following], "made once"


def test_keys_follow_each_other_without_a_gap(database: Database, make_kid: Callable[[], str]) -> None:
    use = use_of(make_kid)
    first, second = ensure(database, use, NOW)
    later = NOW + 30 * DAY
    assert database.read_now(lambda connection: needs_keys(connection, use, later))
    assert ensure(database, use, later)[:2] == [first, second]
    third = ensure(database, use, later)[2]
    assert third.signs_from == second.signs_until
    assert [key.kid for key in ensure(database, use, later + 2 * HOUR)] == ["k2", "k3"], "the first does not count"


def test_after_a_long_sleep_a_key_signs_at_once(database: Database, make_kid: Callable[[], str]) -> None:
    use = use_of(make_kid)
    ensure(database, use, NOW)
    current, following = ensure(database, use, NOW + 365 * DAY)
    assert current.signs_from == NOW + 365 * DAY
    assert following.signs_from == current.signs_until


def test_a_longer_lifetime_keeps_keys_longer(database: Database, make_kid: Callable[[], str]) -> None:
    ensure(database, use_of(make_kid), NOW)
    keys = ensure(database, use_of(make_kid, lifetime=14 * DAY), NOW)
    assert [key.verifies_until for key in keys] == [NOW + 44 * DAY, NOW + 74 * DAY]
    assert len(ensure(database, use_of(make_kid), NOW)) == 2


def test_interfaces_have_keys_of_their_own(database: Database, make_kid: Callable[[], str]) -> None:
    ensure(database, use_of(make_kid), NOW)
    found = ensure(database, use_of(make_kid, "old"), NOW)
    assert sorted(key.interface for key in found) == ["api", "api", "old", "old"]
