"""Which registries are there: those of the inventory, and those that are configured but were never read?

They are few, so their lists are made in memory; what they show, compare and sort by is as for every other noun.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from regwarden.core.fields import REGISTRY_FIELDS
from regwarden.core.schedule import next_run, parse_schedule
from regwarden.errors import InputError, NotFound
from regwarden.store.crawl_times import load_crawl_times
from regwarden.store.queries import list_rows

if TYPE_CHECKING:
    from datetime import datetime

    from regwarden.core.access import Reach
    from regwarden.core.query import Query
    from regwarden.settings import Settings

# What the store's functions take; only the store knows the type behind it.
Connection = Any
RegistryRow = dict[str, object]

_CURSOR: Final = "registry:"
_FIGURES: Final = tuple(name for name in REGISTRY_FIELDS if name.endswith(("_count", "_bytes")))


@dataclass(frozen=True, slots=True)
class RegistryList:
    """Registries in order, the cursor of those after them, and how many no condition could decide."""

    rows: list[RegistryRow]
    next_cursor: str | None
    unknown_count: int


def list_registries(
    connection: Connection | None, query: Query, now: datetime, settings: Settings | None
) -> RegistryList:
    """The registries that a question means; ``connection`` is ``None`` where there is no inventory.

    ``settings`` is ``None`` where what is configured now does not matter.

    Raises ``NotFound`` for a name that is neither stored nor configured, ``InputError`` for a wrong cursor.
    """
    known = _known(connection, query, now, settings)
    chosen = [row for row in known if not query.registries or row["registry"] in query.registries]
    missing = sorted(set(query.registries) - {str(row["registry"]) for row in known})
    if missing:
        names = ", ".join(str(row["registry"]) for row in known) or "nothing"
        raise NotFound(f"there is no registry {missing[0][:160]}", hint=f"There are: {names}.")
    decided = [(row, _verdict(row, query, now)) for row in chosen]
    rows = [row for row, verdict in decided if verdict or (verdict is None and query.include_unknown)]
    for sort in reversed(query.sort):
        rows = _sorted(rows, sort.field.name, is_descending=sort.descending)
    rows = rows[_start(rows, query.cursor) :]
    shown = rows if query.limit is None else rows[: query.limit]
    cursor = f"{_CURSOR}{shown[-1]['registry']}" if len(shown) < len(rows) else None
    return RegistryList(shown, cursor, sum(verdict is None for _, verdict in decided))


def _known(connection: Connection | None, query: Query, now: datetime, settings: Settings | None) -> list[RegistryRow]:
    """All of them by name; of one that was never read only the settings are known."""
    everything = replace(query, registries=(), conditions=(), sort=(), limit=None, cursor=None)
    found = [] if connection is None else list_rows(connection, everything, now).rows
    rows: dict[str, RegistryRow] = {str(row["registry"]): dict.fromkeys(REGISTRY_FIELDS) | row for row in found}
    if settings is None:
        return _within(rows, query.reach)
    crawled = {} if connection is None else load_crawl_times(connection)
    for one in settings.registry:
        unread = dict.fromkeys(REGISTRY_FIELDS) | {"registry": one.name, "url": one.url, "kind": one.kind}
        schedule = parse_schedule(one.crawl_every or settings.defaults.crawl_every)
        started_at = crawled[one.name].started_at if one.name in crawled else None
        rows.setdefault(one.name, unread)["next_crawl_at"] = next_run(schedule, started_at, now, seed=one.name)
    return _within(rows, query.reach)


def _within(rows: dict[str, RegistryRow], reach: Reach) -> list[RegistryRow]:
    """Those that reach touches; of one that it does not take in whole no figure that tells of all of it."""
    return [
        row if reach.has_all_of(name) else {**row, **dict.fromkeys(_FIGURES)}
        for name, row in sorted(rows.items())
        if reach.touches(name)
    ]


def _verdict(row: RegistryRow, query: Query, now: datetime) -> bool | None:
    verdicts = [one.evaluate(row[one.field.name], now) for one in query.conditions]  # type: ignore[arg-type]
    if False in verdicts:
        return False
    return None if None in verdicts else True


def _sorted(rows: list[RegistryRow], name: str, *, is_descending: bool) -> list[RegistryRow]:
    """What is unknown comes last in both directions."""
    known: list[Any] = [row for row in rows if row[name] is not None]
    known.sort(key=lambda row: row[name], reverse=is_descending)
    return [*known, *(row for row in rows if row[name] is None)]


def _start(rows: list[RegistryRow], cursor: str | None) -> int:
    if cursor is None:
        return 0
    names = [f"{_CURSOR}{row['registry']}" for row in rows]
    if cursor not in names:
        hint = "Give --cursor what the page before named as the next one, with the same question and the same --sort."
        raise InputError("the cursor does not belong to this question", hint=hint, code="bad-cursor")
    return names.index(cursor) + 1
