"""Are regstat's views there, and how do they come and go? On PostgreSQL only; regstat's own tables stay untouched."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from sqlalchemy import func, select, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from regwarden.errors import Conflict, InputError
from regwarden.store import regstat_views
from regwarden.store.database import Database
from regwarden.store.regstat_views import COMPANION, SCHEMA, TABLES, VIEWS_VERSION
from regwarden.store.schema import manifests

_FILLED_MANIFESTS: Final = 1_000
_COMMENT: Final = re.compile(r"views of regwarden, version (\d+)")
# https://www.postgresql.org/docs/current/errcodes-appendix.html: dependent_objects_still_exist
_IN_USE: Final = "2BP01"


class RegstatState(StrEnum):
    """Who the schema ``regstat`` belongs to."""

    DISABLED = "disabled"
    UNFINISHED = "unfinished"
    ENABLED = "enabled"
    OUTDATED = "outdated"
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True)
class RegstatStatus:
    """The state of the views; ``version`` is that of their definition, ``None`` where there are none of ours."""

    state: RegstatState
    version: int | None
    expected_version: int = VIEWS_VERSION


def regstat_status(database: Database) -> RegstatStatus:
    """Whether the views are there and of this release. Raises ``InputError`` for a database that is not PostgreSQL."""
    require_postgresql(database.dialect)
    return database.read_now(_load_status)


def enable_regstat(
    database: Database,
    *,
    now: datetime,
    rename_old: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> str | None:
    """Create the views, or bring them to this release. Returns what regstat's own schema is called from now on, if any.

    That is renamed only with ``rename_old``; without, ``Conflict`` is raised. ``on_progress`` is given how many
    manifests of how many have been looked through. Interrupted, the next call goes on.
    """
    require_postgresql(database.dialect)
    with database.exclusive(SCHEMA):
        if database.read_now(_load_status).state is RegstatState.FOREIGN and not rename_old:
            raise Conflict(
                "the schema regstat has tables or views that are not Regwarden's; they were left alone",
                hint="Run `regwarden db import regstat`, then `regwarden db regstat enable --rename-old`.",
                code="regstat-exists",
            )
        database.write_now(_prepare_links)
        _fill_links(database, on_progress)
        return database.write_now(lambda connection: _publish_views(connection, now))


def disable_regstat(database: Database) -> bool:
    """Remove the views and what is kept for them; ``False`` if there were none of ours.

    Raises ``Conflict`` if something of the user's, such as a view of his own, is built upon them.
    """
    require_postgresql(database.dialect)
    with database.exclusive(SCHEMA):
        return database.write_now(_remove)


def require_postgresql(dialect: str) -> None:
    """Raise ``InputError`` unless the database is PostgreSQL."""
    if dialect != "postgresql":
        raise InputError(
            "the schema regstat exists on PostgreSQL only",
            hint="Name a PostgreSQL database with --database.",
            code="needs-postgresql",
        )


def is_ours(connection: Connection) -> bool:
    """Whether the schema ``regstat`` holds our views rather than regstat's tables."""
    return _load_status(connection).state in (RegstatState.ENABLED, RegstatState.OUTDATED)


def _load_status(connection: Connection) -> RegstatStatus:
    version = _our_version(connection)
    relations = _relations(connection, SCHEMA)
    if version is not None:
        views = {name for name, kind in relations.items() if kind == "v"}
        is_whole = version == VIEWS_VERSION and views >= set(TABLES)
        return RegstatStatus(RegstatState.ENABLED if is_whole else RegstatState.OUTDATED, version)
    if relations:
        return RegstatStatus(RegstatState.FOREIGN, None)
    begun = "manifest_blobs" in _relations(connection, COMPANION)
    return RegstatStatus(RegstatState.UNFINISHED if begun else RegstatState.DISABLED, None)


def _our_version(connection: Connection) -> int | None:
    """The number in the schema's comment, which a rename would take along."""
    comment = connection.scalar(
        text("SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = :name"), {"name": SCHEMA}
    )
    found = _COMMENT.fullmatch(comment or "")
    return int(found[1]) if found else None


def _relations(connection: Connection, schema: str) -> dict[str, str]:
    """Tables, partitioned tables and views of a schema: name → kind."""
    rows = connection.execute(
        text(
            "SELECT relname, relkind::text FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace "
            "WHERE nspname = :name AND relkind IN ('r', 'p', 'v', 'm', 'f')"
        ),
        {"name": schema},
    )
    return {name: kind for name, kind in rows}  # noqa: C416 -- rows are not pairs to a type checker


