"""How do regstat's rows become ours? As if its events came late: the same joins, so a second import changes nothing.

What it cannot say stays unknown: sizes and contents (the next crawl reads them), and who pulled how often. In
particular ``events_since`` stays as it is: of the time before only the last pull of each image is known, so that
something was never pulled then must not be concluded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import func, select, update
from sqlalchemy.engine import Connection

from regwarden.core.folding import Changes, ContentChange, Removal, TagPoint
from regwarden.core.hosts import hosts_by_registry, normalise_host
from regwarden.core.oci import media_types
from regwarden.core.oci.digests import Digest
from regwarden.errors import InputError
from regwarden.store.applying import EventRegistry, ensure_registry
from regwarden.store.bulk import bulk_ids
from regwarden.store.chunks import chunked
from regwarden.store.database import Database
from regwarden.store.folded import Place, apply_changes
from regwarden.store.packing import pack_blob_ids
from regwarden.store.regstat_source import RegstatSource
from regwarden.store.schema import blobs, manifests, registries
from regwarden.store.times import to_micros

_INSTANT: Final = timedelta(microseconds=1)
# The only one that regstat kept.
_MEDIA_TYPE: Final = media_types.DOCKER_MANIFEST


@dataclass(slots=True)
class ImportReport:
    """What an import took, and what it had to leave, by reason; ``unknown_hosts`` counts tags by host."""

    tag_count: int = 0
    deleted_tag_count: int = 0
    manifest_count: int = 0
    blob_count: int = 0
    untagged_manifest_count: int = 0
    unplaced_blob_count: int = 0
    unreadable_count: int = 0
    unknown_hosts: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class _Import:
    """One import on its way."""

    database: Database
    now: datetime
    registries: Mapping[str, EventRegistry]
    hosts: Mapping[str, str]
    report: ImportReport = field(default_factory=ImportReport)
    manifest_digests: set[bytes] = field(default_factory=set)
    blob_digests: set[bytes] = field(default_factory=set)

    def registry_of(self, row: Any) -> str | None:
        """The registry that a row means: by the host of the request or, as regstat combined them, by its name's."""
        return self.hosts.get(normalise_host(row.registry)) or self.hosts.get(normalise_host(row.named_host))


def import_regstat(
    database: Database, source: RegstatSource, configured: Sequence[EventRegistry], *, now: datetime
) -> ImportReport:
    """Take in everything that ``source`` has of the ``configured`` registries, in pieces that are each committed.

    Interrupted or repeated, it can simply be done again.
    """
    hosts = hosts_by_registry({one.name: (one.url, *one.hosts) for one in configured})
    work = _Import(database, now, {one.name: one for one in configured}, hosts)
    for piece in source.live_tags():
        _import_piece(work, piece, _fold_live)
        work.report.tag_count += _count_known(work, piece)
    for piece in source.deleted_tags():
        _import_piece(work, piece, _fold_deleted)
        work.report.deleted_tag_count += _count_known(work, piece)
    for piece in source.placed_blobs():
        _import_piece(work, piece, _fold_blob)
    work.report.manifest_count, work.report.blob_count = len(work.manifest_digests), len(work.blob_digests)
    for piece in source.links():
        database.write_now(lambda connection, piece=piece: _save_links(connection, work, piece))  # type: ignore[misc]
    work.report.untagged_manifest_count, work.report.unplaced_blob_count = source.count_unplaced()
    return work.report


def stored_registries(connection: Connection) -> tuple[EventRegistry, ...]:
    """The registries of the inventory."""
    rows = connection.execute(select(registries.c.name, registries.c.url, registries.c.kind))
    return tuple(EventRegistry(row.name, row.url, row.kind) for row in rows)


def _import_piece(work: _Import, piece: Iterable[Any], fold_row: Callable[[Changes, Any, Digest], None]) -> None:
    by_registry: dict[str, Changes] = {}
    for row in piece:
        name, digest = work.registry_of(row), _digest(row.digest)
        if name is None or digest is None:
            work.report.unreadable_count += name is not None
            continue
        seen = work.blob_digests if fold_row is _fold_blob else work.manifest_digests
        seen.add(digest.to_bytes())
        fold_row(by_registry.setdefault(name, Changes()), row, digest)
    for name, changes in by_registry.items():
        registry = work.registries[name]
        work.database.write_now(
            lambda connection, registry=registry, changes=changes: _apply(  # type: ignore[misc]
                connection, registry, changes, work.now
            )
        )


