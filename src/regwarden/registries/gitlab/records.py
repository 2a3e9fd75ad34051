"""What does GitLab's JSON say of projects, repositories, rules and groups? Rows of its REST API as values of the core.

Sources: GitLab REST API, "Projects", "Container registry", "Container registry protection rules". Everything is
checked: a row that cannot be read is ``None``, and its caller says that something is missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Final

from regwarden.core.projects import AccessLevel, Namespace, Project, ProjectRepository, ProtectionRule, RuleKind
from regwarden.registries.client.paging import is_repository

_MAX_TEXT_LENGTH: Final = 1024
_MAX_NUMBER: Final = 2**63 - 1
_MAX_POLICY_KEYS: Final = 30
_PATTERNS: Final = {RuleKind.TAG: "tag_name_pattern", RuleKind.REPOSITORY: "repository_path_pattern"}


def text_of(value: object) -> str:
    """``value`` if it is a printable text of bearable length, else nothing."""
    return value if isinstance(value, str) and len(value) <= _MAX_TEXT_LENGTH and value.isprintable() else ""


def number_of(value: object) -> int | None:
    """``value`` if it is a whole number that is not negative."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return value if is_number and 0 <= value <= _MAX_NUMBER else None  # type: ignore[operator,return-value]  # checked


def moment_of(value: object) -> datetime | None:
    """A time such as ``2025-01-31T10:00:00.000Z``, in UTC."""
    try:
        moment = datetime.fromisoformat(text_of(value))
        return moment.astimezone(UTC) if moment.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def field_of(value: object, *names: str) -> object:
    """What stands under ``names`` within nested objects, or ``None``."""
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def parse_project(row: object, *, is_admin: bool) -> Project | None:
    """A project of ``GET /projects`` or ``GET /projects/:id``; administrators may do everything there."""
    number, path = number_of(field_of(row, "id")), text_of(field_of(row, "path_with_namespace"))
    if not number or not path:
        return None
    is_personal = field_of(row, "namespace", "kind") == "user"
    return Project(
        id=number,
        path=path,
        group=text_of(field_of(row, "namespace", "full_path")) or path.rpartition("/")[0],
        owner=text_of(field_of(row, "namespace", "path")) or None if is_personal else None,
        visibility=text_of(field_of(row, "visibility")),
        is_archived=field_of(row, "archived") is True,
        access_level=int(AccessLevel.ADMIN) if is_admin else _access_level(row),
        cleanup_policy=_policy(field_of(row, "container_expiration_policy")),
        size_bytes=number_of(field_of(row, "statistics", "container_registry_size")),
    )


def is_registry_off(row: object) -> bool:
    """Whether a project says that it has no registry."""
    return field_of(row, "container_registry_access_level") == "disabled"


def parse_repository(row: object) -> ProjectRepository | None:
    """A container repository, by the name that it has in the registry; ``None`` where that is none."""
    name, project = text_of(field_of(row, "path")).lower(), number_of(field_of(row, "project_id"))
    if not project or not is_repository(name):
        return None
    return ProjectRepository(
        name=name,
        project_id=project,
        id=number_of(field_of(row, "id")),
        status=text_of(field_of(row, "status"))[:40],
        created_at=moment_of(field_of(row, "created_at")),
        cleanup_started_at=moment_of(field_of(row, "cleanup_policy_started_at")),
    )


def parse_namespace(row: object) -> Namespace | None:
    """A group of ``GET /groups?statistics=true``."""
    path = text_of(field_of(row, "full_path"))
    if not path:
        return None
    statistics = field_of(row, "root_storage_statistics")
    is_estimated = field_of(statistics, "container_registry_size_is_estimated")
    return Namespace(
        path=path,
        size_bytes=number_of(field_of(statistics, "container_registry_size")),
        is_estimated=is_estimated if isinstance(is_estimated, bool) else None,
    )


def parse_rules(rows: Iterable[object], kind: RuleKind) -> list[ProtectionRule] | None:
    """Rules of the REST API; ``None`` if there is one that cannot be read."""
    found: list[ProtectionRule] = []
    for row in rows:
        pattern = text_of(field_of(row, _PATTERNS[kind]))
        if not pattern:
            return None
        delete = field_of(row, "minimum_access_level_for_delete")
        push = field_of(row, "minimum_access_level_for_push")
        found.append(rule(kind, pattern, delete, push))
    return found


def rule(kind: RuleKind, pattern: str, delete: object, push: object) -> ProtectionRule:
    """A rule; roles are written in lower case, as the REST API does. A tag rule that names no role allows nobody."""
    roles = text_of(delete).lower()[:40], text_of(push).lower()[:40]
    if kind is RuleKind.TAG and not any(roles):
        return ProtectionRule(RuleKind.IMMUTABLE, pattern)
    return ProtectionRule(kind, pattern, *roles)


def find_owners(rows: Iterable[object]) -> str:
    """The users that own a group, in order, of ``GET /groups/:id/members/all``."""
    names = {
        text_of(field_of(row, "username"))
        for row in rows
        if number_of(field_of(row, "access_level")) == AccessLevel.OWNER and field_of(row, "state") in {None, "active"}
    }
    return ", ".join(sorted(names - {""}))


def _access_level(row: object) -> int | None:
    permissions = field_of(row, "permissions")
    levels = (number_of(field_of(permissions, place, "access_level")) for place in ("project_access", "group_access"))
    return max((level for level in levels if level is not None), default=None)


def _policy(value: object) -> Mapping[str, object] | None:
    if not isinstance(value, Mapping) or not 0 < len(value) <= _MAX_POLICY_KEYS:
        return None
    return {
        text_of(name): entry
        for name, entry in value.items()
        if text_of(name) and (entry is None or isinstance(entry, bool | int) or entry == "" or text_of(entry))
    }
