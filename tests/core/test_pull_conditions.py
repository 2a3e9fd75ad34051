"""What a condition says of a time that is only known to be before another one: the same as trying every possibility."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from regwarden.core.conditions import Condition, parse_condition

NOW = datetime(2026, 11, 1, tzinfo=UTC)
DAYS = st.integers(0, 6)
NEVER = datetime(1970, 1, 1, tzinfo=UTC)


def _moment(half_days: int) -> datetime:
    return NOW - timedelta(days=3) + timedelta(hours=12 * half_days)


def _text(sign: str, first: int, second: int) -> str:
    one, two = (_moment(2 * number).isoformat() for number in (first, second))
    if sign == "in":
        return f"pulled in {one},{two}"
    if sign == "between":
        return f"pulled between {min(one, two)} and {max(one, two)}"
    return f"pulled {sign} {one}"


def _possible(condition: Condition, before: datetime) -> bool | None:
    """True or false if it is that for never and for every moment before the bound, otherwise ``None``."""
    just_before = before - timedelta(microseconds=1)
    moments = [NEVER, just_before, *(moment for moment in map(_moment, range(-2, 15)) if moment < before)]
    answers = {condition.evaluate(moment, NOW) for moment in moments}
    return answers.pop() if len(answers) == 1 else None


@given(st.sampled_from(("=", "!=", "<", "<=", ">", ">=", "in", "between")), DAYS, DAYS, st.integers(-1, 14))
@example("between", 2, 4, 6)
@example("!=", 2, 2, 4)
@example("<=", 3, 0, 7)
def test_an_unknown_time_before_a_bound_is_decided_exactly_where_every_possibility_agrees(
    sign: str, first: int, second: int, bound: int
) -> None:
    condition = parse_condition("tag", _text(sign, first, second))
    before = _moment(bound)
    assert condition.evaluate(None, NOW, before=before) == _possible(condition, before)


@pytest.mark.parametrize(
    ("text", "days", "expected"),
    [
        ("pulled > 90d", 91, True),
        ("pulled > 90d", 89, None),
        ("pulled < 7d", 8, False),
        ("pulled < 7d", 6, None),
        ("pulled between 1d and 30d", 31, False),
        ("pulled between 1d and 30d", 20, None),
        ("pulled = unknown", 91, True),
        ("pulled != unknown", 91, False),
    ],
)
def test_not_pulled_for_longer_than_pulls_are_known_is_unknown(text: str, days: int, expected: bool | None) -> None:
    condition = parse_condition("tag", text)
    assert condition.evaluate(None, NOW, before=NOW - timedelta(days=days)) is expected


def test_a_known_time_and_a_condition_on_something_else_do_not_look_at_the_bound() -> None:
    assert parse_condition("tag", "pulled > 90d").evaluate(NOW, NOW, before=NOW - timedelta(days=400)) is False
    assert parse_condition("tag", "size > 1").evaluate(None, NOW, before=NOW) is None
