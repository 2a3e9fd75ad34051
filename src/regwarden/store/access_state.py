"""What must a process remember to know who may come in, and which of it goes when it means nothing any more?"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Table, delete, select
from sqlalchemy.engine import Connection

from regwarden.store.access_schema import sessions, signing_keys, spent_assertions, spent_refreshes
from regwarden.store.changes import ACCESS, read_changes
from regwarden.store.sessions import load_ended, load_not_before
from regwarden.store.signing_keys import StoredKey, load_keys
from regwarden.store.times import to_micros
from regwarden.store.tokens import StoredToken, list_tokens

PIECE_ROWS: Final = 500
# Sign-ins can be looked at for a while after they have expired.
KEPT_AFTER_END: Final = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class AccessState:
    """All of it at one moment. ``number`` is of the last change that is certainly in it."""

    number: int
    tokens: tuple[StoredToken, ...]
    ended: frozenset[str]
    not_before: dict[str, datetime]
    keys: tuple[StoredKey, ...]


def load_access(connection: Connection, now: datetime) -> AccessState:
    """Read everything; the number first, so that a change in between is noticed the next time."""
    return AccessState(
        number=read_changes(connection).get(ACCESS, 0),
        tokens=tuple(list_tokens(connection, living_at=now)),
        ended=load_ended(connection, now),
        not_before=load_not_before(connection),
        keys=tuple(load_keys(connection, now)),
    )


def purge_access(connection: Connection, now: datetime) -> bool:
    """Delete a piece of what has expired: sign-ins, keys, assertions. Whether there may be more."""
    old = select(sessions.c.id).where(sessions.c.expires_at < to_micros(now - KEPT_AFTER_END)).limit(PIECE_ROWS)
    ids = list(connection.execute(old).scalars())
    if ids:
        connection.execute(delete(spent_refreshes).where(spent_refreshes.c.session_id.in_(ids)))
        connection.execute(delete(sessions).where(sessions.c.id.in_(ids)))
    # Their number is that of a day at most.
    before = to_micros(now - timedelta(days=1))
    _delete_old(connection, signing_keys, "verifies_until", before)
    _delete_old(connection, spent_assertions, "expires_at", before)
    return len(ids) == PIECE_ROWS


def _delete_old(connection: Connection, table: Table, column: str, before: int) -> None:
    connection.execute(delete(table).where(table.c[column] < before))
