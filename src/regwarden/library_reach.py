"""What ``Inventory`` answers to somebody who may not see everything, where a list with conditions is not enough.

A figure of a whole registry is told only to whoever may see all of it; what lies outside is as if it were not there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import fields, replace
from datetime import datetime
from typing import Any, TypeVar

from regwarden.core.access import Reach
from regwarden.core.conditions import parse_condition, parse_sort
from regwarden.core.fields import Noun
from regwarden.core.query import Query
from regwarden.errors import Forbidden
from regwarden.store.queries import list_rows
from regwarden.store.reports import (
    Coverage,
    ProblemCount,
    RegistryOverview,
    ReportedProblem,
    RepositoryUsage,
    TagUsage,
    UsageReport,
    coverage,
    list_problems,
    registry_overview,
    usage_report,
)

T = TypeVar("T")
# What the store's functions take; only the store knows the type behind it.
Connection = Any


def require_everything(reach: Reach, what: str) -> None:
    """Go on only where nothing lies outside. Raises ``Forbidden``."""
    if not reach.is_everything:
        raise Forbidden(f"{what}: this is told only to those who may see everything", hint=_HINT)


def require_whole(reach: Reach, names: Sequence[str]) -> None:
    """Go on only where all of the named registries may be seen. Raises ``Forbidden``."""
    for name in names:
        if reach.touches(name) and not reach.has_all_of(name):
            raise Forbidden(f"figures of all of {name[:160]} are told only to those who may see all of it", hint=_HINT)


_HINT = "Ask about single repositories, or an administrator for a role that is not limited."


def overview_within(connection: Connection, names: Sequence[str], reach: Reach) -> list[RegistryOverview]:
    """As ``registry_overview``; without figures of those registries that are not wholly in reach."""
    found = [one for one in registry_overview(connection, names) if reach.touches(one.registry)]
    return [one if reach.has_all_of(one.registry) else _without_figures(one) for one in found]


def coverage_within(connection: Connection, names: Sequence[str], reach: Reach) -> list[Coverage]:
    """As ``coverage``, of the registries that are wholly in reach. Raises ``Forbidden`` for a named one that is not."""
    require_whole(reach, names)
    return [one for one in coverage(connection, names) if reach.has_all_of(one.registry)]


def problems_within(
    connection: Connection, registry: str | None, repository: str | None, reach: Reach
) -> list[ReportedProblem]:
    """As ``list_problems``; those of a registry as such are told to whoever may see all of it."""
    found = list_problems(connection, registry, repository)
    if reach.is_everything:
        return found
    return [
        one
        for one in found
        if (reach.has(one.registry, one.repository) if one.repository else reach.has_all_of(one.registry))
    ]


def usage_within(connection: Connection, names: Sequence[str], top: int, now: datetime, reach: Reach) -> UsageReport:
    """As ``usage_report``: the largest of what is in reach, and totals of the registries that are wholly in it."""
    if reach.is_everything:
        return usage_report(connection, names, top=top)
    chosen = tuple(one.registry for one in overview_within(connection, names, reach))
    counted = Counter((one.registry, one.code) for one in problems_within(connection, None, None, reach))

    def largest(noun: Noun, size: str, kind: type[T]) -> tuple[T, ...]:
        query = Query(
            noun,
            registries=chosen,
            conditions=(parse_condition(noun, f"{size} != unknown"),),
            sort=(parse_sort(noun, f"-{size}"),),
            limit=top,
            reach=reach,
        )
        # Of no registry a list would be of all of them.
        rows = list_rows(connection, query, now).rows if chosen and top > 0 else []
        return tuple(kind(**{one.name: row[one.name] for one in fields(kind)}) for row in rows)  # type: ignore[arg-type] # dataclasses

    return UsageReport(
        registries=tuple(overview_within(connection, names, reach)),
        by_stored=largest("repository", "stored_bytes", RepositoryUsage),
        by_exclusive=largest("repository", "exclusive_bytes", RepositoryUsage),
        largest_tags=largest("tag", "logical_bytes", TagUsage),
        problems=tuple(
            ProblemCount(registry, code, count)
            for (registry, code), count in sorted(counted.items(), key=lambda one: (one[0][0], -one[1], one[0][1]))
            if registry in chosen
        ),
    )


def _without_figures(one: RegistryOverview) -> RegistryOverview:
    names = [field.name for field in fields(one) if field.name.endswith(("_count", "_bytes"))]
    unknown: dict[str, Any] = dict.fromkeys(names)
    return replace(one, **unknown)
