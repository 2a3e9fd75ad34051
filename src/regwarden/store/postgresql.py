"""How is a PostgreSQL database opened, and how does one process exclude the others there?"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from sqlalchemy import create_engine, text
from sqlalchemy.pool import QueuePool

from regwarden.errors import Conflict

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

    from regwarden.store.addresses import DatabaseAddress

POOL_SIZE: Final = 5

_DEFAULTS: Final = {"connect_timeout": "10", "application_name": "regwarden"}


def open_engine(address: DatabaseAddress) -> Engine:
    """A pool of connections; nothing is connected yet."""
    return create_engine(
        "postgresql+psycopg://",
        connect_args={**_DEFAULTS, **address.parameters},
        poolclass=QueuePool,
        pool_size=POOL_SIZE,
        max_overflow=POOL_SIZE,
        pool_pre_ping=True,
    )


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
