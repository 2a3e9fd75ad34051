"""Plans that are kept: the same when they are read again, changed by one at a time, quick with a million verdicts."""

from __future__ import annotations

from dataclasses import replace
from time import perf_counter

import pytest

from regwarden.core.graph import MAX_SUM_BYTES, Confidence
from regwarden.core.plan import PlanSizes
from regwarden.core.verdicts import Outcome, Reason, ReasonCode, RepositoryVerdicts, Verdict
from regwarden.errors import Conflict, NotFound, StoreError
from regwarden.store.cleanup_schema import plans
from regwarden.store.journal import Moment, Result, note_outcome
from regwarden.store.plan_records import Approval, ApprovalKind, PlanState, StepState
from regwarden.store.plans import (
    begin_plan,
    change_state,
    end_plan,
    iterate_pieces,
    iterate_verdicts,
    list_plan_repositories,
    list_plans,
    load_plan,
    load_steps,
    load_verdicts,
    load_whole_plan,
    pack_plan,
    save_approval,
    save_outcome,
    save_piece,
    save_plan,
)
from tests.store.cleanup_plans import NOON, digest_of, plan, selected_plan, step, verdicts


def saved(database, a_plan):
    return database.write_now(lambda connection: save_plan(connection, a_plan))


def loaded(database, plan_id):
    return database.read_now(lambda connection: load_plan(connection, plan_id))


def test_sizes_that_strangers_declared_do_not_keep_a_plan_from_being_kept(database):
    most = PlanSizes(reclaimable_bytes=MAX_SUM_BYTES, lower_bound_bytes=0, confidence=Confidence.UPPER_BOUND)
    plan_id = saved(database, replace(plan(), sizes={"prod": most, "test": most}))
    assert loaded(database, plan_id).summary.reclaimable_bytes == MAX_SUM_BYTES


def test_a_plan_that_is_written_piece_by_piece_is_there_when_all_of_it_is(database):
    a_plan = plan(*(step(position, content=f"content {position}") for position in range(2_500)))
    packed = pack_plan(a_plan)
    plan_id = database.write_now(lambda connection: begin_plan(connection, packed))
    pieces = list(iterate_pieces(packed))
    assert len(pieces) > 3
    assert max(len(piece.rows) for piece in pieces) <= 1_000
    for piece in pieces:
        database.write_now(lambda connection, piece=piece: save_piece(connection, plan_id, piece))
        assert loaded(database, plan_id).state is PlanState.INCOMPLETE
        assert database.read_now(list_plans) == ()
    database.write_now(lambda connection: end_plan(connection, plan_id))
    assert [one.id for one in database.read_now(list_plans)] == [plan_id]
    assert database.read_now(lambda connection: load_whole_plan(connection, plan_id)) == a_plan
    with pytest.raises(Conflict, match="is open, not incomplete"):
        database.write_now(lambda connection: end_plan(connection, plan_id))


@pytest.mark.parametrize("made", [plan, selected_plan])
def test_a_plan_is_read_as_it_was_saved(database, made):
    a_plan = made()
    plan_id = saved(database, a_plan)
    assert database.read_now(lambda connection: load_whole_plan(connection, plan_id)) == a_plan


def test_patterns_of_a_plan_that_is_read_again_match_as_before(database):
    again = loaded(database, saved(database, selected_plan())).plan.selection
    assert [tag for tag in ("1.3", "1.4") if again.references[0].tags[0].matches(tag)] == ["1.3"]
    assert again.tags[1].matches("v7")


def test_the_head_has_neither_steps_nor_verdicts_and_counts_what_becomes_of_them(database):
    a_plan = plan(step(0), step(1, content="two", tags=("b", "c")), step(2, repository="team/lib", tags=()))
    plan_id = saved(database, pack_plan(a_plan))
    note = Moment(plan_id=plan_id, step=a_plan.steps[1], tags=("b",), at=NOON)
    database.write_now(lambda connection: note_outcome(connection, note, Result.DRIFTED, "b is new"))
    stored = loaded(database, plan_id)
    assert stored.plan == replace(a_plan, steps=(), verdicts=())
    assert stored.step_counts == {"pending": 2, "drifted": 1}
    summary = stored.summary
    assert (summary.repository_count, summary.tag_count, summary.manifest_count) == (2, 3, 3)
    assert (summary.reclaimable_bytes, summary.needed_approval_count, summary.title) == (10, 2, "nightly")
    assert (stored.state, stored.outcome, stored.approvals, summary.is_blocked) == (PlanState.OPEN, None, (), False)


def test_steps_are_read_in_pages_and_by_state(database):
    a_plan = plan(*(step(position, content=str(position)) for position in range(5)))
    plan_id = saved(database, a_plan)
    note = Moment(plan_id=plan_id, step=a_plan.steps[3], tags=(), at=NOON)
    database.write_now(lambda connection: note_outcome(connection, note, Result.FAILED, "no answer"))
    page = database.read_now(lambda connection: load_steps(connection, plan_id, after=0, limit=2))
    assert [one.step for one in page] == list(a_plan.steps[1:3])
    (failed,) = database.read_now(lambda connection: load_steps(connection, plan_id, states=[StepState.FAILED]))
    assert (failed.step, failed.detail, failed.at) == (a_plan.steps[3], "no answer", NOON)


