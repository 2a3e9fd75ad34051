"""What holds for every policy and every repository. Times are drawn around the boundaries of calendars and ages."""

import os
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regwarden.core.observed import Hold, LastPull, ObservedManifest, ObservedRegistry, ObservedRepository, ObservedTag
from regwarden.core.patterns import parse_pattern
from regwarden.core.policy import Default, Limits, Mode, Policy
from regwarden.core.policy_matching import Age, Match, Pulled, TagMatch, TextMatch, When
from regwarden.core.policy_ranking import Rank, RankCount, RankKey, RankOver
from regwarden.core.policy_rules import DeleteRule, KeepRule, OrderedRule, Protection
from regwarden.core.policy_values import Grouping, GroupKind
from regwarden.core.retention import collect_policies, evaluate
from regwarden.core.verdicts import Outcome, ReasonCode
from tests.policies import policy_of
from tests.retention import IMAGE, digest_of, names_of

NOW = datetime(2027, 1, 4, 0, 0, 0, tzinfo=UTC)  # a Monday
NAMES = ("1.0.0", "1.0.1", "1.1.0", "2.0.0-rc.1", "dev-1", "dev-2", "pr-1", "main")
DIGESTS = tuple(digest_of(letter) for letter in "abcde")
PATTERNS = tuple(
    parse_pattern(text)
    for text in ("glob:*", "glob:dev-*", "semver:*", "semver:>=1.0.1", r"re:(?P<kind>[a-z]+)-[0-9]", "main", "1.0.0")
)
TEAM = (("team", TextMatch(any=(parse_pattern("a"),))),)
MAIN = TagMatch(any=(parse_pattern("main"),))
SECOND = timedelta(seconds=1)
PLAIN = policy_of("")
BOUNDARIES = [
    datetime(2027, 1, 4, tzinfo=UTC),
    datetime(2027, 1, 1, tzinfo=UTC),
    datetime(2026, 12, 28, tzinfo=UTC),  # the last ISO week of 2026 begins and holds three days of 2027
    datetime(2026, 12, 1, tzinfo=UTC),
    datetime(2026, 1, 1, tzinfo=UTC),
    NOW - timedelta(days=1),
    NOW - timedelta(days=7),
]
GROUPINGS = [Grouping(kind) for kind in GroupKind if kind not in (GroupKind.CAPTURE, GroupKind.LABEL)]
GROUPINGS += [Grouping(GroupKind.LABEL, "team"), Grouping(GroupKind.BRANCH)]
OF_DIGEST = ("all_of_digest", "any_of_digest", "each_of_digest", "none_of_digest")
PERIODS = {GroupKind.DAY, GroupKind.WEEK, GroupKind.MONTH, GroupKind.YEAR}


