"""Deliveries that were set aside are looked at again: a registry was configured, or a newer release reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from regwarden import clock
from regwarden.errors import NotFound
from regwarden.flows.ingest import Applier
from regwarden.store.deliveries import (
    QUARANTINED,
    UNKNOWN_REGISTRY,
    Delivery,
    find_delivery,
    list_quarantine,
    replay,
)
from regwarden.store.installation import ensure_installation_id
from regwarden.wiring import build_folding, new_installation_id

if TYPE_CHECKING:
    from regwarden.settings_sources import LoadedSettings
    from regwarden.store.database import Database

_MOST: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Replayed:
    """How many deliveries were looked at again, the new events in them, and how many are set aside still or again."""

    delivery_count: int
    event_count: int
    left_count: int


async def replay_deliveries(
    database: Database, loaded: LoadedSettings, ids: Sequence[int] | None, registry: str | None
) -> Replayed:
    """Set deliveries to be looked at again, and do so; beside a service on PostgreSQL both may take a part of them."""
    count, missing = await database.write(lambda connection: _set_pending(connection, ids, registry))
    if missing:
        raise NotFound(
            f"delivery {missing[0]} is not in quarantine, or too little of it is kept",
            hint="`regwarden event quarantine list` shows what there is.",
        )
    installation = await database.write(lambda connection: ensure_installation_id(connection, new_installation_id()))
    applier = Applier(database, clock.now, build_folding(loaded.settings, installation))
    event_count = await applier.drain()
    left = await database.read(lambda connection: _still_aside(connection, ids, registry))
    return Replayed(count, event_count, left)


def _set_pending(connection: Any, ids: Sequence[int] | None, registry: str | None) -> tuple[int, list[int]]:
    """How many were set, or without doing anything the ids that cannot be."""
    if ids is not None:
        missing = [one for one in ids if not is_replayable(find_delivery(connection, one))]
        if missing:
            return 0, missing
    return replay(connection, ids, registry=registry), []


def is_replayable(delivery: Delivery | None) -> bool:
    """Whether a delivery was set aside and is kept whole."""
    return (
        delivery is not None
        and delivery.state in (QUARANTINED, UNKNOWN_REGISTRY)
        and delivery.body is not None
        and delivery.body_sha256 is None
    )


def _still_aside(connection: Any, ids: Sequence[int] | None, registry: str | None) -> int:
    if ids is None:
        return len(list_quarantine(connection, registry=registry, limit=_MOST))
    return sum(is_replayable(find_delivery(connection, one)) for one in ids)
