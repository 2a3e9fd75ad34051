"""Schedules: what can be written, and when the next run is due."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regwarden.core.schedule import next_run, parse_schedule
from regwarden.errors import InputError

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)

moments = st.integers(0, 3_000_000_000).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))
seeds = st.text(max_size=10)


@pytest.mark.parametrize(
    "text", ["1h", "10s", "30m", "1d12h", "0 3 * * *", "*/5 * * * 1-5", "0 0 29 2 *", "never", " 1h "]
)
def test_what_is_written_is_shown_again(text):
    assert str(parse_schedule(text)) == text.strip()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "9s",
        "0s",
        "hourly",
        "1 hour",
        "0 3 * *",
        "0 3 * * * *",
        "60 3 * * *",
        "0 0 30 2 *",
        "x 3 * * *",
        "1h 2h",
        "é * * * *",
    ],
)
def test_what_is_no_schedule_is_explained(text):
    with pytest.raises(InputError) as raised:
        parse_schedule(text)
    assert raised.value.code == "bad-schedule"
    assert "never" in raised.value.hint


def test_never_is_never_due():
    assert next_run(parse_schedule("never"), None, NOON, seed="one") is None
    assert next_run(parse_schedule("never"), NOON - timedelta(days=9), NOON, seed="one") is None


@pytest.mark.parametrize("text", ["1h", "0 3 * * *"])
def test_what_was_never_done_is_due_now(text):
    assert next_run(parse_schedule(text), None, NOON, seed="one") == NOON


def test_a_cron_line_means_the_hours_of_utc():
    started = datetime(2026, 3, 4, 3, 0, 20, tzinfo=UTC)
    due = next_run(parse_schedule("0 3 * * *"), started, NOON, seed="one")
    assert due is not None
    assert timedelta() <= due - datetime(2026, 3, 5, 3, tzinfo=UTC) <= timedelta(seconds=60)


def test_registries_with_one_schedule_do_not_start_together():
    schedule = parse_schedule("1h")
    due = {next_run(schedule, NOON, NOON, seed=f"registry {number}") for number in range(50)}
    assert len(due) == 50


@given(started=moments, minutes=st.integers(1, 60 * 24 * 30), seed=seeds)
def test_an_interval_is_kept_but_for_a_little_spreading(started, minutes, seed):
    interval = timedelta(minutes=minutes)
    schedule = parse_schedule(f"{minutes}m")
    due = next_run(schedule, started, started, seed=seed)
    assert due is not None
    assert timedelta() <= due - started - interval <= min(interval / 10, timedelta(minutes=5))
    assert next_run(schedule, started, started + interval / 2, seed=seed) == due


@given(
    started=moments, away=st.integers(1, 10_000), seed=seeds, text=st.sampled_from(["1h", "*/7 * * * *", "0 3 * * *"])
)
def test_runs_missed_while_nothing_ran_are_due_once(started, away, seed, text):
    schedule = parse_schedule(text)
    now = started + timedelta(days=1, hours=2, minutes=away)
    assert next_run(schedule, started, now, seed=seed) == now
    assert next_run(schedule, now, now, seed=seed) > now


@given(started=moments, seed=seeds, minute=st.integers(0, 59), hour=st.integers(0, 23))
def test_a_cron_line_comes_round_once_a_day(started, seed, minute, hour):
    due = next_run(parse_schedule(f"{minute} {hour} * * *"), started, started, seed=seed)
    assert due is not None
    base = due - timedelta(seconds=60)
    assert started < due <= started + timedelta(days=1, seconds=60)
    assert (due.hour, due.minute) == (hour, minute) or (base.hour, base.minute) == (hour, minute)
