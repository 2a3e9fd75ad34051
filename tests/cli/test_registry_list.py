"""``registry list``: the same conditions, order and paging as every list, about registries."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from regwarden.core.fields import REGISTRY_FIELDS
from tests.sample_inventory import Run, small_registry


@pytest.fixture
def config(tmp_path: Path) -> str:
    """Two registries that were never read."""
    names = ("other", "another")
    text = "".join(f'[[registry]]\nname = "{name}"\nurl = "https://{name}.example.com"\n' for name in names)
    file = tmp_path / "regwarden.toml"
    file.write_text(text)
    return str(file)


@pytest.fixture
def interrupted(run: Run, tmp_path: Path) -> str:
    """A database in which a first crawl has read tags and never ended."""
    file = tmp_path / "part.sqlite3"
    with small_registry() as registry:
        run("crawl", registry.url, "--name", "small", "--database", f"sqlite:///{file}")
    with sqlite3.connect(file) as connection:
        connection.execute(
            "UPDATE registries SET crawl_id = NULL, crawled_at = NULL, crawl_state = NULL, sized_at = NULL,"
            " repository_count = 0, tag_count = 0, manifest_count = 0"
        )
        connection.execute("UPDATE crawls SET state = 'running', finished_at = NULL")
    return f"sqlite:///{file}"


def test_a_row_has_exactly_the_fields_of_a_registry(ask: Run) -> None:
    (row,) = json.loads(ask("registry", "list", "--output", "json").stdout)
    assert list(row) == list(REGISTRY_FIELDS)
    (used,) = json.loads(ask("usage", "--output", "json").stdout)["registries"]
    assert used | {"next_crawl_at": None} == row


def test_it_is_shown_when_the_service_crawls_each_registry_next(run: Run, tmp_path: Path) -> None:
    with small_registry() as registry, small_registry() as other:
        config = tmp_path / "crawled.toml"
        often = "".join(
            f'[[registry]]\nname = "{name}"\nurl = "{registry.url}{place}"\ncrawl_every = "{every}"\n'
            for name, place, every in (("hourly", "", "1h"), ("never", "/never", "never"), ("new", "/new", "0 3 * * *"))
        )
        config.write_text(f'database = "sqlite:///{tmp_path / "crawled.sqlite3"}"\n{often}')
        run("crawl", "hourly", "--config", str(config))
        run("crawl", other.url, "--name", "unconfigured", "--config", str(config))
        rows = json.loads(run("registry", "list", "--output", "json", "--config", str(config)).stdout)
    due = {row["registry"]: row["next_crawl_at"] for row in rows}
    assert (due["never"], due["unconfigured"]) == (None, None)
    assert datetime.fromisoformat(due["new"]) <= datetime.now(UTC)
    wait = datetime.fromisoformat(due["hourly"]) - datetime.now(UTC)
    assert timedelta(minutes=59) <= wait <= timedelta(minutes=66)
    asked = ("registry", "list", "--config", str(config), "--columns", "registry", "--output", "plain")
    assert run(*asked, "--where", "next_crawl_at > 2020-01-01", "--sort", "next_crawl_at").stdout.split() == [
        "new",
        "hourly",
    ]


def test_registries_are_compared_sorted_and_counted(ask: Run, config: str) -> None:
    asked = ("registry", "list", "--config", config, "--columns", "registry", "--output", "plain")
    assert ask(*asked).stdout.split() == ["another", "other", "small"]
    assert ask(*asked, "--sort", "-registry").stdout.split() == ["small", "other", "another"]
    assert ask(*asked, "--sort", "tag_count").stdout.split() == ["small", "another", "other"]
    assert ask(*asked, "--reverse", "--limit", "1").stdout.split() == ["small"]
    assert ask(*asked, "--where", "tag_count > 1").stdout.split() == ["small"]
    assert ask(*asked, "--where", "crawled = unknown").stdout.split() == ["another", "other"]
    assert ask(*asked, "other", "small").stdout.split() == ["other", "small"]
    assert ask("registry", "list", "--config", config, "--where", "url ~ example", "--count").stdout == "2\n"
    unknown = ask("registry", "list", "--config", config, "--where", "tag_count > 1", "--count")
    assert (unknown.stdout, "2 rows are left out" in unknown.stderr) == ("1\n", True)


def test_registries_have_pages(ask: Run, config: str) -> None:
    asked = ("registry", "list", "--config", config, "--columns", "registry", "--output", "plain", "--limit", "2")
    first = ask(*asked)
    cursor = first.stderr.rpartition("--cursor ")[2].strip()
    assert (first.stdout.split(), ask(*asked, "--cursor", cursor).stdout.split()) == (["another", "other"], ["small"])
    assert ask(*asked, "--page", "2").stdout.split() == ["small"]
    assert "error[bad-cursor]" in ask(*asked, "--cursor", "nonsense").stderr


def test_a_registry_that_is_not_known_is_an_error(ask: Run) -> None:
    result = ask("registry", "list", "tiny")
    assert (result.exit_code, "error[not-found]" in result.stderr) == (1, True)


def test_configured_registries_are_listed_without_an_inventory(run: Run, config: str, tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path / 'none.sqlite3'}"
    result = run("registry", "list", "--config", config, "--database", database, "--count")
    assert (result.stdout, (tmp_path / "none.sqlite3").exists()) == ("2\n", False)


def test_the_totals_of_a_crawl_that_never_ended_are_unknown(run: Run, interrupted: str) -> None:
    counts = ("repository_count", "tag_count", "manifest_count")
    (row,) = json.loads(run("registry", "list", "--output", "json", "--database", interrupted).stdout)
    assert [row[name] for name in counts] == [None, None, None]
    (used,) = json.loads(run("usage", "--output", "json", "--database", interrupted).stdout)["registries"]
    assert [used[name] for name in counts] == [None, None, None]
    assert run("registry", "list", "--where", "tag_count = 0", "--count", "--database", interrupted).stdout == "0\n"
    result = run("tag", "list", "--database", interrupted)
    assert "latest" in result.stdout
    assert "inventory of small: interrupted, never completed" in result.stderr


def test_the_counts_of_a_repository_that_was_not_measured_yet_are_unknown(run: Run, interrupted: str) -> None:
    with sqlite3.connect(interrupted.removeprefix("sqlite:///")) as connection:
        connection.execute("UPDATE repositories SET tag_count = 0, manifest_count = 0, logical_bytes = NULL")
    rows = json.loads(run("repository", "list", "--output", "json", "--database", interrupted).stdout)
    assert {(row["tag_count"], row["manifest_count"]) for row in rows} == {(None, None)}
    assert run("repository", "list", "--where", "tag_count = 0", "--count", "--database", interrupted).stdout == "0\n"
