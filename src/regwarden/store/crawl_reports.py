"""Which crawls have there been, and what did each find? For those who ask; ``crawls`` writes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Select, select
from sqlalchemy.engine import Connection

from regwarden.core.coverage import Certificate
from regwarden.store.schema import crawls, registries
from regwarden.store.times import from_micros

CRAWL_STATES: Final = ("running", "complete", "partial", "failed", "interrupted")

# What stands in a crawl that runs, or was interrupted.
_NONE: Final = ("", "{}")


def list_crawls(
    connection: Connection, names: Sequence[str], *, states: Sequence[str] = (), before_id: int | None, limit: int
) -> list[dict[str, Any]]:
    """At most ``limit`` crawls of the registries ``names``, the newest first, those before ``before_id``.

    Fields: id, registry, state, started_at, finished_at (``None``: it has not ended) and the certificate as a mapping
    (``None``: it has none).
    """
    statement = _statement().where(registries.c.name.in_(names)).order_by(crawls.c.id.desc()).limit(limit)
    if states:
        statement = statement.where(crawls.c.state.in_(states))
    if before_id is not None:
        statement = statement.where(crawls.c.id < before_id)
    return [_shown(row) for row in connection.execute(statement)]


def find_crawl(connection: Connection, crawl_id: int) -> dict[str, Any] | None:
    """One crawl as in the list."""
    row = connection.execute(_statement().where(crawls.c.id == crawl_id)).one_or_none()
    return None if row is None else _shown(row)


def _statement() -> Select[Any]:
    return select(crawls, registries.c.name.label("registry_name")).join(
        registries, registries.c.id == crawls.c.registry_id
    )


def _shown(row: Any) -> dict[str, Any]:
    return {
        "id": row.id,
        "registry": row.registry_name,
        "state": row.state,
        "started_at": from_micros(row.started_at),
        "finished_at": from_micros(row.finished_at),
        "certificate": None if row.certificate in _NONE else msgspec.json.decode(row.certificate, type=Certificate),
    }
