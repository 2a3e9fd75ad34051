"""How large is everything, and what would a deletion free? The fast engine behind the figures of ``core.graph``.

It equals that specification on every registry. The walks over the graph are in ``store.reach``, the reading in
``store.graph_arrays``, the sums in ``store.tag_sizes`` and ``store.repository_sizes``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import numpy as np
from sqlalchemy import select
from sqlalchemy.engine import Connection

from regwarden.core.graph import MAX_REFERRER_ROUNDS, Confidence
from regwarden.store import schema
from regwarden.store.arrays import Edges, Flags, Integers, Lookup, sum_by_group, total
from regwarden.store.columns import read_integers
from regwarden.store.database import Database
from regwarden.store.figures import FigureRows, Figures, Pending, find_changes, write_days, write_registry, write_rows
from regwarden.store.graph_arrays import Graph, find_pairs, load_graph, pair_key
from regwarden.store.reach import mark_blobs, mark_manifests
from regwarden.store.repository_sizes import RepositorySizes, measure_repositories
from regwarden.store.tag_sizes import UNKNOWN, TagSizes, measure_indexes, measure_tags, rank_tags


@dataclass(frozen=True, slots=True)
class Reclaimable:
    """Bytes that deleting a selection frees, and at least how many.

    ``lower_bound_bytes`` are the selected documents alone: what is not known may hold any blob. It does not hold
    if unknown untagged content in another repository is, or lists, a selected manifest.
    """

    reclaimable_bytes: int
    lower_bound_bytes: int
    confidence: Confidence


def measure_registry(connection: Connection, registry_id: int) -> Figures:
    """All sizes of one registry, as ``core.graph.measure`` defines them. Reads only; seconds per million manifests.

    Raises ``StoreError`` (code ``damaged``) if the stored graph contradicts itself.
    """
    graph = load_graph(connection, registry_id)
    return measure_graph(graph, rank_tags(connection, graph))


def measure_graph(graph: Graph, ranks: Integers) -> Figures:
    """All sizes of a registry in memory; ``ranks`` as ``rank_tags`` gives them."""
    tags = measure_tags(graph, ranks)
    repositories = measure_repositories(graph)
    pairs = {
        "repository_id": graph.repositories.ids[graph.pair_repository],
        "manifest_id": graph.manifest_ids[graph.pair_manifest],
    }
    return Figures(
        registry=_registry_values(graph, tags, repositories),
        repositories=_repository_rows(graph, tags, repositories),
        tags=_tag_rows(graph, tags),
        manifests=_index_rows(graph),
        repository_manifests=FigureRows(schema.repository_manifests, pairs, {"exclusive_bytes": tags.pair_exclusive}),
    )


async def materialise_sizes(database: Database, registry_id: int, at: datetime) -> None:
    """Compute all sizes of a registry off the event loop and store what changed, in many short transactions.

    ``at`` labels the figures; the registry's own row, written last, takes it as ``sized_at``.
    """

    def compute(reader: Connection) -> Pending:
        return find_changes(reader, registry_id, measure_registry(reader, registry_id))

    pending = await database.read(compute)
    for rows in pending.parts():
        await database.write(partial(write_rows, rows=rows))
    for rows in pending.days.parts():
        await database.write(partial(write_days, registry_id=registry_id, rows=rows, at=at))
    await database.write(partial(write_registry, pending=pending, at=at))


def _repository_rows(graph: Graph, tags: TagSizes, sizes: RepositorySizes) -> FigureRows:
    count = len(graph.repositories.ids)
    tag_count = np.bincount(graph.tags.repository, minlength=count)
    manifest_count = np.bincount(graph.pair_repository, minlength=count)
    values = {
        "logical_bytes": _by_repository(graph, tags.logical),
        "stored_bytes": sizes.stored,
        "stored_all_bytes": sizes.stored_all,
        "exclusive_bytes": sizes.exclusive,
        "shared_bytes": sizes.stored - sizes.exclusive,
        "attributed_bytes": sizes.attributed,
        "layer_bytes": _by_repository(graph, tags.layer),
        "disk_bytes": _by_repository(graph, tags.disk),
    }
    # A repository that could never be read is not empty: its figures are unknown.
    unknown = graph.repositories.is_unread & (tag_count == 0) & (manifest_count == 0)
    known = {name: np.where(unknown, UNKNOWN, column) for name, column in values.items()}
    counts = {"tag_count": tag_count, "manifest_count": manifest_count}
    return FigureRows(schema.repositories, {"id": graph.repositories.ids}, {**counts, **known})


def _by_repository(graph: Graph, values: Integers) -> Integers:
    counted = values != UNKNOWN
    return sum_by_group(graph.tags.repository[counted], values[counted], len(graph.repositories.ids))


def _registry_values(graph: Graph, tags: TagSizes, sizes: RepositorySizes) -> dict[str, int]:
    return {
        "repository_count": len(graph.repositories.ids),
        "tag_count": len(graph.tags.ids),
        "manifest_count": len(graph.manifest_ids),
        "logical_bytes": total(tags.logical[tags.logical != UNKNOWN]),
        "stored_bytes": sizes.registry_stored,
        "stored_all_bytes": sizes.registry_stored_all,
        "layer_bytes": total(tags.layer[tags.layer != UNKNOWN]),
        "disk_bytes": total(tags.disk[tags.disk != UNKNOWN]),
    }


def _tag_rows(graph: Graph, tags: TagSizes) -> FigureRows:
    values = {
        "logical_bytes": tags.logical,
        "exclusive_bytes": tags.exclusive,
        "shared_bytes": np.where(tags.logical == UNKNOWN, UNKNOWN, tags.logical - tags.exclusive),
        "layer_bytes": tags.layer,
        "disk_bytes": tags.disk,
    }
    return FigureRows(schema.tags, {"id": graph.tags.ids}, values)


def _index_rows(graph: Graph) -> FigureRows:
    indexes, logical, layer = measure_indexes(graph)
    return FigureRows(
        schema.manifests, {"id": graph.manifest_ids[indexes]}, {"logical_bytes": logical, "layer_bytes": layer}
    )


def reclaimable(
    connection: Connection,
    registry_id: int,
    manifest_ids: Sequence[int] | Integers,
    *,
    repository_ids: Sequence[int] | None = None,
    untagged_known: bool = False,
) -> Reclaimable:
    """What deleting these manifests, with their tags, from the given repositories (None: all) frees.

    Defined by ``core.graph.reclaim``. ``untagged_known`` says that the inventory holds everything the registry
    does, untagged content included; a crawl alone never knows that.
    """
    graph = load_graph(connection, registry_id)
    selected = np.zeros(len(graph.manifest_ids), dtype=np.bool_)
    places = Lookup(graph.manifest_ids).find(np.asarray(manifest_ids, dtype=np.int64))
    selected[places[places >= 0]] = True
    affected = np.ones(len(graph.repositories.ids), dtype=np.bool_)
    if repository_ids is not None:
        affected = np.isin(graph.repositories.ids, np.asarray(repository_ids, dtype=np.int64))
    freed_bytes, document_bytes = reclaim(graph, load_referrers(connection, graph), selected, affected)
    if untagged_known and graph.is_read.all() and not has_unreadable_tags(connection, registry_id):
        return Reclaimable(freed_bytes, freed_bytes, Confidence.EXACT)
    return Reclaimable(freed_bytes, document_bytes, Confidence.UPPER_BOUND)


def reclaim(graph: Graph, referrers: Edges, selected: Flags, affected: Flags) -> tuple[int, int]:
    """Bytes freed by deleting the selected manifests from the affected repositories: (all, selected documents)."""
    return reclaim_pairs(graph, referrers, selected[graph.pair_manifest] & affected[graph.pair_repository])


def reclaim_pairs(graph: Graph, referrers: Edges, removed: Flags) -> tuple[int, int]:
    """Bytes freed by deleting these manifests from these repositories: (all, selected documents)."""
    selected = mark_manifests(graph, removed)
    kept = mark_manifests(graph, _kept_pairs(graph, removed, referrers))
    freed = mark_manifests(graph, graph.pair_is_read) & ~kept
    freed_blobs = mark_blobs(graph, freed) & ~mark_blobs(graph, kept)
    freed_bytes = total(np.concatenate((graph.manifest_bytes[freed], graph.blob_bytes[freed_blobs])))
    return freed_bytes, total(graph.manifest_bytes[freed & selected])


def has_unreadable_tags(connection: Connection, registry_id: int) -> bool:
    """Whether nobody knows what some tag of a registry leads to."""
    tags, repositories = schema.tags, schema.repositories
    unreadable = (
        select(tags.c.id)
        .join(repositories)
        .where(
            repositories.c.registry_id == registry_id, repositories.c.deleted_at.is_(None), tags.c.state == "unreadable"
        )
    )
    return connection.execute(unreadable.limit(1)).first() is not None


def _kept_pairs(graph: Graph, removed: Flags, referrers: Edges) -> Flags:
    """What is still reachable from kept roots; ``referrers`` leads from each pair to those that name it as subject."""
    tagged = np.zeros(len(removed), dtype=np.bool_)
    tagged[graph.tags.pair[graph.tags.pair >= 0]] = True
    listed = np.zeros(len(removed), dtype=np.bool_)
    listed[graph.pair_children.targets] = True
    is_root = graph.pair_is_read & (tagged | ~listed)
    removed = removed.copy()
    kept = graph.pair_children.reachable(is_root & ~removed)
    for _ in range(MAX_REFERRER_ROUNDS):
        followers = referrers.targets[referrers.follow(np.flatnonzero(removed & ~kept))[1]]
        followers = followers[~tagged[followers] & ~removed[followers]]
        if not len(followers):
            break
        removed[followers] = True
        kept = graph.pair_children.reachable(is_root & ~removed)
    return kept


def load_referrers(connection: Connection, graph: Graph) -> Edges:
    """Edges from pairs to the pairs of the same repository whose manifest names theirs as its subject."""
    referrer, subject = schema.manifests.alias(), schema.manifests.alias()
    statement = (
        select(referrer.c.id, subject.c.id)
        .select_from(referrer.join(subject, subject.c.digest == referrer.c.subject_digest))
        .where(referrer.c.subject_digest.is_not(None))
    )
    manifests = Lookup(graph.manifest_ids)
    referrers, subjects = (manifests.find(ids) for ids in read_integers(connection, statement))
    known = (referrers >= 0) & (subjects >= 0)
    subject_of = np.full(len(graph.manifest_ids), -1, dtype=np.int32)
    subject_of[referrers[known]] = subjects[known]
    pairs = np.flatnonzero(graph.pair_is_read & (subject_of[graph.pair_manifest] >= 0))
    wanted = pair_key(graph.pair_repository[pairs], subject_of[graph.pair_manifest[pairs]])
    found = find_pairs(graph.pair_keys(), wanted)
    return Edges.grouped(found[found >= 0], pairs[found >= 0], len(graph.pair_manifest))
