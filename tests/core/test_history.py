"""Intervals of a tag from the points at which it was observed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from regwarden.core.history import Interval, Point, build_intervals, find_interval
from regwarden.core.oci.digests import Digest

START = datetime(2026, 11, 1, tzinfo=UTC)
ONE, TWO = Digest.of(b"one"), Digest.of(b"two")


def at(day: int) -> datetime:
    return START + timedelta(days=day)


def test_an_interval_ends_where_the_next_begins_and_the_last_is_open():
    points = [Point(at(3), None, "crawl"), Point(at(0), ONE, "crawl"), Point(at(1), TWO, "event")]
    assert build_intervals(points) == (
        Interval(ONE, at(0), at(1), "crawl"),
        Interval(TWO, at(1), at(3), "event"),
        Interval(None, at(3), None, "crawl"),
    )


def test_seeing_the_same_digest_again_changes_nothing():
    points = [Point(at(0), ONE, "event"), Point(at(2), ONE, "crawl")]
    assert build_intervals(points) == (Interval(ONE, at(0), None, "event"),)


def test_at_the_same_moment_being_there_stands_against_being_gone():
    points = [Point(at(1), None, "crawl"), Point(at(1), ONE, "crawl")]
    assert build_intervals(points) == (Interval(ONE, at(1), None, "crawl"),)


def test_before_the_first_observation_nothing_is_known():
    intervals = build_intervals([Point(at(1), ONE, "crawl")])
    assert find_interval(intervals, at(0)) is None
    assert find_interval(intervals, at(1)) == intervals[0]


POINTS = st.lists(
    st.builds(
        Point,
        at=st.integers(0, 6).map(at),
        digest=st.sampled_from([ONE, TWO, None]),
        cause=st.sampled_from(["crawl", "event"]),
    ),
    max_size=12,
)


@given(POINTS, st.randoms())
def test_order_and_repetition_of_points_never_matter(points, chance):
    again = [*points, *points[:3]]
    chance.shuffle(again)
    assert build_intervals(again) == build_intervals(points)


@given(POINTS, st.integers(0, 7).map(at))
def test_an_interval_is_what_a_replay_of_the_points_says(points, moment):
    """Brute force: go through all points up to the moment, the last moment's strongest one counts."""
    past = [point for point in points if point.at <= moment]
    found = find_interval(build_intervals(points), moment)
    if not past:
        assert found is None
        return
    last = max(point.at for point in past)
    digests = [point.digest for point in past if point.at == last and point.digest is not None]
    assert found is not None
    assert found.digest == max(digests, key=str, default=None)
