"""How much does each repository, or group of repositories, store, alone and with others?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from regwarden.store.arrays import Flags, Integers, Numbers, Positions, distinct, sum_by_group, total
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


@dataclass(frozen=True, slots=True)
class GroupSizes:
    """Bytes per group: what its tags reach, and the part of it that tags of no other group reach."""

    stored: Integers
    exclusive: Integers


def measure_repositories(graph: Graph) -> RepositorySizes:
    """The distinct content of all repositories, counted and shared out as ``core.graph`` defines it."""
    held = _held_by_tags(graph)
    content = _Content.of_repositories(graph, held)
    stored = content.stored()
    return RepositorySizes(
        stored=stored,
        stored_all=_with_untagged(graph, held, stored),
        exclusive=content.exclusive(),
        attributed=sum_by_group(content.owner, _shares(content), content.owner_count),
        registry_stored=total(content.node_bytes[content.holder_counts > 0]),
        registry_stored_all=_everything(graph),
    )


def measure_groups(graph: Graph, group: Integers, group_count: int) -> GroupSizes:
    """The distinct content of groups of repositories; ``group`` is the group of each, in the order of the graph.

    Each is measured as if it were one repository.
    """
    content = _Content.of_repositories(graph, _held_by_tags(graph)).grouped(group, group_count)
    return GroupSizes(stored=content.stored(), exclusive=content.exclusive())


@dataclass(frozen=True, slots=True)
class _Content:
    """Who holds what: (owner, node), each once; nodes are the manifests, then the blobs."""

    owner: Numbers
    node: Numbers
    owner_count: int
    node_bytes: Integers
    holder_counts: Integers

    @staticmethod
    def of_repositories(graph: Graph, held: Flags) -> _Content:
        """What each repository holds by the pairs that count."""
        repository, node = _nodes_of_repositories(graph, np.flatnonzero(held))
        node_bytes = np.concatenate((graph.manifest_bytes, graph.blob_bytes))
        return _Content(repository, node, len(graph.repositories.ids), node_bytes, _count_holders(node, node_bytes))

    def grouped(self, group: Integers, group_count: int) -> _Content:
        """What the groups of the owners hold."""
        keys = distinct(group[self.owner].astype(np.int64) << 32 | self.node)
        owner, node = keys >> 32, keys & 0xFFFFFFFF
        return _Content(owner, node, group_count, self.node_bytes, _count_holders(node, self.node_bytes))

    def stored(self) -> Integers:
        """Bytes that each owner holds."""
        return sum_by_group(self.owner, self.node_bytes[self.node], self.owner_count)

    def exclusive(self) -> Integers:
        """Bytes that no other owner holds."""
        alone = self.holder_counts[self.node] == 1
        return sum_by_group(self.owner[alone], self.node_bytes[self.node[alone]], self.owner_count)


def _count_holders(node: Numbers, node_bytes: Integers) -> Integers:
    counts: Integers = np.bincount(node, minlength=len(node_bytes))
    return counts


def _held_by_tags(graph: Graph) -> Flags:
    tagged = np.zeros(len(graph.pair_manifest), dtype=np.bool_)
    tagged[graph.tags.pair[graph.tags.pair >= 0]] = True
    return graph.pair_children.reachable(tagged)


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


def _shares(content: _Content) -> Integers:
    """Each holder's part of each node: equal, what does not divide to the first repositories (they are by name)."""
    node = content.node
    sizes, holders = content.node_bytes[node], content.holder_counts[node]
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
