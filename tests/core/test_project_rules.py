"""What a rule of GitLab protects, and how that is told."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regwarden.core.project_rules import (
    build_repository_finder,
    build_tag_finder,
    describe_rule,
    matches,
    protects_deletion,
    shown_pattern,
)
from regwarden.core.projects import ProtectionRule, RuleKind

TAG, IMMUTABLE, REPOSITORY = RuleKind.TAG, RuleKind.IMMUTABLE, RuleKind.REPOSITORY
RULES = st.builds(
    ProtectionRule,
    st.sampled_from(RuleKind),
    st.text(max_size=30),
    st.sampled_from(("", "maintainer", "owner", "admin", "x\x1b[31m")),
    st.sampled_from(("", "maintainer")),
)
NAMES = st.from_regex(r"[a-z0-9][a-zA-Z0-9._-]{0,20}", fullmatch=True)


@pytest.mark.parametrize(
    ("pattern", "tag", "is_match"),
    [
        ("v.*", "v1.0", True),
        ("v.*", "nov1", True),  # found anywhere
        ("^v.*", "nov1", False),
        ("-final$", "1.0-final", True),
        ("-final$", "1.0-final.2", False),
        (r"^v\d+", "v12", True),
        ("V", "v1", False),
        ("main|release", "prerelease-1", True),
        ("", "anything", True),
        ("(", "anything", True),  # what cannot be read protects everything
        ("(?=v)", "1.0", True),
        (r"(a)\1", "1.0", True),
        ("v\x01", "1.0", True),
        ("v\N{REPLACEMENT CHARACTER}", "1.0", True),
        ("a" * 100, "1.0", False),
        ("a" * 2000, "1.0", True),
        ("((a{100}){100}){100}", "1.0", True),
        ("~v", "1.0", False),
        ("glob:v*", "v1", False),  # always a regular expression
    ],
)
def test_a_pattern_is_found_anywhere_in_a_tag(pattern: str, tag: str, is_match: bool) -> None:
    assert matches(ProtectionRule(TAG, pattern, "owner"), tag) is is_match


@pytest.mark.parametrize(
    ("pattern", "path", "is_match"),
    [
        ("team/app", "team/app", True),
        ("team/app", "team/app2", False),
        ("Team/App*", "team/app/web", True),
        ("*/app", "team/sub/app", True),
        ("team/a.p", "team/app", False),
        ("team/[a]", "team/a", False),
        ("*", "anything/at-all", True),
        ("", "team/app", True),
        ("team/" + "-" * 1000, "team/app", True),
    ],
)
def test_a_star_is_anything_in_the_path_of_a_repository(pattern: str, path: str, is_match: bool) -> None:
    rule = ProtectionRule(REPOSITORY, pattern, "owner")
    assert matches(rule, path) is is_match
    finder = build_repository_finder([rule, ProtectionRule(TAG, "(", "owner")])
    assert finder is not None
    assert finder(path) == (rule if is_match else None)


@given(RULES, NAMES)
@settings(max_examples=200, deadline=None)
def test_any_rule_can_be_asked_and_told(rule: ProtectionRule, name: str) -> None:
    assert isinstance(matches(rule, name), bool)
    assert describe_rule(rule).isprintable()
    assert shown_pattern(rule)


@given(st.lists(RULES, max_size=6), NAMES)
@settings(max_examples=100, deadline=None)
def test_a_tag_is_protected_exactly_if_a_rule_names_it_whatever_the_order(
    rules: list[ProtectionRule], name: str
) -> None:
    about = [one for one in rules if one.kind is not REPOSITORY and protects_deletion(one)]
    finder, reverse = build_tag_finder(rules), build_tag_finder(rules[::-1])
    assert (finder is None) is (not about)
    found = None if finder is None else finder(name)
    assert (found is not None) is any(matches(one, name) for one in about)
    assert found == (None if reverse is None else reverse(name))
    if any(one.kind is IMMUTABLE and matches(one, name) for one in about):
        assert found is not None
        assert found.kind is IMMUTABLE


@given(st.lists(st.sampled_from("abAB*/"), max_size=12).map("".join), st.text("ab/", max_size=12))
@settings(max_examples=200, deadline=None)
def test_the_star_means_the_same_as_in_a_plain_search(pattern: str, path: str) -> None:
    wanted = re.fullmatch(".*".join(map(re.escape, pattern.lower().split("*"))), path) is not None or not pattern
    assert matches(ProtectionRule(REPOSITORY, pattern, "owner"), path) is wanted


def test_a_rule_about_pushes_alone_lets_everybody_delete() -> None:
    assert not protects_deletion(ProtectionRule(TAG, "v", push_role="owner"))
    assert build_tag_finder([ProtectionRule(TAG, "v", push_role="owner")]) is None
    # Without any role nobody may change them: so GitLab keeps those that are immutable.
    assert protects_deletion(ProtectionRule(TAG, "v"))


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (ProtectionRule(TAG, "v.*", "maintainer"), "GitLab lets only maintainers delete tags like v.*"),
        (ProtectionRule(TAG, "v.*", "admin", "owner"), "GitLab lets only administrators delete tags like v.*"),
        (ProtectionRule(TAG, "v.*", push_role="owner"), "GitLab lets only owners push tags like v.*"),
        (ProtectionRule(TAG, "v.*", "boss"), "GitLab lets only those with the role boss delete tags like v.*"),
        (ProtectionRule(IMMUTABLE, "-f$"), "GitLab lets nobody delete or move tags like -f$: they are immutable"),
        (ProtectionRule(REPOSITORY, "a/*", "owner"), "GitLab lets only owners delete repositories like a/*"),
    ],
)
def test_rules_are_told_plainly(rule: ProtectionRule, text: str) -> None:
    assert describe_rule(rule) == text
