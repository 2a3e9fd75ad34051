"""A crawled small registry, once for all tests of the command line, and a way to ask it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from tests.sample_inventory import Run, run_cli, small_registry


@pytest.fixture(scope="session")
def inventory_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a database into which the small registry was crawled under the name ``small``."""
    place = tmp_path_factory.mktemp("inventory")
    url = f"sqlite:///{place / 'inventory.sqlite3'}"
    with small_registry() as registry:
        result = run_cli(place, "crawl", registry.url, "--name", "small", "--database", url)
    assert result.exit_code == 0, result.stderr
    return url


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """The command line with nothing configured."""
    return partial(run_cli, tmp_path)


@pytest.fixture
def ask(run: Run, inventory_url: str) -> Run:
    """The command line on the crawled inventory."""
    return partial(run, REGWARDEN_DATABASE=inventory_url)