class Dice(random.Random):
    """Policies and repositories at random: a thousand a second, which shrinking strategies do not make."""

    def maybe(self, value: Any, share: float = 0.5) -> Any:
        return value if self.random() < share else None

    def moment(self) -> datetime:
        shifts = [-timedelta(days=1), -SECOND, timedelta(), timedelta(), SECOND]
        return self.choice(BOUNDARIES) + self.choice(shifts)

    def age(self, kind: str) -> Age:
        days = timedelta(days=self.choice([1, 3, 7, 34]))
        if kind == "any":
            kind = self.choice(["old", "old", "recent", "both"])
        if kind == "both":
            return Age(older_than=timedelta(days=1), within=days)
        return Age(older_than=days) if kind == "old" else Age(within=days)

    def match(self) -> Match:
        clause = self.choice(["any", "any", "any", "all", "none", *OF_DIGEST])
        tags = TagMatch(**{clause: tuple(self.sample(PATTERNS, self.randint(1, 2)))})
        return Match(tags=self.maybe(tags, 0.7), labels=self.choice([(), (), TEAM]))

    def when(self, ages: str) -> When | None:
        conditions: dict[str, Any] = {}
        for clock in self.sample(["tagged", "pushed", "created", "pulled"], self.choice([0, 1, 1, 2])):
            age = self.age(ages)
            is_pulled = clock == "pulled"
            conditions[clock] = Pulled(older_than=age.older_than, within=age.within) if is_pulled else age
        return When(**conditions) if conditions else None

    def rank(self, keys: tuple[RankKey, ...]) -> Rank:
        by = tuple(self.sample(keys, self.randint(1, 2)))
        return Rank(by=by, over=self.choice(list(RankOver)), count=self.choice(list(RankCount)))

    def rule(self, kind: Any, ages: str = "any", keys: tuple[RankKey, ...] = tuple(RankKey)) -> Any:
        match, when, untagged = self.match(), self.when(ages), None
        if self.random() < 0.2:
            untagged, match, when = self.age(ages), replace(match, tags=None), None
        per = self.choice([(), (), *((one,) for one in GROUPINGS), *((one,) for one in GROUPINGS[-2:])])
        return kind(
            match=match,
            when=when,
            untagged=untagged,
            per=per,
            groups=self.maybe(self.randint(1, 2)) if per else None,
            rank=self.rank(keys),
            **{"newest" if kind is KeepRule else "beyond": self.maybe(self.randint(1, 3), 0.7)},
        )

    def protection(self) -> Protection:
        match = self.match()
        return Protection(tags=match.tags or MAIN, labels=match.labels, tagged=self.maybe(self.age("any")))

    def policy(self, *, threshold: bool = False) -> Policy:
        keys = tuple(key for key in RankKey if not (threshold and key is RankKey.PULLED))
        keeps = [self.rule(KeepRule, "recent" if threshold else "any", keys) for _ in range(self.randint(0, 2))]
        deletes = [self.rule(DeleteRule, "old" if threshold else "any", keys) for _ in range(self.randint(0, 2))]
        made = replace(
            PLAIN,
            protect=tuple(self.protection() for _ in range(self.choice([0, 0, 1]))),
            default=self.choice(list(Default)),
            limits=Limits(min_age=self.choice([timedelta(), timedelta(days=1)])),
        )
        if self.random() < 0.6:
            return replace(made, keep=tuple(keeps), delete=tuple(deletes))
        ordered = [OrderedRule(keep=one) for one in keeps] + [OrderedRule(delete=one) for one in deletes]
        self.shuffle(ordered)
        return replace(made, mode=Mode.FIRST_MATCH, rules=tuple(ordered))

    def pull(self) -> LastPull:
        return LastPull(self.moment(), self.choice(["workload", "scanner"]), self.choice(["GET", "HEAD"]))

    def manifest(self, digest: str) -> ObservedManifest:
        return ObservedManifest(
            digest,
            IMAGE,
            is_read=True,
            first_seen_at=self.moment(),
            is_pushed_exact=self.random() < 0.5,
            last_pushed_at=self.maybe(self.moment(), 0.3),
            untagged_since=self.maybe(self.moment(), 0.8),
            is_untagged_exact=self.random() < 0.5,
            created_at=self.maybe(self.moment(), 0.8),
            labels=self.choice([None, {}, {"team": "a"}, {"team": "b"}]),
            pulls=tuple(self.pull() for _ in range(self.choice([0, 0, 1, 2]))),
        )

    def repository(self) -> ObservedRepository:
        digests = DIGESTS[: self.randint(1, 5)]
        tags = [
            ObservedTag(name, self.choice(digests), "ok", self.moment(), self.random() < 0.5)
            for name in self.sample(NAMES, self.randint(0, 8))
        ]
        manifests = {digest: self.manifest(digest) for digest in digests}
        return ObservedRepository(registry="prod", name="team/app", tags=tuple(tags), manifests=manifests)


dice = st.integers(0, 2**64 - 1).map(Dice)
often = settings(max_examples=int(os.environ.get("RETENTION_EXAMPLES", "200")), deadline=None)


def verdicts(policy, observed, *, events=40, now=NOW, holds=()):
    """The verdicts where notifications came since ``events`` days before now."""
    named = [policy] if isinstance(policy, Policy) else policy
    collected = collect_policies(named, "prod", "team/app")
    assert collected is not None
    since = None if events is None else now - timedelta(days=events)
    # Between the moments at which things happen.
    crawled = [now - timedelta(days=days, seconds=5) for days in (20, 4, 2)]
    registry = ObservedRegistry(name="prod", events_since=since, whole_crawls=tuple(zip(crawled, crawled, strict=True)))
    return evaluate(collected, observed, registry, now=now, holds=holds)


def going(policy, observed, **options):
    return set(names_of(verdicts(policy, observed, **options)))


