"""Who holds what? The walks over a registry's graph that the size figures are sums of, in bounded pieces."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from regwarden.store.arrays import Edges, Flags, Integers, Numbers, batches, distinct
from regwarden.store.graph_arrays import Graph

PIECE_EDGES: Final = 1 << 16
"""How many edges are walked at a time: bounds the memory of every step."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What some neighbouring roots hold, each thing once per root; owners count from ``roots.start``.

    ``is_layer`` marks blobs that the root holds as a layer, perhaps among other uses.
    """

    roots: slice
    manifest_owners: Integers
    manifests: Numbers
    blob_owners: Integers
    blobs: Numbers
    is_layer: Flags

    @property
    def root_count(self) -> int:
        """How many roots this is about."""
        return int(self.roots.stop - self.roots.start)


def held_by_manifests(graph: Graph) -> Iterator[Piece]:
    """Every manifest as a root that holds itself and its blobs; children are not followed."""
    counts = np.diff(graph.blobs.starts)
    for roots in batches(counts, PIECE_EDGES):
        owners = np.repeat(np.arange(roots.stop - roots.start), counts[roots])
        places = np.arange(graph.blobs.starts[roots.start], graph.blobs.starts[roots.stop])
        is_layer = places - graph.blobs.starts[roots][owners] < graph.layer_counts[roots][owners]
        manifests = np.arange(roots.start, roots.stop)
        yield Piece(roots, manifests - roots.start, manifests, owners, graph.blobs.targets[places], is_layer)


def held_by_pairs(graph: Graph, roots: Numbers) -> Iterator[Piece]:
    """What each root, a pair, reaches inside its repository."""
    return _held(graph, graph.pair_children, roots, graph.pair_manifest)


def held_by_indexes(graph: Graph, roots: Numbers) -> Iterator[Piece]:
    """What each root, a manifest, reaches, wherever in the registry its children exist."""
    return _held(graph, graph.children, roots, np.arange(len(graph.manifest_ids)))


def _held(graph: Graph, children: Edges, roots: Numbers, manifest_of: Numbers) -> Iterator[Piece]:
    owners, places = children.follow(roots)
    weights = children.counts(roots) + 1
    np.add.at(weights, owners, graph.blobs.counts(manifest_of[children.targets[places]]))
    for part in batches(weights, PIECE_EDGES):
        owners, reached = children.closures(roots[part])
        manifests = manifest_of[reached]
        yield Piece(part, owners, manifests, *_distinct_blobs(graph, owners, manifests))


def _distinct_blobs(graph: Graph, owners: Integers, manifests: Numbers) -> tuple[Integers, Integers, Flags]:
    sources, places = graph.blobs.follow(manifests)
    is_layer = places - graph.blobs.starts[manifests][sources] < graph.layer_counts[manifests][sources]
    # The lowest bit sorts a use as a layer before any other use of the same blob by the same owner.
    keys = np.sort(owners[sources] << 33 | graph.blobs.targets[places].astype(np.int64) << 1 | ~is_layer)
    first = np.ones(len(keys), dtype=np.bool_)
    first[1:] = keys[1:] >> 1 != keys[:-1] >> 1
    keys = keys[first]
    return keys >> 33, keys >> 1 & 0xFFFFFFFF, keys & 1 == 0


def blobs_of_repositories(graph: Graph, pairs: Integers) -> Iterator[tuple[Integers, Integers]]:
    """The distinct blobs of the given pairs per repository: (repository, blob), ascending by repository."""
    repositories = graph.pair_repository[pairs]
    counts = graph.blobs.counts(graph.pair_manifest[pairs])
    weights = np.zeros(len(graph.repositories.ids), dtype=np.int64)
    np.add.at(weights, repositories, counts)
    for part in batches(weights, PIECE_EDGES):
        low, high = np.searchsorted(repositories, (part.start, part.stop))
        if weights[part].sum() > PIECE_EDGES:
            blobs = _blobs_of_one(graph, pairs[low:high], counts[low:high])
            yield np.full(len(blobs), part.start), blobs
        else:
            sources, places = graph.blobs.follow(graph.pair_manifest[pairs[low:high]])
            keys = distinct(repositories[low:high][sources].astype(np.int64) << 32 | graph.blobs.targets[places])
            yield keys >> 32, keys & 0xFFFFFFFF


def _blobs_of_one(graph: Graph, pairs: Integers, counts: Integers) -> Integers:
    """For a repository too large for one piece: marks instead of sorting."""
    marked = np.zeros(len(graph.blob_bytes), dtype=np.bool_)
    for part in batches(counts, PIECE_EDGES):
        marked[graph.blobs.targets[graph.blobs.follow(graph.pair_manifest[pairs[part]])[1]]] = True
    return np.flatnonzero(marked)


def mark_blobs(graph: Graph, manifests: Flags) -> Flags:
    """The blobs that any of the marked manifests names."""
    marked = np.zeros(len(graph.blob_bytes), dtype=np.bool_)
    counts = np.diff(graph.blobs.starts)
    for part in batches(counts, PIECE_EDGES):
        targets = graph.blobs.targets[graph.blobs.starts[part.start] : graph.blobs.starts[part.stop]]
        marked[targets[np.repeat(manifests[part], counts[part])]] = True
    return marked


def mark_manifests(graph: Graph, pairs: Flags) -> Flags:
    """The manifests of the marked pairs."""
    marked = np.zeros(len(graph.manifest_ids), dtype=np.bool_)
    marked[graph.pair_manifest[pairs]] = True
    return marked
