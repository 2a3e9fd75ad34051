"""Every store test runs on both databases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from regwarden.store.database import Access, Database, open_database


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty place: a file that does not exist yet, or a fresh database of a real server."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'inventory.sqlite3'}"
    return str(request.getfixturevalue("postgresql_url"))


OpenDatabase = Callable[..., Database]


@pytest.fixture
def opened() -> Iterator[OpenDatabase]:
    """Open databases that are closed when the test ends."""
    databases: list[Database] = []

    def open_one(url: str, *, access: Access = Access.WRITE, create: bool = True) -> Database:
        database = open_database(url, access=access, create=create)
        databases.append(database)
        return database

    yield open_one
    for database in reversed(databases):
        database.close()


@pytest.fixture
def database(database_url: str, opened: OpenDatabase) -> Database:
    """An open database with the present schema and no rows."""
    return opened(database_url)
