"""Which manifests can be put back? The exact bytes of everything that was removed and of all that it leads to.

Each manifest is kept once, whatever the number of steps that need it. Bytes that do not have their digest are never
kept, and never given back.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import select
from sqlalchemy.engine import Connection

from regwarden.core.oci.digests import Digest
from regwarden.errors import StoreError
from regwarden.store.bulk import bulk_upsert
from regwarden.store.chunks import chunked
from regwarden.store.cleanup_schema import trash, trash_entries


class Role(StrEnum):
    """Why a step needs a manifest to be undone."""

    DELETED = "deleted"
    UNTAGGED = "untagged"
    DESCENDANT = "descendant"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrashEntry:
    """A manifest that a step needs: ``payload`` are its exact bytes."""

    position: int
    digest: str
    role: Role
    media_type: str
    payload: bytes


def put(connection: Connection, plan_id: int, entries: Sequence[TrashEntry]) -> None:
    """Keep what the steps of a plan are about to remove; keeping it again changes nothing.

    Raises ``StoreError`` (code ``trash-digest``) if the bytes of one do not have its digest; nothing is kept then.
    """
    digests = {one.digest: Digest.parse(one.digest) for one in entries}
    for one in entries:
        if not digests[one.digest].matches(one.payload):
            raise _mismatch(one.digest)
    contents = {
        one.digest: {
            "digest": digests[one.digest].to_bytes(),
            "media_type": one.media_type,
            "payload": zlib.compress(one.payload),
        }
        for one in entries
    }
    bulk_upsert(connection, trash, list(contents.values()))
    rows = [
        {
            "plan_id": plan_id,
            "position": one.position,
            "digest": digests[one.digest].to_bytes(),
            "role": str(one.role),
        }
        for one in entries
    ]
    bulk_upsert(connection, trash_entries, rows)


def load(connection: Connection, plan_id: int, *, positions: Collection[int] | None = None) -> tuple[TrashEntry, ...]:
    """What is kept for a plan, or for some of its steps, by position and digest.

    Raises ``StoreError`` (code ``trash-digest``) if stored bytes do not have their digest any more.
    """
    statement = (
        select(trash_entries.c.position, trash_entries.c.role, trash)
        .join_from(trash_entries, trash, trash_entries.c.digest == trash.c.digest)
        .where(trash_entries.c.plan_id == plan_id)
        .order_by(trash_entries.c.position, trash_entries.c.digest)
    )
    if positions is None:
        return tuple(_entry(row) for row in connection.execute(statement))
    return tuple(
        _entry(row)
        for chunk in chunked(sorted(positions))
        for row in connection.execute(statement.where(trash_entries.c.position.in_(chunk)))
    )


def load_digests(connection: Connection, plan_id: int, positions: Collection[int]) -> set[str]:
    """The digests of everything that is kept for some steps of a plan."""
    found: set[str] = set()
    for chunk in chunked(sorted(positions)):
        statement = select(trash_entries.c.digest).where(
            trash_entries.c.plan_id == plan_id, trash_entries.c.position.in_(chunk)
        )
        found.update(str(Digest.from_bytes(stored)) for stored in connection.execute(statement).scalars())
    return found


def _entry(row: Any) -> TrashEntry:
    digest = Digest.from_bytes(row.digest)
    try:
        payload = zlib.decompress(row.payload)
    except zlib.error:
        raise _mismatch(str(digest)) from None
    if not digest.matches(payload):
        raise _mismatch(str(digest))
    return TrashEntry(
        position=row.position, digest=str(digest), role=Role(row.role), media_type=row.media_type, payload=payload
    )


def _mismatch(digest: str) -> StoreError:
    message = f"the kept bytes of {digest} do not have this digest"
    return StoreError(message, hint="It can neither be removed nor be put back.", code="trash-digest")
