"""How did counts and sizes develop? From the daily figures, which are kept whenever sizes are computed."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from itertools import groupby
from typing import Any, Final

from sqlalchemy import and_, select
from sqlalchemy.engine import Connection

from regwarden.errors import NotFound
from regwarden.store.schema import registries, repositories, usage_days

_FIRST_DAY: Final = date(1970, 1, 1)
_WHOLE_REGISTRY: Final = 0
_CHANGES: Final = {
    "tag_count": "tag_count_change",
    "manifest_count": "manifest_count_change",
    "logical_bytes": "logical_change_bytes",
    "stored_bytes": "stored_change_bytes",
}


class Period(StrEnum):
    """How much time a row stands for; its figures are those of the last day that has any."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """The figures of one day; ``repository`` is ``None`` for a whole registry.

    Changes are those since the row before, ``None`` where there is none or a figure is unknown.
    """

    registry: str
    repository: str | None
    day: date
    tag_count: int
    tag_count_change: int | None
    manifest_count: int
    manifest_count_change: int | None
    logical_bytes: int | None
    logical_change_bytes: int | None
    stored_bytes: int | None
    stored_change_bytes: int | None


def list_growth(
    connection: Connection,
    names: Collection[str],
    repository: str | None = None,
    *,
    since: datetime | None = None,
    by: Period = Period.DAY,
) -> list[Growth]:
    """The growth of each registry (all, or those named), or of a repository in each that has had it, oldest first.

    Weeks begin on Mondays. Rows of before ``since`` are left out. Raises ``NotFound`` for an unknown repository.
    """
    statement = (
        select(usage_days, registries.c.name.label("registry"), repositories.c.name.label("repository"))
        .select_from(
            usage_days.join(registries).outerjoin(
                repositories,
                and_(repositories.c.id == usage_days.c.repository_id, repositories.c.registry_id == registries.c.id),
            )
        )
        .order_by(registries.c.name, usage_days.c.day)
    )
    if names:
        statement = statement.where(registries.c.name.in_(sorted(names)))
    if repository is None:
        statement = statement.where(usage_days.c.repository_id == _WHOLE_REGISTRY)
    else:
        _require(connection, names, repository)
        statement = statement.where(repositories.c.name == repository)
    rows = connection.execute(statement).all()
    found = [row for _, group in groupby(rows, key=lambda row: row.registry) for row in _grown(list(group), by)]
    return [row for row in found if since is None or row.day >= since.date()]


def _grown(rows: list[Any], by: Period) -> Iterator[Growth]:
    before: Any = None
    for _, group in groupby(rows, key=lambda row: _period(_day(row.day), by)):
        row = list(group)[-1]
        changes = {
            change: _change(getattr(row, name), None if before is None else getattr(before, name))
            for name, change in _CHANGES.items()
        }
        yield Growth(
            registry=row.registry,
            repository=row.repository,
            day=_day(row.day),
            tag_count=row.tag_count,
            manifest_count=row.manifest_count,
            logical_bytes=row.logical_bytes,
            stored_bytes=row.stored_bytes,
            **changes,
        )
        before = row


def _change(now: int | None, before: int | None) -> int | None:
    return None if now is None or before is None else now - before


def _day(number: int) -> date:
    return _FIRST_DAY + timedelta(days=number)


def _period(day: date, by: Period) -> tuple[int, ...]:
    match by:
        case Period.DAY:
            return (day.toordinal(),)
        case Period.WEEK:
            return day.isocalendar()[:2]
        case Period.MONTH:
            return (day.year, day.month)


def _require(connection: Connection, names: Collection[str], repository: str) -> None:
    known = select(repositories.c.id).join(registries).where(repositories.c.name == repository)
    if names:
        known = known.where(registries.c.name.in_(sorted(names)))
    if connection.execute(known.limit(1)).first() is None:
        hint = "`regwarden repository list` shows what there is."
        raise NotFound(f"the inventory has no repository {repository[:160]}", hint=hint)
