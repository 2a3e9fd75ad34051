"""How is a SQLite file opened: by its one writer, and by readers that never change it?

The writer is the only connection that checkpoints (SQLite before 3.51.3 can corrupt a WAL that two connections
checkpoint); readers open the file read-only.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

from filelock import FileLock, Timeout
from sqlalchemy import create_engine, event
from sqlalchemy.pool import QueuePool, StaticPool

from regwarden.errors import Conflict, StoreError
from regwarden.store.addresses import MEMORY

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine

READER_COUNT: Final = 4
BUSY_TIMEOUT_SECONDS: Final = 10.0

_WRITER_SETTINGS: Final = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA cache_size = -16384",
    "PRAGMA journal_size_limit = 67108864",
)
_READER_SETTINGS: Final = (
    "PRAGMA wal_autocheckpoint = 0",
    "PRAGMA cache_size = -8192",
)


def lock_for_writing(file: Path) -> FileLock:
    """Take the lock beside ``file`` that makes this process its only writer; it ends with the process.

    Raises Conflict when another one holds it, StoreError when the lock file cannot be written.
    """
    lock = FileLock(f"{file}.lock", blocking=False, thread_local=False, mode=0o600)
    try:
        lock.acquire()
    except Timeout:
        message = f"another regwarden process is writing to {file}"
        hint = "Wait until it has ended, or stop it; reading is possible meanwhile."
        raise Conflict(message, hint=hint, code="database-busy") from None
    except OSError as error:
        raise _inaccessible(file, error) from error
    return lock


def is_file(file: Path) -> bool:
    """Whether there is something to open at ``file``; raises StoreError if it cannot be told or is a directory."""
    try:
        is_directory, is_present = file.is_dir(), file.exists()
    except OSError as error:
        raise _inaccessible(file, error) from error
    if is_directory:
        raise StoreError(f"{file} is a directory", hint="Name a file with --database.", code="database-place")
    return is_present


def ensure_directory(directory: Path) -> None:
    """Make ``directory`` and those above it, for their owner only; raises StoreError."""
    try:
        for missing in reversed([path for path in (directory, *directory.parents) if not path.is_dir()]):
            missing.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise _inaccessible(directory, error) from error


def ensure_file(file: Path) -> None:
    """Make an empty file that only its owner may read, unless there is one; raises StoreError."""
    try:
        # SQLite gives its journals the rights of the file. An existing one is not opened here: closing it would
        # drop the locks that SQLite holds in this process.
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        return
    except OSError as error:
        raise _inaccessible(file, error) from error


def open_writer(file: Path | None) -> Engine:
    """An engine with one connection, whose transactions take the write lock at once; None is a memory database."""

    def connect() -> sqlite3.Connection:
        connection = _connect(MEMORY if file is None else str(file), is_uri=False, settings=_WRITER_SETTINGS)
        if file is not None and connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
            connection.close()
            raise StoreError(
                f"the file system of {file} has no shared memory between processes, which the database needs",
                hint="Keep the database on a local disk.",
                code="database-place",
            )
        return connection

    pool = {"poolclass": StaticPool} if file is None else {"poolclass": QueuePool, "pool_size": 1, "max_overflow": 0}
    # Parameters may be secrets, and errors end up in logs.
    engine = create_engine("sqlite://", creator=connect, hide_parameters=True, **pool)
    _begin_with(engine, "BEGIN IMMEDIATE")
    return engine


def reading_address(file: Path) -> str:
    """The URI under which SQLite opens ``file`` without being able to change it."""
    parameters = "mode=ro&immutable=1" if _must_be_immutable(file) else "mode=ro"
    return f"{file.absolute().as_uri()}?{parameters}"


def open_readers(file: Path) -> Engine:
    """An engine whose connections cannot change ``file``; each transaction sees one snapshot."""
    address = reading_address(file)

    def connect() -> sqlite3.Connection:
        return _connect(address, is_uri=True, settings=_READER_SETTINGS)

    pool = {"poolclass": QueuePool, "pool_size": READER_COUNT, "max_overflow": -1}
    engine = create_engine("sqlite://", creator=connect, hide_parameters=True, **pool)
    _begin_with(engine, "BEGIN")
    return engine


def _connect(name: str, *, is_uri: bool, settings: tuple[str, ...] = ()) -> sqlite3.Connection:
    connection = sqlite3.connect(
        name, uri=is_uri, isolation_level=None, check_same_thread=False, timeout=BUSY_TIMEOUT_SECONDS
    )
    try:
        for setting in settings:
            connection.execute(setting)
    except BaseException:
        connection.close()
        raise
    return connection


def _begin_with(engine: Engine, statement: str) -> None:
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(statement)

    event.listen(engine, "begin", begin)


def _must_be_immutable(file: Path) -> bool:
    """Whether ``file`` lies where SQLite cannot make the files beside it that it needs to read a WAL database.

    Without a log nobody is writing and nothing is missing from the file, so it can be read as it is.
    """
    if any(Path(f"{file}{suffix}").exists() for suffix in ("-wal", "-shm")):
        return False
    try:
        with closing(_connect(f"{file.absolute().as_uri()}?mode=ro", is_uri=True)) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master")
    except sqlite3.OperationalError as error:
        return "readonly" in str(error) or "unable to open" in str(error)
    except sqlite3.DatabaseError:
        return False
    return False


def _inaccessible(path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"cannot use {path}: {error.strerror or error}",
        hint="Name a file in a directory you may write to with --database sqlite:///FILE.",
        code="database-place",
    )
