"""Whose are the repositories of a registry, and what may we do there? What discoveries of projects found out."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Select, delete, exists, func, or_, select, true, update
from sqlalchemy.engine import Connection

from regwarden.core.graph import MAX_SUM_BYTES
from regwarden.core.projects import Access, Discovery, Namespace, Project, ProtectionRule, RepositorySize, RuleKind
from regwarden.core.text import printable
from regwarden.store.bulk import bulk_insert, bulk_update, bulk_upsert
from regwarden.store.changes import PROJECT_RULES, note_change
from regwarden.store.chunks import chunked
from regwarden.store.past_rows import fetch
from regwarden.store.project_rows import MAPPED, Values, changed_repositories, merge_projects, rule_rows
from regwarden.store.project_schema import namespaces, project_rules, projects
from regwarden.store.row_locks import lock_repositories
from regwarden.store.schema import registries, removals, repositories, tag_history
from regwarden.store.times import from_micros, to_micros

_MAX_TEXT: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredProject:
    """A project of a registry as it is known. ``repository_count`` counts its repositories that exist.

    ``seen_at`` is when a discovery last found it, ``rules_read_at`` when its rules were last read (``None``: never).
    """

    registry: str
    project: Project
    repository_count: int
    seen_at: datetime
    rules_read_at: datetime | None


def save_access(connection: Connection, registry_id: int, access: Access) -> None:
    """Keep who we are at a registry and what we may do there."""
    text = msgspec.json.encode(access).decode()
    connection.execute(update(registries).where(registries.c.id == registry_id).values(access=text))


def save_access_of(connection: Connection, registry: str, access: Access) -> None:
    """The same of a registry by its name; where the inventory has none nothing is stored."""
    text = msgspec.json.encode(access).decode()
    connection.execute(update(registries).where(registries.c.name == registry).values(access=text))


def load_access(connection: Connection, registry: str) -> Access | None:
    """What was kept of a registry, named; ``None`` where that is nothing."""
    stored = connection.scalar(select(registries.c.access).where(registries.c.name == registry))
    return read_access(stored or "{}")


def read_access(stored: str) -> Access | None:
    """The meaning of the column; ``None`` where nothing was stored, or by a release that used other words."""
    try:
        return None if stored == "{}" else msgspec.json.decode(stored, type=Access)
    except msgspec.ValidationError:
        return None


def list_projects(connection: Connection, registry: str | None = None) -> list[StoredProject]:
    """The projects that are known, of all registries or a named one, by registry and path; with their rules."""
    here = true() if registry is None else registries.c.name == registry
    condition = projects.c.registry_id.in_(select(registries.c.id).where(here))
    rules: dict[int, list[ProtectionRule]] = {}
    for row in connection.execute(_rules_of(condition)):
        rule = ProtectionRule(RuleKind(row.kind), row.pattern, row.delete_role, row.push_role)
        rules.setdefault(row.project_id, []).append(rule)
    # Counted apart: joined to each project they would be looked through once for each.
    counted = (
        select(repositories.c.registry_id, repositories.c.project_remote_id, func.count())
        .where(repositories.c.project_remote_id.is_not(None), repositories.c.deleted_at.is_(None))
        .group_by(repositories.c.registry_id, repositories.c.project_remote_id)
    )
    counts = {(row[0], row[1]): row[2] for row in connection.execute(counted)}
    rows = connection.execute(
        select(registries.c.name, projects)
        .join(registries, registries.c.id == projects.c.registry_id)
        .where(here)
        .order_by(registries.c.name, projects.c.path, projects.c.id)
    )
    return [
        _stored_project(row, rules.get(row.id, []), counts.get((row.registry_id, row.remote_id), 0)) for row in rows
    ]


def _stored_project(row: Any, rules: Sequence[ProtectionRule], repository_count: int) -> StoredProject:
    project = Project(
        id=row.remote_id,
        path=row.path,
        group=row.project_group,
        owner=row.owner,
        visibility=row.visibility,
        is_archived=bool(row.is_archived),
        access_level=row.access_level,
        cleanup_policy=None if row.cleanup_policy is None else json.loads(row.cleanup_policy),
        size_bytes=row.remote_bytes,
        rules=None if row.rules_read_at is None else tuple(sorted(rules)),
    )
    return StoredProject(
        registry=row.name,
        project=project,
        repository_count=repository_count,
        seen_at=from_micros(row.seen_at),
        rules_read_at=from_micros(row.rules_read_at),
    )


def load_namespaces(connection: Connection, registry: str) -> list[Namespace]:
    """The top-level groups and users of a registry, named, in the order of their paths."""
    statement = select(namespaces).join(registries, registries.c.id == namespaces.c.registry_id)
    rows = connection.execute(statement.where(registries.c.name == registry).order_by(namespaces.c.path))
    return [
        Namespace(
            path=row.path,
            size_bytes=row.remote_bytes,
            is_estimated=None if row.is_estimated is None else bool(row.is_estimated),
        )
        for row in rows
    ]


def save_remote_size(
    connection: Connection, registry_id: int, repository: str, size: RepositorySize | None, at: datetime
) -> None:
    """Keep the registry's own figure for a repository, asked for at ``at`` (aware UTC); ``None``: it has none."""
    values = {
        "remote_bytes": None if size is None else min(max(size.size_bytes, 0), MAX_SUM_BYTES),
        "remote_precision": None if size is None else printable(size.precision, _MAX_TEXT),
        "remote_sized_at": to_micros(at),
    }
    here = (repositories.c.registry_id == registry_id, repositories.c.name == repository)
    connection.execute(update(repositories).where(*here).values(values))


