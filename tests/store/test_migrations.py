"""Migrations give exactly the schema of schema.py, on both databases, and refuse what they do not know."""

from __future__ import annotations

import threading

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from regwarden.errors import StoreError
from regwarden.store import migrations, upkeep
from regwarden.store.access_schema import tokens
from regwarden.store.allow_schema import allow_entries
from regwarden.store.cleanup_schema import plans
from regwarden.store.database import Access, open_database
from regwarden.store.project_schema import projects
from regwarden.store.schema import blobs, installation

TABLES = (plans, tokens, allow_entries, projects)  # their modules add to the schema by being imported


@pytest.fixture(autouse=True)
def each_is_real(monkeypatch):
    """Elsewhere a fresh file is given the schema of the first one."""
    monkeypatch.setattr(migrations, "_upgrade", migrations._upgrade.__wrapped__)  # type: ignore[attr-defined]  # see tests.fixtures.schema


def set_version(connection, version: str) -> None:
    connection.execute(text(f"UPDATE {migrations.VERSION_TABLE} SET version_num = :version"), {"version": version})


def test_migrating_gives_the_schema_that_the_program_expects(database):
    def differences(connection):
        # Alembic does not recognise SQLite's empty text as the default that it is.
        is_postgresql = connection.dialect.name == "postgresql"
        options = {"version_table": migrations.VERSION_TABLE, "compare_server_default": is_postgresql}
        return compare_metadata(MigrationContext.configure(connection, opts=options), plans.metadata)

    assert database.read_now(differences) == []


def test_a_missing_column_would_be_noticed(database):
    database.write_now(lambda connection: connection.exec_driver_sql("ALTER TABLE blobs DROP COLUMN media_type"))
    found = database.read_now(
        lambda connection: compare_metadata(MigrationContext.configure(connection), plans.metadata)
    )
    assert ("add_column", None, "blobs", blobs.c.media_type.name) in [
        (*difference[:3], difference[3].name) for difference in found if difference[0] == "add_column"
    ]


def test_names_are_compared_byte_by_byte(database):
    def ordered(connection):
        connection.execute(installation.insert(), [{"name": name, "value": ""} for name in ("b", "ä", "B", "a", "a-b")])
        return list(connection.execute(installation.select().order_by(installation.c.name)).scalars())

    assert database.write_now(ordered) == ["B", "a", "a-b", "b", "ä"]


def test_the_versions_known_are_those_of_the_scripts():
    scripts = ScriptDirectory.from_config(migrations.build_config())
    assert tuple(script.revision for script in reversed(list(scripts.walk_revisions()))) == migrations.VERSIONS
    assert scripts.get_heads() == [migrations.EXPECTED_VERSION]


def test_the_present_version_is_not_migrated_again(database_url, opened):
    opened(database_url).close()
    database = opened(database_url)
    assert database.read_now(migrations.current_version) == migrations.EXPECTED_VERSION


@pytest.mark.parametrize("access", Access)
def test_a_newer_database_is_refused(database_url, opened, access):
    database = opened(database_url)
    database.write_now(lambda connection: set_version(connection, "9999"))
    database.close()
    with pytest.raises(StoreError) as caught:
        open_database(database_url, access=access)
    assert caught.value.code == "database-newer"
    assert "9999" in str(caught.value)
    assert "Upgrade regwarden" in caught.value.hint


def test_an_older_database_is_not_read_but_named(database_url, opened, monkeypatch):
    opened(database_url).close()
    monkeypatch.setattr(migrations, "VERSIONS", (*migrations.VERSIONS, "9998"))
    monkeypatch.setattr(migrations, "EXPECTED_VERSION", "9998")
    with pytest.raises(StoreError) as caught:
        open_database(database_url, access=Access.READ)
    assert caught.value.code == "database-older"
    assert caught.value.hint == "Run: regwarden db migrate"


def test_a_failing_migration_leaves_nothing_behind(database_url, opened, monkeypatch):
    def fail(config, _revision):
        config.attributes["connection"].exec_driver_sql("CREATE TABLE half (id INTEGER)")
        raise StoreError("on purpose")

    with monkeypatch.context() as patched:
        patched.setattr("alembic.command.upgrade", fail)
        with pytest.raises(StoreError, match="on purpose"):
            opened(database_url)
    database = opened(database_url)
    missing = "SELECT count(*) FROM half"
    with pytest.raises(Exception, match="half"):
        database.read_now(lambda connection: connection.exec_driver_sql(missing).all())


def test_processes_that_migrate_at_once_wait_for_each_other(postgresql_url):
    failures = []

    def migrate():
        try:
            upkeep.migrate(postgresql_url, create=True)
        except Exception as error:  # noqa: BLE001 -- told by the assertion
            failures.append(error)

    threads = [threading.Thread(target=migrate) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert upkeep.check(postgresql_url).version == migrations.EXPECTED_VERSION


def test_foreign_keys_hold_after_a_migration(database):
    assert database.dialect == "postgresql" or database.write_now(
        lambda connection: connection.exec_driver_sql("PRAGMA foreign_keys").scalar_one() == 1
    )
