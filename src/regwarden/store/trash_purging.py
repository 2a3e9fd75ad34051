"""Which kept manifests go, and when? Those that no plan needs which could still be undone; and plans cut off."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final

from sqlalchemy import and_, delete, exists, or_, select, tuple_
from sqlalchemy.engine import Connection

from regwarden.store.cleanup_schema import plan_repositories, plan_steps, plans, trash, trash_entries
from regwarden.store.database import Database
from regwarden.store.plan_records import PlanState
from regwarden.store.times import to_micros

PIECE_ROWS: Final = 500


async def purge_trash(database: Database, ended_before: datetime) -> int:
    """Delete what only plans need that ended before a moment (aware UTC); returns how many manifests went.

    A plan has ended when it is finished, or undone and its time to be undone is over. In short pieces; interrupted,
    the next call goes on.
    """
    moment = to_micros(ended_before)
    while await database.write(partial(_delete_entries, before=moment)) == PIECE_ROWS:
        pass
    purged_count = 0
    while True:
        unneeded = await database.read(_find_unneeded)
        count = await database.write(partial(_delete_unneeded, digests=unneeded)) if unneeded else 0
        purged_count += count
        if count == 0:
            return purged_count


def delete_incomplete_plans(connection: Connection, *, before: int) -> int:
    """Delete plans whose writing was broken off before a moment (microseconds); returns how many rows went.

    At most a piece of them: call it again until nothing goes.
    """
    broken = select(plans.c.id).where(plans.c.state == PlanState.INCOMPLETE, plans.c.made_at < before)
    for table, last in ((plan_steps, "position"), (plan_repositories, "repository")):
        key: Any = tuple_(table.c.plan_id, table.c.registry, table.c[last])
        rows = select(table.c.plan_id, table.c.registry, table.c[last]).where(table.c.plan_id.in_(broken))
        count = connection.execute(delete(table).where(key.in_(rows.limit(PIECE_ROWS)))).rowcount
        if count:
            return count
    return connection.execute(delete(plans).where(plans.c.id.in_(broken))).rowcount


def _delete_entries(connection: Connection, *, before: int) -> int:
    columns = trash_entries.c
    key: Any = tuple_(columns.plan_id, columns.position, columns.digest)
    ended = select(plans.c.id).where(
        or_(
            and_(plans.c.state == PlanState.FINISHED, plans.c.finished_at < before),
            and_(plans.c.state == PlanState.UNDONE, plans.c.undo_until < before),
        )
    )
    oldest = select(columns.plan_id, columns.position, columns.digest).where(columns.plan_id.in_(ended))
    return connection.execute(delete(trash_entries).where(key.in_(oldest.limit(PIECE_ROWS)))).rowcount


def _find_unneeded(connection: Connection) -> tuple[bytes, ...]:
    is_needed = exists().where(trash_entries.c.digest == trash.c.digest)
    return tuple(connection.execute(select(trash.c.digest).where(~is_needed).limit(PIECE_ROWS)).scalars())


def _delete_unneeded(connection: Connection, *, digests: Sequence[bytes]) -> int:
    """What a step came to need in the meantime stays."""
    is_needed = exists().where(trash_entries.c.digest == trash.c.digest)
    return connection.execute(delete(trash).where(trash.c.digest.in_(digests), ~is_needed)).rowcount
