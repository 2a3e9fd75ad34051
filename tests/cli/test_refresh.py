"""``--refresh``: which registries are read again first, and what is answered when one cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from regwarden.testing.server import SampleRegistry
from tests.sample_inventory import Run, small_registry


def was_read(registry: SampleRegistry) -> bool:
    return bool(registry.requests)


@pytest.fixture
def database(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'inventory.sqlite3'}"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("tag", "list", "one/team/app"), (True, False)),
        (("tag", "list", "one/team/app", "two/team/app"), (True, True)),
        (("tag", "list", "one/team/app", "team/web"), (True, True)),
        (("tag", "list", "--registry", "two"), (False, True)),
        (("tag", "list"), (True, True)),
        (("tag", "show", "two/team/app:latest"), (False, True)),
        (("repository", "show", "one/team/app"), (True, False)),
        (("registry", "list", "one"), (True, False)),
        (("usage", "two"), (False, True)),
    ],
)
def test_only_the_registries_that_are_named_are_read(run: Run, database: str, arguments, expected) -> None:
    with small_registry() as one, small_registry() as two:
        run("crawl", one.url, "--name", "one", "--database", database)
        run("crawl", two.url, "--name", "two", "--database", database)
        one.forget()
        two.forget()
        result = run(*arguments, "--refresh", "--database", database)
        assert result.exit_code == 0, result.stderr
        assert (was_read(one), was_read(two)) == expected


def test_a_registry_that_is_configured_and_was_never_read_is_read(run: Run, database: str, tmp_path: Path) -> None:
    with small_registry() as one, small_registry() as two:
        run("crawl", one.url, "--name", "one", "--database", database)
        config = tmp_path / "regwarden.toml"
        config.write_text(f'[[registry]]\nname = "two"\nurl = "{two.url}"\n')
        result = run("tag", "list", "--refresh", "--count", "--database", database, "--config", str(config))
    assert (result.exit_code, result.stdout) == (0, "10\n"), result.stderr


def test_what_is_stored_answers_where_a_registry_cannot_be_read(run: Run, database: str) -> None:
    with small_registry() as registry:
        run("crawl", registry.url, "--name", "small", "--database", database)
    for arguments in (("tag", "list", "--count"), ("tag", "show", "team/web:edge"), ("usage",)):
        result = run(*arguments, "--refresh", "--database", database)
        assert result.exit_code == 3, result.stderr
        assert "error[registry-unreachable]: small: " in result.stderr
        assert result.stdout
    assert run("tag", "list", "--count", "--refresh", "--database", database).stdout == "5\n"


def test_a_refresh_that_fails_is_an_error_where_nothing_is_stored(run: Run, database: str) -> None:
    result = run("tag", "list", "--registry", "http://127.0.0.1:1", "--refresh", "--database", database)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "error[registry-unreachable]" in result.stderr


@pytest.mark.parametrize("wrong", [("--where", "sze > 1"), ("--columns", "nothing"), ("--count", "--sum")])
def test_nothing_is_read_for_a_question_that_cannot_be_understood(run: Run, database: str, wrong) -> None:
    with small_registry() as registry:
        run("crawl", registry.url, "--name", "small", "--database", database)
        registry.forget()
        assert run("tag", "list", *wrong, "--refresh", "--database", database).exit_code == 2
        assert not was_read(registry)
