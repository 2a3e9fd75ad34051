"""Which registries, repositories and tags does a question select? Its selectors and patterns as SQL and checks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import and_, or_, select
from sqlalchemy.engine import Connection
from sqlalchemy.sql.elements import ColumnElement

from regwarden.core.oci.digests import Digest
from regwarden.core.patterns import Pattern, PatternSet
from regwarden.core.query import Query
from regwarden.core.selectors import Selector
from regwarden.errors import InputError, NotFound
from regwarden.store.query_conditions import Check, Filter
from regwarden.store.query_fields import KnownRegistry, Scope, StoredField
from regwarden.store.query_patterns import is_decided, narrow_any
from regwarden.store.reaching import reach_filters, touched, within_reach
from regwarden.store.schema import manifests, repositories, repository_manifests, tags

_MOST_SELECTORS: Final = 200
_REMEMBERED_NAMES: Final = 100_000


@dataclass(frozen=True, slots=True)
class Selection:
    """``registries`` are those that can have rows, by name; ``narrows_repositories``: not all of theirs can."""

    registries: tuple[KnownRegistry, ...]
    filters: tuple[Filter, ...]
    narrows_repositories: bool


def choose_registries(query: Query, scope: Scope) -> tuple[KnownRegistry, ...]:
    """The registries that a question names, by name, or all. Raises ``NotFound`` for one that is not known."""
    chosen = known = touched(scope.registries, query.reach)
    if query.registries:
        named = {find_registry(name, known).id for name in query.registries}
        chosen = tuple(registry for registry in chosen if registry.id in named)
    if query.selectors:
        found = [find_registry(one.registry, known).id for one in query.selectors if one.registry is not None]
        if len(found) == len(query.selectors):
            chosen = tuple(registry for registry in chosen if registry.id in found)
    return chosen


def find_registry(name: str, known: Sequence[KnownRegistry]) -> KnownRegistry:
    """The registry of this name, or else of this ``host[:port]``; raises ``NotFound``."""
    found = [one for one in known if one.name == name] or [one for one in known if one.host == name]
    if not found:
        names = ", ".join(one.name for one in known[:10])
        raise NotFound(
            f"nothing is known of a registry {name[:160]!r}",
            hint=f"Known are: {names}." if names else "Run regwarden crawl first.",
            code="unknown-registry",
        )
    return found[0]


def select_rows(query: Query, scope: Scope, fields: dict[str, StoredField], connection: Connection) -> Selection:
    """Everything of a question but its conditions. Raises ``InputError`` where the noun has no such parts."""
    registries = choose_registries(query, scope)
    if query.noun == "registry":
        _refuse(query, has_part=bool(query.selectors or query.repositories or query.exclude_repositories))
    if query.noun in ("registry", "repository"):
        has_tag = any(one.tag is not None or one.digest is not None for one in query.selectors)
        _refuse(query, has_part=bool(query.tags or query.exclude_tags or has_tag))
    if query.noun == "registry":
        return Selection(registries, (), narrows_repositories=False)
    filters = [
        *within_reach(connection, reach_filters(query.reach, scope.registries, scope.dialect)),
        *_pattern_filters(repositories.c.name, query.repositories, query.exclude_repositories, scope.dialect),
        *_tag_filters(query, scope, fields),
        *_selector_filters(query, scope, fields),
    ]
    narrows = (
        not query.reach.is_everything
        or bool(query.repositories)
        or (bool(query.selectors) and all(one.repository is not None for one in query.selectors))
    )
    return Selection(registries, tuple(filters), narrows_repositories=narrows)


def _refuse(query: Query, *, has_part: bool) -> None:
    if has_part:
        raise InputError(
            f"a list of {'registries' if query.noun == 'registry' else 'repositories'} cannot be selected by that",
            hint="List tags to select by tag or digest, or repositories to select by repository.",
            code="bad-selector",
        )


def _pattern_filters(
    column: ColumnElement[str], include: Sequence[Pattern], exclude: Sequence[Pattern], dialect: str
) -> list[Filter]:
    filters = []
    if include:
        check = None if is_decided(include) else Check((column,), _remembered(PatternSet(tuple(include)).matches))
        filters.append(Filter(narrow_any(column, include, dialect), check))
    exact = [pattern.exact for pattern in exclude if pattern.exact is not None]
    if exact:
        filters.append(Filter(column.not_in(exact)))
    others = tuple(pattern for pattern in exclude if pattern.exact is None)
    if others:
        filters.append(Filter(None, Check((column,), _remembered(PatternSet((), others).matches))))
    return filters


def _remembered(matches: Callable[[str], bool]) -> Callable[[str], bool]:
    """The same names come again in every repository, and reading one as a version is slow."""
    return lru_cache(maxsize=_REMEMBERED_NAMES)(matches)


def _tag_filters(query: Query, scope: Scope, fields: dict[str, StoredField]) -> list[Filter]:
    if query.noun == "tag":
        return _pattern_filters(tags.c.name, query.tags, query.exclude_tags, scope.dialect)
    if query.noun != "manifest" or not (query.tags or query.exclude_tags):
        return []
    include, exclude = PatternSet(query.tags), PatternSet(query.exclude_tags)

    def passes(joined: str) -> bool:
        names = joined.split(",") if joined else []
        if query.tags and not any(include.matches(name) for name in names):
            return False
        return not (query.exclude_tags and any(exclude.matches(name) for name in names))

    return [Filter(None, Check((fields["tags"].expression,), passes))]


def _selector_filters(query: Query, scope: Scope, fields: dict[str, StoredField]) -> list[Filter]:
    selectors = query.selectors
    if not selectors:
        return []
    filters = []
    if all(one.repository is not None for one in selectors):
        patterns = [one.repository for one in selectors if one.repository is not None]
        filters.append(Filter(narrow_any(repositories.c.name, patterns, scope.dialect)))
    clause = None
    if len(selectors) <= _MOST_SELECTORS:
        clause = or_(*(_narrow_selector(query.noun, one, scope) for one in selectors))
    check = None
    if clause is None or not all(_is_exact(query.noun, one) for one in selectors):
        check = _selector_check(query, scope, fields)
    filters.append(Filter(clause, check))
    return filters


def _is_exact(noun: str, selector: Selector) -> bool:
    """Whether ``_narrow_selector`` decides."""
    if noun != "tag" and selector.tag is not None:
        return False
    return all(part is None or part.exact is not None for part in (selector.repository, selector.tag))


def _narrow_selector(noun: str, selector: Selector, scope: Scope) -> ColumnElement[bool]:
    parts: list[ColumnElement[bool] | None] = []
    if selector.registry is not None:
        parts.append(repositories.c.registry_id == find_registry(selector.registry, scope.registries).id)
    if selector.repository is not None:
        parts.append(narrow_any(repositories.c.name, [selector.repository], scope.dialect))
    if selector.tag is not None and noun == "tag":
        parts.append(narrow_any(tags.c.name, [selector.tag], scope.dialect))
    if selector.digest is not None:
        named = manifests.alias("named")
        found = select(named.c.id).where(named.c.digest == selector.digest.to_bytes()).scalar_subquery()
        parts.append((tags if noun == "tag" else repository_manifests).c.manifest_id == found)
    useful = [part for part in parts if part is not None]
    return and_(*useful) if useful else repositories.c.id.is_not(None)


def _selector_check(query: Query, scope: Scope, fields: dict[str, StoredField]) -> Check:
    wanted = [
        (find_registry(one.registry, scope.registries).id if one.registry is not None else None, one)
        for one in query.selectors
    ]
    is_joined = query.noun == "manifest"
    columns: list[ColumnElement[Any]] = [repositories.c.registry_id, repositories.c.name]
    if query.noun != "repository":
        columns.append(tags.c.name if query.noun == "tag" else fields["tags"].expression)
    if any(one.digest is not None for one in query.selectors):
        columns.append(fields["digest"].expression)

    def passes(registry_id: int, repository: str, names: str = "", stored: bytes | None = None) -> bool:
        digest = Digest.from_bytes(bytes(stored)) if stored else None
        tag_names: list[str | None] = [*names.split(",")] if is_joined and names else [names or None]
        return any(
            registry in (None, registry_id) and any(one.matches(repository, name, digest) for name in tag_names)
            for registry, one in wanted
        )

    return Check(tuple(columns), passes)