def _count_known(work: _Import, piece: Iterable[Any]) -> int:
    """How many tags were taken; those of unknown hosts are noted."""
    count = 0
    for row in piece:
        if work.registry_of(row) is None:
            work.report.unknown_hosts[normalise_host(row.registry) or row.registry] += 1
        elif _digest(row.digest) is not None:
            count += 1
    return count


def _apply(connection: Connection, registry: EventRegistry, changes: Changes, now: datetime) -> None:
    registry_id = ensure_registry(connection, registry, now)
    # What must be read is not noted: the next crawl reads everything that is still there.
    if apply_changes(connection, Place(registry_id, normalise_host(registry.url)), changes, now).is_changed:
        connection.execute(update(registries).where(registries.c.id == registry_id).values(changed_at=to_micros(now)))


def _fold_live(changes: Changes, row: Any, digest: Digest) -> None:
    pushed = _utc(row.pushed)
    _note_content(changes, changes.manifests, (row.repository, digest), pushed, _later(row.pulled))
    if row.tag:
        changes.points.add(TagPoint(row.repository, row.tag, pushed, digest))
        _note_host(changes, row, pushed)


def _fold_deleted(changes: Changes, row: Any, digest: Digest) -> None:
    pushed, pulled = _utc(row.pushed), _later(row.pulled)
    _note_content(changes, changes.manifests, (row.repository, digest), pushed, pulled)
    # The server's clock need not agree with the registry's: gone is always later than the last push.
    deleted = max(row.deleted, pushed + _INSTANT)
    if row.is_removed:
        alive_at = max(pushed, pulled) if pulled is not None else pushed
        changes.removals.add(Removal(row.repository, digest, max(deleted, alive_at + _INSTANT)))
    if not row.tag:
        return
    changes.points.add(TagPoint(row.repository, row.tag, pushed, digest))
    if row.pushed_again is not None:
        deleted = min(deleted, _utc(row.pushed_again) - _INSTANT)
    if deleted > pushed:
        changes.points.add(TagPoint(row.repository, row.tag, deleted, None))


def _fold_blob(changes: Changes, row: Any, digest: Digest) -> None:
    pushed, pulled = _utc(row.pushed), _later(row.pulled)
    _note_content(changes, changes.blobs, (row.repository, digest), pushed, pulled)
    if row.deleted is not None:
        alive_at = max(pushed, pulled) if pulled is not None else pushed
        changes.removals.add(Removal(row.repository, digest, max(row.deleted, alive_at + _INSTANT)))


def _note_content(
    changes: Changes,
    known: dict[tuple[str, Digest], ContentChange],
    key: tuple[str, Digest],
    pushed: datetime,
    pulled: datetime | None,
) -> None:
    alive_at = pushed if pulled is None else max(pushed, pulled)
    change = ContentChange(
        first_at=pushed,
        alive_at=alive_at,
        pushed_at=pushed,
        # regstat did not tell use from other pulls; taking all for use keeps more.
        pulled_at=pulled,
        fetched_at=pulled,
        media_type=_MEDIA_TYPE if known is changes.manifests else "",
    )
    if key in known:
        known[key].join(change)
    else:
        known[key] = change
    changes.repositories[key[0]] = min(changes.repositories.get(key[0], pushed), pushed)


def _note_host(changes: Changes, row: Any, at: datetime) -> None:
    named = (at, row.registry)
    key = (row.repository, row.tag)
    changes.hosts[key] = max(changes.hosts.get(key, named), named)


def _save_links(connection: Connection, work: _Import, piece: Iterable[Any]) -> None:
    """Let manifests that were never read have the blobs that regstat knew; of deleted ones nobody else will tell."""
    wanted = {
        digest.to_bytes(): sorted({blob.to_bytes() for text in row.blob_digests if (blob := _digest(text)) is not None})
        for row in piece
        if (digest := _digest(row.manifest_digest)) is not None and digest.to_bytes() in work.manifest_digests
    }
    ids = bulk_ids(connection, blobs, "digest", {key for keys in wanted.values() for key in keys})
    for chunk in chunked(sorted(wanted)):
        unread = select(manifests.c.digest).where(
            manifests.c.digest.in_(chunk), manifests.c.state == "unread", func.length(manifests.c.blob_ids) == 0
        )
        for key in list(connection.execute(unread).scalars()):
            packed, _ = pack_blob_ids((), [ids[blob] for blob in wanted[bytes(key)] if blob in ids])
            connection.execute(update(manifests).where(manifests.c.digest == key).values(blob_ids=packed))


def _digest(text: str) -> Digest | None:
    try:
        return Digest.parse(text)
    except InputError:
        return None


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC)


def _later(moment: datetime | None) -> datetime | None:
    return None if moment is None else _utc(moment)
