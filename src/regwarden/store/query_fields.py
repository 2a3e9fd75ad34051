"""Where is each field of ``core.fields`` kept? The one table from field names to SQL, noun by noun."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum
from typing import Any, Final
from urllib.parse import urlsplit

from sqlalchemy import BigInteger, String, and_, case, cast, collate, func, literal, null, select
from sqlalchemy.engine import Connection
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.schema import Column, Table

from regwarden.core.ages import AgeUnit
from regwarden.core.fields import Noun
from regwarden.core.oci.digests import Digest
from regwarden.core.projects import AccessLevel
from regwarden.store.projects import read_access
from regwarden.store.schema import (
    Name,
    manifest_children,
    manifests,
    registries,
    repositories,
    repository_manifests,
    tags,
)
from regwarden.store.times import from_micros

_SHORT_REVISION: Final = 9


class Form(Enum):
    """How a stored value becomes a shown one."""

    PLAIN = 1
    TIME = 2  # microseconds → aware datetime
    DIGEST = 3  # bytes → sha256:…
    HEX = 4  # bytes → the digits alone
    SHORT_HEX = 5  # bytes → the first nine digits
    FLAG = 6  # 0 or 1 → bool


@dataclass(frozen=True, slots=True)
class StoredField:
    """The SQL expression of a field; a NULL of it is unknown. Its order is the order of the shown values.

    ``before`` is a bound for a time that is NULL: if there is one, it is earlier than this (NULL: nothing is known).
    """

    expression: ColumnElement[Any]
    form: Form = Form.PLAIN
    is_nullable: bool = True
    before: ColumnElement[int | None] | None = None

    @property
    def stored(self) -> type:
        """The Python type of stored values."""
        if self.form in (Form.DIGEST, Form.HEX, Form.SHORT_HEX):
            return bytes
        return self.expression.type.python_type

    def shown(self, value: Any) -> Any:
        """The value that people and conditions see, from the stored one."""
        return None if value is None else _SHOWN[self.form](value)


@dataclass(frozen=True, slots=True)
class KnownRegistry:
    """A registry as conditions and rows need it; ``host`` is ``HOST[:PORT]``.

    ``events_since`` is when its first notification was received, in microseconds; ``None``: there was none. ``can_…``
    is what our token there may do at most, as far as that is known.
    """

    id: int
    name: str
    host: str
    events_since: int | None = None
    can_untag: bool = False
    can_delete_repositories: bool = False


@dataclass(frozen=True, slots=True)
class Scope:
    """What field expressions depend on beside the tables: the database, its registries by name, the moment."""

    dialect: str
    registries: tuple[KnownRegistry, ...]
    now_micros: int


def load_registries(connection: Connection) -> tuple[KnownRegistry, ...]:
    """All registries, in the order of their names."""
    names = ("id", "name", "url", "events_since", "access")
    rows = connection.execute(select(*(registries.c[name] for name in names)).order_by(registries.c.name))
    return tuple(_known_registry(row) for row in rows)


def _known_registry(row: Any) -> KnownRegistry:
    access = read_access(row.access)
    return KnownRegistry(
        id=row.id,
        name=row.name,
        host=urlsplit(row.url).netloc or row.url,
        events_since=row.events_since,
        can_untag=access is not None and access.can_untag is True,
        can_delete_repositories=access is not None and access.can_delete_repositories is True,
    )


def stored_fields(noun: Noun, scope: Scope) -> Mapping[str, StoredField]:
    """The fields of a noun that is kept as rows (every one but ``blob``)."""
    fields = _FIELDS[noun](scope)
    return {name: replace(field, expression=_in_byte_order(field.expression, scope)) for name, field in fields.items()}


def _registry_fields(scope: Scope) -> dict[str, StoredField]:
    del scope
    sizes = "logical_bytes stored_bytes stored_all_bytes layer_bytes disk_bytes"
    return {
        "registry": _column(registries.c.name),
        **_columns(registries, f"url kind {sizes} crawled_at crawl_state sized_at problem_count"),
        # Only settings tell when it is due.
        "next_crawl_at": StoredField(cast(null(), BigInteger), Form.TIME),
        **_counted(registries, "repository_count tag_count manifest_count", registries.c.sized_at),
    }


def _counted(table: Table, names: str, measured: Column[Any]) -> dict[str, StoredField]:
    """Counts are made with the sizes: while ``measured`` is unknown, the zero means nothing."""
    return {name: StoredField(case((measured.is_not(None), table.c[name]))) for name in names.split()}


def _repository_fields(scope: Scope) -> dict[str, StoredField]:
    names = "logical_bytes stored_bytes stored_all_bytes exclusive_bytes shared_bytes"
    more = "attributed_bytes layer_bytes disk_bytes state problem_count first_seen_at seen_at newest_created_at"
    return {
        **_place(scope),
        **_counted(repositories, "tag_count manifest_count", repositories.c.logical_bytes),
        **_columns(repositories, f"{names} {more}"),
        **repository_pull_fields(scope),
        **_ages(scope, repositories.c.newest_created_at),
        **_repository_project_fields(scope),
    }


def _tag_fields(scope: Scope) -> dict[str, StoredField]:
    location = _by_registry(scope, lambda registry: f"{registry.host}/") + repositories.c.name + ":" + tags.c.name
    return {
        **_place(scope),
        "tag": _column(tags.c.name),
        **_columns(manifests, "digest media_type artifact_type layer_count total_size is_index", is_outer=True),
        **_columns(repository_manifests, "pushed_at", is_outer=True),
        **manifest_pull_fields(scope, tags),
        **_columns(tags, "logical_bytes exclusive_bytes shared_bytes layer_bytes disk_bytes created_at"),
        **_columns(tags, "first_seen_at tagged_at verified_at state"),
        **_revisions(),
        "platforms": StoredField(manifests.c.platform),
        "stored_bytes": _column(tags.c.logical_bytes),
        "seen_at": _column(repositories.c.seen_at),
        **_ages(scope, tags.c.created_at),
        "location": StoredField(location, is_nullable=False),
        **_project_fields(),
        **_columns(tags, "published_at is_protected"),
        "destroy_path": StoredField(_tag_destroy_path(scope)),
    }


def _project_fields() -> dict[str, StoredField]:
    """Whose the repository is: columns of a table that is there anyway."""
    return {**_columns(repositories, "project owner"), "group": _column(repositories.c.project_group)}


def _repository_project_fields(scope: Scope) -> dict[str, StoredField]:
    may_delete = _where_permitted(scope, AccessLevel.MAINTAINER, lambda one: one.can_delete_repositories)
    return {
        **_project_fields(),
        "location": StoredField(
            _by_registry(scope, lambda one: f"{one.host}/") + repositories.c.name, is_nullable=False
        ),
        "gitlab_id": _column(repositories.c.remote_id),
        "gitlab_status": _column(repositories.c.remote_status),
        "gitlab_created_at": StoredField(repositories.c.remote_created_at, Form.TIME),
        "gitlab_bytes": _column(repositories.c.remote_bytes),
        "gitlab_precision": _column(repositories.c.remote_precision),
        "tags_path": StoredField(_api_path() + "/tags"),
        "destroy_path": StoredField(case((may_delete, _api_path()))),
    }


def _tag_destroy_path(scope: Scope) -> ColumnElement[str]:
    may_untag = _where_permitted(scope, AccessLevel.DEVELOPER, lambda one: one.can_untag)
    is_free = func.coalesce(tags.c.is_protected, 0) == 0
    return case((and_(may_untag, is_free), _api_path() + "/tags/" + tags.c.name))


def _api_path() -> ColumnElement[str]:
    """GitLab's own path of a repository (REST API, "Container registry"); NULL where one of the numbers is unknown."""
    project, number = cast(repositories.c.project_remote_id, String), cast(repositories.c.remote_id, String)
    return literal("/api/v4/projects/") + project + "/registry/repositories/" + number


