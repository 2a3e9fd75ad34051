"""What is stored of a GitLab's figures, cleanup policies and tags, for reports?"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from regwarden.core.gitlab_sizes import PRECISE, SizeScope
from regwarden.store.cleanup_schema import plan_repositories, plans
from regwarden.store.graph_arrays import load_graph
from regwarden.store.group_sizes import layers_alone, number_groups
from regwarden.store.past_rows import fetch
from regwarden.store.plan_records import PlanState
from regwarden.store.plans import load_steps
from regwarden.store.project_schema import namespaces, projects
from regwarden.store.repository_sizes import measure_groups
from regwarden.store.schema import manifests, registries, removals, repositories, tag_history, tags
from regwarden.store.times import from_micros

_READ_STATES = frozenset({"complete", "untagged"})


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFigure:
    """GitLab's figure, in bytes, and what is known of it."""

    size_bytes: int | None = None
    precision: str = ""
    is_estimated: bool | None = None
    sized_at: datetime | None = None


NO_FIGURE = RemoteFigure()


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredScope:
    """One repository, project or namespace: GitLab's figure, and ours of the same.

    ``layer_bytes`` are the distinct layers that its tags reach, ``stored_bytes`` all that they reach, ``changed_at``
    when a tag last changed by what is known here. ``is_whole``: all of it could be read.
    """

    name: str
    repository_count: int
    layer_bytes: int
    stored_bytes: int
    changed_at: datetime | None
    is_whole: bool
    remote: RemoteFigure


class StoredTag(NamedTuple):
    """A tag with the times that GitLab may go by; ``is_read`` says that its manifest is known."""

    repository: str
    name: str
    published_at: datetime | None
    created_at: datetime | None
    is_index: bool
    is_read: bool
    is_protected: bool


def list_gitlab_registries(connection: Connection, name: str | None = None) -> dict[str, int]:
    """The registries of kind gitlab, or the named one if it is of that kind, by name: their ids."""
    statement = select(registries.c.name, registries.c.id).where(registries.c.kind == "gitlab")
    if name is not None:
        statement = statement.where(registries.c.name == name)
    return {row.name: row.id for row in connection.execute(statement.order_by(registries.c.name))}


def measure_scopes(connection: Connection, registry_id: int, scope: SizeScope) -> list[MeasuredScope]:
    """Everything of one scope in a registry, by name; projects and namespaces that are not known are left out."""
    table = repositories
    rows = connection.execute(
        select(table).where(table.c.registry_id == registry_id, table.c.deleted_at.is_(None)).order_by(table.c.name)
    ).all()
    number, names = number_groups([_scope_name(row, scope) for row in rows])
    graph = load_graph(connection, registry_id)
    stored = measure_groups(graph, number, len(names)).stored
    layers = measure_groups(layers_alone(graph), number, len(names)).stored
    counts = np.bincount(number, minlength=len(names))
    changes = _last_changes(connection, registry_id)
    changed_at: dict[int, int] = {}
    unread: set[int] = set()
    for place, row in zip(number.tolist(), rows, strict=True):
        changed_at[place] = max(changed_at.get(place, 0), changes.get(row.id, 0))
        if row.state not in _READ_STATES or row.problem_count:
            unread.add(place)
    remote = _remote_figures(connection, registry_id, scope)
    found = [
        MeasuredScope(
            name=name,
            repository_count=int(counts[place]),
            layer_bytes=int(layers[place]),
            stored_bytes=int(stored[place]),
            changed_at=from_micros(changed_at[place]) if changed_at[place] else None,
            is_whole=place not in unread,
            remote=remote.get(name.lower(), NO_FIGURE),
        )
        for place, name in enumerate(names)
        if isinstance(name, str)
    ]
    return sorted(found, key=lambda one: one.name)


def _scope_name(row: Any, scope: SizeScope) -> str | None:
    match scope:
        case SizeScope.REPOSITORY:
            return str(row.name)
        case SizeScope.PROJECT:
            return row.project or None
        case SizeScope.NAMESPACE:
            return str(row.project or row.name).partition("/")[0]


def _remote_figures(connection: Connection, registry_id: int, scope: SizeScope) -> dict[str, RemoteFigure]:
    """GitLab's figures by name; those of paths are found whatever the case is."""
    table: Any = {SizeScope.REPOSITORY: repositories, SizeScope.PROJECT: projects, SizeScope.NAMESPACE: namespaces}[
        scope
    ]
    statement = select(table).where(table.c.registry_id == registry_id, table.c.remote_bytes.is_not(None))
    found: dict[str, RemoteFigure] = {}
    for row in connection.execute(statement):
        if scope is SizeScope.REPOSITORY:
            found[row.name.lower()] = RemoteFigure(
                size_bytes=row.remote_bytes,
                precision=row.remote_precision or PRECISE,
                sized_at=from_micros(row.remote_sized_at),
            )
        else:
            estimated = row.is_estimated if scope is SizeScope.NAMESPACE else None
            found[row.path.lower()] = RemoteFigure(
                size_bytes=row.remote_bytes,
                is_estimated=None if estimated is None else bool(estimated),
                sized_at=from_micros(row.seen_at),
            )
    return found


