"""Which are the newest, where a time is known only as that of the crawl that found it?"""

from __future__ import annotations

import pytest

from regwarden.core.verdicts import ReasonCode
from tests.retention import ago, judge, manifest, removed, repository, tag, told

CRAWLS = ((ago(11), ago(10)), (ago(6), ago(5)), (ago(2), ago(1.5)))
"""Whole crawls: a first one, and two later ones."""


@pytest.mark.parametrize("rule", ["default: delete\nkeep: [{newest: 2}]", "delete: [{beyond: 2}]"])
@pytest.mark.parametrize("clock", ["tagged", "pushed"])
@pytest.mark.parametrize(
    ("found", "crawls", "expected"),
    [
        # Found by one crawl, in the order in which it happened to read them.
        ({"a": 10.1, "b": 10.2, "c": 10.3}, CRAWLS, []),
        ({"a": 10.1, "b": 10.2, "c": 10.3}, (), []),
        ({"a": 5.1, "b": 5.2, "c": 5.3}, CRAWLS, []),
        # One may be newer than the others, two are.
        ({"a": 10.1, "b": 10.2, "c": 5.1}, CRAWLS, []),
        ({"a": 10.1, "b": 10.2, "c": 5.1, "d": 5.2}, CRAWLS, ["a", "b"]),
        ({"a": 10.1, "b": 5.1, "c": 5.2, "d": 5.3, "e": 1.6}, CRAWLS, ["a"]),
        ({"a": 10.1, "b": 5.1, "c": 1.6, "d": 1.7}, CRAWLS, ["a", "b"]),
        # Nobody looked before.
        ({"a": 10.1, "b": 5.1, "c": 1.6, "d": 1.7}, (), []),
    ],
)
def test_what_one_crawl_finds_has_no_order_and_costs_no_other_its_place(rule, clock, found, crawls, expected):
    observed = repository(
        [tag(name, days=days, exact=False) for name, days in found.items()],
        [manifest(name, days=days, exact=False) for name, days in found.items()],
    )
    body = rule.replace(": 2", f": 2, rank: {{by: {clock}}}") + "\n"
    assert removed(body, observed, crawls=crawls) == expected


def test_what_a_crawl_found_costs_no_place_to_what_events_told_of():
    observed = repository([tag("a", days=9), tag("b", days=8), tag("old", days=5.1, exact=False)])
    assert removed("delete: [{beyond: 2}]\n", observed, crawls=CRAWLS[1:]) == []
    # It was not there when the crawl before began.
    observed = repository([tag("a", days=12), tag("b", days=11.5), tag("new", days=5.1, exact=False)])
    assert removed("delete: [{beyond: 2}]\n", observed, crawls=CRAWLS) == ["a"]


def test_an_image_of_which_one_tag_is_newer_for_certain_counts_once():
    observed = repository(
        [tag("a", days=12), tag("b1", "b", days=5.1, exact=False), tag("b2", "b", days=3), tag("c", days=11.5)]
    )
    assert removed("delete: [{beyond: 2}]\n", observed, crawls=CRAWLS) == ["a"]


def test_a_group_that_one_crawl_found_is_not_older_than_another_one():
    def branches(**found):
        return repository([tag(f"{name}-1", days=days, exact=False) for name, days in found.items()])

    body = "default: delete\nkeep: [{newest: 1, per: branch, groups: 1}]\n"
    assert removed(body, branches(main=10.1, fix=10.2), crawls=CRAWLS) == []
    assert removed(body, branches(main=10.1, fix=10.2, new=5.1), crawls=CRAWLS) == ["fix-1", "main-1"]


def test_what_may_be_of_an_earlier_month_belongs_to_none():
    # Crawls began on the first of November and two days after that; now is the 21st.
    crawls = ((ago(20.5), ago(20.4)), (ago(18.5), ago(18.4)))
    observed = repository(
        [
            *(tag(name, days=days, exact=False) for name, days in (("first", 20.41), ("x", 18.42), ("y", 18.41))),
            tag("told", days=18),
        ]
    )
    body = "default: delete\nkeep: [{newest: 1, per: month}]\n"
    assert removed(body, observed, crawls=crawls) == ["x", "y"]
    assert removed(body, observed) == []


def test_a_place_that_is_not_certain_says_so():
    observed = repository([tag(name, days=10, exact=False) for name in ("a", "b", "c")])
    detail = "keep[0]: at best the 1st newest of 2 kept, as no order by tagged is known"
    lines = [line for name in "abc" for line in told(name, "keep: [{newest: 2}]\ndefault: delete\n", observed)]
    assert sorted(lines) == [f"kept: {detail}", f"kept: {detail}", f"unordered: {detail}"]


RULES_THAT_COUNT = [
    "default: delete\nkeep: [{newest: 2}]\n",
    "keep: [{newest: 2}]\ndelete: [{when: {created: {older-than: 1d}}, match: {tags: {any: ['glob:*']}}}]\n",
    "delete: [{beyond: 2}]\n",
]


@pytest.mark.parametrize("with_details", [True, False])
@pytest.mark.parametrize("body", RULES_THAT_COUNT)
def test_what_stays_only_because_its_order_is_not_known_is_told_apart(body, with_details):
    observed = repository([tag(name, days=10, exact=False) for name in ("a", "b", "c", "d")])
    codes = codes_of(body, observed, with_details=with_details)
    assert sorted(map(str, codes.values())) == [
        *[str(ReasonCode.SPARED if "beyond" in body else ReasonCode.KEPT)] * 2,
        *[str(ReasonCode.UNORDERED)] * 2,
    ]


@pytest.mark.parametrize("body", RULES_THAT_COUNT)
def test_a_known_order_and_a_group_that_is_small_enough_are_not_unordered(body):
    known = repository([tag(name, days=days) for days, name in enumerate("abcd", 5)])
    few = repository([tag(name, days=10, exact=False) for name in "ab"])
    for observed in (known, few):
        assert ReasonCode.UNORDERED not in codes_of(body, observed).values()


def test_what_no_rule_would_delete_is_kept_and_not_unordered():
    observed = repository([tag(name, days=10, exact=False) for name in ("a", "b", "c")])
    body = "keep: [{newest: 1}]\ndelete: [{match: {tags: {any: [other]}}}]\n"
    assert set(codes_of(body, observed).values()) == {ReasonCode.KEPT}


def codes_of(body, observed, *, with_details=True):
    """The first reason for each tag."""
    found = judge(body, observed, with_details=with_details)
    return {one.tag: one.reasons[0].code for one in found.verdicts}
