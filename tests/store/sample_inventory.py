"""Small random inventories as plain rows, and what each list should show of them, worked out without SQL."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import delete, insert
from sqlalchemy.engine import Connection

from regwarden.core.ages import AgeUnit, age
from regwarden.core.fields import FIELDS
from regwarden.core.oci.digests import Digest
from regwarden.store import schema
from regwarden.store.packing import pack_blob_ids
from regwarden.store.times import from_micros, to_micros
from tests.store import sample_projects

NOW = datetime(2026, 11, 1, tzinfo=UTC)
TAG_NAMES = ("1.0.0", "1.2.3", "1.10", "2.0.0-rc1", "Latest", "latest", "v1.2.3", "sha-ab12", "main", "a_b%c", "x.y-z")
REPOSITORY_NAMES = ("a", "a-b", "a/b", "a/b/c", "B", "team/app", "team/app2", "zoo/x_y")
SIZES = (0, 1, 95, 4096, 2**20, 2**31, 5 * 10**9)
TIMES = tuple(to_micros(NOW - timedelta(days=days, seconds=5)) for days in (-3, 0, 1, 10, 30, 400))

CLOCKS = ("pulled_at", "fetched_at", "checked_at")

RawRow = dict[str, Any]


@dataclass
class Inventory:
    """Raw rows by table name."""

    rows: dict[str, list[RawRow]]

    def insert(self, connection: Connection) -> None:
        """Let these be all rows of the database."""
        for table in reversed(schema.metadata.sorted_tables):
            connection.execute(delete(table))
        for table in schema.metadata.sorted_tables:
            if self.rows.get(table.name):
                connection.execute(insert(table), self.rows[table.name])

    def by_id(self, table: str) -> dict[int, RawRow]:
        """Rows of a table with a key."""
        return {row["id"]: row for row in self.rows[table]}


def make_inventory(seed: int) -> Inventory:
    """Two registries with a few repositories that share manifests; some are deleted, some values unknown."""
    chance, uploads = random.Random(seed), random.Random(seed)
    rows: dict[str, list[RawRow]] = {"registries": [_registry(number, chance) for number in (1, 2)]}
    rows["repositories"] = [
        _repository(number, registry, name, chance)
        for number, (registry, name) in enumerate(
            ((registry, name) for registry in (2, 1) for name in chance.sample(REPOSITORY_NAMES, 4)), start=1
        )
    ]
    rows["blobs"] = [
        {
            "id": number,
            "digest": _digest(chance),
            "media_type": chance.choice(("layer", "config")),
            "size_bytes": chance.choice(SIZES),
        }
        for number in range(1, 8)
    ]
    rows["manifests"] = [_manifest(number, chance) for number in range(1, 10)]
    rows["manifest_children"] = _children(rows["manifests"], chance)
    rows["repository_manifests"] = [
        _existence(repository["id"], manifest["id"], chance)
        for repository in rows["repositories"]
        for manifest in rows["manifests"]
        if chance.random() < 0.5
    ]
    rows["repository_blobs"] = [
        {
            "repository_id": repository["id"],
            "blob_id": blob["id"],
            "first_seen_at": uploads.choice(TIMES),
            "pushed_at": uploads.choice((None, *TIMES)),
            "pulled_at": uploads.choice((None, *TIMES)),
            "verified_at": chance.choice(TIMES),
            "deleted_at": chance.choice((None, *TIMES[:2])),
        }
        for repository in rows["repositories"]
        for blob in rows["blobs"]
        if chance.random() < 0.4
    ]
    rows["tags"] = _tags(rows, chance)
    return Inventory(rows)


def _registry(number: int, chance: random.Random) -> RawRow:
    return {
        "id": number,
        "name": ("prod", "dev")[number - 1],
        "url": ("https://registry.example.com", "http://localhost:5000")[number - 1],
        "kind": "distribution",
        "access": sample_projects.ACCESS[number - 1],
        "first_seen_at": 0,
        "crawled_at": chance.choice((None, *TIMES)),
        "crawl_state": chance.choice((None, "complete", "partial")),
        "sized_at": (TIMES[2], None)[number - 1],
        "events_since": (TIMES[3], None)[number - 1],
        "repository_count": chance.randint(0, 3),
        "tag_count": 4,
        "manifest_count": 5,
        "problem_count": 0,
        "logical_bytes": chance.choice((None, *SIZES)),
        "stored_bytes": None,
        "stored_all_bytes": None,
        "layer_bytes": 1,
        "disk_bytes": 1,
    }


def _repository(number: int, registry: int, name: str, chance: random.Random) -> RawRow:
    return {
        "id": number,
        "registry_id": registry,
        "name": name,
        "first_seen_at": chance.choice(TIMES),
        "seen_at": chance.choice((None, *TIMES)),
        "deleted_at": chance.choice((None, None, None, None, TIMES[1])),
        "state": chance.choice(("complete", "partial")),
        "problem_count": chance.randint(0, 2),
        "tag_count": chance.randint(0, 3),
        "manifest_count": 3,
        "newest_created_at": chance.choice((None, *TIMES)),
        "logical_bytes": chance.choice((None, *SIZES)),
        "stored_bytes": chance.choice((None, *SIZES)),
        "stored_all_bytes": None,
        "exclusive_bytes": chance.choice((None, *SIZES)),
        "shared_bytes": 3,
        "attributed_bytes": 3,
        "layer_bytes": 3,
        "disk_bytes": 3,
        **sample_projects.of_repository(number, TIMES[number % 6]),
    }


def _digest(chance: random.Random) -> bytes:
    first = chance.choice(("ab12", "ab13", "c0ff"))
    if chance.random() < 0.2:
        return b"\x02" + bytes.fromhex(first) + chance.randbytes(62)
    return b"\x01" + bytes.fromhex(first) + chance.randbytes(30)


def _manifest(number: int, chance: random.Random) -> RawRow:
    is_index = chance.random() < 0.3
    packed, layer_count = pack_blob_ids([] if is_index else chance.sample(range(1, 8), chance.randint(0, 4)))
    return {
        "id": number,
        "digest": _digest(chance),
        "state": "read",
        "media_type": chance.choice(("application/vnd.oci.image.manifest.v1+json", "index")),
        "artifact_type": chance.choice(("", "sbom")),
        "config_media_type": chance.choice(("", "config")),
        "config_digest": None if is_index else _digest(chance),
        "subject_digest": chance.choice((None, None, _digest(chance))),
        "is_index": int(is_index),
        "platform": chance.choice(("", "linux/amd64", "linux/amd64,linux/arm64/v8")),
        "created_at": chance.choice((None, *TIMES)),
        "size_bytes": chance.choice(SIZES),
        "layer_count": layer_count,
        "blob_ids": packed,
        "logical_bytes": chance.choice((None, *SIZES)),
        "layer_bytes": None,
        "total_size": chance.choice((None, *SIZES)),
    }


def _children(manifests: list[RawRow], chance: random.Random) -> list[RawRow]:
    rows: list[RawRow] = []
    for parent in manifests:
        earlier = [one["id"] for one in manifests if one["id"] < parent["id"]]
        if parent["is_index"] and earlier:
            rows.extend(
                {"parent_id": parent["id"], "position": position, "child_id": child}
                for position, child in enumerate(chance.choices(earlier, k=2))
            )
    return rows


def _existence(repository_id: int, manifest_id: int, chance: random.Random) -> RawRow:
    return {
        "repository_id": repository_id,
        "manifest_id": manifest_id,
        "first_seen_at": chance.choice(TIMES),
        "pushed_at": chance.choice((None, *TIMES)),
        "pulled_at": chance.choice((None, *TIMES)),
        "fetched_at": (None, *TIMES)[(repository_id * manifest_id) % 7],
        "checked_at": (None, *TIMES)[(repository_id + manifest_id) % 7],
        "untagged_since": chance.choice((None, *TIMES)),
        "deleted_at": chance.choice((None, None, None, TIMES[1])),
        "exclusive_bytes": chance.choice((None, *SIZES)),
    }


def _tags(rows: dict[str, list[RawRow]], chance: random.Random) -> list[RawRow]:
    places = [
        (repository["id"], name)
        for repository in rows["repositories"]
        for name in chance.sample(TAG_NAMES, chance.randint(0, 6))
    ]
    chance.shuffle(places)
    return [
        {
            "id": number,
            "repository_id": repository_id,
            "name": name,
            "manifest_id": chance.choice((None, *(one["id"] for one in rows["manifests"]))),
            "state": chance.choice(("ok", "dangling")),
            "first_seen_at": chance.choice(TIMES),
            "tagged_at": chance.choice(TIMES),
            "verified_at": chance.choice((None, *TIMES)),
            "created_at": chance.choice((None, *TIMES)),
            "logical_bytes": chance.choice((None, *SIZES)),
            "exclusive_bytes": chance.choice((None, *SIZES)),
            "shared_bytes": chance.choice((None, *SIZES)),
            "layer_bytes": chance.choice((None, *SIZES)),
            "disk_bytes": chance.choice((None, *SIZES)),
            **sample_projects.of_tag(number, TIMES[number % 6]),
        }
        for number, (repository_id, name) in enumerate(places, start=1)
    ]


def shown_rows(inventory: Inventory, noun: str) -> list[RawRow]:
    """Every row of a noun as a list shows it; its key stands under an empty name, a manifest's tag names under one."""
    makers = {
        "registry": _registry_rows,
        "repository": _repository_rows,
        "tag": _tag_rows,
        "manifest": _manifest_rows,
        "blob": _blob_rows,
    }
    found = []
    for row in makers[noun](inventory):
        shown = {name: _shown(name, row.get(name)) for name in FIELDS[noun]}  # type: ignore[index]
        found.append(shown | {"": row[""], " tags": row.get(" tags"), " host": row.get(" host")})
    return found


