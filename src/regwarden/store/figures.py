"""Where do computed sizes stand in the database? Which rows they belong to, which of them changed, and the writing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

import numpy as np
from sqlalchemy import Select, Table, func, select, update
from sqlalchemy.engine import Connection

from regwarden.store import schema
from regwarden.store.arrays import Flags, Integers, Lookup
from regwarden.store.bulk import bulk_upsert
from regwarden.store.columns import read_in_batches, read_integers
from regwarden.store.row_locks import lock_repositories, lock_repositories_of_tags
from regwarden.store.tag_sizes import UNKNOWN
from regwarden.store.times import to_micros

WRITE_ROWS: Final = 1_000
_DAY_MICROS: Final = 86_400 * 1_000_000


@dataclass(frozen=True, slots=True)
class FigureRows:
    """Figures of many rows of one table: which rows (key columns), and the new values by column."""

    table: Table
    keys: Mapping[str, Integers]
    values: Mapping[str, Integers]

    def __len__(self) -> int:
        return len(next(iter(self.keys.values())))

    def only(self, chosen: Flags | slice) -> FigureRows:
        """Some of the rows."""
        return FigureRows(
            self.table,
            {name: column[chosen] for name, column in self.keys.items()},
            {name: column[chosen] for name, column in self.values.items()},
        )

    def parts(self) -> Iterator[FigureRows]:
        """Pieces small enough for one short transaction."""
        for start in range(0, len(self), WRITE_ROWS):
            yield self.only(slice(start, start + WRITE_ROWS))


@dataclass(frozen=True, slots=True)
class Figures:
    """All figures of one registry, in bytes and counts, ready to be stored.

    ``registry`` maps columns of ``registries`` to values; ``repositories``, ``tags``, ``manifests`` (indexes only)
    and ``repository_manifests`` (exclusive bytes of tagged manifests) hold every row that has figures.
    """

    registry: Mapping[str, int]
    repositories: FigureRows
    tags: FigureRows
    manifests: FigureRows
    repository_manifests: FigureRows


@dataclass(frozen=True, slots=True)
class Pending:
    """What storing new figures has to write: only rows that differ from what is stored."""

    registry_id: int
    registry: Mapping[str, int]
    changed: tuple[FigureRows, ...]
    days: FigureRows

    def parts(self) -> Iterator[FigureRows]:
        """The changed rows in pieces of at most ``WRITE_ROWS``."""
        for rows in self.changed:
            yield from rows.parts()


def find_changes(connection: Connection, registry_id: int, figures: Figures) -> Pending:
    """Compare new figures with the stored ones, in the same snapshot they were computed from."""
    changed = (
        _changed(connection, figures.repositories),
        _changed(connection, figures.tags),
        _changed(connection, figures.manifests),
        _changed(connection, figures.repository_manifests),
    )
    return Pending(registry_id, figures.registry, changed, _days(figures))


def save_figures(connection: Connection, registry_id: int, figures: Figures, at: datetime) -> None:
    """Store all figures in the caller's transaction; ``at`` becomes the time they are labelled with."""
    pending = find_changes(connection, registry_id, figures)
    for rows in pending.parts():
        write_rows(connection, rows)
    for rows in pending.days.parts():
        write_days(connection, registry_id, rows, at)
    write_registry(connection, pending, at)


def write_rows(connection: Connection, rows: FigureRows) -> None:
    """Update one piece. Rows that vanished meanwhile are left out."""
    columns = (*rows.values, *rows.keys)
    arrays = [_nullable(column) for column in (*rows.values.values(), *rows.keys.values())]
    if not len(rows):
        return
    _lock(connection, rows)
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(_sqlite_update(rows.table, tuple(rows.values), tuple(rows.keys)), _tuples(arrays))
        return
    sql = _postgresql_update(rows.table, columns, tuple(rows.values), tuple(rows.keys))
    connection.exec_driver_sql(sql, tuple(arrays))


def _lock(connection: Connection, rows: FigureRows) -> None:
    """Take what whoever changes these rows has first: they are of many repositories."""
    if rows.table is schema.tags:
        lock_repositories_of_tags(connection, rows.keys["id"].tolist())
    elif rows.table is not schema.manifests:
        column = "id" if rows.table is schema.repositories else "repository_id"
        lock_repositories(connection, rows.keys[column].tolist())


