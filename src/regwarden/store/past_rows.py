"""How do rows get from the inventory into a database of the past, and what was known of a time by then?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from sqlalchemy import Select, Table, select
from sqlalchemy.engine import Connection

from regwarden.store.arrays import Integers
from regwarden.store.sqlite import reading_address

_CHUNK_ROWS: Final = 5_000
_MOST_GAPS: Final = 4
_ATTACHED: Final = "inventory"


@dataclass(frozen=True, slots=True)
class Passage:
    """From where to where; ``is_attached``: the target sees the tables of the source by itself."""

    source: Connection
    target: Connection
    is_attached: bool

    @classmethod
    def between(cls, source: Connection, target: Connection) -> Passage:
        """Attach the source to the target (SQLite) if it is a file to which the source itself has nothing to add."""
        file = _file_of(source)
        if file is not None:
            target.exec_driver_sql(f"ATTACH DATABASE ? AS {_ATTACHED}", (reading_address(file),))
        return cls(source, target, file is not None)

    def end(self) -> None:
        """Let go of the source, whose log could not be shortened otherwise."""
        if self.is_attached:
            self.target.commit()
            self.target.exec_driver_sql(f"DETACH DATABASE {_ATTACHED}")

    def copy(self, table: Table, columns: Sequence[str], key: str, ids: Integers) -> None:
        """Copy columns of the rows whose ``key`` is one of ``ids``: ascending, each once."""
        if not len(ids):
            return
        if self.is_attached:
            self.target.exec_driver_sql(_transfer(table, columns, key), _runs(ids))
            return
        column = table.c[key]
        statement = select(column, *(table.c[name] for name in columns))
        wanted = frozenset(ids.tolist())
        for start in range(0, len(ids), _CHUNK_ROWS):
            chunk = ids[start : start + _CHUNK_ROWS].tolist()
            # A range is found and sent much faster than thousands of values, as long as it holds little else.
            is_dense = chunk[-1] - chunk[0] < _MOST_GAPS * len(chunk)
            condition = column.between(chunk[0], chunk[-1]) if is_dense else column.in_(chunk)
            rows = fetch(self.source, statement.where(condition))
            insert_rows(self.target, table, columns, [row[1:] for row in rows if row[0] in wanted])


def _file_of(source: Connection) -> Path | None:
    """The file that the source reads. What it has written itself, others may not see yet."""
    if source.dialect.name != "sqlite" or source.connection.driver_connection.total_changes:  # type: ignore[union-attr]
        return None
    file = next(row[2] for row in source.exec_driver_sql("PRAGMA database_list") if row[1] == "main")
    return Path(file) if file else None


def _transfer(table: Table, columns: Sequence[str], key: str) -> str:
    names = ", ".join(f'"{name}"' for name in columns)
    return (
        f'INSERT INTO main."{table.name}" ({names}) SELECT {names} '  # noqa: S608 -- names from the schema
        f'FROM {_ATTACHED}."{table.name}" WHERE "{key}" BETWEEN ? AND ?'
    )


def _runs(ids: Integers) -> list[tuple[int, int]]:
    """The first and last of each run of ids without a gap."""
    ends = np.flatnonzero(np.diff(ids) != 1)
    firsts, lasts = ids[np.append(0, ends + 1)], ids[np.append(ends, len(ids) - 1)]
    return list(zip(firsts.tolist(), lasts.tolist(), strict=True))


def insert_rows(target: Connection, table: Table, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    """Add rows: tuples of the values of ``columns``."""
    if not rows:
        return
    names = ", ".join(f'"{name}"' for name in columns)
    places = ", ".join("?" for _ in columns)
    sql = f'INSERT INTO "{table.name}" ({names}) VALUES ({places})'  # noqa: S608 -- names from the schema
    target.exec_driver_sql(sql, list(rows))


def fetch(source: Connection, statement: Select[Any]) -> list[tuple[Any, ...]]:
    """The rows of a statement as the driver gives them: several times faster than SQLAlchemy's rows."""
    cursor: Any = source.execute(statement).cursor
    return list(cursor.fetchall())


def until(value: int | None, at: int) -> int | None:
    """What was known at ``at`` of a time that only ever moves forward: later, nothing."""
    return None if value is None or value > at else value