def _shown(name: str, value: Any) -> Any:
    if value is None:
        return None
    if name in ("digest", "subject"):
        return str(Digest.from_bytes(value))
    if name.startswith("is_"):
        return bool(value)
    return from_micros(value) if name.endswith(("_at", "_since")) else value


def _registry_rows(inventory: Inventory) -> Iterable[RawRow]:
    for row in inventory.rows["registries"]:
        unread = {} if row["sized_at"] else dict.fromkeys(("repository_count", "tag_count", "manifest_count"))
        host = row["url"].partition("://")[2]
        yield row | unread | {"registry": row["name"], "": (row["id"],), " host": host}


def _repository_rows(inventory: Inventory) -> Iterable[RawRow]:
    places = {row["id"]: row for row in _registry_rows(inventory)}
    for row in inventory.rows["repositories"]:
        if row["deleted_at"] is None:
            place = places[row["registry_id"]]
            known = {"registry": place["name"], "repository": row["name"], " host": place[" host"]}
            held = [one for one in inventory.rows["repository_manifests"] if one["repository_id"] == row["id"]]
            known["pulled_at"] = _latest(one["pulled_at"] for one in held)
            known["pulls_known_since"] = place["events_since"]
            # Counted when the sizes are measured.
            uncounted = {} if row["logical_bytes"] is not None else dict.fromkeys(("tag_count", "manifest_count"))
            known |= sample_projects.shown_repository(row, place)
            yield row | uncounted | known | _ages(row["newest_created_at"]) | {"": (row["id"],)}


