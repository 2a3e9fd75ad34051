"""Parts of a plan, a page at a time: together they are the whole, in its order."""

from __future__ import annotations

from typing import Any

import pytest

from regwarden.core.verdicts import Outcome
from regwarden.store.database import Database
from regwarden.store.plan_pages import VerdictPlace, find_plan_places, page_steps, page_verdicts
from regwarden.store.plan_records import StepState
from regwarden.store.plans import begin_plan, iterate_verdicts, load_steps, pack_plan, save_plan
from tests.store.cleanup_plans import plan

BEGIN = VerdictPlace("", "", 0)


def anything(_name: str) -> bool:
    return True


@pytest.fixture
def plan_id(database: Database) -> int:
    return database.write_now(lambda connection: save_plan(connection, plan()))


@pytest.mark.parametrize("limit", [1, 2, 1000])
def test_pages_of_steps_are_all_steps(database, plan_id, limit):
    whole = database.read_now(lambda connection: load_steps(connection, plan_id))
    found: list[Any] = []
    after: int | None = -1
    while after is not None:
        rows, after = database.read_now(
            lambda connection, after=after: page_steps(
                connection, plan_id, anything, states=(), after=after, limit=limit
            )
        )
        assert len(rows) <= limit
        found += rows
    assert tuple(found) == whole != ()
    none = database.read_now(
        lambda connection: page_steps(connection, plan_id, anything, states=[StepState.DONE], after=-1, limit=limit)
    )
    assert none == ([], None)


@pytest.mark.parametrize("limit", [1, 2, 1000])
@pytest.mark.parametrize("outcome", [None, *Outcome])
def test_pages_of_verdicts_are_all_verdicts(database, plan_id, limit, outcome):
    whole = database.read_now(
        lambda connection: [
            (place.registry, place.repository, one)
            for place in iterate_verdicts(connection, plan_id)
            for one in place.verdicts
            if outcome in (None, one.outcome)
        ]
    )
    found: list[Any] = []
    after: VerdictPlace | None = BEGIN
    while after is not None:
        rows, after = database.read_now(
            lambda connection, after=after: page_verdicts(
                connection, plan_id, anything, outcome=outcome, after=after, limit=limit
            )
        )
        found += [(one.registry, one.repository, one.verdict) for one in rows]
    assert found == whole


def test_a_plan_that_is_being_written_is_about_nothing_yet(database, plan_id):
    places = database.read_now(lambda connection: find_plan_places(connection, plan_id))
    assert places
    begun = database.write_now(lambda connection: begin_plan(connection, pack_plan(plan())))
    assert database.read_now(lambda connection: find_plan_places(connection, begun)) is None
    assert database.read_now(lambda connection: find_plan_places(connection, 99)) is None
