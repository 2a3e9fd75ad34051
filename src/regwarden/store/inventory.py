"""What a crawl hands over of one repository, and the rows it shares with everything else that is known of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import exists, select, update
from sqlalchemy.engine import Connection

from regwarden.core.coverage import Problem
from regwarden.core.history import CRAWL_MARGIN
from regwarden.core.oci.digests import Digest
from regwarden.store.bulk import bulk_upsert
from regwarden.store.chunks import chunked
from regwarden.store.schema import repositories, repository_manifests, tags
from regwarden.store.times import to_micros


@dataclass(frozen=True, slots=True)
class TagReading:
    """What a tag was found to point to (``None``: nowhere) at ``at``, the moment the request was sent.

    ``published_at`` is since when it points there by the registry's own listing; ``None`` where that does not tell.
    """

    digest: Digest | None
    state: str
    at: datetime
    is_verified: bool = False
    published_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Naming:
    """When a crawl learned the names of a registry's repositories, and which renames were known by then.

    ``renames`` are (old path, new path, moment in microseconds).
    """

    registry_id: int
    at: datetime
    renames: frozenset[tuple[str, str, int]] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryReading:
    """One repository as a crawl found it.

    ``tags`` holds what was read; a known tag that is neither there nor in ``vanished`` stays as it is.
    ``manifests`` are all digests found to exist in it, ``absent`` those found to be gone, ``examined`` (as text)
    those that problems were looked for in again. Events older than the reading by more than ``margin`` are overruled.
    """

    registry_id: int
    crawl_id: int
    name: str
    catalog_position: int
    state: str
    started_at: datetime
    naming: Naming
    tags: Mapping[str, TagReading]
    vanished: tuple[str, ...] = ()
    manifests: frozenset[Digest] = frozenset()
    absent: frozenset[Digest] = frozenset()
    problems: tuple[Problem, ...] = ()
    examined: frozenset[str] = frozenset()
    is_verified: bool = False
    margin: timedelta = CRAWL_MARGIN

    @property
    def is_complete(self) -> bool:
        """Whether everything in the repository was read."""
        return self.state in ("complete", "untagged")

    @property
    def settled_at(self) -> datetime:
        """Events of before are overruled by this reading, all of it: also by what a continued crawl read earlier."""
        return min((self.started_at, *(tag.at for tag in self.tags.values()))) - self.margin


def ensure_repository(connection: Connection, registry_id: int, name: str, at: datetime) -> int:
    """The id of a repository, which is added if it is new."""
    bulk_upsert(
        connection,
        repositories,
        [{"registry_id": registry_id, "name": name, "first_seen_at": to_micros(at), "state": "failed"}],
        conflict=("registry_id", "name"),
    )
    found = find_repository(connection, registry_id, name)
    assert found is not None  # noqa: S101 -- it has just been added
    return found


def find_repository(connection: Connection, registry_id: int, name: str) -> int | None:
    """The id of a repository, if it is known."""
    found = connection.execute(
        select(repositories.c.id).where(repositories.c.registry_id == registry_id, repositories.c.name == name)
    ).scalar()
    return None if found is None else int(found)


def mark_untagged(connection: Connection, repository_id: int, manifest_ids: Sequence[int], at: datetime) -> None:
    """Note of some manifests since when they have no tag in a repository; those that have one again are cleared."""
    rows = repository_manifests.c
    tagged = exists().where(tags.c.repository_id == repository_id, tags.c.manifest_id == rows.manifest_id)
    for chunk in chunked(manifest_ids):
        these = rows.repository_id == repository_id, rows.manifest_id.in_(chunk)
        connection.execute(
            update(repository_manifests)
            .where(*these, rows.untagged_since.is_(None), ~tagged)
            .values(untagged_since=to_micros(at))
        )
        connection.execute(
            update(repository_manifests)
            .where(*these, rows.untagged_since.is_not(None), tagged)
            .values(untagged_since=None)
        )
