"""How a reading of a repository becomes the inventory's state of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import product
from typing import Any

from sqlalchemy import delete, exists, func, select, update
from sqlalchemy.engine import Connection

from regwarden.core.coverage import Problem
from regwarden.core.oci.digests import Digest
from regwarden.store.bulk import bulk_ids, bulk_upsert
from regwarden.store.chunks import chunked
from regwarden.store.contents import date_tags
from regwarden.store.problems import replace_problems
from regwarden.store.schema import (
    crawl_checkpoints,
    manifests,
    repositories,
    repository_manifests,
    tag_history,
    tags,
)
from regwarden.store.times import to_micros


@dataclass(frozen=True, slots=True)
class TagReading:
    """What a tag was found to point to (``None``: nowhere) at ``at``, the moment the request was sent."""

    digest: Digest | None
    state: str
    at: datetime
    is_verified: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryReading:
    """One repository as a crawl found it; published in one transaction.

    ``tags`` holds what was read; a known tag that is neither there nor in ``vanished`` stays as it is.
    ``manifests`` are all digests found to exist in it, ``absent`` those found to be gone, ``examined`` (as text)
    those that problems were looked for in again.
    """

    registry_id: int
    crawl_id: int
    name: str
    catalog_position: int
    state: str
    started_at: datetime
    tags: Mapping[str, TagReading]
    vanished: tuple[str, ...] = ()
    manifests: frozenset[Digest] = frozenset()
    absent: frozenset[Digest] = frozenset()
    problems: tuple[Problem, ...] = ()
    examined: frozenset[str] = frozenset()
    is_verified: bool = False


@dataclass(frozen=True, slots=True)
class Published:
    """How a reading changed the inventory."""

    repository_id: int
    new_tag_count: int
    moved_tag_count: int


def save_checkpoint(connection: Connection, crawl_id: int, repository_id: int, resolved: Mapping[str, Digest]) -> None:
    """Remember tags of a large repository that a running crawl has read, whose manifests are kept already."""
    ids = bulk_ids(connection, manifests, "digest", [digest.to_bytes() for digest in set(resolved.values())])
    bulk_upsert(
        connection,
        crawl_checkpoints,
        [
            {"crawl_id": crawl_id, "repository_id": repository_id, "tag": tag, "manifest_id": ids[digest.to_bytes()]}
            for tag, digest in resolved.items()
        ],
        update=("manifest_id",),
        conflict=("crawl_id", "repository_id", "tag"),
    )


def ensure_repository(connection: Connection, registry_id: int, name: str, at: datetime) -> int:
    """The id of a repository, which is added if it is new."""
    bulk_upsert(
        connection,
        repositories,
        [{"registry_id": registry_id, "name": name, "first_seen_at": to_micros(at), "state": "failed"}],
        conflict=("registry_id", "name"),
    )
    found = connection.execute(
        select(repositories.c.id).where(repositories.c.registry_id == registry_id, repositories.c.name == name)
    ).scalar_one()
    return int(found)


def publish_repository(connection: Connection, reading: RepositoryReading) -> Published:
    """Make a reading the inventory's state of that repository. Its manifests must have been kept before."""
    repository_id = ensure_repository(connection, reading.registry_id, reading.name, reading.started_at)
    new_count, moved_count = _publish_tags(connection, repository_id, reading)
    date_tags(connection, repository_id)
    _publish_manifests(connection, repository_id, reading)
    replace_problems(
        connection,
        reading.registry_id,
        repository_id,
        reading.problems,
        at=reading.started_at,
        examined=reading.examined,
    )
    _mark_vanished(connection, repository_id, reading)
    values: dict[str, Any] = {
        "state": reading.state,
        "crawl_id": reading.crawl_id,
        "catalog_position": reading.catalog_position,
        "problem_count": len(reading.problems),
        "deleted_at": None,
        "vanished_in": None,
        "newest_created_at": select(func.max(tags.c.created_at))
        .where(tags.c.repository_id == repository_id)
        .scalar_subquery(),
    }
    if reading.state in ("complete", "untagged"):
        values["seen_at"] = to_micros(reading.started_at)
        if reading.is_verified:
            values["verified_at"] = to_micros(reading.started_at)
    connection.execute(update(repositories).where(repositories.c.id == repository_id).values(values))
    connection.execute(delete(crawl_checkpoints).where(crawl_checkpoints.c.repository_id == repository_id))
    return Published(repository_id, new_count, moved_count)


def _mark_vanished(connection: Connection, repository_id: int, reading: RepositoryReading) -> None:
    """Note which tags this reading found gone, in place of what an earlier one of the same crawl did."""
    of_repository = tags.c.repository_id == repository_id
    connection.execute(update(tags).where(of_repository, tags.c.vanished_in.is_not(None)).values(vanished_in=None))
    for chunk in chunked(list(reading.vanished)):
        connection.execute(
            update(tags).where(of_repository, tags.c.name.in_(chunk)).values(vanished_in=reading.crawl_id)
        )


