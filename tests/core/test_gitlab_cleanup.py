"""Does the simulation of GitLab's cleanup policy remove what GitLab removes, page by page, and nothing else?"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regwarden.core.gitlab_cleanup import (
    CleanupPolicy,
    CleanupTag,
    Fate,
    FateReason,
    Limits,
    describe_cleanup,
    parse_age,
    read_cleanup_policy,
    simulate_cleanup,
)
from regwarden.errors import InputError
from tests.gitlab_double.background import Clean, selected
from tests.gitlab_double.rails_tags import is_tag_protected
from tests.gitlab_double.scenario import sample
from tests.gitlab_double.state import BulkJob, TagFacts

NOW = datetime(2026, 3, 1, tzinfo=UTC)
NAMES = [f"{word}-{number}" for word in ("dev", "main", "release", "mainline") for number in range(6)] + ["latest"]
REGEXES = (".*", "dev-.*", "main|release.*", "(?:main|release)-[0-9]", "")
SMALL = Limits(page_tags=4, sample_tags=2)


def removed_by_gitlab(
    policy: CleanupPolicy, tags: Sequence[CleanupTag], chance: random.Random, *, has_database: bool
) -> set[str]:
    """The steps of GitLab's services, one after the other, in the plainest way."""
    ordered = sorted(tags, key=lambda tag: tag.name)
    size = SMALL.page_tags if has_database else max(len(ordered), 1)
    removed = set()
    for start in range(0, len(ordered), size):
        page = [tag for tag in ordered[start : start + size] if tag.name != "latest"]
        page = [tag for tag in page if policy.name_regex and re.search(rf"\A{policy.name_regex}\Z", tag.name)]
        if policy.name_regex_keep:
            page = [tag for tag in page if not re.search(rf"\A{policy.name_regex_keep}\Z", tag.name)]
        if not has_database and len(page) > SMALL.sample_tags + (policy.keep_count or 0):
            page = chance.sample(page, SMALL.sample_tags + (policy.keep_count or 0))
        if policy.keep_count is not None:
            chance.shuffle(page)  # it sorts without an order of equal dates
            page = sorted(page, key=lambda tag: tag.dated_at or NOW, reverse=True)[policy.keep_count :]
        if policy.older_than:
            border = NOW - parse_age(policy.older_than)
            page = [tag for tag in page if tag.dated_at and tag.dated_at < border]
        removed |= {tag.name for tag in page if not tag.is_protected}
    return removed


@st.composite
def cases(draw: st.DrawFn) -> tuple[CleanupPolicy, list[CleanupTag]]:
    names = draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=14))
    tags = [
        CleanupTag(
            name,
            draw(st.none() | st.integers(0, 12).map(lambda days: NOW - timedelta(days=days))),
            draw(st.integers(0, 5)) == 0,
        )
        for name in names
    ]
    policy = CleanupPolicy(
        is_enabled=True,
        keep_count=draw(st.none() | st.integers(0, 3)),
        older_than=draw(st.sampled_from(["", "7d", "1d"])),
        name_regex=draw(st.sampled_from(REGEXES)),
        name_regex_keep=draw(st.sampled_from(["", "main-.*", "release-1|dev"])),
    )
    return policy, tags


@settings(max_examples=150, deadline=None)
@given(cases(), st.booleans(), st.integers(0, 1000))
def test_what_goes_always_goes_and_what_may_go_sometimes_does(case, has_database: bool, seed: int):
    policy, tags = case
    verdicts = simulate_cleanup(policy, tags, as_of=NOW, has_database=has_database, limits=SMALL)
    assert [one.tag for one in verdicts] == sorted(tag.name for tag in tags)
    chance = random.Random(seed)
    runs = [removed_by_gitlab(policy, tags, chance, has_database=has_database) for _ in range(40)]
    for one in verdicts:
        match one.fate:
            case Fate.GOES:
                assert all(one.tag in run for run in runs)
            case Fate.STAYS:
                assert not any(one.tag in run for run in runs)
            case Fate.MAY_GO:
                assert one.reason in (FateReason.SAMPLED, FateReason.EQUAL_DATES)
                assert not all(one.tag in run for run in runs) or one.reason is FateReason.SAMPLED


@settings(max_examples=60, deadline=None)
@given(cases(), st.sets(st.sampled_from(NAMES)), st.booleans())
def test_dates_that_are_not_known_here_leave_room_for_every_date(case, unknown, has_database: bool):
    """Whatever the date is, what the simulation is sure of happens."""
    policy, tags = case
    given_tags = [tag._replace(dated_at=None, is_dated=False) if tag.name in unknown else tag for tag in tags]
    limits = Limits(page_tags=SMALL.page_tags, sample_tags=1000)
    verdicts = simulate_cleanup(policy, given_tags, as_of=NOW, has_database=has_database, limits=limits)
    really = simulate_cleanup(policy, tags, as_of=NOW, has_database=has_database, limits=limits)
    for one, real in zip(verdicts, really, strict=True):
        if one.fate is not Fate.MAY_GO:
            assert real.fate in (one.fate, Fate.MAY_GO)
            assert real.fate is one.fate or real.reason is FateReason.EQUAL_DATES


