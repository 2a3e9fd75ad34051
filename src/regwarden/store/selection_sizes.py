"""What do some tags weigh together, and what would deleting just them free?

Unlike the sums over single tags, content that several of them share counts once, and content that only they share is
freed. A manifest that an unselected tag points to stays.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from sqlalchemy import select
from sqlalchemy.engine import Connection

from regwarden.core.graph import Confidence
from regwarden.store.analytics import load_referrers, reclaim_pairs
from regwarden.store.arrays import Flags, Integers, Lookup, total
from regwarden.store.graph_arrays import Graph, load_graph
from regwarden.store.reach import mark_blobs, mark_manifests
from regwarden.store.schema import registries, repositories, tags


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionSizes:
    """Sizes of selected tags of one registry, in bytes.

    ``logical_bytes`` is the sum over the tags as if nothing were shared, ``None`` if one of them is unknown;
    ``exclusive_bytes`` is the part of ``stored_bytes`` that no other tag of the registry needs.
    ``reclaimable_bytes`` is what deleting frees at most (the registry may hold untagged content that is not known),
    ``lower_bound_bytes`` what it frees at least.
    """

    registry: str
    tag_count: int
    manifest_count: int
    logical_bytes: int | None
    stored_bytes: int
    exclusive_bytes: int
    shared_bytes: int
    reclaimable_bytes: int
    lower_bound_bytes: int
    reclaimable_confidence: Confidence


def measure_selection(connection: Connection, registry: str, names: Collection[tuple[str, str]]) -> SelectionSizes:
    """The sizes of the tags ``names`` (repository, tag) of a registry that is in the inventory; reads only."""
    registry_id = connection.execute(select(registries.c.id).where(registries.c.name == registry)).scalar_one()
    graph = load_graph(connection, registry_id)
    ids, logical_bytes = _find_tags(connection, registry_id, names)
    places = Lookup(graph.tags.ids).find(ids)
    is_selected = np.zeros(len(graph.tags.ids), dtype=np.bool_)
    is_selected[places[places >= 0]] = True
    own, others = _pairs(graph, is_selected), _pairs(graph, ~is_selected)
    reached, needed_elsewhere = _content(graph, own), _content(graph, others)
    stored_bytes = _sum(graph, *reached)
    exclusive_bytes = _sum(graph, *(mine & ~theirs for mine, theirs in zip(reached, needed_elsewhere, strict=True)))
    freed_bytes, document_bytes = reclaim_pairs(graph, load_referrers(connection, graph), own & ~others)
    return SelectionSizes(
        registry=registry,
        tag_count=len(ids),
        manifest_count=int(own.sum()),
        logical_bytes=logical_bytes,
        stored_bytes=stored_bytes,
        exclusive_bytes=exclusive_bytes,
        shared_bytes=stored_bytes - exclusive_bytes,
        reclaimable_bytes=freed_bytes,
        lower_bound_bytes=document_bytes,
        reclaimable_confidence=Confidence.UPPER_BOUND,
    )


def _find_tags(
    connection: Connection, registry_id: int, names: Collection[tuple[str, str]]
) -> tuple[Integers, int | None]:
    """The ids of the tags and the sum of their logical bytes; one pass, because a selection may be most of them."""
    wanted = set(names)
    statement = (
        select(tags.c.id, repositories.c.name.label("repository"), tags.c.name, tags.c.logical_bytes)
        .join(repositories, repositories.c.id == tags.c.repository_id)
        .where(repositories.c.registry_id == registry_id, repositories.c.deleted_at.is_(None))
    )
    found = [row for row in connection.execute(statement) if (row.repository, row.name) in wanted]
    sizes = [row.logical_bytes for row in found]
    ids = np.array([row.id for row in found], dtype=np.int64)
    return ids, None if None in sizes else sum(sizes)


def _pairs(graph: Graph, is_chosen: Flags) -> Flags:
    """The manifests, in their repositories, that the chosen tags point to."""
    pairs = graph.tags.pair[is_chosen]
    marked = np.zeros(len(graph.pair_manifest), dtype=np.bool_)
    marked[pairs[pairs >= 0]] = True
    return marked


def _content(graph: Graph, pairs: Flags) -> tuple[Flags, Flags]:
    """The manifests and blobs that can be reached from these pairs."""
    manifests = mark_manifests(graph, graph.pair_children.reachable(pairs))
    return manifests, mark_blobs(graph, manifests)


def _sum(graph: Graph, manifests: Flags, blobs: Flags) -> int:
    return total(np.concatenate((graph.manifest_bytes[manifests], graph.blob_bytes[blobs])))
