"""How large is each tag, what does it alone hold, and which layers are its own in the predecessors' sense?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from sqlalchemy.engine import Connection

from regwarden.store import schema
from regwarden.store.arrays import Integers, Numbers, add_capped, distinct, sum_by_group
from regwarden.store.columns import read_ordered
from regwarden.store.graph_arrays import Graph
from regwarden.store.reach import Piece, held_by_indexes, held_by_manifests, held_by_pairs

UNKNOWN: Final = -1
"""Stands for a figure that nobody can know; stored as NULL."""


@dataclass(frozen=True, slots=True)
class TagSizes:
    """Bytes per tag, and the exclusive bytes per pair, in the order of the graph; ``UNKNOWN`` where there are none."""

    logical: Integers
    exclusive: Integers
    layer: Integers
    disk: Integers
    pair_exclusive: Integers


class Sizes:
    """What each of a number of roots holds: bytes of everything, bytes and number of distinct layers."""

    def __init__(self, graph: Graph, root_count: int) -> None:
        self._graph = graph
        self.logical = np.zeros(root_count, dtype=np.int64)
        self.layer = np.zeros(root_count, dtype=np.int64)
        self.layer_count = np.zeros(root_count, dtype=np.int64)

    def add(self, piece: Piece) -> None:
        """Take in the roots of one piece."""
        sizes = self._graph.blob_bytes[piece.blobs]
        documents = self._graph.manifest_bytes[piece.manifests]
        count, layer_owners = piece.root_count, piece.blob_owners[piece.is_layer]
        self.logical[piece.roots] = add_capped(
            sum_by_group(piece.manifest_owners, documents, count), sum_by_group(piece.blob_owners, sizes, count)
        )
        self.layer[piece.roots] = sum_by_group(layer_owners, sizes[piece.is_layer], count)
        self.layer_count[piece.roots] = np.bincount(layer_owners, minlength=count)


class Holders:
    """How many roots hold each manifest and each blob."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._manifests = np.zeros(len(graph.manifest_ids), dtype=np.int64)
        self._blobs = np.zeros(len(graph.blob_bytes), dtype=np.int64)

    def add(self, piece: Piece, weights: Integers) -> None:
        """Take in one piece; each of its roots stands for ``weights`` roots."""
        np.add.at(self._manifests, piece.manifests, weights[piece.manifest_owners])
        np.add.at(self._blobs, piece.blobs, weights[piece.blob_owners])

    def exclusive(self, piece: Piece) -> Integers:
        """Per root of the piece the bytes that it holds and no other root does."""
        manifest_alone = self._manifests[piece.manifests] == 1
        blob_alone = self._blobs[piece.blobs] == 1
        documents = self._graph.manifest_bytes[piece.manifests[manifest_alone]]
        sizes = self._graph.blob_bytes[piece.blobs[blob_alone]]
        return add_capped(
            sum_by_group(piece.manifest_owners[manifest_alone], documents, piece.root_count),
            sum_by_group(piece.blob_owners[blob_alone], sizes, piece.root_count),
        )