def test_verdicts_are_read_by_repository(database):
    plan_id = saved(database, plan(step(0), step(1, content="two")))
    first, second = database.read_now(lambda connection: list_plan_repositories(connection, plan_id))
    assert (first.repository, first.keep_count, first.remove_count, first.undecided_count) == ("team/app", 1, 1, 1)
    assert (first.step_count, second.repository, second.step_count) == (2, "team/lib", 0)
    found = database.read_now(lambda connection: load_verdicts(connection, plan_id, "prod", "team/lib"))
    assert found == verdicts("team/lib")
    assert database.read_now(lambda connection: load_verdicts(connection, plan_id, "prod", "other")) is None


def test_plans_are_listed_newest_first_and_by_state(database):
    ids = [saved(database, plan()) for _ in range(3)]
    database.write_now(lambda connection: change_state(connection, ids[1], [PlanState.OPEN], PlanState.REJECTED))
    listed = database.read_now(list_plans)
    assert [one.id for one in listed] == ids[::-1]
    opened = database.read_now(lambda connection: list_plans(connection, states=[PlanState.OPEN], limit=1))
    assert [one.id for one in opened] == ids[2:]


def test_a_plan_goes_on_only_from_the_states_that_are_named(database):
    plan_id = saved(database, plan())
    database.write_now(lambda connection: change_state(connection, plan_id, [PlanState.OPEN], PlanState.APPLYING))
    with pytest.raises(Conflict, match=f"plan {plan_id} is applying, not open or rejected") as caught:
        database.write_now(
            lambda connection: change_state(
                connection, plan_id, [PlanState.OPEN, PlanState.REJECTED], PlanState.APPLYING
            )
        )
    assert caught.value.code == "plan-state"
    assert loaded(database, plan_id).state is PlanState.APPLYING
    for work in (
        lambda connection: change_state(connection, 99, [PlanState.OPEN], PlanState.APPLYING),
        lambda connection: load_plan(connection, 99),
    ):
        with pytest.raises(NotFound) as missing:
            database.write_now(work)
        assert missing.value.code == "plan-not-found"


def test_everybody_agrees_once_and_only_to_what_they_saw(database):
    plan_id = saved(database, plan())
    for principal, kind, fingerprint in (
        ("ann", ApprovalKind.OS_USER, "f" * 64),
        ("ann", ApprovalKind.OS_USER, "f" * 64),
        ("ann", ApprovalKind.SIGNED_IN, "f" * 64),
        ("bob", ApprovalKind.OS_USER, "e" * 64),
    ):
        approval = Approval(principal=principal, kind=kind, at=NOON, fingerprint=fingerprint)
        database.write_now(lambda connection, approval=approval: save_approval(connection, plan_id, approval))
    stored = loaded(database, plan_id)
    assert len(stored.approvals) == 3
    assert {(one.principal, one.kind) for one in stored.valid_approvals} == {
        ("ann", ApprovalKind.OS_USER),
        ("ann", ApprovalKind.SIGNED_IN),
    }
    named = Approval(principal="ldap:7", kind=ApprovalKind.SIGNED_IN, at=NOON, fingerprint="f" * 64, name="Ann")
    for approval in (replace(named, name="ann"), named):
        database.write_now(lambda connection, approval=approval: save_approval(connection, plan_id, approval))
    assert [one for one in loaded(database, plan_id).approvals if one.principal == "ldap:7"] == [named]
    assert {one.shown_name for one in loaded(database, plan_id).approvals} == {"ann", "bob", "Ann"}


def test_outcomes_are_kept_and_moments_stay(database):
    plan_id = saved(database, plan())
    database.write_now(lambda connection: save_outcome(connection, plan_id, {"done": 1}, applied_at=NOON))
    database.write_now(lambda connection: save_outcome(connection, plan_id, {"done": 1, "x": ["y"]}, undo_until=NOON))
    stored = loaded(database, plan_id)
    assert stored.outcome == {"done": 1, "x": ["y"]}
    assert (stored.summary.applied_at, stored.summary.undo_until, stored.summary.finished_at) == (NOON, NOON, None)


def test_damaged_bytes_are_told_in_words(database):
    plan_id = saved(database, plan())
    database.write_now(lambda connection: connection.execute(plans.update().values(document=b"x")))
    with pytest.raises(StoreError) as caught:
        loaded(database, plan_id)
    assert caught.value.code == "damaged"


def test_a_hundred_thousand_verdicts_take_well_under_a_second_to_pack(database):
    reasons = (Reason(ReasonCode.KEPT, "nightly", "keep[0] newest", "2nd of 3 newest"),)
    many = tuple(
        RepositoryVerdicts(
            registry="prod",
            repository=f"r{number:03}",
            verdicts=tuple(
                Verdict(f"v{tag}", digest_of(f"{number} {tag}"), Outcome.KEEP, reasons) for tag in range(200)
            ),
        )
        for number in range(500)
    )
    a_plan = replace(plan(), verdicts=many, steps=())
    start = perf_counter()
    packed = pack_plan(a_plan)
    plan_id = saved(database, packed)
    took = perf_counter() - start
    assert tuple(database.read_now(lambda connection: list(iterate_verdicts(connection, plan_id)))) == many
    assert took < 3
