"""Notifications for tests: bodies as registries send them, and a store that takes them in."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from regwarden.core.events import Event
from regwarden.store.applying import Applied, EventRegistry, Folding, apply_pending
from regwarden.store.database import Database
from regwarden.store.event_schema import deliveries
from regwarden.store.times import to_micros

START = datetime(2026, 11, 1, 12, tzinfo=UTC)
RECEIVED = START + timedelta(days=60)
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
BLOB = "application/octet-stream"


def digest_of(number: int) -> str:
    return f"sha256:{number:064x}"


def number_of(digest: str) -> int:
    """The number of ``digest_of`` again, from the text or from the stored form in hexadecimal digits."""
    return int.from_bytes(bytes.fromhex(digest[-64:]), "big")


def event(action: str, repository: str, *, minute: float = 0, event_id: str = "", **extra: Any) -> dict[str, Any]:
    """One event of ``action``; ``tag``, ``digest`` and ``media_type`` make the target, the rest is the request's."""
    target: dict[str, Any] = {"repository": repository}
    for name, key in (("tag", "tag"), ("digest", "digest"), ("media_type", "mediaType"), ("size", "size")):
        if name in extra:
            target[key] = extra.pop(name)
    target |= extra.pop("target", {})
    moment = START + timedelta(minutes=minute)
    request = {
        "id": "r",
        "addr": "10.0.0.1:5",
        "host": "registry.example.test",
        "method": "GET",
        "useragent": "agent/1",
    }
    return {
        "id": event_id or f"{action}-{repository}-{minute}-{target.get('tag')}-{target.get('digest')}",
        "timestamp": moment.isoformat().replace("+00:00", "Z"),
        "action": action,
        "target": target,
        "request": request | extra,
        "actor": {},
        "source": {"addr": "registry-0:5000", "instanceID": "i"},
    }


def push(repository: str, tag: str | None, number: int, minute: float, **extra: Any) -> dict[str, Any]:
    named = {"tag": tag} if tag else {}
    return event(
        "push",
        repository,
        minute=minute,
        digest=digest_of(number),
        media_type=DOCKER_MANIFEST,
        size=500 + number,
        method="PUT",
        **named,
        **extra,
    )


def pull(repository: str, tag: str | None, number: int, minute: float, **extra: Any) -> dict[str, Any]:
    named = {"tag": tag} if tag else {}
    return event(
        "pull",
        repository,
        minute=minute,
        digest=digest_of(number),
        media_type=DOCKER_MANIFEST,
        size=500 + number,
        **named,
        **extra,
    )


def untag(repository: str, tag: str, minute: float) -> dict[str, Any]:
    return event("delete", repository, minute=minute, tag=tag, method="DELETE")


def remove(repository: str, number: int | None, minute: float) -> dict[str, Any]:
    named = {"digest": digest_of(number)} if number is not None else {}
    return event("delete", repository, minute=minute, method="DELETE", **named)


def envelope(*events: dict[str, Any]) -> bytes:
    return json.dumps({"events": list(events)}, indent=3, ensure_ascii=False).encode()


def classify(found: Event) -> str:
    """A class for tests: the user agent up to its slash, where that is a class."""
    word = found.user_agent.partition("/")[0]
    return word if word in ("scanner", "workload", "ci") else "other"


FOLDING = Folding(
    installation="1234567890abcdef",
    classify=classify,
    use=frozenset({"workload", "ci", "human", "other"}),
    registries=(EventRegistry("prod", "https://registry.example.test", hosts=("alias.example.test:443",)),),
)


def store_bodies(
    database: Database, bodies: Iterable[bytes], *, registry: str = "prod", received_at: datetime | None = None
) -> None:
    at = to_micros(received_at or RECEIVED)
    rows = [
        {
            "registry": registry,
            "received_at": at,
            "sender": "10.0.0.9",
            "state": "pending",
            "body_bytes": len(body),
            "body": body,
        }
        for body in bodies
    ]
    if rows:
        database.write_now(lambda connection: connection.execute(deliveries.insert(), rows))


def apply_all(
    database: Database, *, folding: Folding = FOLDING, limit: int = 100, now: datetime | None = None
) -> Applied:
    """Apply everything that is pending; returns the sums."""
    total = Applied()
    moment = now or RECEIVED
    while True:
        applied = database.write_now(lambda connection: apply_pending(connection, folding, now=moment, limit=limit))
        if not applied.delivery_count:
            return total
        total.has_rereads = total.has_rereads or applied.has_rereads
        for name in (
            "delivery_count",
            "event_count",
            "duplicate_count",
            "own_count",
            "quarantined_count",
            "unknown_count",
        ):
            setattr(total, name, getattr(total, name) + getattr(applied, name))


def take_in(database: Database, *events: dict[str, Any], **options: Any) -> Applied:
    """Deliver each event in an envelope of its own, as registries do, and apply them."""
    store_bodies(database, [envelope(one) for one in events])
    return apply_all(database, **options)


STATE = (
    (
        "SELECT r.name, t.name, m.digest, t.state, t.first_seen_at, t.tagged_at, t.event_at FROM tags t"
        " JOIN repositories r ON r.id = t.repository_id JOIN manifests m ON m.id = t.manifest_id"
    ),
    (
        "SELECT r.name, m.digest, x.first_seen_at, x.pushed_at, x.pulled_at, x.fetched_at, x.checked_at, x.alive_at,"
        " x.deleted_at FROM repository_manifests x JOIN repositories r ON r.id = x.repository_id"
        " JOIN manifests m ON m.id = x.manifest_id"
    ),
    (
        "SELECT r.name, b.digest, x.first_seen_at, x.pushed_at, x.pulled_at, x.alive_at, x.deleted_at"
        " FROM repository_blobs x JOIN repositories r ON r.id = x.repository_id JOIN blobs b ON b.id = x.blob_id"
    ),
    (
        "SELECT r.name, h.tag, h.at, h.digest, h.cause, h.effective_at FROM tag_history h"
        " JOIN repositories r ON r.id = h.repository_id"
    ),
    "SELECT r.name, d.digest, d.at FROM removals d JOIN repositories r ON r.id = d.repository_id",
    (
        "SELECT r.name, m.digest, p.tag, p.day, p.pull_class, p.method, p.pull_count, p.last_at FROM pull_days p"
        " JOIN repositories r ON r.id = p.repository_id JOIN manifests m ON m.id = p.manifest_id"
    ),
    "SELECT name, first_seen_at, deleted_at FROM repositories",
    "SELECT source, event_id, action, repository, tag, at FROM events",
    "SELECT digest, media_type, size_bytes FROM manifests",
)


def state_of(database: Database) -> list[list[tuple[Any, ...]]]:
    """Everything that events have made, without ids and without what tells when we learned it."""

    def read(connection: Any) -> list[list[tuple[Any, ...]]]:
        found = []
        for statement in STATE:
            rows = connection.exec_driver_sql(statement).all()
            found.append(sorted((tuple(_plain(value) for value in row) for row in rows), key=repr))
        return found

    return database.read_now(read)


def _plain(value: Any) -> Any:
    return bytes(value).hex() if isinstance(value, (bytes, memoryview)) else value


def tags_of(database: Database) -> dict[tuple[str, str], int]:
    """(repository, tag) → number of the digest."""
    rows = state_of(database)[0]
    return {(row[0], row[1]): number_of(row[2]) for row in rows}
