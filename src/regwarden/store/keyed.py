"""How are hundreds of pairs (repository, name) looked up? One after the other on SQLite, at once on PostgreSQL.

SQLite answers a prepared question by its index in microseconds; PostgreSQL's time goes into the way there and back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy.engine import Connection

RepositoryKey = tuple[int, str]

_AT_ONCE: Final = """SELECT found.* FROM unnest(%b::bigint[], %b::text[]) AS k(repository_id, name)
CROSS JOIN LATERAL ({inner}) AS found"""


def select_by_key(connection: Connection, query: str, keys: Sequence[RepositoryKey]) -> list[Any]:
    """The rows of ``query`` for every key; a key may have none, or several.

    ``query`` refers to the key as ``{repository}`` and ``{name}``. Rows are plain tuples.
    """
    if not keys:
        return []
    if connection.dialect.name == "sqlite":
        statement = query.format(repository="?1", name="?2")
        cursor = connection.connection.cursor()
        try:
            found: list[Any] = []
            for key in keys:
                cursor.execute(statement, key)
                found += cursor.fetchall()
            return found
        finally:
            cursor.close()
    inner = query.format(repository="k.repository_id", name="k.name")
    statement = _AT_ONCE.format(inner=inner)
    ids, names = [key[0] for key in keys], [key[1] for key in keys]
    return [tuple(row) for row in connection.exec_driver_sql(statement, (ids, names))]
