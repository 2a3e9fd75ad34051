"""How do millions of rows get into arrays quickly? The database joins each column into one value, here it is read.

A Python object per row would cost several times more, and hold the interpreter's lock while a server has others to
answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from sqlalchemy import BigInteger, ColumnElement, Select, cast, func, literal_column, select
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.engine import Connection

from regwarden.store.arrays import Integers

# 4,096 of the largest manifests stay below the largest value that SQLite and PostgreSQL give.
PACKED_BATCH_ROWS: Final = 4_096
BATCH_ROWS: Final = 131_072
_NO_BYTES: Final[ColumnElement[bytes]] = literal_column("''::bytea")


def read_integers(connection: Connection, statement: Select[Any]) -> tuple[Integers, ...]:
    """The columns of a statement (integers, none NULL), one array each; rows in any order, the same for all."""
    columns = list(statement.selected_columns)
    row = connection.execute(statement.with_only_columns(*(_joined(connection, one) for one in columns))).one()
    return tuple(_parse(value) for value in row)


def read_in_batches(
    connection: Connection, statement: Select[Any], key: ColumnElement[int]
) -> Iterator[tuple[Integers, ...]]:
    """The same in ascending ranges of ``key``, so that a large table never stands in memory as text."""
    for part in _parts(connection, statement, key, BATCH_ROWS):
        yield read_integers(connection, part)


def read_with_bytes(
    connection: Connection, statement: Select[Any], key: ColumnElement[int], packed: ColumnElement[bytes]
) -> Iterator[tuple[tuple[Integers, ...], bytes]]:
    """The same, each batch with its values of ``packed`` joined in the order of the rows."""
    joined_bytes = _joined_bytes(connection, packed)
    columns = [_joined(connection, one) for one in statement.selected_columns]
    for part in _parts(connection, statement, key, PACKED_BATCH_ROWS):
        *row, joined = connection.execute(part.with_only_columns(*columns, joined_bytes)).one()
        yield tuple(_parse(value) for value in row), _bytes(joined)


def read_ordered(connection: Connection, column: ColumnElement[int], *order: ColumnElement[Any]) -> Integers:
    """One column in the order of others."""
    if connection.dialect.name == "postgresql":
        ordered = aggregate_order_by(_NO_BYTES, *order)
        joined = connection.execute(select(func.string_agg(func.int8send(cast(column, BigInteger)), ordered))).scalar()
        return _parse(joined)
    rows: Any = connection.execute(select(column).order_by(*order)).cursor
    return np.fromiter((value for (value,) in rows), dtype=np.int64)


def _parts(connection: Connection, statement: Select[Any], key: ColumnElement[int], step: int) -> Iterator[Select[Any]]:
    lowest, highest = connection.execute(statement.with_only_columns(func.min(key), func.max(key))).one()
    if lowest is not None:
        for low in range(lowest, highest + 1, step):
            yield statement.where(key.between(low, low + step - 1))


def _joined(connection: Connection, column: ColumnElement[Any]) -> ColumnElement[Any]:
    if connection.dialect.name == "postgresql":
        return func.string_agg(func.int8send(cast(column, BigInteger)), _NO_BYTES)
    return func.group_concat(column)


def _joined_bytes(connection: Connection, column: ColumnElement[bytes]) -> ColumnElement[Any]:
    if connection.dialect.name == "postgresql":
        return func.string_agg(column, _NO_BYTES)
    return func.group_concat(func.hex(column), "")


def _parse(value: str | bytes | memoryview | None) -> Integers:
    if value is None:
        return np.zeros(0, dtype=np.int64)
    if isinstance(value, str):
        return np.fromstring(value, dtype=np.int64, sep=",")
    return np.frombuffer(value, dtype=">i8").astype(np.int64)


def _bytes(value: str | bytes | None) -> bytes:
    if value is None:
        return b""
    return bytes.fromhex(value) if isinstance(value, str) else bytes(value)
