"""The scripts in ``examples/`` do what they say, against a real registry."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sample_inventory import isolated_environment, small_registry

EXAMPLES = Path(__file__).parent.parent / "examples"
EXPECTED = {
    "cleanup.py": ("removes", "it is applied", "it is undone"),
    "report_usage.py": ("complete, 5 tags", "team/app: stored"),
    "find_old_tags.py": ("team/web:edge is", "of 5 tags"),
    "find_users_of_layer.py": ("(1000000 bytes)", "team/app:1.0.0", "team/web:edge"),
    "save_as_csv.py": ("wrote",),
}


@pytest.fixture(scope="module")
def registry_url() -> Iterator[str]:
    with small_registry() as registry:
        yield registry.url


def test_every_example_is_run() -> None:
    assert {file.name for file in EXAMPLES.glob("*.py")} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_an_example_runs_as_written(name: str, registry_url: str, tmp_path: Path) -> None:
    isolated = {key: value for key, value in isolated_environment(tmp_path).items() if value is not None}
    removed = {key for key, value in isolated_environment(tmp_path).items() if value is None}
    environ = {**{key: value for key, value in os.environ.items() if key not in removed}, **isolated}
    result = subprocess.run(
        [sys.executable, str(EXAMPLES / name), registry_url, str(tmp_path / "inventory.sqlite3")],
        capture_output=True,
        text=True,
        env=environ,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert all(words in result.stdout for words in EXPECTED[name]), result.stdout
    if name == "save_as_csv.py":
        rows = list(csv.DictReader((tmp_path / "inventory.csv").read_text().splitlines()))
        assert [row["tag"] for row in rows] == ["1.0.0", "1.1.0", "1.2.0", "latest", "edge"]