def _facts(manifest: RawRow) -> RawRow:
    config = manifest.get("config_digest")
    revision = config[1:].hex() if config else None
    return {"revision": revision, "short_revision": revision[:9] if revision else None}


def _latest(moments: Iterable[int | None]) -> int | None:
    return max((moment for moment in moments if moment is not None), default=None)


def _clocks(inventory: Inventory, repository_id: int, manifest_id: int | None) -> RawRow:
    """The latest of a manifest's and, for an index, of its children's in the repository."""
    wanted = {manifest_id}
    if inventory.by_id("manifests").get(manifest_id or 0, {}).get("is_index"):
        wanted |= {row["child_id"] for row in inventory.rows["manifest_children"] if row["parent_id"] == manifest_id}
    held = [
        row
        for row in inventory.rows["repository_manifests"]
        if row["repository_id"] == repository_id and row["manifest_id"] in wanted
    ]
    return {name: _latest(row[name] for row in held) for name in CLOCKS}


def _tag_rows(inventory: Inventory) -> Iterable[RawRow]:
    manifests = inventory.by_id("manifests")
    existing = {(row["repository_id"], row["manifest_id"]): row for row in inventory.rows["repository_manifests"]}
    for place in _repository_rows(inventory):
        for row in inventory.rows["tags"]:
            if row["repository_id"] != place["id"]:
                continue
            manifest = manifests.get(row["manifest_id"], {})
            existence = existing.get((place["id"], row["manifest_id"]), {})
            chosen = ("digest", "media_type", "artifact_type", "total_size", "is_index", "layer_count")
            yield (
                row
                | {name: manifest.get(name) for name in chosen}
                | {"pushed_at": existence.get("pushed_at"), "pulls_known_since": place["pulls_known_since"]}
                | _clocks(inventory, place["id"], row["manifest_id"])
                | _facts(manifest)
                | _ages(row["created_at"])
                | {
                    "": (row["id"],),
                    " host": place[" host"],
                    "registry": place["registry"],
                    "repository": place["repository"],
                    "tag": row["name"],
                    "platforms": manifest.get("platform"),
                    "stored_bytes": row["logical_bytes"],
                    "seen_at": place["seen_at"],
                    "location": f"{place[' host']}/{place['repository']}:{row['name']}",
                    **sample_projects.shown_tag(row, place),
                }
            )


