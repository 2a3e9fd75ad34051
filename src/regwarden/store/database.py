"""How does the rest of the program read and write? ``read`` in reader threads, ``write`` in the one writer thread.

A read sees one consistent snapshot. A write returns after its COMMIT. Both take a function of a SQLAlchemy connection;
the store itself is synchronous.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Literal, Self, TypeVar

from regwarden.errors import Conflict, StoreError
from regwarden.store import migrations, postgresql, sqlite
from regwarden.store.addresses import DatabaseAddress, parse_database_address
from regwarden.store.faults import explain
from regwarden.store.repeating import MOST_ATTEMPTS, repeat
from regwarden.store.writer import Writer

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine

T = TypeVar("T")

_READER_THREAD_COUNT: Final = sqlite.READER_COUNT


class Access(StrEnum):
    """What a command wants to do with the database."""

    READ = "read"
    WRITE = "write"


@dataclass(frozen=True, slots=True)
class Engines:
    """The connections of an open database; ``readers`` is None in memory, where the writer reads too."""

    readers: Engine | None
    writer: Engine | None
    resources: ExitStack


class Database:
    """An open database; made by ``open_database``."""

    def __init__(self, url: str, address: DatabaseAddress, access: Access, engines: Engines) -> None:
        self.url = url
        self.display_url = address.display_url
        self.dialect: Literal["sqlite", "postgresql"] = address.dialect
        self.access = access
        self._address = address
        self._engines = engines
        self._reader_threads = ThreadPoolExecutor(_READER_THREAD_COUNT, thread_name_prefix="regwarden-reader")
        self._writer = None if engines.writer is None else Writer(engines.writer, self._explain)
        self._names: set[str] = set()
        self._names_guard = threading.Lock()

    def __repr__(self) -> str:
        return f"Database({self.display_url!r}, access={self.access.value!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def is_in_memory(self) -> bool:
        """Whether everything is lost when it is closed."""
        return self._engines.readers is None

    async def read(self, work: Callable[[Connection], T], *, is_repeatable: bool = True) -> T:
        """The result of ``work`` on one snapshot, in a reader thread; trying to write there fails.

        ``work`` is run again on a new snapshot where PostgreSQL gives the first one up (for a migration, or on a
        standby), unless it is not ``is_repeatable``: because what it has done lives on outside of it.
        Raises StoreError when the database fails, and whatever ``work`` raises.
        """
        return await asyncio.wrap_future(self._submit_read(work, MOST_ATTEMPTS if is_repeatable else 1))

    async def write(self, work: Callable[[Connection], T], *, urgent: bool = False) -> T:
        """The result of ``work`` in the writer thread, after its COMMIT; if it raises, nothing of it is kept.

        ``urgent`` work waits for one unit of other work at most.
        ``work`` must not commit or roll back, and may be run again on a clean state after a lost transaction.
        A cancelled caller's work is either not begun at all or committed whole.
        Raises StoreError when the database fails or was opened to read, and whatever ``work`` raises.
        """
        return await asyncio.wrap_future(self._require_writer().submit(work, urgent=urgent))

    def read_now(self, work: Callable[[Connection], T]) -> T:
        """As ``read``, for synchronous callers: in the calling thread, except in memory."""
        if self._engines.readers is None:
            return self._submit_read(work).result()
        return self._read(self._engines.readers, work, MOST_ATTEMPTS)

    def write_now(self, work: Callable[[Connection], T]) -> T:
        """As ``write``, for synchronous callers of any thread but the writer's."""
        return self._require_writer().submit(work).result()

    @contextmanager
    def exclusive(self, name: str) -> Iterator[None]:
        """Keep ``name`` (of a registry being crawled, for example) to ourselves while the block runs.

        Raises Conflict if this process or another one has it already.
        """
        self._require_writer()
        with self._names_guard:
            if name in self._names:
                message = f"this process is already at work on {name}"
                raise Conflict(message, hint="Wait until that has ended.", code="database-busy")
            self._names.add(name)
        try:
            with ExitStack() as held:
                # Beside a SQLite file the lock of the whole file excludes the other processes.
                if self.dialect == "postgresql" and self._engines.writer is not None:
                    with explained(self._address):
                        held.enter_context(postgresql.advisory_lock(self._engines.writer, name))
                yield
        finally:
            with self._names_guard:
                self._names.discard(name)

    def close(self) -> None:
        """Finish what is queued, close every connection and give the lock back. More calls do nothing."""
        if self._writer is not None:
            self._writer.close()
        self._reader_threads.shutdown(wait=True)
        self._engines.resources.close()

    def _submit_read(self, work: Callable[[Connection], T], attempt_count: int = MOST_ATTEMPTS) -> Future[T]:
        readers = self._engines.readers
        if readers is None:
            return self._require_writer().submit(lambda connection: _without_writing(connection, work))
        try:
            return self._reader_threads.submit(self._read, readers, work, attempt_count)
        except RuntimeError:
            message = "the database has been closed"
            raise StoreError(message, code="database-closed") from None

    def _read(self, readers: Engine, work: Callable[[Connection], T], attempt_count: int) -> T:
        def attempt() -> T:
            with readers.connect() as connection:
                return work(connection)

        with explained(self._address):
            return repeat(attempt, attempt_count)

    def _require_writer(self) -> Writer:
        if self._writer is None:
            message = f"the database {self.display_url} was opened to read"
            raise StoreError(message, code="database-read-only")
        return self._writer

    def _explain(self, error: BaseException) -> BaseException:
        return explain(error, self._address)


