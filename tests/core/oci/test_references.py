from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regwarden.core.oci.digests import Digest
from regwarden.core.oci.references import (
    Reference,
    parse_reference,
    parse_repository_name,
    parse_tag_name,
    split_registry,
)
from regwarden.errors import InputError

HEX = "0123456789abcdef" * 4
DIGEST = Digest("sha256", HEX)

components = st.from_regex(r"[a-z0-9]{1,8}((\.|_|__|-{1,3})[a-z0-9]{1,8}){0,2}", fullmatch=True)
repositories = st.lists(components, min_size=1, max_size=4).map("/".join)
hosts = st.sampled_from(["localhost", "localhost:5000", "registry.example.com", "r.example.com:443", "[::1]:5000"])
tags = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", fullmatch=True)
reference_like = st.text(alphabet="abAB01.:/@-_[]sha256 \n", max_size=80)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("app", Reference(None, "app")),
        ("team/app:1.0", Reference(None, "team/app", "1.0")),
        ("prod/app", Reference("prod", "app")),
        ("localhost/app", Reference("localhost", "app")),
        ("localhost:5000/a/b:1", Reference("localhost:5000", "a/b", "1")),
        ("[::1]:5000/app", Reference("[::1]:5000", "app")),
        ("registry.example.com/app", Reference("registry.example.com", "app")),
        ("docker.io/library/redis", Reference("docker.io", "library/redis")),
        (f"app@sha256:{HEX}", Reference(None, "app", None, DIGEST)),
        (f"app:1@sha256:{HEX}", Reference(None, "app", "1", DIGEST)),
    ],
)
def test_a_reference_is_read_without_inventing_a_registry_or_namespace(text, expected):
    assert parse_reference(text, known_registries=["prod"]) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "/app", "app/", "a//b", "a b", "app:", "app:v1/x", "app@sha256:12", f"app@sha384:{HEX}", "app\n", "äpp"),
        *("a" * 256, "app:" + "t" * 129, "prod/", "http://host/app", "-app", f"app@sha256:{HEX.upper()}", "a/" * 600),
    ],
)
def test_what_is_no_reference_is_refused_with_a_code(text):
    with pytest.raises(InputError) as refusal:
        parse_reference(text, known_registries=["prod"])
    assert refusal.value.code in ("bad-reference", "bad-digest")


def test_upper_case_is_named_as_the_reason():
    with pytest.raises(InputError, match="lower case"):
        parse_reference("Team/app")


@given(st.none() | hosts, repositories, st.none() | tags, st.sampled_from([None, DIGEST]))
def test_every_reference_that_is_written_is_read_again(host, repository, tag, digest):
    if host is None and split_registry(repository)[0] is not None:
        host = "localhost"
    reference = Reference(host, repository, tag, digest)
    assert parse_reference(str(reference)) == reference


@given(st.text(max_size=300) | reference_like)
def test_no_text_makes_the_parser_raise_anything_else(text):
    try:
        reference = parse_reference(text)
    except InputError:
        return
    assert str(reference) == text


def test_a_repository_name_has_neither_tag_nor_digest_nor_host():
    assert parse_repository_name("team/sub.app") == "team/sub.app"
    for text in ("team/app:1", f"team/app@sha256:{HEX}", "host:5000/app", "team/App"):
        with pytest.raises(InputError):
            parse_repository_name(text)


def test_a_tag_name_is_checked():
    assert parse_tag_name("v1.0_x-Y") == "v1.0_x-Y"
    for text in ("", ".x", "-x", "a b", "a/b", "a:b", "x" * 129, "x\n"):
        with pytest.raises(InputError):
            parse_tag_name(text)


def test_a_first_part_without_dot_or_colon_is_a_registry_only_if_it_is_known():
    assert split_registry("prod/app") == (None, "prod/app")
    assert split_registry("prod/app", known_registries={"prod"}) == ("prod", "app")
    assert split_registry("prod", known_registries={"prod"}) == (None, "prod")
