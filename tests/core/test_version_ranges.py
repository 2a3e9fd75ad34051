from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regwarden.core.version_ranges import SemverRange
from regwarden.core.versions import find_semantic_version
from regwarden.errors import InputError

tags = st.from_regex(r"v?[0-3](\.[0-3]){0,2}(-(rc|slim)(\.[0-2])?)?", fullmatch=True)
versions = st.from_regex(r"[0-3]\.[0-3]\.[0-3]", fullmatch=True)


@pytest.mark.parametrize(
    ("text", "matching", "others"),
    [
        (">=1.2 <2 || ^3.1", ["1.2", "v1.9.9", "3.1.0", "3.9"], ["1.1.9", "2", "3.0.9", "4.0.0"]),
        ("1.2.3", ["1.2.3", "v1.2.3", "1.2.3_build5"], ["1.2.4", "1.2.3-rc.1"]),
        ("=1.2", ["1.2.0", "1.2.9"], ["1.3.0", "1.1.9"]),
        ("1.x", ["1.0.0", "1.9"], ["2.0.0", "0.9.0"]),
        ("*", ["0.0.0", "99.1"], ["1.0.0-rc.1", "latest", "1.2.3.4"]),
        (">1.2", ["1.3.0", "2"], ["1.2.9", "1.3.0-rc.1"]),
        ("<=1.2", ["1.2.9", "0.1"], ["1.3.0"]),
        ("<1.2", ["1.1.9"], ["1.2.0", "1.2.0-rc.1"]),
        ("~1.2.3", ["1.2.3", "1.2.9"], ["1.2.2", "1.3.0"]),
        ("~1", ["1.0", "1.9"], ["2.0"]),
        ("^1.2.3", ["1.2.3", "1.9"], ["1.2.2", "2.0.0"]),
        ("^0.2.3", ["0.2.3", "0.2.9"], ["0.3.0", "0.2.2"]),
        ("^0.0.3", ["0.0.3"], ["0.0.4"]),
        ("^0.0", ["0.0.9"], ["0.1.0"]),
        ("1.2 - 2.3", ["1.2.0", "2.3.9"], ["1.1.9", "2.4.0"]),
        ("1.2.3 - 2.3.4", ["1.2.3", "2.3.4"], ["2.3.5"]),
        (">= 1.2", ["1.2"], ["1.1"]),
        (">1 <1", [], ["1", "0.9", "1.1"]),
        ("<*", [], ["0.0.0", "1.0.0"]),
        (">=1.2.0-rc.1", ["1.2.0-rc.1", "1.2.0-rc.2", "1.2.0", "1.3.0"], ["1.3.0-rc.1", "1.2.0-beta"]),
        (">=3.11", ["3.12", "3.12.1"], ["3.12-slim", "3.11-alpine"]),
        ("3.12.0-slim", ["3.12-slim", "v3.12.0-slim"], ["3.12", "3.12-alpine"]),
    ],
)
def test_a_range_matches_what_node_semver_matches(text, matching, others):
    parsed = SemverRange.parse(text)
    assert [tag for tag in (*matching, *others) if parsed.matches(tag)] == matching


@pytest.mark.parametrize(
    "text",
    ["", "  ", "latest", ">>1", "1.2.3.4", "01.2", "1 -2 -", "^", ">=", "1..2", "1.2.3-01", "9" * 10, "1 " * 600],
)
def test_what_is_no_range_is_refused(text):
    with pytest.raises(InputError) as refusal:
        SemverRange.parse(text)
    assert refusal.value.code == "bad-pattern"


@given(st.text(alphabet="0123.xX*<>=~^| -vrc", max_size=30) | st.text(max_size=30), tags)
def test_no_text_makes_the_parser_raise_anything_else(text, tag):
    try:
        parsed = SemverRange.parse(text)
    except InputError:
        return
    assert parsed.matches(tag) in (True, False)
    assert SemverRange.parse(str(parsed)) == parsed


@given(versions, tags)
def test_a_release_is_below_equal_or_above_every_other_and_never_two_of_them(version, tag):
    relations = [SemverRange.parse(f"{sign}{version}").matches(tag) for sign in ("<", "=", ">")]
    parsed = find_semantic_version(tag)
    assert parsed is not None
    assert sum(relations) == (0 if parsed.pre_release else 1)


@given(versions, versions, tags)
def test_a_caret_and_a_tilde_never_leave_the_major_version(version, other, tag):
    parsed = find_semantic_version(tag)
    assert parsed is not None
    for sign in "^~":
        if SemverRange.parse(f"{sign}{version}").matches(tag):
            assert parsed.release[0] == int(version[0])
    either = SemverRange.parse(f"^{version} || ^{other}").matches(tag)
    assert either == (SemverRange.parse(f"^{version}").matches(tag) or SemverRange.parse(f"^{other}").matches(tag))
