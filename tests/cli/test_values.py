"""How values are written: short and safe for people, exact for programs."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regwarden.cli.output import write_csv_rows
from regwarden.cli.values import (
    csv_text,
    escape_controls,
    human_bytes,
    human_duration,
    plain_text,
    table_text,
    to_json_value,
)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "0.98 KiB"),
        (1024, "1.00 KiB"),
        (10_240, "10.0 KiB"),
        (1_048_575, "1.00 MiB"),
        (120_645_564, "115 MiB"),
        (2**50, "1.00 PiB"),
        (2**70, "1024 EiB"),
    ],
)
def test_sizes_have_about_three_digits(size: int, text: str) -> None:
    assert human_bytes(size) == text


@given(st.integers(min_value=0, max_value=2**63))
def test_a_size_for_people_is_short_and_close(size: int) -> None:
    number, unit = human_bytes(size).split()
    factor = 1024 ** ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB").index(unit)
    assert len(number) <= 4
    assert abs(float(number) * factor - size) <= max(size * 0.006, 0.5)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.25, "0.2 seconds"),
        (59, "59 seconds"),
        (60, "1 minute"),
        (7199, "1 hour"),
        (172_800, "2 days"),
        (-5, "0 seconds"),
    ],
)
def test_durations_are_in_one_unit(seconds: float, text: str) -> None:
    assert human_duration(timedelta(seconds=seconds)) == text


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\u202eb", "a\\u202eb"),
        ("line\nbreak\ttab", "line\\x0abreak\\x09tab"),
        ("\x9b1m", "\\x9b1m"),
        ("\U000e0041", "\\U000e0041"),
        ("größe", "größe"),
    ],
)
def test_what_could_steer_a_terminal_is_made_visible(hostile: str, shown: str) -> None:
    assert escape_controls(hostile) == shown


@given(st.text())
def test_no_cell_of_any_format_breaks_a_line_or_begins_an_escape_sequence(text: str) -> None:
    for written in (table_text("labels", text), plain_text(text), csv_text(text)):
        assert not any(character in written for character in "\n\r\t\x1b\u202e\u2028\x9b")


@pytest.mark.parametrize("formula", ["=1+1", "+1", "-1", "@SUM(A1)", '=HYPERLINK("http://x")'])
def test_a_text_that_a_spreadsheet_would_run_is_defused(formula: str) -> None:
    file = io.StringIO()
    write_csv_rows([{"tag": formula}], ["tag"], file)
    ((header,), (cell,)) = csv.reader(io.StringIO(file.getvalue()))
    assert (header, cell) == ("tag", f"'{formula}")


def test_numbers_and_digests_are_not_changed_in_csv() -> None:
    assert csv_text(-5) == "-5"
    assert csv_text("sha256:" + "a" * 64) == "sha256:" + "a" * 64


def test_digests_are_short_in_tables_only() -> None:
    digest = "sha256:" + "ab" * 32
    assert table_text("digest", digest) == "abababababab"
    assert plain_text(digest) == digest


def test_times_are_utc_and_end_in_z() -> None:
    moment = datetime(2026, 1, 1, 1, 30, tzinfo=timezone(timedelta(hours=2)))
    assert to_json_value(moment) == "2025-12-31T23:30:00Z"
    assert table_text("created_at", datetime(2026, 1, 1, 1, 30, 59, tzinfo=UTC)) == "2026-01-01 01:30"


def test_unknown_is_null_empty_and_a_dash() -> None:
    assert (to_json_value(None), plain_text(None), csv_text(None), table_text("x", None)) == (None, "", "", "-")


def test_moments_of_events_and_of_a_history_are_shown_to_the_second() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert {table_text(name, moment) for name in ("at", "since", "until")} == {"2026-01-02 03:04:05"}
    assert table_text("created_at", moment) == "2026-01-02 03:04"
