"""Which secrets authenticate the notifications of a registry? Of each registry the two newest are valid.

They are kept as they are: whoever configures a registry must be shown its secret again.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from sqlalchemy import delete, insert, select
from sqlalchemy.engine import Connection

from regwarden.store.event_schema import hook_secrets
from regwarden.store.times import to_micros

VALID_COUNT: Final = 2


def load_hook_secrets(connection: Connection) -> dict[str, tuple[str, ...]]:
    """The valid secrets of every registry by its name, the newest first."""
    query = select(hook_secrets.c.registry, hook_secrets.c.secret).order_by(hook_secrets.c.id.desc())
    found: dict[str, tuple[str, ...]] = {}
    for registry, secret in connection.execute(query):
        found[registry] = (*found.get(registry, ()), secret)[:VALID_COUNT]
    return found


def ensure_hook_secret(connection: Connection, registry: str, new_secret: str, at: datetime) -> str:
    """The newest secret of ``registry``, which becomes ``new_secret`` if it has none."""
    secrets = load_hook_secrets(connection).get(registry)
    if secrets:
        return secrets[0]
    _insert(connection, registry, new_secret, at)
    return new_secret


def ensure_hook_secrets(connection: Connection, candidates: Mapping[str, str], at: datetime) -> None:
    """Give each registry of ``candidates`` that has no secret the one that stands there."""
    for registry, new_secret in candidates.items():
        ensure_hook_secret(connection, registry, new_secret, at)


def rotate_hook_secret(connection: Connection, registry: str, new_secret: str, at: datetime) -> None:
    """Make ``new_secret`` the newest; the one before it stays valid, older ones are forgotten."""
    _insert(connection, registry, new_secret, at)
    kept = (
        select(hook_secrets.c.id)
        .where(hook_secrets.c.registry == registry)
        .order_by(hook_secrets.c.id.desc())
        .limit(VALID_COUNT)
    )
    connection.execute(
        delete(hook_secrets).where(
            hook_secrets.c.registry == registry, hook_secrets.c.id.not_in(connection.execute(kept).scalars().all())
        )
    )


def _insert(connection: Connection, registry: str, secret: str, at: datetime) -> None:
    connection.execute(insert(hook_secrets).values(registry=registry, secret=secret, created_at=to_micros(at)))
