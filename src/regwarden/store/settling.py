"""How does what a crawl confirmed to be gone end? In short write units, unless events have told of it since."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from sqlalchemy import Select, delete, exists, func, or_, select, update
from sqlalchemy.engine import Connection

from regwarden.core.drift import DriftKind
from regwarden.store.chunks import chunked
from regwarden.store.crawls import BegunCrawl
from regwarden.store.database import Database
from regwarden.store.drifts import Drift, record_drifts, withdraw_missed_deletes
from regwarden.store.existence import EVERYTHING, Touched, list_contents, note_removals, refresh_existence
from regwarden.store.inventory import mark_untagged
from regwarden.store.publishing import UNIT_ROWS
from regwarden.store.rereads import Reread, note_rereads
from regwarden.store.row_locks import lock_repositories, lock_repositories_of_tags
from regwarden.store.schema import crawl_problems, registries, repositories, repository_manifests, tags
from regwarden.store.tag_points import GONE, Known, build_point, load_points, save_points
from regwarden.store.tag_publishing import DISAGREES
from regwarden.store.tag_state import date_repositories
from regwarden.store.times import from_micros, to_micros


@dataclass(slots=True)
class Settled:
    """How many tags and repositories are gone now."""

    tag_count: int = 0
    repository_count: int = 0


@dataclass(frozen=True, slots=True)
class _Gone:
    """A repository found gone. ``at``: since when it counts as such, in microseconds."""

    repository_id: int
    name: str
    at: int
    tag_ids: Sequence[int]
    digests: Sequence[bytes]


async def settle_vanished(database: Database, begun: BegunCrawl, margin: timedelta) -> Settled:
    """Mark as gone what the running crawl confirmed to be gone: repositories, their tags, single tags.

    Events stand against it that are newer than the reading, or than the crawl where the reading's time is not kept,
    by less than ``margin``.
    """
    settled = Settled()
    single = await database.read(lambda connection: list(connection.execute(_single_tags(begun)).scalars()))
    for ids in chunked(single, UNIT_ROWS):
        settled.tag_count += await database.write(partial(_settle_tags, begun=begun, margin=margin, ids=ids))
    for gone in await database.read(lambda connection: _list_gone(connection, begun, margin)):
        if not await database.write(partial(_remove_repository, begun=begun, margin=margin, gone=gone)):
            continue
        for ids in chunked(gone.tag_ids, UNIT_ROWS):
            settled.tag_count += await database.write(partial(_settle_tags, begun=begun, margin=margin, ids=ids))
        for digests in chunked(gone.digests, UNIT_ROWS):
            await database.write(partial(_refresh_contents, repository_id=gone.repository_id, digests=digests))
        await database.write(partial(_close_repository, gone=gone))
        settled.repository_count += 1
    return settled


def disbelieve(connection: Connection, begun: BegunCrawl) -> None:
    """Where a crawl found something gone that is kept because it is too much: what it read overrules no event.

    Its reading of such a repository would otherwise stand for tags that it had found gone, against an event that tells
    late of their removal.
    """
    withdraw_missed_deletes(connection, begun.crawl_id)
    with_gone = exists().where(tags.c.repository_id == repositories.c.id, tags.c.vanished_in == begun.crawl_id)
    is_doubtful = or_(repositories.c.vanished_in == begun.crawl_id, with_gone)
    connection.execute(
        update(repositories).where(repositories.c.registry_id == begun.registry_id, is_doubtful).values(settled_at=None)
    )


def _single_tags(begun: BegunCrawl) -> Select[int]:
    return (
        select(tags.c.id)
        .join(repositories)
        .where(
            repositories.c.registry_id == begun.registry_id,
            tags.c.vanished_in == begun.crawl_id,
            repositories.c.vanished_in.is_distinct_from(begun.crawl_id),
        )
        .order_by(tags.c.id)
    )


def _settle_tags(connection: Connection, *, begun: BegunCrawl, margin: timedelta, ids: Sequence[int]) -> int:
    """End some tags; returns how many. Those of which an event has told since are kept."""
    lock_repositories_of_tags(connection, ids)
    found = connection.execute(
        select(tags.c.id, tags.c.repository_id, tags.c.name, tags.c.manifest_id, tags.c.event_at)
        .add_columns(repositories.c.seen_at, repositories.c.settled_at, repositories.c.state)
        .join(repositories)
        .where(
            tags.c.id.in_(ids),
            or_(tags.c.vanished_in == begun.crawl_id, repositories.c.vanished_in == begun.crawl_id),
        )
    ).all()
    by_repository: dict[int, list[Any]] = {}
    for row in found:
        if row.event_at is None or row.event_at < _moments(row, begun, margin)[1]:
            by_repository.setdefault(row.repository_id, []).append(row)
    for repository_id, rows in by_repository.items():
        _end_tags(connection, repository_id, rows, _moments(rows[0], begun, margin))
    return sum(map(len, by_repository.values()))


def _moments(row: Any, begun: BegunCrawl, margin: timedelta) -> tuple[int, int]:
    """When a repository's tags were looked for, and which events stand against what was found (not older)."""
    started_at = to_micros(begun.started_at)
    is_recorded = row.seen_at is not None and row.settled_at is not None and row.seen_at >= started_at
    if row.state in ("complete", "untagged") and is_recorded:
        return row.seen_at, row.settled_at
    return started_at, to_micros(begun.started_at - margin)


