"""What is already known of tags that a crawl has an opinion on: the points and removals that may stand against it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from regwarden.store.bulk import bulk_upsert
from regwarden.store.chunks import chunked
from regwarden.store.schema import removals, tag_history

CRAWL: Final = "crawl"
GONE: Final = b""


@dataclass(frozen=True, slots=True)
class StoredPoint:
    """A point of a tag's history; ``digest`` as stored, ``GONE`` where the tag was not there. Times in microseconds."""

    at: int
    digest: bytes
    cause: str
    effective_at: int


@dataclass(frozen=True, slots=True)
class Known:
    """Points by tag, and the latest removal by digest (``GONE``: of the whole repository)."""

    points: Mapping[str, Sequence[StoredPoint]] = field(default_factory=dict)
    removed_at: Mapping[bytes, int] = field(default_factory=dict)

    def last_crawl(self, tag: str) -> StoredPoint | None:
        """What a crawl observed last."""
        crawled = (point for point in self.points.get(tag, ()) if point.cause == CRAWL)
        return max(crawled, key=lambda point: (point.effective_at, point.at), default=None)

    def rival(self, tag: str, effective_at: int) -> StoredPoint | None:
        """The event that stands against an observation which takes effect at ``effective_at``."""
        told = (point for point in self.points.get(tag, ()) if point.cause != CRAWL)
        return max((point for point in told if point.effective_at >= effective_at), key=_rank, default=None)

    def winner(self, tag: str) -> StoredPoint | None:
        """The point that counts."""
        return max(self.points.get(tag, ()), key=_rank, default=None)

    def removal(self, digest: bytes) -> int | None:
        """When ``digest``, or everything, was removed last."""
        moments = [self.removed_at[key] for key in (digest, GONE) if key in self.removed_at]
        return max(moments, default=None)


def _rank(point: StoredPoint) -> tuple[int, bytes]:
    # The empty digest is the smallest: being there stands against being gone.
    return point.effective_at, point.digest


def load_points(
    connection: Connection, repository_id: int, names: Sequence[str], *, since: int | None = None
) -> dict[str, list[StoredPoint]]:
    """The points of tags that take effect at or after ``since`` (``None``: all)."""
    found: dict[str, list[StoredPoint]] = {}
    columns = tag_history.c
    recent = () if since is None else (columns.effective_at >= since,)
    for chunk in chunked(names):
        rows = connection.execute(
            select(columns.tag, columns.at, columns.digest, columns.cause, columns.effective_at).where(
                columns.repository_id == repository_id, columns.tag.in_(chunk), *recent
            )
        )
        for row in rows:
            point = StoredPoint(row.at, bytes(row.digest), row.cause, row.effective_at)
            found.setdefault(row.tag, []).append(point)
    return found


def load_removals(
    connection: Connection, repository_id: int, digests: Collection[bytes], *, since: int
) -> dict[bytes, int]:
    """The latest removal, at or after ``since``, of each of ``digests`` and of the whole repository."""
    found: dict[bytes, int] = {}
    columns = removals.c
    for chunk in chunked(sorted({*digests, GONE})):
        rows = connection.execute(
            select(columns.digest, func.max(columns.at).label("at"))
            .where(columns.repository_id == repository_id, columns.digest.in_(chunk), columns.at >= since)
            .group_by(columns.digest)
        )
        found.update({bytes(row.digest): row.at for row in rows})
    return found


def build_point(
    repository_id: int, tag: str, digest: bytes, at: int, effective_at: int, last: StoredPoint | None
) -> dict[str, Any]:
    """A row of ``tag_history`` for what a crawl observed, never before what a crawl observed ``last``."""
    return {
        "repository_id": repository_id,
        "tag": tag,
        "at": at if last is None else max(at, last.at + 1),
        "digest": digest,
        "cause": CRAWL,
        "effective_at": effective_at if last is None else max(effective_at, last.effective_at + 1),
    }


def save_points(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add points to the history."""
    bulk_upsert(connection, tag_history, rows, conflict=("repository_id", "tag", "at", "digest", "cause"))


def names_of_digests(connection: Connection, repository_id: int, digests: Iterable[bytes]) -> set[str]:
    """The tags that ever pointed to one of ``digests``; ``GONE`` is no digest here."""
    found: set[str] = set()
    for chunk in chunked(sorted(set(digests) - {GONE})):
        found.update(
            connection.execute(
                select(tag_history.c.tag).where(
                    tag_history.c.repository_id == repository_id, tag_history.c.digest.in_(chunk)
                )
            ).scalars()
        )
    return found
