"""Do a registry's notifications arrive, and what stands between them and the inventory?"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from regwarden.store.drifts import LossReport, loss_report
from regwarden.store.event_schema import deliveries, events, rereads, senders
from regwarden.store.schema import crawls, registries
from regwarden.store.times import from_micros

_SENDERS = 20
_PROBLEMS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """A process of a registry that has sent events; each start of one has its own ``instance_id``."""

    instance_id: str
    address: str
    first_at: datetime
    last_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class FailingReread:
    """Something that must be read again and could not be; empty texts mean the whole registry or repository."""

    repository: str
    reference: str
    attempt_count: int
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationStatus:
    """What is known of one registry's notifications.

    ``events_since`` is when the first was received, ``delivered_at`` the last. ``pending_count`` are deliveries that
    wait to be applied, ``quarantined_count`` those that could not be read. ``senders`` are the latest of
    ``sender_count``, which come from ``sender_address_count`` addresses. ``has_blob_events``: uploads and pulls of
    blobs are told too. ``last_started_at`` is when the last crawl began.
    """

    events_since: datetime | None = None
    delivered_at: datetime | None = None
    pending_count: int = 0
    quarantined_count: int = 0
    sender_count: int = 0
    sender_address_count: int = 0
    senders: tuple[Sender, ...] = ()
    reread_count: int = 0
    failing_reread_count: int = 0
    failing_rereads: tuple[FailingReread, ...] = ()
    has_blob_events: bool = False
    last_started_at: datetime | None = None


def notification_status(connection: Connection, registry: str) -> NotificationStatus:
    """The status of the registry with this name; nothing but deliveries where the inventory does not have it."""
    counts = _delivery_counts(connection, registry)
    row = connection.execute(select(registries).where(registries.c.name == registry)).first()
    if row is None:
        return NotificationStatus(**counts)
    return NotificationStatus(
        events_since=from_micros(row.events_since),
        delivered_at=from_micros(row.delivered_at),
        has_blob_events=has_blob_events(connection, row.id),
        last_started_at=from_micros(
            connection.execute(select(func.max(crawls.c.started_at)).where(crawls.c.registry_id == row.id)).scalar_one()
        ),
        **counts,
        **_sender_facts(connection, row.id),
        **_reread_facts(connection, row.id),
    )


def loss_since(connection: Connection, registry: str, since: datetime) -> LossReport | None:
    """How complete the registry's events are by its crawls since then; ``None`` where the inventory has no such one."""
    registry_id = connection.execute(select(registries.c.id).where(registries.c.name == registry)).scalar()
    return None if registry_id is None else loss_report(connection, registry_id, since=since)


def has_blob_events(connection: Connection, registry_id: int | None = None) -> bool:
    """Whether a registry (any, if none is named) has told of uploads, mounts or pulls of blobs and it is remembered."""
    wanted = [events.c.target == "blob", events.c.registry_id.is_not(None)]
    if registry_id is not None:
        wanted.append(events.c.registry_id == registry_id)
    return connection.execute(select(events.c.id).where(*wanted).limit(1)).first() is not None


def _delivery_counts(connection: Connection, registry: str) -> dict[str, Any]:
    """Deliveries whose registry their event decides are counted for every registry: they may be of this one."""
    found = connection.execute(
        select(deliveries.c.state, func.count())
        .where(deliveries.c.state.in_(["pending", "quarantined"]), deliveries.c.registry.in_([registry, ""]))
        .group_by(deliveries.c.state)
    )
    counts = {row[0]: row[1] for row in found}
    return {"pending_count": counts.get("pending", 0), "quarantined_count": counts.get("quarantined", 0)}


def _sender_facts(connection: Connection, registry_id: int) -> dict[str, Any]:
    here = senders.c.registry_id == registry_id
    count, addresses = connection.execute(
        select(func.count(), func.count(senders.c.address.distinct())).where(here)
    ).one()
    latest = connection.execute(
        select(senders).where(here).order_by(senders.c.last_at.desc(), senders.c.instance_id).limit(_SENDERS)
    )
    shown = tuple(
        Sender(
            instance_id=row.instance_id,
            address=row.address,
            first_at=from_micros(row.first_at),
            last_at=from_micros(row.last_at),
        )
        for row in latest
    )
    return {"sender_count": count, "sender_address_count": addresses, "senders": shown}


def _reread_facts(connection: Connection, registry_id: int) -> dict[str, Any]:
    here = rereads.c.registry_id == registry_id
    failing = [here, rereads.c.problem != ""]
    worst = connection.execute(
        select(rereads).where(*failing).order_by(rereads.c.attempt_count.desc(), rereads.c.id).limit(_PROBLEMS)
    )
    return {
        "reread_count": connection.execute(select(func.count()).select_from(rereads).where(here)).scalar_one(),
        "failing_reread_count": connection.execute(
            select(func.count()).select_from(rereads).where(*failing)
        ).scalar_one(),
        "failing_rereads": tuple(
            FailingReread(
                repository=row.repository,
                reference=row.reference,
                attempt_count=row.attempt_count,
                problem=row.problem,
            )
            for row in worst
        ),
    }
