from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version as PackagingVersion
from semver import Version as SemverVersion

from regwarden.core.versions import LooseComparison, SemanticVersion, find_semantic_version, order_key
from regwarden.errors import InputError

numbers = st.integers(0, 12).map(str)
tag_like = st.one_of(
    st.text(max_size=12),
    st.text(alphabet="v.-_01239abrclatestdevpost", max_size=12),
    st.builds(
        lambda parts, tail: ".".join(parts) + tail,
        st.lists(numbers, min_size=1, max_size=4),
        st.sampled_from(["", "-rc.1", "rc1", "-slim", ".dev1", ".post1", "a1.post1", ".post1.dev2", "-1"]),
    ),
)
pep440 = st.builds(
    "{}{}{}{}{}".format,
    st.lists(numbers, min_size=2, max_size=4).map(".".join),
    st.sampled_from(["", "a1", "b2", "rc1"]),
    st.sampled_from(["", ".post1", ".post2"]),
    st.sampled_from(["", ".dev1", ".dev2"]),
    st.sampled_from(["", "+abc", "+1"]),
)
semvers = st.builds(
    "{}.{}.{}{}".format,
    numbers,
    numbers,
    numbers,
    st.sampled_from(["", "-alpha", "-alpha.1", "-alpha.beta", "-beta", "-beta.2", "-beta.11", "-rc.1"]),
)


@given(tag_like, tag_like)
def test_two_different_tags_have_different_places_and_one_is_first(left, right):
    a, b = order_key(left), order_key(right)
    assert (a < b) + (b < a) + (left == right) == 1


@given(st.tuples(tag_like, tag_like, tag_like))
def test_the_order_is_transitive(tags):
    for a, b, c in itertools.permutations(map(order_key, tags)):
        if a < b < c:
            assert a < c


@given(semvers, semvers)
def test_semantic_versions_are_ordered_by_precedence(left, right):
    precedence = SemverVersion.parse(left).compare(right)
    if precedence:
        assert (order_key(left) < order_key(right)) == (precedence < 0)


@given(pep440, pep440)
def test_versions_that_only_packaging_reads_are_ordered_as_pep_440_says(left, right):
    readers = {find_semantic_version(left) is None, find_semantic_version(right) is None}
    if readers == {True} and PackagingVersion(left) != PackagingVersion(right):
        assert (order_key(left) < order_key(right)) == (PackagingVersion(left) < PackagingVersion(right))


def test_tags_are_listed_as_people_expect():
    expected = ["0.9", "1.0.0-rc.1", "1.0rc1", "1.0", "1.0.0", "v1.0", "1.0.post1", "1.2-slim", "1.2", "1.2.3.4"]
    expected += ["1.9", "v1.10.0", "2024.01.15", "20240131", "latest", "pr-9", "pr-10"]
    assert sorted(set(expected), key=order_key) == expected


def test_numbers_of_any_length_have_a_place():
    long = "9" * 5000
    assert order_key("pr-10") < order_key(f"pr-{long}") < order_key(f"pr-1{long}")
    assert order_key("x007") < order_key("x7")
    assert order_key("x7") < order_key("x008")


@pytest.mark.parametrize(
    ("tag", "release", "is_pre_release"),
    [
        ("1.2.3", (1, 2, 3), False),
        ("v1.2", (1, 2, 0), False),
        ("V3", (3, 0, 0), False),
        ("3.12-slim", (3, 12, 0), True),
        ("1.0.0-SNAPSHOT", (1, 0, 0), True),
        ("1.2.3_build.5", (1, 2, 3), False),
    ],
)
def test_a_tag_is_read_as_a_semantic_version(tag, release, is_pre_release):
    version = find_semantic_version(tag)
    assert version is not None
    assert (version.release, bool(version.pre_release)) == (release, is_pre_release)


@pytest.mark.parametrize(
    "tag", ["latest", "1.2.3.4", "01.2", "vv1", "1.2.3-", "", "v", "1" * 200, "1.2.3_a_b", "\u0661.\u0662"]
)
def test_what_is_no_semantic_version_is_none(tag):
    assert find_semantic_version(tag) is None


def test_a_missing_part_is_zero():
    assert find_semantic_version("2") == SemanticVersion((2, 0, 0))


@pytest.mark.parametrize(
    ("comparison", "matching", "others"),
    [
        ("<1.2", ["1.0", "1.00", "1", "0.9.9"], ["1.10", "1.2", "latest", "v1.1", "1.2-rc1"]),
        ("==1.0", ["1.0", "1.00", "1..0"], ["1.0.0", "1", "v1.0"]),
        (">1.2", ["1.10", "1.2-rc1", "2", "1.2.0"], ["1.2", "1.1", "latest"]),
        ("<v2", ["v1.1", "v1"], ["v2", "1.0", "v2.0"]),
        (">latest", ["v1.1", "newest"], ["latest", "edge", "1.0"]),
        ("<=1.4", ["1.4", "1.3.9"], ["1.4.1", "1.5", "dev"]),
        (">=1.4", ["1.4", "1.4.1", "1.4-rc1"], ["1.3.9", "dev"]),
        ("< 1.2", [], ["1.0", "1.2", "2"]),
    ],
)
def test_a_loose_comparison_matches_as_docker_registry_util_did(comparison, matching, others):
    parsed = LooseComparison.parse(comparison)
    assert [tag for tag in (*matching, *others) if parsed.matches(tag)] == matching
    assert str(parsed) == comparison


@pytest.mark.parametrize("text", ["", "1.4", "=1.4", "!=1.4", "<", "==", "<=", "<" + "1" * 200])
def test_what_is_no_loose_comparison_is_refused(text):
    with pytest.raises(InputError) as refusal:
        LooseComparison.parse(text)
    assert refusal.value.code == "bad-pattern"


@given(tag_like, tag_like.filter(bool))
def test_two_tags_that_compare_stand_in_exactly_one_relation(tag, version):
    relations = [LooseComparison(sign, version).matches(tag) for sign in ("<", "==", ">")]
    assert sum(relations) <= 1
    assert LooseComparison("<=", version).matches(tag) == (relations[0] or relations[1])
    assert LooseComparison(">=", version).matches(tag) == (relations[2] or relations[1])


@given(st.from_regex(r"v?[0-9]{1,4}(\.[0-9]{1,4}){0,3}", fullmatch=True))
def test_plain_numbers_are_read_as_the_library_reads_them(tag):
    try:
        version = SemverVersion.parse(tag.removeprefix("v"), optional_minor_and_patch=True)
    except ValueError:
        assert find_semantic_version(tag) is None
    else:
        assert find_semantic_version(tag) == SemanticVersion((version.major, version.minor, version.patch))