@often
@given(dice)
def test_every_root_has_one_verdict_with_a_reason(dice):
    policy, observed = dice.policy(), dice.repository()
    found = verdicts(policy, observed).verdicts
    assert [one.tag for one in found if one.tag] == sorted(one.name for one in observed.tags)
    tagged = {one.digest for one in observed.tags}
    assert [one.digest for one in found if not one.tag] == sorted(observed.manifests.keys() - tagged)
    assert all(one.reasons and all(reason.code for reason in one.reasons) for one in found)


@often
@given(dice)
def test_the_order_of_facts_and_policies_does_not_matter(dice):
    observed, made = dice.repository(), [dice.policy() for _ in range(dice.randint(1, 2))]
    named = [replace(one, metadata=replace(one.metadata, name=f"p{number}")) for number, one in enumerate(made)]
    named = [replace(one, default=named[0].default) for one in named]
    shuffled = replace(
        observed,
        tags=tuple(dice.sample(observed.tags, len(observed.tags))),
        manifests=dict(dice.sample(sorted(observed.manifests.items()), len(observed.manifests))),
    )
    assert verdicts(named, observed) == verdicts(dice.sample(named, len(named)), shuffled)


@often
@given(dice)
def test_adding_a_keep_rule_removes_nothing_more(dice):
    """In first-match only as the last of the rules: before others it takes their claims away."""
    policy, observed, rule = dice.policy(), dice.repository(), dice.rule(KeepRule)
    if policy.mode is Mode.FIRST_MATCH:
        wider = replace(policy, rules=(*policy.rules, OrderedRule(keep=rule)))
    else:
        wider = replace(policy, keep=(*policy.keep, rule))
    assert going(wider, observed) <= going(policy, observed)


@often
@given(dice)
def test_adding_a_protection_removes_nothing_more(dice):
    policy, observed = dice.policy(), dice.repository()
    wider = replace(policy, protect=(*policy.protect, dice.protection()))
    assert going(wider, observed) <= going(policy, observed)


@often
@given(dice)
def test_adding_a_hold_removes_nothing_more_and_not_what_is_held(dice):
    policy, observed, held = dice.policy(), dice.repository(), dice.choice([*NAMES, *DIGESTS])
    what = {"digest": held} if held in DIGESTS else {"tag": held}
    hold = Hold(id=1, registry="prod", repository="team/app", **what)
    after = going(policy, observed, holds=[hold])
    assert after <= going(policy, observed)
    assert held not in after
    assert not any(one.digest == held and one.name in after for one in observed.tags)


@often
@given(dice)
def test_another_pull_removes_nothing_more_where_rules_are_thresholds(dice):
    policy, observed = dice.policy(threshold=True), dice.repository()
    before = observed.manifests[dice.choice(sorted(observed.manifests))]
    more = before._replace(pulls=(*before.pulls, LastPull(dice.moment(), "workload", "GET")))
    after = replace(observed, manifests={**observed.manifests, before.digest: more})
    assert going(policy, after) <= going(policy, observed)


FORGETTING: dict[str, dict[str, Any]] = {
    "labels": {"labels": None},
    "created": {"created_at": None},
    "exact push": {"is_pushed_exact": False},
    "untagged": {"untagged_since": None},
    "exactly untagged": {"is_untagged_exact": False},
    "reading": {"is_read": False},
}


@pytest.mark.parametrize("fact", FORGETTING)
@often
@given(dice)
def test_knowing_less_of_a_manifest_removes_nothing_more(fact, dice):
    policy, observed = dice.policy(), dice.repository()
    digest = dice.choice(sorted(observed.manifests))
    changed = observed.manifests[digest]._replace(**FORGETTING[fact])
    less = replace(observed, manifests={**observed.manifests, digest: changed})
    assert going(policy, less) <= going(policy, observed)


@often
@given(dice)
def test_knowing_less_of_tags_pulls_and_listings_removes_nothing_more(dice):
    policy, observed = dice.policy(), dice.repository()
    before = going(policy, observed)
    inexact = tuple(one._replace(is_tagged_exact=one.is_tagged_exact and dice.random() < 0.5) for one in observed.tags)
    assert going(policy, replace(observed, tags=inexact)) <= before
    assert going(policy, observed, events=3) <= before
    assert going(policy, observed, events=None) <= going(policy, observed, events=3)
    assert going(policy, replace(observed, doubt="it was cut off")) == set()


