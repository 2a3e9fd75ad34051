"""A small inventory of one nested index, and what belongs together in it; shared by tests of the allow-list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import insert
from sqlalchemy.engine import Connection

from regwarden.core.oci.digests import Digest
from regwarden.store import schema
from regwarden.store.allow import AllowRecord, save_entry
from regwarden.store.database import Database
from regwarden.store.times import to_micros

NOW = datetime(2026, 11, 1, tzinfo=UTC)
DAY = timedelta(days=1)
# number of a manifest → numbers of its children; manifests without any have a config.
CHILDREN: Mapping[int, Sequence[int]] = {1: (2, 3), 3: (4, 5)}
MANIFESTS = range(1, 8)


def named(what: str, number: int) -> str:
    """A digest: ``manifest`` 3, or ``config`` 3 of it."""
    return str(Digest.of(f"{what} {number}".encode()))


def stored(text: str) -> bytes:
    """The stored form of a digest."""
    return Digest.parse(text).to_bytes()


def insert_manifest(connection: Connection, number: int, *, state: str = "read") -> None:
    """A manifest with its number as id, and what it lists, as far as that was read."""
    is_index = number in CHILDREN
    values: dict[str, Any] = {
        "id": number,
        "digest": stored(named("manifest", number)),
        "state": state,
        "media_type": "",
        "is_index": int(is_index),
        "config_digest": None if is_index or state != "read" else stored(named("config", number)),
        "size_bytes": 1,
        "blob_ids": b"",
    }
    connection.execute(insert(schema.manifests), values)


def insert_children(connection: Connection, parent: int) -> None:
    """What an index lists."""
    rows = [{"parent_id": parent, "position": at, "child_id": child} for at, child in enumerate(CHILDREN[parent])]
    connection.execute(insert(schema.manifest_children), rows)


def insert_inventory(connection: Connection, url: str = "https://reg.example.com") -> None:
    """Registry ``prod`` with ``team/app``: 1 is an index of 2 and the index 3, which lists 4 and 5; 6 and 7 are apart.

    Tags: 1.0 → 1, six → 6, moved → 7 (an hour ago).
    """
    at = to_micros(NOW - 10 * DAY)
    registry = {"id": 1, "name": "prod", "url": url, "kind": "distribution", "first_seen_at": at}
    connection.execute(insert(schema.registries), registry)
    place = {"id": 1, "registry_id": 1, "name": "team/app", "first_seen_at": at, "seen_at": at, "state": "complete"}
    connection.execute(insert(schema.repositories), place)
    for number in MANIFESTS:
        insert_manifest(connection, number)
        there = {"repository_id": 1, "manifest_id": number, "first_seen_at": at}
        connection.execute(insert(schema.repository_manifests), there)
    for parent in CHILDREN:
        insert_children(connection, parent)
    for number, (name, since) in {1: ("1.0", at), 6: ("six", at), 7: ("moved", to_micros(NOW) - 3600 * 10**6)}.items():
        tag = {"repository_id": 1, "name": name, "manifest_id": number, "state": "ok", "first_seen_at": at}
        connection.execute(insert(schema.tags), {**tag, "tagged_at": since})


def add(database: Database, image: str = "", *, effect: str = "allow", **fields: Any) -> int:
    """Put an entry on the list as ``allow add`` would."""
    digest = image.rpartition("@")[2] if image.rpartition("@")[2].startswith("sha256:") else ""
    record = AllowRecord(effect=effect, image=image, digest=digest, made_at=NOW, made_by="ann", **fields)
    return database.write_now(lambda connection: save_entry(connection, record))
