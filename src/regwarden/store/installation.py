"""Which installation does this database belong to? A random id, by which our own traffic is recognised."""

from __future__ import annotations

from typing import Final

from sqlalchemy import insert, select
from sqlalchemy.engine import Connection

from regwarden.store.schema import installation

_ID: Final = "id"


def find_installation_id(connection: Connection) -> str | None:
    """The id of this database; ``None`` before the first crawl."""
    found: str | None = connection.scalar(select(installation.c.value).where(installation.c.name == _ID))
    return found


def ensure_installation_id(connection: Connection, candidate: str) -> str:
    """The id of this database, which becomes ``candidate`` if there is none yet."""
    found = find_installation_id(connection)
    if found is None:
        connection.execute(insert(installation).values(name=_ID, value=candidate))
    return found or candidate