def _last_changes(connection: Connection, registry_id: int) -> dict[int, int]:
    """When a tag of each repository last changed, or something was removed there."""
    found: dict[int, int] = {}
    for table in (tag_history, removals):
        rows = connection.execute(
            select(table.c.repository_id, func.max(table.c.at))
            .join(repositories, repositories.c.id == table.c.repository_id)
            .where(repositories.c.registry_id == registry_id)
            .group_by(table.c.repository_id)
        )
        for number, at in rows:
            found[number] = max(at, found.get(number, 0))
    return found


def load_project_tags(connection: Connection, registry_id: int, project_id: int) -> list[StoredTag]:
    """The tags of all repositories of a project, GitLab's number of it given, by repository and name."""
    rows = fetch(
        connection,
        select(
            repositories.c.name,
            tags.c.name,
            tags.c.published_at,
            tags.c.created_at,
            manifests.c.is_index,
            manifests.c.state,
            tags.c.is_protected,
        )
        .join(repositories, repositories.c.id == tags.c.repository_id)
        .outerjoin(manifests, manifests.c.id == tags.c.manifest_id)
        .where(
            repositories.c.registry_id == registry_id,
            repositories.c.project_remote_id == project_id,
            repositories.c.deleted_at.is_(None),
        )
        .order_by(repositories.c.name, tags.c.name),
    )
    return [
        StoredTag(
            repository=repository,
            name=name,
            published_at=from_micros(published_at),
            created_at=from_micros(created_at),
            is_index=bool(is_index),
            is_read=state == "read",
            is_protected=bool(is_protected),
        )
        for repository, name, published_at, created_at, is_index, state, is_protected in rows
    ]


def list_open_plans(connection: Connection, registry_id: int) -> dict[int, set[int]]:
    """The plans that may be applied or are being applied, by GitLab's number of each project that they change."""
    rows = connection.execute(
        select(repositories.c.project_remote_id, plan_repositories.c.plan_id)
        .select_from(plan_repositories)
        .join(plans, plans.c.id == plan_repositories.c.plan_id)
        .join(registries, registries.c.name == plan_repositories.c.registry)
        .join(
            repositories,
            (repositories.c.registry_id == registries.c.id) & (repositories.c.name == plan_repositories.c.repository),
        )
        .where(
            registries.c.id == registry_id,
            plan_repositories.c.step_count > 0,
            plans.c.state.in_([str(PlanState.OPEN), str(PlanState.APPLYING)]),
            repositories.c.project_remote_id.is_not(None),
        )
        .distinct()
    )
    found: dict[int, set[int]] = {}
    for project_id, plan_id in rows:
        found.setdefault(project_id, set()).add(plan_id)
    return found


def list_plan_policies(connection: Connection, plan_id: int) -> list[tuple[str, str, str, Mapping[str, object]]]:
    """GitLab's cleanup policies where a plan changes something: registry, repository, project and policy."""
    rows = connection.execute(
        select(plan_repositories.c.registry, plan_repositories.c.repository, projects.c.path, projects.c.cleanup_policy)
        .select_from(plan_repositories)
        .join(registries, registries.c.name == plan_repositories.c.registry)
        .join(
            repositories,
            (repositories.c.registry_id == registries.c.id) & (repositories.c.name == plan_repositories.c.repository),
        )
        .join(
            projects,
            (projects.c.registry_id == registries.c.id) & (projects.c.remote_id == repositories.c.project_remote_id),
        )
        .where(
            plan_repositories.c.plan_id == plan_id,
            plan_repositories.c.step_count > 0,
            projects.c.cleanup_policy.is_not(None),
        )
        .order_by(plan_repositories.c.registry, projects.c.path, plan_repositories.c.repository)
    )
    return [(row.registry, row.repository, row.path, json.loads(row.cleanup_policy)) for row in rows]


def iterate_removed_tags(connection: Connection, plan_id: int, place: tuple[str, str]) -> Iterator[str]:
    """The names of the tags that a plan removes in a registry and repository."""
    for one in load_steps(connection, plan_id, place=place):
        yield from one.step.tags
