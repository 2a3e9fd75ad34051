"""How does the database learn that its tables have grown, so that it chooses the right indexes?"""

from __future__ import annotations

from functools import partial
from typing import Final

from sqlalchemy.engine import Connection

from regwarden.store.database import Database

_TABLES: Final = ("repositories", "tags", "repository_manifests", "manifests")


async def refresh_statistics(database: Database) -> None:
    """Let the database look at the tables that crawls fill, one at a time, so that nobody waits long."""
    for table in _TABLES:
        await database.write(partial(_analyze, table=table))


def _analyze(connection: Connection, *, table: str) -> None:
    if connection.dialect.name == "sqlite":
        # Rows looked at per index: https://www.sqlite.org/pragma.html#pragma_analysis_limit
        connection.exec_driver_sql("PRAGMA analysis_limit = 1000")
    connection.exec_driver_sql(f"ANALYZE {table}")
