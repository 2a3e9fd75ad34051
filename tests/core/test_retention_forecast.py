from datetime import timedelta

import pytest

from regwarden.core.observed import Hold, ObservedRegistry
from regwarden.core.plan import GuardCode
from regwarden.core.retention import collect_policies
from regwarden.core.retention_budgets import budget_candidates
from regwarden.core.retention_forecast import first_possible_removal
from tests.policies import policy_of
from tests.retention import NOW, aged, ago, judge, manifest, names_of, repository, tag

OLD = "delete: [{when: {tagged: {older-than: 7d}}}]\n"


def foresee(body, observed, *, subject="", events=365.0, holds=()):
    collected = collect_policies([policy_of(body)], "prod", "team/app")
    assert collected is not None
    registry = ObservedRegistry(name="prod", events_since=ago(events))
    found = first_possible_removal(collected, observed, registry, holds=holds, now=NOW, subject=subject)
    if found is not None and found > NOW:
        names = names_of(judge(body, observed, now=found, events=events, holds=holds))
        assert subject in names if subject else names
        earlier = found - timedelta(microseconds=2)
        assert subject not in names_of(judge(body, observed, now=earlier, events=events, holds=holds)) or not subject
    return None if found is None else round((found - NOW) / timedelta(days=1), 4)


@pytest.mark.parametrize(
    ("body", "days"),
    [
        (OLD, 4),
        ("default: delete\n", 0),
        ("default: delete\nlimits: {min-age: 5d}\n", 2),
        (OLD + "limits: {min-age: 9d}\n", 6),
        (OLD + "keep: [{when: {tagged: {within: 20d}}}]\n", 17),
        (OLD + "protect: [{pulled: {within: 30d}}]\n", 29),  # pulled a day ago
        ("delete: [{when: {tagged: {older-than: 7d}, pulled: {older-than: 10d}}}]\n", 9),
        (OLD + "keep: [{newest: 1}]\n", None),
        ("delete: [{beyond: 1}]\n", None),
        ("delete: [{when: {created: {older-than: 3d}}}]\n", None),  # no date
        ("", None),
    ],
)
def test_it_is_foreseen_when_a_tag_goes(body, days):
    observed = repository([tag("a", days=3)], [manifest("a", days=3, pulled=1)])
    assert foresee(body, observed, subject="a") == days


def test_a_hold_that_ends_is_foreseen():
    hold = Hold(id=1, registry="prod", repository="team/app", tag="a", until=ago(-8))
    assert foresee(OLD, aged({"a": 3}), subject="a", holds=[hold]) == 8
    for_ever = Hold(id=1, registry="prod", repository="team/app", tag="a")
    assert foresee(OLD, aged({"a": 3}), subject="a", holds=[for_ever]) is None


def test_pulls_become_known_with_time():
    body = "delete: [{when: {pulled: {older-than: 10d}}}]\nrequires: {pull-history-min: 30d}\n"
    assert foresee(body, aged({"a": 50}), subject="a", events=5) == 25
    assert foresee(body, aged({"a": 50}), events=5) == 25


def test_of_a_repository_the_first_that_goes_is_foreseen():
    assert foresee(OLD, aged({"a": 3, "b": 5, "c": 1})) == 2
    assert foresee(OLD + "keep: [{newest: 2}]\n", aged({"a": 3, "b": 5, "c": 1})) == 2
    assert foresee(OLD + "keep: [{newest: 3}]\n", aged({"a": 3, "b": 5, "c": 1})) is None
    assert foresee(OLD, aged({"a": 30})) == 0
    assert foresee(OLD, repository([tag("a")], doubt="unread")) is None


def test_untagged_manifests_are_asked_for_by_digest():
    lost = manifest("lost", untagged_since=ago(2))
    body = "delete: [{untagged: {older-than: 7d}}]\n"
    assert foresee(body, repository([], [lost]), subject=lost.digest) == 5


def test_a_budget_takes_what_nothing_keeps_and_what_is_old_enough():
    body = """
protect: [{tags: {any: [e]}}]
keep: [{newest: 1}]
delete:
- {match: {tags: {any: [d]}}}
- {match: {tags: {none: [b]}}, when: {tagged: {older-than: 2d}}, budget: {max: 1GB}}
limits: {min-age: 4d}
"""
    observed = repository(
        [tag(name, days=days) for name, days in {"a": 1, "b": 5, "c": 6, "d": 7, "e": 8, "f": 9, "g": 3}.items()]
    )
    collected = collect_policies([policy_of(body)], "prod", "team/app")
    assert collected is not None

    def taken(observed, **options):
        registry = ObservedRegistry(name="prod")
        [(rule, found)] = budget_candidates(collected, observed, registry, holds=(), now=NOW, **options)
        assert rule.path == "delete[1]"
        names = sorted(one.name for one in observed.tags)
        return [(names[one.position], one.rank, one.last_used_at) for one in found]

    assert taken(observed) == [("c", 1, ago(6)), ("f", 2, ago(9))]
    assert [one[0] for one in taken(observed, waived=frozenset({GuardCode.MIN_AGE}))] == ["c", "f", "g"]
    assert taken(repository(observed.tags, doubt="unread")) == []
