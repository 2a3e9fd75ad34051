"""Checking and migrating a database on request."""

from __future__ import annotations

import pytest

from regwarden.errors import StoreError
from regwarden.store import upkeep
from regwarden.store.migrations import EXPECTED_VERSION, VERSION_TABLE
from regwarden.store.schema import installation, metadata


def test_a_check_counts_rows_and_bytes(database_url, database):
    rows = [{"name": str(number), "value": "x" * 1000} for number in range(500)]
    database.write_now(lambda connection: connection.execute(installation.insert(), rows))
    report = upkeep.check(database_url)
    assert report.version == report.expected_version == EXPECTED_VERSION
    assert report.problems == ()
    assert report.is_sound
    assert report.row_counts == dict.fromkeys(metadata.tables, 0) | {"installation": 500}
    assert 100_000 < report.size_bytes < 5_000_000


def test_a_check_names_a_missing_table(database_url, database):
    database.write_now(lambda connection: connection.exec_driver_sql("DROP TABLE usage_days"))
    report = upkeep.check(database_url)
    assert report.problems == ("table usage_days is missing",)
    assert "usage_days" not in report.row_counts


def test_a_check_finds_rows_that_point_to_nothing(tmp_path, opened):
    url = f"sqlite:///{tmp_path / 'inventory.sqlite3'}"
    opened(url).close()
    import sqlite3

    connection = sqlite3.connect(tmp_path / "inventory.sqlite3")
    connection.execute("INSERT INTO crawls (registry_id, state, started_at) VALUES (77, 'running', 1)")
    connection.commit()
    connection.close()
    assert upkeep.check(url).problems == ("table crawls, row 1 points to a row of registries that is missing",)


def test_a_check_reports_another_version_instead_of_failing(database_url, database):
    database.write_now(lambda connection: connection.exec_driver_sql(f"UPDATE {VERSION_TABLE} SET version_num = 'x'"))
    assert upkeep.check(database_url).version == "x"


def test_a_check_of_nothing_is_no_inventory(database_url):
    with pytest.raises(StoreError) as caught:
        upkeep.check(database_url)
    assert caught.value.code == "no-inventory"


def test_migrating_nothing_is_no_inventory_unless_one_is_wanted(database_url):
    with pytest.raises(StoreError) as caught:
        upkeep.migrate(database_url)
    assert caught.value.code == "no-inventory"
    assert upkeep.migrate(database_url, create=True) == EXPECTED_VERSION
    assert upkeep.check(database_url).version == EXPECTED_VERSION
