"""What each part of a plan would free alone is what the specification says of just that part."""

from __future__ import annotations

import random

from sqlalchemy.engine import Connection

from regwarden.core.graph import release
from regwarden.core.grouping import GroupBy
from regwarden.core.plan import Step, StepKind
from regwarden.store.plan_groups import list_plan_groups
from regwarden.store.plan_records import PlanState
from regwarden.store.plans import change_state, save_plan
from tests.store.cleanup_plans import plan
from tests.store.random_registries import RegistryWriter, make_registry
from tests.store.test_analytics import memory_database
from tests.store.test_group_sizes import GROUPS, place_in_projects
from tests.store.test_plan_sizes import digest_of


def save_steps(connection: Connection, registry_id: int, deleted: list[tuple[str, str]]) -> int:
    steps = [
        Step(number, StepKind.DELETE, f"r{registry_id}", repository, digest_of(registry_id, name), ("a", "b"))
        for number, (repository, name) in enumerate(deleted)
    ]
    return save_plan(connection, plan(*steps))


def test_each_part_frees_alone_what_the_specification_says() -> None:
    seen = set()
    with memory_database() as connection:
        writer = RegistryWriter(connection)
        for seed in range(30):
            facts, chance = make_registry(seed), random.Random(seed)
            written = writer.write(facts)
            projects = {one.name: chance.choice(GROUPS) for one in facts.repositories}
            place_in_projects(connection, written, projects)
            pairs = [(one.name, name) for one in facts.repositories for name in sorted(one.manifests)]
            deleted = [pair for pair in pairs if chance.random() < 0.6] or [("gone", "manifest-0")]
            plan_id = save_steps(connection, written.registry_id, deleted)
            for row in list_plan_groups(connection, plan_id, GroupBy.PROJECT):
                part = [pair for pair in deleted if projects.get(pair[0]) == row.group]
                assert (row.step_count, row.manifest_count, row.tag_count) == (len(part), len(part), 2 * len(part))
                existing = [pair for pair in part if pair[0] != "gone"]
                assert row.freed_alone_bytes == release(facts, existing).freed_bytes
                seen.add((row.group, (row.freed_alone_bytes or 0) > 0))
    assert len(seen) == 6


def test_a_plan_that_was_begun_has_no_such_figure() -> None:
    with memory_database() as connection:
        facts = make_registry(1)
        written = RegistryWriter(connection).write(facts)
        plan_id = save_steps(connection, written.registry_id, [(facts.repositories[0].name, "manifest-0")])
        change_state(connection, plan_id, (PlanState.OPEN,), PlanState.APPLYING)
        (row,) = list_plan_groups(connection, plan_id, GroupBy.PATH, 1)
        assert row.freed_alone_bytes is None
        assert row.group == facts.repositories[0].name.split("/")[0]
