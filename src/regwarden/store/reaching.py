"""What of the stored rows may be shown to somebody whose reach is not everything? As SQL, and a check of the rest."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from sqlalchemy import and_, false, or_, select
from sqlalchemy.engine import Connection
from sqlalchemy.sql.elements import ColumnElement

from regwarden.core.access import Area, Reach
from regwarden.store.query_conditions import Check, Filter
from regwarden.store.query_fields import KnownRegistry
from regwarden.store.query_patterns import is_decided, narrow_any
from regwarden.store.schema import repositories

_REMEMBERED_NAMES: Final = 100_000
_MOST_NAMED: Final = 2_000


def touched(known: Sequence[KnownRegistry], reach: Reach) -> tuple[KnownRegistry, ...]:
    """Those registries of which anything may be shown: the others are as if they were not there."""
    return tuple(one for one in known if reach.touches(one.name))


def reach_filters(
    reach: Reach,
    known: Sequence[KnownRegistry],
    dialect: str,
    *,
    registry_id: ColumnElement[int] = repositories.c.registry_id,
    name: ColumnElement[str] = repositories.c.name,
) -> tuple[Filter, ...]:
    """What lets only rows of repositories in reach through; nothing where that is all of them.

    ``registry_id`` and ``name`` are where a row says of which repository it is.
    """
    if reach.is_everything:
        return ()
    clauses = [_narrow(area, known, dialect, registry_id, name) for area in reach.areas]
    clause = or_(*clauses) if clauses else false()
    if all(is_decided(area.repositories) for area in reach.areas):
        return (Filter(clause),)
    names = {one.id: one.name for one in known}

    @lru_cache(maxsize=_REMEMBERED_NAMES)
    def passes(number: int | None, repository: str) -> bool:
        return number in names and reach.has(names[number], repository)

    return (Filter(clause, Check((registry_id, name), passes)),)


def within_reach(connection: Connection, found: tuple[Filter, ...]) -> tuple[Filter, ...]:
    """The same filters on repositories; where a check is left and lets few through, these are named instead.

    A walk along millions of tags past those that a check refuses would take seconds.
    """
    clause, check = (found[0].clause, found[0].check) if found else (None, None)
    if check is None:
        return found
    columns = (repositories.c.id, *check.columns)
    statement = select(*columns).where(repositories.c.deleted_at.is_(None))
    if clause is not None:
        statement = statement.where(clause)
    chosen = [number for number, *place in connection.execute(statement) if check.passes(*place)]
    return (Filter(repositories.c.id.in_(chosen)),) if len(chosen) <= _MOST_NAMED else found


def _narrow(
    area: Area, known: Sequence[KnownRegistry], dialect: str, registry_id: ColumnElement[int], name: ColumnElement[str]
) -> ColumnElement[bool]:
    here = registry_id.in_([one.id for one in known if area.has_registry(one.name)])
    narrowed = narrow_any(name, area.repositories, dialect) if area.repositories else None
    return here if narrowed is None else and_(here, narrowed)
