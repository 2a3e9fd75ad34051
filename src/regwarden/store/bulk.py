"""How are thousands of rows written, and thousands of keys looked up, in few statements?

SQLite takes ``executemany``, PostgreSQL one ``INSERT … SELECT FROM unnest`` with binary arrays; statement texts are
built once per table, columns and dialect. Rows are written in the order of their keys: two processes that write the
same ones wait for each other, and not both at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from typing import Any, Final, TypeVar

from sqlalchemy import BigInteger, Column, Integer, LargeBinary, SmallInteger, Table, Text, literal_column
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.sql.elements import ColumnElement

KeyT = TypeVar("KeyT", int, str, bytes)
Row = Mapping[str, object]

_POSTGRESQL_CHUNK: Final = 10_000
_SQLITE_KEYS_CHUNK: Final = 500
_ARRAY_TYPES: Final = (
    (SmallInteger, "smallint[]"),
    (BigInteger, "bigint[]"),
    (Integer, "integer[]"),
    (LargeBinary, "bytea[]"),
    (Text, "text[]"),
)


@dataclass(frozen=True, slots=True)
class Join:
    """How two rows with one key become one: of which columns the greatest or least value is kept, which are added."""

    greatest: tuple[str, ...] = ()
    least: tuple[str, ...] = ()
    added: tuple[str, ...] = ()


def excluded(column: Column[Any]) -> ColumnElement[Any]:
    """The value that the row not inserted had for ``column``: for ``where``."""
    return literal_column(f"excluded.{column.name}", column.type)


def bulk_upsert(
    connection: Connection,
    table: Table,
    rows: Sequence[Row],
    *,
    update: Sequence[str] = (),
    conflict: Sequence[str] | None = None,
    where: ColumnElement[bool] | None = None,
) -> None:
    """Insert ``rows`` into ``table``; where a row with the same ``conflict`` columns exists, change or keep it.

    All rows have the same keys: column names. ``update`` names the columns that take the new values; without it the
    existing row is kept. ``where`` restricts which existing rows are changed (``excluded(column)`` is the new value,
    ``table.c`` has the old one). ``conflict`` is the primary key unless given. Of several rows with the same conflict
    columns the last one counts if ``update`` is given, the first one if not.
    Raises ValueError for rows with unlike keys.
    """
    if not rows:
        return
    keys = tuple(conflict) if conflict is not None else tuple(column.name for column in table.primary_key)
    if update:
        rows = _last_of_each(rows, keys)
    _write(connection, table, _ordered(rows, keys), keys, _action_sql(connection.dialect, update, where))


def bulk_join(
    connection: Connection,
    table: Table,
    rows: Sequence[Row],
    join: Join,
    *,
    conflict: Sequence[str] | None = None,
) -> None:
    """Insert ``rows``; where a row with the same ``conflict`` columns exists, join both, whatever their order.

    Where the greatest or least value is kept, that is one that is not NULL, if there is one. Columns that ``join`` does
    not name keep what they have. No two of ``rows`` have the same key.
    """
    if not rows:
        return
    keys = tuple(conflict) if conflict is not None else tuple(column.name for column in table.primary_key)
    _write(connection, table, _ordered(rows, keys), keys, _join_sql(table, connection.dialect.name, join))


def bulk_insert(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Insert ``rows``, which all have the same keys, column names; the table gives the others their defaults."""
    if rows:
        _write(connection, table, rows, (), "")


def _join_sql(table: Table, dialect: str, join: Join) -> str:
    is_sqlite = dialect == "sqlite"
    changes = [f'"{name}" = "{table.name}"."{name}" + excluded."{name}"' for name in join.added]
    for names, sqlite_function, function in ((join.greatest, "max", "greatest"), (join.least, "min", "least")):
        for name in names:
            old, new = f'"{table.name}"."{name}"', f'excluded."{name}"'
            # Of two arguments SQLite's functions take NULL, PostgreSQL's the other one.
            both = f"{sqlite_function}(coalesce({old}, {new}), coalesce({new}, {old}))"
            changes.append(f'"{name}" = {both if is_sqlite else f"{function}({old}, {new})"}')
    return f"DO UPDATE SET {', '.join(changes)}" if changes else "DO NOTHING"


def _write(connection: Connection, table: Table, rows: Sequence[Row], keys: tuple[str, ...], action: str) -> None:
    columns = tuple(rows[0])
    sql = _upsert_sql(table, columns, keys, action, connection.dialect.name)
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(sql, _as_tuples(rows, columns))
        return
    for start in range(0, len(rows), _POSTGRESQL_CHUNK):
        connection.exec_driver_sql(sql, _as_arrays(rows[start : start + _POSTGRESQL_CHUNK], table, columns))


def bulk_update(connection: Connection, table: Table, rows: Sequence[Row], *, key: str = "id") -> None:
    """Change existing rows: each of ``rows`` has the column ``key``, by which one is found, and the new values.

    All rows have the same keys, column names. Raises ValueError for rows with unlike keys.
    """
    if not rows:
        return
    columns = (*(name for name in rows[0] if name != key), key)
    sql = _update_sql(table, columns, connection.dialect.name)
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(sql, _as_tuples(rows, columns))
        return
    for start in range(0, len(rows), _POSTGRESQL_CHUNK):
        connection.exec_driver_sql(sql, _as_arrays(rows[start : start + _POSTGRESQL_CHUNK], table, columns))


def bulk_ids(
    connection: Connection, table: Table, key_column: str, keys: Iterable[KeyT], *, id_column: str = "id"
) -> dict[KeyT, int]:
    """The ids of the rows of ``table`` whose ``key_column`` is one of ``keys``; absent keys are left out."""
    return dict(bulk_find(connection, table, key_column, keys, (key_column, id_column)))


