"""gitlab-registry-usage-rest's configuration file becomes one that loads and does the same; its secrets stay behind."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from regwarden.core.gitlab_rest_settings import import_gitlab_rest_settings
from regwarden.errors import InputError
from regwarden.settings_sources import load_settings
from tests.sample_inventory import Run

TOKEN, SECRET = "glpat-abcdefghijk", "0123456789-a-real-secret-987654321"
WHOLE = f"""\
[general]
socket_host = 0.0.0.0
socket_port = 5050
server_prefix = /registry/usage/
debug = no
[ldap]
host = ldap.example.org
base_dn = ou=people,dc=example,dc=org
valid_gid = 1234
username_attribute = cn
gid_attribute = departmentNumber
[jwt]
auth_token_expires = 36 Hours
secret_key = {SECRET}
[registry]
gitlab_base_url = https://gitlab.example.org/
registry_base_url = https://registry.example.org:5005/
username = reader
access_token = {TOKEN}
"""


def load(tmp_path: Path, text: str) -> Any:
    file = tmp_path / "imported.toml"
    file.write_text(import_gitlab_rest_settings(text).document)
    return load_settings({}, file=file).settings


def changed(**values: str) -> str:
    lines = [
        f"{key} = {values[key]}" if (key := line.partition(" = ")[0]) in values else line for line in WHOLE.splitlines()
    ]
    return "\n".join(lines)


def test_every_key_is_translated_and_the_result_loads(run: Run, tmp_path: Path) -> None:
    old, written = tmp_path / "old.conf", tmp_path / "regwarden.toml"
    old.write_text(WHOLE)
    made = run("config", "import", "gitlab-registry-usage-rest", str(old), "--output-file", str(written))
    assert made.exit_code == 0, made.stderr
    for secret in (TOKEN, SECRET):
        assert secret not in made.stdout + made.stderr + written.read_text()
    assert "registry.access_token was left out" in made.stderr
    assert "tokens given before end" in made.stderr
    assert "example" not in made.stderr
    checked = run("config", "check", str(written))
    assert (checked.exit_code, "cannot read /etc/regwarden/registry-password" in checked.stderr) == (2, True)
    (tmp_path / "password").write_text(TOKEN)
    complete = tmp_path / "complete.toml"
    complete.write_text(written.read_text().replace("/etc/regwarden/registry-password", str(tmp_path / "password")))
    assert run("config", "check", str(complete)).exit_code == 0
    settings = load_settings({}, file=written).settings
    rest = settings.compat.gitlab_registry_usage_rest
    assert (rest.listen, rest.prefix, rest.token_lifetime) == ("0.0.0.0:5050", "/registry/usage", "36h")
    (registry,) = settings.registry
    assert (registry.name, registry.url) == ("registry.example.org:5005", "https://registry.example.org:5005")
    assert rest.registry == registry.name
    assert (registry.kind, registry.gitlab_url) == ("gitlab", "https://gitlab.example.org")
    assert (registry.username, registry.token_hosts) == ("reader", ())
    assert str(registry.password_file) == "/etc/regwarden/registry-password"
    ldap = settings.ldap
    assert ldap.servers == ("ldaps://ldap.example.org",)
    assert (ldap.user_base, ldap.username_attribute) == ("ou=people,dc=example,dc=org", "cn")
    assert (ldap.attributes, ldap.bind_dn, ldap.start_tls, ldap.insecure) == (("departmentNumber",), "", False, False)
    (role,) = settings.role
    assert (role.role, role.provider, role.claims) == ("viewer", "ldap", ("departmentNumber=1234",))
    assert (role.registries, role.everyone) == ((registry.name,), False)


def test_without_a_group_everybody_gets_the_role(tmp_path: Path) -> None:
    settings = load(tmp_path, changed(gid_attribute=""))
    (role,) = settings.role
    assert (role.everyone, role.claims, settings.ldap.attributes) == (True, (), ())


def test_any_value_of_the_group(tmp_path: Path) -> None:
    assert load(tmp_path, changed(valid_gid="*")).role[0].claims == ("departmentNumber=glob:**",)


def test_an_empty_file_has_the_predecessors_defaults_and_says_which_are_examples(run: Run, tmp_path: Path) -> None:
    old = tmp_path / "old.conf"
    old.write_text("")
    made = run("config", "import", "gitlab-registry-usage-rest", str(old))
    assert made.exit_code == 0, made.stderr
    document = tomllib.loads(made.stdout)
    rest = document["compat"]["gitlab_registry_usage_rest"]
    assert (rest["listen"], rest["prefix"], rest["token_lifetime"]) == ("127.0.0.1:5000", "/", "2w")
    assert document["role"][0]["claims"] == ["gidNumber=00000"]
    for told in (
        "ldap.host is the predecessor's example",
        "registry.gitlab_base_url is the predecessor's example",
        "access_token is the predecessor's example, which everybody knows",
        "secret_key is the predecessor's default, which everybody knows",
    ):
        assert told in made.stderr
    assert "0" * 20 not in made.stdout + made.stderr


@pytest.mark.parametrize(
    ("written", "lifetime"),
    [("2 weeks", "2w"), ("1 WEEK", "1w"), ("90s", "90s"), ("5m", "5m"), ("12 h", "12h"), ("3d", "3d"), ("1 day", "1d")],
)
def test_durations(tmp_path: Path, written: str, lifetime: str) -> None:
    rest = load(tmp_path, changed(auth_token_expires=written)).compat.gitlab_registry_usage_rest
    assert rest.token_lifetime == lifetime


@pytest.mark.parametrize(
    ("written", "server"),
    [
        ("ldaps://ldap.example.org/", "ldaps://ldap.example.org"),
        ("ldap.example.org:1636", "ldaps://ldap.example.org:1636"),
        ("ldaps://10.0.0.1:636", "ldaps://10.0.0.1:636"),
    ],
)
def test_the_directory_is_asked_over_tls(tmp_path: Path, written: str, server: str) -> None:
    assert load(tmp_path, changed(host=written)).ldap.servers == (server,)


@pytest.mark.parametrize(
    ("written", "listen"), [("::1", "[::1]:5050"), ("", "0.0.0.0:5050"), ("localhost", "localhost:5050")]
)
def test_where_it_listened(tmp_path: Path, written: str, listen: str) -> None:
    assert load(tmp_path, changed(socket_host=written)).compat.gitlab_registry_usage_rest.listen == listen


def test_interpolation_is_read_as_it_was(tmp_path: Path) -> None:
    text = "[DEFAULT]\ndomain = example.org\n" + changed(host="ldap.%(domain)s", base_dn="ou=100%%,dc=x")
    settings = load(tmp_path, text)
    assert (settings.ldap.servers, settings.ldap.user_base) == (("ldaps://ldap.example.org",), "ou=100%,dc=x")


def test_what_is_noticed() -> None:
    text = changed(debug="True", registry_base_url="http://registry.example.org/") + "\n[other]\nx = 1\n[jwt2]\n"
    warnings = import_gitlab_rest_settings(text).warnings
    for told in ("general.debug is ignored", "registry_base_url is http", "'other' is nothing"):
        assert any(told in warning for warning in warnings)
    surplus = import_gitlab_rest_settings(WHOLE.replace("[jwt]", "[jwt]\nalgorithm = none")).warnings
    assert any("'jwt.algorithm' is nothing" in warning for warning in surplus)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (changed(access_token="abc%def"), "registry.access_token has a %"),
        (changed(secret_key="%(nothing)s"), "jwt.secret_key has a %"),
        ("username = x\n", "is not what gitlab-registry-usage-rest reads"),
        (WHOLE + "\nsecret line without meaning", "is not what gitlab-registry-usage-rest reads"),
        (WHOLE + "\n[ldap]\n", "is not what gitlab-registry-usage-rest reads"),
        (changed(socket_port="http"), "no address to listen on"),
        (changed(socket_port="0"), "no address to listen on"),
        (changed(socket_host="a b"), "no address to listen on"),
        (changed(server_prefix="/a b"), "no path"),
        (changed(auth_token_expires="soon"), "not a duration"),
        (changed(auth_token_expires="5 months"), "not a duration"),
        (changed(auth_token_expires="0 days"), "not a duration"),
        (changed(auth_token_expires="999 weeks"), "not a duration"),
        (changed(registry_base_url="registry.example.org"), "registry_base_url is not an address"),
        (changed(gitlab_base_url="https://user:geheim@gitlab.example.org/"), "gitlab_base_url is not an address"),
        (changed(host="ldap://ldap.example.org"), "ldap.host is not a host"),
        (changed(gid_attribute="a)(b"), "no attribute"),
        (changed(username_attribute=""), "no attribute"),
        (changed(valid_gid="12*"), "no plain value"),
        (changed(valid_gid="glob:x"), "no plain value"),
        (changed(valid_gid=""), "no plain value"),
    ],
)
def test_what_it_could_not_have_worked_with_is_refused_without_repeating_it(text: str, told: str) -> None:
    with pytest.raises(InputError, match=told.replace("(", r"\(")) as caught:
        import_gitlab_rest_settings(text)
    said = f"{caught.value.message} {caught.value.hint}"
    assert not any(secret in said for secret in (TOKEN, SECRET, "abc%def", "geheim", "secret line"))
