"""What is on the allow-list? Rows are never deleted: they end, and say when. Every change is counted.

The count is in the transaction of the change (``store.changes``), and locks: changes appear in the order of their
numbers, so that whoever read everything up to a number misses none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import ColumnElement, Select, and_, insert, or_, select, update
from sqlalchemy.engine import Connection

from regwarden.core.allowlist import AllowEntry
from regwarden.core.oci.digests import Digest
from regwarden.errors import NotFound
from regwarden.store.allow_schema import allow_entries
from regwarden.store.changes import ALLOW, note_change, read_changes
from regwarden.store.chunks import chunked
from regwarden.store.times import from_micros, to_micros

_ROWS: Final = 5_000
_DENY: Final = "deny"
_living: Final = allow_entries.c.removed_at.is_(None)


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowRecord:
    """An entry as it is kept. ``effect`` is allow or deny, ``digest`` is ``algorithm:hex`` or empty."""

    id: int = 0
    effect: str
    image: str = ""
    digest: str = ""
    pattern: str = ""
    name: str = ""
    tags: tuple[str, ...] = ()
    clusters: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    not_before: datetime | None = None
    expires_at: datetime | None = None
    reason: str = ""
    evidence: Mapping[str, str] = field(default_factory=dict)
    is_protecting: bool = True
    imagelist_id: str | None = None
    made_at: datetime
    made_by: str
    updated_at: datetime | None = None
    removed_at: datetime | None = None
    removed_by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowFilter:
    """Which entries are wanted. With ``now`` only those not removed and not over then; ``after_id`` begins a page."""

    effect: str | None = None
    image: str | None = None
    digest: bytes | None = None
    now: datetime | None = None
    after_id: int = 0
    limit: int | None = None


class Changed(NamedTuple):
    """What became of the list: entries that are new or other now, numbers of those that ended."""

    number: int
    entries: list[AllowEntry]
    removed: list[int]


def save_entry(connection: Connection, record: AllowRecord) -> int:
    """Put an entry on the list. Returns its id; that of ``record`` does not matter."""
    number = note_change(connection, ALLOW)
    values = {
        "effect": record.effect,
        "image": record.image,
        "digest": Digest.parse(record.digest).to_bytes() if record.digest else None,
        "pattern": record.pattern,
        "name": record.name,
        "tags": _json(record.tags) if record.tags else None,
        "scope": _json(_scope(record)),
        "not_before": to_micros(record.not_before),
        "expires_at": to_micros(record.expires_at),
        "reason": record.reason,
        "evidence": _json(dict(record.evidence)),
        "is_protecting": int(record.is_protecting),
        "imagelist_id": record.imagelist_id,
        "made_at": to_micros(record.made_at),
        "made_by": record.made_by,
        "updated_at": to_micros(record.updated_at or record.made_at),
        "change_number": number,
    }
    return int(connection.execute(insert(allow_entries).values(values).returning(allow_entries.c.id)).scalar_one())


def remove_entry(connection: Connection, entry_id: int, by: str, at: datetime) -> AllowRecord:
    """End an entry and give it back. Raises ``NotFound`` (code ``no-allow-entry``) if there is none to end."""
    number = note_change(connection, ALLOW)
    ended = connection.execute(
        update(allow_entries)
        .where(allow_entries.c.id == entry_id, _living)
        .values(removed_at=to_micros(at), removed_by=by, change_number=number, imagelist_id=None)
    )
    if not ended.rowcount:
        raise missing_entry(entry_id)
    return load_entry(connection, entry_id)


def load_entry(connection: Connection, entry_id: int) -> AllowRecord:
    """An entry, ended or not. Raises ``NotFound`` (code ``no-allow-entry``)."""
    row = connection.execute(select(allow_entries).where(allow_entries.c.id == entry_id)).one_or_none()
    if row is None:
        raise missing_entry(entry_id)
    return _record(row)


def list_entries(connection: Connection, wanted: AllowFilter) -> list[AllowRecord]:
    """Entries that fit, by id."""
    rows = connection.execute(_filtered(wanted).order_by(allow_entries.c.id).limit(wanted.limit))
    return [_record(row) for row in rows]


def read_number(connection: Connection) -> int:
    """The number of the last change of the list."""
    return read_changes(connection).get(ALLOW, 0)


def load_changed(connection: Connection, after: int) -> Changed:
    """What became of the list after the change with this number."""
    number = read_number(connection)
    entries: list[AllowEntry] = []
    removed: list[int] = []
    if number == after:
        return Changed(number, entries, removed)
    changed = _entries().add_columns(allow_entries.c.removed_at).where(allow_entries.c.change_number > after)
    for row in connection.execute(changed):
        if row.removed_at is None:
            entries.append(_entry(row))
        else:
            removed.append(row.id)
    return Changed(number, entries, removed)


def iterate_entries(connection: Connection) -> Iterator[AllowEntry]:
    """Every entry that nobody removed, those too that are over or not yet valid."""
    rows = connection.execute(_entries().where(_living), execution_options={"yield_per": _ROWS})
    return map(_entry, rows)


def load_candidates(connection: Connection, digests: Iterable[bytes], texts: Iterable[str]) -> list[AllowEntry]:
    """The entries that can be about one image: by digest (stored form), by text, and all that have a pattern only."""
    columns = allow_entries.c
    conditions: list[ColumnElement[bool]] = [and_(columns.digest.is_(None), columns.image == "")]
    conditions += [columns.digest.in_(some) for some in chunked(sorted(digests))]
    conditions += [columns.image.in_(some) for some in chunked(sorted(texts))]
    found: dict[int, AllowEntry] = {}
    for condition in conditions:
        found.update((row.id, _entry(row)) for row in connection.execute(_entries().where(_living, condition)))
    return list(found.values())


def starts_with(column: ColumnElement[Any], prefix: str) -> ColumnElement[bool]:
    """Whether a text begins so, by a range of an index; ``prefix`` ends in a character that is no last one."""
    return and_(column >= prefix, column < prefix[:-1] + chr(ord(prefix[-1]) + 1))


def _filtered(wanted: AllowFilter) -> Select[Any]:
    columns = allow_entries.c
    statement = select(allow_entries).where(columns.id > wanted.after_id)
    if wanted.effect is not None:
        statement = statement.where(columns.effect == wanted.effect)
    if wanted.digest is not None:
        statement = statement.where(or_(columns.digest == wanted.digest, columns.image == wanted.image))
    elif wanted.image is not None:
        statement = statement.where(or_(columns.image == wanted.image, columns.name == wanted.image))
    if wanted.now is not None:
        ends = columns.expires_at
        statement = statement.where(_living, or_(ends.is_(None), ends > to_micros(wanted.now)))
    return statement


def _entries() -> Select[Any]:
    columns = allow_entries.c
    return select(
        columns.id,
        columns.effect,
        columns.image,
        columns.digest,
        columns.pattern,
        columns.tags,
        columns.scope,
        columns.not_before,
        columns.expires_at,
        columns.reason,
        columns.imagelist_id,
    )


def _entry(row: Any) -> AllowEntry:
    number, effect, image, digest, pattern, tags, scope, not_before, expires_at, reason, imagelist_id = row[:11]
    clusters, namespaces = _places(scope)
    is_listed = imagelist_id is not None
    is_deny = effect == _DENY
    return AllowEntry(
        number,
        is_deny,
        "" if digest is not None else image,
        digest if digest is None else bytes(digest),
        pattern,
        () if tags is None or is_listed else _texts(tags),
        clusters,
        namespaces,
        from_micros(not_before),
        from_micros(expires_at),
        reason if is_deny else "",
        is_listed,
    )


def _record(row: Any) -> AllowRecord:
    clusters, namespaces = _places(row.scope)
    return AllowRecord(
        id=row.id,
        effect=row.effect,
        image=row.image,
        digest="" if row.digest is None else str(Digest.from_bytes(row.digest)),
        pattern=row.pattern,
        name=row.name,
        tags=() if row.tags is None else _texts(row.tags),
        clusters=clusters,
        namespaces=namespaces,
        not_before=from_micros(row.not_before),
        expires_at=from_micros(row.expires_at),
        reason=row.reason,
        evidence=msgspec.json.decode(row.evidence, type=dict[str, str]),
        is_protecting=bool(row.is_protecting),
        imagelist_id=row.imagelist_id,
        made_at=from_micros(row.made_at),
        made_by=row.made_by,
        updated_at=from_micros(row.updated_at),
        removed_at=from_micros(row.removed_at),
        removed_by=row.removed_by,
    )


def _scope(record: AllowRecord) -> dict[str, list[str]]:
    places = {"clusters": list(record.clusters), "namespaces": list(record.namespaces)}
    return {name: values for name, values in places.items() if values}


def _places(scope: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if scope == "{}":
        return (), ()
    places = msgspec.json.decode(scope, type=dict[str, list[str]])
    return tuple(places.get("clusters", ())), tuple(places.get("namespaces", ()))


def _texts(text: str) -> tuple[str, ...]:
    return tuple(msgspec.json.decode(text, type=list[str]))


def _json(value: Any) -> str:
    return msgspec.json.encode(value, order="deterministic").decode()


def missing_entry(entry_id: int) -> NotFound:
    """That there is no entry with this number, also for those who may not know that there is."""
    hint = "Run: regwarden allow list"
    return NotFound(f"there is no allow entry {entry_id}", hint=hint, code="no-allow-entry")
