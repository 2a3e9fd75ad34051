"""GitLab's own cleanup beside ours: what its policies say, what they would remove, and where both meet."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from regwarden import clock
from regwarden.core.access import Reach
from regwarden.core.gitlab_cleanup import (
    CleanupPolicy,
    CleanupTag,
    Fate,
    build_name_test,
    describe_cleanup,
    read_cleanup_policy,
    simulate_cleanup,
)
from regwarden.core.importers.api import Difference, Imported, Severity, Target
from regwarden.core.importers.catalogue import translate_rules
from regwarden.core.patterns import PatternSet
from regwarden.core.policy import Policy
from regwarden.core.project_rules import build_tag_finder
from regwarden.core.projects import Features
from regwarden.core.wording import counted
from regwarden.errors import InputError, NotFound
from regwarden.library_gitlab_reports import gitlab_registries, reachable_projects
from regwarden.library_groups import scope_remarks
from regwarden.library_policy_texts import is_in_registry_scope
from regwarden.library_queries import read_moment
from regwarden.library_rows import Row
from regwarden.store.gitlab_reports import (
    StoredTag,
    iterate_removed_tags,
    list_open_plans,
    list_plan_policies,
    load_project_tags,
)
from regwarden.store.group_sizes import load_members
from regwarden.store.plan_pages import find_plan_places
from regwarden.store.projects import StoredProject, load_access

# What the store's functions take; only the store knows the type behind it.
Connection = Any

_TRANSLATED: Final = ("cadence", "keep_n", "older_than", "name_regex", "name_regex_delete", "name_regex_keep")
_SHOWN_WARNINGS: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedCleanup:
    """What one run of GitLab's policy would do. ``policy`` is in words, ``notes`` say what is not certain.

    ``tags`` have the fields ``repository``, ``tag``, ``dated_at`` (what GitLab goes by), ``fate`` (``goes``,
    ``may-go``, ``stays``), ``reason`` (a word) and ``detail`` (words for people).
    """

    registry: str
    project: str
    policy: str
    is_enabled: bool
    next_run_at: datetime | None
    as_of: datetime
    notes: tuple[str, ...]
    tags: tuple[Row, ...]

    def count(self, fate: Fate) -> int:
        """How many tags have this fate."""
        return sum(row.fate == fate for row in self.tags)


def policy_rows(
    connection: Connection, registry: str | None, project: str | None, ours: Sequence[Policy], *, reach: Reach
) -> list[Row]:
    """The policies of projects in reach, by registry and path; see ``Inventory.cleanup_policies``."""
    found = []
    for name, number in gitlab_registries(connection, registry, reach).items():
        open_plans = list_open_plans(connection, number)
        deciding = _deciding(connection, name, number, ours, reach)
        for stored, _ in reachable_projects(connection, name, number, reach):
            if project is None or stored.project.path.lower() == project.lower():
                plan_ids = sorted(
                    one for one in open_plans.get(stored.project.id, ()) if _may_see(connection, one, reach)
                )
                found.append(_policy_row(stored, plan_ids, deciding.get(stored.project.path, ())))
    if project is not None and not found:
        raise _no_project(project)
    return found


def _deciding(
    connection: Connection, registry: str, registry_id: int, ours: Sequence[Policy], reach: Reach
) -> dict[str, list[str]]:
    """The names of our policies whose scope has a repository of a project, by the project's path."""
    found: dict[str, list[str]] = {}
    here = [one for one in ours if is_in_registry_scope(one, registry)]
    for member in load_members(connection, registry_id) if here else ():
        if member.project is not None and reach.has(registry, member.repository):
            names = found.setdefault(member.project, [])
            names += [one.name for one in here if one.name not in names and _has(one, member.repository)]
    return found


def _has(policy: Policy, repository: str) -> bool:
    scope = policy.scope.repositories
    return scope is None or PatternSet(scope.include, scope.exclude).matches(repository)


def _may_see(connection: Connection, plan_id: int, reach: Reach) -> bool:
    return reach.is_everything or all(reach.has(*place) for place in find_plan_places(connection, plan_id) or ())


def _policy_row(stored: StoredProject, plan_ids: list[int], deciding: Sequence[str]) -> Row:
    given = stored.project.cleanup_policy
    policy = None if given is None else read_cleanup_policy(given)
    warnings = []
    if policy is not None and policy.is_enabled:
        warnings = [
            f"plan {plan_id} removes something here, too: what GitLab removes first is skipped as gone"
            for plan_id in plan_ids
        ]
        warnings += [
            f"our policy {name} decides here, too: what one removed is gone for the other" for name in deciding
        ]
    return Row(
        {
            "registry": stored.registry,
            "project": stored.project.path,
            "is_enabled": None if policy is None else policy.is_enabled,
            "next_run_at": None if policy is None else policy.next_run_at,
            "policy": "None is known." if policy is None else describe_cleanup(policy),
            "cadence": policy and policy.cadence,
            "keep_n": policy and policy.keep_count,
            "older_than": policy and policy.older_than,
            "name_regex": policy and policy.name_regex,
            "name_regex_keep": policy and policy.name_regex_keep,
            "plan_ids": plan_ids,
            "warnings": warnings,
        }
    )


