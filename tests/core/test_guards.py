"""Does each guard hold back what it is for, say so, and give way only to its own name?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from regwarden.core.graph import Confidence
from regwarden.core.guards import guard_live_events
from regwarden.core.observed import ObservedRegistry, ObservedRepository
from regwarden.core.plan import UNWAIVABLE, Guard, GuardCode, GuardLevel, GuardState, Plan, PlanSizes
from regwarden.core.planning import PlanInputs, build_plan, plan_repository
from regwarden.core.policy import Policy
from regwarden.core.selection import Selection
from regwarden.core.verdicts import Outcome, Reason, ReasonCode, RepositoryVerdicts, Verdict
from tests.observed import JUST_NOW, NOW, manifest, registry, repository, tag
from tests.policies import policy_of

BLOCK = "limits: {on-exceed: block}\n"
WIDE = "limits: {per-run: {share-of-repo: unlimited, manifests: unlimited}, never-empty: false}\n"
FREED = {"prod": PlanSizes(reclaimable_bytes=2**30 + 1, lower_bound_bytes=1, confidence=Confidence.EXACT)}


def removing(observed: ObservedRepository, names: Sequence[str]) -> RepositoryVerdicts:
    deleted, kept = Reason(ReasonCode.DELETED, "sample", "delete[0]"), Reason(ReasonCode.DEFAULT_KEEP)
    young = Reason(ReasonCode.MINIMUM_AGE)
    verdicts = []
    for one in sorted(observed.tags):
        if one.name in names:
            outcome, reason = Outcome.REMOVE, deleted
        else:
            outcome, reason = Outcome.KEEP, young if one.name.startswith("young") else kept
        verdicts.append(Verdict(one.name, one.digest, outcome, (reason,)))
    return RepositoryVerdicts(registry=observed.registry, repository=observed.name, verdicts=tuple(verdicts))


def plan_of(
    observed: ObservedRepository | Sequence[ObservedRepository],
    names: Sequence[str],
    *bodies: str,
    waived: str = "",
    sizes: dict[str, PlanSizes] | None = None,
    of: ObservedRegistry | None = None,
    selection: Selection | None = None,
) -> Plan:
    """A plan that removes the tags called ``names``, by policies with these bodies."""
    policies: list[Policy] = []
    for number, body in enumerate(bodies or ("",) * (selection is None)):
        made = policy_of(body)
        policies.append(replace(made, metadata=replace(made.metadata, name=f"sample{number}")))
    known = of or registry()
    inputs = PlanInputs(
        registries={known.name: known},
        snapshots={"prod": "crawl 1"},
        now=NOW,
        made_by="somebody",
        policies=tuple(policies),
        selection=selection,
        waived=frozenset(map(GuardCode, waived.split())),
    )
    repositories = [observed] if isinstance(observed, ObservedRepository) else observed
    planned = [plan_repository(inputs, one, removing(one, names), policies) for one in repositories]
    return build_plan(inputs, planned, sizes or {})


def many(count: int) -> ObservedRepository:
    return repository({f"t{number:04}": number for number in range(count)})


def the(plan: Plan, code: GuardCode) -> Guard:
    (found,) = [one for one in plan.guards if one.code is code]
    return found


def codes(plan: Plan) -> list[GuardCode]:
    return [one.code for one in plan.guards]


TEN = many(10)
LITTLE = ["t0000"]


def test_a_plan_within_every_limit_meets_no_guard():
    plan = plan_of(TEN, LITTLE)
    assert plan.guards == ()
    assert len(plan.steps) == 1
    assert not plan.is_blocked
    assert plan.demands.approval_count == 1


# Each row: a plan that meets a guard, which blocks all of it.


BLOCKING = [
    pytest.param(GuardCode.MANIFEST_LIMIT, {"observed": many(3000), "names": [f"t{n:04}" for n in range(1001)]}, BLOCK),
    pytest.param(GuardCode.TAG_LIMIT, {}, "limits: {on-exceed: block, per-run: {tags: 1}}\n"),
    pytest.param(
        GuardCode.BYTE_LIMIT, {"sizes": FREED}, "limits: {on-exceed: block, per-run: {bytes: 1GiB}}\n", id="byte-limit"
    ),
    pytest.param(
        GuardCode.INVENTORY_AGE,
        {"of": registry(crawled_at=NOW - timedelta(hours=2, seconds=1))},
        "requires: {inventory-max-age: 2h}\n",
    ),
    pytest.param(GuardCode.INCOMPLETE_INVENTORY, {"of": registry(coverage="", crawled_at=None)}, "", id="never read"),
    pytest.param(GuardCode.INCOMPLETE_INVENTORY, {"of": registry(coverage="failed")}, "", id="failed"),
    pytest.param(
        GuardCode.INCOMPLETE_INVENTORY, {"of": registry(coverage="partial")}, "requires: {coverage: complete}\n"
    ),
    pytest.param(
        GuardCode.PULL_HISTORY,
        {"of": registry(events_since=NOW - timedelta(days=29))},
        "requires: {pull-history-min: 30d}\n",
        id="pulls are recorded too short",
    ),
    pytest.param(
        GuardCode.PULL_HISTORY,
        {"of": registry(events_since=None)},
        "requires: {pull-history-min: 30d}\n",
        id="no pulls",
    ),
    pytest.param(
        GuardCode.PULL_HISTORY,
        {"of": registry(events_since=None)},
        "protect: [{pulled: {within: 30d}}]\n",
        id="a protection asks about pulls, and none was ever recorded",
    ),
    pytest.param(
        GuardCode.PULL_HISTORY,
        {"of": registry(events_since=None)},
        "delete: [{when: {pulled: {older-than: 30d}}}]\n",
        id="a rule asks about pulls, and none was ever recorded",
    ),
    pytest.param(GuardCode.MISSING_SOURCE, {}, "requires: {clusters: [prod-eu]}\n", id="clusters are required"),
    pytest.param(GuardCode.MISSING_SOURCE, {}, "protect: [{in-use: {clusters: all}}]\n", id="what runs is protected"),
    pytest.param(GuardCode.DELETE_DISABLED, {"of": registry(can_delete=False)}, ""),
]


@pytest.mark.parametrize(("code", "case", "body"), BLOCKING)
def test_a_guard_of_the_plan_blocks_it_unless_it_is_waived_by_name(code, case, body):
    facts = {"observed": TEN, "names": ["t0000", "t0001"]} | case
    observed, names = facts.pop("observed"), facts.pop("names")
    plan = plan_of(observed, names, body, **facts)
    guard = the(plan, code)
    assert (guard.level, guard.state) == (GuardLevel.PLAN, GuardState.BLOCKS)
    assert plan.is_blocked
    assert guard.message
    assert guard.hint
    others = " ".join(one for one in GuardCode if one is not code)
    assert the(plan_of(observed, names, body, waived=others, **facts), code).state is GuardState.BLOCKS
    waived = plan_of(observed, names, body, waived=code, **facts)
    expected = GuardState.BLOCKS if code in UNWAIVABLE else GuardState.WAIVED
    assert the(waived, code).state is expected
    assert waived.is_blocked == (code in UNWAIVABLE)
    assert (f"--waive {code}" in guard.hint) == (code not in UNWAIVABLE)


def test_limits_that_are_not_exceeded_are_no_guards():
    exactly = "limits: {per-run: {tags: 2, manifests: 2, bytes: 1GiB, share-of-repo: 20%}}\n"
    sizes = {"prod": replace(FREED["prod"], reclaimable_bytes=2**30)}
    assert plan_of(TEN, ["t0000", "t0001"], exactly, sizes=sizes).guards == ()
    old = registry(crawled_at=NOW - timedelta(hours=2), events_since=NOW - timedelta(days=30))
    asking = "requires: {inventory-max-age: 2h, pull-history-min: 30d}\n"
    assert plan_of(TEN, LITTLE, asking, of=old).guards == ()
    assert plan_of(TEN, LITTLE, "requires: {coverage: per-repo}\n", of=registry(coverage="partial")).guards == ()
    assert plan_of(TEN, LITTLE, "requires: {coverage: any}\n", of=registry(coverage="failed")).guards == ()
    assert plan_of(TEN, LITTLE, of=registry(can_delete=None)).guards == ()


def test_a_registry_where_nothing_goes_need_not_be_able_to_delete():
    assert plan_of(TEN, [], of=registry(can_delete=False)).guards == ()


def test_beyond_a_limit_one_more_person_must_agree():
    plan = plan_of(TEN, ["t0000", "t0001"], "limits: {per-run: {tags: 1, manifests: 1}}\n")
    assert {(one.code, one.state) for one in plan.guards} == {
        (GuardCode.TAG_LIMIT, GuardState.NEEDS_APPROVAL),
        (GuardCode.MANIFEST_LIMIT, GuardState.NEEDS_APPROVAL),
    }
    assert not plan.is_blocked
    assert plan.demands.approval_count == 2
    assert the(plan, GuardCode.TAG_LIMIT).message == "2 tags would go, the limit of one run is 1"
    waived = plan_of(
        TEN, ["t0000", "t0001"], "limits: {per-run: {tags: 1, manifests: 1}}\n", waived="tag-limit manifest-limit"
    )
    assert waived.demands.approval_count == 1


# Guards of one repository take its steps out of the plan.


def is_left_out(plan: Plan, code: GuardCode) -> bool:
    reasons = {one.reasons[0] for each in plan.verdicts for one in each.verdicts if one.tag == "t0000"}
    return not plan.steps and reasons == {Reason(ReasonCode.GUARDED, detail=code)}


@pytest.mark.parametrize(
    ("code", "case", "body"),
    [
        (
            GuardCode.NEVER_EMPTY,
            {"observed": many(2), "names": ["t0000", "t0001"]},
            "limits: {per-run: {share-of-repo: unlimited}}",
        ),
        (GuardCode.REPOSITORY_SHARE, {"observed": many(3), "names": ["t0000", "t0001"]}, BLOCK),
        (GuardCode.OPEN_PUSH, {"observed": replace(TEN, open_push="two platforms without an index")}, ""),
    ],
)
def test_a_guard_of_a_repository_leaves_it_out_unless_it_is_waived_by_name(code, case, body):
    facts = {"observed": TEN, "names": LITTLE} | case
    observed, names = facts["observed"], facts["names"]
    plan = plan_of(observed, names, body)
    guard = the(plan, code)
    assert (guard.level, guard.state) == (GuardLevel.REPOSITORY, GuardState.BLOCKS)
    assert (guard.registry, guard.repository) == ("prod", "team/app")
    assert f"--waive {code}" in guard.hint
    assert is_left_out(plan, code)
    assert not plan.is_blocked
    others = " ".join(one for one in GuardCode if one is not code)
    assert is_left_out(plan_of(observed, names, body, waived=others), code)
    waived = plan_of(observed, names, body, waived=code)
    assert the(waived, code).state is GuardState.WAIVED
    assert len(waived.steps) == len(names)


def test_other_repositories_go_on_where_one_is_left_out():
    plan = plan_of([many(1), replace(TEN, name="team/other")], LITTLE)
    assert [step.repository for step in plan.steps] == ["team/other"]
    assert [step.position for step in plan.steps] == [0]


def test_a_repository_of_which_a_manifest_stays_is_not_empty():
    observed = repository({"t0000": 1}, manifest(2))
    assert GuardCode.NEVER_EMPTY not in codes(plan_of(observed, ["t0000"], WIDE.replace("false", "true")))
    assert len(plan_of(many(1), ["t0000"], WIDE).steps) == 1


def test_a_tag_that_leads_nowhere_does_not_keep_a_repository_from_being_emptied():
    observed = repository({"t0000": 1, "dangling": None})
    assert is_left_out(plan_of(observed, ["t0000"], WIDE.replace("false", "true")), GuardCode.NEVER_EMPTY)


def test_the_share_counts_tags_and_manifests_each_for_themselves():
    limit = "limits: {on-exceed: block, per-run: {share-of-repo: 50%}}\n"
    tags = repository({"a": 1, "b": 1, "c": 1, "d": 2, "e": 3})
    plan = plan_of(tags, ["a", "b", "c"], limit)
    expected = "3 of 5 tags (60%) of prod/team/app would go, the limit is 50%"
    assert the(plan, GuardCode.REPOSITORY_SHARE).message == expected
    manifests = repository({"a": 10, "b": 1, "c": 2}, manifest(10, 11, 12), manifest(11), manifest(12))
    plan = plan_of(manifests, ["a"], limit)
    expected = "3 of 5 manifests (60%) of prod/team/app would go, the limit is 50%"
    assert the(plan, GuardCode.REPOSITORY_SHARE).message == expected
    assert plan_of(many(2), ["t0000"], limit).guards == ()


def test_a_share_that_people_may_approve_stays_in_the_plan():
    plan = plan_of(many(3), ["t0000", "t0001"])
    assert the(plan, GuardCode.REPOSITORY_SHARE).state is GuardState.NEEDS_APPROVAL
    assert (len(plan.steps), plan.demands.approval_count) == (2, 2)


def test_a_doubtful_repository_is_named_and_no_waiver_makes_it_certain():
    plan = plan_of(replace(TEN, doubt="its tags were not read to the end"), LITTLE, waived="incomplete-inventory")
    guard = the(plan, GuardCode.INCOMPLETE_INVENTORY)
    assert (guard.level, guard.state) == (GuardLevel.REPOSITORY, GuardState.BLOCKS)
    assert "its tags were not read to the end" in guard.message
    assert plan.steps == ()


def test_tags_that_cannot_go_alone_are_counted_and_named():
    observed = repository({"a": 1, "b": 1, "c": 2, "d": 3, "e": 4})
    guard = the(plan_of(observed, ["a"], of=registry(can_untag=False)), GuardCode.CANNOT_UNTAG)
    assert (guard.level, guard.state, guard.subject) == (GuardLevel.ROOT, GuardState.BLOCKS, "a")
    assert "1 tag of prod/team/app cannot go alone (a)" in guard.message
    assert GuardCode.CANNOT_UNTAG in codes(plan_of(observed, ["a"], of=registry(can_untag=None), waived="cannot-untag"))
    assert codes(plan_of(observed, ["a"], of=registry(can_untag=True))) == []
    opted = plan_of(observed, ["a"], "apply: {placeholders: true}\n", of=registry(can_untag=False))
    assert [step.with_placeholder for step in opted.steps] == [True]
    divided = plan_of(observed, ["a"], "apply: {placeholders: true}\n", "", of=registry(can_untag=False))
    assert divided.steps == ()


def test_what_is_young_is_counted_and_says_when_it_goes():
    tags = {"old": 1, "young": 2, "young-too": 3}
    observed = replace(repository(tags), tags=(tag("old", 1), tag("young", 2, tagged_at=JUST_NOW), tag("young-too", 3)))
    plan = plan_of(observed, [])
    guard = the(plan, GuardCode.MIN_AGE)
    assert (guard.level, guard.state) == (GuardLevel.ROOT, GuardState.BLOCKS)
    assert guard.message == "2 tags and manifests pushed, tagged or untagged in the last 1d stay"
    assert "--waive min-age" in guard.hint
    assert plan.acts_first_at is not None
    assert plan_of(observed, ["old"]).acts_first_at is None


def test_a_waived_minimum_age_says_how_much_that_is_young_goes():
    observed = replace(TEN, tags=(*TEN.tags[1:], tag("t0000", 0, tagged_at=JUST_NOW)))
    plan = plan_of(observed, ["t0000", "t0001"], waived="min-age")
    assert the(plan, GuardCode.MIN_AGE).state is GuardState.WAIVED
    assert the(plan, GuardCode.MIN_AGE).message.startswith("1 tag or manifest")


def test_a_child_that_was_pushed_a_moment_ago_goes_only_if_the_minimum_age_is_waived():
    observed = repository(
        {"t0000": 10, "x": 5, "y": 6}, manifest(10, 1), manifest(1, last_pushed_at=JUST_NOW), manifest(7), manifest(8)
    )
    assert len(plan_of(observed, ["t0000"], WIDE).steps) == 1
    assert len(plan_of(observed, ["t0000"], WIDE, waived="min-age").steps) == 2


def test_of_several_policies_the_strictest_limit_counts():
    one = "limits: {per-run: {tags: 5}, on-exceed: needs-approval, min-age: 1h}\n"
    other = "limits: {per-run: {tags: 1}, on-exceed: block}\n"
    assert the(plan_of(TEN, ["t0000", "t0001"], one, other), GuardCode.TAG_LIMIT).state is GuardState.BLOCKS
    assert plan_of(TEN, ["t0000", "t0001"], one).guards == ()
    emptying = "limits: {never-empty: false, per-run: {share-of-repo: unlimited}}\n"
    assert is_left_out(plan_of(many(1), LITTLE, emptying, ""), GuardCode.NEVER_EMPTY)


def test_of_several_policies_the_strictest_demands_count():
    one = 'apply: {approval: two, undo: 3d, window: "Mon-Fri 10:00-16:00 UTC"}\n'
    other = 'apply: {approval: none, undo: 9d, window: ["Tue 09:00-12:00 UTC", "Mon 09:00-12:00 UTC"]}\n'
    demands = plan_of(TEN, LITTLE, one, other).demands
    assert demands.approval_count == 2
    assert demands.undo == timedelta(days=9)
    assert demands.windows == ("Mon 09:00-12:00 UTC or Tue 09:00-12:00 UTC", "Mon-Fri 10:00-16:00 UTC")
    assert plan_of(TEN, LITTLE, "apply: {approval: none}\n").demands.approval_count == 0


def test_a_selection_has_the_usual_limits_but_no_share():
    chosen = Selection(registry="prod")
    assert plan_of(many(3), ["t0000", "t0001"], selection=chosen).guards == ()
    large = many(2000)
    plan = plan_of(large, [one.name for one in large.tags[:1001]], selection=chosen)
    assert the(plan, GuardCode.MANIFEST_LIMIT).state is GuardState.NEEDS_APPROVAL
    assert GuardCode.NEVER_EMPTY in codes(plan_of(many(1), LITTLE, selection=chosen))


@pytest.mark.parametrize(("ago", "is_live"), [(600, True), (601, False), (None, False)])
def test_applying_wants_a_delivery_of_the_last_ten_minutes(ago, is_live):
    known = registry(delivered_at=None if ago is None else NOW - timedelta(seconds=ago))
    guard = guard_live_events(known, frozenset(), NOW)
    assert (guard is None) is is_live
    if guard is not None:
        assert (guard.level, guard.state) == (GuardLevel.PLAN, GuardState.BLOCKS)
        waived = guard_live_events(known, frozenset({GuardCode.NO_LIVE_EVENTS}), NOW)
        assert waived is not None
        assert waived.state is GuardState.WAIVED
