"""How do rows get from the inventory into a database of the past, and what was known of a time by then?"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Select, Table, select
from sqlalchemy.engine import Connection
from sqlalchemy.sql.elements import ColumnElement

from regwarden.store.chunks import chunked

_STREAM_ROWS: Final = 5_000
_MOST_GAPS: Final = 4


def insert_rows(target: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add rows that all have the same columns."""
    if not rows:
        return
    names = list(rows[0])
    target.exec_driver_sql(_insertion(table, names), [tuple(row[name] for name in names) for row in rows])


def _insertion(table: Table, names: Sequence[str]) -> str:
    columns = ", ".join(f'"{name}"' for name in names)
    places = ", ".join("?" for _ in names)
    return f'INSERT INTO "{table.name}" ({columns}) VALUES ({places})'  # noqa: S608 -- names from the schema


def stream(source: Connection, statement: Select[Any]) -> Iterator[Any]:
    """The rows of a statement without holding them all."""
    yield from source.execute(statement.execution_options(yield_per=_STREAM_ROWS))


def copy_rows(
    source: Connection,
    target: Connection,
    table: Table,
    columns: Sequence[str],
    chosen: tuple[ColumnElement[int], Collection[int]],
) -> None:
    """Copy columns of the rows in which the chosen column has one of these values."""
    key, values = chosen
    wanted = frozenset(values)
    statement = select(key, *(table.c[name] for name in columns))
    sql = _insertion(table, columns)
    for chunk in chunked(sorted(wanted), _STREAM_ROWS):
        # A range is found and sent much faster than thousands of values, as long as it holds little else.
        is_dense = chunk[-1] - chunk[0] < _MOST_GAPS * len(chunk)
        condition = key.between(chunk[0], chunk[-1]) if is_dense else key.in_(chunk)
        rows = [tuple(row)[1:] for row in source.execute(statement.where(condition)) if row[0] in wanted]
        if rows:
            target.exec_driver_sql(sql, rows)


def until(value: int | None, at: int) -> int | None:
    """What was known at ``at`` of a time that only ever moves forward: later, nothing."""
    return None if value is None or value > at else value