def simulate(
    connection: Connection, project: str, registry: str | None, as_of: datetime | str | None, reach: Reach
) -> SimulatedCleanup:
    """See ``Inventory.simulate_cleanup``."""
    stored, registry_id = _find_project(connection, project, registry, reach)
    policy = _policy_of(stored)
    moment = clock.now() if as_of is None else read_moment(as_of)
    access = load_access(connection, stored.registry)
    features = Features.UNKNOWN if access is None else access.features
    has_database = features in (Features.DATABASE, Features.UNKNOWN)
    finder = build_tag_finder(stored.project.rules or ())
    by_repository: dict[str, list[CleanupTag]] = {}
    for tag in load_project_tags(connection, registry_id, stored.project.id):
        if reach.has(stored.registry, tag.repository):
            is_protected = tag.is_protected or (finder is not None and finder(tag.name) is not None)
            seen = _as_gitlab_sees(tag, has_database=has_database, is_protected=is_protected)
            by_repository.setdefault(tag.repository, []).append(seen)
    rows = [
        Row({"repository": repository, **verdict._asdict()})
        for repository, tags in sorted(by_repository.items())
        for verdict in simulate_cleanup(policy, tags, as_of=moment, has_database=has_database)
    ]
    return SimulatedCleanup(
        registry=stored.registry,
        project=stored.project.path,
        policy=describe_cleanup(policy),
        is_enabled=policy.is_enabled,
        next_run_at=policy.next_run_at,
        as_of=moment,
        notes=tuple(_notes(stored, policy, features)),
        tags=tuple(rows),
    )


def _as_gitlab_sees(tag: StoredTag, *, has_database: bool, is_protected: bool) -> CleanupTag:
    """With the metadata database GitLab goes by when a tag was made, without it by when its image was built."""
    if has_database:
        return CleanupTag(tag.name, tag.published_at, is_protected, tag.published_at is not None)
    # It reads the date from the configuration of an image, which an index has not.
    return CleanupTag(tag.name, None if tag.is_index else tag.created_at, is_protected, tag.is_read)


def _notes(stored: StoredProject, policy: CleanupPolicy, features: Features) -> Iterator[str]:
    if not policy.is_enabled:
        yield "The policy is switched off: GitLab removes nothing."
    if features is Features.UNKNOWN:
        yield "It is not known whether the registry has the metadata database: this is how it would go with it."
    if features in (Features.FILES, Features.PLAIN):
        yield "Without the metadata database GitLab goes by when images were built, not by when they were tagged."
    if stored.project.rules is None:
        yield "The rules that protect tags could not be read: more may stay."
    yield "A run ends after some minutes; what it did not get to, a later one removes."


def import_policy(connection: Connection, project: str, registry: str | None, reach: Reach) -> Imported:
    """See ``Inventory.import_cleanup_policy``."""
    stored, _ = _find_project(connection, project, registry, reach)
    policy, path = _policy_of(stored), stored.project.path
    given = stored.project.cleanup_policy or {}
    rules = {name: given[name] for name in _TRANSLATED if given.get(name) is not None}
    document = {"path_with_namespace": path, "container_expiration_policy": {**rules, "enabled": True}}
    name = f"the cleanup policy of {path}"
    imported = translate_rules(json.dumps(document), system="gitlab", name=name, target=Target())
    if policy.is_enabled:
        when = f" and runs next at {_time(policy.next_run_at)}" if policy.next_run_at else ""
        message = (
            f"GitLab's own policy is on{when}: both can run side by side, what one removed is gone for the other."
            " Switch GitLab's off in the project's settings, if ours is to decide alone"
        )
    else:
        message = "GitLab's own policy is switched off; this is what it would do"
    note = Difference("side-by-side", "enabled", message, Severity.NOTE)
    return replace(imported, differences=(*imported.differences, note))


def plan_warnings(connection: Connection, plan_id: int) -> tuple[str, ...]:
    """Where GitLab's own cleanup may remove tags of a plan before it is applied, and what sizes cannot know."""
    warned: dict[tuple[str, str], str] = {}
    for registry, repository, path, given in list_plan_policies(connection, plan_id):
        policy = read_cleanup_policy(given)
        if not policy.is_enabled or (registry, path) in warned:
            continue
        try:
            is_named = build_name_test(policy)
        except InputError:
            continue  # what GitLab cannot read either, it does not run
        if any(map(is_named, iterate_removed_tags(connection, plan_id, (registry, repository)))):
            when = f" and runs next at {_time(policy.next_run_at)}" if policy.next_run_at else ""
            warned[registry, path] = (
                f"GitLab's own cleanup of {path} is on{when}: it may remove tags of this plan first (they are then"
                " skipped as gone)"
            )
    shown = list(warned.values())
    if len(shown) > _SHOWN_WARNINGS:
        more = counted(len(shown) - _SHOWN_WARNINGS, "more project")
        shown = [*shown[:_SHOWN_WARNINGS], f"and so is that of {more}: regwarden gitlab cleanup show"]
    registries = {registry for registry, _ in find_plan_places(connection, plan_id) or ()}
    return (*shown, *scope_remarks(connection, registries))


def _find_project(
    connection: Connection, project: str, registry: str | None, reach: Reach
) -> tuple[StoredProject, int]:
    found = [
        (stored, number)
        for name, number in gitlab_registries(connection, registry, reach).items()
        for stored, _ in reachable_projects(connection, name, number, reach)
        if stored.project.path.lower() == project.lower()
    ]
    if not found:
        raise _no_project(project)
    if len(found) > 1:
        names = ", ".join(stored.registry for stored, _ in found)
        raise InputError(f"{project[:160]!r} is a project of several registries", hint=f"Name one of them: {names}.")
    return found[0]


def _policy_of(stored: StoredProject) -> CleanupPolicy:
    if stored.project.cleanup_policy is None:
        raise NotFound(
            f"GitLab named no cleanup policy of {stored.project.path}",
            hint="Either it has none, or the token lacks the role Reporter there or the scope read_api.",
        )
    return read_cleanup_policy(stored.project.cleanup_policy)


def _no_project(project: str) -> NotFound:
    hint = "`regwarden gitlab projects` shows what there is; a crawl finds new ones."
    return NotFound(f"the inventory has no project {project[:160]!r}", hint=hint)


def _time(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M} UTC"
