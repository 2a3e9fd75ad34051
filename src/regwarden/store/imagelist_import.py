"""How do imagelist's rows become entries of the allow-list? As they are, with their times; the newer one stays.

What was removed here after imagelist last changed it is not brought back. A second import changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from regwarden.store.allow_schema import allow_entries
from regwarden.store.audit import record
from regwarden.store.bulk import excluded
from regwarden.store.changes import ALLOW, note_change
from regwarden.store.chunks import chunked
from regwarden.store.database import Database
from regwarden.store.imagelist import build_row, put_rows
from regwarden.store.imagelist_source import ImagelistSource, SourceImage, UnreadableRow
from regwarden.store.times import to_micros

_IMPORTED: Final = "imagelist-import"
_EARLIEST: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(slots=True)
class ImagelistReport:
    """What an import did with each row. ``problems`` names what could not be read, whole rows or only their tags."""

    image_count: int = 0
    added_count: int = 0
    updated_count: int = 0
    unchanged_count: int = 0
    removed_count: int = 0
    unreadable_count: int = 0
    problems: list[UnreadableRow] = field(default_factory=list)


class _Sorted(NamedTuple):
    """What is to be done with the rows of a piece."""

    added: list[SourceImage]
    updated: list[SourceImage]
    removed_count: int


def import_imagelist(database: Database, source: ImagelistSource, *, principal: str, now: datetime) -> ImagelistReport:
    """Take in every image of ``source``, in pieces that are each committed; interrupted, it can simply be done again.

    Moments that are missing there become ``now`` (aware UTC).
    """
    report = ImagelistReport()
    for piece in source.pieces():
        report.image_count += len(piece)
        unreadable = [row for row in piece if isinstance(row, UnreadableRow)]
        images = [row for row in piece if isinstance(row, SourceImage)]
        report.unreadable_count += len(unreadable)
        report.problems += unreadable
        report.problems += [UnreadableRow(image.id, image.problem) for image in images if image.problem]
        detail = {"source": source.place}
        done = database.write_now(
            lambda connection, images=images, detail=detail: _take(  # type: ignore[misc]
                connection, _newest(images), (principal, now, detail)
            )
        )
        report.added_count += len(done.added)
        report.updated_count += len(done.updated)
        report.removed_count += done.removed_count
        report.unchanged_count += len(images) - len(done.added) - len(done.updated) - done.removed_count
    return report


def _newest(images: Sequence[SourceImage]) -> Mapping[str, SourceImage]:
    """One row of each id."""
    return {image.id: image for image in sorted(images, key=lambda image: image.updated_at or _EARLIEST)}


def _take(
    connection: Connection, images: Mapping[str, SourceImage], by: tuple[str, datetime, dict[str, Any]]
) -> _Sorted:
    principal, now, detail = by
    sorted_out = _sort_out(connection, images)
    if not sorted_out.added and not sorted_out.updated:
        return sorted_out
    number = note_change(connection, ALLOW)
    # Another process may have changed something while we waited for the lock.
    sorted_out = _sort_out(connection, images)
    rows = [
        build_row(
            (image.id, image.name, image.tags),
            principal=principal,
            at=image.created_at or image.updated_at or now,
            updated_at=image.updated_at or image.created_at or now,
        )
        | {"change_number": number}
        for image in (*sorted_out.added, *sorted_out.updated)
    ]
    put_rows(connection, rows, where=excluded(allow_entries.c.updated_at) > allow_entries.c.updated_at)
    counts = {"added_count": len(sorted_out.added), "updated_count": len(sorted_out.updated)}
    record(connection, at=now, principal=principal, action=_IMPORTED, detail=detail | counts)
    return sorted_out


def _sort_out(connection: Connection, images: Mapping[str, SourceImage]) -> _Sorted:
    known: dict[str, int] = {}
    removed: dict[str, int] = {}
    for ids in chunked(list(images)):
        found = select(allow_entries.c.imagelist_id, allow_entries.c.updated_at)
        known |= _pairs(connection, found.where(allow_entries.c.imagelist_id.in_(ids)))
        gone = select(allow_entries.c.image, func.max(allow_entries.c.removed_at)).where(
            allow_entries.c.image.in_(ids), allow_entries.c.removed_at.is_not(None), allow_entries.c.effect == "allow"
        )
        removed |= _pairs(connection, gone.group_by(allow_entries.c.image))
    result = _Sorted([], [], 0)
    for image in images.values():
        moment = to_micros(image.updated_at or image.created_at or _EARLIEST)
        if image.id in known:
            # Tags that could not be read replace nothing.
            if moment > known[image.id] and not image.problem:
                result.updated.append(image)
        elif removed.get(image.id, moment - 1) >= moment:
            result = result._replace(removed_count=result.removed_count + 1)
        else:
            result.added.append(image)
    return result


def _pairs(connection: Connection, statement: Any) -> dict[str, int]:
    return {str(key): int(value) for key, value in connection.execute(statement)}
