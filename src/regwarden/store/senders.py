"""Which processes of a registry send notifications, and has one of them been started again?

A registry process keeps what it has not delivered in memory alone, so a new one beside known ones means that something
may have been lost: the registry is crawled. One that starts again and again is not crawled without a pause.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from regwarden.store.bulk import Join, bulk_join
from regwarden.store.chunks import chunked
from regwarden.store.event_schema import senders
from regwarden.store.rereads import Reread
from regwarden.store.times import to_micros

RESTARTED: Final = "sender-restarted"
MOST_STARTS: Final = 3
STARTS_WITHIN: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Sender:
    """A process that sent an event: its id, which changes at every start, its address, when we received the event."""

    instance_id: str
    address: str
    received_at: datetime


def note_senders(connection: Connection, registry_id: int, seen: Iterable[Sender], now: datetime) -> list[Reread]:
    """Keep who sends. Returns a crawl of the registry if there is a new process beside known ones.

    It is due at once, or after a while if ``MOST_STARTS`` processes were new within ``STARTS_WITHIN``.
    """
    rows: dict[str, tuple[str, int, int]] = {}
    for one in seen:
        if one.instance_id:
            at = to_micros(one.received_at)
            address, first, last = rows.get(one.instance_id, (one.address, at, at))
            rows[one.instance_id] = (max(address, one.address), min(first, at), max(last, at))
    of_registry = select(senders.c.instance_id).where(senders.c.registry_id == registry_id)
    # Never all of them: there is one for each start of each process, and whoever sends may make up more.
    known: set[str] = set()
    for chunk in chunked(sorted(rows)):
        known.update(connection.execute(of_registry.where(senders.c.instance_id.in_(chunk))).scalars())
    has_others = bool(known) or connection.execute(of_registry.limit(1)).first() is not None
    recent = select(func.count()).where(
        senders.c.registry_id == registry_id, senders.c.first_at > to_micros(now - STARTS_WITHIN)
    )
    is_frequent = connection.execute(recent).scalar_one() >= MOST_STARTS
    bulk_join(
        connection,
        senders,
        [
            {
                "registry_id": registry_id,
                "instance_id": instance,
                "address": address,
                "first_at": first,
                "last_at": last,
            }
            for instance, (address, first, last) in rows.items()
        ],
        Join(least=("first_at",), greatest=("last_at",)),
    )
    if not has_others or known.issuperset(rows):
        return []
    return [Reread(registry_id, "", "", RESTARTED, now + STARTS_WITHIN if is_frequent else now)]
