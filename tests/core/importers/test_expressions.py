from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regwarden.core.importers.command_lines import find_commands, split_words
from regwarden.core.importers.drafting import build_name
from regwarden.core.importers.expressions import from_anchored, from_search, has_outer_bar, is_found_anywhere
from regwarden.core.patterns import parse_pattern

PIECES = st.sampled_from(["a", "b", "-", ".", ".*", "|", "(a|b)", "(?:a|)", "[a|b]", "[]|]", "[^]|a]", "\\|", "\\.*"])
ANCHORS = st.sampled_from(["", "", "^", "$", "\\$", "\\A"])
TEXTS = st.text(st.sampled_from("ab-.|$"), max_size=5)


@st.composite
def regexes(draw: st.DrawFn) -> str:
    """Small regular expressions with anchors, alternatives and sets."""
    parts = draw(st.lists(st.builds("".join, st.tuples(ANCHORS, PIECES, ANCHORS)), min_size=1, max_size=4))
    return "".join(parts)


@given(regexes(), TEXTS)
def test_a_search_and_its_whole_expression_match_the_same(regex, text):
    whole = parse_pattern(f"re:{from_search(regex)}")
    assert whole.matches(text) == (re.search(regex, text) is not None)


@given(regexes(), TEXTS)
def test_the_anchors_of_gitlab_and_the_whole_expression_match_the_same(regex, text):
    whole = parse_pattern(f"re:{from_anchored(regex)}")
    assert whole.matches(text) == (re.search(rf"\A{regex}\Z", text) is not None)


@pytest.mark.parametrize(
    ("regex", "whole"),
    [
        ("v.*", ".*v.*"),
        ("^v.*", "v.*"),
        ("^v[0-9]+$", "v[0-9]+"),
        ("^(dev|pr)-", "(dev|pr)-.*"),
        ("a|^b$", ".*(?:a|^b$).*"),
        (".*", ".*"),
        ("", ".*"),
        ("^$", "(?:)"),
        (r"x\.*", r".*x\.*.*"),
        (r"^x\$", r"x\$.*"),
    ],
)
def test_simple_expressions_stay_readable(regex, whole):
    assert from_search(regex) == whole
    assert is_found_anywhere(regex) == (whole.startswith(".*") and not regex.startswith(".*"))


@pytest.mark.parametrize(
    ("regex", "has_one"),
    [
        *(("a|b", True), ("(a|b)", False), (r"a\|b", False), ("[|]", False), ("[]|]", False)),
        *(("[[:alpha:]|]", False), (r"\Qa|b\E", True), ("(a)|b", True), (r"[\]|]x", False)),
    ],
)
def test_alternatives_outside_groups_are_found(regex, has_one):
    assert has_outer_bar(regex) is has_one


def test_names_are_readable_and_unique():
    assert build_name("nDaysSinceLastPush") == "n-days-since-last-push"
    assert build_name("Delete old!", ["delete-old", "delete-old-2"]) == "delete-old-3"
    assert build_name("§") == "rule"
    assert len(build_name("x" * 500)) < 100


def test_commands_are_found_in_scripts_variables_and_tasks():
    def is_start(words):
        return 2 if words[:2] == ["acr", "purge"] else 0

    text = 'cmd: "acr purge --ago 1d && acr purge --ago 2d"\nX="acr purge \\\n --ago 3d"\nacr purge --ago 4d | tee log'
    words = split_words(text, name="x")
    assert [found[1] for found in find_commands(words, is_start, name="x")] == ["1d", "2d", "3d", "4d"]
