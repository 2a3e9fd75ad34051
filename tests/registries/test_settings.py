"""Are addresses of registries read strictly, and do settings hide their secrets?"""

from __future__ import annotations

import pytest

from regwarden.errors import InputError
from regwarden.registries.client.credentials import Basic, IdentityToken
from regwarden.registries.client.settings import ClientSettings, parse_registry_url


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://registry.example.com", "https://registry.example.com"),
        ("https://registry.example.com/", "https://registry.example.com"),
        ("https://registry.example.com/v2/", "https://registry.example.com"),
        ("http://localhost:5000", "http://localhost:5000"),
        ("localhost:5000", "https://localhost:5000"),
        ("httpd.example.com", "https://httpd.example.com"),
        ("https://example.com/artifacts/docker/", "https://example.com/artifacts/docker"),
        ("http://[::1]:5000", "http://[::1]:5000"),
    ],
)
def test_addresses_are_brought_into_one_form(text: str, url: str) -> None:
    assert parse_registry_url(text) == url
    assert ClientSettings(text).url == url


@pytest.mark.parametrize(
    "text",
    [
        "",
        "https://",
        "ftp://x",
        "https://u:p@x",
        "https://x?y=1",
        "https://x#y",
        "http://x:99999",
        "https://a b",
        "://",
    ],
)
def test_what_is_no_address_is_an_input_error_with_a_hint(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_registry_url(text)
    assert caught.value.hint


def test_a_password_in_the_address_is_refused_without_repeating_it() -> None:
    with pytest.raises(InputError) as caught:
        parse_registry_url("https://user:s3cret@registry.example.com")
    assert "s3cret" not in str(caught.value) + caught.value.hint


@pytest.mark.parametrize("credentials", [Basic("ann", "s3cret"), IdentityToken("s3cret")])
def test_settings_never_show_secrets(credentials: Basic | IdentityToken) -> None:
    assert "s3cret" not in repr(ClientSettings("https://x", credentials=credentials))


def test_the_user_agent_names_the_installation() -> None:
    settings = ClientSettings("https://x", installation="abc123")
    assert settings.user_agent.startswith("regwarden/")
    assert settings.user_agent.endswith(" (abc123)")
