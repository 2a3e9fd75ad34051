"""How much does each repository store, alone and with others? Stored, exclusive and attributed bytes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from regwarden.store.arrays import Flags, Integers, Numbers, Positions, sum_by_group, total
from regwarden.store.graph_arrays import Graph
from regwarden.store.reach import blobs_of_repositories, mark_blobs, mark_manifests


@dataclass(frozen=True, slots=True)
class RepositorySizes:
    """Bytes per repository in the order of the graph, and of the registry as a whole."""

    stored: Integers
    stored_all: Integers
    exclusive: Integers
    attributed: Integers
    registry_stored: int
    registry_stored_all: int


def measure_repositories(graph: Graph) -> RepositorySizes:
    """The distinct content of all repositories, counted and shared out as ``core.graph`` defines it."""
    tagged = np.zeros(len(graph.pair_manifest), dtype=np.bool_)
    tagged[graph.tags.pair[graph.tags.pair >= 0]] = True
    held = graph.pair_children.reachable(tagged)
    count = len(graph.repositories.ids)
    node_bytes = np.concatenate((graph.manifest_bytes, graph.blob_bytes))
    repository, node = _nodes_of_repositories(graph, np.flatnonzero(held))
    holder_count = np.bincount(node, minlength=len(node_bytes))
    sizes, holders = node_bytes[node], holder_count[node]
    stored = sum_by_group(repository, sizes, count)
    alone = holders == 1
    return RepositorySizes(
        stored=stored,
        stored_all=_with_untagged(graph, held, stored),
        exclusive=sum_by_group(repository[alone], sizes[alone], count),
        attributed=sum_by_group(repository, _shares(node, sizes, holders), count),
        registry_stored=total(node_bytes[holder_count > 0]),
        registry_stored_all=_everything(graph),
    )


def _nodes_of_repositories(graph: Graph, pairs: Integers) -> tuple[Positions, Positions]:
    """(repository, node) of everything the pairs hold, each once; nodes are the manifests, then the blobs."""
    repositories = [graph.pair_repository[pairs]]
    nodes = [graph.pair_manifest[pairs]]
    for repository, blob in blobs_of_repositories(graph, pairs):
        repositories.append(repository.astype(np.int32))
        nodes.append((blob + len(graph.manifest_ids)).astype(np.int32))
    return np.concatenate(repositories), np.concatenate(nodes)


def _with_untagged(graph: Graph, held: Flags, stored: Integers) -> Integers:
    """Stored bytes, untagged content included. Only repositories that have some are measured again."""
    again = np.zeros(len(stored), dtype=np.bool_)
    again[graph.pair_repository[graph.pair_is_read & ~held]] = True
    if not again.any():
        return stored
    repository, node = _nodes_of_repositories(graph, np.flatnonzero(graph.pair_is_read & again[graph.pair_repository]))
    node_bytes = np.concatenate((graph.manifest_bytes, graph.blob_bytes))
    complete: Integers = np.where(again, sum_by_group(repository, node_bytes[node], len(stored)), stored)
    return complete


def _everything(graph: Graph) -> int:
    manifests = mark_manifests(graph, graph.pair_is_read)
    blobs = mark_blobs(graph, manifests)
    return total(np.concatenate((graph.manifest_bytes[manifests], graph.blob_bytes[blobs])))


def _shares(node: Numbers, sizes: Integers, holders: Integers) -> Integers:
    """Each holder's part of each node: equal, what does not divide to the first repositories (they are by name)."""
    shares = sizes // holders
    uneven = np.flatnonzero(shares * holders != sizes)
    # The rows ascend by repository, so a stable sort by node keeps the holders of each node in that order.
    order = uneven[np.argsort(node[uneven], kind="stable")]
    starts = np.ones(len(order), dtype=np.bool_)
    starts[1:] = node[order[1:]] != node[order[:-1]]
    places = np.arange(len(order))
    turns = places - np.maximum.accumulate(np.where(starts, places, 0))
    shares[order] += turns < sizes[order] - shares[order] * holders[order]
    return shares
