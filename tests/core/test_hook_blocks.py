"""The blocks that make a registry send its events, and those that make us know a host."""

from __future__ import annotations

import tomllib

import pytest

from regwarden.core.hook_blocks import (
    Flavour,
    Form,
    alias_line,
    find_listening,
    hook_url,
    notification_block,
    registry_block,
)

URL = "https://regwarden.example.com/hooks/prod"


def test_only_the_lean_form_leaves_blobs_out() -> None:
    for flavour in Flavour:
        lean = notification_block(URL, "abc", form=Form.LEAN, flavour=flavour)
        full = notification_block(URL, "abc", form=Form.FULL, flavour=flavour)
        assert "application/octet-stream" in lean
        assert "octet-stream" not in full
        assert "Bearer abc" in lean
        assert URL in full


def test_gitlab_takes_maxretries_because_threshold_is_deprecated_there() -> None:
    block = notification_block(URL, "abc", form=Form.LEAN, flavour=Flavour.GITLAB)
    assert "'maxretries' => 10" in block
    assert "threshold" not in block
    assert "includereferences" not in block


def test_a_secret_cannot_leave_its_quotes() -> None:
    ruby = notification_block(URL, "it's \\'", form=Form.LEAN, flavour=Flavour.GITLAB)
    assert "'Bearer it\\'s \\\\\\''" in ruby
    yaml = notification_block(URL, 'a"b\nc', form=Form.LEAN, flavour=Flavour.DISTRIBUTION)
    assert '["Bearer a\\"b\\nc"]' in yaml


@pytest.mark.parametrize(
    ("address", "registry", "url"),
    [
        ("https://rw.example.com", "prod", "https://rw.example.com/hooks/prod"),
        ("https://rw.example.com/", "prod", "https://rw.example.com/hooks/prod"),
        ("https://rw.example.com/below", "localhost:5000", "https://rw.example.com/below/hooks/localhost:5000"),
        ("https://rw.example.com/hooks/prod", "prod", "https://rw.example.com/hooks/prod"),
        ("http://rw", "host/prefix", "http://rw/hooks/host/prefix"),
    ],
)
def test_the_url_is_the_final_one(address: str, registry: str, url: str) -> None:
    assert hook_url(address, registry) == url


@pytest.mark.parametrize(
    ("listen", "url", "is_local", "is_everywhere"),
    [
        (("127.0.0.1:8350",), "https://127.0.0.1:8350", True, False),
        (("unix:/run/a.sock", "10.0.0.7:80"), "https://10.0.0.7:80", False, False),
        (("[::1]:8350",), "https://[::1]:8350", True, False),
        (("0.0.0.0:8350",), "https://REGWARDEN-HOST:8350", False, True),
        (("[::]:8350",), "https://REGWARDEN-HOST:8350", False, True),
    ],
)
def test_the_address_of_a_listener_says_who_reaches_it(listen, url, is_local, is_everywhere) -> None:
    found = find_listening(listen, has_tls=True)
    assert found is not None
    assert (found.url, found.is_local, found.is_everywhere) == (url, is_local, is_everywhere)
    assert find_listening(("unix:/run/a.sock",), has_tls=False) is None


def test_a_host_becomes_a_registry_or_an_alias_and_a_hostile_one_nothing() -> None:
    assert tomllib.loads(registry_block("Registry.internal:443"))["registry"] == [
        {"name": "registry.internal", "url": "https://registry.internal"}
    ]
    assert tomllib.loads(alias_line("a:5000")) == {"aliases": ["a:5000"]}
    for host in ("", 'a"\nx = 1', "a b", "é", "-a"):
        assert registry_block(host) == ""
        assert alias_line(host) == ""
