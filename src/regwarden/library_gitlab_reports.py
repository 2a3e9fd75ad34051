"""What is told of a GitLab's projects and sizes, as far as somebody may see them?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from regwarden.core.access import Reach
from regwarden.core.gitlab_cleanup import read_cleanup_policy
from regwarden.core.gitlab_sizes import SizeFacts, SizeScope, difference_of, explain_sizes, meaning_of
from regwarden.core.projects import AccessLevel, Features
from regwarden.errors import InputError
from regwarden.library_rows import Row
from regwarden.store.gitlab_reports import MeasuredScope, list_gitlab_registries, measure_scopes
from regwarden.store.group_sizes import load_members
from regwarden.store.projects import StoredProject, list_projects, load_access

# What the store's functions take; only the store knows the type behind it.
Connection = Any


def gitlab_registries(connection: Connection, registry: str | None, reach: Reach) -> dict[str, int]:
    """The ids of the registries of kind gitlab in reach, by name. Raises ``InputError`` if the named one is not."""
    found = {name: one for name, one in list_gitlab_registries(connection, registry).items() if reach.touches(name)}
    if registry is not None and not found:
        raise InputError(
            f"{registry[:160]!r} is no registry of kind gitlab in the inventory",
            hint='Give it kind = "gitlab" and gitlab_url in the settings, then crawl it: regwarden registry list.',
        )
    return found


def reachable_projects(
    connection: Connection, registry: str, registry_id: int, reach: Reach
) -> Iterator[tuple[StoredProject, int | None]]:
    """The projects of which anything may be shown, each with the number of its repositories that may be seen.

    Without any in reach a project is told of only to those who may see the whole registry.
    """
    counts: dict[str | None, int] = {}
    if not reach.has_all_of(registry):
        for one in load_members(connection, registry_id):
            if reach.has(registry, one.repository):
                counts[one.project] = counts.get(one.project, 0) + 1
    for project in list_projects(connection, registry):
        count = project.repository_count if reach.has_all_of(registry) else counts.get(project.project.path)
        if count is not None:
            yield project, count


def project_rows(connection: Connection, registry: str | None, reach: Reach) -> list[Row]:
    """See ``Inventory.projects``."""
    return [
        _project_row(one, count, is_whole=reach.has_all_of(name))
        for name, number in gitlab_registries(connection, registry, reach).items()
        for one, count in reachable_projects(connection, name, number, reach)
    ]


def _project_row(stored: StoredProject, repository_count: int | None, *, is_whole: bool) -> Row:
    project = stored.project
    policy = None if project.cleanup_policy is None else read_cleanup_policy(project.cleanup_policy)
    return Row(
        {
            "registry": stored.registry,
            "project": project.path,
            "gitlab_id": project.id,
            "group": project.group,
            "owner": project.owner,
            "visibility": project.visibility,
            "is_archived": project.is_archived,
            "access_level": level_words(project.access_level),
            "repository_count": repository_count,
            "rule_count": None if project.rules is None else len(project.rules),
            "rules_read_at": stored.rules_read_at,
            "is_cleanup_on": None if policy is None else policy.is_enabled,
            "cleanup_next_run_at": None if policy is None else policy.next_run_at,
            "gitlab_bytes": project.size_bytes if is_whole else None,
            "seen_at": stored.seen_at,
        }
    )


def level_words(level: int | None) -> str | None:
    """A role in a project by its name; a number that is not known as it is."""
    if level is None:
        return None
    return AccessLevel(level).name.lower() if level in set(AccessLevel) else str(level)


def parse_scope(text: str) -> SizeScope:
    """What sizes are asked for of. Raises ``InputError``."""
    try:
        return SizeScope(text)
    except ValueError:
        hint = f"There are: {', '.join(SizeScope)}."
        raise InputError(f"GitLab has no sizes by {text[:40]!r}", hint=hint) from None


def size_rows(connection: Connection, registry: str | None, scope: SizeScope, reach: Reach) -> list[Row]:
    """See ``Inventory.gitlab_sizes``; of more than single repositories only where a registry is wholly in reach."""
    rows: list[Row] = []
    for name, number in gitlab_registries(connection, registry, reach).items():
        if scope is not SizeScope.REPOSITORY and not reach.has_all_of(name):
            continue
        access = load_access(connection, name)
        features = Features.UNKNOWN if access is None else access.features
        rows += (
            _size_row(name, one, scope, features)
            for one in measure_scopes(connection, number, scope)
            if scope is not SizeScope.REPOSITORY or reach.has(name, one.name)
        )
    return rows


def _size_row(registry: str, measured: MeasuredScope, scope: SizeScope, features: Features) -> Row:
    facts = SizeFacts(
        scope=scope,
        gitlab_bytes=measured.remote.size_bytes,
        precision=measured.remote.precision,
        is_estimated=measured.remote.is_estimated,
        sized_at=measured.remote.sized_at,
        changed_at=measured.changed_at,
        layer_bytes=measured.layer_bytes,
        stored_bytes=measured.stored_bytes,
        repository_count=measured.repository_count,
        features=features,
        is_whole=measured.is_whole,
    )
    return Row(
        {
            "registry": registry,
            "name": measured.name,
            "repository_count": measured.repository_count,
            "gitlab_bytes": facts.gitlab_bytes,
            "meaning": meaning_of(facts),
            "precision": facts.precision or None,
            "is_estimated": facts.is_estimated,
            "sized_at": facts.sized_at,
            "tagged_layer_bytes": facts.layer_bytes,
            "difference_bytes": difference_of(facts),
            "stored_bytes": facts.stored_bytes,
            "reasons": list(explain_sizes(facts)),
        }
    )
