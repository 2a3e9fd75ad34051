"""One registry's graph as arrays: what is in it, and how it gets out of the database.

Everything is a position: repositories in the order of their names (byte by byte), manifests and blobs in the order
of their ids, and *pairs*, the manifests that exist in a repository, by repository and manifest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sqlalchemy import case, func, select
from sqlalchemy.engine import Connection

from regwarden.errors import StoreError
from regwarden.store import schema
from regwarden.store.arrays import Edges, Flags, Integers, Lookup, Positions, distinct
from regwarden.store.columns import read_in_batches, read_integers, read_with_bytes
from regwarden.store.packing import blob_id_array


@dataclass(frozen=True, slots=True)
class Repositories:
    """The repositories that are not gone. ``is_unread``: never read because it was denied or failed."""

    ids: Integers
    catalog_rank: Integers
    is_unread: Flags


@dataclass(frozen=True, slots=True)
class Tags:
    """All tags of those repositories; ``pair`` is -1 where the manifest is gone, unknown or was not read."""

    ids: Integers
    repository: Positions
    pair: Positions


@dataclass(frozen=True, slots=True)
class Graph:
    """Manifests that exist in the registry, what they hold, and where they exist."""

    repositories: Repositories
    tags: Tags
    manifest_ids: Integers
    manifest_bytes: Integers
    is_read: Flags
    is_index: Flags
    layer_counts: Integers
    blobs: Edges
    blob_ids: Integers
    blob_bytes: Integers
    children: Edges
    pair_repository: Positions
    pair_manifest: Positions
    pair_children: Edges

    @property
    def pair_is_read(self) -> Flags:
        """Which pairs count: their manifest was read."""
        return self.is_read[self.pair_manifest]

    def pair_keys(self) -> Integers:
        """One ascending number per pair, to find pairs by repository and manifest."""
        return pair_key(self.pair_repository, self.pair_manifest)


def pair_key(repository: Positions, manifest: Positions) -> Integers:
    """The number a pair is found by."""
    return repository.astype(np.int64) << 32 | manifest


def find_pairs(keys: Integers, wanted: Integers) -> Positions:
    """The position of each wanted pair key, -1 where that manifest does not exist in that repository."""
    if not len(keys):
        return np.full(len(wanted), -1, dtype=np.int32)
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[places] == wanted, places, -1).astype(np.int32)


def load_graph(connection: Connection, registry_id: int) -> Graph:
    """Read one registry's graph. Raises ``StoreError`` (code ``damaged``) if a manifest names a blob nobody knows."""
    repositories = _load_repositories(connection, registry_id)
    order = np.argsort(repositories.ids)
    by_id = Lookup(repositories.ids[order])
    pair_repository, pair_manifest_ids = _load_pairs(connection, by_id, order)
    manifest_ids = distinct(pair_manifest_ids)
    manifests = Lookup(manifest_ids)
    pair_manifest = manifests.find(pair_manifest_ids)
    keys = np.sort(pair_key(pair_repository, pair_manifest))
    pair_repository, pair_manifest = (keys >> 32).astype(np.int32), (keys & 0xFFFFFFFF).astype(np.int32)
    blob_ids, blob_bytes = _load_blobs(connection)
    facts = _load_manifests(connection, manifests, len(manifest_ids), Lookup(blob_ids))
    children = _load_children(connection, manifests, facts.is_read)
    return Graph(
        repositories=repositories,
        tags=_load_tags(connection, by_id, order, manifests, keys, facts.is_read[pair_manifest]),
        manifest_ids=manifest_ids,
        manifest_bytes=facts.manifest_bytes,
        is_read=facts.is_read,
        is_index=facts.is_index,
        layer_counts=facts.layer_counts,
        blobs=facts.blobs,
        blob_ids=blob_ids,
        blob_bytes=blob_bytes,
        children=children,
        pair_repository=pair_repository,
        pair_manifest=pair_manifest,
        pair_children=_pair_children(children, keys, pair_repository, pair_manifest),
    )


def _load_repositories(connection: Connection, registry_id: int) -> Repositories:
    table = schema.repositories
    rows = connection.execute(
        select(table.c.id, table.c.catalog_position, table.c.state)
        .where(table.c.registry_id == registry_id, table.c.deleted_at.is_(None))
        .order_by(table.c.name)
    ).all()
    ranks = np.empty(len(rows), dtype=np.int64)
    positions = np.array([row.catalog_position for row in rows], dtype=np.int64)
    ranks[np.argsort(positions, kind="stable")] = np.arange(len(rows))
    return Repositories(
        ids=np.array([row.id for row in rows], dtype=np.int64),
        catalog_rank=ranks,
        is_unread=np.array([row.state in ("denied", "failed") for row in rows], dtype=np.bool_),
    )