def bulk_find(
    connection: Connection, table: Table, key_column: str, keys: Iterable[KeyT], columns: tuple[str, ...]
) -> list[Any]:
    """The rows of ``table`` whose ``key_column`` is one of ``keys``: plain tuples of ``columns``."""
    wanted = list(dict.fromkeys(keys))
    found: list[Any] = []
    is_sqlite = connection.dialect.name == "sqlite"
    size = _SQLITE_KEYS_CHUNK if is_sqlite else _POSTGRESQL_CHUNK
    for start in range(0, len(wanted), size):
        chunk = wanted[start : start + size]
        sql = _find_sql(table, key_column, columns, len(chunk) if is_sqlite else 0)
        cursor: Any = connection.exec_driver_sql(sql, tuple(chunk) if is_sqlite else (chunk,)).cursor
        found += cursor.fetchall()
    return found


def _last_of_each(rows: Sequence[Row], keys: tuple[str, ...]) -> Sequence[Row]:
    distinct = {tuple(row[key] for key in keys): row for row in rows}
    return rows if len(distinct) == len(rows) else list(distinct.values())


def _ordered(rows: Sequence[Row], keys: tuple[str, ...]) -> Sequence[Row]:
    """By their keys, except where those are numbers that the database gives."""
    return sorted(rows, key=itemgetter(*keys)) if all(key in rows[0] for key in keys) else rows


def _as_tuples(rows: Sequence[Row], columns: tuple[str, ...]) -> list[tuple[object, ...]]:
    if set(map(len, rows)) != {len(columns)}:
        message = "rows written together must have the same columns"
        raise ValueError(message)
    try:
        # Several times faster than asking for one column after the other, but of a single one it makes no tuple.
        return list(map(itemgetter(*columns), rows)) if len(columns) > 1 else [(row[columns[0]],) for row in rows]
    except KeyError as error:
        message = f"rows written together must have the same columns: {error} is missing"
        raise ValueError(message) from error


def _as_arrays(rows: Sequence[Row], table: Table, columns: tuple[str, ...]) -> tuple[list[object], ...]:
    arrays = [list(array) for array in zip(*_as_tuples(rows, columns), strict=True)]
    for place, column in enumerate(columns):
        if isinstance(table.c[column].type, SmallInteger):
            # PostgreSQL has no cast from boolean to smallint.
            arrays[place] = [int(flag) if isinstance(flag, bool) else flag for flag in arrays[place]]
    return tuple(arrays)


def _action_sql(dialect: Dialect, update: Sequence[str], where: ColumnElement[bool] | None) -> str:
    if not update:
        return "DO NOTHING"
    quote = dialect.identifier_preparer.quote
    changes = ", ".join(f"{quote(name)} = excluded.{quote(name)}" for name in update)
    if where is None:
        return f"DO UPDATE SET {changes}"
    condition = where.compile(dialect=dialect, compile_kwargs={"literal_binds": True, "include_table": True})
    return f"DO UPDATE SET {changes} WHERE {condition}"


@lru_cache(maxsize=256)
def _upsert_sql(table: Table, columns: tuple[str, ...], keys: tuple[str, ...], action: str, dialect: str) -> str:
    names = ", ".join(f'"{column}"' for column in columns)
    if dialect == "sqlite":
        source = f"VALUES ({', '.join('?' * len(columns))})"
    else:
        arrays = ", ".join(f"%b::{_array_type(table.c[column])}" for column in columns)
        source = f"SELECT * FROM unnest({arrays})"  # noqa: S608 -- only types, never values
    target = ", ".join(f'"{key}"' for key in keys)
    conflict = f" ON CONFLICT ({target}) {action}" if action else ""
    return f'INSERT INTO "{table.name}" ({names}) {source}{conflict}'


@lru_cache(maxsize=64)
def _update_sql(table: Table, columns: tuple[str, ...], dialect: str) -> str:
    """The last of ``columns`` is the key."""
    *changed, key = columns
    if dialect == "sqlite":
        changes = ", ".join(f'"{column}" = ?' for column in changed)
        return f'UPDATE "{table.name}" SET {changes} WHERE "{key}" = ?'  # noqa: S608 -- names from the schema
    changes = ", ".join(f'"{column}" = new."{column}"' for column in changed)
    arrays = ", ".join(f"%b::{_array_type(table.c[column])}" for column in columns)
    names = ", ".join(f'"{column}"' for column in columns)
    source = f"unnest({arrays}) AS new ({names})"
    return f'UPDATE "{table.name}" SET {changes} FROM {source} WHERE "{table.name}"."{key}" = new."{key}"'  # noqa: S608 -- names from the schema


@lru_cache(maxsize=1024)
def _find_sql(table: Table, key_column: str, columns: tuple[str, ...], count: int) -> str:
    """``count`` is the number of SQLite's placeholders; 0 asks PostgreSQL for one array."""
    condition = f"IN ({', '.join('?' * count)})" if count else f"= ANY(%b::{_array_type(table.c[key_column])})"
    names = ", ".join(f'"{table.c[name].name}"' for name in columns)
    return f'SELECT {names} FROM "{table.name}" WHERE "{key_column}" {condition}'  # noqa: S608 -- names from the schema


def _array_type(column: Column[Any]) -> str:
    for kind, name in _ARRAY_TYPES:
        if isinstance(column.type, kind):
            return name
    message = f"column {column} has a type that cannot be written in bulk"
    raise TypeError(message)
