from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from regwarden.core.patterns import Pattern, PatternKind, PatternSet, parse_pattern
from regwarden.errors import InputError

names = st.text(alphabet="ab/.-v01", max_size=10)
globs = st.text(alphabet="ab/*?[]{},!", min_size=1, max_size=10).map("glob:{}".format)
regexes = st.text(alphabet="ab/.*+?()|^$[]", min_size=1, max_size=10)
pattern_texts = st.one_of(
    globs,
    st.builds("{}{}".format, st.sampled_from(["re:", "start:", "~", ""]), regexes),
    st.sampled_from(["semver:>=1 <2", "semver:*", "<1.4", "loose:==1.0", "v1.0", "team/app"]),
    st.text(max_size=20),
)


def parse_or_none(text: str) -> Pattern | None:
    try:
        return parse_pattern(text)
    except InputError:
        return None


@pytest.mark.parametrize(
    ("text", "matching", "others"),
    [
        ("v1.0", ["v1.0"], ["v1x0", "v1.0.1", "av1.0"]),
        ("glob:v*", ["v", "v1.0"], ["xv1", "v1/x"]),
        ("glob:team-*/**", ["team-a/app", "team-a/b/c"], ["team-a", "team/app", "x/team-a/app"]),
        ("glob:**/app", ["app", "a/app", "a/b/app"], ["xapp", "a/app/b"]),
        ("glob:a/**/b", ["a/b", "a/x/b", "a/x/y/b"], ["ab", "a/xb"]),
        ("glob:**", ["app", "a/b/c"], []),
        ("glob:a**z", ["az", "a/b/z"], ["a/b"]),
        ("glob:v?.0", ["v1.0"], ["v10.0", "v/.0"]),
        ("glob:v[0-2].[!0]", ["v1.1", "v2.x"], ["v3.1", "v1.0", "v1./"]),
        ("glob:v[]x]", ["v]", "vx"], ["v"]),
        ("glob:{dev,pr-*}-x", ["dev-x", "pr-7-x"], ["dev,pr-7-x", "prod-x"]),
        ("glob:a{b,{c,d}e}f", ["abf", "acef", "adef"], ["aef", "abef"]),
        ("glob:a.b+c", ["a.b+c"], ["axb+c", "a.bbc"]),
        ("glob:a,b", ["a,b"], ["a", "b"]),
        ("re:v[0-9]+", ["v1", "v10"], ["v1.0", "xv1"]),
        ("re:a|ab", ["a", "ab"], ["abc"]),
        ("re:^(?i)dev$", ["dev", "DEV"], ["dev1"]),
        ("start:1", ["1.0", "10"], ["v1"]),
        ("start:1.0$", ["1.0"], ["1.0.0"]),
        ("~[0-9]$", ["v1", "a/b2"], ["v1x"]),
        ("semver:>=1.2 <2", ["1.2", "v1.9.9"], ["2.0", "latest"]),
        ("<1.4", ["1.3", "1.3.9"], ["1.10", "latest"]),
        ("loose:==1.0", ["1.00"], ["1.0.0"]),
    ],
)
def test_a_typed_pattern_matches_what_its_kind_says(text, matching, others):
    pattern = parse_pattern(text)
    assert [name for name in (*matching, *others) if pattern.matches(name)] == matching


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "glob:",
            "re:",
            "re:(",
            "re:a)(b",
            "re:(?=a)",
            r"re:(a)\1",
            "start:[",
            "~*",
            "re:a{2000}",
            "re:" + "a" * 1000,
        ),
        *("glob:{a", "glob:a}", "glob:[]", "glob:[a", "glob:[z-a]", "glob:a[/]b", "glob:" + "{" * 11 + "}" * 11),
        *("semver:latest", "loose:1.4", "<", "v*", "a{b}", "=1.0", "!=1", "^v", "a\nb", "a\ud800"),
    ],
)
def test_a_bad_pattern_is_refused_in_one_sentence(text):
    with pytest.raises(InputError) as refusal:
        parse_pattern(text)
    assert refusal.value.code == "bad-pattern"
    assert "\n" not in refusal.value.message


def test_a_forgotten_kind_gets_a_hint():
    with pytest.raises(InputError) as refusal:
        parse_pattern("team/*")
    assert "glob:team/*" in refusal.value.hint


def test_a_bad_pattern_writes_nothing_to_the_terminal(capfd):
    with pytest.raises(InputError):
        parse_pattern("re:(a")
    assert capfd.readouterr() == ("", "")


@given(pattern_texts, names)
def test_every_pattern_can_be_written_and_read_again(text, name):
    pattern = parse_or_none(text)
    if pattern is not None:
        again = parse_pattern(str(pattern))
        assert again == pattern
        assert again.matches(name) == pattern.matches(name)


@given(pattern_texts, names)
@example("re:ab*", "a")
@example("re:ab?c", "ac")
@example("re:a|b", "b")
@example("~^ab", "abc")
@example("glob:a{b,c}", "ac")
def test_what_matches_begins_with_the_literal_prefix_and_equals_the_exact_text(text, name):
    pattern = parse_or_none(text)
    if pattern is not None and pattern.matches(name):
        assert name.startswith(pattern.literal_prefix)
        assert pattern.exact in (None, name)


@pytest.mark.parametrize(
    ("text", "prefix", "exact"),
    [
        ("team/app", "team/app", "team/app"),
        ("glob:team/*", "team/", None),
        ("glob:team/app", "team/app", "team/app"),
        ("re:^team/app.*", "team/app", None),
        ("re:teams?", "team", None),
        ("start:v1", "v1", None),
        ("~v1", "", None),
        ("~^v1", "v1", None),
        ("re:(?i)v1", "", None),
        ("semver:1", "", None),
    ],
)
def test_an_index_can_use_the_certain_beginning(text, prefix, exact):
    pattern = parse_pattern(text)
    assert (pattern.literal_prefix, pattern.exact) == (prefix, exact)


@given(globs, names)
def test_a_glob_without_wildcards_for_slashes_keeps_the_number_of_parts(text, name):
    pattern = parse_or_none(text)
    if pattern is not None and "**" not in text and "{" not in text and pattern.matches(name):
        assert name.count("/") == text.count("/")


def test_an_evil_expression_takes_linear_time():
    pattern = parse_pattern("re:(a+)+(a|aa)*b")
    started = time.perf_counter()
    assert not pattern.matches("a" * 20_000)
    assert time.perf_counter() - started < 2


@pytest.mark.parametrize("text", [r"re:\pL{100}", "re:(a|b)*a(a|b){300}"])
def test_a_large_expression_still_matches(text):
    assert parse_pattern(text).matches("a" * 301 if "300" in text else "a" * 100)
    assert not parse_pattern(text).matches("a" * 99)


def test_a_bare_text_is_of_the_kind_the_caller_says():
    assert parse_pattern("^v", bare=PatternKind.SEARCH) == parse_pattern("~^v")
    assert parse_pattern("glob:v*", bare=PatternKind.SEARCH).kind is PatternKind.GLOB


def test_a_set_takes_what_is_included_and_not_excluded():
    selection = PatternSet((parse_pattern("glob:v*"), parse_pattern("latest")), (parse_pattern("~-rc"),))
    assert [tag for tag in ("v1", "v2-rc1", "latest", "dev") if selection.matches(tag)] == ["v1", "latest"]
    assert PatternSet().matches("anything")
    assert not PatternSet(exclude=(parse_pattern("dev"),)).matches("dev")
