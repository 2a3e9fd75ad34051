"""Where do credentials come from, and in which order?"""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from regwarden.errors import InputError
from regwarden.registries.client.credentials import (
    Anonymous,
    Basic,
    IdentityToken,
    find_docker_credentials,
    from_environment,
    resolve_credentials,
)

HOST = "registry.example.com:5000"


def _auth(pair: str) -> str:
    return base64.b64encode(pair.encode()).decode()


def _write(directory: Path, document: object) -> Path:
    path = directory / "config.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def _install_helper(directory: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = directory / "docker-credential-test"
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="ascii")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")


def test_the_environment_of_the_predecessor_is_understood() -> None:
    found = from_environment(
        {
            "REGISTRY": "https://registry.example.com",
            "REGISTRY_USER": "ann",
            "REGISTRY_PASSWORD": "pw",
            "REGISTRY_USE_DIGEST_AUTH": "0",
            "REGISTRY_CLIENT_CERT": "/c.pem",
            "REGISTRY_CLIENT_KEY": "/k.pem",
            "REQUESTS_CA_BUNDLE": "/ca.pem",
        }
    )
    assert found.registry == "https://registry.example.com"
    assert found.credentials == Basic("ann", "pw")
    assert found.use_digest_auth, "any non-empty value was true there"
    assert (found.client_certificate, found.client_key, found.ca_bundle) == (
        Path("/c.pem"),
        Path("/k.pem"),
        Path("/ca.pem"),
    )


def test_an_empty_environment_says_nothing() -> None:
    found = from_environment({"REGISTRY_USE_DIGEST_AUTH": ""})
    assert found.credentials is None
    assert not found.use_digest_auth
    assert found.ca_bundle is None


@pytest.mark.parametrize("key", [HOST, f"https://{HOST}", f"https://{HOST}/v1/", f"https://{HOST}/v2/", f"{HOST}/team"])
def test_a_login_is_found_however_docker_wrote_its_key(tmp_path: Path, key: str) -> None:
    path = _write(tmp_path, {"auths": {key: {"auth": _auth("ann:p:w")}, "other": {"auth": _auth("bob:x")}}})
    assert find_docker_credentials(HOST, path, {}) == (Basic("ann", "p:w"), ())


def test_a_login_for_another_port_is_not_used(tmp_path: Path) -> None:
    path = _write(tmp_path, {"auths": {HOST: {"auth": _auth("ann:pw")}}})
    assert find_docker_credentials("registry.example.com:5001", path, {}) == (None, ())


def test_user_name_and_password_fields_are_read(tmp_path: Path) -> None:
    path = _write(tmp_path, {"auths": {HOST: {"username": "ann", "password": "pw"}}})
    assert find_docker_credentials(HOST, path, {})[0] == Basic("ann", "pw")


def test_an_identity_token_wins_over_the_password_beside_it(tmp_path: Path) -> None:
    path = _write(tmp_path, {"auths": {HOST: {"auth": _auth("ann:"), "identitytoken": "refresh"}}})
    assert find_docker_credentials(HOST, path, {})[0] == IdentityToken("refresh")


def test_the_hub_is_found_under_its_historical_address(tmp_path: Path) -> None:
    path = _write(tmp_path, {"auths": {"https://index.docker.io/v1/": {"auth": _auth("ann:pw")}}})
    assert find_docker_credentials("registry-1.docker.io", path, {})[0] == Basic("ann", "pw")


def test_a_broken_entry_of_another_host_harms_nobody(tmp_path: Path) -> None:
    path = _write(tmp_path, {"auths": {"other": "nonsense", "third": {"auth": "%%"}, HOST: {"auth": _auth("ann:pw")}}})
    assert find_docker_credentials(HOST, path, {}) == (Basic("ann", "pw"), ())


def test_a_broken_entry_of_this_host_is_a_warning(tmp_path: Path) -> None:
    path = _write(tmp_path, {"auths": {HOST: {"auth": "%%%"}}})
    found, warnings = find_docker_credentials(HOST, path, {})
    assert found is None
    assert [warning.rpartition(": ")[2] for warning in warnings] == ["the entry cannot be read"]


@pytest.mark.parametrize("section", [{"credsStore": "test"}, {"credHelpers": {HOST: "test"}}])
def test_a_credential_helper_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, section: dict[str, object]
) -> None:
    answer = '{"ServerURL":"x","Username":"ann","Secret":"from-helper"}'
    _install_helper(tmp_path, monkeypatch, f"read server; [ \"$server\" = {HOST} ] && echo '{answer}'")
    path = _write(tmp_path, {"auths": {HOST: {}}, **section})
    assert find_docker_credentials(HOST, path, {}) == (Basic("ann", "from-helper"), ())


