"""When was each registry last crawled as a whole, and for which are the sizes older than what they are made of?"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import and_, func, or_, select
from sqlalchemy.engine import Connection

from regwarden.store.schema import crawls, registries, repositories
from regwarden.store.times import from_micros

UNREAD_STATES: Final = ("denied", "failed", "partial")
# How options are stored of a crawl that was not restricted to some repositories (JSON, so no name can look like it).
_WHOLE: Final = '%"repositories":[],%'
# A change may be committed a little after the moment that it is labelled with.
_LATE: Final = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class CrawlTimes:
    """The last crawl of a whole registry; ``state`` is that of the row, ``running`` also of one that was cut off.

    ``started_at`` and ``state`` are ``None`` where there was no such crawl.
    """

    registry_id: int
    registry: str
    started_at: datetime | None
    state: str | None


def load_crawl_times(connection: Connection, registry: str | None = None) -> dict[str, CrawlTimes]:
    """By name, of every registry in the inventory or of one. Crawls of single repositories do not count."""
    latest = (
        select(crawls.c.registry_id, func.max(crawls.c.id).label("crawl_id"))
        .where(crawls.c.options.like(_WHOLE))
        .group_by(crawls.c.registry_id)
        .subquery()
    )
    found = (
        select(registries.c.id, registries.c.name, crawls.c.started_at, crawls.c.state)
        .select_from(registries)
        .outerjoin(latest, latest.c.registry_id == registries.c.id)
        .outerjoin(crawls, crawls.c.id == latest.c.crawl_id)
    )
    if registry is not None:
        found = found.where(registries.c.name == registry)
    return {
        row.name: CrawlTimes(row.id, row.name, from_micros(row.started_at), row.state)
        for row in connection.execute(found)
    }


def load_unread_repositories(connection: Connection, crawl_id: int) -> dict[str, str]:
    """Name → state of the repositories that a crawl could not, or not wholly, read."""
    found = select(repositories.c.name, repositories.c.state).where(
        repositories.c.crawl_id == crawl_id, repositories.c.state.in_(UNREAD_STATES)
    )
    return {row.name: row.state for row in connection.execute(found)}


def registries_to_size(connection: Connection) -> dict[str, int]:
    """Name → id of the registries that events have changed since their sizes were computed."""
    columns = registries.c
    late: Any = columns.changed_at + _LATE // timedelta(microseconds=1)
    outdated = and_(columns.changed_at.is_not(None), or_(columns.sized_at.is_(None), late >= columns.sized_at))
    return {
        row.name: row.id
        for row in connection.execute(select(columns.name, columns.id).where(outdated).order_by(columns.name))
    }
