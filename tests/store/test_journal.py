"""The journal: nothing is begun twice, and what came of it is told once."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from regwarden.errors import Conflict
from regwarden.store.journal import (
    EntryKind,
    Moment,
    Result,
    load_journal,
    load_registry_journal,
    note_intent,
    note_outcome,
    note_restore_intent,
    note_restore_outcome,
)
from regwarden.store.plan_records import StepState
from regwarden.store.plans import load_steps, save_plan
from tests.store.cleanup_plans import NOON, plan, step


@pytest.fixture
def moment(database):
    a_plan = plan(step(0), step(1, content="two"))
    plan_id = database.write_now(lambda connection: save_plan(connection, a_plan))
    return Moment(plan_id=plan_id, step=a_plan.steps[0], tags=("a", "b"), at=NOON)


def write(database, work, *arguments):
    return database.write_now(lambda connection: work(connection, *arguments))


def states(database, moment):
    return [one.state for one in database.read_now(lambda connection: load_steps(connection, moment.plan_id))]


def test_intent_and_outcome_stand_in_the_journal_and_the_step_knows_the_last(database, moment):
    write(database, note_intent, moment)
    assert states(database, moment) == [StepState.INTENDED, StepState.PENDING]
    later = replace(moment, at=NOON + timedelta(seconds=1))
    write(database, note_outcome, later, Result.DONE, "202")
    assert states(database, moment) == [StepState.DONE, StepState.PENDING]
    entries = database.read_now(lambda connection: load_journal(connection, moment.plan_id))
    assert [(one.entry, one.result, one.tags, one.at, one.digest, one.detail) for one in entries] == [
        (EntryKind.INTENT, "", ("a", "b"), NOON, moment.step.digest, ""),
        (EntryKind.OUTCOME, "done", ("a", "b"), later.at, moment.step.digest, "202"),
    ]
    since = database.read_now(lambda connection: load_registry_journal(connection, "prod", since=later.at))
    assert [one.id for one in since] == [entries[1].id]
    assert database.read_now(lambda connection: load_registry_journal(connection, "dev", since=NOON)) == ()


def test_no_step_is_begun_twice(database, moment):
    write(database, note_intent, moment)
    with pytest.raises(Conflict) as caught:
        write(database, note_intent, moment)
    assert caught.value.code == "step-state"
    assert len(database.read_now(lambda connection: load_journal(connection, moment.plan_id))) == 1


def test_what_was_not_carried_out_may_be_begun_again(database, moment):
    write(database, note_intent, moment)
    write(database, note_outcome, moment, Result.NOT_DONE)
    assert states(database, moment)[0] is StepState.PENDING
    write(database, note_intent, moment)
    assert states(database, moment)[0] is StepState.INTENDED


@pytest.mark.parametrize("result", [Result.DONE, Result.GONE, Result.DRIFTED, Result.FAILED])
def test_an_end_is_final(database, moment, result):
    write(database, note_outcome, moment, result)
    for work, arguments in ((note_intent, ()), (note_outcome, (Result.DONE,))):
        with pytest.raises(Conflict):
            write(database, work, moment, *arguments)
    assert states(database, moment)[0] == str(result)


def test_only_a_restore_that_was_done_changes_the_step(database, moment):
    write(database, note_intent, moment)
    write(database, note_outcome, moment, Result.DONE)
    write(database, note_restore_intent, moment)
    write(database, note_restore_outcome, moment, Result.FAILED, "503")
    assert states(database, moment)[0] is StepState.DONE
    write(database, note_restore_intent, moment)
    write(database, note_restore_outcome, moment, Result.DONE)
    assert states(database, moment)[0] is StepState.RESTORED
    entries = database.read_now(lambda connection: load_journal(connection, moment.plan_id, position=0))
    assert [one.entry for one in entries][2:] == [EntryKind.RESTORE_INTENT, EntryKind.RESTORE_OUTCOME] * 2
    assert database.read_now(lambda connection: load_journal(connection, moment.plan_id, position=1)) == ()
