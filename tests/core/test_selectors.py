from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regwarden.core.oci.digests import Digest
from regwarden.core.selectors import Selector, parse_selector
from regwarden.errors import InputError

DIGEST = "sha256:" + "0123456789abcdef" * 4

repository_parts = st.sampled_from(["", "team/app", "app", "glob:team-*/**", "re:team-[ab]/.*", "start:x", "~app"])
tag_parts = st.sampled_from(
    ["", ":1.0", ":glob:v*", ":re:(?:a|b)", ":semver:>=1 <2 || ^3", ":<1.4", ":start:v", ":~@x"]
)
registry_parts = st.sampled_from(["", "prod/", "localhost:5000/", "registry.example.com/"])
selector_texts = st.builds(
    "{}{}{}{}".format, registry_parts, repository_parts, tag_parts, st.sampled_from(["", f"@{DIGEST}"])
)


def parts(selector: Selector) -> tuple[str | None, ...]:
    return (selector.registry, *(str(part) if part else None for part in (selector.repository, selector.tag)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("team/app", (None, "team/app", None)),
        ("team/app:1.0", (None, "team/app", "1.0")),
        ("team/app:<1.4", (None, "team/app", "loose:<1.4")),
        ("team/app:==1.0", (None, "team/app", "loose:==1.0")),
        ("glob:team-*/**:semver:>=1", (None, "glob:team-*/**", "semver:>=1")),
        ("prod/glob:team-*/**:semver:>=1 <2", ("prod", "glob:team-*/**", "semver:>=1 <2")),
        ("prod/team/app", ("prod", "team/app", None)),
        ("other/team/app", (None, "other/team/app", None)),
        ("localhost:5000/app:re:(?:a|b)", ("localhost:5000", "app", "re:(?:a|b)")),
        ("r.example.com/~^team:~x:y", ("r.example.com", "~^team", "~x:y")),
        ("glob:semver:1.0", (None, "glob:semver", "1.0")),
        (":latest", (None, None, "latest")),
        ("prod/", ("prod", None, None)),
        ("prod/:glob:v*", ("prod", None, "glob:v*")),
        ("glob:a.b/**", (None, "glob:a.b/**", None)),
    ],
)
def test_a_selector_is_split_into_registry_repository_and_tag(text, expected):
    assert parts(parse_selector(text, known_registries=["prod"])) == expected


def test_a_digest_ends_a_selector():
    selector = parse_selector(f"glob:team/*:1.0@{DIGEST}")
    assert (parts(selector), selector.digest) == ((None, "glob:team/*", "1.0"), Digest.parse(DIGEST))
    assert parse_selector(f"@{DIGEST}") == Selector(digest=Digest.parse(DIGEST))


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "bad-selector"),
        ("app:", "bad-selector"),
        ("<1.4", "bad-selector"),
        ("semver:>=1", "bad-selector"),
        ("prod/loose:<1", "bad-selector"),
        ("re:(?:a|b)/c", "bad-selector"),
        ("a\tb", "bad-selector"),
        ("x" * 3000, "bad-selector"),
        ("team/*", "bad-pattern"),
        ("app:v*", "bad-pattern"),
        ("app:=1.0", "bad-pattern"),
        ("app:re:(", "bad-pattern"),
        ("glob:", "bad-pattern"),
        ("Team/app", "bad-reference"),
        ("unknown/", "bad-reference"),
        ("app:1.0 2.0", "bad-reference"),
        ("app@sha256:12", "bad-digest"),
        ("app@latest", "bad-digest"),
        ("glob:x@sha256:12", "bad-digest"),
    ],
)
def test_what_is_no_selector_is_refused_with_a_hint(text, code):
    with pytest.raises(InputError) as refusal:
        parse_selector(text, known_registries=["prod"])
    assert refusal.value.code == code
    assert refusal.value.hint


@given(selector_texts)
def test_every_selector_can_be_written_and_read_again(text):
    if text:
        selector = parse_selector(text, known_registries=["prod"])
        assert parse_selector(str(selector), known_registries=["prod"]) == selector


@given(st.text(max_size=60) | st.text(alphabet="glob:re~*@/<>=sha256 ab1.(){}", max_size=60))
def test_no_text_makes_the_parser_raise_anything_else(text):
    try:
        selector = parse_selector(text)
    except InputError:
        return
    assert parse_selector(str(selector)) == selector


def test_a_selector_selects_what_all_its_parts_match():
    selector = parse_selector("glob:team/*:semver:>=1")
    assert selector.matches("team/app", "1.2")
    assert not selector.matches("team/app", "0.9")
    assert not selector.matches("other/app", "1.2")
    assert not selector.matches("team/app")


def test_a_selector_without_a_tag_takes_untagged_manifests_too():
    assert parse_selector("team/app").matches("team/app")


def test_a_digest_selects_only_itself():
    selector = parse_selector(f"app@{DIGEST}")
    assert selector.matches("app", "any", Digest.parse(DIGEST))
    assert not selector.matches("app", "any", Digest.of(b"other"))
    assert not selector.matches("app", "any")
