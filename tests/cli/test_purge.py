"""``db purge``: old rows of our own go, by the command line, by the library and by the service."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from regwarden import connect
from tests.sample_inventory import Run, small_registry


@pytest.fixture
def config(run: Run, tmp_path: Path) -> str:
    """A configuration whose database has one delivery of each age and state."""
    database, file = tmp_path / "purge.sqlite3", tmp_path / "regwarden.toml"
    file.write_text(f'database = "sqlite:///{database}"\n[events]\nkeep_bodies = "2h"\nkeep_quarantine = "3h"\n')
    with small_registry() as registry:
        run("crawl", registry.url, "--name", "small", "--config", str(file))
    now = datetime.now(UTC).timestamp()
    with sqlite3.connect(database) as connection:
        connection.executemany(
            "INSERT INTO deliveries (registry, received_at, sender, state, body_bytes) VALUES ('small', ?, '', ?, 0)",
            [
                (int((now - timedelta(hours=hours).total_seconds()) * 1_000_000), state)
                for hours in (4, 1)
                for state in ("applied", "quarantined", "pending")
            ],
        )
    return str(file)


def test_what_was_purged_is_printed(run: Run, config: str) -> None:
    none = {"event_count": 0, "pull_day_count": 0, "trash_count": 0}
    first = json.loads(run("db", "purge", "--config", config, "--output", "json").stdout)
    assert first == {"delivery_count": 1, "quarantine_count": 1, **none}
    again = run("db", "purge", "--config", config)
    assert again.exit_code == 0
    assert again.stdout == (
        "deleted: 0 applied deliveries, 0 in quarantine, 0 events, 0 daily pull counts, 0 removed manifests\n"
    )


def test_what_was_learned_stays(config: str) -> None:
    with connect(config=config, environ={}) as inventory:
        before = inventory.usage("small").registries
        assert inventory.purge().delivery_count == 1
        assert inventory.usage("small").registries == before
