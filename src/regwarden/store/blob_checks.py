"""Which blobs a registry should hold, and what it answered when each was asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final

import numpy as np
from sqlalchemy import delete, func, select, update
from sqlalchemy.engine import Connection

from regwarden.core.oci.digests import Digest
from regwarden.store.bulk import bulk_upsert
from regwarden.store.chunks import chunked
from regwarden.store.database import Database
from regwarden.store.row_locks import lock_repositories
from regwarden.store.schema import (
    blobs,
    crawl_problems,
    manifests,
    repositories,
    repository_blobs,
    repository_manifests,
)
from regwarden.store.times import to_micros

MISSING_BLOB: Final = "missing-blob"


def list_holders(connection: Connection, registry_id: int, crawl_id: int) -> dict[int, list[tuple[int, str]]]:
    """Every blob that manifests of the repositories read by a crawl need.

    Blob id → the repositories (id, name) that need it, in name order.
    """
    rows = connection.execute(
        select(repositories.c.id, repositories.c.name, manifests.c.blob_ids)
        .select_from(repository_manifests.join(repositories).join(manifests))
        .where(
            repositories.c.registry_id == registry_id,
            repositories.c.crawl_id == crawl_id,
            repositories.c.deleted_at.is_(None),
            repository_manifests.c.deleted_at.is_(None),
        )
        .order_by(repositories.c.name)
    )
    holders: dict[int, dict[int, str]] = {}
    for row in rows:
        for blob_id in np.frombuffer(row.blob_ids, dtype="<u4").tolist():
            holders.setdefault(blob_id, {}).setdefault(row.id, row.name)
    return {blob_id: list(found.items()) for blob_id, found in holders.items()}


def list_missing(connection: Connection, registry_id: int, crawl_id: int) -> set[tuple[int, int]]:
    """What a crawl's repositories lacked when they were last asked: (repository id, blob id)."""
    rows = connection.execute(
        select(repository_blobs.c.repository_id, repository_blobs.c.blob_id)
        .select_from(repository_blobs.join(repositories))
        .where(
            repositories.c.registry_id == registry_id,
            repositories.c.crawl_id == crawl_id,
            repository_blobs.c.deleted_at.is_not(None),
        )
    )
    return {(row.repository_id, row.blob_id) for row in rows}


def load_digests(connection: Connection, blob_ids: Iterable[int]) -> dict[int, Digest]:
    """The digests of blobs, by id."""
    found = {}
    for chunk in chunked(list(blob_ids)):
        for row in connection.execute(select(blobs.c.id, blobs.c.digest).where(blobs.c.id.in_(chunk))):
            found[row.id] = Digest.from_bytes(row.digest)
    return found


def save_blob_checks(
    connection: Connection, checks: Mapping[tuple[int, int], bool], names: Mapping[int, str], at: datetime
) -> set[int]:
    """Keep answers to blob probes: (repository id, blob id) → whether it is there.

    ``names`` are what the repositories (by id) were asked under. Of those that are called otherwise by now nothing is
    kept; their ids are returned.
    """
    lock_repositories(connection, names)
    same: set[int] = set()
    for chunk in chunked(sorted(names)):
        found = select(repositories.c.id, repositories.c.name).where(repositories.c.id.in_(chunk))
        same.update(row.id for row in connection.execute(found) if row.name == names[row.id])
    moment = to_micros(at)
    bulk_upsert(
        connection,
        repository_blobs,
        [
            {
                "repository_id": repository_id,
                "blob_id": blob_id,
                "first_seen_at": moment,
                "verified_at": moment,
                "deleted_at": None if is_there else moment,
            }
            for (repository_id, blob_id), is_there in checks.items()
            if repository_id in same
        ],
        update=("verified_at", "deleted_at"),
        conflict=("repository_id", "blob_id"),
    )
    return names.keys() - same


