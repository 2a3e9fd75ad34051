"""Administrators see what a sign-in with the directory gives, or why it gives nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.fixtures.directory import GROUPS, PASSWORD, PEOPLE, READER

ROLE = '[[role]]\nrole = "viewer"\ngroups = ["team"]\nrepositories = ["glob:team/**"]\n'


@pytest.fixture
def config(directory, tmp_path: Path):
    def write(more: str = "", *, url: str = "") -> str:
        file = tmp_path / "regwarden.toml"
        file.write_text(
            f'[ldap]\nservers = ["{url or directory.tls_url}"]\nca_bundle = "{directory.folder / "ca.crt"}"\n'
            f'bind_dn = "{READER}"\nbind_password_file = "{directory.folder / "password"}"\n'
            f'user_base = "{PEOPLE}"\ngroup_base = "{GROUPS}"\nattributes = ["gidNumber"]\n{more}'
        )
        return str(file)

    return write


def test_who_gets_in_and_with_what(run, config):
    words = ("config", "try-ldap", "ALICE", "--password-stdin", "--config", config(ROLE))
    shown = run(*words, stdin=f"{PASSWORD}\n")
    assert shown.exit_code == 0, shown.stderr
    assert "viewer in repositories glob:team/**" in shown.stdout
    told = json.loads(run(*words, "--output", "json", stdin=f"{PASSWORD}\n").stdout)
    assert (told["name"], told["dn"], told["may_refresh"]) == ("alice", f"uid=alice,{PEOPLE}", True)
    assert told["grants"] == [{"role": "viewer", "repositories": ["glob:team/**"]}]
    assert told["claims"] == {"gidNumber": ["5000"]}
    assert "team" in told["groups"]


def test_who_has_no_role(run, config):
    shown = run("config", "try-ldap", "guest", "--password-stdin", "--config", config(ROLE), stdin=f"{PASSWORD}\n")
    assert shown.exit_code == 1
    assert "no rule" in shown.stderr


@pytest.mark.parametrize(
    ("user", "password", "reason"),
    [
        ("alice", "wrong", "49"),
        ("nobody", PASSWORD, "0 entries"),
        ("alice", "", "empty"),
        (" alice", PASSWORD, "blank"),
    ],
)
def test_why_somebody_is_refused(run, config, user, password, reason):
    shown = run("config", "try-ldap", user, "--password-stdin", "--config", config(ROLE), stdin=f"{password}\n")
    assert shown.exit_code == 1
    assert "error[bad-login]" in shown.stderr
    assert reason in shown.stderr
    assert PASSWORD not in shown.stdout + shown.stderr


def test_a_directory_that_does_not_answer(run, config):
    words = ("config", "try-ldap", "alice", "--password-stdin", "--config", config(url="ldaps://127.0.0.1:1"))
    shown = run(*words, stdin=f"{PASSWORD}\n")
    assert shown.exit_code == 1
    assert "error[directory-unavailable]" in shown.stderr
    assert "refused" in shown.stderr


def test_without_a_directory(run):
    shown = run("config", "try-ldap", "alice", stdin="x\n")
    assert shown.exit_code == 2
    assert "no directory" in shown.stderr


def test_the_check_reads_the_password_file(run, config, directory, tmp_path):
    assert run("config", "check", config()).exit_code == 0
    text = Path(config()).read_text().replace(str(directory.folder / "password"), str(tmp_path / "gone"))
    (tmp_path / "other.toml").write_text(text)
    shown = run("config", "check", str(tmp_path / "other.toml"))
    assert shown.exit_code == 2
    assert "gone" in shown.stderr
