"""From regstat's database to its views on ours, as a person does it."""

from __future__ import annotations

import json

import psycopg
import pytest

from tests.store.regstat_tables import LIVE

DIGEST = f"sha256:{'a' * 64}"
CONFIGURATION = '[[registry]]\nname = "prod"\nurl = "https://registry.example.com"\n'


@pytest.fixture
def regstat_url(postgresql_url) -> str:
    """A database in which regstat has noted one image of a known and one of an unknown registry."""
    with psycopg.connect(postgresql_url, autocommit=True) as connection:
        connection.execute(LIVE.format(schema="regstat").encode())
        connection.execute("INSERT INTO regstat.manifests VALUES (%s, '2026-06-01', '2026-07-01')", (DIGEST,))
        for host in ("registry.example.com", "other.example.com:5000"):
            connection.execute(
                "INSERT INTO regstat.tags VALUES (%s, %s, 'team/app', '1.0', %s, '2026-06-01', '2026-07-01')",
                (f"{host}/team/app:1.0", host, DIGEST),
            )
    return postgresql_url


def test_regstats_database_is_taken_over(run, regstat_url, tmp_path):
    configuration = tmp_path / "regwarden.toml"
    configuration.write_text(CONFIGURATION)
    options = ("--database", regstat_url, "--config", str(configuration))

    assert run("db", "migrate", *options).exit_code == 0
    refused = run("db", "regstat", "enable", *options)
    assert refused.exit_code == 1
    assert "error[regstat-exists]" in refused.stderr
    assert "regwarden db import regstat" in refused.stderr

    imported = run("db", "import", "regstat", "--output", "json", *options)
    assert imported.exit_code == 0, imported.stderr
    counts = json.loads(imported.stdout)
    assert (counts["tag_count"], counts["unknown_registry_count"]) == (1, 1)
    assert 'name = "other.example.com:5000"\nurl = "https://other.example.com:5000"' in imported.stderr

    enabled = run("db", "regstat", "enable", "--rename-old", *options)
    assert enabled.exit_code == 0, enabled.stderr
    assert "regstat_old_" in enabled.stderr
    status = run("db", "regstat", "status", "--output", "json", *options)
    assert json.loads(status.stdout)["state"] == "enabled"
    with psycopg.connect(regstat_url) as connection:
        assert connection.execute("SELECT name FROM regstat.tags").fetchall() == [
            ("registry.example.com/team/app:1.0",)
        ]
    assert "1.0" in run("tag", "list", *options).stdout

    assert "removed" in run("db", "regstat", "disable", *options).stderr
    assert json.loads(run("db", "regstat", "status", "--output", "json", *options).stdout)["state"] == "disabled"


def test_regstats_tables_are_read_into_sqlite_from_elsewhere(run, regstat_url, tmp_path):
    configuration = tmp_path / "regwarden.toml"
    configuration.write_text(CONFIGURATION)
    options = ("--database", f"sqlite:///{tmp_path}/inventory.sqlite3", "--config", str(configuration))
    imported = run("db", "import", "regstat", "--from", regstat_url, *options)
    assert imported.exit_code == 0, imported.stderr
    history = run("tag", "history", "team/app:1.0", "--output", "json", *options)
    assert [row["since"] for row in json.loads(history.stdout)] == ["2026-06-01T00:00:00Z"]


@pytest.mark.parametrize(
    "words", [("db", "regstat", "enable"), ("db", "regstat", "disable"), ("db", "import", "regstat")]
)
def test_on_sqlite_the_reason_is_said(run, tmp_path, words):
    database = f"sqlite:///{tmp_path}/inventory.sqlite3"
    assert run("db", "migrate", "--database", database).exit_code == 0
    refused = run(*words, "--database", database)
    assert refused.exit_code == 2
    assert "error[needs-postgresql]" in refused.stderr


@pytest.mark.parametrize("verb", ["enable", "disable"])
def test_no_sqlite_file_is_made_for_what_needs_postgresql(run, tmp_path, verb):
    refused = run("db", "regstat", verb, "--database", f"sqlite:///{tmp_path}/inventory.sqlite3")
    assert "error[needs-postgresql]" in refused.stderr
    assert not (tmp_path / "inventory.sqlite3").exists()