def write_days(connection: Connection, registry_id: int, rows: FigureRows, at: datetime) -> None:
    """Store one piece of the daily figures, for the day of ``at``; later figures of a day replace earlier ones."""
    day = to_micros(at) // _DAY_MICROS
    names = (*rows.keys, *rows.values)
    arrays = [_nullable(column) for column in (*rows.keys.values(), *rows.values.values())]
    days = [{"registry_id": registry_id, "day": day, **dict(zip(names, one, strict=True))} for one in _tuples(arrays)]
    bulk_upsert(connection, schema.usage_days, days, update=tuple(rows.values))


def write_registry(connection: Connection, pending: Pending, at: datetime) -> None:
    """Store the registry's own figures and the time of all; the last thing to write."""
    table = schema.registries
    values = {**pending.registry, "sized_at": to_micros(at)}
    connection.execute(update(table).where(table.c.id == pending.registry_id).values(values))


def _days(figures: Figures) -> FigureRows:
    names = ("tag_count", "manifest_count", "logical_bytes", "stored_bytes", "exclusive_bytes")
    # Nothing outside a registry needs its content: all that it stores is exclusive to it.
    whole = {**figures.registry, "exclusive_bytes": figures.registry["stored_bytes"]}
    repositories = figures.repositories
    return FigureRows(
        schema.usage_days,
        {"repository_id": np.append(repositories.keys["id"], 0)},
        {name: np.append(repositories.values[name], whole[name]) for name in names},
    )


def _changed(connection: Connection, rows: FigureRows) -> FigureRows:
    stored_keys, stored = _read_stored(connection, rows)
    order = np.argsort(stored_keys, kind="stable")
    places = Lookup(stored_keys[order]).find(_joined_key(list(rows.keys.values())))
    differs = np.zeros(len(rows), dtype=np.bool_)
    known = places >= 0
    for column, values in zip(stored, rows.values.values(), strict=True):
        differs[known] |= column[order][places[known]] != values[known]
    return rows.only(differs)


def _read_stored(connection: Connection, rows: FigureRows) -> tuple[Integers, list[Integers]]:
    table = rows.table
    key_columns = [table.c[name] for name in rows.keys]
    statement: Select[Any] = select(*key_columns, *(func.coalesce(table.c[name], UNKNOWN) for name in rows.values))
    if table is schema.manifests:
        statement = statement.where(table.c.is_index == 1)
    if len(key_columns) > 1:
        parts = [read_integers(connection, statement)]
    else:
        parts = list(read_in_batches(connection, statement, key_columns[0]))
    if not parts:
        return np.zeros(0, dtype=np.int64), [np.zeros(0, dtype=np.int64) for _ in rows.values]
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return _joined_key(columns[: len(key_columns)]), columns[len(key_columns) :]


def _joined_key(keys: list[Integers]) -> Integers:
    return keys[0] if len(keys) == 1 else keys[0] << 32 | keys[1]


def _nullable(column: Integers) -> list[int | None]:
    return [None if value == UNKNOWN else value for value in column.tolist()]


def _tuples(arrays: list[list[int | None]]) -> list[tuple[int | None, ...]]:
    return list(zip(*arrays, strict=True))


@lru_cache(maxsize=16)
def _sqlite_update(table: Table, values: tuple[str, ...], keys: tuple[str, ...]) -> str:
    changes = ", ".join(f'"{name}" = ?' for name in values)
    condition = " AND ".join(f'"{name}" = ?' for name in keys)
    return f'UPDATE "{table.name}" SET {changes} WHERE {condition}'  # noqa: S608 -- names from the schema


@lru_cache(maxsize=16)
def _postgresql_update(table: Table, columns: tuple[str, ...], values: tuple[str, ...], keys: tuple[str, ...]) -> str:
    changes = ", ".join(f'"{name}" = new."{name}"' for name in values)
    condition = " AND ".join(f'"{table.name}"."{name}" = new."{name}"' for name in keys)
    arrays = ", ".join("%b::bigint[]" for _ in columns)
    names = ", ".join(f'"{name}"' for name in columns)
    return (
        f'UPDATE "{table.name}" SET {changes} '  # noqa: S608 -- names from the schema
        f"FROM unnest({arrays}) AS new ({names}) WHERE {condition}"
    )