def forget_unneeded(connection: Connection, pairs: Iterable[tuple[int, int]]) -> None:
    """Forget that blobs are missing which no manifest of the repository needs any more: (repository id, blob id)."""
    ordered = sorted(pairs)
    lock_repositories(connection, (repository_id for repository_id, _ in ordered))
    for repository_id, blob_id in ordered:
        connection.execute(
            delete(repository_blobs).where(
                repository_blobs.c.repository_id == repository_id, repository_blobs.c.blob_id == blob_id
            )
        )


@dataclass(frozen=True, slots=True)
class _MissingBlobs:
    """What the problems say of missing blobs, beside what is known: rows to add, ids to remove, ids to confirm."""

    new: list[dict[str, Any]]
    ended_ids: list[int]
    lasting_ids: list[int]
    repository_ids: list[int]


async def note_missing_blobs(database: Database, registry_id: int, at: datetime) -> None:
    """Let every blob that is known to be missing be a problem of its repository, whatever the last crawl asked for."""
    found = await database.read(lambda connection: _compare_missing(connection, registry_id, to_micros(at)))
    for ids in chunked(found.ended_ids):
        await database.write(partial(_end_problems, ids=ids))
    for rows in chunked(found.new):
        await database.write(partial(bulk_upsert, table=crawl_problems, rows=rows))
    for ids in chunked(found.lasting_ids):
        await database.write(partial(_confirm_problems, ids=ids, moment=to_micros(at)))
    for ids in chunked(found.repository_ids):
        await database.write(partial(_count_problems, repository_ids=ids))


def _compare_missing(connection: Connection, registry_id: int, moment: int) -> _MissingBlobs:
    columns = crawl_problems.c
    noted = {
        (row.repository_id, bytes(row.digest)): row.id
        for row in connection.execute(
            select(columns.id, columns.repository_id, columns.digest).where(
                columns.registry_id == registry_id, columns.code == MISSING_BLOB
            )
        )
    }
    rows = connection.execute(
        select(repository_blobs.c.repository_id, repository_blobs.c.deleted_at, repository_blobs.c.verified_at)
        .add_columns(blobs.c.digest)
        .select_from(repository_blobs.join(repositories).join(blobs))
        .where(
            repositories.c.registry_id == registry_id,
            repositories.c.deleted_at.is_(None),
            repository_blobs.c.deleted_at.is_not(None),
        )
    )
    missing = {(row.repository_id, bytes(row.digest)): row for row in rows}
    new = [
        {
            "registry_id": registry_id,
            "repository_id": row.repository_id,
            "tag": "",
            "digest": digest,
            "code": MISSING_BLOB,
            "message": "manifests need this blob, but it is not there",
            "first_seen_at": row.deleted_at,
            "seen_at": moment,
            "tried_at": row.verified_at or row.deleted_at,
        }
        for (_, digest), row in missing.items()
        if (row.repository_id, digest) not in noted
    ]
    ended = [key for key in noted if key not in missing]
    changed = {row["repository_id"] for row in new} | {repository_id for repository_id, _ in ended}
    return _MissingBlobs(
        new,
        [noted[key] for key in ended],
        [row_id for key, row_id in noted.items() if key in missing],
        sorted(changed | {repository_id for repository_id, _ in missing}),
    )


def _end_problems(connection: Connection, *, ids: Sequence[int]) -> None:
    connection.execute(delete(crawl_problems).where(crawl_problems.c.id.in_(ids)))


def _confirm_problems(connection: Connection, *, ids: Sequence[int], moment: int) -> None:
    connection.execute(update(crawl_problems).where(crawl_problems.c.id.in_(ids)).values(seen_at=moment))


def _count_problems(connection: Connection, *, repository_ids: Sequence[int]) -> None:
    lock_repositories(connection, repository_ids)
    of_repository = crawl_problems.c.repository_id == repositories.c.id
    count = select(func.count()).select_from(crawl_problems).where(of_repository).scalar_subquery()
    connection.execute(update(repositories).where(repositories.c.id.in_(repository_ids)).values(problem_count=count))
