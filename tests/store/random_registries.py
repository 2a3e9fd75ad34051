"""Random small registries for the size tests: made as plain facts, and written into the tables as a crawl would."""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import insert
from sqlalchemy.engine import Connection

from regwarden.core.graph import ManifestFacts, RegistryFacts, RepositoryFacts
from regwarden.store import schema
from regwarden.store.packing import pack_blob_ids

KeyT = TypeVar("KeyT")

SIZES = (0, 1, 2, 3, 5, 7, 11, 97, 1_000, 2**20 + 1, 2**31 - 1, 2**40 + 3)
NAMES = ("a", "a-b", "a/b", "a0", "b", "edge/case", "team/app", "Z", "é")
TAGS = ("1.0", "1.1", "Latest", "latest", "l", "v1", "sha256-aa", "é")


def make_registry(seed: int, *, sizes: tuple[int, ...] = SIZES) -> RegistryFacts:
    """A registry of a few manifests that share blobs, nest, go missing and stand in several repositories."""
    chance = random.Random(seed)
    blobs = {f"blob-{n}": chance.choice(sizes) for n in range(chance.randint(1, 9))}
    manifests: dict[str, ManifestFacts] = {}
    for number in range(chance.randint(1, 9)):
        manifests[f"manifest-{number}"] = _make_manifest(chance, list(blobs), list(manifests), sizes)
    names = chance.sample(NAMES, chance.randint(1, 5))
    repositories = tuple(_make_repository(chance, name, list(manifests)) for name in names)
    return RegistryFacts(manifests, blobs, repositories)


def _make_manifest(
    chance: random.Random, blobs: list[str], earlier: list[str], sizes: tuple[int, ...]
) -> ManifestFacts:
    subject = chance.choice(earlier) if earlier and chance.random() < 0.3 else None
    is_index = chance.random() < 0.4
    # An index may list one child twice; a build cache lists blobs, of which some are children's layers too.
    children = chance.choices(earlier, k=chance.randint(0, 3)) if is_index and earlier else []
    layers = [] if is_index and chance.random() < 0.7 else chance.choices(blobs, k=chance.randint(0, 4))
    others = [] if is_index else chance.choices(blobs, k=chance.randint(0, 1))
    return ManifestFacts(
        size_bytes=chance.choice(sizes),
        layers=tuple(layers),
        others=tuple(others),
        children=tuple(children),
        subject=subject,
        is_index=is_index,
        is_read=chance.random() < 0.9,
    )


def _make_repository(chance: random.Random, name: str, manifests: list[str]) -> RepositoryFacts:
    existing = {manifest for manifest in manifests if chance.random() < 0.6}
    tags = {tag: chance.choice(manifests) for tag in chance.sample(TAGS, chance.randint(0, 4))}
    return RepositoryFacts(name, tags, frozenset(existing), catalog_position=chance.randint(0, 2))


@dataclass
class Written:
    """Where the parts of one registry stand in the database."""

    registry_id: int
    repositories: dict[str, int]
    manifests: dict[str, int]
    tags: dict[tuple[str, str], int]


class RegistryWriter:
    """Writes registries next to each other, ids intertwined and with gaps."""

    def __init__(self, connection: Connection, seed: int = 0) -> None:
        self._connection = connection
        self._chance = random.Random(seed)
        self._registry_ids = itertools.count(1)
        self._ids = itertools.count(1)

    def write(self, facts: RegistryFacts) -> Written:
        """One more registry, its content shared with no other."""
        registry_id = next(self._registry_ids)
        self._insert(
            schema.registries,
            [{"id": registry_id, "name": f"r{registry_id}", "url": "", "kind": "distribution", "first_seen_at": 0}],
        )
        blobs = self._new_ids(facts.blob_sizes)
        self._insert(
            schema.blobs,
            [
                {"id": blobs[name], "digest": _digest(registry_id, name), "media_type": "", "size_bytes": size}
                for name, size in facts.blob_sizes.items()
            ],
        )
        manifests = self._write_manifests(registry_id, facts, blobs)
        repositories = self._write_repositories(registry_id, facts, manifests)
        return Written(registry_id, repositories, manifests, self._write_tags(facts, repositories, manifests))

    def _write_manifests(self, registry_id: int, facts: RegistryFacts, blobs: dict[str, int]) -> dict[str, int]:
        ids = self._new_ids(facts.manifests)
        rows, edges = [], []
        for name, one in facts.manifests.items():
            packed, layer_count = pack_blob_ids((blobs[b] for b in one.layers), (blobs[b] for b in one.others))
            rows.append(
                {
                    "id": ids[name],
                    "digest": _digest(registry_id, name),
                    "state": "read" if one.is_read else "unsupported",
                    "media_type": "",
                    "subject_digest": None if one.subject is None else _digest(registry_id, one.subject),
                    "is_index": int(one.is_index),
                    "size_bytes": one.size_bytes,
                    # What an index says about its layers does not matter: all blobs it lists are.
                    "layer_count": 0 if one.is_index and self._chance.random() < 0.5 else layer_count,
                    "blob_ids": packed,
                }
            )
            edges += [
                {"parent_id": ids[name], "position": position, "child_id": ids[child]}
                for position, child in enumerate(one.children)
            ]
        self._insert(schema.manifests, rows)
        self._insert(schema.manifest_children, edges)
        return ids

    def _write_repositories(self, registry_id: int, facts: RegistryFacts, manifests: dict[str, int]) -> dict[str, int]:
        ids = self._new_ids(one.name for one in facts.repositories)
        self._insert(
            schema.repositories,
            [
                {
                    "id": ids[one.name],
                    "registry_id": registry_id,
                    "name": one.name,
                    "catalog_position": one.catalog_position,
                    "first_seen_at": 0,
                    "state": "complete",
                }
                for one in facts.repositories
            ],
        )
        rows = []
        for one in facts.repositories:
            for name, manifest_id in manifests.items():
                # What does not exist there has no row, or one that says so.
                if name in one.manifests or self._chance.random() < 0.5:
                    gone = None if name in one.manifests else 1
                    rows.append(
                        {
                            "repository_id": ids[one.name],
                            "manifest_id": manifest_id,
                            "first_seen_at": 0,
                            "deleted_at": gone,
                        }
                    )
        self._chance.shuffle(rows)
        self._insert(schema.repository_manifests, rows)
        return ids

    def _write_tags(
        self, facts: RegistryFacts, repositories: dict[str, int], manifests: dict[str, int]
    ) -> dict[tuple[str, str], int]:
        wanted = [(one.name, tag, manifest) for one in facts.repositories for tag, manifest in one.tags.items()]
        self._chance.shuffle(wanted)
        ids = self._new_ids((name, tag) for name, tag, _ in wanted)
        rows = [
            {
                "id": ids[name, tag],
                "repository_id": repositories[name],
                "name": tag,
                "manifest_id": manifests[manifest],
                "state": "ok",
                "first_seen_at": 0,
                "tagged_at": 0,
            }
            for name, tag, manifest in wanted
        ]
        self._insert(schema.tags, rows)
        return ids

    def _new_ids(self, names: Iterable[KeyT]) -> dict[KeyT, int]:
        keys = list(names)
        ids = [next(self._ids) for _ in keys if self._chance.random() < 0.9 or next(self._ids)]
        self._chance.shuffle(ids)
        return dict(zip(keys, ids, strict=True))

    def _insert(self, table, rows) -> None:
        if rows:
            self._connection.execute(insert(table), rows)


def _digest(registry_id: int, name: str) -> bytes:
    return b"\x01" + hashlib.sha256(f"{registry_id}/{name}".encode()).digest()