def _manifest_rows(inventory: Inventory) -> Iterable[RawRow]:
    manifests = inventory.by_id("manifests")
    for place in _repository_rows(inventory):
        for row in inventory.rows["repository_manifests"]:
            if row["repository_id"] != place["id"] or row["deleted_at"] is not None:
                continue
            manifest = manifests[row["manifest_id"]]
            names = sorted(
                tag["name"]
                for tag in inventory.rows["tags"]
                if (tag["repository_id"], tag["manifest_id"]) == (row["repository_id"], row["manifest_id"])
            )
            yield (
                manifest
                | row
                | _clocks(inventory, row["repository_id"], row["manifest_id"])
                | _facts(manifest)
                | _ages(manifest["created_at"])
                | {
                    "": (row["repository_id"], row["manifest_id"]),
                    " host": place[" host"],
                    " tags": names,
                    "registry": place["registry"],
                    "repository": place["repository"],
                    "pulls_known_since": place["pulls_known_since"],
                    "subject": manifest["subject_digest"],
                    "tags": ",".join(names),
                    "tag_count": len(names),
                }
            )


def _blob_rows(inventory: Inventory) -> Iterable[RawRow]:
    """Every blob that a manifest names or that was uploaded, per repository."""
    known, held = inventory.by_id("blobs"), list(_manifest_rows(inventory))
    states = {(row["repository_id"], row["blob_id"]): row for row in inventory.rows["repository_blobs"]}
    for place in _repository_rows(inventory):
        here = [row for row in held if row["repository_id"] == place["id"]]
        packed = b"".join(row["blob_ids"] for row in here)
        named = {int.from_bytes(packed[start : start + 4], "little") for start in range(0, len(packed), 4)}
        uploaded = {
            blob_id for (number, blob_id), row in states.items() if number == place["id"] and row["deleted_at"] is None
        }
        is_read = (
            place["seen_at"] is not None
            and place["state"] == "complete"
            and all(row["state"] == "read" for row in here)
        )
        for blob_id in named | uploaded:
            existence = states.get((place["id"], blob_id), {})
            verified_at, deleted_at = existence.get("verified_at"), existence.get("deleted_at")
            yield (
                known[blob_id]
                | existence
                | {
                    "": (place["id"], blob_id),
                    " host": place[" host"],
                    "registry": place["registry"],
                    "repository": place["repository"],
                    "state": "missing" if deleted_at is not None else "present" if verified_at else "unverified",
                    "is_orphaned": False if blob_id in named else True if is_read else None,
                }
            )


def _ages(created_micros: int | None) -> RawRow:
    created_at = from_micros(created_micros)
    return {f"age_{unit}": None if created_at is None else age(created_at, NOW, unit) for unit in AgeUnit}