def _publish_tags(connection: Connection, repository_id: int, reading: RepositoryReading) -> tuple[int, int]:
    before = {
        row.name: row
        for row in connection.execute(
            select(tags.c.name, tags.c.manifest_id, tags.c.state, manifests.c.digest)
            .select_from(tags.outerjoin(manifests, manifests.c.id == tags.c.manifest_id))
            .where(tags.c.repository_id == repository_id)
        )
    }
    changed = {
        name: tag
        for name, tag in reading.tags.items()
        if tag.is_verified or (old := before.get(name)) is None or (old.digest, old.state) != (_stored(tag), tag.state)
    }
    facts = _load_facts(connection, {tag.digest for tag in changed.values() if tag.digest is not None})
    rows, points, untagged = [], [], set()
    new_count = moved_count = 0
    for name, tag in changed.items():
        old, stored, at = before.get(name), _stored(tag), to_micros(tag.at)
        moved = old is not None and stored is not None and old.digest != stored
        if stored is not None and (old is None or moved):
            points.append(_point(repository_id, name, at, stored))
        new_count += old is None
        moved_count += moved
        if old is not None and old.manifest_id is not None and old.digest != stored:
            untagged.add(old.manifest_id)
        manifest_id, created_at, logical_bytes = facts.get(stored, (None, None, None))
        rows.append(
            {
                "repository_id": repository_id,
                "name": name,
                "manifest_id": manifest_id,
                "state": tag.state,
                "first_seen_at": at,
                "tagged_at": at,
                "verified_at": at if tag.is_verified else None,
                "created_at": created_at,
                "logical_bytes": logical_bytes,
                "vanished_in": None,
                "is_moved": moved,
            }
        )
    _save_tags(connection, rows)
    bulk_upsert(connection, tag_history, points, conflict=("repository_id", "tag", "at", "digest", "cause"))
    mark_untagged(connection, repository_id, sorted(untagged), reading.started_at)
    return new_count, moved_count


def _save_tags(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Write changed tags; ``tagged_at`` moves only with the digest, ``verified_at`` only with a proof."""
    always = ("manifest_id", "state", "created_at", "logical_bytes", "vanished_in")
    for is_moved, is_verified in product((True, False), repeat=2):
        wanted = (is_moved, is_verified)
        chosen = [row for row in rows if (row["is_moved"], row["verified_at"] is not None) == wanted]
        columns = (*always, *(("tagged_at",) * is_moved), *(("verified_at",) * is_verified))
        bulk_upsert(
            connection,
            tags,
            [{name: value for name, value in row.items() if name != "is_moved"} for row in chosen],
            update=columns,
            conflict=("repository_id", "name"),
        )


def _stored(tag: TagReading) -> bytes | None:
    return tag.digest.to_bytes() if tag.digest is not None else None


def _load_facts(
    connection: Connection, digests: set[Digest]
) -> dict[bytes | None, tuple[int | None, int | None, int | None]]:
    """Id, creation time and size of manifests."""
    facts: dict[bytes | None, tuple[int | None, int | None, int | None]] = {}
    for chunk in chunked([digest.to_bytes() for digest in digests]):
        for row in connection.execute(
            select(manifests.c.id, manifests.c.digest, manifests.c.created_at, manifests.c.logical_bytes).where(
                manifests.c.digest.in_(chunk)
            )
        ):
            facts[bytes(row.digest)] = (row.id, row.created_at, row.logical_bytes)
    return facts


def _publish_manifests(connection: Connection, repository_id: int, reading: RepositoryReading) -> None:
    at = to_micros(reading.started_at)
    ids = bulk_ids(connection, manifests, "digest", [digest.to_bytes() for digest in reading.manifests])
    verified: dict[str, Any] = {"verified_at": at} if reading.is_verified else {}
    bulk_upsert(
        connection,
        repository_manifests,
        [
            {"repository_id": repository_id, "manifest_id": manifest_id, "first_seen_at": at, "deleted_at": None}
            | verified
            for manifest_id in ids.values()
        ],
        update=("deleted_at", *verified),
        conflict=("repository_id", "manifest_id"),
    )
    absent = bulk_ids(connection, manifests, "digest", [digest.to_bytes() for digest in reading.absent])
    for chunk in chunked(list(absent.values())):
        connection.execute(
            update(repository_manifests)
            .where(
                repository_manifests.c.repository_id == repository_id,
                repository_manifests.c.manifest_id.in_(chunk),
                repository_manifests.c.deleted_at.is_(None),
            )
            .values(deleted_at=at)
        )


def mark_untagged(connection: Connection, repository_id: int, manifest_ids: Sequence[int], at: datetime) -> None:
    """Note since when manifests have no tag in a repository; those that have one again are cleared."""
    tagged = exists().where(
        tags.c.repository_id == repository_id, tags.c.manifest_id == repository_manifests.c.manifest_id
    )
    for chunk in chunked(manifest_ids):
        connection.execute(
            update(repository_manifests)
            .where(
                repository_manifests.c.repository_id == repository_id,
                repository_manifests.c.manifest_id.in_(chunk),
                repository_manifests.c.untagged_since.is_(None),
                ~tagged,
            )
            .values(untagged_since=to_micros(at))
        )
    connection.execute(
        update(repository_manifests)
        .where(
            repository_manifests.c.repository_id == repository_id,
            repository_manifests.c.untagged_since.is_not(None),
            tagged,
        )
        .values(untagged_since=None)
    )


def _point(repository_id: int, tag: str, at: int, digest: bytes) -> dict[str, Any]:
    return {"repository_id": repository_id, "tag": tag, "at": at, "digest": digest, "cause": "crawl"}
