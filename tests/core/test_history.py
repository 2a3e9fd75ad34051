"""Intervals of a tag from the points at which it was observed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regwarden.core.history import Interval, Point, Removal, build_intervals, find_interval, resolve
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


def test_an_event_that_a_crawl_could_not_have_seen_stands_against_it():
    crawl = Point(at(3), ONE, "crawl", at(1))
    event = Point(at(2), TWO, "event")
    assert build_intervals([crawl, event]) == (Interval(TWO, at(2), None, "event"),)
    assert resolve([crawl, event]) == event


def test_a_crawl_overrules_an_older_event():
    event, crawl = Point(at(0), TWO, "event"), Point(at(3), ONE, "crawl", at(1))
    assert build_intervals([event, crawl]) == (
        Interval(TWO, at(0), at(3), "event"),
        Interval(ONE, at(3), None, "crawl"),
    )


@pytest.mark.parametrize("digest", [ONE, None])
def test_the_first_deletion_of_its_digest_or_repository_ends_an_interval(digest):
    removals = [Removal(at(5), digest), Removal(at(4), digest), Removal(at(3), TWO)]
    assert build_intervals([Point(at(1), ONE, "crawl", at(0))], removals) == (
        Interval(ONE, at(1), at(4), "crawl"),
        Interval(None, at(4), None, "event"),
    )
    assert resolve([Point(at(1), ONE, "crawl", at(0))], removals) == Point(at(4), None, "event")


def test_a_push_after_a_deletion_begins_anew_and_a_repeated_one_does_not():
    pushes = [Point(at(day), ONE, "event") for day in (0, 1, 5)]
    assert build_intervals(pushes, [Removal(at(3), ONE)]) == (
        Interval(ONE, at(0), at(3), "event"),
        Interval(None, at(3), at(5), "event"),
        Interval(ONE, at(5), None, "event"),
    )


def test_a_deletion_at_the_moment_of_a_push_or_before_does_not_end_it():
    push = Point(at(2), ONE, "event")
    assert resolve([push], [Removal(at(2), ONE), Removal(at(1), None)]) == push


@st.composite
def histories(draw):
    """Points with clustered times, ties, doubts about when they took effect, and deletions."""
    moments = st.integers(0, 8).map(at)
    digests = st.sampled_from([ONE, TWO, None])
    margins = st.sampled_from([0, 0, 1, 3])
    points = [
        Point(moment, digest, cause, moment - timedelta(days=margin))
        for moment, digest, cause, margin in draw(
            st.lists(st.tuples(moments, digests, st.sampled_from(["crawl", "event"]), margins), max_size=10)
        )
    ]
    removals = [Removal(*one) for one in draw(st.lists(st.tuples(moments, digests), max_size=5))]
    return points, removals


@given(histories(), st.randoms())
def test_order_and_repetition_never_matter(history, chance):
    points, removals = history
    shuffled, again = [*points, *points[:3]], [*removals, *removals[:2]]
    chance.shuffle(shuffled)
    chance.shuffle(again)
    assert build_intervals(shuffled, again) == build_intervals(points, removals)
    assert resolve(shuffled, again) == resolve(points, removals)


def replay(points, removals, moment):
    """Brute force: of all that was observed until the moment, the digest that stands."""
    past = [point for point in points if point.at <= moment]
    if not past:
        return "unknown"
    latest = max(point.effective_at for point in past)
    candidates = [point for point in past if point.effective_at == latest]
    digest = max((point.digest for point in candidates if point.digest is not None), key=str, default=None)
    # As an event, a deletion stands against a crawl whose observation takes effect before it.
    gone = any(latest < one.at <= moment for one in removals if one.digest is None or one.digest == digest)
    return None if gone else digest


@given(histories(), st.integers(-2, 9).map(at))
def test_an_interval_is_what_a_replay_says(history, moment):
    points, removals = history
    found = find_interval(build_intervals(points, removals), moment)
    assert (found.digest if found else "unknown") == replay(points, removals, moment)


@given(histories())
def test_the_last_interval_is_the_present_value(history):
    intervals, present = build_intervals(*history), resolve(*history)
    assert (intervals[-1].digest if intervals else "unknown") == (present.digest if present else "unknown")


@given(histories())
def test_intervals_follow_each_other_without_gap_overlap_or_repetition(history):
    intervals = build_intervals(*history)
    for one, following in pairwise(intervals):
        assert one.since < following.since == one.until
        assert one.digest != following.digest
    assert not intervals or intervals[-1].until is None
