"""Moments survive the database to the microsecond."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regwarden.store.times import from_micros, to_micros


@given(st.datetimes(timezones=st.timezones() | st.none()).filter(lambda moment: moment.tzinfo is not None))
def test_a_moment_comes_back_as_the_same_moment_in_utc(moment):
    try:
        expected = moment.astimezone(UTC)
    except OverflowError:
        return
    assert from_micros(to_micros(moment)) == expected
    assert from_micros(to_micros(moment)).tzinfo is UTC


def test_a_known_moment_has_the_number_of_microseconds_since_1970():
    zone = timezone(timedelta(hours=2))
    assert to_micros(datetime(1970, 1, 1, 2, 0, 1, 5, tzinfo=zone)) == 1_000_005
    assert to_micros(datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)) == -1_000_000


def test_no_moment_stays_none():
    assert to_micros(None) is None
    assert from_micros(None) is None


def test_a_moment_without_a_zone_is_refused():
    with pytest.raises(ValueError, match="time zone"):
        to_micros(datetime(2024, 1, 1))  # noqa: DTZ001 -- the mistake under test
