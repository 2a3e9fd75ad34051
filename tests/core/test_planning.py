"""Is a plan the same for the same facts, whole, numbered, and over when it should be?"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regwarden.core.observed import Hold, ObservedRepository
from regwarden.core.plan import GuardCode, Plan, StepKind
from regwarden.core.planning import PlanInputs, build_plan, deleted_pairs, plan_repository
from regwarden.core.policy import Policy
from regwarden.core.retention import collect_policies, evaluate
from regwarden.core.retention_roots import list_roots
from regwarden.core.verdicts import Outcome, Reason, ReasonCode, RepositoryVerdicts, Verdict
from regwarden.errors import InputError
from tests.observed import NOW, after, digest_of, manifest, registry, repositories, repository
from tests.policies import policy_of

WIDE = "limits: {per-run: {share-of-repo: unlimited}, never-empty: false, min-age: 0s}\n"


def inputs_of(*policies: Policy, **more) -> PlanInputs:
    known = {"prod": registry(), "other": registry(name="other")}
    made = PlanInputs(
        registries=known, snapshots={"prod": "crawl 1", "other": "crawl 2"}, now=NOW, made_by="a", policies=policies
    )
    return replace(made, policy_texts={one.name: "text" for one in policies}, **more)


def verdicts_of(observed: ObservedRepository, removed: set[str]) -> RepositoryVerdicts:
    """By rules that take the tags, and untagged digests, named in ``removed``."""
    verdicts = []
    for root in list_roots(observed, is_explicit=False):
        goes = (root.tag or root.digest) in removed and root.manifest is not None
        code = ReasonCode.DELETED if goes else ReasonCode.DEFAULT_KEEP
        if root.special is not None and not goes:
            code = ReasonCode.SPECIAL
        outcome = Outcome.REMOVE if goes else Outcome.KEEP
        verdicts.append(Verdict(root.tag, root.digest, outcome, (Reason(code, "sample", "delete[0]"),)))
    return RepositoryVerdicts(registry=observed.registry, repository=observed.name, verdicts=tuple(verdicts))


def planned(inputs: PlanInputs, *pairs: tuple[ObservedRepository, set[str]]) -> Plan:
    each = [plan_repository(inputs, one, verdicts_of(one, removed), inputs.policies) for one, removed in pairs]
    return build_plan(inputs, each, {})


def test_steps_are_numbered_through_by_registry_and_repository():
    facts = repository({"a": 1, "b": 2, "c": 3, "d": 3}, name="b")
    pairs = [
        (replace(facts, registry="prod"), {"a", "c"}),
        (replace(facts, registry="other", name="z"), {"a"}),
        (replace(facts, name="a"), {"b"}),
    ]
    plan = planned(inputs_of(policy_of(WIDE)), *pairs)
    assert [(one.position, one.registry, one.repository, one.kind.value, one.tags) for one in plan.steps] == [
        (0, "other", "z", "delete", ("a",)),
        (1, "prod", "a", "delete", ("b",)),
        (2, "prod", "b", "untag", ("c",)),
        (3, "prod", "b", "delete", ("a",)),
    ]
    assert [(one.registry, one.repository) for one in plan.verdicts] == [("other", "z"), ("prod", "a"), ("prod", "b")]


def test_what_is_deleted_can_be_measured_before_the_plan_is_made():
    inputs = inputs_of(policy_of(WIDE))
    observed = repository({"a": 1, "b": 2, "c": 2, "d": 3})
    one = plan_repository(inputs, observed, verdicts_of(observed, {"a", "b"}), inputs.policies)
    assert list(deleted_pairs([one], "prod")) == [("team/app", digest_of(1))]
    assert list(deleted_pairs([one], "other")) == []


def test_a_plan_says_from_what_and_by_whom_it_was_made_and_when_it_expires():
    policy = policy_of(WIDE)
    plan = planned(inputs_of(policy, expires_after=timedelta(days=2)), (repository({"a": 1, "b": 2}), {"a"}))
    assert (plan.made_at, plan.expires_at, plan.made_by) == (NOW, NOW + timedelta(days=2), "a")
    assert (plan.policies, plan.policy_texts) == ((policy,), {"sample": "text"})
    assert plan.snapshots == {"prod": "crawl 1", "other": "crawl 2"}
    assert plan.fingerprint.startswith("sha256:")


@pytest.mark.parametrize("days", [0.99, 30.01])
def test_a_plan_lives_for_one_to_thirty_days(days):
    with pytest.raises(InputError, match="1 to 30 days"):
        planned(inputs_of(policy_of(WIDE), expires_after=timedelta(days=days)), (repository({"a": 1}), set()))


def test_a_plan_without_steps_says_when_the_first_one_will_come():
    later, soon = NOW + timedelta(days=9), NOW + timedelta(days=3)
    inputs = inputs_of(policy_of(WIDE), acts_first_at=soon)
    assert planned(inputs, (repository({"a": 1}), set())).acts_first_at == soon
    assert planned(inputs, (repository({"a": 1, "b": 2}), {"a"})).acts_first_at is None
    assert planned(replace(inputs, acts_first_at=later), (repository({"a": 1}), set())).acts_first_at == later


def test_what_was_pushed_most_recently_goes_when_it_has_the_minimum_age():
    pushed_at = NOW - timedelta(hours=20)
    observed = repository({"a": 1}, manifest(1, last_pushed_at=pushed_at))
    young = verdicts_of(observed, set()).verdicts[0]._replace(reasons=(Reason(ReasonCode.MINIMUM_AGE),))
    verdicts = RepositoryVerdicts(registry="prod", repository="team/app", verdicts=(young,))
    inputs = inputs_of(policy_of("limits: {min-age: 36h}\n"))
    one = plan_repository(inputs, observed, verdicts, inputs.policies)
    assert build_plan(inputs, [one], {}).acts_first_at == pushed_at + timedelta(hours=36)


def test_one_policy_that_wants_referrers_named_is_enough():
    observed = repository({"a": 1, "b": 3}, manifest(2, subject=1))
    follows, names = policy_of(WIDE), policy_of(WIDE + "referrers: explicit\n")
    assert len(planned(inputs_of(follows), (observed, {"a"})).steps) == 2
    assert len(planned(inputs_of(follows, names), (observed, {"a"})).steps) == 0


def test_a_hold_on_a_child_is_respected_until_it_ends():
    observed = repository({"a": 10, "b": 3}, manifest(10, 1), manifest(1))
    hold = Hold(id=1, registry="prod", repository="team/*", digest=digest_of(1), until=NOW + timedelta(days=1))
    assert len(planned(inputs_of(policy_of(WIDE), holds=(hold,)), (observed, {"a"})).steps) == 1
    ended = replace(hold, until=NOW)
    assert len(planned(inputs_of(policy_of(WIDE), holds=(ended,)), (observed, {"a"})).steps) == 2


@st.composite
def scopes(draw: st.DrawFn) -> list[tuple[ObservedRepository, set[str]]]:
    found = []
    for name in draw(st.sampled_from([["a"], ["a", "b"], ["b", "a", "c"]])):
        observed = draw(repositories(name=name))
        keys = [*(one.name for one in observed.tags), *observed.manifests]
        found.append((observed, set(draw(st.lists(st.sampled_from(keys), unique=True)))))
    return found


@given(scopes(), st.randoms(use_true_random=False))
def test_the_same_facts_in_any_order_give_the_same_plan_and_fingerprint(scope, random):
    inputs = inputs_of(policy_of("limits: {min-age: 0s, on-exceed: block}\n"))
    shuffled = []
    for observed, removed in scope:
        tags, manifests = list(observed.tags), list(observed.manifests.items())
        random.shuffle(tags)
        random.shuffle(manifests)
        shuffled.append((replace(observed, tags=tuple(tags), manifests=dict(manifests)), removed))
    random.shuffle(shuffled)
    plan, again = planned(inputs, *scope), planned(inputs, *shuffled)
    assert again == plan
    assert again.fingerprint == plan.fingerprint


@given(scopes(), st.sampled_from([frozenset(), frozenset({GuardCode.NEVER_EMPTY})]))
def test_no_repository_is_emptied_and_nothing_goes_that_does_not_say_so(scope, waived):
    inputs = inputs_of(policy_of("limits: {min-age: 0s}\n"), waived=waived)
    plan = planned(inputs, *scope)
    for (observed, _), verdicts in zip(sorted(scope, key=lambda one: one[0].name), plan.verdicts, strict=True):
        left = after(observed, [one for one in plan.steps if one.repository == observed.name])
        assert waived or left.manifests
        goes = {one.tag for one in verdicts.verdicts if one.tag and one.outcome is Outcome.REMOVE}
        assert {one.name for one in left.tags} == {one.name for one in observed.tags} - goes
    assert [one.position for one in plan.steps] == list(range(len(plan.steps)))
    kinds = {name: [one.kind for one in plan.steps if one.repository == name] for name in "abc"}
    for each in kinds.values():
        assert each == sorted(each, key=lambda one: one is StepKind.DELETE)


BODIES = [
    "default: delete\n",
    "delete: [{when: {tagged: {older-than: 7d}}}, {untagged: {older-than: 3d}}]\n",
    "delete: [{match: {tags: {any: ['re:t[0-3]']}}, beyond: 1}, {match: {special: [signatures]}, beyond: 1}]\n",
    "default: delete\nreferrers: explicit\n",
    "default: delete\nprotect: [{tags: {any: [t0]}}]\nkeep: [{newest: 2}]\n",
]


@settings(max_examples=50)
@given(repositories(), st.sampled_from(BODIES), st.booleans())
def test_by_the_rules_of_a_policy_a_second_plan_finds_nothing_more_to_do(observed, body, can_untag):
    policy = policy_of(body + "limits: {per-run: {share-of-repo: unlimited}}\n")
    known = registry(can_untag=can_untag)
    inputs = inputs_of(policy, waived=frozenset({GuardCode.NEVER_EMPTY}))
    inputs = replace(inputs, registries={"prod": known})

    def plan(facts: ObservedRepository) -> Plan:
        collected = collect_policies([policy], "prod", "team/app")
        assert collected is not None
        verdicts = evaluate(collected, facts, known, holds=(), now=NOW)
        return build_plan(inputs, [plan_repository(inputs, facts, verdicts, collected.policies)], {})

    first = plan(observed)
    done = after(observed, first.steps)
    assert plan(done).steps == ()
    for count in range(len(first.steps)):
        # Broken off anywhere and planned again, nothing is deleted that would have stayed.
        left = after(observed, first.steps[:count])
        again = after(left, plan(left).steps)
        assert done.manifests.keys() <= again.manifests.keys()
