"""When vanishing is suspicious."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regwarden.core.coverage import Disappearance, suspicions


def a_disappearance(*, repositories=(100, 0), tags=(1000, 0), emptied=(), endpoint_changed=False):
    return Disappearance(repositories[0], repositories[1], tags[0], tags[1], tuple(emptied), endpoint_changed)


@pytest.mark.parametrize(
    ("disappearance", "count"),
    [
        (a_disappearance(), 0),
        (a_disappearance(repositories=(100, 20), tags=(1000, 200)), 0),
        (a_disappearance(repositories=(100, 21)), 1),
        (a_disappearance(tags=(1000, 201)), 1),
        (a_disappearance(repositories=(100, 21), tags=(1000, 201)), 2),
        (a_disappearance(repositories=(0, 0), tags=(0, 0)), 0),
        (a_disappearance(emptied=[("team/app", 11)]), 0),
        (a_disappearance(emptied=[("team/app", 11)], endpoint_changed=True), 1),
        (a_disappearance(emptied=[("team/app", 10)], endpoint_changed=True), 0),
    ],
)
def test_more_than_a_fifth_or_a_whole_repository_after_a_change_is_suspicious(disappearance, count):
    assert len(suspicions(disappearance)) == count


@given(st.integers(1, 1000), st.integers(0, 1000))
def test_more_vanishing_is_never_less_suspicious(known, gone):
    less = suspicions(a_disappearance(tags=(known, min(gone, known))))
    more = suspicions(a_disappearance(tags=(known, known)))
    assert len(less) <= len(more)
