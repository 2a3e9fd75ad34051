"""What does an exception of the database mean for the user? Turns it into one StoreError or InputError with a hint."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Final, NamedTuple

from sqlalchemy.exc import DatabaseError, DataError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from regwarden.errors import InputError, RegwardenError, StoreError
from regwarden.store.repeating import is_transient

if TYPE_CHECKING:
    from regwarden.store.addresses import DatabaseAddress

_LONGEST_REASON: Final = 300


class _Fault(NamedTuple):
    words: str
    what: str
    code: str
    hint: str


# The words of SQLite's result codes (https://www.sqlite.org/rescode.html), in lower case.
_SQLITE_FAULTS: Final = (
    _Fault(
        "file is not a database",
        "is not a SQLite database",
        code="not-a-database",
        hint="Name another file with --database.",
    ),
    _Fault(
        "malformed",
        "is damaged",
        code="database-damaged",
        hint="Run: regwarden db check; then restore a copy, or remove the file and crawl again.",
    ),
    _Fault("disk i/o error", "failed: disk I/O error", code="database-damaged", hint="Check the disk."),
    _Fault(
        "is full",
        "cannot grow: the disk is full",
        code="disk-full",
        hint="Free some space; what was written before is safe.",
    ),
    _Fault(
        "locked",
        "is locked by another program",
        code="database-busy",
        hint="End the program that uses it, then try again.",
    ),
    _Fault(
        "unable to open",
        "cannot be opened",
        code="database-place",
        hint="Check that you may read the file and write to its directory: a reader shares the -shm file there.",
    ),
    _Fault(
        "readonly database",
        "cannot be written",
        code="database-place",
        hint="Check the rights of the file and its directory.",
    ),
)
_POSTGRESQL_HINTS: Final = (
    ("password", "Check user and password; PGPASSWORD or ~/.pgpass keep the password out of the command line."),
    ("does not exist", "Create the database and the role first: createuser, createdb."),
    ("permission denied", "Grant the role CREATE and USAGE on the schema."),
    ("refused", "Check host and port, and that the server runs."),
    ("timeout", "Check host and port, and that the server runs."),
    ("resolve", "Check the name of the host."),
)


def explain(error: BaseException, address: DatabaseAddress) -> BaseException:
    """The StoreError for what the database could not do; any other exception unchanged.

    What it cannot keep or look for is an InputError: PostgreSQL has no texts with a NUL, and no larger numbers.
    """
    if isinstance(error, PoolTimeout):
        message = f"no connection to {address.display_url} became free"
        return _caused(StoreError(message, hint="Try again later.", code="database-busy"), error)
    original = error.orig if isinstance(error, DBAPIError) else error
    if address.dialect == "sqlite":
        # IntegrityError and ProgrammingError are bugs of ours, not states of the database.
        if type(original) in (sqlite3.OperationalError, sqlite3.DatabaseError):
            return _caused(_explain_sqlite(str(original), address), error)
    elif isinstance(error, DataError):
        message = "a text or a number cannot be kept or looked for in the database"
        return _caused(InputError(message, hint="Leave out characters that are not printable.", code="bad-text"), error)
    elif is_transient(error):
        message = f"other processes changed the same rows of {address.display_url} again and again"
        hint = "Nothing of this was kept; run the command again."
        return _caused(StoreError(message, hint=hint, code="database-conflict"), error)
    elif isinstance(error, OperationalError | InterfaceError) or _is_refusal(error):
        return _caused(_explain_postgresql(str(original), address), error)
    return error


def _is_refusal(error: BaseException) -> bool:
    # https://www.postgresql.org/docs/current/errcodes-appendix.html: insufficient_privilege
    return isinstance(error, DatabaseError) and getattr(error.orig, "sqlstate", None) == "42501"


def _explain_sqlite(reason: str, address: DatabaseAddress) -> StoreError:
    name = address.file or "the database in memory"
    for fault in _SQLITE_FAULTS:
        if fault.words in reason.lower():
            return StoreError(f"{name} {fault.what}", hint=fault.hint, code=fault.code)
    return StoreError(f"the database {name} failed: {_shortened(reason)}", hint="Run: regwarden db check")


def _explain_postgresql(reason: str, address: DatabaseAddress) -> StoreError:
    password = address.parameters.get("password", "")
    if password:
        reason = reason.replace(password, "***")
    hint = next((hint for words, hint in _POSTGRESQL_HINTS if words in reason.lower()), "Look into the server's log.")
    return StoreError(
        f"PostgreSQL at {address.display_url} says: {_shortened(reason)}",
        hint=hint,
        code="database-denied" if "permission denied" in reason.lower() else "database-unreachable",
    )


def _shortened(reason: str) -> str:
    line = " ".join(reason.split())
    return line if len(line) <= _LONGEST_REASON else f"{line[:_LONGEST_REASON]}…"


def _caused(explained: RegwardenError, error: BaseException) -> RegwardenError:
    explained.__cause__ = error
    return explained
