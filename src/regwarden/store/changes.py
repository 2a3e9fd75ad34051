"""Has anything changed of what processes hold in memory? A number for each subject, counted in the same transaction.

Whoever holds something reads the number first and then what it is about: a change in between is seen the next time.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import select, text
from sqlalchemy.engine import Connection

from regwarden.store.access_schema import changes

ACCESS: Final = "access"
ALLOW: Final = "allow"
PROJECT_RULES: Final = "project-rules"

# Both databases understand it, and on both the row is locked until the transaction ends: numbers appear in order.
_COUNT: Final = text(
    "INSERT INTO changes (name, number) VALUES (:name, 1) "
    "ON CONFLICT (name) DO UPDATE SET number = changes.number + 1 RETURNING number"
)


def note_change(connection: Connection, name: str) -> int:
    """Count a change of ``name``, one of the above, in the transaction of the change; returns its number."""
    return int(connection.execute(_COUNT, {"name": name}).scalar_one())


def read_changes(connection: Connection) -> dict[str, int]:
    """The number of the last change of every subject; what never changed is 0 and missing."""
    return {row.name: int(row.number) for row in connection.execute(select(changes.c.name, changes.c.number))}
