"""What is in the allow-list under ids of imagelist's interface? Lists, finds, puts and deletes these entries.

An entry is in that interface while ``imagelist_id`` is set. Each change is counted first: the row of the count is
locked until the transaction ends, so that changes of several processes come one after the other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import Column, Select, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.sql.elements import ColumnElement

from regwarden.core.oci.digests import Digest
from regwarden.store.allow_schema import allow_entries
from regwarden.store.audit import record
from regwarden.store.bulk import bulk_upsert, excluded
from regwarden.store.changes import ALLOW, note_change
from regwarden.store.times import from_micros, to_micros

SORTS: Final = ("created_at", "updated_at", "name", "id")
_COLUMNS: Final = {
    "id": allow_entries.c.imagelist_id,
    "name": allow_entries.c.name,
    "created_at": allow_entries.c.made_at,
    "updated_at": allow_entries.c.updated_at,
}
_IMAGES: Final = select(
    allow_entries.c.imagelist_id,
    allow_entries.c.name,
    allow_entries.c.tags,
    allow_entries.c.made_at,
    allow_entries.c.updated_at,
).where(allow_entries.c.imagelist_id.is_not(None))
_SHA256: Final = re.compile(r"[0-9a-f]{64}|(?:.*[^0-9A-Za-z])?sha256:([0-9a-f]{64})(?![0-9A-Za-z]).*", re.DOTALL)
_PIECE_ROWS: Final = 1_000
_PUT: Final = "imagelist-put"
_DELETED: Final = "imagelist-delete"


class ImagelistImage(NamedTuple):
    """One image as imagelist's interface shows it; times are aware UTC, ``tags`` is None if none were ever given."""

    id: str
    name: str
    tags: tuple[str, ...] | None
    created_at: datetime
    updated_at: datetime


def ping(connection: Connection) -> None:
    """Ask the database something. Raises what the database raises."""
    connection.execute(select(allow_entries.c.id).limit(1)).all()


def list_images(connection: Connection, *, name: str = "", sort: str = "updated_at") -> Iterator[ImagelistImage]:
    """All images, or those called ``name``; always descending by one of ``SORTS``, then by id.

    Whatever else ``sort`` is means ``updated_at``.
    """
    column = _COLUMNS.get(sort, _COLUMNS["updated_at"])
    statement = _IMAGES.order_by(column.desc(), allow_entries.c.imagelist_id.desc())
    if name:
        statement = statement.where(allow_entries.c.name == name)
    streamed = connection.execution_options(stream_results=True, yield_per=_PIECE_ROWS)
    for row in streamed.execute(statement):
        yield _read(row)


def find_image(connection: Connection, image_id: str) -> ImagelistImage | None:
    """The image with this id, if there is one."""
    row = connection.execute(_with_id(image_id)).one_or_none()
    return None if row is None else _read(row)


def put_image(
    connection: Connection, image: tuple[str, str, Sequence[str] | None], *, principal: str, now: datetime
) -> ImagelistImage:
    """Put an image (id, name, tags) as imagelist did, at ``now`` (aware UTC), and say what there is then.

    An unknown id is added. Of a known one the tags are replaced, if any list was given; its name never changes.
    Without a list nothing changes at all.
    """
    image_id, _, tags = image
    known = find_image(connection, image_id)
    if known is not None and tags is None:
        return known
    number = note_change(connection, ALLOW)
    row = build_row(image, principal=principal, at=now) | {"change_number": number}
    # Another process may have been first: its row is changed as if it had been found.
    put_rows(connection, [row], where=excluded(allow_entries.c.tags).is_not(None))
    stored = connection.execute(_with_id(image_id, allow_entries.c.change_number)).one()
    if stored.change_number == number:
        is_new = stored.made_at == stored.updated_at
        detail = {"name": stored.name, "tags": None if tags is None else list(tags), "is_new": is_new}
        record(connection, at=now, principal=principal, action=_PUT, subject=image_id, detail=detail)
    return _read(stored)


def delete_image(connection: Connection, image_id: str, *, principal: str, now: datetime) -> bool:
    """Remove an image at ``now`` (aware UTC); False if there was none. The row stays, for the audit."""
    if find_image(connection, image_id) is None:
        return False
    number = note_change(connection, ALLOW)
    values = {
        "imagelist_id": None,
        "removed_at": to_micros(now),
        "removed_by": principal,
        "change_number": number,
    }
    removed = connection.execute(update(allow_entries).where(allow_entries.c.imagelist_id == image_id).values(values))
    if not removed.rowcount:
        return False
    record(connection, at=now, principal=principal, action=_DELETED, subject=image_id)
    return True


def build_row(
    image: tuple[str, str, Sequence[str] | None], *, principal: str, at: datetime, updated_at: datetime | None = None
) -> dict[str, Any]:
    """The row of a new entry for an image (id, name, tags), without its ``change_number``; times are aware UTC."""
    image_id, name, tags = image
    return {
        "effect": "allow",
        "image": image_id,
        "digest": digest_of(image_id),
        "name": name,
        "tags": None if tags is None else msgspec.json.encode(list(tags)).decode(),
        "is_protecting": 1,
        "imagelist_id": image_id,
        "made_at": to_micros(at),
        "made_by": principal,
        "updated_at": to_micros(updated_at or at),
    }


def put_rows(connection: Connection, rows: Sequence[Mapping[str, Any]], *, where: ColumnElement[bool]) -> None:
    """Add rows with different ids; of ids that are there, the tags are replaced ``where`` that holds."""
    replaced = ("tags", "updated_at", "change_number")
    bulk_upsert(connection, allow_entries, rows, update=replaced, conflict=("imagelist_id",), where=where)


def digest_of(image_id: str) -> bytes | None:
    """The digest that an id names, stored form: 64 hexadecimal digits, or ``sha256:`` and these anywhere in it."""
    match = _SHA256.fullmatch(image_id)
    return None if match is None else Digest("sha256", match[1] or image_id).to_bytes()


def _with_id(image_id: str, *more: Column[Any]) -> Select[Any]:
    return _IMAGES.add_columns(*more).where(allow_entries.c.imagelist_id == image_id)


def _read(row: Any) -> ImagelistImage:
    return ImagelistImage(
        row.imagelist_id,
        row.name,
        None if row.tags is None else msgspec.json.decode(row.tags, type=tuple[str, ...]),
        from_micros(row.made_at),
        from_micros(row.updated_at),
    )
