"""What is in the table that imagelist itself filled? Read in pieces from one snapshot; nothing is written.

Everything is read as text and understood here, so that one odd value never ends an import.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import inspect
from sqlalchemy.exc import NoSuchTableError

from regwarden.core.array_literals import parse_array_literal
from regwarden.core.imagelist_request import MAX_NAME_BYTES
from regwarden.errors import InputError, NotFound
from regwarden.store import sqlite
from regwarden.store.addresses import DatabaseAddress, parse_database_address
from regwarden.store.database import describe_place, explained
from regwarden.store.postgresql import open_engine, reading

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine

_PIECE_ROWS: Final = 1_000
_TABLE: Final = re.compile(r"(?:(?P<schema>[A-Za-z_][A-Za-z0-9_$]{0,62})\.)?(?P<table>[A-Za-z_][A-Za-z0-9_$]{0,62})")
_COLUMNS: Final = ("id", "name", "tags", "created_at", "updated_at")
_REQUIRED: Final = frozenset({"id", "name"})
# As PostgreSQL writes moments, and as Go's drivers of SQLite do: more digits, a space before the offset, a zone's name.
_MOMENT: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(?:\.(\d{1,6})\d*)?"
    r" ?(?:Z|([+-])(\d\d):?(\d\d)?)?(?: (?!BC)[A-Z]+)?(?: m=.*)?"
)


class SourceImage(NamedTuple):
    """A row that can be taken; ``problem`` says what of it could not be read. Times are aware UTC, None if unknown."""

    id: str
    name: str
    tags: tuple[str, ...] | None
    created_at: datetime | None
    updated_at: datetime | None
    problem: str = ""


class UnreadableRow(NamedTuple):
    """A row that cannot be taken, by its id as far as that can be shown."""

    id: str
    problem: str


class ImagelistSource:
    """One snapshot of the table."""

    def __init__(self, connection: Connection, statement: str, place: str) -> None:
        self._connection = connection
        self._statement = statement
        self.place = place

    def pieces(self) -> Iterator[list[SourceImage | UnreadableRow]]:
        """All rows, many at a time."""
        streamed = self._connection.execution_options(stream_results=True, yield_per=_PIECE_ROWS)
        for piece in streamed.exec_driver_sql(self._statement).partitions(_PIECE_ROWS):
            yield [read_row(row) for row in piece]


@contextmanager
def open_imagelist_source(url: str, table: str) -> Iterator[ImagelistSource]:
    """Open ``table`` (or ``schema.table``) at ``url`` to read.

    Raises ``InputError``, ``NotFound`` if it is not there, ``StoreError``.
    """
    address = parse_database_address(url)
    name = _TABLE.fullmatch(table)
    if name is None:
        raise InputError(f"{table[:80]!r} is not the name of a table", hint="Usually it is images.")
    engine = _open(address)
    try:
        with explained(address), engine.connect() as connection:
            if address.dialect == "postgresql":
                connection.exec_driver_sql("SET LOCAL datestyle TO 'ISO'")
            statement = _statement(connection, address, (name["schema"], name["table"]))
            yield ImagelistSource(connection, statement, describe_place(address))
    finally:
        engine.dispose()


def read_row(row: Any) -> SourceImage | UnreadableRow:
    """Understand a row: id, name, tags, created_at, updated_at, each text, bytes of text, or None."""
    try:
        image_id, name, tags, created, updated = (_text(value) for value in row)
    except InputError as error:
        return UnreadableRow(repr(row[0])[:80], error.message)
    for what, value in (("id", image_id), ("name", name)):
        if not value:
            return UnreadableRow((image_id or "")[:80], f"it has no {what}")
        if len(value.encode()) > MAX_NAME_BYTES:
            return UnreadableRow((image_id or "")[:80], f"its {what} has more than {MAX_NAME_BYTES} bytes")
    assert image_id is not None  # noqa: S101 -- was looked at above
    assert name is not None  # noqa: S101 -- the same
    try:
        read = None if tags is None else parse_array_literal(tags)
    except InputError as error:
        return SourceImage(image_id, name, None, _moment(created), _moment(updated), f"its tags: {error.message}")
    return SourceImage(image_id, name, read, _moment(created), _moment(updated))


def _open(address: DatabaseAddress) -> Engine:
    if address.dialect == "postgresql":
        return reading(open_engine(address))
    if address.file is None or not sqlite.is_file(address.file):
        raise NotFound(
            f"there is no database at {address.display_url}", hint="Name imagelist's with --from.", code="no-imagelist"
        )
    return sqlite.open_readers(address.file)


def _statement(connection: Connection, address: DatabaseAddress, name: tuple[str | None, str]) -> str:
    """The question for all rows; columns that a table does not have are null."""
    schema, table = name
    try:
        is_possible = schema is None or address.dialect == "postgresql"
        found = {column["name"] for column in inspect(connection).get_columns(table, schema)} if is_possible else set()
    except NoSuchTableError:
        found = set()
    shown = f"{schema}.{table}" if schema else table
    if not found >= _REQUIRED:
        raise NotFound(
            f"{describe_place(address)} has no table {shown} of imagelist",
            hint="Name imagelist's database with --from, and its table with --table.",
            code="no-imagelist",
        )
    # SQLite keeps any bytes as text, and its driver gives up on those that are none.
    form = "CAST({0} AS text)" if address.dialect == "postgresql" else "CAST(CAST({0} AS text) AS blob)"
    columns = [form.format(column) if column in found else "NULL" for column in _COLUMNS]
    quoted = ".".join(f'"{part}"' for part in name if part)
    return f"SELECT {', '.join(columns)} FROM {quoted}"  # noqa: S608 -- our own names, and a table's that was checked


def _text(value: Any) -> str | None:
    if value is None:
        return None
    try:
        text = bytes(value).decode() if isinstance(value, bytes | memoryview) else str(value)
    except UnicodeDecodeError:
        raise InputError("it is not text in UTF-8") from None
    if "\0" in text:
        raise InputError("it has a character that cannot be kept")
    return text


def _moment(text: str | None) -> datetime | None:
    """A moment in UTC; without an offset it is meant so. None if it cannot be told."""
    match = _MOMENT.fullmatch(text.strip()) if text is not None else None
    if match is None:
        return None
    day, time, fraction, sign, hours, minutes = match.groups()
    offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0)) * (-1 if sign == "-" else 1)
    try:
        return datetime.fromisoformat(f"{day}T{time}.{(fraction or '').ljust(6, '0')}").replace(tzinfo=UTC) - offset
    except (ValueError, OverflowError):
        return None
