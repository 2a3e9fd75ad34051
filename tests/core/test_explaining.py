"""Is an explanation the decision itself: replayed from its own words, with changes that do what they say?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import given, settings

from regwarden.core.explained import Effect, Explanation, RootAccount
from regwarden.core.explaining import explain
from regwarden.core.explaining_changes import Trial
from regwarden.core.observed import Hold, ObservedRegistry, ObservedRepository, TagState
from regwarden.core.plan import GuardCode, StepKind
from regwarden.core.policy import Policy
from regwarden.core.retention import collect_policies
from regwarden.core.verdicts import Outcome, ReasonCode
from tests.core.test_retention_properties import NOW as BOUNDARY
from tests.core.test_retention_properties import Dice, dice
from tests.policies import policy_of
from tests.retention import NOW, aged, ago, digest_of, manifest, repository, tag

NO_LIMITS = "limits: {never-empty: false, per-run: {share-of-repo: unlimited}}\n"


def trial_of(
    policies: str | Policy | Sequence[Policy], observed: ObservedRepository, *, events: float | None = 365, **more: Any
) -> Trial:
    if isinstance(policies, str):
        policies = policy_of(policies)
    collected = collect_policies([policies] if isinstance(policies, Policy) else policies, "prod", "team/app")
    assert collected is not None
    now = more.pop("now", NOW)
    since = None if events is None else now - timedelta(days=events)
    registry = ObservedRegistry(
        name="prod", events_since=since, can_untag=more.pop("can_untag", True), coverage="complete", crawled_at=now
    )
    return Trial(collected=collected, repository=observed, registry=registry, now=now, **more)


def explained(policies: Any, observed: ObservedRepository, name: str, **more: Any) -> Explanation:
    wanted: dict[str, Any] = {"digest": name} if ":" in name else {"tag": name}
    found = explain(trial_of(policies, observed, **more), **wanted)
    assert found is not None
    return found


def root_of(policies: Any, observed: ObservedRepository, name: str, **more: Any) -> RootAccount:
    (root,) = explained(policies, observed, name, **more).roots
    return root


def texts(root: RootAccount) -> list[str]:
    return [one.text for one in root.changes]


def random_trial(chance: Dice) -> Trial:
    """Any policy on any repository: with indexes, referrers, signatures, holds, dangling tags, doubts."""
    observed = chance.repository()
    digests = sorted(observed.manifests)
    made = dict(observed.manifests)
    for place, digest in enumerate(digests):
        children = tuple(chance.sample(digests[:place], min(place, 2))) if chance.random() < 0.3 else ()
        subject = chance.maybe(chance.choice(digests[: place or 1]), 0.2)
        made[digest] = made[digest]._replace(
            children=children, is_index=bool(children), subject=subject if subject != digest else None
        )
    tags = list(observed.tags)
    if chance.random() < 0.2 and tags:
        tags[0] = tags[0]._replace(state=TagState.DANGLING, digest=chance.choice([None, digest_of("gone")]))
    if chance.random() < 0.2 and tags:
        tags[-1] = tags[-1]._replace(name=digests[0].replace(":", "-") + ".sig")
    policy = chance.policy()
    if chance.random() < 0.4:
        policy = replace(policy, limits=policy_of(NO_LIMITS).limits)
    if chance.random() < 0.3:
        policy = replace(policy, unit=policy_of("unit: digest").unit)
    hold = Hold(id=1, registry="prod", repository="team/app", tag=tags[0].name if tags else "x")
    observed = replace(
        observed, manifests=made, tags=tuple(tags), doubt="it was cut off" if chance.random() < 0.05 else ""
    )
    return trial_of(
        policy,
        observed,
        events=chance.choice([None, 3, 40]),
        now=BOUNDARY,
        can_untag=chance.choice([True, False]),
        holds=(hold,) if chance.random() < 0.2 else (),
        waived=frozenset({GuardCode.MIN_AGE}) if chance.random() < 0.2 else frozenset(),
    )


@settings(max_examples=150, deadline=None)
@given(dice)
def test_an_explanation_replays_to_the_decision_that_was_taken(chance):
    trial = random_trial(chance)
    decided = trial.evaluate(with_details=True)
    planned = trial.plan(decided)
    going = {(name, one.digest) for one in planned.steps for name in one.tags}
    deleted = {one.digest for one in planned.steps if one.kind is StepKind.DELETE}
    for by_rules, final in zip(decided.verdicts, planned.verdicts.verdicts, strict=True):
        found = explain(trial, tag=final.tag, digest=final.digest)
        if found is None:
            assert not final.tag
            assert final.digest not in trial.repository.manifests
            continue
        root = next(one for one in found.roots if (one.tag, one.digest) == (final.tag, final.digest))
        assert root.replay() is root.by_rules is by_rules.outcome
        assert (root.outcome, root.reasons) == (final.outcome, final.reasons)
        goes = (final.tag, final.digest) in going if final.tag else final.digest in deleted
        assert (found.outcome is Outcome.REMOVE) == goes == (root.outcome is Outcome.REMOVE)
        assert (found.step is not None) == goes
        check_rules(root)


def check_rules(root: RootAccount) -> None:
    """What a rule does follows from what it was found to say, unknown keeps, unless it counts or its claim is taken."""
    for one in root.rules:
        answers = (one.is_match, one.is_met)
        if one.effect is Effect.TAKES:
            assert answers == (True, True)
        if one.effect in (Effect.KEEPS, Effect.PROTECTS):
            assert False not in answers
        if one.place or not one.is_claimed:
            continue
        if one.kind == "keep" and one.effect is not Effect.CLAIMS:
            assert (one.effect is Effect.KEEPS) == (False not in answers)
        if one.kind == "delete":
            assert (one.effect is Effect.TAKES) == (answers == (True, True))
        if one.kind in ("protection", "hold"):
            assert (one.effect is Effect.PROTECTS) == (False not in answers)
        assert bool(one.unknown) >= (None in answers)


@settings(max_examples=60, deadline=None)
@given(dice)
def test_what_goes_at_a_moment_goes_then_and_stays_until_then(chance):
    trial = random_trial(chance)
    for one in trial.repository.tags:
        found = explain(trial, tag=one.name)
        assert found is not None
        for root in found.roots:
            if root.goes_at is not None:
                later = explain(replace(trial, now=root.goes_at), tag=one.name)
                assert later is not None
                assert later.outcome is Outcome.REMOVE
                assert root.goes_at > trial.now


def test_a_tag_that_waits_for_its_age_says_when_it_goes():
    observed = repository([tag("dev-1", days=12), tag("stable", days=100)])
    root = root_of(
        "delete: [{match: {tags: {any: ['glob:dev-*']}}, when: {tagged: {older-than: 30d}}}]", observed, "dev-1"
    )
    assert root.outcome is Outcome.KEEP
    assert root.goes_at == NOW + timedelta(days=18, minutes=1)
    assert texts(root)[0] == "goes on 2026-12-09 12:01 UTC if it is not pushed or tagged again"
    [rule] = root.rules
    assert (rule.is_match, rule.is_met, rule.effect) == (True, False, Effect.NOTHING)
    assert rule.told == ("tagged 12 days ago, the rule wants older than 30 days",)


def test_a_place_in_a_ranking_says_which_number_would_change_it():
    observed = aged({"a": 10, "b": 20, "c": 30, "d": 40})
    body = NO_LIMITS + "keep: [{name: latest, newest: 3}]\ndelete: [{}]"
    kept, gone = root_of(body, observed, "c"), root_of(body, observed, "d")
    assert kept.outcome is Outcome.KEEP
    assert kept.rules[0].place == "3rd newest of 3 kept"
    assert "would go if sample keep[0] (latest) kept 2 instead of 3" in texts(kept)
    assert gone.outcome is Outcome.REMOVE
    assert "would stay if sample keep[0] (latest) kept 4 instead of 3" in texts(gone)
    assert "would stay if sample delete[0] were not there" in texts(gone)


def test_what_stays_because_no_order_is_known_says_that_one_by_created_would_do():
    observed = repository(
        [tag(name, days=10, exact=False) for name in "abc"],
        [
            manifest(name, days=10, exact=False, created_at=ago(days))
            for name, days in (("a", 30), ("b", 20), ("c", 15))
        ],
    )
    body = NO_LIMITS + "keep: [{newest: 1}]\ndelete: [{}]"
    roots = {name: root_of(body, observed, name) for name in "abc"}
    assert {one.outcome for one in roots.values()} == {Outcome.KEEP}
    wanted = "would go if sample keep[0] ranked by created"
    unordered = {name for name, one in roots.items() if one.reasons[0].code is ReasonCode.UNORDERED}
    assert len(unordered) == 2
    assert {name for name, one in roots.items() if wanted in texts(one)} == unordered - {"c"}


def test_each_of_several_holders_is_named_and_all_of_them_together():
    observed = aged({"a": 10, "b": 200})
    hold = Hold(id=3, registry="prod", repository="team/app", tag="b", reason="audit", by="alice")
    alone = root_of(NO_LIMITS + "delete: [{}]", observed, "b", holds=(hold,))
    assert texts(alone) == ["would go if the hold 3 ended"]
    both = root_of(NO_LIMITS + "keep: [{match: {tags: {any: [b]}}}]\ndelete: [{}]", observed, "b", holds=(hold,))
    assert texts(both) == ["would go if none of these held it: the hold 3, sample keep[0]"]
    assert [(one.kind, one.effect) for one in both.rules][:2] == [("hold", Effect.PROTECTS), ("keep", Effect.KEEPS)]
    assert both.rules[0].told == ("held by alice: audit",)


def test_a_missing_fact_is_named():
    body = "delete: [{when: {pulled: {older-than: 30d}}}]"
    root = root_of(body, aged({"a": 100, "b": 100}), "a", events=None)
    assert root.outcome is Outcome.KEEP
    assert root.rules[0].is_met is None
    assert root.rules[0].unknown == ("whether it was pulled is not known, the rule wants older than 30 days",)
    pulled = next(one for one in root.clocks if one.clock == "pulled")
    assert (pulled.at, pulled.source) == (None, "pulls were never recorded")


def test_clocks_say_whether_they_are_exact():
    observed = repository(
        [tag("a", days=9, exact=False)], [manifest("a", days=20, pulled=3, last_pushed_at=ago(5), created_at=ago(30))]
    )
    clocks = {one.clock: (one.at, str(one.precision)) for one in root_of("delete: [{}]", observed, "a").clocks}
    assert clocks == {
        "tagged": (ago(9), "at latest"),
        "pushed": (ago(20), "exact"),
        "pushed last": (ago(5), "exact"),
        "created": (ago(30), "exact"),
        "pulled": (ago(3), "exact"),
    }


def test_a_young_tag_may_go_if_the_guard_is_waived():
    root = root_of(NO_LIMITS + "delete: [{}]", aged({"a": 0.2, "b": 100}), "a")
    assert root.young.startswith("pushed or tagged 4 hours ago")
    assert root.goes_at is not None
    assert "would go if the minimum age were waived: --waive min-age" in texts(root)
    waived = root_of(NO_LIMITS + "delete: [{}]", aged({"a": 0.2, "b": 100}), "a", waived=frozenset({GuardCode.MIN_AGE}))
    assert waived.outcome is Outcome.REMOVE


def test_siblings_indexes_and_referrers_are_told_with_what_becomes_of_them():
    child, index, signature = digest_of("child"), digest_of("index"), digest_of("signature")
    signed = f"sha256-{index[7:]}.sig"
    observed = repository(
        [tag("dev", "index"), tag("stable", "index"), tag("part", "child"), tag(signed, "signature"), tag("new", "n")],
        [
            manifest("child"),
            manifest("index", children=(child,), is_index=True),
            manifest("signature"),
            manifest("n", days=1),
        ],
    )
    body = "delete: [{match: {tags: {any: [dev, part]}}}]"
    found = explained(body, observed, "dev")
    assert (found.outcome, found.step) == (Outcome.REMOVE, StepKind.UNTAG)
    assert {(one.kind, one.name, one.goes) for one in found.relations} == {
        ("tag", "stable", False),
        ("referrer", signed, False),
        ("child", child, False),
    }
    part = explained(body, observed, "part", can_untag=False)
    assert part.outcome is Outcome.KEEP
    assert [str(one.code) for one in part.roots[0].reasons][:2] == ["guarded", "needed"]
    assert ("index", index, False) in {(one.kind, one.name, one.goes) for one in part.relations}
    assert GuardCode.CANNOT_UNTAG in {one.code for one in part.guards}
    whole = explained(body, observed, index)
    assert (whole.outcome, whole.step, {one.tag for one in whole.roots}) == (Outcome.KEEP, None, {"dev", "stable"})
    assert explained(NO_LIMITS + "delete: [{}]", observed, signed).outcome is Outcome.REMOVE
    assert signature in observed.manifests


def test_what_a_guard_of_the_repository_holds_back_says_its_waiver():
    found = explained("delete: [{}]", aged({"a": 100, "b": 100}), "a")
    (root,) = found.roots
    assert (root.by_rules, found.outcome, found.step) == (Outcome.REMOVE, Outcome.KEEP, None)
    assert {GuardCode.NEVER_EMPTY, GuardCode.REPOSITORY_SHARE} <= {one.code for one in found.guards}
    assert any(text.startswith("would go if guards were waived: --waive never-empty") for text in texts(root))


def test_what_is_not_there_is_not_explained_and_what_is_unread_stays():
    trial = trial_of("delete: [{}]", aged({"a": 100}))
    assert explain(trial, tag="b") is None
    assert explain(trial, digest=digest_of("b")) is None
    doubtful = replace(aged({"a": 100}), doubt="it was cut off")
    root = root_of("delete: [{}]", doubtful, "a")
    assert (root.outcome, root.unreadable) == (Outcome.UNDECIDED, "it was cut off")
    assert texts(root) == ["it stays until it is known what it is: crawl the registry"]


def test_a_budget_that_may_take_it_is_mentioned():
    found = explained("delete: [{budget: {max: 1GB}}]", aged({"a": 100, "b": 50}), "a")
    assert found.notes == ("sample delete[0]: this budget may take it; make a plan to see whether it does",)
