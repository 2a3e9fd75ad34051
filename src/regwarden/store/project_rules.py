"""Which tags do the rules of GitLab protect? What they protect is held like what people hold by hand."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import func, or_, select
from sqlalchemy.engine import Connection

from regwarden.core.observed import Hold
from regwarden.core.project_rules import (
    RuleFinder,
    build_repository_finder,
    build_tag_finder,
    describe_rule,
    shown_pattern,
)
from regwarden.core.projects import ProtectionRule, RuleKind
from regwarden.store.bulk import bulk_update
from regwarden.store.chunks import chunked
from regwarden.store.past_rows import fetch
from regwarden.store.project_schema import project_rules, projects
from regwarden.store.row_locks import lock_repositories_of_tags
from regwarden.store.schema import registries, repositories, tags


class _Place(NamedTuple):
    id: int
    name: str
    project_remote_id: int | None


def load_rule_holds(connection: Connection, registry: str, names: Collection[str] | None = None) -> list[Hold]:
    """One hold for every tag that a rule of its project protects; with ``names`` in these repositories only.

    Also for rules that let us pass, and those that could not be read again. By repository and tag.
    """
    rules = _load_rules(connection, registry)
    finders = {number: build_tag_finder(some) for number, some in rules.by_project.items()}
    if not any(finders.values()):
        return []
    places: dict[int, tuple[str, RuleFinder]] = {}
    for place in _places(connection, rules.registry_id, names):
        finder = finders.get(rules.project_of(place))
        if finder is not None:
            places[place.id] = (place.name, finder)
    found = []
    for _, repository_id, tag, _ in _tags(connection, places):
        name, finder = places[repository_id]
        rule = finder(tag)
        if rule is not None:
            found.append(_hold(registry, name, tag, rule))
    return sorted(found, key=lambda one: (one.repository, one.tag))


def find_protected_repositories(connection: Connection, registry: str, names: Collection[str]) -> dict[str, str]:
    """Which of these repositories a rule protects from being deleted as a whole: name → the rule in words."""
    rules = _load_rules(connection, registry)
    found: dict[str, str] = {}
    for place in _places(connection, rules.registry_id, names) if rules.by_project else ():
        finder = build_repository_finder(rules.by_project.get(rules.project_of(place), ()))
        rule = None if finder is None else finder(place.name)
        if rule is not None:
            found[place.name] = describe_rule(rule)
    return found


def find_wrong_marks(connection: Connection, registry_id: int) -> dict[int | None, array[int]]:
    """The ids of the tags that are to be marked as protected (1), not (0), or unknown, by what each is to be.

    Unknown are those whose project's rules were never read. Tags that are marked rightly are left out.
    """
    name = connection.execute(select(registries.c.name).where(registries.c.id == registry_id)).scalar_one()
    rules = _load_rules(connection, name)
    finders = {number: build_tag_finder(some) for number, some in rules.by_project.items()}
    guarded: dict[int, RuleFinder] = {}
    plain: list[int] = []
    unknown: list[int] = []
    for place in _places(connection, registry_id, None):
        number = rules.project_of(place)
        finder = finders.get(number)
        if number not in rules.read and finder is None:
            unknown.append(place.id)
        elif finder is None:
            plain.append(place.id)
        else:
            guarded[place.id] = finder
    wrong: dict[int | None, array[int]] = {1: array("q"), 0: array("q"), None: array("q")}
    wrong[None].extend(_marked_otherwise(connection, unknown, None))
    wrong[0].extend(_marked_otherwise(connection, plain, 0))
    for number, repository_id, tag, mark in _tags(connection, guarded):
        flag = int(guarded[repository_id](tag) is not None)
        if mark != flag:
            wrong[flag].append(number)
    return wrong


def mark_tags(connection: Connection, ids: Sequence[int], flag: int | None) -> None:
    """Mark tags as protected (1), not protected (0) or unknown: a few thousand, as the writer is not to be held."""
    lock_repositories_of_tags(connection, ids)
    bulk_update(connection, tags, [{"id": number, "is_protected": flag} for number in ids])


def newest_tag(connection: Connection) -> int:
    """The id of the tag that was last taken in; 0 where there is none."""
    return int(connection.scalar(select(func.coalesce(func.max(tags.c.id), 0))) or 0)


class _Rules(NamedTuple):
    """The rules of a registry by GitLab's number of the project; ``read`` are the projects whose rules were read."""

    registry_id: int
    by_project: Mapping[int, list[ProtectionRule]]
    read: frozenset[int]
    by_path: Mapping[str, int]

    def project_of(self, place: _Place) -> int:
        """The project of a repository; of one that no discovery has seen yet by its path. 0: unknown."""
        if place.project_remote_id is not None:
            return place.project_remote_id
        path = place.name.lower()
        while path:
            if path in self.by_path:
                return self.by_path[path]
            path = path.rpartition("/")[0]
        return 0


def _load_rules(connection: Connection, registry: str) -> _Rules:
    registry_id = connection.scalar(select(registries.c.id).where(registries.c.name == registry)) or 0
    columns = projects.c
    known = connection.execute(
        select(columns.id, columns.remote_id, columns.path, columns.rules_read_at).where(
            columns.registry_id == registry_id
        )
    ).all()
    if not known:
        return _Rules(registry_id, {}, frozenset(), {})
    numbers = {row.id: row.remote_id for row in known}
    by_project: dict[int, list[ProtectionRule]] = {}
    statement = select(project_rules).join(projects, columns.id == project_rules.c.project_id)
    for row in connection.execute(statement.where(columns.registry_id == registry_id)):
        rule = ProtectionRule(RuleKind(row.kind), row.pattern, row.delete_role, row.push_role)
        by_project.setdefault(numbers[row.project_id], []).append(rule)
    read = frozenset(row.remote_id for row in known if row.rules_read_at is not None)
    return _Rules(registry_id, by_project, read, {row.path.lower(): row.remote_id for row in known})


def _places(connection: Connection, registry_id: int, names: Collection[str] | None) -> Iterator[_Place]:
    columns = repositories.c
    here = (columns.registry_id == registry_id, columns.deleted_at.is_(None))
    statement = select(columns.id, columns.name, columns.project_remote_id).where(*here)
    if names is None:
        yield from (_Place(*row) for row in connection.execute(statement))
        return
    for some in chunked(sorted(names)):
        yield from (_Place(*row) for row in connection.execute(statement.where(columns.name.in_(some))))


def _tags(connection: Connection, ids: Iterable[int]) -> Iterator[tuple[int, int, str, int | None]]:
    """(id, repository id, name, mark) of each tag of these repositories."""
    columns = tags.c
    for some in chunked(sorted(ids)):
        statement = select(columns.id, columns.repository_id, columns.name, columns.is_protected)
        yield from fetch(connection, statement.where(columns.repository_id.in_(some)))


def _marked_otherwise(connection: Connection, ids: Collection[int], flag: int | None) -> Iterator[int]:
    marked = tags.c.is_protected
    differs = marked.is_not(None) if flag is None else or_(marked.is_(None), marked != flag)
    for some in chunked(sorted(ids)):
        yield from connection.execute(select(tags.c.id).where(tags.c.repository_id.in_(some), differs)).scalars()


def _hold(registry: str, repository: str, tag: str, rule: ProtectionRule) -> Hold:
    return Hold(
        id=0,
        registry=registry,
        repository=repository,
        tag=tag,
        reason=describe_rule(rule),
        rule=shown_pattern(rule),
    )
