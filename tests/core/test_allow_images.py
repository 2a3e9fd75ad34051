"""A text names a digest, a tag under every spelling of its name, or just itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regwarden.core.allow_images import Image, compared_host, parse_image
from regwarden.errors import InputError

HEX = "ab" * 32
STORED = b"\x01" + bytes.fromhex(HEX)


@pytest.mark.parametrize(
    "text",
    [HEX, f"sha256:{HEX}", f"docker://sha256:{HEX}"],
)
def test_a_bare_digest_names_content_and_no_repository(text: str) -> None:
    image = parse_image(text)
    assert (image.digest, image.names, image.tag) == (STORED, (), "")
    assert not image.is_tag_question


@pytest.mark.parametrize(
    ("text", "names", "tag", "digest"),
    [
        ("reg.example.com/team/app:1.0", "reg.example.com/team/app", "1.0", None),
        ("REG.example.com.:443/team/app:1.0", "reg.example.com/team/app", "1.0", None),
        ("reg.example.com:5000/app", "reg.example.com:5000/app", "latest", None),
        (f"reg.example.com/app@sha256:{HEX}", "reg.example.com/app", "", STORED),
        (f"docker-pullable://reg.example.com/app@sha256:{HEX}", "reg.example.com/app", "", STORED),
        (f"reg.example.com/app:2@sha256:{HEX}", "reg.example.com/app", "2", STORED),
        ("nginx", "docker.io/library/nginx", "latest", None),
        ("nginx:1.25", "docker.io/library/nginx", "1.25", None),
        ("docker.io/nginx:1.25", "docker.io/library/nginx", "1.25", None),
        ("index.docker.io/library/nginx:1.25", "docker.io/library/nginx", "1.25", None),
        ("team/app", "docker.io/team/app", "latest", None),
        ("localhost/app:x", "localhost/app", "x", None),
    ],
)
def test_a_reference_has_one_compared_form(text: str, names: str, tag: str, digest: bytes | None) -> None:
    image = parse_image(text)
    assert (image.names, image.tag, image.digest) == ((names,), tag, digest)
    assert image.is_tag_question is (digest is None)


@pytest.mark.parametrize(
    "text", ["Build-42", "team/App:1", "a b", "app@sha256:12", "app@md5:abc", "app:", "app:-x", "a//b", "SHA256:" + HEX]
)
def test_anything_else_stands_for_itself(text: str) -> None:
    assert parse_image(text) == Image(text)


def test_patterns_know_the_short_names_of_docker() -> None:
    assert parse_image("nginx").spellings == ("nginx", "docker.io/library/nginx", "library/nginx", "docker.io/nginx")
    assert "nginx" in parse_image("docker.io/library/nginx").spellings


def test_other_hosts_of_a_registry_are_names_too() -> None:
    image = parse_image("reg.example.com/app:1", {"reg.example.com": ("mirror:5000",)})
    assert image.references == ("reg.example.com/app:1", "mirror:5000/app:1")


@pytest.mark.parametrize("text", ["", " app", "app\n", "a\x00b", "x" * 1025])
def test_what_no_list_can_hold_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="image"):
        parse_image(text)


@given(st.text(max_size=80))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        image = parse_image(text)
    except InputError:
        return
    assert image.text == text
    assert image.digest is None or len(image.digest) in {33, 65}


@given(st.sampled_from(["reg.io", "REG.io", "reg.io:443", "reg.io.", "Reg.Io.:443"]))
def test_a_host_is_compared_in_one_form(host: str) -> None:
    assert compared_host(host) == "reg.io"
