"""Under which name did the last event of a tag know the registry? Kept where that is not the configured one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from sqlalchemy import bindparam, func, update
from sqlalchemy.engine import Connection

from regwarden.core.hosts import normalise_host
from regwarden.store.schema import tags
from regwarden.store.tag_state import TagKey
from regwarden.store.times import to_micros

_SEEN_AT: Final = bindparam("seen_at", type_=tags.c.event_at.type)
_SET_HOST: Final = (
    update(tags)
    .where(
        tags.c.repository_id == bindparam("of_repository"),
        tags.c.name == bindparam("of_tag"),
        tags.c.host != bindparam("seen_host"),
    )
    .values(host=bindparam("seen_host"))
)
_SET_OTHER_HOST: Final = _SET_HOST.where(func.coalesce(tags.c.event_at, 0) <= _SEEN_AT)
_SET_USUAL_HOST: Final = _SET_HOST.where(tags.c.event_at == _SEEN_AT)


def save_hosts(connection: Connection, usual: str, seen: Mapping[TagKey, tuple[datetime, str]]) -> None:
    """Keep the host of the latest event of each tag; ``usual`` is the configured one, for which nothing is kept."""
    named: list[dict[str, Any]] = []
    plain: list[dict[str, Any]] = []
    for (repository_id, tag), (at, host) in seen.items():
        is_other = bool(host) and normalise_host(host) != usual
        row = {"of_repository": repository_id, "of_tag": tag, "seen_at": to_micros(at)}
        (named if is_other else plain).append(row | {"seen_host": host if is_other else ""})
    for rows, statement in ((named, _SET_OTHER_HOST), (plain, _SET_USUAL_HOST)):
        if rows:
            connection.execute(statement, rows)
