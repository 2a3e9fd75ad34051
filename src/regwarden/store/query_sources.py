"""From which tables do the rows of a noun come, and in which order does SQLite walk them?

SQLite's planner knows nothing of pages: it is told the order of the loops (``CROSS JOIN``), so that the first page
is a walk along an index and nothing is sorted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from sqlalchemy import FromClause, and_
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import visitors
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.schema import Column
from sqlalchemy.sql.selectable import Join

from regwarden.core.fields import Noun
from regwarden.store.schema import manifests, registries, repositories, repository_manifests, tags


class Walk(Enum):
    """What the outermost loop goes over: repositories by name, or the rows themselves; or the database decides."""

    REPOSITORIES = 1
    ROWS = 2
    FREE = 3


@dataclass(frozen=True, slots=True)
class Source:
    """Where a noun's rows are: ``identity`` makes one unique, ``order`` names the fields of the usual order.

    ``links`` say, for each table with useful indexes, which column of the rows equals which column of that table.
    """

    identity: tuple[Column[Any], ...]
    order: tuple[str, ...]
    existing: tuple[ColumnElement[bool], ...]
    links: Mapping[str, tuple[Column[Any], Column[Any]]]


SOURCES: Final[Mapping[str, Source]] = {
    "registry": Source((registries.c.id,), ("registry",), (), {}),
    "repository": Source((repositories.c.id,), ("registry", "repository"), (repositories.c.deleted_at.is_(None),), {}),
    "tag": Source(
        (tags.c.id,),
        ("registry", "repository", "tag"),
        (repositories.c.deleted_at.is_(None),),
        {"tags": (tags.c.id, tags.c.id), "manifests": (tags.c.manifest_id, manifests.c.id)},
    ),
    "manifest": Source(
        (repository_manifests.c.repository_id, repository_manifests.c.manifest_id),
        ("registry", "repository", "digest"),
        (repositories.c.deleted_at.is_(None), repository_manifests.c.deleted_at.is_(None)),
        {"manifests": (repository_manifests.c.manifest_id, manifests.c.id)},
    ),
}

INDEXED: Final[frozenset[Any]] = frozenset(
    {
        tags.c.created_at,
        tags.c.logical_bytes,
        manifests.c.digest,
        manifests.c.config_digest,
        manifests.c.subject_digest,
        manifests.c.created_at,
        manifests.c.logical_bytes,
    }
)
# Also with the repository in front, so that the matching rows of each repository are found without the others.
WITHIN_REPOSITORIES: Final[frozenset[Any]] = frozenset({tags.c.created_at, tags.c.logical_bytes})


class OrderedJoin(Join):
    """A join whose left side SQLite must walk first; elsewhere a plain one."""

    inherit_cache = True


@compiles(OrderedJoin, "sqlite")  # type: ignore[no-untyped-call, untyped-decorator, unused-ignore]
def _compile_ordered_join(join: OrderedJoin, compiler: SQLCompiler, **options: Any) -> str:
    options["asfrom"] = True
    left, right = compiler.process(join.left, **options), compiler.process(join.right, **options)
    assert join.onclause is not None  # noqa: S101 -- always given here
    return f"{left} CROSS JOIN {right} ON {compiler.process(join.onclause, **options)}"


def tables_of(expression: ColumnElement[Any]) -> set[Any]:
    """The tables whose columns an expression names, those of its subqueries included."""
    return {element.table for element in visitors.iterate(expression) if isinstance(element, Column)}


def joined(noun: Noun, walk: Walk, expressions: Iterable[ColumnElement[Any]]) -> FromClause:
    """The tables of a noun, those that only give facts only as far as ``expressions`` name them."""
    if noun == "registry":
        return registries
    if noun == "repository":
        return repositories
    used = {table for one in expressions for table in tables_of(one)}
    join = Join if walk is Walk.FREE else OrderedJoin
    if noun == "manifest":
        return _joined_manifests(join, walk, has_facts=manifests in used)
    here = tags.c.repository_id == repositories.c.id
    start: FromClause = join(tags, repositories, here) if walk is Walk.ROWS else join(repositories, tags, here)
    if manifests in used:
        start = start.outerjoin(manifests, manifests.c.id == tags.c.manifest_id)
    if repository_manifests in used:
        same = and_(
            repository_manifests.c.repository_id == tags.c.repository_id,
            repository_manifests.c.manifest_id == tags.c.manifest_id,
        )
        start = start.outerjoin(repository_manifests, same)
    return start


def _joined_manifests(join: type[Join], walk: Walk, *, has_facts: bool) -> FromClause:
    here = repository_manifests.c.repository_id == repositories.c.id
    known = repository_manifests.c.manifest_id == manifests.c.id
    if walk is Walk.ROWS:
        return join(join(manifests, repository_manifests, known), repositories, here)
    start = join(repositories, repository_manifests, here)
    return join(start, manifests, known) if has_facts else start
