"""How are deliveries kept as they arrived, and which of them wait, could not be read, or belong to nobody known?"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Select, and_, delete, func, literal_column, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.sql.elements import ColumnElement

from regwarden.store.bulk import bulk_insert
from regwarden.store.event_schema import PENDING, SET_ASIDE, deliveries, events
from regwarden.store.schema import installation
from regwarden.store.times import from_micros, to_micros

QUARANTINED: Final = "quarantined"
UNKNOWN_REGISTRY: Final = "unknown-registry"
_IDS_CHUNK: Final = 500
# Written out, not bound: PostgreSQL may plan a prepared statement for any state, and then reads all rows.
IS_PENDING: Final = deliveries.c.state == literal_column(f"'{PENDING}'")
_IS_UNKNOWN: Final = events.c.state == literal_column(f"'{UNKNOWN_REGISTRY}'")


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """A body as it was received, ``body_bytes`` long; of one that is too large ``body`` is only the beginning.

    ``registry`` is empty where the host in each event decides. ``sender`` is the address of the peer.
    """

    registry: str
    received_at: datetime
    sender: str
    body: bytes
    body_bytes: int
    state: str = PENDING
    reason: str = ""
    body_sha256: bytes | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """A stored delivery. ``body`` is None in listings, and after it was purged."""

    id: int
    registry: str
    received_at: datetime
    sender: str
    state: str
    reason: str
    body_bytes: int
    event_count: int
    body: bytes | None = None
    body_sha256: bytes | None = None


@dataclass(frozen=True, slots=True)
class DeliveryCounts:
    """How many deliveries are not applied, by state, and when the oldest that waits was received."""

    pending_count: int
    quarantined_count: int
    unknown_registry_count: int
    oldest_pending_at: datetime | None


def insert_deliveries(connection: Connection, rows: Sequence[NewDelivery]) -> None:
    """Keep deliveries, in one statement."""
    bulk_insert(
        connection,
        deliveries,
        [
            {
                "registry": row.registry,
                "received_at": to_micros(row.received_at),
                "sender": row.sender,
                "state": row.state,
                "reason": row.reason,
                "body_bytes": row.body_bytes,
                "body": row.body,
                "body_sha256": row.body_sha256,
            }
            for row in rows
        ],
    )


def list_quarantine(
    connection: Connection, *, registry: str | None = None, limit: int, before_id: int | None = None
) -> list[Delivery]:
    """Deliveries that could not be read or whose registry is not known, the newest first, without their bodies.

    ``before_id`` continues a listing after the delivery with this id.
    """
    query = _listed().where(_is_set_aside()).order_by(deliveries.c.id.desc()).limit(limit)
    if registry is not None:
        query = query.where(deliveries.c.registry == registry)
    if before_id is not None:
        query = query.where(deliveries.c.id < before_id)
    return [_delivery(row) for row in connection.execute(query)]


def find_delivery(connection: Connection, delivery_id: int) -> Delivery | None:
    """The delivery with this id, with its body as far as it is kept."""
    query = _listed().add_columns(deliveries.c.body).where(deliveries.c.id == delivery_id)
    row = connection.execute(query).one_or_none()
    return None if row is None else _delivery(row, body=row.body)


def replay(connection: Connection, ids: Collection[int] | None, *, registry: str | None = None) -> int:
    """Let the applier look again at deliveries that were set aside: those with these ``ids``, or all. Returns how many.

    One of which only the beginning is kept, or nothing any more, stays where it is. Events that were kept because
    their registry was not known are forgotten: they come again from the body.
    """
    chosen = and_(_is_set_aside(), deliveries.c.body.is_not(None), deliveries.c.body_sha256.is_(None))
    if registry is not None:
        chosen = and_(chosen, deliveries.c.registry == registry)
    if ids is None:
        return _set_pending(connection, chosen)
    return sum(_set_pending(connection, and_(chosen, deliveries.c.id.in_(part))) for part in _chunks(sorted(set(ids))))


def replay_known(connection: Connection, sources: Collection[str]) -> int:
    """Let the applier look again at what came from ``sources`` (hosts, names) that have become known.

    Returns how many deliveries.
    """
    found = set(connection.execute(select(events.c.source).where(_IS_UNKNOWN).distinct()).scalars())
    ids: set[int] = set()
    for source in found & set(sources):
        ids |= set(
            connection.execute(select(events.c.delivery_id).where(_IS_UNKNOWN, events.c.source == source)).scalars()
        )
    return replay(connection, ids) if ids else 0


def probe_writing(connection: Connection) -> None:
    """Write, and leave everything as it was; raises if the database cannot be written."""
    connection.execute(update(installation).values(value=installation.c.value))


def count_deliveries(connection: Connection) -> DeliveryCounts:
    """What waits and what was set aside."""
    count, oldest = connection.execute(select(func.count(), func.min(deliveries.c.received_at)).where(IS_PENDING)).one()
    by_state = select(deliveries.c.state, func.count().label("number")).where(_is_set_aside())
    aside = {row.state: row.number for row in connection.execute(by_state.group_by(deliveries.c.state))}
    return DeliveryCounts(count, aside.get(QUARANTINED, 0), aside.get(UNKNOWN_REGISTRY, 0), from_micros(oldest))


def _set_pending(connection: Connection, chosen: ColumnElement[bool]) -> int:
    ids = list(connection.execute(select(deliveries.c.id).where(chosen)).scalars())
    for part in _chunks(ids):
        connection.execute(delete(events).where(_IS_UNKNOWN, events.c.delivery_id.in_(part)))
        connection.execute(update(deliveries).where(deliveries.c.id.in_(part)).values(state=PENDING, reason=""))
    return len(ids)


def _is_set_aside() -> ColumnElement[bool]:
    # Written out, so that both databases see that their partial index answers it.
    return deliveries.c.state.in_([literal_column(f"'{state}'") for state in SET_ASIDE])


def _listed() -> Select[Any]:
    return select(*[deliveries.c[name] for name in Delivery.__slots__ if name != "body"])


def _delivery(row: Any, *, body: bytes | None = None) -> Delivery:
    return Delivery(
        row.id,
        row.registry,
        from_micros(row.received_at),
        row.sender,
        row.state,
        row.reason,
        row.body_bytes,
        row.event_count,
        body=None if body is None else bytes(body),
        body_sha256=None if row.body_sha256 is None else bytes(row.body_sha256),
    )


def _chunks(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(ids), _IDS_CHUNK):
        yield ids[start : start + _IDS_CHUNK]