def _load_pairs(connection: Connection, by_id: Lookup, order: Integers) -> tuple[Positions, Integers]:
    table = schema.repository_manifests
    statement = select(table.c.repository_id, table.c.manifest_id).where(table.c.deleted_at.is_(None))
    repository_ids, manifest_ids = read_integers(connection, statement)
    places = by_id.find(repository_ids)
    ours = places >= 0
    return order[places[ours]].astype(np.int32), manifest_ids[ours]


def _load_blobs(connection: Connection) -> tuple[Integers, Integers]:
    table = schema.blobs
    parts = list(read_in_batches(connection, select(table.c.id, table.c.size_bytes), table.c.id))
    ids, sizes = _join([part[0] for part in parts]), _join([part[1] for part in parts])
    if np.all(ids[:-1] < ids[1:]):
        return ids, sizes
    order = np.argsort(ids)
    return ids[order], sizes[order]


@dataclass(frozen=True, slots=True)
class _Manifests:
    manifest_bytes: Integers
    is_read: Flags
    is_index: Flags
    layer_counts: Integers
    blobs: Edges


def _load_manifests(connection: Connection, manifests: Lookup, count: int, blobs: Lookup) -> _Manifests:
    table = schema.manifests
    statement = select(
        table.c.id,
        table.c.size_bytes,
        case((table.c.state == "read", 1), else_=0),
        table.c.is_index,
        table.c.layer_count,
        func.length(table.c.blob_ids),
    )
    facts = np.zeros((5, count), dtype=np.int64)
    targets = [np.zeros(0, dtype=np.int32)]
    for (ids, *columns, lengths), packed in read_with_bytes(connection, statement, table.c.id, table.c.blob_ids):
        if (lengths % 4).any():
            raise _damaged()
        places = manifests.find(ids)
        ours = places >= 0
        for row, column in enumerate((*columns, lengths // 4)):
            facts[row, places[ours]] = column[ours]
        found = blobs.find(blob_id_array(packed).astype(np.int64))
        targets.append(_in_order(np.repeat(places, lengths // 4), found))
    edges = Edges(np.concatenate(([0], np.cumsum(facts[4]))), np.concatenate(targets))
    if len(edges.targets) and edges.targets.min() < 0:
        raise _damaged()
    is_index = facts[2] == 1
    return _Manifests(
        manifest_bytes=facts[0],
        is_read=facts[1] == 1,
        is_index=is_index,
        layer_counts=np.where(is_index, facts[4], facts[3]),
        blobs=edges,
    )


def _damaged() -> StoreError:
    return StoreError(
        "a manifest in the database names a blob that is not there", hint="Run regwarden db check.", code="damaged"
    )


def _in_order(owners: Positions, targets: Positions) -> Positions:
    """The edges of our manifests by manifest; no database promises an order inside a batch."""
    if len(owners) and (owners[0] < 0 or np.any(owners[:-1] > owners[1:])):
        order = np.argsort(owners, kind="stable")
        return targets[order[np.searchsorted(owners[order], 0) :]]
    return targets


def _load_children(connection: Connection, manifests: Lookup, is_read: Flags) -> Edges:
    table = schema.manifest_children
    parents, children = (
        manifests.find(ids) for ids in read_integers(connection, select(table.c.parent_id, table.c.child_id))
    )
    counted = (parents >= 0) & (children >= 0)
    parents, children = parents[counted], children[counted]
    counted = is_read[parents] & is_read[children]
    return Edges.grouped(parents[counted], children[counted], len(is_read))


def _pair_children(children: Edges, keys: Integers, pair_repository: Positions, pair_manifest: Positions) -> Edges:
    parents = np.flatnonzero(children.counts(pair_manifest))
    owners, places = children.follow(pair_manifest[parents])
    wanted = pair_key(pair_repository[parents][owners], children.targets[places])
    found = find_pairs(keys, wanted)
    return Edges.grouped(parents[owners][found >= 0], found[found >= 0], len(keys))


def _load_tags(
    connection: Connection, by_id: Lookup, order: Integers, manifests: Lookup, keys: Integers, pair_is_read: Flags
) -> Tags:
    table = schema.tags
    statement = select(table.c.id, table.c.repository_id, func.coalesce(table.c.manifest_id, 0))
    parts = list(read_in_batches(connection, statement, table.c.id))
    ids, repository_ids, manifest_ids = (_join([part[column] for part in parts]) for column in range(3))
    places = by_id.find(repository_ids)
    ours = places >= 0
    repository = order[places[ours]].astype(np.int32)
    manifest = manifests.find(manifest_ids[ours])
    pair = find_pairs(keys, pair_key(repository, manifest))
    known = np.flatnonzero(pair >= 0)
    counts = (manifest[known] >= 0) & pair_is_read[pair[known]]
    pair[known[~counts]] = -1
    return Tags(ids=ids[ours], repository=repository, pair=pair)


def _join(parts: list[Integers]) -> Integers:
    return np.concatenate([np.zeros(0, dtype=np.int64), *parts])
