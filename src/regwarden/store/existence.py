"""Is a manifest or blob still in its repository? Decided anew from removals and from the latest evidence of life.

Something is gone if it was removed after the last sign of it: a push, a pull, a probe, or a tag that the last complete
reading found to point to it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import Table, and_, bindparam, func, select, update
from sqlalchemy.engine import Connection

from regwarden.store.bulk import bulk_upsert
from regwarden.store.chunks import chunked
from regwarden.store.schema import (
    blobs,
    manifests,
    removals,
    repositories,
    repository_blobs,
    repository_manifests,
    tags,
)

EVERYTHING: Final = b""
_LONG_AGO: Final = -(2**62)


@dataclass(slots=True)
class Touched:
    """What must be looked at again in one repository: digests as stored; ``is_whole``: everything in it."""

    digests: set[bytes] = field(default_factory=set)
    is_whole: bool = False


def note_removals(connection: Connection, rows: Iterable[tuple[int, bytes, int]]) -> None:
    """Keep that (repository, digest or ``EVERYTHING``) was removed at a moment in microseconds."""
    bulk_upsert(
        connection,
        removals,
        [{"repository_id": repository_id, "digest": digest, "at": at} for repository_id, digest, at in sorted(rows)],
    )


def refresh_existence(connection: Connection, repository_id: int, touched: Touched) -> None:
    """Make ``deleted_at`` of manifests, blobs and the repository itself anew."""
    removed = _load_removals(connection, repository_id, touched)
    settled_at, deleted_at = connection.execute(
        select(repositories.c.settled_at, repositories.c.deleted_at).where(repositories.c.id == repository_id)
    ).one()
    digests = list_contents(connection, repository_id) if touched.is_whole else sorted(touched.digests)
    for chunk in chunked(digests):
        _refresh_content(connection, _ManifestRows(repository_id, settled_at), chunk, removed)
        _refresh_content(connection, _BlobRows(repository_id), chunk, removed)
    if EVERYTHING in removed or deleted_at is not None:
        _refresh_repository(connection, repository_id, removed.get(EVERYTHING), settled_at, deleted_at)


def _load_removals(connection: Connection, repository_id: int, touched: Touched) -> dict[bytes, int]:
    """The latest removal of each digest, and of the repository."""
    of_repository = removals.c.repository_id == repository_id
    latest = select(removals.c.digest, func.max(removals.c.at).label("at")).where(of_repository)
    if touched.is_whole:
        return {bytes(row.digest): row.at for row in connection.execute(latest.group_by(removals.c.digest))}
    found: dict[bytes, int] = {}
    for chunk in chunked([EVERYTHING, *sorted(touched.digests)]):
        rows = connection.execute(latest.where(removals.c.digest.in_(chunk)).group_by(removals.c.digest))
        found.update({bytes(row.digest): row.at for row in rows})
    return found


def list_contents(connection: Connection, repository_id: int) -> list[bytes]:
    """The digests of all manifests and blobs that were ever known in a repository."""
    found = (
        select(manifests.c.digest)
        .join(repository_manifests, repository_manifests.c.manifest_id == manifests.c.id)
        .where(repository_manifests.c.repository_id == repository_id)
    )
    uploaded = (
        select(blobs.c.digest)
        .join(repository_blobs, repository_blobs.c.blob_id == blobs.c.id)
        .where(repository_blobs.c.repository_id == repository_id)
    )
    return sorted({bytes(digest) for digest in connection.execute(found.union(uploaded)).scalars()})


@dataclass(frozen=True, slots=True)
class _ManifestRows:
    """The rows of manifests in one repository, with the latest evidence of each."""

    repository_id: int
    settled_at: int | None

    def load(self, connection: Connection, digests: Sequence[bytes]) -> list[tuple[int, bytes, int, int | None]]:
        """Id, digest, latest evidence and ``deleted_at``."""
        rows = repository_manifests.c
        tagged = select(tags.c.id).where(
            tags.c.repository_id == rows.repository_id, tags.c.manifest_id == rows.manifest_id
        )
        found = connection.execute(
            select(
                rows.manifest_id,
                manifests.c.digest,
                rows.alive_at,
                rows.verified_at,
                rows.first_seen_at,
                rows.deleted_at,
                tagged.exists().label("is_tagged"),
            )
            .join(manifests, manifests.c.id == rows.manifest_id)
            .where(rows.repository_id == self.repository_id, manifests.c.digest.in_(digests))
        )
        loaded = []
        for row in found:
            settled = self.settled_at if row.is_tagged else None
            evidence = [at for at in (row.alive_at, row.verified_at, settled) if at is not None]
            loaded.append(
                (row.manifest_id, bytes(row.digest), max(evidence, default=row.first_seen_at), row.deleted_at)
            )
        return loaded

    @property
    def table(self) -> Table:
        """Where they are."""
        return repository_manifests

    @property
    def key(self) -> str:
        """The column of their ids."""
        return "manifest_id"


@dataclass(frozen=True, slots=True)
class _BlobRows:
    """The rows of blobs in one repository."""

    repository_id: int

    def load(self, connection: Connection, digests: Sequence[bytes]) -> list[tuple[int, bytes, int, int | None]]:
        """Id, digest, latest evidence and ``deleted_at``."""
        rows = repository_blobs.c
        found = connection.execute(
            select(rows.blob_id, blobs.c.digest, rows.alive_at, rows.first_seen_at, rows.deleted_at)
            .join(blobs, blobs.c.id == rows.blob_id)
            .where(rows.repository_id == self.repository_id, blobs.c.digest.in_(digests))
        )
        return [
            (
                row.blob_id,
                bytes(row.digest),
                row.first_seen_at if row.alive_at is None else row.alive_at,
                row.deleted_at,
            )
            for row in found
        ]

    @property
    def table(self) -> Table:
        """Where they are."""
        return repository_blobs

    @property
    def key(self) -> str:
        """The column of their ids."""
        return "blob_id"


def _refresh_content(
    connection: Connection, rows: _ManifestRows | _BlobRows, digests: Sequence[bytes], removed: dict[bytes, int]
) -> None:
    changes = []
    for row_id, digest, alive_at, deleted_at in rows.load(connection, digests):
        removed_at = max(removed.get(digest, _LONG_AGO), removed.get(EVERYTHING, _LONG_AGO))
        if removed_at == _LONG_AGO:
            # Found missing by a crawl of before removals were kept; newer evidence overrules it.
            removed_at = _LONG_AGO if deleted_at is None else deleted_at
        now_deleted = removed_at if removed_at > alive_at else None
        if now_deleted != deleted_at:
            changes.append({"row_id": row_id, "moment": now_deleted})
    if changes:
        columns = rows.table.c
        statement = (
            update(rows.table)
            .where(and_(columns.repository_id == rows.repository_id, columns[rows.key] == bindparam("row_id")))
            .values(deleted_at=bindparam("moment"))
        )
        connection.execute(statement, changes)


def _refresh_repository(
    connection: Connection, repository_id: int, removed_at: int | None, settled_at: int | None, deleted_at: int | None
) -> None:
    alive = select(func.max(repository_manifests.c.alive_at)).where(
        repository_manifests.c.repository_id == repository_id
    )
    uploaded = select(func.max(repository_blobs.c.alive_at)).where(repository_blobs.c.repository_id == repository_id)
    evidence = [connection.execute(statement).scalar() for statement in (alive, uploaded)]
    alive_at = max([at for at in (*evidence, settled_at) if at is not None], default=_LONG_AGO)
    known = deleted_at if removed_at is None else removed_at
    now_deleted = known if known is not None and known > alive_at else None
    if now_deleted != deleted_at:
        connection.execute(
            update(repositories).where(repositories.c.id == repository_id).values(deleted_at=now_deleted)
        )


def touch(places: dict[int, Touched], repository_id: int, digests: Collection[bytes]) -> None:
    """Note that ``digests`` of a repository must be looked at again; ``EVERYTHING`` among them: all of it."""
    known = places.setdefault(repository_id, Touched())
    known.digests.update(digest for digest in digests if digest != EVERYTHING)
    known.is_whole = known.is_whole or EVERYTHING in digests
