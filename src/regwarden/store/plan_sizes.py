"""How many bytes does a plan free? As ``core.graph.release`` defines it, over the arrays of the size engine."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

import numpy as np
from sqlalchemy import select
from sqlalchemy.engine import Connection

from regwarden.core.graph import Confidence
from regwarden.core.oci.digests import Digest
from regwarden.core.plan import PlanSizes
from regwarden.errors import NotFound
from regwarden.store.analytics import has_unreadable_tags
from regwarden.store.arrays import Edges, Flags, Lookup, total
from regwarden.store.bulk import bulk_ids
from regwarden.store.columns import read_integers
from regwarden.store.graph_arrays import Graph, find_pairs, load_graph, pair_key
from regwarden.store.past_rows import fetch
from regwarden.store.reach import mark_blobs, mark_manifests
from regwarden.store.schema import blobs, manifests, registries, repositories

_LARGE_PART: Final = 0.25

RepositoryDigest = tuple[str, str]


def measure_plan(
    connection: Connection, registry: str, deleted: Collection[RepositoryDigest], *, is_untagged_known: bool
) -> PlanSizes:
    """Bytes that deleting these (repository, ``algorithm:hex``), with their tags, lets a garbage collection free.

    Whatever else exists stays, tagged or not. ``is_untagged_known`` says that the inventory holds everything the
    registry does; otherwise that may hold on to anything, also to the deleted documents (an index that nobody knows
    may list them). What does not exist is passed over. Raises ``NotFound`` (code ``unknown-registry``) and
    ``StoreError`` (code ``damaged``).
    """
    registry_id = connection.execute(select(registries.c.id).where(registries.c.name == registry)).scalar()
    if registry_id is None:
        raise NotFound(f"nothing is known of the registry {registry[:80]!r}", code="unknown-registry")
    graph = load_graph(connection, registry_id)
    names = [name for name, _ in deleted]
    removed = find_deleted(connection, registry_id, graph, names, [Digest.stored_form(one) for _, one in deleted])
    left = graph.pair_is_read & ~removed
    before, after = (_Content(graph, pairs) for pairs in (graph.pair_is_read, left))
    untagged_bytes = _held_by_untagged(graph, removed, after)
    # An index that is left keeps the documents that it lists, also where they do not exist beside it.
    after.manifests[graph.children.targets[graph.children.follow(np.flatnonzero(after.manifests))[1]]] = True
    freed = before.without(after)
    freed_bytes = max(freed.size_bytes - _counted_wrongly(connection, freed, after), 0)
    is_exact = is_untagged_known and bool(graph.is_read.all()) and not has_unreadable_tags(connection, registry_id)
    return PlanSizes(
        reclaimable_bytes=freed_bytes,
        lower_bound_bytes=freed_bytes if is_exact else 0,
        confidence=Confidence.EXACT if is_exact else Confidence.UPPER_BOUND,
        untagged_bytes=untagged_bytes,
    )


class _Content:
    """Manifests of a registry, and the blobs that they name."""

    def __init__(self, graph: Graph, pairs: Flags) -> None:
        self.graph = graph
        self.manifests = mark_manifests(graph, pairs)
        self.blobs = mark_blobs(graph, self.manifests)

    def without(self, other: _Content) -> _Content:
        """What the other does not have."""
        return self._chosen(~other.manifests, ~other.blobs)

    def within(self, other: _Content) -> _Content:
        """What both have."""
        return self._chosen(other.manifests, other.blobs)

    @property
    def size_bytes(self) -> int:
        """Everything, each once."""
        graph = self.graph
        return total(np.concatenate((graph.manifest_bytes[self.manifests], graph.blob_bytes[self.blobs])))

    def _chosen(self, manifests: Flags, blobs: Flags) -> _Content:
        chosen = object.__new__(_Content)
        chosen.graph, chosen.manifests, chosen.blobs = self.graph, self.manifests & manifests, self.blobs & blobs
        return chosen


def _counted_wrongly(connection: Connection, freed: _Content, after: _Content) -> int:
    """Bytes of content that is both a manifest and a blob, where the one is freed and the other too, or stays."""
    if not (freed.manifests.any() or freed.blobs.any()):
        return 0
    graph = freed.graph
    both = select(manifests.c.id, blobs.c.id).join_from(manifests, blobs, blobs.c.digest == manifests.c.digest)
    manifest_ids, blob_ids = read_integers(connection, both)
    manifest, blob = Lookup(graph.manifest_ids).find(manifest_ids), Lookup(graph.blob_ids).find(blob_ids)
    manifest, blob = manifest[manifest >= 0], blob[manifest >= 0]
    is_document_freed, is_blob_freed = freed.manifests[manifest], freed.blobs[blob]
    # Its document counts where the blob goes, too; neither where the other one stays.
    too_much = is_document_freed & (is_blob_freed | after.blobs[blob])
    stays = is_blob_freed & ~is_document_freed & after.manifests[manifest]
    return total(np.concatenate((graph.manifest_bytes[manifest[too_much]], graph.blob_bytes[blob[stays]])))


def _held_by_untagged(graph: Graph, removed: Flags, after: _Content) -> int:
    tagged = np.zeros(len(removed), dtype=np.bool_)
    tagged[graph.tags.pair[graph.tags.pair >= 0]] = True
    reached = _Content(graph, graph.pair_children.reachable(tagged & removed))
    # A deleted pair leads nowhere any more.
    sources = np.repeat(np.arange(len(removed)), np.diff(graph.pair_children.starts))
    counts = ~removed[sources] & ~removed[graph.pair_children.targets]
    children = Edges.grouped(sources[counts], graph.pair_children.targets[counts], len(removed))
    left = children.reachable(tagged & ~removed)
    return reached.within(after).without(_Content(graph, left)).size_bytes


def _load_ids(connection: Connection, graph: Graph, wanted: set[bytes]) -> dict[bytes, int]:
    """The ids of manifests by digest. Of a large part it is faster to read all than to look each up."""
    if len(wanted) < len(graph.manifest_ids) * _LARGE_PART:
        return bulk_ids(connection, manifests, "digest", wanted)
    # Straight from the driver, row by row: several times faster than SQLAlchemy's rows.
    rows: Any = connection.execute(select(manifests.c.digest, manifests.c.id)).cursor
    return {digest: manifest_id for digest, manifest_id in rows if digest in wanted}


def find_deleted(
    connection: Connection, registry_id: int, graph: Graph, in_repositories: Sequence[str], stored: Sequence[bytes]
) -> Flags:
    """Which pairs of the graph are meant by names of repositories and, beside each, a digest as it is stored."""
    removed = np.zeros(len(graph.pair_manifest), dtype=np.bool_)
    names = fetch(
        connection,
        select(repositories.c.name)
        .where(repositories.c.registry_id == registry_id, repositories.c.deleted_at.is_(None))
        .order_by(repositories.c.name),
    )
    places = {name: place for place, (name,) in enumerate(names)}
    ids = _load_ids(connection, graph, set(stored))
    repository = np.fromiter((places.get(name, -1) for name in in_repositories), dtype=np.int32)
    manifest_ids = np.fromiter((ids.get(digest, -1) for digest in stored), dtype=np.int64)
    exists = (repository >= 0) & (manifest_ids >= 0)
    repository, manifest = repository[exists], Lookup(graph.manifest_ids).find(manifest_ids[exists])
    keys = pair_key(repository[manifest >= 0], manifest[manifest >= 0])
    at = find_pairs(graph.pair_keys(), keys)
    removed[at[at >= 0]] = True
    return removed
