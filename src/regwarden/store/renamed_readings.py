"""What readings have found, or are to find, under a name that a repository has lost: it counts for the present name.

Nothing that a running crawl found gone is believed, because under the old name everything was gone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sqlalchemy import delete, or_, select, update
from sqlalchemy.engine import Connection

from regwarden.store.drifts import withdraw_missed_deletes
from regwarden.store.event_schema import drifts, rereads
from regwarden.store.inventory import find_repository
from regwarden.store.rereads import Reread, note_rereads
from regwarden.store.schema import crawls, repositories, tags
from regwarden.store.times import from_micros

RENAMED: Final = "renamed"


def forget_findings(connection: Connection, registry_id: int, repository_id: int, old_name: str, name: str) -> None:
    """Let nothing that running crawls found under an old name end anything of the repository."""
    for table, key in ((tags, tags.c.repository_id), (repositories, repositories.c.id)):
        is_marked = key == repository_id, table.c.vanished_in.is_not(None)
        connection.execute(update(table).where(*is_marked).values(vanished_in=None))
    running = select(crawls.c.id).where(crawls.c.registry_id == registry_id, crawls.c.state == "running")
    for crawl_id in connection.execute(running).scalars().all():
        withdraw_missed_deletes(connection, crawl_id, old_name)
        found = drifts.c.crawl_id == crawl_id, drifts.c.repository == old_name
        connection.execute(update(drifts).where(*found).values(repository=name))


def read_again(connection: Connection, registry_id: int, name: str, at: int) -> None:
    """Note that a repository is to be read because it was renamed at a moment in microseconds."""
    note_rereads(connection, [Reread(registry_id, name, "", RENAMED, from_micros(at))])


def move_rereads(
    connection: Connection, registry_id: int, old_path: str, at: int, present: Callable[[str], str]
) -> None:
    """Let what was to be read at and below a path be read under its present name, at once.

    Names that have been taken again stay.
    """
    columns = rereads.c
    below = columns.repository.startswith(f"{old_path}/", autoescape=True)
    named = columns.registry_id == registry_id, or_(columns.repository == old_path, below)
    rows = connection.execute(select(rereads).where(*named).order_by(columns.id)).all()
    lost = {name for name in {row.repository for row in rows} if find_repository(connection, registry_id, name) is None}
    moved = [row for row in rows if row.repository in lost and present(row.repository) != row.repository]
    note_rereads(
        connection,
        [
            Reread(registry_id, present(row.repository), row.reference, row.reason, from_micros(min(row.due_at, at)))
            for row in moved
        ],
    )
    for row in moved:
        connection.execute(delete(rereads).where(columns.id == row.id))
