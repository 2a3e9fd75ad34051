"""What does a plan do in each project, group or owner's repositories, and what would that part of it free alone?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec
import numpy as np
from sqlalchemy import select
from sqlalchemy.engine import Connection

from regwarden.core.grouping import GroupBy, group_of
from regwarden.core.plan import StepKind
from regwarden.store.arrays import Flags, Integers, distinct, sum_by_group
from regwarden.store.cleanup_schema import plan_steps, plans
from regwarden.store.graph_arrays import Graph, load_graph
from regwarden.store.group_sizes import load_members
from regwarden.store.past_rows import fetch
from regwarden.store.plan_records import PlanState
from regwarden.store.plan_sizes import find_deleted
from regwarden.store.reach import mark_blobs, mark_manifests
from regwarden.store.schema import registries

_TAGS: Final = msgspec.json.Decoder(tuple[str, ...])


class PlanGroup(NamedTuple):
    """What a plan does in one group of repositories of a registry; ``group`` is ``None`` for those that have none.

    ``freed_alone_bytes`` is what a garbage collection would free at most if only this part of the plan were applied:
    what several groups share is freed by none of them alone, so the parts add up to less than the plan. ``None``
    where the plan is not open.
    """

    registry: str
    group: str | None
    repository_count: int
    step_count: int
    tag_count: int
    manifest_count: int
    freed_alone_bytes: int | None


@dataclass(slots=True)
class _Part:
    """The steps of one group."""

    repositories: set[str] = field(default_factory=set)
    step_count: int = 0
    tag_count: int = 0
    manifest_count: int = 0


@dataclass(slots=True)
class _Deleted:
    """What is deleted in one registry: repositories and, beside each, the digest as it is stored."""

    names: list[str] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)


def list_plan_groups(connection: Connection, plan_id: int, by: GroupBy, depth: int | None = None) -> list[PlanGroup]:
    """The groups in which a plan has steps, by registry, the largest part first."""
    state = connection.execute(select(plans.c.state).where(plans.c.id == plan_id)).scalar()
    known = {row.name: row.id for row in connection.execute(select(registries.c.id, registries.c.name))}
    belongs: dict[str, dict[str, str | None]] = {}
    parts: dict[tuple[str, str | None], _Part] = {}
    deleted: dict[str, _Deleted] = {}
    columns = (plan_steps.c[name] for name in ("registry", "repository", "kind", "digest", "tags"))
    for registry, repository, kind, digest, tags in fetch(
        connection, select(*columns).where(plan_steps.c.plan_id == plan_id)
    ):
        if registry not in belongs:
            members = load_members(connection, known[registry]) if registry in known else []
            belongs[registry] = {one.repository: group_of(one, by, depth) for one in members}
        part = parts.setdefault((registry, belongs[registry].get(repository)), _Part())
        part.repositories.add(repository)
        part.step_count += 1
        part.tag_count += len(_TAGS.decode(tags))
        if kind == StepKind.DELETE:
            part.manifest_count += 1
            one = deleted.setdefault(registry, _Deleted())
            one.names.append(repository)
            one.digests.append(bytes(digest))
    freed: dict[tuple[str, str | None], int] = {}
    if state == PlanState.OPEN:
        for registry, one in deleted.items():
            if registry in known:
                sizes = _freed_alone(connection, known[registry], one, belongs[registry])
                freed |= {(registry, group): size for group, size in sizes.items()}
    rows = [_row(place, part, freed, state) for place, part in parts.items()]
    return sorted(rows, key=lambda row: (row.registry, -(row.freed_alone_bytes or 0), -row.step_count, row.group or ""))


def _row(
    place: tuple[str, str | None], part: _Part, freed: dict[tuple[str, str | None], int], state: str | None
) -> PlanGroup:
    is_measured = state == PlanState.OPEN
    return PlanGroup(
        registry=place[0],
        group=place[1],
        repository_count=len(part.repositories),
        step_count=part.step_count,
        tag_count=part.tag_count,
        manifest_count=part.manifest_count,
        freed_alone_bytes=freed.get(place, 0) if is_measured else None,
    )


def _freed_alone(
    connection: Connection, registry_id: int, deleted: _Deleted, belongs: dict[str, str | None]
) -> dict[str | None, int]:
    """What only the manifests name that a group deletes: nothing that is left, and no other group's, names it."""
    graph = load_graph(connection, registry_id)
    removed = find_deleted(connection, registry_id, graph, deleted.names, deleted.digests) & graph.pair_is_read
    places: dict[str | None, int] = {}
    group = np.array([places.setdefault(one, len(places)) for one in belongs.values()], dtype=np.int64)
    owner, node = _nodes_of_groups(graph, np.flatnonzero(removed), group)
    stays = _left_nodes(graph, removed)
    owner, node = owner[~stays[node]], node[~stays[node]]
    node_bytes = np.concatenate((graph.manifest_bytes, graph.blob_bytes))
    alone = np.bincount(node, minlength=len(node_bytes))[node] == 1
    sums = sum_by_group(owner[alone], node_bytes[node[alone]], len(places))
    return {name: int(sums[place]) for name, place in places.items()}


def _nodes_of_groups(graph: Graph, pairs: Integers, group: Integers) -> tuple[Integers, Integers]:
    """(group, node) of what the deleted name and list, each once; nodes are the manifests, then the blobs."""
    owners, manifests = group[graph.pair_repository[pairs]], graph.pair_manifest[pairs]
    sources, places = graph.blobs.follow(manifests)
    parents, children = graph.children.follow(manifests)
    blob_nodes = graph.blobs.targets[places].astype(np.int64) + len(graph.manifest_ids)
    keys = (
        owners << 32 | manifests,
        owners[sources] << 32 | blob_nodes,
        owners[parents] << 32 | graph.children.targets[children],
    )
    found = distinct(np.concatenate([key.astype(np.int64) for key in keys]))
    return found >> 32, found & 0xFFFFFFFF


def _left_nodes(graph: Graph, removed: Flags) -> Flags:
    """What is named or listed by what no group deletes."""
    manifests = mark_manifests(graph, graph.pair_is_read & ~removed)
    blobs = mark_blobs(graph, manifests)
    manifests[graph.children.targets[graph.children.follow(np.flatnonzero(manifests))[1]]] = True
    both: Sequence[Flags] = (manifests, blobs)
    return np.concatenate(both)
