"""What does the made-up GitLab consist of? Users, tokens, groups, projects, repositories and rules, as plain state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple, Protocol

GUEST, REPORTER, DEVELOPER, MAINTAINER, OWNER, ADMIN = 10, 20, 30, 40, 50, 60
ROLE_NUMBERS = {"": 0, "maintainer": MAINTAINER, "owner": OWNER, "admin": ADMIN}
INDEX_TYPES = frozenset(
    {"application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"}
)
LONG_AGO = datetime(2025, 3, 4, 5, 6, 7, 89_000, tzinfo=UTC)

TokenKind = Literal["personal", "deploy", "job", "oauth"]


class TagFacts(NamedTuple):
    """What the registry knows of a tag. ``total_size``: bytes of manifest, config and layers (the database's meaning).

    ``created_at`` and ``updated_at`` are of the tag in the registry, ``built_at`` is ``created`` of the image config.
    """

    digest: str
    media_type: str
    config_digest: str = ""
    layer_sizes: tuple[int, ...] = ()
    total_size: int = 0
    created_at: datetime = LONG_AGO
    updated_at: datetime | None = None
    built_at: datetime | None = None

    @property
    def is_index(self) -> bool:
        return self.media_type in INDEX_TYPES

    @property
    def published_at(self) -> datetime:
        return max(self.created_at, self.updated_at or self.created_at)


class RegistryView(Protocol):
    """What the GitLab application asks the registry behind it. Paths are lower-case repository paths."""

    @property
    def has_database(self) -> bool: ...

    def tags(self, path: str) -> Mapping[str, TagFacts]:
        """The tags by name; none for a repository that is unknown."""

    def delete_tag(self, path: str, tag: str) -> bool:
        """Remove one tag and leave its siblings; whether there was one."""

    def size(self, path: str) -> int | None:
        """Bytes of distinct layers under tagged manifests; ``None`` without the database."""


@dataclass
class User:
    id: int
    username: str
    is_admin: bool = False
    password: str = ""
    has_second_factor: bool = False


@dataclass
class Token:
    """``user`` is empty for deploy tokens. ``paths`` are projects or groups that deploy and job tokens are bound to;
    the first one of a job token is its own project, the others have allow-listed it.
    """

    id: int
    name: str
    secret: str
    user: str = ""
    scopes: tuple[str, ...] = ("api",)
    kind: TokenKind = "personal"
    expires_at: datetime | None = None
    is_revoked: bool = False
    paths: tuple[str, ...] = ()


@dataclass
class Group:
    """``size`` is the figure of a top-level group; ``members`` are roles by user name, inherited downwards."""

    id: int
    path: str
    visibility: str = "private"
    members: dict[str, int] = field(default_factory=dict)
    size: int | None = None
    is_estimated: bool = False
    created_at: datetime = LONG_AGO


@dataclass
class TagRule:
    """Both roles empty: an immutable rule."""

    id: int
    pattern: str
    push: str = ""
    delete: str = ""

    @property
    def is_immutable(self) -> bool:
        return not self.push and not self.delete


@dataclass
class RepositoryRule:
    id: int
    pattern: str
    push: str = ""
    delete: str = ""


@dataclass
class Project:
    """``path`` in the case people gave it. ``policy`` as the API shows it. ``former_paths`` answer 301."""

    id: int
    path: str
    visibility: str = "private"
    members: dict[str, int] = field(default_factory=dict)
    registry_access: str = "enabled"
    is_archived: bool = False
    policy: dict[str, Any] | None = None
    tag_rules: list[TagRule] = field(default_factory=list)
    repository_rules: list[RepositoryRule] = field(default_factory=list)
    former_paths: list[str] = field(default_factory=list)
    size: int | None = None
    created_at: datetime = LONG_AGO

    @property
    def namespace(self) -> str:
        return self.path.rpartition("/")[0]

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


@dataclass
class Repository:
    """``status`` is empty, ``delete_scheduled``, ``delete_ongoing`` or ``delete_failed``."""

    id: int
    path: str
    project_id: int
    status: str = ""
    created_at: datetime = LONG_AGO
    cleanup_started_at: datetime | None = None


@dataclass
class BulkJob:
    """A removal by expressions that waits for the background."""

    repository_id: int
    delete: str
    keep: str | None = None
    keep_n: int | None = None
    older_than: timedelta | None = None


@dataclass
class Settings:
    """What an administrator set, and which release this is.

    ``limits_totals_above``: rows from which on totals are left out. ``run_limit``: tags that one background run of a
    bulk removal takes. ``finds_by_substring``: one tag is looked for in the first 100 of those that contain its name.
    """

    version: str = "18.7.0-ee"
    registry_is_enabled: bool = True
    token_minutes: float = 5
    admin_mode: bool = False
    ban_after: int = 30
    ban_seconds: float = 3600
    limits_totals_above: int = 10_000
    run_limit: int = 200
    finds_by_substring: bool = True
    has_immutable_licence: bool = True
    issuer: str = "gitlab-issuer"
    service: str = "container_registry"
    event_secret: str = "notif-secret"

    def is_at_least(self, major: int, minor: int) -> bool:
        """Whether the release has what came with ``major.minor``."""
        first, second = self.version.split(".")[:2]
        return (int(first), int(second)) >= (major, minor)