def open_database(url: str, *, access: Access, create: bool = False) -> Database:
    """Open the inventory at ``url`` (see ``parse_database_address``).

    WRITE makes this process the only writer of a SQLite file and brings the schema to the present version; with
    ``create`` also where nothing is yet. READ changes nothing. A memory database is always created.
    Raises InputError for an address that cannot be understood; Conflict when another process writes to the file;
    StoreError with code ``no-inventory``, ``database-older``, ``database-newer``, ``not-a-database`` and others.
    """
    address = parse_database_address(url)
    engines = open_engines(address, access, create=create)
    if access is Access.READ and engines.readers is not None:
        try:
            with explained(address), engines.readers.connect() as connection:
                migrations.check(migrations.current_version(connection), place=describe_place(address))
        except BaseException:
            engines.resources.close()
            raise
    return Database(url, address, access, engines)


def open_engines(address: DatabaseAddress, access: Access, *, create: bool) -> Engines:
    """Open the connections; for READ the version of the schema is not looked at."""
    with ExitStack() as resources, explained(address):
        if address.dialect == "postgresql":
            engines = _open_postgresql(address, access, resources, create=create)
        elif address.file is None:
            engines = _open_memory(resources)
        else:
            engines = _open_file(address, access, resources, create=create)
        kept = resources.pop_all()
        return Engines(engines.readers, engines.writer, kept)


def _open_memory(resources: ExitStack) -> Engines:
    writer = _owned(sqlite.open_writer(None), resources)
    migrations.upgrade(writer, place="memory")
    return Engines(None, writer, resources)


def _open_file(address: DatabaseAddress, access: Access, resources: ExitStack, *, create: bool) -> Engines:
    file = address.file
    assert file is not None  # noqa: S101 -- the caller has looked
    if not sqlite.is_file(file) and (access is Access.READ or not create):
        raise migrations.no_inventory(str(file))
    if access is Access.READ:
        return Engines(_owned(sqlite.open_readers(file), resources), None, resources)
    sqlite.ensure_directory(file.parent)
    lock = sqlite.lock_for_writing(file)
    resources.callback(lock.release)
    sqlite.ensure_file(file)
    writer = _owned(sqlite.open_writer(file), resources)
    _prepare(writer, address, create=create)
    return Engines(_owned(sqlite.open_readers(file), resources), writer, resources)


def _open_postgresql(address: DatabaseAddress, access: Access, resources: ExitStack, *, create: bool) -> Engines:
    engine = _owned(postgresql.open_engine(address), resources)
    if access is Access.READ:
        return Engines(postgresql.reading(engine), None, resources)
    _prepare(engine, address, create=create)
    return Engines(postgresql.reading(engine), engine, resources)


def _prepare(writer: Engine, address: DatabaseAddress, *, create: bool) -> None:
    if not create:
        with writer.connect() as connection, connection.begin():
            if migrations.current_version(connection) is None:
                raise migrations.no_inventory(describe_place(address))
    migrations.upgrade(writer, place=describe_place(address))


def _owned(engine: Engine, resources: ExitStack) -> Engine:
    resources.callback(engine.dispose)
    return engine


def describe_place(address: DatabaseAddress) -> str:
    """The file or the server of ``address``, in a form for messages."""
    return str(address.file) if address.file is not None else address.display_url


def _without_writing(connection: Connection, work: Callable[[Connection], T]) -> T:
    connection.exec_driver_sql("PRAGMA query_only = ON")
    try:
        return work(connection)
    finally:
        connection.exec_driver_sql("PRAGMA query_only = OFF")


@contextmanager
def explained(address: DatabaseAddress) -> Iterator[None]:
    """Raise what the block raises, and a StoreError where the database itself failed."""
    try:
        yield
    except Exception as error:
        meaning = explain(error, address)
        if meaning is error:
            raise
        raise meaning from error
