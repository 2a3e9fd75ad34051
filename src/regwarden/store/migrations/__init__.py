"""Which version has a database, and how does it become the present one?

Alembic runs from the installed package, without a configuration file, and is imported only when there is work.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import inspect, text

from regwarden.errors import StoreError
from regwarden.store.postgresql import advisory_key
from regwarden.store.repeating import repeat

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy.engine import Connection, Engine

VERSION_TABLE: Final = "regwarden_version"
VERSIONS: Final = ("0001", "0002", "0003", "0004", "0005")
EXPECTED_VERSION: Final = VERSIONS[-1]


def current_version(connection: Connection) -> str | None:
    """The version of the schema; None if there is none, as in a fresh database."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    version: str | None = connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}"))  # noqa: S608 -- constant
    return version


def check(version: str | None, *, place: str) -> None:
    """Raise StoreError unless ``version`` is the one this release reads; ``place`` is the database as shown."""
    if version is None:
        raise no_inventory(place)
    if version not in VERSIONS:
        raise _newer(version, place)
    if version != EXPECTED_VERSION:
        message = f"the inventory at {place} is of the older version {version}"
        raise StoreError(message, hint="Run: regwarden db migrate", code="database-older")


def upgrade(engine: Engine, *, place: str) -> None:
    """Bring the database to the present version, in one transaction; nothing happens if it is there already.

    On PostgreSQL it is begun anew where others are reading what it must lock.
    Raises StoreError if it was written by a newer release, or belongs to another program.
    """
    repeat(lambda: _upgrade_once(engine, place))


def _upgrade_once(engine: Engine, place: str) -> None:
    with engine.connect() as connection:
        is_sqlite = connection.dialect.name == "sqlite"
        if is_sqlite:
            # Rebuilding a table would violate the keys that point to it; outside of a transaction only.
            _set_foreign_keys(connection, is_on=False)
        try:
            with connection.begin():
                if not is_sqlite:
                    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": advisory_key("migrations")})
                _upgrade(connection, place)
        finally:
            if is_sqlite:
                _set_foreign_keys(connection, is_on=True)


def build_config(connection: Connection | None = None) -> Config:
    """Alembic's configuration for the scripts in this package, to run on ``connection`` inside its transaction."""
    from alembic.config import Config  # noqa: PLC0415 -- slow to import, and rarely needed

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def no_inventory(place: str) -> StoreError:
    """The error for a place where nothing has been crawled yet."""
    return StoreError(
        f"there is no inventory at {place}",
        hint="Run: regwarden crawl https://registry.example.com",
        code="no-inventory",
    )


def _upgrade(connection: Connection, place: str) -> None:
    version = current_version(connection)
    if version == EXPECTED_VERSION:
        return
    if version is not None and version not in VERSIONS:
        raise _newer(version, place)
    if version is None and connection.dialect.name == "sqlite" and inspect(connection).get_table_names():
        message = f"{place} belongs to another program"
        raise StoreError(message, hint="Name another file with --database.", code="not-an-inventory")
    from alembic import command  # noqa: PLC0415 -- slow to import, and rarely needed

    command.upgrade(build_config(connection), "head")
    if connection.dialect.name == "sqlite" and connection.exec_driver_sql("PRAGMA foreign_key_check").first():
        message = f"the inventory at {place} has rows that point to nothing, so it was left as it was"
        raise StoreError(message, hint="Run: regwarden db check", code="database-damaged")


def _newer(version: str, place: str) -> StoreError:
    return StoreError(
        f"the inventory at {place} was written by a newer regwarden (version {version[:32]} of the schema)",
        hint=f"Upgrade regwarden; this release knows versions up to {EXPECTED_VERSION}.",
        code="database-newer",
    )


def _set_foreign_keys(connection: Connection, *, is_on: bool) -> None:
    driver_connection = connection.connection.driver_connection
    if driver_connection is not None:
        driver_connection.execute(f"PRAGMA foreign_keys = {'ON' if is_on else 'OFF'}")