def find_unsized(connection: Connection, registry_id: int, names: Collection[str]) -> list[str]:
    """Which of these repositories were never asked for their size, or changed since by what is known of their tags."""
    asked_at = repositories.c.remote_sized_at
    point = exists().where(tag_history.c.repository_id == repositories.c.id, tag_history.c.at >= asked_at)
    removal = exists().where(removals.c.repository_id == repositories.c.id, removals.c.at >= asked_at)
    found: list[str] = []
    for some in chunked(sorted(names)):
        here = (repositories.c.registry_id == registry_id, repositories.c.name.in_(some))
        rows = connection.execute(select(repositories.c.name).where(*here, or_(asked_at.is_(None), point, removal)))
        found += rows.scalars()
    return sorted(found)


def save_discovery(connection: Connection, registry_id: int, discovery: Discovery, at: datetime) -> None:
    """Keep what a discovery at ``at`` (aware UTC) found: projects, rules, namespaces, and whose each repository is.

    What is ``None`` keeps its older value, and rules that could not be read go on holding. Only a complete discovery
    takes anything away: from repositories that are gone, and projects without any that it did not find.
    Repositories are those that the inventory has: those that it gets later need another call.
    """
    columns = projects.c
    stored = {
        row.remote_id: row for row in connection.execute(select(projects).where(columns.registry_id == registry_id))
    }
    merged = merge_projects(registry_id, discovery.projects, stored, at)
    if merged:
        rows = list(merged.values())
        changing = tuple(name for name in rows[0] if name not in ("registry_id", "remote_id"))
        bulk_upsert(connection, projects, rows, update=changing, conflict=("registry_id", "remote_id"))
    are_rules_new = _save_rules(connection, registry_id, discovery.projects)
    known = {number: dict(row._mapping) for number, row in stored.items()} | merged  # noqa: SLF001 -- its public name
    are_places_new = _save_places(connection, registry_id, discovery, known)
    _save_namespaces(connection, registry_id, discovery.namespaces, at)
    if discovery.is_complete:
        _forget_projects(connection, registry_id, merged.keys())
    if are_rules_new or (are_places_new and _has_rules(connection, registry_id)):
        note_change(connection, PROJECT_RULES)


def _save_rules(connection: Connection, registry_id: int, found: Collection[Project]) -> bool:
    """Replace the rules of those projects whose rules are known; whether any are others than before."""
    ids = _project_ids(connection, registry_id)
    wanted = {
        ids[one.id]: rule_rows(ids[one.id], one.rules) for one in found if one.rules is not None and one.id in ids
    }
    stored: dict[int, set[tuple[Any, ...]]] = {}
    for row in connection.execute(_rules_of(projects.c.registry_id == registry_id)):
        stored.setdefault(row.project_id, set()).add(tuple(row))
    for one in found:
        if not one.are_all_rules and (rows := wanted.get(ids.get(one.id, 0))) is not None:
            _add_known(rows, stored.get(ids[one.id], set()))
    changed = sorted(
        number for number, rows in wanted.items() if {tuple(row.values()) for row in rows} != stored.get(number, set())
    )
    for some in chunked(changed):
        connection.execute(delete(project_rules).where(project_rules.c.project_id.in_(some)))
    bulk_insert(connection, project_rules, [row for number in changed for row in wanted[number]])
    return bool(changed)