class Roots:
    """The distinct pairs that tags point to. Those without children share the walk over their manifest."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.pairs = distinct(graph.tags.pair[graph.tags.pair >= 0])
        self.manifests = graph.pair_manifest[self.pairs]
        branching = graph.pair_children.counts(self.pairs) > 0
        self.plain = np.flatnonzero(~branching)
        self.branching = np.flatnonzero(branching)
        self.weights = np.bincount(self.manifests[self.plain], minlength=len(graph.manifest_ids))

    def branching_pieces(self) -> Iterator[Piece]:
        """What the roots with children hold; roots count as in ``branching``."""
        return held_by_pairs(self.graph, self.pairs[self.branching])

    def spread(self, of_manifests: Integers, of_branching: Integers) -> Integers:
        """Values per root from values per manifest and per branching root."""
        values = np.empty(len(self.pairs), dtype=np.int64)
        values[self.plain] = of_manifests[self.manifests[self.plain]]
        values[self.branching] = of_branching
        return values


def rank_tags(connection: Connection, graph: Graph) -> Integers:
    """The place of each tag in catalog order, then by name: what decides between equals for ``disk_bytes``."""
    table = schema.tags
    ordered_ids = read_ordered(connection, table.c.id, table.c.repository_id, table.c.name)
    by_id = np.argsort(ordered_ids)
    places = by_id[np.searchsorted(ordered_ids, graph.tags.ids, sorter=by_id)]
    ranks = np.empty(len(places), dtype=np.int64)
    ranks[np.lexsort((places, graph.repositories.catalog_rank[graph.tags.repository]))] = np.arange(len(places))
    return ranks


def measure_tags(graph: Graph, ranks: Integers) -> TagSizes:
    """All figures of all tags. ``ranks`` orders the tags among which ``disk_bytes`` must choose (``rank_tags``)."""
    roots = Roots(graph)
    holders = Holders(graph)
    plain, branching = Sizes(graph, len(graph.manifest_ids)), Sizes(graph, len(roots.branching))
    for piece in held_by_manifests(graph):
        plain.add(piece)
        holders.add(piece, roots.weights[piece.roots])
    for piece in roots.branching_pieces():
        branching.add(piece)
        holders.add(piece, np.ones(piece.root_count, dtype=np.int64))
    counted = np.flatnonzero(graph.tags.pair >= 0)
    root_of_tag = np.searchsorted(roots.pairs, graph.tags.pair[counted])
    first_tags = _first_tags(root_of_tag, ranks[counted], len(roots.pairs))
    priorities = np.empty(len(roots.pairs), dtype=np.int64)
    layer_counts = roots.spread(plain.layer_count, branching.layer_count)
    priorities[np.lexsort((ranks[counted][first_tags], layer_counts))] = np.arange(len(priorities))
    exclusive, disk = _measure_owned(roots, holders, priorities)
    tag_count = np.bincount(root_of_tag, minlength=len(roots.pairs))
    disk_of_tags = np.zeros(len(counted), dtype=np.int64)
    disk_of_tags[first_tags] = disk
    return TagSizes(
        logical=_fill(len(ranks), counted, roots.spread(plain.logical, branching.logical)[root_of_tag]),
        exclusive=_fill(len(ranks), counted, np.where(tag_count == 1, exclusive, 0)[root_of_tag]),
        layer=_fill(len(ranks), counted, roots.spread(plain.layer, branching.layer)[root_of_tag]),
        disk=_fill(len(ranks), counted, disk_of_tags),
        pair_exclusive=_fill(len(graph.pair_manifest), roots.pairs, exclusive),
    )


def _first_tags(root_of_tag: Integers, ranks: Integers, root_count: int) -> Integers:
    """Of the tags of each root the place of the first by rank."""
    order = np.lexsort((ranks, root_of_tag))
    return order[np.searchsorted(root_of_tag[order], np.arange(root_count))]


def _measure_owned(roots: Roots, holders: Holders, priorities: Integers) -> tuple[Integers, Integers]:
    """Second walk, per root: what it alone holds, and the layers for which no root comes before it."""
    graph = roots.graph
    nobody = len(priorities)
    best = np.full(len(graph.blob_bytes), nobody, dtype=np.int64)
    best_of_manifest = np.full(len(graph.manifest_ids), nobody, dtype=np.int64)
    np.minimum.at(best_of_manifest, roots.manifests[roots.plain], priorities[roots.plain])
    of_manifests = np.zeros(len(graph.manifest_ids), dtype=np.int64)
    of_branching = np.zeros(len(roots.branching), dtype=np.int64)
    for piece in held_by_manifests(graph):
        # Content of a manifest that two roots share has two holders, so it is in nobody's sum.
        of_manifests[piece.roots] = holders.exclusive(piece)
        _take_layers(best, piece, best_of_manifest[piece.roots])
    for piece in roots.branching_pieces():
        of_branching[piece.roots] = holders.exclusive(piece)
        _take_layers(best, piece, priorities[roots.branching[piece.roots]])
    owned = best < nobody
    by_priority = sum_by_group(best[owned], graph.blob_bytes[owned], nobody)
    return roots.spread(of_manifests, of_branching), by_priority[priorities]


def _take_layers(best: Integers, piece: Piece, priorities: Integers) -> None:
    owners = piece.blob_owners[piece.is_layer]
    np.minimum.at(best, piece.blobs[piece.is_layer], priorities[owners])


def _fill(count: int, places: Numbers, values: Integers) -> Integers:
    filled = np.full(count, UNKNOWN, dtype=np.int64)
    filled[places] = values
    return filled


def measure_indexes(graph: Graph) -> tuple[Numbers, Integers, Integers]:
    """All indexes as content: their positions, logical bytes and layer bytes."""
    indexes = np.flatnonzero(graph.is_index & graph.is_read)
    sizes = Sizes(graph, len(indexes))
    for piece in held_by_indexes(graph, indexes):
        sizes.add(piece)
    return indexes, sizes.logical, sizes.layer
