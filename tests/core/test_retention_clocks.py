"""What is believed of times, and how old is old enough?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.retention import NOW, ago, manifest, removed, repository, tag


@pytest.mark.parametrize("condition", ["created > 300d", "created < 2026-01-01", "age_days > 300", "age-hours > 7200"])
@pytest.mark.parametrize(
    ("created", "expected"),
    [(ago(400), ["a"]), (datetime(1970, 1, 1, tzinfo=UTC), []), (datetime(2012, 12, 31, tzinfo=UTC), [])],
)
def test_a_build_time_that_cannot_be_is_unknown_to_conditions_on_fields_too(condition, created, expected):
    days = (NOW - created).days
    fields = {"created_at": created, "age_days": days, "age_hours": days * 24}
    observed = repository([tag("a", fields=fields)], [manifest("a", created_at=created)])
    assert removed(f'delete: [{{match: {{where: "{condition}"}}}}]\n', observed) == expected


def test_what_claims_to_be_built_in_the_future_is_not_new():
    observed = repository([tag("a", fields={"created_at": ago(-2), "age_days": -2})])
    for condition in ("created > 2026-11-22", "age_days < 3", "created < 3d"):
        assert removed(f'delete: [{{match: {{where: "{condition}"}}}}]\n', observed) == []


def test_what_is_exactly_as_old_as_the_minimum_age_stays_a_moment_longer():
    body = "default: delete\nlimits: {min-age: 2d}\n"
    moment = timedelta(microseconds=1)
    assert removed(body, repository([tag("a", days=2)])) == []
    assert removed(body, repository([tag("a", days=2)]), now=NOW + moment) == ["a"]
