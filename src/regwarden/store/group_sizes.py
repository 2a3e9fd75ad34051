"""How much do groups of repositories store: projects, their groups, owners, or parts of the path?

Content that several repositories of a group share counts once in it. Sizes are bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from sqlalchemy import select
from sqlalchemy.engine import Connection

from regwarden.core.access import EVERYTHING, Reach
from regwarden.core.grouping import GroupBy, Membership, group_of
from regwarden.store.arrays import Edges, Integers, sum_by_group
from regwarden.store.graph_arrays import Graph, load_graph
from regwarden.store.reach import held_by_pairs
from regwarden.store.repository_sizes import measure_groups
from regwarden.store.schema import registries, repositories
from regwarden.store.tag_sizes import Sizes


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupUsage:
    """What one group of repositories of a registry weighs; ``group`` is ``None`` for those that belong to none.

    ``logical_bytes`` is the sum over the tags, ``stored_bytes`` distinct content and no sum, ``exclusive_bytes`` the
    part of it that nothing outside of the group needs.
    """

    registry: str
    group: str | None
    repository_count: int
    tag_count: int
    logical_bytes: int
    stored_bytes: int
    exclusive_bytes: int
    shared_bytes: int


def list_group_usage(
    connection: Connection,
    by: GroupBy,
    depth: int | None = None,
    *,
    names: Sequence[str] = (),
    reach: Reach = EVERYTHING,
) -> list[GroupUsage]:
    """The groups of all registries, or of those named, by registry and the heaviest first.

    Only repositories in ``reach`` are counted; what others hold makes content shared.
    """
    statement = select(registries.c.id, registries.c.name).order_by(registries.c.name)
    if names:
        statement = statement.where(registries.c.name.in_(names))
    found: list[GroupUsage] = []
    for row in connection.execute(statement).all():
        if reach.touches(row.name):
            members = load_members(connection, row.id)
            groups = [
                (group_of(one, by, depth) if reach.has(row.name, one.repository) else _OUTSIDE) for one in members
            ]
            found += _measure(row.name, load_graph(connection, row.id), groups)
    return found


class _Outside:
    """Where repositories are put that must not be told of."""


_OUTSIDE = _Outside()


def load_members(connection: Connection, registry_id: int) -> list[Membership]:
    """Where each repository of a registry belongs, in the order of its graph."""
    table = repositories
    rows = connection.execute(
        select(table.c.name, table.c.project, table.c.project_group, table.c.owner)
        .where(table.c.registry_id == registry_id, table.c.deleted_at.is_(None))
        .order_by(table.c.name)
    )
    return [Membership(row.name, row.project, row.project_group, row.owner) for row in rows]


def number_groups(groups: Sequence[object]) -> tuple[Integers, list[object]]:
    """A number for each group that occurs, of each repository and the other way round."""
    places: dict[object, int] = {}
    numbers = [places.setdefault(group, len(places)) for group in groups]
    return np.array(numbers, dtype=np.int64), list(places)


def _measure(registry: str, graph: Graph, groups: Sequence[object]) -> list[GroupUsage]:
    number, names = number_groups(groups)
    count = len(names)
    sizes = measure_groups(graph, number, count)
    logical = _sum_logical(graph, number, count)
    repository_counts = np.bincount(number, minlength=count)
    tag_counts = np.bincount(number[graph.tags.repository], minlength=count)
    rows = [
        GroupUsage(
            registry=registry,
            group=None if name is None else str(name),
            repository_count=int(repository_counts[place]),
            tag_count=int(tag_counts[place]),
            logical_bytes=int(logical[place]),
            stored_bytes=int(sizes.stored[place]),
            exclusive_bytes=int(sizes.exclusive[place]),
            shared_bytes=int(sizes.stored[place] - sizes.exclusive[place]),
        )
        for place, name in enumerate(names)
        if name is not _OUTSIDE
    ]
    return sorted(rows, key=lambda row: (-row.stored_bytes, row.group is None, row.group or ""))


def _sum_logical(graph: Graph, number: Integers, count: int) -> Integers:
    """What pulling every tag of a group would transfer."""
    counted = graph.tags.pair >= 0
    pairs = graph.tags.pair[counted]
    is_root = np.zeros(len(graph.pair_manifest), dtype=np.bool_)
    is_root[pairs] = True
    roots = np.flatnonzero(is_root)
    sizes = Sizes(graph, len(roots))
    for piece in held_by_pairs(graph, roots):
        sizes.add(piece)
    logical = np.zeros(len(is_root), dtype=np.int64)
    logical[roots] = sizes.logical
    return sum_by_group(number[graph.tags.repository[counted]], logical[pairs], count)


def layers_alone(graph: Graph) -> Graph:
    """The same registry with nothing in it but the layers of its manifests: configurations and documents are gone."""
    starts = graph.blobs.starts
    owners = np.repeat(np.arange(len(graph.manifest_ids)), np.diff(starts))
    is_layer = np.arange(len(owners)) - starts[owners] < graph.layer_counts[owners]
    counts = np.bincount(owners[is_layer], minlength=len(graph.manifest_ids))
    edges = Edges(np.concatenate(([0], np.cumsum(counts))).astype(np.int64), graph.blobs.targets[is_layer])
    return replace(graph, blobs=edges, manifest_bytes=np.zeros_like(graph.manifest_bytes))
