"""What is in the inventory as a whole, what does it weigh, how complete is it, and what stood in the way?

Sizes are bytes and ``None`` where they were not computed yet; times are aware UTC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec
from sqlalchemy import Row, func, select
from sqlalchemy.engine import Connection
from sqlalchemy.sql.elements import ColumnElement

from regwarden.core.oci.digests import Digest
from regwarden.store.schema import crawl_problems, crawls, manifests, registries, repositories, tags
from regwarden.store.times import from_micros

if TYPE_CHECKING:
    from regwarden.store.group_sizes import GroupUsage

_LARGEST: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryOverview:
    """One registry, with the fields of ``core.fields``.

    ``sized_at`` says as of when counts and byte figures are; before the first time they are ``None``.
    """

    registry: str
    url: str
    kind: str
    repository_count: int | None
    tag_count: int | None
    manifest_count: int | None
    logical_bytes: int | None
    stored_bytes: int | None
    stored_all_bytes: int | None
    layer_bytes: int | None
    disk_bytes: int | None
    crawled_at: datetime | None
    crawl_state: str | None
    sized_at: datetime | None
    problem_count: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """How complete and how old the inventory of one registry is.

    ``state`` is that of the last ended crawl (``None``: never crawled). ``certificate`` is what the last crawl that
    did not fail recorded (empty if there was none), and ``crawled_at`` its end. ``repository_states`` is the number of
    repositories in each state, ``is_crawl_running`` whether a crawl has begun and not ended.
    """

    registry: str
    url: str
    kind: str
    state: str | None
    crawled_at: datetime | None
    sized_at: datetime | None
    problem_count: int
    repository_states: Mapping[str, int]
    is_crawl_running: bool
    certificate: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryUsage:
    """What one repository weighs."""

    registry: str
    repository: str
    tag_count: int
    logical_bytes: int | None
    stored_bytes: int | None
    exclusive_bytes: int | None
    shared_bytes: int | None
    attributed_bytes: int | None
    newest_created_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TagUsage:
    """What one tag weighs."""

    registry: str
    repository: str
    tag: str
    digest: str | None
    logical_bytes: int | None
    exclusive_bytes: int | None
    created_at: datetime | None


@dataclass(frozen=True, slots=True)
class ProblemCount:
    """How often one kind of problem occurs in a registry."""

    registry: str
    code: str
    problem_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageReport:
    """Totals per registry, the largest repositories and tags over all of them, and groups where they were asked for.

    ``remarks`` are sentences about what the figures cannot know.
    """

    registries: tuple[RegistryOverview, ...]
    by_stored: tuple[RepositoryUsage, ...]
    by_exclusive: tuple[RepositoryUsage, ...]
    largest_tags: tuple[TagUsage, ...]
    problems: tuple[ProblemCount, ...]
    groups: tuple[GroupUsage, ...] = ()
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedProblem:
    """One thing that could not be read or is not as it should be; empty texts where it does not concern one."""

    registry: str
    repository: str
    tag: str
    digest: str
    code: str
    message: str
    first_seen_at: datetime
    seen_at: datetime


def registry_overview(connection: Connection, names: Sequence[str] = ()) -> list[RegistryOverview]:
    """All registries, or those named, by name."""
    statement = select(registries).where(*_named(names)).order_by(registries.c.name)
    return [_overview(row) for row in connection.execute(statement)]


def _overview(row: Row[Any]) -> RegistryOverview:
    is_sized = row.sized_at is not None
    return RegistryOverview(
        registry=row.name,
        url=row.url,
        kind=row.kind,
        repository_count=row.repository_count if is_sized else None,
        tag_count=row.tag_count if is_sized else None,
        manifest_count=row.manifest_count if is_sized else None,
        logical_bytes=row.logical_bytes,
        stored_bytes=row.stored_bytes,
        stored_all_bytes=row.stored_all_bytes,
        layer_bytes=row.layer_bytes,
        disk_bytes=row.disk_bytes,
        crawled_at=from_micros(row.crawled_at),
        crawl_state=row.crawl_state,
        sized_at=from_micros(row.sized_at),
        problem_count=row.problem_count,
    )


def coverage(connection: Connection, names: Sequence[str] = ()) -> list[Coverage]:
    """How complete and how old the inventory of each registry (or of those named) is, by name."""
    states: dict[int, dict[str, int]] = {}
    counted = (
        select(repositories.c.registry_id, repositories.c.state, func.count().label("repository_count"))
        .where(repositories.c.deleted_at.is_(None))
        .group_by(repositories.c.registry_id, repositories.c.state)
        .order_by(repositories.c.state)
    )
    for row in connection.execute(counted):
        states.setdefault(row.registry_id, {})[row.state] = row.repository_count
    running = set(connection.execute(select(crawls.c.registry_id).where(crawls.c.state == "running")).scalars())
    statement = (
        select(registries, crawls.c.certificate)
        .select_from(registries.outerjoin(crawls, crawls.c.id == registries.c.crawl_id))
        .where(*_named(names))
        .order_by(registries.c.name)
    )
    return [
        Coverage(
            registry=row.name,
            url=row.url,
            kind=row.kind,
            state=row.crawl_state,
            crawled_at=from_micros(row.crawled_at),
            sized_at=from_micros(row.sized_at),
            problem_count=row.problem_count,
            repository_states=states.get(row.id, {}),
            is_crawl_running=row.id in running,
            certificate=msgspec.json.decode(row.certificate) if row.certificate else {},
        )
        for row in connection.execute(statement)
    ]


def usage_report(connection: Connection, names: Sequence[str] = (), *, top: int = _LARGEST) -> UsageReport:
    """Totals per registry (all, or those named), with the ``top`` largest repositories and tags."""
    problems = (
        select(registries.c.name, crawl_problems.c.code, func.count().label("problem_count"))
        .join(registries, registries.c.id == crawl_problems.c.registry_id)
        .where(*_named(names))
        .group_by(registries.c.name, crawl_problems.c.code)
        .order_by(registries.c.name, func.count().desc(), crawl_problems.c.code)
    )
    return UsageReport(
        registries=tuple(registry_overview(connection, names)),
        by_stored=_largest_repositories(connection, names, repositories.c.stored_bytes, top),
        by_exclusive=_largest_repositories(connection, names, repositories.c.exclusive_bytes, top),
        largest_tags=_largest_tags(connection, names, top),
        problems=tuple(ProblemCount(row.name, row.code, row.problem_count) for row in connection.execute(problems)),
    )


def _largest_repositories(
    connection: Connection, names: Sequence[str], size: ColumnElement[int | None], top: int
) -> tuple[RepositoryUsage, ...]:
    statement = (
        select(repositories, registries.c.name.label("registry"))
        .join(registries, registries.c.id == repositories.c.registry_id)
        .where(repositories.c.deleted_at.is_(None), size.is_not(None), *_named(names))
        .order_by(size.desc(), registries.c.name, repositories.c.name)
        .limit(top)
    )
    return tuple(
        RepositoryUsage(
            registry=row.registry,
            repository=row.name,
            tag_count=row.tag_count,
            logical_bytes=row.logical_bytes,
            stored_bytes=row.stored_bytes,
            exclusive_bytes=row.exclusive_bytes,
            shared_bytes=row.shared_bytes,
            attributed_bytes=row.attributed_bytes,
            newest_created_at=from_micros(row.newest_created_at),
        )
        for row in connection.execute(statement)
    )


def _largest_tags(connection: Connection, names: Sequence[str], top: int) -> tuple[TagUsage, ...]:
    # A walk down the size index: of equally large tags any may be shown, so the names do not order them.
    largest = (
        select(tags, repositories.c.name.label("repository"), registries.c.name.label("registry"), manifests.c.digest)
        .join(repositories, repositories.c.id == tags.c.repository_id)
        .join(registries, registries.c.id == repositories.c.registry_id)
        .outerjoin(manifests, manifests.c.id == tags.c.manifest_id)
        .where(repositories.c.deleted_at.is_(None), tags.c.logical_bytes.is_not(None), *_named(names))
        .order_by(tags.c.logical_bytes.desc(), tags.c.id.desc())
        .limit(top)
    )
    return tuple(
        TagUsage(
            registry=row.registry,
            repository=row.repository,
            tag=row.name,
            digest=str(Digest.from_bytes(row.digest)) if row.digest else None,
            logical_bytes=row.logical_bytes,
            exclusive_bytes=row.exclusive_bytes,
            created_at=from_micros(row.created_at),
        )
        for row in connection.execute(largest)
    )


def list_problems(
    connection: Connection, registry: str | None = None, repository: str | None = None
) -> list[ReportedProblem]:
    """What stood in the way of the last readings: of everything, of one registry, or of one repository."""
    statement = (
        select(crawl_problems, registries.c.name.label("registry"), repositories.c.name.label("repository"))
        .join(registries, registries.c.id == crawl_problems.c.registry_id)
        .outerjoin(repositories, repositories.c.id == crawl_problems.c.repository_id)
        .order_by(registries.c.name, repositories.c.name, crawl_problems.c.tag, crawl_problems.c.id)
    )
    if registry is not None:
        statement = statement.where(registries.c.name == registry)
    if repository is not None:
        statement = statement.where(repositories.c.name == repository)
    return [_problem(row) for row in connection.execute(statement)]


def _problem(row: Row[Any]) -> ReportedProblem:
    first_seen_at, seen_at = from_micros(row.first_seen_at), from_micros(row.seen_at)
    return ReportedProblem(
        registry=row.registry,
        repository=row.repository or "",
        tag=row.tag,
        digest=str(Digest.from_bytes(row.digest)) if row.digest else "",
        code=row.code,
        message=row.message,
        first_seen_at=first_seen_at,
        seen_at=seen_at,
    )


def _named(names: Sequence[str]) -> tuple[ColumnElement[bool], ...]:
    return (registries.c.name.in_(names),) if names else ()
