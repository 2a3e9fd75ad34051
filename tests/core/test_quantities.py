from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regwarden.core.quantities import (
    parse_count,
    parse_duration,
    parse_moment,
    parse_moment_or_duration,
    parse_size,
)
from regwarden.errors import InputError


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("0", 0), ("20000", 20_000), ("7B", 7), ("1kB", 1000), ("1KB", 1000), ("1KiB", 1024), ("500MiB", 524_288_000),
        ("1.5 GB", 1_500_000_000), ("2gib", 2**31), ("1TB", 10**12), ("1TiB", 2**40), ("3PB", 3 * 10**15),
        ("1PiB", 2**50), ("0.1kB", 100),
    ],
)  # fmt: skip
def test_a_size_is_read_as_bytes(text, size_bytes):
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("30s", timedelta(seconds=30)), ("5m", timedelta(minutes=5)), ("1.5h", timedelta(minutes=90)),
        ("30d", timedelta(days=30)), ("2w", timedelta(weeks=2)), ("1y", timedelta(days=365)),
        ("1d12h", timedelta(hours=36)), ("100y", timedelta(days=36_500)),
    ],
)  # fmt: skip
def test_a_duration_is_read(text, duration):
    assert parse_duration(text) == duration


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("2026-01-31T12:00:00Z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31 12:00", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31T12:00:00+02:00", datetime(2026, 1, 31, 10, tzinfo=UTC)),
    ],
)
def test_a_moment_is_read_as_utc(text, moment):
    assert parse_moment(text) == moment
    assert parse_moment(text).utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    ("parser", "text", "code"),
    [
        (parse_size, "5M", "bad-size"), (parse_size, "-1", "bad-size"), (parse_size, "1e3", "bad-size"),
        (parse_size, "9000PiB0", "bad-size"), (parse_size, "9999PiB", "bad-size"), (parse_size, "", "bad-size"),
        (parse_count, "1.5", "bad-number"), (parse_count, "9" * 19, "bad-number"), (parse_count, "1_0", "bad-number"),
        (parse_duration, "30", "bad-duration"), (parse_duration, "1mo", "bad-duration"),
        (parse_duration, "101y", "bad-duration"), (parse_duration, "-1d", "bad-duration"),
        (parse_moment, "yesterday", "bad-time"), (parse_moment, "2026-02-30", "bad-time"),
        (parse_moment, "0001-01-01T00:00+05:00", "bad-time"),
        (parse_moment_or_duration, "30", "bad-time"), (parse_moment_or_duration, "5 days", "bad-duration"),
    ],
)  # fmt: skip
def test_what_is_none_is_refused(parser, text, code):
    with pytest.raises(InputError) as refusal:
        parser(text)
    assert refusal.value.code == code


@given(st.sampled_from([parse_size, parse_count, parse_duration, parse_moment, parse_moment_or_duration]),
       st.text(max_size=40) | st.text(alphabet="0123456789.-:TZkKMiBsmhdwy+ ", max_size=40))  # fmt: skip
def test_no_text_makes_a_parser_raise_anything_else(parser, text):
    try:
        parser(text)
    except InputError as error:
        refusal = error
    else:
        return
    assert refusal.message


@given(st.integers(0, 2**53))
def test_exact_bytes_stay_exact(size_bytes):
    assert parse_size(str(size_bytes)) == size_bytes
    assert parse_size(f"{size_bytes}B") == size_bytes