def test_every_page_of_a_thousand_keeps_its_own_newest():
    tags = [CleanupTag(f"t{number:05}", NOW - timedelta(days=20, minutes=number)) for number in range(2_500)]
    policy = CleanupPolicy(is_enabled=True, keep_count=5, older_than="7d", name_regex=".*")
    verdicts = simulate_cleanup(policy, tags, as_of=NOW, has_database=True)
    kept = [one.tag for one in verdicts if one.fate is Fate.STAYS]
    assert kept == [f"t{start + n:05}" for start in (0, 1_000, 2_000) for n in range(5)]
    assert "of its 1,000 tags by name" in verdicts[0].detail
    without = simulate_cleanup(policy, tags, as_of=NOW, has_database=False)
    assert {one.fate for one in without[5:]} == {Fate.MAY_GO}
    assert "205 of 2,500" in without[-1].detail


def test_alternatives_without_a_group_are_anchored_on_one_side_only():
    policy = CleanupPolicy(is_enabled=True, name_regex="main|release")
    tags = [CleanupTag(name, NOW) for name in ("main-1", "old-release", "xmain", "release-2")]
    verdicts = simulate_cleanup(policy, tags, as_of=NOW, has_database=True)
    assert [one.tag for one in verdicts if one.fate is Fate.GOES] == ["main-1", "old-release"]


def test_a_protected_tag_uses_up_a_place_of_the_newest():
    policy = CleanupPolicy(is_enabled=True, keep_count=1, name_regex=".*")
    tags = [CleanupTag("new", NOW, is_protected=True), CleanupTag("old", NOW - timedelta(days=1))]
    verdicts = {one.tag: one for one in simulate_cleanup(policy, tags, as_of=NOW, has_database=True)}
    assert verdicts["new"].fate is Fate.STAYS
    assert verdicts["old"].fate is Fate.GOES


@pytest.mark.parametrize(("regex", "age"), [("(", ""), (".*", "soon"), ("a" * 2_000, ""), (r"(?=x)", "")])
def test_what_cannot_be_understood_is_an_error(regex: str, age: str):
    policy = CleanupPolicy(is_enabled=True, name_regex=regex, older_than=age)
    with pytest.raises(InputError):
        simulate_cleanup(policy, [], as_of=NOW, has_database=True)


def test_the_policy_is_read_as_the_api_gives_it_and_nonsense_is_not_set():
    given_policy = {
        "cadence": "7d",
        "enabled": True,
        "keep_n": 10,
        "older_than": "14d",
        "name_regex": ".*",
        "name_regex_keep": None,
        "next_run_at": "2026-03-02T01:02:03.004Z",
    }
    policy = read_cleanup_policy(given_policy)
    assert (policy.keep_count, policy.name_regex_keep) == (10, "")
    assert policy.next_run_at == datetime(2026, 3, 2, 1, 2, 3, 4000, tzinfo=UTC)
    words = (
        "Removes every week tags named .*, older than 14d, and spares the 10 newest of those named so; never latest."
    )
    assert describe_cleanup(policy) == words
    nonsense = {"keep_n": True, "older_than": ["x"], "name_regex": "a\x1b[2J", "next_run_at": "soon", "enabled": "yes"}
    assert read_cleanup_policy(nonsense) == CleanupPolicy(is_enabled=False)
    assert describe_cleanup(CleanupPolicy(is_enabled=False)) == "Without an expression for names it removes nothing."


def test_the_double_of_gitlab_selects_the_same():
    """Another reading of the same services, written by itself: of many tags, in both modes."""
    chance, scenario = random.Random(5), sample()
    project = next(one for one in scenario.projects if one.path == "team/sub/tool")
    names = [f"{chance.choice(['dev', 'main', 'release'])}-{n}{chance.choice(['', '-final'])}" for n in range(2_300)]
    moments = [NOW - timedelta(minutes=n) for n in range(0, 60 * 24 * 30, 17)]
    dates = chance.sample(moments, len(names))
    facts = {name: TagFacts("", "", created_at=date, built_at=date) for name, date in zip(names, dates, strict=True)}
    tags = [CleanupTag(name, facts[name].built_at, is_tag_protected(scenario, None, project, name)) for name in names]
    for regex, keep in (("main|release.*", ""), (".*", "dev-.*"), ("(?:dev|main)-1.*", "")):
        policy = CleanupPolicy(is_enabled=True, keep_count=5, older_than="7d", name_regex=regex, name_regex_keep=keep)
        job = BulkJob(1, regex, keep or None, keep_n=5, older_than=timedelta(days=7))
        for has_database in (True, False):
            clean = Clean(job, project, NOW, has_database, chance)
            gone = set(selected(scenario, facts, clean))
            verdicts = simulate_cleanup(policy, tags, as_of=NOW, has_database=has_database)
            fates = {one.tag: one.fate for one in verdicts}
            assert gone >= {name for name in names if fates[name] is Fate.GOES}
            assert gone <= {name for name in names if fates[name] is not Fate.STAYS}
            assert gone
