"""Renamed paths (GitLab's ``rename``): their repositories get the new name and keep their history.

An event of before the rename that arrives later belongs to the new name. Where that is taken already, because newer
events came first, both are joined.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

from sqlalchemy import Table, and_, delete, func, or_, select, update
from sqlalchemy.engine import Connection

from regwarden.core.folding import Rename
from regwarden.core.history import CRAWL_MARGIN
from regwarden.store.bulk import Join, bulk_join
from regwarden.store.event_schema import pull_days, repository_renames
from regwarden.store.existence import Touched, refresh_existence
from regwarden.store.inventory import find_repository
from regwarden.store.renamed_readings import forget_findings, move_rereads, read_again
from regwarden.store.schema import (
    crawl_checkpoints,
    crawl_problems,
    crawls,
    removals,
    repositories,
    repository_blobs,
    repository_manifests,
    tag_history,
    tags,
    usage_days,
)
from regwarden.store.tag_state import resolve_tags
from regwarden.store.times import to_micros

_CLOCKS: Final = ("alive_at", "pushed_at", "pulled_at")
# How rows of both repositories become one.
_JOINS: Final = (
    (repository_manifests, Join((*_CLOCKS, "fetched_at", "checked_at", "verified_at"), least=("first_seen_at",))),
    (repository_blobs, Join((*_CLOCKS, "verified_at"), least=("first_seen_at",))),
    (tag_history, Join()),
    (removals, Join()),
    (pull_days, Join(("last_at",), added=("pull_count",))),
)


def present_name(name: str, at: int, renames: Sequence[tuple[str, str, int]]) -> str:
    """What a repository that was called ``name`` at a moment (microseconds) is called now.

    ``renames`` are (old path, new path, moment), the oldest first.
    """
    for old_path, new_path, moment in renames:
        if at < moment and (name == old_path or name.startswith(f"{old_path}/")):
            name, at = new_path + name[len(old_path) :], moment
    return name


def load_renames(connection: Connection, registry_id: int) -> list[tuple[str, str, int]]:
    """The renames of a registry as ``present_name`` takes them."""
    columns = repository_renames.c
    found = connection.execute(
        select(columns.old_path, columns.new_path, columns.at)
        .where(columns.registry_id == registry_id)
        .order_by(columns.at, columns.old_path)
    )
    return [(row.old_path, row.new_path, row.at) for row in found]


def apply_renames(connection: Connection, registry_id: int, renames: Collection[Rename]) -> None:
    """Keep renames and give the repositories at and below the old paths their new names."""
    ordered = sorted(renames, key=lambda one: (one.at, one.old_path))
    bulk_join(
        connection,
        repository_renames,
        [
            {
                "registry_id": registry_id,
                "old_path": one.old_path,
                "at": to_micros(one.at),
                "new_path": one.new_path,
            }
            for one in ordered
        ],
        Join(),
    )
    # All that are known: one that arrives late may be followed by others.
    known = load_renames(connection, registry_id) if ordered else []
    for one in ordered:
        at = to_micros(one.at)

        def present(name: str, old_path: str = one.old_path, new_path: str = one.new_path, at: int = at) -> str:
            return present_name(new_path + name[len(old_path) :], at, known)

        for row in _load_renamed(connection, registry_id, one):
            name = present(row.name)
            repository_id = _rename(connection, registry_id, row.id, name)
            forget_findings(connection, registry_id, repository_id, row.name, name)
            # What was read at that time may be nobody's, and so may be what both were together.
            if row.was_read_since or (row.crawl_id is not None and repository_id != row.id):
                read_again(connection, registry_id, name, at)
        move_rereads(connection, registry_id, one.old_path, at, present)


def _load_renamed(connection: Connection, registry_id: int, rename: Rename) -> Sequence[Any]:
    """The repositories of before the rename, and whether they may have been read about then or later."""
    columns = repositories.c
    below = columns.name.startswith(f"{rename.old_path}/", autoescape=True)
    since = to_micros(rename.at - CRAWL_MARGIN)
    was_read_since = and_(crawls.c.id.is_not(None), func.coalesce(crawls.c.finished_at, since) >= since)
    return connection.execute(
        select(columns.id, columns.name, columns.crawl_id, was_read_since.label("was_read_since"))
        .select_from(repositories.outerjoin(crawls, crawls.c.id == columns.crawl_id))
        .where(
            columns.registry_id == registry_id,
            columns.first_seen_at < to_micros(rename.at),
            or_(columns.name == rename.old_path, below),
        )
        .order_by(columns.name)
    ).all()


def _rename(connection: Connection, registry_id: int, repository_id: int, name: str) -> int:
    """Returns the id of the repository that is called so then."""
    taken = find_repository(connection, registry_id, name)
    if taken is None:
        connection.execute(update(repositories).where(repositories.c.id == repository_id).values(name=name))
    elif taken != repository_id:
        _merge(connection, repository_id, taken)
        return taken
    return repository_id


def _merge(connection: Connection, source_id: int, target_id: int) -> None:
    """Join everything known of one repository into another, and drop the first."""
    names = set(connection.execute(select(tags.c.name).where(tags.c.repository_id == source_id)).scalars())
    names |= set(connection.execute(select(tags.c.name).where(tags.c.repository_id == target_id)).scalars())
    for table, join in _JOINS:
        _move(connection, table, source_id, target_id, join)
    for table in (tags, crawl_checkpoints, crawl_problems, usage_days):
        connection.execute(delete(table).where(table.c.repository_id == source_id))
    first = select(repositories.c.first_seen_at).where(repositories.c.id == source_id).scalar_subquery()
    connection.execute(
        update(repositories)
        .where(repositories.c.id == target_id, repositories.c.first_seen_at > first)
        .values(first_seen_at=first)
    )
    connection.execute(delete(repositories).where(repositories.c.id == source_id))
    refresh_existence(connection, target_id, Touched(is_whole=True))
    resolve_tags(connection, target_id, names)


def _move(connection: Connection, table: Table, source_id: int, target_id: int, join: Join) -> None:
    rows: list[dict[str, Any]] = [
        {**row._mapping, "repository_id": target_id}  # noqa: SLF001 -- SQLAlchemy's public name for it
        for row in connection.execute(select(table).where(table.c.repository_id == source_id))
    ]
    bulk_join(connection, table, rows, join)
    connection.execute(delete(table).where(table.c.repository_id == source_id))
