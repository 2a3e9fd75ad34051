"""What ``Inventory`` answers by groups of repositories: what they weigh, and what a plan does to each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from regwarden.core.access import Reach
from regwarden.core.grouping import GroupBy, check_depth, parse_group_by
from regwarden.core.projects import Mode
from regwarden.errors import InputError
from regwarden.library_rows import Row
from regwarden.store.group_sizes import list_group_usage
from regwarden.store.plan_groups import list_plan_groups
from regwarden.store.plans import load_plan
from regwarden.store.projects import load_access
from regwarden.store.reports import UsageReport

# What the store's functions take; only the store knows the type behind it.
Connection = Any


class Grouping(NamedTuple):
    """What repositories are put together by, and how many parts of a path make a group (``None``: all)."""

    by: GroupBy
    depth: int | None


def read_grouping(group_by: str | None, depth: int | None) -> Grouping:
    """What is asked for. Raises ``InputError`` for what repositories have not, and for a depth of what has no parts."""
    if group_by is None:
        raise InputError("a depth is nothing without groups", hint="Say by what: --group-by group or path.")
    by = parse_group_by(group_by)
    return Grouping(by, check_depth(by, depth))


def add_groups(
    connection: Connection, report: UsageReport, grouping: Grouping, names: Sequence[str], reach: Reach
) -> UsageReport:
    """The report with its groups: of all registries or those named, as far as they are in reach."""
    found = list_group_usage(connection, grouping.by, grouping.depth, names=names, reach=reach)
    return replace(report, groups=tuple(found))


def add_remarks(connection: Connection, report: UsageReport) -> UsageReport:
    """The report with what its figures cannot know."""
    return replace(report, remarks=scope_remarks(connection, {one.registry for one in report.registries}))


def scope_remarks(connection: Connection, registries: Iterable[str]) -> tuple[str, ...]:
    """Of which registries only a part is read, so that what is not read may need the same content, in words."""
    partly = []
    for name in sorted(registries):
        access = load_access(connection, name)
        if access is not None and (access.mode is not Mode.INSTANCE or access.can_list_catalog is not True):
            partly.append(name)
    return tuple(
        f"{name}: not all projects of this GitLab are read; others may share content with these, so exclusive and"
        " reclaimable bytes are upper bounds"
        for name in partly
    )


def plan_groups(connection: Connection, plan_id: int, grouping: Grouping) -> list[Row]:
    """What a plan does in each group of repositories, the largest first. Raises ``NotFound``."""
    load_plan(connection, plan_id)
    return [Row(one._asdict()) for one in list_plan_groups(connection, plan_id, grouping.by, grouping.depth)]
