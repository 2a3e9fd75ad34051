"""Is a database sound, how large is it, and how does an older one become the present version?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sqlalchemy import func, inspect, select, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DatabaseError

from regwarden.store.addresses import DatabaseAddress, parse_database_address
from regwarden.store.database import Access, describe_place, explained, open_database, open_engines
from regwarden.store.migrations import EXPECTED_VERSION, current_version, no_inventory
from regwarden.store.schema import metadata

_MOST_PROBLEMS: Final = 20


@dataclass(frozen=True, slots=True)
class DatabaseReport:
    """What ``check`` found: the schema's version, what is broken, the size, and the number of rows of each table.

    ``version`` is None where there is no schema; ``problems`` is empty where the database is sound.
    """

    place: str
    version: str | None
    expected_version: str
    problems: tuple[str, ...]
    size_bytes: int
    row_counts: Mapping[str, int]

    @property
    def is_sound(self) -> bool:
        """Whether nothing is broken; the version may still be an older one."""
        return not self.problems


def check(url: str) -> DatabaseReport:
    """Read the whole database at ``url`` and report on it, also while another process writes to it.

    Raises InputError for the address, StoreError when the database cannot be opened or is no database.
    """
    address = parse_database_address(url)
    with explained(address):
        engines = open_engines(address, Access.READ, create=False)
        readers = engines.readers or engines.writer
        with engines.resources:
            if readers is None:
                raise no_inventory(describe_place(address))
            with readers.connect() as connection:
                return _build_report(connection, address)


def migrate(url: str, *, create: bool = False) -> str:
    """Bring the database at ``url`` to the present version, and return that; ``create`` one where nothing is yet.

    Raises what ``open_database`` raises for writing.
    """
    open_database(url, access=Access.WRITE, create=create).close()
    return EXPECTED_VERSION


def _build_report(connection: Connection, address: DatabaseAddress) -> DatabaseReport:
    is_sqlite = connection.dialect.name == "sqlite"
    version = current_version(connection)
    if version is None:
        raise no_inventory(describe_place(address))
    problems = _damages(connection) if is_sqlite else []
    present = set(inspect(connection).get_table_names())
    if version == EXPECTED_VERSION:
        problems += [f"table {name} is missing" for name in sorted(set(metadata.tables) - present)]
    # A damaged file ends such a count with an error, and the report would be lost.
    countable = [] if problems else [table for table in metadata.sorted_tables if table.name in present]
    counts = {table.name: connection.scalar(select(func.count()).select_from(table)) or 0 for table in countable}
    if is_sqlite and countable:
        problems += _dangling_rows(connection)
    size_bytes = _sqlite_size_bytes(connection) if is_sqlite else _postgresql_size_bytes(connection, tuple(counts))
    return DatabaseReport(
        describe_place(address), version, EXPECTED_VERSION, tuple(problems), size_bytes, dict(sorted(counts.items()))
    )


def _damages(connection: Connection) -> list[str]:
    found: list[str] = []
    try:
        for (problem,) in connection.exec_driver_sql(f"PRAGMA integrity_check({_MOST_PROBLEMS})"):
            found.append(problem)
    except DatabaseError as error:
        found.append(f"the check could not go on: {error.orig}")
    return [] if found == ["ok"] else found


def _dangling_rows(connection: Connection) -> list[str]:
    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchmany(_MOST_PROBLEMS)
    return [f"table {row[0]}, row {row[1]} points to a row of {row[2]} that is missing" for row in broken]


def _sqlite_size_bytes(connection: Connection) -> int:
    pages: int = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    page_bytes: int = connection.exec_driver_sql("PRAGMA page_size").scalar_one()
    return pages * page_bytes


def _postgresql_size_bytes(connection: Connection, tables: tuple[str, ...]) -> int:
    statement = text("SELECT pg_total_relation_size(to_regclass(:name))")
    return sum(connection.scalar(statement, {"name": f'"{name}"'}) or 0 for name in tables)
