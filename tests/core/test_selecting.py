"""Does a selection mean what docker-registry-util means by it, and nothing that its users would not have wanted?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regwarden.core.observed import Hold, ObservedRepository, TagState
from regwarden.core.patterns import parse_pattern
from regwarden.core.plan import GuardCode, StepKind
from regwarden.core.planning import PlanInputs, plan_repository
from regwarden.core.selecting import select
from regwarden.core.selection import SelectedTags, Selection
from regwarden.core.verdicts import Outcome, ReasonCode
from regwarden.errors import Conflict, InputError
from tests.observed import JUST_NOW, NOW, after, digest_of, manifest, registry, repository, signature_tag, tag

EVERYTHING_WAIVED = frozenset({GuardCode.NEVER_EMPTY})


def selection(*references: str, repositories: str = "", tags: str = "", excluded: str = "", **more) -> Selection:
    """``references`` are ``repository:pattern``; the others are patterns with a blank between them."""
    made = []
    for reference in references:
        name, _, pattern = reference.partition(":")
        made.append(SelectedTags(repository=parse_pattern(name), tags=(parse_pattern(pattern),)))
    return Selection(
        registry="prod",
        repositories=tuple(map(parse_pattern, repositories.split())),
        tags=tuple(map(parse_pattern, tags.split())),
        references=tuple(made),
        excluded=tuple(map(parse_pattern, excluded.split())),
        **more,
    )


def known(**tags: Mapping[str, int | None]) -> list[ObservedRepository]:
    return [repository(of_one, name=name) for name, of_one in tags.items()]


def decided(wanted: Selection, repositories: list[ObservedRepository], **more):
    """The verdicts by ``repository:tag``, or ``repository@number`` for what has no tag."""
    facts: dict[str, Any] = {"holds": (), "now": NOW} | more
    found = {}
    for one in select(wanted, repositories, registry(), **facts):
        for verdict in one.verdicts:
            name = f":{verdict.tag}" if verdict.tag else f"@{int(str(verdict.digest)[7:], 16)}"
            found[f"{one.repository}{name}"] = verdict
    return found


def selected(wanted: Selection, repositories: list[ObservedRepository], **more) -> set[str]:
    found = decided(wanted, repositories, **more)
    return {name for name, verdict in found.items() if verdict.outcome is Outcome.REMOVE}


def done(wanted: Selection, repositories: list[ObservedRepository]) -> dict[str, list[str]]:
    """What a plan would do in each repository, whatever guards say: ``-1`` a manifest, ``-a`` a tag."""
    inputs = PlanInputs(
        registries={"prod": registry()},
        snapshots={},
        now=NOW,
        made_by="x",
        selection=wanted,
        waived=EVERYTHING_WAIVED,
    )
    by_name = {one.name: one for one in repositories}
    found = {}
    for verdicts in select(wanted, repositories, registry(), holds=(), now=NOW):
        steps = plan_repository(inputs, by_name[verdicts.repository], verdicts, ()).steps
        words = [
            f"-{step.tags[0]}" if step.kind is StepKind.UNTAG else f"-{int(step.digest[7:], 16)}" for step in steps
        ]
        found[verdicts.repository] = words
    return {name: words for name, words in found.items() if words}


# 5.3 and 5.4: patterns are or-ed; comparisons of versions are those of the predecessor.


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("1.0", {"1.0"}),
        ("<1.2", {"1.0", "1.00"}),
        ("==1.0", {"1.0", "1.00"}),
        (">1.2", {"1.10", "1.2-rc1", "2"}),
        ("start:1", {"1.0", "1.00", "1.10", "1.2-rc1"}),
        ("glob:*", {"1.0", "1.00", "1.10", "1.2-rc1", "2", "latest", "v1.1"}),
        ("<v2", {"v1.1", "latest"}),
    ],
)
def test_tags_are_selected_by_name_comparison_or_expression(pattern, expected):
    names = ["1.0", "1.00", "1.10", "1.2-rc1", "2", "latest", "v1.1"]
    observed = known(app={name: number for number, name in enumerate(names)})
    assert selected(selection(f"app:{pattern}"), observed) == {f"app:{name}" for name in expected}


def test_several_patterns_and_repositories_are_united():
    observed = known(app={"a": 1, "b": 2, "c": 3}, lib={"a": 4, "b": 5})
    assert selected(selection(repositories="app lib", tags="a b"), observed) == {"app:a", "app:b", "lib:a", "lib:b"}
    assert selected(selection("app:a", "lib:b", "app:c"), observed) == {"app:a", "app:c", "lib:b"}
    assert selected(selection("lib:a", repositories="app"), observed) == {"app:a", "app:b", "app:c", "lib:a"}


# 5.5: the table of cases.


@pytest.mark.parametrize(
    ("repositories", "wanted", "expected"),
    [
        pytest.param(
            known(app={"a": 1}, other={"x": 1}), selection("app:a"), set(), id="used in a repository that is not listed"
        ),
        pytest.param(
            known(app={"a": 1}, other={"x": 1}),
            selection(repositories="app other", tags="a"),
            set(),
            id="used in a listed repository without any matching tag",
        ),
        pytest.param(
            known(app={"a": 1}, other={"x": 1, "a": 2}),
            selection(repositories="app other", tags="a"),
            {"other:a"},
            id="another repository has a tag of it that does not match",
        ),
        pytest.param(known(app={"a": 1, "b": 1}), selection("app:a"), set(), id="another tag does not match"),
        pytest.param(
            known(app={"a": 1, "b": 1}), selection("app:a", "app:b"), {"app:a", "app:b"}, id="all its tags match"
        ),
        pytest.param(
            known(app={"a": 1, "b": 1, "c": 2}),
            selection("app:glob:*", excluded="b"),
            {"app:c"},
            id="an exclusion keeps the digest",
        ),
        pytest.param(
            known(app={"a": 1}, lib={"a": 1, "b": 1}),
            selection(repositories="app lib", tags="a b", excluded="b"),
            set(),
            id="an exclusion in one repository keeps the digest in all",
        ),
        pytest.param(
            known(app={"a": 1}, lib={"a": 1}),
            selection(repositories="app lib", tags="a"),
            {"app:a", "lib:a"},
            id="it goes in every listed repository",
        ),
        pytest.param(
            known(app={"a": 1, "b": 1}),
            selection("app:a", match_all_tags=False),
            {"app:a", "app:b"},
            id="one tag is enough",
        ),
        pytest.param(
            known(app={"a": 1, "b": 1}),
            selection("app:a", match_all_tags=False, excluded="b"),
            set(),
            id="one tag is enough, but another is excluded",
        ),
        pytest.param(
            known(app={"a": 1}, zoo={"x": 1}),
            selection("app:a", match_all_tags=False),
            set(),
            id="one tag is enough, and a later repository has it too",
        ),
        pytest.param(
            known(app={"a": 1}, lib={"b": 1, "a": 2}),
            selection(repositories="app lib", tags="a", match_all_tags=False),
            {"lib:a"},
            id="one tag is enough, but in another listed repository none matches",
        ),
        pytest.param(
            known(app={"a": 1}, other={"x": 1}), selection(repositories="app"), set(), id="whole, but used elsewhere"
        ),
        pytest.param(
            known(app={"a": 1, "b": 2}, other={"x": 2}), selection(repositories="app"), {"app:a"}, id="whole, in part"
        ),
    ],
)
def test_a_digest_goes_only_if_the_whole_of_it_is_meant(repositories, wanted, expected):
    assert selected(wanted, repositories) == expected
    assert selected(wanted, repositories[::-1]) == expected


def test_what_is_skipped_says_who_uses_it():
    inside = decided(selection("app:a"), known(app={"a": 1, "b": 1}))["app:a"]
    assert inside.reasons[0][0::3] == (ReasonCode.SHARED, "app:b is a tag of it too")
    outside = decided(selection("app:a"), known(app={"a": 1}, other={"x": 1}))["app:a"]
    assert outside.reasons[0][0::3] == (ReasonCode.SHARED, "the repository other uses it too")
    excluded = decided(selection("app:a", "app:b", excluded="b"), known(app={"a": 1, "b": 1}))["app:a"]
    assert excluded.reasons[0][0::3] == (ReasonCode.EXCLUDED, "excluded by app:b")


def test_an_index_elsewhere_that_lists_a_digest_uses_it():
    lists = repository({"multi": 10}, manifest(10, 1), manifest(1), name="other")
    holds_it_untagged = repository({"x": 10}, manifest(1), name="other")
    assert selected(selection("app:a"), [*known(app={"a": 1}), lists]) == set()
    assert selected(selection("app:a"), [*known(app={"a": 1}), holds_it_untagged]) == {"app:a"}


def test_sharing_is_an_error_where_that_is_wanted():
    observed = known(app={"a": 1, "b": 1}, other={"x": 1})
    cases = (
        (selection("app:a", raise_on_shared_tag=True), "app:b"),
        (selection("app:a", raise_on_shared_repository=True), "by other"),
    )
    for wanted, word in cases:
        with pytest.raises(Conflict, match=word) as caught:
            selected(wanted, observed)
        assert caught.value.code == "shared-digest"
        assert caught.value.hint
    assert selected(selection("app:a", raise_on_shared_repository=True), known(app={"a": 1, "b": 1})) == set()
    assert selected(selection("app:a", raise_on_shared_tag=True), known(app={"a": 1}, other={"x": 1})) == set()


def test_a_listed_repository_without_any_matching_tag_counts_as_another_repository():
    observed = known(app={"a": 1}, lib={"x": 1})
    raising = selection(repositories="app lib", tags="a", raise_on_shared_repository=True)
    with pytest.raises(Conflict, match="by lib"):
        selected(raising, observed)
    with_tag = known(app={"a": 1}, lib={"x": 1, "a": 2})
    assert selected(raising, with_tag) == {"lib:a"}
    with pytest.raises(Conflict, match="lib:x"):
        selected(replace(raising, raise_on_shared_tag=True), with_tag)


def test_what_is_excluded_is_no_error_although_it_is_shared():
    # The predecessor raised here, though the exclusion would have dropped the digest anyway.
    observed = known(app={"a": 1, "b": 1}, other={"x": 1})
    raising = selection("app:a", excluded="b", raise_on_shared_tag=True, raise_on_shared_repository=True)
    assert selected(raising, observed) == set()


def test_untag_removes_only_the_tags_that_were_selected():
    observed = known(app={"a": 1, "b": 1, "c": 2})
    assert done(selection("app:a"), observed) == {}
    assert done(selection("app:a", untag=True), observed) == {"app": ["-a"]}
    assert done(selection("app:a", "app:c", untag=True), observed) == {"app": ["-a", "-2"]}


def test_untag_leaves_the_manifest_that_another_repository_uses():
    observed = known(app={"a": 1, "c": 2}, other={"x": 1})
    assert done(selection("app:a"), observed) == {}
    assert done(selection("app:a", untag=True), observed) == {"app": ["-a"]}


def test_a_platform_of_an_index_that_stays_is_not_removed_unless_untagging_is_meant():
    observed = [repository({"multi": 10, "amd64": 1}, manifest(10, 1), name="app")]
    assert done(selection("app:amd64"), observed) == {}
    assert done(selection("app:amd64", untag=True), observed) == {"app": ["-amd64"]}


def test_one_enough_deletes_the_digest_with_its_other_tags():
    assert done(selection("app:a", match_all_tags=False), known(app={"a": 1, "b": 1, "c": 2})) == {"app": ["-1"]}


def test_signatures_go_with_what_was_selected():
    observed = known(app={"a": 1, signature_tag(1): 2, "b": 3, signature_tag(3): 4})
    assert done(selection("app:a"), observed) == {"app": ["-1", "-2"]}
    assert done(selection("app:a", excluded=signature_tag(1)), observed) == {}


def test_signatures_of_what_stays_go_only_if_a_pattern_means_them():
    observed = known(app={"a": 1, signature_tag(1): 2, "b": 3, signature_tag(3): 4, signature_tag(9): 5})
    assert done(selection("app:glob:*", excluded="a"), observed) == {"app": ["-3", "-5", "-4"]}
    assert done(selection("app:start:.*-"), observed) == {"app": ["-5"]}
    assert done(selection("app:glob:sha256-*"), observed) == {"app": ["-2", "-4", "-5"]}
    assert done(selection(f"app:{signature_tag(1)}"), observed) == {"app": ["-2"]}


def test_a_whole_repository_goes_with_what_has_no_tag():
    observed = repository({"a": 10}, manifest(10, 1), manifest(1), manifest(2), name="app")
    assert done(selection(repositories="app"), [observed]) == {"app": ["-2", "-10", "-1"]}
    assert done(selection("app:glob:*"), [observed]) == {"app": ["-10", "-1"]}


def test_a_whole_repository_is_emptied_only_if_that_guard_is_waived():
    wanted, observed = selection(repositories="app"), known(app={"a": 1, "b": 2})
    (verdicts,) = select(wanted, observed, registry(), holds=(), now=NOW)
    inputs = PlanInputs(registries={"prod": registry()}, snapshots={}, now=NOW, made_by="x", selection=wanted)
    held = plan_repository(inputs, observed[0], verdicts, ())
    assert held.steps == ()
    assert [(one.code, one.hint[-20:]) for one in held.guards] == [(GuardCode.NEVER_EMPTY, "--waive never-empty.")]
    waived = plan_repository(replace(inputs, waived=EVERYTHING_WAIVED), observed[0], verdicts, ())
    assert len(waived.steps) == 2


def test_what_is_young_stays_unless_that_guard_is_waived():
    observed = known(app={"a": 1, "b": 2})
    young = [replace(observed[0], tags=(tag("a", 1, tagged_at=JUST_NOW), tag("b", 2)))]
    assert selected(selection("app:glob:*"), young) == {"app:b"}
    assert selected(selection("app:glob:*"), young, waived=frozenset({GuardCode.MIN_AGE})) == {"app:a", "app:b"}
    pushed = [repository({"a": 1}, manifest(1, last_pushed_at=JUST_NOW), name="app")]
    assert decided(selection("app:a"), pushed)["app:a"].reasons[0].code is ReasonCode.MINIMUM_AGE


def test_what_is_held_stays():
    hold = Hold(id=1, registry="prod", repository="app", tag="a", by="alice", reason="audit")
    found = decided(selection("app:glob:*"), known(app={"a": 1, "b": 2}), holds=(hold,))
    assert found["app:a"].reasons[0][0::3] == (ReasonCode.PROTECTED, "held by alice: audit")
    assert found["app:b"].outcome is Outcome.REMOVE


def test_a_tag_that_leads_nowhere_is_left_undecided():
    assert decided(selection("app:a"), known(app={"a": None}))["app:a"].outcome is Outcome.UNDECIDED


def test_a_tag_that_could_not_be_read_keeps_its_repository():
    observed = known(app={"a": 1, "b": 2})
    unread = tag("x", None)._replace(state=TagState.UNREADABLE)
    assert done(selection("app:a"), [replace(observed[0], tags=(*observed[0].tags, unread))]) == {}


def test_what_is_not_meant_says_so():
    assert decided(selection("app:a"), known(app={"a": 1, "b": 2}))["app:b"].reasons[0].code is ReasonCode.UNSELECTED


def test_a_selection_without_a_repository_is_a_mistake():
    with pytest.raises(InputError, match="no repository"):
        selected(selection(tags="a"), known(app={"a": 1}))


@st.composite
def registries(draw: st.DrawFn) -> list[ObservedRepository]:
    tags = st.dictionaries(st.sampled_from("abcd"), st.integers(0, 4), min_size=1)
    return [repository(draw(tags), manifest(5, 0, 1), name=name) for name in ("app", "lib", "other")]


@given(registries(), st.booleans(), st.booleans(), st.sampled_from(["", "d", "c d"]))
def test_nothing_outside_the_selection_ever_loses_a_tag(repositories, match_all_tags, untag, excluded):
    wanted = selection("app:a", "app:b", "lib:a", excluded=excluded, match_all_tags=match_all_tags, untag=untag)
    inputs = PlanInputs(
        registries={"prod": registry()}, snapshots={}, now=NOW, made_by="x", selection=wanted, waived=EVERYTHING_WAIVED
    )
    by_name = {one.name: one for one in repositories}
    named = {"app": {"a", "b"}, "lib": {"a"}}
    found = select(wanted, repositories, registry(), holds=(), now=NOW)
    assert [one.repository for one in found] == ["app", "lib"]
    gone: set[str] = set()
    for verdicts in found:
        before = by_name[verdicts.repository]
        planned = plan_repository(inputs, before, verdicts, ())
        left = {one.name for one in after(before, planned.steps).tags}
        lost = {one.name for one in before.tags} - left
        for name in lost - named[before.name]:
            digest = next(one.digest for one in before.tags if one.name == name)
            siblings = {one.name for one in before.tags if one.digest == digest}
            assert not match_all_tags
            assert siblings & named[before.name]
        assert not lost & set(excluded.split())
        gone |= {step.digest for step in planned.steps if step.kind is StepKind.DELETE}
    assert not gone & {one.digest for one in by_name["other"].tags}
    assert digest_of(5) not in gone
