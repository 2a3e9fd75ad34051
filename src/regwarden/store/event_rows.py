"""Single events as rows, each once for its source."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import bindparam, select
from sqlalchemy.engine import Connection

from regwarden.core.events import Event
from regwarden.store.bulk import bulk_upsert
from regwarden.store.chunks import chunked
from regwarden.store.event_schema import events
from regwarden.store.times import to_micros

Kept = tuple[Event, int, datetime, str]  # an event, its delivery, when that was received, its pull class

_KEY: Final = ("source", "event_id")
_KNOWN: Final = select(events.c.event_id).where(
    events.c.source == bindparam("of_source"), events.c.event_id.in_(bindparam("ids", expanding=True))
)


def insert_new_events(
    connection: Connection, source: str, registry_id: int | None, kept: Sequence[Kept], *, state: str
) -> frozenset[str]:
    """Keep events of one source; returns the ids of those that were not known."""
    ids = [event.event_id for event, *_ in kept]
    # Another process may be at the same events: its insert is waited for, and then they are known.
    lock_events(connection, source)
    known: set[str] = set()
    for chunk in chunked(ids):
        known.update(connection.execute(_KNOWN, {"of_source": source, "ids": chunk}).scalars())
    rows = [_row(source, registry_id, one, state) for one in kept if one[0].event_id not in known]
    bulk_upsert(connection, events, rows, conflict=_KEY)
    return frozenset(ids) - known


def lock_events(connection: Connection, source: str) -> None:
    """Let no other process apply events of a source (a registry's name) until the transaction ends."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtextextended(%s, 7))", (source,))


def _row(source: str, registry_id: int | None, kept: Kept, state: str) -> dict[str, Any]:
    event, delivery_id, received_at, pull_class = kept
    return {
        "source": source,
        "event_id": event.event_id,
        "registry_id": registry_id,
        "delivery_id": delivery_id,
        "state": state,
        "action": str(event.action),
        "at": to_micros(event.at),
        "sent_at": to_micros(event.sent_at),
        "received_at": to_micros(received_at),
        "target": str(event.target),
        "repository": event.repository,
        "tag": event.tag,
        "digest": None if event.digest is None else event.digest.to_bytes(),
        "media_type": event.media_type,
        "size_bytes": event.size_bytes,
        "other_repository": event.other_repository,
        "pull_class": pull_class,
        "method": event.method,
        "actor": event.actor,
        "user_agent": event.user_agent,
        "address": event.address,
        "host": event.host,
        "request_id": event.request_id,
        "instance_id": event.instance_id,
    }