def _add_known(rows: list[Values], known: Iterable[tuple[Any, ...]]) -> None:
    """Keep the rules that were known beside those that were read, which say more where both name the same tags."""
    columns = ("project_id", "kind", "pattern", "delete_role", "push_role")
    there = {(row["kind"], row["pattern"]) for row in rows}
    older = (dict(zip(columns, one, strict=True)) for one in sorted(known))
    rows += [row for row in older if (row["kind"], row["pattern"]) not in there]


def _save_places(
    connection: Connection, registry_id: int, discovery: Discovery, known: Mapping[int, Mapping[str, Any]]
) -> bool:
    """Fill the columns of repositories; whether any belongs to another project than before."""
    names = ("id", "name", "deleted_at", *MAPPED)
    columns = [repositories.c[name] for name in names]
    rows = fetch(connection, select(*columns).where(repositories.c.registry_id == registry_id))
    place = names.index("project_remote_id")
    before = {row[0]: row[place] for row in rows}
    changed = list(changed_repositories(rows, discovery, known))
    lock_repositories(connection, (row["id"] for row in changed))
    bulk_update(connection, repositories, changed)
    return any(before[row["id"]] != row["project_remote_id"] for row in changed)


def _save_namespaces(connection: Connection, registry_id: int, found: Sequence[Namespace], at: datetime) -> None:
    columns = namespaces.c
    old = {row.path: row for row in connection.execute(select(namespaces).where(columns.registry_id == registry_id))}
    rows: list[Values] = []
    for one in found:
        path = printable(one.path, _MAX_TEXT)
        values: Values = {"remote_bytes": None, "is_estimated": None}
        if one.size_bytes is not None:
            values["remote_bytes"] = min(max(one.size_bytes, 0), MAX_SUM_BYTES)
            values["is_estimated"] = None if one.is_estimated is None else int(one.is_estimated)
        elif path in old:
            values = {name: getattr(old[path], name) for name in values}
        rows.append({"registry_id": registry_id, "path": path, **values, "seen_at": to_micros(at)})
    bulk_upsert(connection, namespaces, rows, update=("remote_bytes", "is_estimated", "seen_at"))


def _forget_projects(connection: Connection, registry_id: int, found: Collection[int]) -> None:
    """Delete projects that are not among the ``found`` ones and to which no repository refers."""
    columns, numbers = repositories.c, repositories.c.project_remote_id
    named = select(numbers).where(columns.registry_id == registry_id, numbers.is_not(None)).distinct()
    kept = {*found, *connection.execute(named).scalars()}
    gone = sorted(
        number for remote_id, number in _project_ids(connection, registry_id).items() if remote_id not in kept
    )
    for some in chunked(gone):
        connection.execute(delete(project_rules).where(project_rules.c.project_id.in_(some)))
        connection.execute(delete(projects).where(projects.c.id.in_(some)))


def _has_rules(connection: Connection, registry_id: int) -> bool:
    return connection.execute(_rules_of(projects.c.registry_id == registry_id).limit(1)).first() is not None


def _rules_of(condition: ColumnElement[bool]) -> Select[Any]:
    """The rules of the projects that meet a condition, with columns in the order of ``rule_rows``."""
    columns = (project_rules.c[name] for name in ("project_id", "kind", "pattern", "delete_role", "push_role"))
    return select(*columns).join(projects, projects.c.id == project_rules.c.project_id).where(condition)


def _project_ids(connection: Connection, registry_id: int) -> dict[int, int]:
    columns = projects.c
    rows = connection.execute(select(columns.remote_id, columns.id).where(columns.registry_id == registry_id))
    return {row.remote_id: row.id for row in rows}
