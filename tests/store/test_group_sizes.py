"""Does the fast engine measure groups of repositories as the specification in core.graph does?"""

from __future__ import annotations

import random
from collections.abc import Mapping
from functools import partial

import pytest
from sqlalchemy import update
from sqlalchemy.engine import Connection

from regwarden.core import graph as specification
from regwarden.core.access import EVERYTHING, Area, Reach
from regwarden.core.graph import ManifestFacts, Node, RegistryFacts, RepositoryFacts, layers_of
from regwarden.core.grouping import GroupBy
from regwarden.core.patterns import parse_pattern
from regwarden.store import reach
from regwarden.store.database import Database
from regwarden.store.graph_arrays import load_graph
from regwarden.store.group_sizes import GroupUsage, layers_alone, list_group_usage
from regwarden.store.repository_sizes import measure_groups, measure_repositories
from regwarden.store.schema import repositories
from tests.store.random_registries import SIZES, RegistryWriter, Written, make_registry
from tests.store.test_analytics import HUGE, memory_database

GROUPS = ("one", "two", None)


def place_in_projects(connection: Connection, written: Written, projects: Mapping[str, str | None]) -> None:
    for name, project in projects.items():
        chosen = repositories.c.id == written.repositories[name]
        group = project.rpartition("/")[0] if project else None
        connection.execute(update(repositories).where(chosen).values(project=project, project_group=group))


def expected_usage(facts: RegistryFacts, groups: Mapping[str, str | None]) -> dict[str | None, tuple[int, ...]]:
    """By definition: what the tags of each group's repositories reach, and what no other group's tags do."""
    held: dict[str | None, set[Node]] = {}
    logical: dict[str | None, list[int]] = {}
    measured = specification.measure(facts)
    for one in facts.repositories:
        group = groups[one.name]
        held.setdefault(group, set()).update(specification.reach(facts, one, one.tags.values()))
        logical.setdefault(group, []).append(measured.repositories[one.name].logical)
    result: dict[str | None, tuple[int, ...]] = {}
    for group, nodes in held.items():
        elsewhere = set().union(*(other for name, other in held.items() if name != group))
        members = [one for one in facts.repositories if groups[one.name] == group]
        stored, exclusive = facts.size_of(nodes), facts.size_of(nodes - elsewhere)
        result[group] = (
            len(members),
            sum(len(one.tags) for one in members),
            specification.capped(logical[group]),
            stored,
            exclusive,
            stored - exclusive,
        )
    return result


def as_tuple(row: GroupUsage) -> tuple[int, ...]:
    counts = (row.repository_count, row.tag_count)
    return (*counts, row.logical_bytes, row.stored_bytes, row.exclusive_bytes, row.shared_bytes)


@pytest.mark.parametrize("batch", range(4))
def test_groups_of_random_registries_equal_the_specification(batch: int, monkeypatch):
    monkeypatch.setattr(reach, "PIECE_EDGES", 1 + batch * 5)
    chance = random.Random(batch)
    with memory_database() as connection:
        writer = RegistryWriter(connection, batch)
        registries = [make_registry(batch * 50 + n, sizes=HUGE if batch == 3 else SIZES) for n in range(50)]
        for facts in registries:
            written = writer.write(facts)
            projects = {one.name: chance.choice(GROUPS) for one in facts.repositories}
            place_in_projects(connection, written, projects)
            rows = list_group_usage(connection, GroupBy.PROJECT, names=(f"r{written.registry_id}",))
            assert {row.group: as_tuple(row) for row in rows} == expected_usage(facts, projects)
            assert [row.stored_bytes for row in rows] == sorted((row.stored_bytes for row in rows), reverse=True)
            graph = load_graph(connection, written.registry_id)
            order = sorted(projects, key=str.encode)
            layers = measure_repositories(layers_alone(graph)).stored.tolist()
            by_name = {one.name: one for one in facts.repositories}
            for name, layer_bytes in zip(order, layers, strict=True):
                nodes = specification.reach(facts, by_name[name], by_name[name].tags.values())
                assert layer_bytes == facts.size_of(layers_of(facts, nodes))


@pytest.fixture
def facts() -> RegistryFacts:
    """Three repositories that share a base: two in one group, one outside."""
    names = ("team/app", "team/sub/tool", "open/pub")
    manifests = {name: ManifestFacts(1_000, ("base", name), ("config",)) for name in names}
    blobs = {"base": 100, "config": 1} | dict.fromkeys(names, 10)
    return RegistryFacts(
        manifests, blobs, tuple(RepositoryFacts(name, {"1": name}, frozenset({name})) for name in names)
    )


def test_groups_paths_and_reach_on_both_databases(database: Database, facts: RegistryFacts):
    def write(connection: Connection) -> None:
        written = RegistryWriter(connection).write(facts)
        place_in_projects(connection, written, {"team/app": "team/app", "team/sub/tool": "team/sub/tool"})

    database.write_now(write)

    def asked(by: GroupBy, depth: int | None = None, reach: Reach = EVERYTHING) -> dict[str | None, tuple[int, ...]]:
        return {
            row.group: as_tuple(row)
            for row in database.read_now(partial(list_group_usage, by=by, depth=depth, reach=reach))
        }

    assert asked(GroupBy.GROUP) == {
        "team": (1, 1, 1_111, 1_111, 1_010, 101),
        "team/sub": (1, 1, 1_111, 1_111, 1_010, 101),
        None: (1, 1, 1_111, 1_111, 1_010, 101),
    }
    # Together the base counts once; the one outside still needs it.
    both = (2, 2, 2_222, 2_121, 2_020, 101)
    assert asked(GroupBy.GROUP, 1) == {"team": both, None: (1, 1, 1_111, 1_111, 1_010, 101)}
    assert asked(GroupBy.PATH, 1) == {"team": both, "open": (1, 1, 1_111, 1_111, 1_010, 101)}
    assert asked(GroupBy.OWNER) == {None: (3, 3, 3_333, 3_131, 3_131, 0)}
    team = Reach((Area(repositories=(parse_pattern("glob:team/**"),)),))
    assert asked(GroupBy.PATH, 1, team) == {"team": both}


def test_a_group_for_all_is_the_registry(facts: RegistryFacts):
    with memory_database() as connection:
        written = RegistryWriter(connection).write(facts)
        graph = load_graph(connection, written.registry_id)
        whole = measure_repositories(graph)
        everything = measure_groups(graph, whole.stored * 0, 1)
        assert everything.stored.tolist() == everything.exclusive.tolist() == [whole.registry_stored]