def _where_permitted(scope: Scope, least: AccessLevel, may: Callable[[KnownRegistry], bool]) -> ColumnElement[bool]:
    """Whether our token and our role in the project allow it, as far as that is known."""
    allowing = [one.id for one in scope.registries if may(one)]
    return and_(repositories.c.registry_id.in_(allowing), repositories.c.access_level >= int(least))


def _manifest_fields(scope: Scope) -> dict[str, StoredField]:
    here = and_(
        tags.c.repository_id == repository_manifests.c.repository_id,
        tags.c.manifest_id == repository_manifests.c.manifest_id,
    )
    outer = repository_manifests
    names = select(tags.c.name).where(here).correlate(outer).order_by(tags.c.name).subquery()
    joined = select(func.coalesce(func.aggregate_strings(names.c.name, ","), "")).scalar_subquery()
    count = select(func.count()).select_from(tags).where(here).correlate(outer).scalar_subquery()
    described = "digest media_type artifact_type config_media_type platform size_bytes logical_bytes total_size"
    return {
        **_place(scope),
        **_columns(manifests, f"{described} created_at is_index layer_count"),
        **_columns(repository_manifests, "exclusive_bytes first_seen_at pushed_at untagged_since"),
        **manifest_pull_fields(scope, outer),
        **_revisions(),
        **_ages(scope, manifests.c.created_at),
        "subject": StoredField(manifests.c.subject_digest, Form.DIGEST),
        "tags": StoredField(joined, is_nullable=False),
        "tag_count": StoredField(count, is_nullable=False),
    }


_FIELDS: Final[Mapping[str, Callable[[Scope], dict[str, StoredField]]]] = {
    "registry": _registry_fields,
    "repository": _repository_fields,
    "tag": _tag_fields,
    "manifest": _manifest_fields,
}


def _place(scope: Scope) -> dict[str, StoredField]:
    return {
        "registry": StoredField(_by_registry(scope, lambda registry: registry.name), is_nullable=False),
        "repository": _column(repositories.c.name),
    }


