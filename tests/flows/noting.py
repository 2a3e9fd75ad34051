"""Events as a registry sends them, put into the inventory without a service."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import count
from typing import Any

from sqlalchemy import insert

from regwarden.flows.ingest import Applier, EventRegistry, Folding
from regwarden.store.event_schema import deliveries
from regwarden.store.times import to_micros
from regwarden.testing.content import BuiltManifest
from tests.crawling import NAME, Inventory

_numbers = count(1)


def pushed(inventory: Inventory, repository: str, manifest: BuiltManifest, tag: str = "") -> dict[str, Any]:
    """The event of a push, as Distribution 2.8 sends it, now."""
    target = {
        "mediaType": manifest.media_type,
        "size": len(manifest.payload),
        "digest": str(manifest.digest),
        "repository": repository,
    }
    return {
        "id": f"event-{next(_numbers)}",
        "timestamp": inventory.now().isoformat(),
        "action": "push",
        "target": target | ({"tag": tag} if tag else {}),
        "request": {"id": "1", "addr": "192.0.2.1:4", "host": "r", "method": "PUT", "useragent": "docker/20"},
        "source": {"addr": "registry:5000", "instanceID": "one"},
    }


async def note(inventory: Inventory, events: Iterable[dict[str, Any]]) -> None:
    """Let the inventory take events in, as after a delivery."""
    body = json.dumps({"events": list(events)}).encode()
    row = {
        "registry": NAME,
        "received_at": to_micros(inventory.now()),
        "sender": "192.0.2.2",
        "state": "pending",
        "body_bytes": len(body),
        "body": body,
    }
    await inventory.database.write(lambda connection: connection.execute(insert(deliveries), row))
    folding = Folding("", lambda _: "other", frozenset(), (EventRegistry(NAME, inventory.url),))
    await Applier(inventory.database, inventory.now, folding).drain()