def _end_tags(connection: Connection, repository_id: int, rows: Sequence[Any], moments: tuple[int, int]) -> None:
    at, effective_at = moments
    known = Known(load_points(connection, repository_id, [row.name for row in rows], since=effective_at))
    save_points(
        connection,
        [build_point(repository_id, row.name, GONE, at, effective_at, known.last_crawl(row.name)) for row in rows],
    )
    for chunk in chunked([row.id for row in rows]):
        connection.execute(delete(tags).where(tags.c.id.in_(chunk)))
    date_repositories(connection, (repository_id,))
    orphaned = sorted({row.manifest_id for row in rows if row.manifest_id is not None})
    mark_untagged(connection, repository_id, orphaned, from_micros(at))


def _list_gone(connection: Connection, begun: BegunCrawl, margin: timedelta) -> list[_Gone]:
    limit = to_micros(begun.started_at - margin)
    verified = (
        select(func.max(repository_manifests.c.verified_at))
        .where(repository_manifests.c.repository_id == repositories.c.id)
        .scalar_subquery()
    )
    rows = connection.execute(
        select(repositories.c.id, repositories.c.name, verified.label("verified_at"))
        .where(repositories.c.registry_id == begun.registry_id, repositories.c.vanished_in == begun.crawl_id)
        .order_by(repositories.c.name)
    ).all()
    return [
        _Gone(
            row.id,
            row.name,
            # What an earlier reading proved is no evidence against this one, however soon that was before.
            limit if row.verified_at is None else max(limit, row.verified_at + 1),
            list(connection.execute(select(tags.c.id).where(tags.c.repository_id == row.id)).scalars()),
            list_contents(connection, row.id),
        )
        for row in rows
    ]


def _remove_repository(connection: Connection, *, begun: BegunCrawl, margin: timedelta, gone: _Gone) -> bool:
    """Note that everything in a repository is gone, unless an event has told of something there since."""
    limit, repository_id = to_micros(begun.started_at - margin), gone.repository_id
    lock_repositories(connection, (repository_id,))
    tag, content = tags.c, repository_manifests.c
    told = exists().where(tag.repository_id == repository_id, tag.event_at >= limit)
    alive = exists().where(content.repository_id == repository_id, content.alive_at >= limit)
    if connection.execute(select(or_(told, alive))).scalar():
        connection.execute(update(repositories).where(repositories.c.id == repository_id).values(vanished_in=None))
        due_at = begun.started_at + margin
        note_rereads(connection, [Reread(begun.registry_id, gone.name, "", DISAGREES, due_at)])
        return False
    note_removals(connection, [(repository_id, EVERYTHING, gone.at)])
    if _is_watched(connection, repository_id):
        withdraw_missed_deletes(connection, begun.crawl_id, gone.name)
        drift = Drift(gone.name, "", DriftKind.MISSED_DELETE, None, None, to_micros(begun.started_at))
        record_drifts(connection, begun.registry_id, begun.crawl_id, [drift])
    return True


def _is_watched(connection: Connection, repository_id: int) -> bool:
    """Whether an event should have told that a repository was deleted."""
    found = select(repositories.c.id).join(registries)
    found = found.where(repositories.c.id == repository_id, repositories.c.seen_at >= registries.c.events_since)
    return connection.execute(found).first() is not None


def _refresh_contents(connection: Connection, *, repository_id: int, digests: Sequence[bytes]) -> None:
    lock_repositories(connection, (repository_id,))
    refresh_existence(connection, repository_id, Touched(set(digests)))


def _close_repository(connection: Connection, *, gone: _Gone) -> None:
    lock_repositories(connection, (gone.repository_id,))
    connection.execute(delete(crawl_problems).where(crawl_problems.c.repository_id == gone.repository_id))
    connection.execute(
        update(repositories)
        .where(repositories.c.id == gone.repository_id)
        .values(deleted_at=gone.at, vanished_in=None, problem_count=0)
    )