def shifted(observed, by):
    def move(one):
        found = {name: getattr(one, name) for name in one._fields}
        changes = {name: value + by for name, value in found.items() if isinstance(value, datetime)}
        if isinstance(one, ObservedManifest):
            changes["pulls"] = tuple(pull._replace(at=pull.at + by) for pull in one.pulls)
        return one._replace(**changes)

    manifests = {digest: move(one) for digest, one in observed.manifests.items()}
    return replace(observed, tags=tuple(move(one) for one in observed.tags), manifests=manifests)


@often
@given(dice)
def test_moving_all_times_changes_nothing_where_no_calendar_is_asked(dice):
    policy, observed = dice.policy(), dice.repository()
    by = timedelta(seconds=dice.choice([1, 86_400 * 3, 86_400 * 400]))
    if any(one.kind in PERIODS for _, rule in policy.rules_by_path() for one in rule.per):
        return
    before, after = (
        [one[:3] for one in verdicts(policy, shifted(observed, shift), now=NOW + shift, events=20).verdicts]
        for shift in (timedelta(), by)
    )
    assert before == after


@often
@given(dice)
def test_names_matter_only_where_rules_name_them(dice):
    observed, named = dice.repository(), dice.sample(NAMES, 4)
    newest, rank = dice.randint(1, 3), Rank(over=dice.choice(list(RankOver)), count=dice.choice(list(RankCount)))

    def answer(prefix):
        match = Match(tags=TagMatch(any=tuple(parse_pattern(prefix + name) for name in named)))
        policy = replace(
            PLAIN,
            keep=(KeepRule(match=match, newest=newest, rank=rank),),
            delete=(DeleteRule(match=match, when=When(pushed=Age(older_than=timedelta(days=3)))),),
        )
        renamed = tuple(one._replace(name=prefix + one.name) for one in observed.tags)
        return going(policy, replace(observed, tags=renamed))

    assert {name for name in answer("z") if name in DIGESTS or name[0] == "z"} == answer("z")
    assert answer("z") == {f"z{name}" for name in answer("")}


@often
@given(dice)
def test_keeping_the_newest_alone_keeps_exactly_so_many_where_all_times_are_known(dice):
    observed, newest = dice.repository(), dice.randint(1, 9)
    observed = replace(
        observed,
        tags=tuple(one._replace(is_tagged_exact=True) for one in observed.tags),
        manifests={digest: one._replace(is_pushed_exact=True) for digest, one in observed.manifests.items()},
    )
    key = dice.choice(list(RankKey))
    rule = KeepRule(newest=newest, rank=Rank(by=(key,), count=RankCount.TAGS))
    policy = replace(PLAIN, limits=Limits(min_age=timedelta()), keep=(rule,), default=Default.DELETE)
    found = [one for one in verdicts(policy, observed).verdicts if one.tag]
    kept = [one for one in found if one.outcome is Outcome.KEEP and one.reasons[0].code is not ReasonCode.MINIMUM_AGE]
    unplaced = [one for one in kept if "no place" in one.reasons[0].detail]
    assert len(kept) - len(unplaced) == min(newest, len(found) - len(unplaced))


@often
@given(dice)
def test_planning_again_for_what_is_left_removes_nothing(dice):
    """Where an image has one tag: of several, one that goes may leave others that only now are all of their digest."""
    policy, observed = dice.policy(), dice.repository()
    alone = {one.digest: one for one in observed.tags}
    observed = replace(observed, tags=tuple(alone.values()))
    gone = going(policy, observed)
    kept = tuple(one for one in observed.tags if one.name not in gone)
    stays = {one.digest for one in kept} | (observed.manifests.keys() - alone.keys() - gone)
    left = {digest: one for digest, one in observed.manifests.items() if digest in stays}
    assert going(policy, replace(observed, tags=kept, manifests=left)) == set()


def test_many_of_these_policies_remove_some_and_keep_some():
    rolls = [Dice(seed) for seed in range(300)]
    found = [{one.outcome for one in verdicts(one.policy(), one.repository()).verdicts} for one in rolls]
    assert sum({Outcome.KEEP, Outcome.REMOVE} <= one for one in found) > 75
