from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regwarden.core.date_patterns import DateForm
from regwarden.core.patterns import parse_pattern
from regwarden.core.selectors import parse_selector
from regwarden.errors import InputError


@pytest.mark.parametrize(
    ("form", "matching", "others"),
    [
        ("YYYYMMDD", ["20240229"], ["20230229", "20241301", "2024022", "x20240229", "202402290"]),
        ("nightly-YYYY-MM-DD", ["nightly-2024-01-31"], ["nightly-2024-1-31", "2024-01-31", "nightly-2024-01-32"]),
        ("YYYY.MM.DD-*", ["2024.01.31-", "2024.01.31-abc"], ["2024x01x31-abc", "2024.01.31"]),
        ("YYYY.MM", ["2024.12"], ["2024.13", "2024.00"]),
        ("*-YYYYMMDDThhmmss", ["a-20240131T235959"], ["a-20240131T240000"]),
    ],
)
def test_a_form_matches_dates_of_the_calendar_and_nothing_else(form, matching, others):
    pattern = parse_pattern(f"date:{form}")
    assert [text for text in (*matching, *others) if pattern.matches(text)] == matching


def test_a_form_tells_the_beginning_of_the_period():
    assert DateForm.parse("YYYY-MM").moment("2024-02") == datetime(2024, 2, 1, tzinfo=UTC)


@pytest.mark.parametrize("form", ["nightly", "MMDD", "YYYYYYYY", "YYYYDD", "YYYYMMDD-MM"])
def test_what_is_no_form_of_a_date_is_refused(form):
    with pytest.raises(InputError) as caught:
        parse_pattern(f"date:{form}")
    assert caught.value.code == "bad-pattern"


@given(form=st.text(alphabet="YMDhms*-.v", max_size=30), text=st.text(alphabet="0123456789-.v", max_size=40))
def test_no_form_and_no_text_cause_anything_unforeseen(form, text):
    try:
        parsed = DateForm.parse(form)
    except InputError:
        return
    assert parsed.matches(text) == (parsed.moment(text) is not None)


def test_a_selector_takes_a_form_for_its_tag_and_not_for_its_repository():
    assert parse_selector("team/app:date:YYYYMMDD").matches("team/app", "20240101")
    with pytest.raises(InputError):
        parse_selector("date:YYYYMMDD")
