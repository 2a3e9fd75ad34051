from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regwarden.core.ages import AgeUnit, age

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
moments = st.datetimes(timezones=st.just(UTC))


@pytest.mark.parametrize(
    ("unit", "expected"),
    [(AgeUnit.SECONDS, 129_600), (AgeUnit.MINUTES, 2160), (AgeUnit.HOURS, 36), (AgeUnit.DAYS, 1), (AgeUnit.WEEKS, 0)],
)
def test_an_age_is_the_total_in_whole_units(unit, expected):
    assert age(NOON - timedelta(hours=36), NOON, unit) == expected


def test_days_are_the_default():
    assert age(datetime(2026, 5, 1, 13, tzinfo=UTC), NOON) == 30


def test_what_was_created_later_has_a_negative_age_truncated_toward_zero():
    assert age(NOON + timedelta(hours=36), NOON) == -1
    assert age(NOON + timedelta(hours=23), NOON) == 0


def test_zones_do_not_matter():
    assert age(datetime(2026, 6, 1, 12, tzinfo=timezone(timedelta(hours=2))), NOON, AgeUnit.HOURS) == 2


@given(moments, moments, st.sampled_from(AgeUnit))
def test_looking_from_the_other_end_only_changes_the_sign(created_at, from_date, unit):
    assert age(created_at, from_date, unit) == -age(from_date, created_at, unit)
