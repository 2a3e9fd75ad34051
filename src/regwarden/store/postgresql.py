"""How is a PostgreSQL database opened, and how does one process exclude the others there?"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import create_engine, event, text
from sqlalchemy.pool import QueuePool

from regwarden.errors import Conflict

if TYPE_CHECKING:
    from psycopg import Connection
    from sqlalchemy.engine import Engine

    from regwarden.store.addresses import DatabaseAddress

POOL_SIZE: Final = 5

# A server that is cut off is noticed in seconds, not in the hours of the operating system.
_DEFAULTS: Final = {
    "connect_timeout": "10",
    "application_name": "regwarden",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
}


def open_engine(address: DatabaseAddress) -> Engine:
    """A pool of connections; nothing is connected yet."""
    engine = create_engine(
        "postgresql+psycopg://",
        connect_args={**_DEFAULTS, **address.parameters},
        poolclass=QueuePool,
        pool_size=POOL_SIZE,
        max_overflow=POOL_SIZE,
        pool_pre_ping=True,
        hide_parameters=True,  # they may be secrets, and errors end up in logs
    )
    event.listen(engine, "connect", _commit_durably)
    return engine


def _commit_durably(connection: Connection[Any], _record: object) -> None:
    """A server may be set to report commits before they are on its disk; what we acknowledge must be there."""
    connection.execute(
        "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
    )
    connection.commit()


def reading(engine: Engine) -> Engine:
    """The same pool, with read-only transactions that each see one snapshot."""
    return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


@contextmanager
def advisory_lock(engine: Engine, name: str) -> Iterator[None]:
    """Hold the lock ``name`` of this database, on a connection of its own; it ends with the connection.

    Raises Conflict when another process holds it.
    """
    key = advisory_key(name)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if not connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": key}):
            message = f"another regwarden process is at work on {name}"
            raise Conflict(message, hint="Wait until it has ended, or stop it.", code="database-busy")
        try:
            yield
        finally:
            if not connection.invalidated:
                connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": key})


def advisory_key(name: str) -> int:
    """The signed 64-bit number that stands for ``name`` among PostgreSQL's advisory locks."""
    return int.from_bytes(hashlib.sha256(f"regwarden:{name}".encode()).digest()[:8], "big", signed=True)
