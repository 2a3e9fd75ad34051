"""What are the rows of projects and repositories after a discovery, where not everything could be found out?

What could not be read keeps its older value; only a complete discovery says that something is not there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from regwarden.core.graph import MAX_SUM_BYTES
from regwarden.core.projects import Discovery, Project, ProjectRepository, ProtectionRule
from regwarden.core.text import printable
from regwarden.store.times import to_micros

Values = dict[str, Any]

_MAX_ID: Final = 2**63 - 1
_MAX_TEXT: Final = 1000
_LEVELS: Final = range(101)
_FROM_PROJECT: Final = ("project", "project_group", "owner", "access_level")
MAPPED: Final = (
    *_FROM_PROJECT,
    "project_remote_id",
    "remote_id",
    "remote_status",
    "remote_created_at",
    "remote_bytes",
    "remote_precision",
    "remote_sized_at",
)
"""The columns of ``repositories`` that a discovery fills or clears."""


def is_id(number: int | None) -> bool:
    """Whether it can be a number that GitLab gives, and be stored."""
    return number is not None and 0 < number <= _MAX_ID


def merge_projects(
    registry_id: int, found: Iterable[Project], stored: Mapping[int, Any], at: datetime
) -> dict[int, Values]:
    """The rows of the projects that were found, by GitLab's number. ``stored`` has the older rows by the same."""
    merged: dict[int, Values] = {}
    for project in found:
        if is_id(project.id):
            merged[project.id] = _project_values(registry_id, project, stored.get(project.id), at)
    return merged


def _project_values(registry_id: int, project: Project, old: Any, at: datetime) -> Values:
    path = printable(project.path, _MAX_TEXT)
    group = printable(project.group, _MAX_TEXT) or path.rpartition("/")[0]
    if old is not None and path == old.path.lower():  # tokens, unlike the API, name paths in lower case
        path, group = old.path, old.project_group
    policy = None if project.cleanup_policy is None else json.dumps(dict(project.cleanup_policy), sort_keys=True)
    owner = None if project.owner is None else printable(project.owner, _MAX_TEXT)
    known = {
        "owner": owner,
        "visibility": printable(project.visibility, _MAX_TEXT) or None,
        "access_level": project.access_level if project.access_level in _LEVELS else None,
        "cleanup_policy": policy,
        "remote_bytes": None if project.size_bytes is None else min(max(project.size_bytes, 0), MAX_SUM_BYTES),
        "rules_read_at": to_micros(at) if project.rules is not None and project.are_all_rules else None,
    }
    kept = {name: getattr(old, name, None) if value is None else value for name, value in known.items()}
    return {
        "registry_id": registry_id,
        "remote_id": project.id,
        "path": path,
        "project_group": group,
        "is_archived": int(project.is_archived),
        **kept,
        "visibility": kept["visibility"] or "",
        "seen_at": to_micros(at),
    }


def rule_rows(project_id: int, rules: Iterable[ProtectionRule]) -> list[Values]:
    """The rows of a project's rules; of several with one pattern the one that says more counts."""
    rows: dict[tuple[object, object], Values] = {}
    for rule in sorted(rules, key=lambda one: (one.delete_role, one.push_role)):
        row: Values = {
            "project_id": project_id,
            "kind": rule.kind.value,
            "pattern": _stored_pattern(rule.pattern),
            "delete_role": printable(rule.delete_role, _MAX_TEXT),
            "push_role": printable(rule.push_role, _MAX_TEXT),
        }
        rows[row["kind"], row["pattern"]] = row
    return sorted(rows.values(), key=lambda row: (row["kind"], row["pattern"]))


def _stored_pattern(pattern: str) -> str:
    """Exactly as it is, or as something that cannot be read, which then matches everything; never another pattern."""
    cut = pattern[: _MAX_TEXT + 1].replace("\0", "\N{REPLACEMENT CHARACTER}")
    return cut.encode("utf-8", "surrogatepass").decode("utf-8", "replace")


def changed_repositories(
    stored: Iterable[Sequence[Any]], discovery: Discovery, projects: Mapping[int, Mapping[str, Any]]
) -> Iterator[Values]:
    """New values (``MAPPED``, and ``id``) of the repositories for which a discovery changes any.

    ``stored`` are (id, name, ``deleted_at``, and then ``MAPPED``) of all repositories of the registry, ``projects`` all
    projects that are known, by GitLab's number.
    One that is there keeps its project, and so its rules, even where a complete list lacks it: pages shift while they
    are read, and what we may not see any more is protected as before.
    """
    found = {one.name: one for one in discovery.repositories if is_id(one.project_id)}
    for number, path, deleted_at, *values in stored:
        old = dict(zip(MAPPED, values, strict=True))
        here = found.get(path)
        if here is not None:
            new = _found_values(here, old, projects)
        elif discovery.is_complete and deleted_at is not None:
            new = dict.fromkeys(MAPPED)
        else:
            new = {**old, **_from_project(projects.get(old["project_remote_id"]), old)}
        if new != old:
            yield {"id": number, **new}


def _found_values(found: ProjectRepository, old: Values, projects: Mapping[int, Mapping[str, Any]]) -> Values:
    is_elsewhere = old["project_remote_id"] != found.project_id
    before = dict.fromkeys(MAPPED) if is_elsewhere else old
    remote_id = found.id if is_id(found.id) else before["remote_id"]
    is_new = None not in (old["remote_id"], remote_id) and old["remote_id"] != remote_id
    created_at = to_micros(found.created_at)
    return {
        **(dict.fromkeys(MAPPED) if is_new else before),
        **_from_project(projects.get(found.project_id), before),
        "project_remote_id": found.project_id,
        "remote_id": remote_id,
        "remote_status": printable(found.status, _MAX_TEXT),
        "remote_created_at": before["remote_created_at"] if created_at is None and not is_new else created_at,
    }


def _from_project(project: Mapping[str, Any] | None, old: Values) -> Values:
    if project is None:
        return {name: old[name] for name in _FROM_PROJECT}
    return {
        "project": project["path"],
        "project_group": project["project_group"],
        "owner": project["owner"],
        "access_level": project["access_level"],
    }