def known_since(scope: Scope) -> ColumnElement[int | None]:
    """Since when the pulls of a row's registry are known, in microseconds."""
    since = {one.id: literal(one.events_since, BigInteger) for one in scope.registries if one.events_since is not None}
    if not since:
        return cast(null(), BigInteger)
    if len(scope.registries) == 1:
        return cast(next(iter(since.values())), BigInteger)
    return case(since, value=repositories.c.registry_id)


def repository_pull_fields(scope: Scope) -> dict[str, StoredField]:
    """When anything in a repository was pulled, and since when that is known."""
    since = known_since(scope)
    here = repository_manifests.c.repository_id == repositories.c.id
    latest = select(func.max(repository_manifests.c.pulled_at)).where(here).correlate(repositories).scalar_subquery()
    return {
        "pulled_at": StoredField(latest, Form.TIME, before=since),
        "pulls_known_since": StoredField(since, Form.TIME),
    }


def manifest_pull_fields(scope: Scope, place: Table) -> dict[str, StoredField]:
    """The clocks of what a row of ``place`` points to: for an index also those of its manifests in the repository."""
    greater = func.max if scope.dialect == "sqlite" else func.greatest
    since = known_since(scope)
    # Of a tag that leads nowhere no pull could be told.
    before = case((place.c.manifest_id.is_not(None), since))
    fields = {"pulls_known_since": StoredField(since, Form.TIME)}
    for name in ("pulled_at", "fetched_at", "checked_at"):
        own, part, child = repository_manifests.c[name], repository_manifests.alias(), manifest_children.alias()
        latest = (
            select(func.max(part.c[name]))
            .select_from(child.join(part, part.c.manifest_id == child.c.child_id))
            .where(child.c.parent_id == place.c.manifest_id, part.c.repository_id == place.c.repository_id)
            .correlate(place)
            .scalar_subquery()
        )
        # NULL is not smaller than everything, but nothing was pulled in 1970.
        of_index = func.nullif(greater(func.coalesce(own, 0), func.coalesce(latest, 0)), 0, type_=BigInteger)
        fields[name] = StoredField(case((manifests.c.is_index == 1, of_index), else_=own), Form.TIME, before=before)
    return fields


def _ages(scope: Scope, created_at: Column[Any]) -> dict[str, StoredField]:
    """Whole units from ``created_at`` to the moment of the question, truncated toward zero as in ``core.ages``."""
    elapsed = literal(scope.now_micros, BigInteger) - created_at
    lengths = {unit: timedelta(**{unit.value: 1}) // timedelta(microseconds=1) for unit in AgeUnit}
    return {
        f"age_{unit}": StoredField(cast(elapsed // literal(length, BigInteger), BigInteger))
        for unit, length in lengths.items()
    }


def _revisions() -> dict[str, StoredField]:
    return {
        "revision": StoredField(manifests.c.config_digest, Form.HEX),
        "short_revision": StoredField(manifests.c.config_digest, Form.SHORT_HEX),
    }


def _by_registry(scope: Scope, text: Callable[[KnownRegistry], str]) -> ColumnElement[str]:
    if len(scope.registries) <= 1:
        return literal("".join(text(registry) for registry in scope.registries))
    texts = {registry.id: literal(text(registry)) for registry in scope.registries}
    return case(texts, value=repositories.c.registry_id)


def _in_byte_order(expression: ColumnElement[Any], scope: Scope) -> ColumnElement[Any]:
    """PostgreSQL compares texts by the rules of a language, except in columns declared as names."""
    is_name = isinstance(expression, Column) and expression.type is Name
    if scope.dialect != "postgresql" or is_name or not isinstance(expression.type, String):
        return expression
    return collate(expression, "C")


def _columns(table: Table, names: str, *, is_outer: bool = False) -> dict[str, StoredField]:
    return {name: _column(table.c[name], is_outer=is_outer) for name in names.split()}


def _column(column: Column[Any], *, is_outer: bool = False) -> StoredField:
    is_nullable = is_outer or bool(column.nullable)
    if column.name == "digest":
        return StoredField(column, Form.DIGEST, is_nullable)
    if column.name.endswith("_at") or column.name == "untagged_since":
        return StoredField(column, Form.TIME, is_nullable)
    return StoredField(column, Form.FLAG if column.name.startswith("is_") else Form.PLAIN, is_nullable)


def _short_hex(value: bytes) -> str:
    return value[1:].hex()[:_SHORT_REVISION]


def _identity(value: Any) -> Any:
    return value


_SHOWN: Final[Mapping[Form, Callable[[Any], Any]]] = {
    Form.PLAIN: _identity,
    Form.TIME: from_micros,
    Form.DIGEST: lambda value: str(Digest.from_bytes(bytes(value))),
    Form.HEX: lambda value: bytes(value)[1:].hex(),
    Form.SHORT_HEX: lambda value: _short_hex(bytes(value)),
    Form.FLAG: bool,
}