def _prepare_links(connection: Connection) -> None:
    """Begin to keep the rows: once this is committed no change of a manifest's list goes by unseen."""
    for statement in regstat_views.CREATE_LINKS:
        connection.exec_driver_sql(statement)
    known = set(connection.execute(text("SELECT tgname FROM pg_trigger WHERE NOT tgisinternal")).scalars())
    for name, statement in zip(regstat_views.TRIGGERS, regstat_views.CREATE_TRIGGERS, strict=True):
        if name not in known:
            connection.exec_driver_sql(statement)


def _fill_links(database: Database, on_progress: Callable[[int, int], None] | None) -> None:
    highest = database.read_now(lambda connection: connection.scalar(select(func.max(manifests.c.id)))) or 0
    for low in range(1, highest + 1, _FILLED_MANIFESTS):
        piece = (low, min(low + _FILLED_MANIFESTS - 1, highest))
        database.write_now(lambda connection, piece=piece: _fill(connection, piece))  # type: ignore[misc]
        if on_progress is not None:
            on_progress(piece[1], highest)
    database.write_now(lambda connection: connection.exec_driver_sql(f"ANALYZE {COMPANION}.manifest_blobs"))


def _fill(connection: Connection, piece: tuple[int, int]) -> None:
    connection.exec_driver_sql(regstat_views.FILL_LINKS, piece)


def _publish_views(connection: Connection, now: datetime) -> str | None:
    """Let the views take over, in one transaction, so that there is no moment without the eight names."""
    renamed = _rename_old(connection, now) if _load_status(connection).state is RegstatState.FOREIGN else None
    connection.exec_driver_sql(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
    for schema, views in ((COMPANION, regstat_views.STATE_DEFINITIONS), (SCHEMA, regstat_views.VIEWS)):
        for name, definition in views.items():
            # Replaced, not dropped: rights that were granted stay.
            connection.exec_driver_sql(f"CREATE OR REPLACE VIEW {schema}.{name} AS {definition}")
    connection.exec_driver_sql(f"COMMENT ON SCHEMA {SCHEMA} IS 'views of regwarden, version {VIEWS_VERSION}'")
    return renamed


def _rename_old(connection: Connection, now: datetime) -> str:
    taken = set(connection.execute(text("SELECT nspname FROM pg_namespace")).scalars())
    name = first = f"{SCHEMA}_old_{now:%Y%m%d}"
    number = 2
    while name in taken:
        name, number = f"{first}_{number}", number + 1
    connection.exec_driver_sql(f"ALTER SCHEMA {SCHEMA} RENAME TO {name}")
    return name


def _remove(connection: Connection) -> bool:
    ours = _our_version(connection) is not None
    begun = bool(_relations(connection, COMPANION))
    with _naming_dependents():
        if ours:
            connection.exec_driver_sql(f"DROP VIEW IF EXISTS {', '.join(f'{SCHEMA}.{name}' for name in TABLES)}")
            if not _relations(connection, SCHEMA):
                connection.exec_driver_sql(f"DROP SCHEMA {SCHEMA}")
            else:
                connection.exec_driver_sql(f"COMMENT ON SCHEMA {SCHEMA} IS NULL")
        if begun:
            _remove_links(connection)
    return ours or begun


def _remove_links(connection: Connection) -> None:
    for name in regstat_views.TRIGGERS:
        connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {name} ON manifests")
    for name in regstat_views.STATE_DEFINITIONS:
        connection.exec_driver_sql(f"DROP VIEW IF EXISTS {COMPANION}.{name}")
    connection.exec_driver_sql(f"DROP FUNCTION IF EXISTS {COMPANION}.keep_links()")
    connection.exec_driver_sql(f"DROP TABLE IF EXISTS {COMPANION}.manifest_blobs")
    connection.exec_driver_sql(f"DROP SCHEMA IF EXISTS {COMPANION}")


@contextmanager
def _naming_dependents() -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) != _IN_USE:
            raise
        detail = getattr(getattr(error.orig, "diag", None), "message_detail", None) or "something depends on them"
        raise Conflict(
            f"the views were left as they are: {' '.join(detail.split())[:300]}",
            hint="Remove what is built upon them first.",
            code="regstat-in-use",
        ) from error
