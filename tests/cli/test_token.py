"""``regwarden token``: a token is printed once, listed without its secret, and revoked."""

from __future__ import annotations

import json
import re

import pytest

from tests.sample_inventory import Run

TOKEN = re.compile(r"rgw_[0-9A-Za-z]{12}_[0-9A-Za-z]{32}_[0-9A-Za-z]{6}\n")


@pytest.fixture
def database(tmp_path: object) -> dict[str, str]:
    return {"REGWARDEN_DATABASE": f"sqlite:///{tmp_path}/tokens.sqlite3"}


def test_the_token_alone_is_printed(run: Run, database: dict[str, str]) -> None:
    """So that a script can take it: TOKEN=$(regwarden token create …)."""
    made = run("token", "create", "ci", "--role", "viewer", "--role", "cleaner", "--registry", "prod", **database)
    assert made.exit_code == 0, made.stderr
    assert TOKEN.fullmatch(made.stdout)
    assert "is not shown again" in made.stderr
    (listed,) = json.loads(run("token", "list", "--output", "json", **database).stdout)
    assert (listed["name"], listed["roles"], listed["last_used_at"]) == ("ci", ["cleaner", "viewer"], None)
    assert made.stdout.split("_")[2] not in json.dumps(listed)


def test_as_json_there_is_all_of_it(run: Run, database: dict[str, str]) -> None:
    made = run("token", "create", "ci", "--role", "viewer", "--expires", "30d", "--output", "json", **database)
    (row,) = json.loads(made.stdout)
    assert TOKEN.fullmatch(row["token"] + "\n")
    assert row["grants"] == [{"role": "viewer"}]


def test_a_revoked_token_is_listed_only_with_all(run: Run, database: dict[str, str]) -> None:
    run("token", "create", "ci", "--role", "viewer", **database)
    assert run("token", "revoke", "ci", **database).exit_code == 0
    assert "there is no token" in run("token", "list", **database).output
    assert "ci" in run("token", "list", "--all", **database).stdout
    again = run("token", "revoke", "ci", **database)
    assert again.exit_code == 1
    assert "unknown-token" in again.stderr


@pytest.mark.parametrize(
    ("words", "status", "code"),
    [
        (("create", "ci"), 2, ""),
        (("create", "ci", "--role", "king"), 2, "bad-grant"),
        (("create", "c i", "--role", "viewer"), 2, "bad-token-request"),
        (("create", "ci", "--role", "viewer", "--expires", "10000d"), 2, "bad-token-request"),
        (("create", "ci", "--role", "viewer", "--repository", "team/*"), 2, "bad-grant"),
        (("revoke",), 2, ""),
        (("revoke", "ci", "--session", "x"), 2, ""),
        (("revoke", "--session", "x"), 1, "unknown-session"),
    ],
)
def test_what_cannot_be_done_is_said(
    run: Run, database: dict[str, str], words: tuple[str, ...], status: int, code: str
) -> None:
    run("token", "create", "other", "--role", "viewer", **database)
    result = run("token", *words, **database)
    assert result.exit_code == status
    assert code in result.stderr
    assert "Traceback" not in result.stderr


def test_nobody_is_signed_in_at_first(run: Run, database: dict[str, str]) -> None:
    run("token", "create", "ci", "--role", "viewer", **database)
    assert "nobody is signed in" in run("token", "list", "--sessions", **database).output