def test_a_helper_may_give_an_identity_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _install_helper(tmp_path, monkeypatch, 'echo \'{"Username":"<token>","Secret":"refresh"}\'')
    path = _write(tmp_path, {"credsStore": "test"})
    assert find_docker_credentials(HOST, path, {})[0] == IdentityToken("refresh")


def test_a_missing_helper_means_no_credentials_and_a_warning(tmp_path: Path) -> None:
    path = _write(tmp_path, {"credsStore": "not-installed"})
    found, warnings = find_docker_credentials(HOST, path, {})
    assert found is None
    assert "docker-credential-not-installed" in warnings[0]


def test_a_failing_helper_means_no_credentials_and_a_warning_without_its_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _install_helper(tmp_path, monkeypatch, "echo s3cret; exit 1")
    path = _write(tmp_path, {"credsStore": "test"})
    found, warnings = find_docker_credentials(HOST, path, {})
    assert found is None
    assert len(warnings) == 1
    assert "s3cret" not in warnings[0]
    assert "the credential helper failed" in warnings[0]


def test_what_a_helper_writes_to_its_standard_error_is_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    _install_helper(tmp_path, monkeypatch, "echo s3cret >&2; exit 1")
    path = _write(tmp_path, {"credsStore": "test"})
    assert find_docker_credentials(HOST, path, {})[0] is None
    assert "s3cret" not in "".join(capfd.readouterr())


def test_a_helper_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regwarden.registries.client.docker_helpers.HELPER_TIMEOUT_SECONDS", 0.2)
    _install_helper(tmp_path, monkeypatch, "exec sleep 60")
    path = _write(tmp_path, {"credsStore": "test"})
    found, warnings = find_docker_credentials(HOST, path, {})
    assert found is None
    assert "the credential helper failed" in warnings[0]


def test_the_directory_variable_decides_where_the_file_is(tmp_path: Path) -> None:
    _write(tmp_path, {"auths": {HOST: {"auth": _auth("ann:pw")}}})
    assert find_docker_credentials(HOST, None, {"DOCKER_CONFIG": str(tmp_path)})[0] == Basic("ann", "pw")
    assert find_docker_credentials(HOST, None, {"DOCKER_CONFIG": str(tmp_path / "none")}) == (None, ())


def test_a_file_that_was_named_must_be_usable(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be used"):
        find_docker_credentials(HOST, tmp_path / "absent.json", {})
    broken = tmp_path / "config.json"
    broken.write_text("[1]", encoding="ascii")
    with pytest.raises(InputError, match="not a JSON object"):
        find_docker_credentials(HOST, broken, {})


def test_a_broken_default_file_is_only_a_warning(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{", encoding="ascii")
    found, warnings = find_docker_credentials(HOST, None, {"DOCKER_CONFIG": str(tmp_path)})
    assert found is None
    assert "was ignored" in warnings[0]


async def test_given_credentials_win_over_the_environment_and_that_over_docker(tmp_path: Path) -> None:
    path = _write(tmp_path, {"auths": {HOST: {"auth": _auth("docker:pw")}}})
    environ = {"REGISTRY_USER": "environment", "REGISTRY_PASSWORD": "pw"}
    given = await resolve_credentials(HOST, explicit=Basic("given", "pw"), environ=environ, config_path=path)
    assert given.credentials == Basic("given", "pw")
    second = await resolve_credentials(HOST, environ=environ, config_path=path)
    assert second.credentials == Basic("environment", "pw")
    third = await resolve_credentials(HOST, environ={}, config_path=path)
    assert (third.credentials, third.source) == (Basic("docker", "pw"), "docker configuration")
    nothing = await resolve_credentials("elsewhere.example.com", environ={}, config_path=path)
    assert nothing.credentials == Anonymous()


async def test_a_password_in_the_environment_stays_with_the_registry_named_there(tmp_path: Path) -> None:
    environ = {
        "REGISTRY": "https://mine.example.com",
        "REGISTRY_USER": "ann",
        "REGISTRY_PASSWORD": "pw",
        "DOCKER_CONFIG": str(tmp_path),
    }
    assert (await resolve_credentials("mine.example.com", environ=environ)).credentials == Basic("ann", "pw")
    assert (await resolve_credentials("other.example.com", environ=environ)).credentials == Anonymous()


@pytest.mark.parametrize("username", ["", "a:b"])
def test_user_names_that_basic_authentication_cannot_carry_are_refused(username: str) -> None:
    with pytest.raises(InputError):
        Basic(username, "pw")
