"""Whose are repositories, what may we do there, which rules hold there? What a registry with projects tells.

The words are GitLab's: a project has repositories (the path of the project, and paths below it), lies in a group or in
a user's namespace, and has rules that protect tags. Unknown values are ``None``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum, StrEnum


class Mode(StrEnum):
    """Which projects are looked at."""

    INSTANCE = "instance"
    GROUP = "group"
    PROJECT = "project"


class Features(StrEnum):
    """What the registry behind GitLab offers; decides how it is read."""

    DATABASE = "database"  # GitLab's registry with the metadata database: lists tags with digests, knows sizes
    FILES = "files"  # GitLab's registry without it
    PLAIN = "plain"  # another registry that trusts GitLab's tokens
    UNKNOWN = "unknown"


class AccessLevel(IntEnum):
    """Roles in a project, by GitLab's numbers (REST API, "Roles")."""

    GUEST = 10
    REPORTER = 20
    DEVELOPER = 30
    MAINTAINER = 40
    OWNER = 50
    ADMIN = 60


class RuleKind(StrEnum):
    """What a rule protects."""

    TAG = "tag"  # tags whose names match are removed and moved by some roles only
    IMMUTABLE = "immutable"  # tags whose names match are never removed or moved
    REPOSITORY = "repository"  # repositories whose path matches


class RepositoryStatus(StrEnum):
    """What becomes of a repository that is to be deleted as a whole."""

    PRESENT = "present"
    DELETING = "deleting"
    FAILED = "failed"
    GONE = "gone"


@dataclass(frozen=True, slots=True, order=True)
class ProtectionRule:
    """One rule. ``pattern`` is an RE2 expression found anywhere in the tag, or a path with ``*`` for a repository.

    ``delete_role`` is the least role that may delete (empty: as without the rule), ``push_role`` the same for pushes.
    """

    kind: RuleKind
    pattern: str
    delete_role: str = ""
    push_role: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A project. ``group`` is the full path of its group or of the user's namespace, ``owner`` user names with commas.

    ``access_level`` is ours there. ``rules`` are ``None`` where they could not be read: then older ones go on holding,
    as they do beside those that were read unless these ``are_all_rules``.
    ``cleanup_policy`` is ``container_expiration_policy`` as the API gives it.
    """

    id: int
    path: str
    group: str = ""
    owner: str | None = None
    visibility: str = ""
    is_archived: bool = False
    access_level: int | None = None
    cleanup_policy: Mapping[str, object] | None = None
    size_bytes: int | None = None
    rules: tuple[ProtectionRule, ...] | None = None
    are_all_rules: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectRepository:
    """A repository as GitLab knows it: ``name`` as in the registry, ``id`` its number there.

    ``status`` is GitLab's own word while it is being deleted (``delete_scheduled``, …), otherwise empty.
    """

    name: str
    project_id: int
    id: int | None = None
    status: str = ""
    created_at: datetime | None = None
    cleanup_started_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespace:
    """A top-level group or user, with GitLab's figure for its registry, deduplicated within it."""

    path: str
    size_bytes: int | None = None
    is_estimated: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositorySize:
    """GitLab's figure: distinct layers that tagged manifests reach, compressed.

    ``precision`` is GitLab's word: ``default``, or ``untagged`` where every layer counts, tagged or not.
    """

    size_bytes: int
    precision: str = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovery:
    """What a GitLab told of the repositories in its scope.

    ``doubts`` say, in words, what could not be found out. ``is_complete``: every repository in the scope is in it.
    """

    mode: Mode
    projects: tuple[Project, ...] = ()
    repositories: tuple[ProjectRepository, ...] = ()
    namespaces: tuple[Namespace, ...] = ()
    is_complete: bool = True
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Who we are at a GitLab and what that allows; ``None`` is unknown.

    ``lacks`` says in plain words what is missing for what, one sentence each. ``version`` is GitLab's own,
    ``registry_version`` the registry's. ``can_untag``, ``can_delete`` and ``can_delete_repositories`` are what the
    token's scopes allow at most; the role in each project decides.
    """

    mode: Mode
    user: str = ""
    is_admin: bool | None = None
    scopes: tuple[str, ...] | None = None
    expires_at: datetime | None = None
    version: str = ""
    registry_version: str = ""
    features: Features = Features.UNKNOWN
    can_list_catalog: bool | None = None
    can_read_projects: bool | None = None
    can_untag: bool | None = None
    can_delete: bool | None = None
    can_delete_repositories: bool | None = None
    lacks: tuple[str, ...] = ()
    doubts: tuple[str, ...] = field(default_factory=tuple)


@dataclass(frozen=True, slots=True)
class FoundRegistry:
    """The address of a GitLab's registry, as a project or repository of it names it, and who we are at that GitLab."""

    url: str
    seen_in: str
    access: Access
