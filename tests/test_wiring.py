"""From a word and the settings to the registry that is meant, its credentials and its limits."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from regwarden.errors import InputError, NotFound
from regwarden.registries.api import KnowsProjects
from regwarden.registries.client.credentials import Anonymous, Basic, IdentityToken
from regwarden.settings import Defaults, RegistrySettings, Secret, Settings
from regwarden.settings_sources import LoadedSettings, load_settings
from regwarden.wiring import (
    credentials_of,
    fingerprint,
    limits_for,
    open_registry,
    resolve_registry,
    run_async,
)

CONFIG = """
[[registry]]
name = "prod"
url = "https://registry.example.com"
username = "robot"
password_env = "PROD_PASSWORD"

[[registry]]
name = "mirror"
url = "http://mirror.example.com:5000"
"""
ENVIRON = {"PROD_PASSWORD": "s3cret"}
PREDECESSOR = {"REGISTRY_USER": "old", "REGISTRY_PASSWORD": "older"}


@pytest.fixture
def loaded(tmp_path: Path) -> LoadedSettings:
    file = tmp_path / "regwarden.toml"
    file.write_text(CONFIG)
    return load_settings({}, file=file)


def test_a_configured_name_and_its_address_mean_the_same_registry(loaded: LoadedSettings) -> None:
    by_name = resolve_registry("prod", loaded, ENVIRON)
    by_address = resolve_registry("registry.example.com", loaded, ENVIRON)
    assert by_name.registry == by_address.registry
    assert credentials_of(by_name) == Basic("robot", "s3cret")


def test_a_known_registry_keeps_its_scheme(loaded: LoadedSettings) -> None:
    known = {"localhost:5000": "http://localhost:5000"}
    assert resolve_registry("localhost:5000", loaded, {}, known=known).registry.url == "http://localhost:5000"
    assert (
        resolve_registry("http://localhost:5000", loaded, {}, known={"mine": known["localhost:5000"]}).registry.name
        == "mine"
    )


def test_an_unknown_address_is_named_by_its_host(loaded: LoadedSettings) -> None:
    found = resolve_registry("https://Other.example.com:8443/", loaded, {}).registry
    assert (found.name, found.url) == ("other.example.com:8443", "https://other.example.com:8443")


def test_a_word_that_is_no_registry_gets_the_nearest_name(loaded: LoadedSettings) -> None:
    with pytest.raises(NotFound) as caught:
        resolve_registry("prd", loaded, {})
    assert caught.value.hint == "Did you mean prod?"


def test_a_configured_name_that_is_also_stored_is_offered_once(loaded: LoadedSettings) -> None:
    with pytest.raises(NotFound) as caught:
        resolve_registry("zzz", loaded, {}, known={"prod": "https://prod.example.com"})
    assert caught.value.hint.count("prod") == 1


@pytest.mark.parametrize("changes", [{"concurrency": -1}, {"concurrency": 257}, {"requests_per_second": -0.5}])
def test_what_is_given_is_bounded_like_the_settings(loaded: LoadedSettings, changes: dict[str, float]) -> None:
    with pytest.raises(InputError, match="must be a"):
        resolve_registry("prod", loaded, {}, changes=changes)


def test_what_is_given_overrules_the_settings(loaded: LoadedSettings) -> None:
    changes = {"username": "me", "password": Secret("mine"), "name": "other", "concurrency": 3}
    access = resolve_registry("prod", loaded, {}, changes=changes)
    assert credentials_of(access) == Basic("me", "mine")
    assert (access.registry.name, limits_for(access.registry, Defaults()).connections) == ("other", 3)


def test_a_password_without_a_user_or_a_user_without_a_password_is_refused(loaded: LoadedSettings) -> None:
    with pytest.raises(InputError, match="without a user name"):
        resolve_registry("mirror", loaded, {}, changes={"password": Secret("x")})
    with pytest.raises(InputError, match="no password"):
        credentials_of(resolve_registry("mirror", loaded, {}, changes={"username": "me"}))


@pytest.mark.parametrize(
    ("word", "environ", "applies"),
    [
        ("typed.example.com", PREDECESSOR, True),
        ("mirror", PREDECESSOR, False),
        ("mirror", {**PREDECESSOR, "REGISTRY": "mirror.example.com:5000"}, True),
        ("mirror", {**PREDECESSOR, "REGISTRY": "http://mirror.example.com:5000/"}, True),
        ("typed.example.com", {**PREDECESSOR, "REGISTRY": "mirror.example.com:5000"}, False),
        ("typed.example.com", {**PREDECESSOR, "REGISTRY": "typed.example.com:8443"}, False),
    ],
)
def test_the_predecessors_password_is_bound_to_the_registry_it_means(loaded, word, environ, applies) -> None:
    found = credentials_of(resolve_registry(word, loaded, environ))
    assert found == (Basic("old", "older") if applies else None)


def test_the_predecessors_files_are_used_unless_configured(loaded: LoadedSettings) -> None:
    environ = {"REGISTRY_CLIENT_CERT": "/c.pem", "REQUESTS_CA_BUNDLE": "/ca.pem", "REGISTRY_USE_DIGEST_AUTH": "0"}
    environment = resolve_registry("typed.example.com", loaded, environ).environment
    assert (environment.client_certificate, environment.ca_bundle) == (Path("/c.pem"), Path("/ca.pem"))
    assert environment.use_digest_auth


def test_a_fingerprint_changes_with_address_user_and_kind_but_not_with_the_password() -> None:
    url = "https://registry.example.com"
    one = fingerprint(url, Basic("me", "first"))
    assert one == fingerprint(url, Basic("me", "second"))
    others = {
        fingerprint("https://other.example.com", Basic("me", "first")),
        fingerprint(url, Basic("you", "first")),
        fingerprint(url, Anonymous()),
        fingerprint(url, IdentityToken("first")),
    }
    assert len(others | {one}) == 5


def test_limits_come_from_the_registry_then_the_defaults() -> None:
    defaults = Defaults(concurrency=4, requests_per_second=10.0, retries=1)
    own = RegistrySettings(name="x", url="https://x.example", concurrency=2)
    limits = limits_for(own, defaults)
    assert (limits.connections, limits.requests_per_second, limits.retries) == (2, 10.0, 1)
    assert limits_for(own, Defaults()).requests_per_second is None


@pytest.mark.parametrize(("url", "is_warned"), [("http://mirror.example.com", True), ("http://127.0.0.1:5000", False)])
async def test_credentials_in_clear_are_warned_about_outside_this_machine(loaded, url: str, is_warned: bool) -> None:
    said: list[str] = []
    changes = {"username": "me", "password": Secret("hunter2")}
    access = resolve_registry(url, loaded, {}, changes=changes)
    async with open_registry(access, Defaults(), "id", environ={}, warn=said.append) as opened:
        assert opened.target.url == url
    assert bool(said) is is_warned
    assert "hunter2" not in "".join(said)


async def test_work_can_be_run_inside_a_running_event_loop() -> None:
    async def answer() -> int:
        await asyncio.sleep(0)
        return 42

    assert run_async(answer()) == 42


def _gitlab_settings(tmp_path: Path, **changes: object) -> RegistrySettings:
    (tmp_path / "password").write_text("glpat-password\n")
    (tmp_path / "token").write_text("glpat-token\n")
    given = {
        "name": "lab",
        "url": "https://registry.example.com",
        "kind": "gitlab",
        "gitlab_url": "https://gitlab.example.com",
        "password_file": str(tmp_path / "password"),
        **changes,
    }
    return RegistrySettings(**given)  # type: ignore[arg-type]  # as a document has them


def test_a_token_of_a_gitlab_needs_no_user_name(tmp_path: Path) -> None:
    registry = _gitlab_settings(tmp_path, gitlab_token_file=str(tmp_path / "token"))
    access = resolve_registry("lab", LoadedSettings(Settings(registry=(registry,))), {})
    assert credentials_of(access) == Basic("regwarden", "glpat-password")
    assert access.api_token is not None
    assert access.api_token.reveal() == "glpat-token"
    assert "glpat" not in repr(access)


async def test_a_gitlab_is_another_one_with_other_groups(tmp_path: Path) -> None:
    seen = set()
    cases: tuple[dict[str, object], ...] = (
        {},
        {"gitlab_groups": ("team",)},
        {"gitlab_url": "https://other.example.com"},
    )
    for changes in cases:
        loaded = LoadedSettings(Settings(registry=(_gitlab_settings(tmp_path, **changes),)))
        access = resolve_registry("lab", loaded, {})
        async with open_registry(access, Defaults(), "id", environ={}, warn=print) as opened:
            assert isinstance(opened.connector, KnowsProjects)
            assert (opened.target.kind, opened.credentials_source) == ("gitlab", "settings")
            seen.add(opened.target.endpoint_fingerprint)
    assert len(seen) == 3


async def test_a_gitlab_in_clear_is_warned_about(tmp_path: Path) -> None:
    said: list[str] = []
    loaded = LoadedSettings(Settings(registry=(_gitlab_settings(tmp_path, gitlab_url="http://gitlab.example.com"),)))
    async with open_registry(resolve_registry("lab", loaded, {}), Defaults(), "id", environ={}, warn=said.append):
        pass
    assert said == ["credentials for gitlab.example.com are sent unencrypted, because its address begins with http://"]
