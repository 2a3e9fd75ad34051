"""Does a backtest say what the policy would have done: equal to a slow replay, with the pulls that it would break?"""

from __future__ import annotations

from datetime import timedelta

import pytest

from regwarden.core.backtest_world import World, list_happenings
from regwarden.core.backtesting import Backtest, BacktestInputs, backtest, list_moments
from regwarden.core.observed import Hold, ObservedManifest
from regwarden.core.policy import Policy
from regwarden.core.recorded import ManifestLife, PullDay, RecordedRepository, TagMark
from regwarden.errors import InputError
from tests.backtests import DAYS, REGISTRY, START, SlowReplay, digest_of, random_history
from tests.policies import policy_of

DAY = timedelta(days=1)
END = START + DAYS * DAY
MOMENTS = list_moments(START, END, 7 * DAY)
POLICIES = [
    policy_of("delete: [{when: {tagged: {older-than: 10d}}}, {untagged: {older-than: 3d}}]"),
    policy_of("keep: [{newest: 2}]\ndelete: [{when: {pushed: {older-than: 8d}}}, {untagged: {older-than: 1d}}]"),
    policy_of("delete: [{when: {pulled: {older-than: 9d}}}]\nlimits: {never-empty: false}"),
    policy_of("default: delete\nkeep: [{match: {tags: {any: [latest]}}}]\nlimits: {min-age: 2d, never-empty: false}"),
]


def run(recorded: RecordedRepository, policy: Policy, **changes: object) -> Backtest:
    inputs = BacktestInputs(
        policies=(policy,),
        registries={"hub": REGISTRY},
        moments=MOMENTS,
        ends_at=END,
        **changes,  # type: ignore[arg-type]
    )
    return backtest(inputs, [recorded], lambda _, numbers: {number: abs(number) for number in numbers})


@pytest.mark.parametrize("policy", POLICIES, ids=range(len(POLICIES)))
def test_a_replay_equals_a_slow_one_that_looks_at_each_moment_anew(policy):
    removed = failed = 0
    for seed in range(80):
        recorded = random_history(seed)
        slow = SlowReplay(recorded, policy)
        steps = list(slow.run(MOMENTS))
        found = run(recorded, policy)
        counted = [(sum(len(one.tags) for one in each), sum(one.kind == "delete" for one in each)) for each in steps]
        assert [(one.tag_count, one.manifest_count) for one in found.steps] == counted, seed
        blamed = [(pull, at) for pull in recorded.pulls if (at := slow.blame(pull)) is not None]
        assert sum(one.pull_count for one in found.regrets) == sum(pull.pull_count for pull, _ in blamed), seed
        assert {(one.tag, one.digest, one.removed_at) for one in found.regrets} == {
            (pull.tag, pull.digest, at) for pull, at in blamed
        }, seed
        removed += sum(tags + manifests for tags, manifests in counted)
        failed += len(blamed)
    assert removed > 50
    assert failed > 10


def test_at_each_moment_the_world_without_a_policy_is_what_the_history_says():
    for seed in range(100):
        recorded = random_history(seed)
        slow, world = SlowReplay(recorded, POLICIES[0]), World(recorded)
        happenings, position = list_happenings(recorded), 0
        for moment in MOMENTS:
            rest = [one for one in happenings[position:] if one[0] <= moment]
            assert not world.advance(rest)
            position += len(rest)
            observed, expected = world.observe(), slow.observe(moment)
            assert sorted(observed.tags) == sorted(expected.tags)
            assert dict(observed.manifests) == dict(expected.manifests)


def test_bytes_are_those_of_what_exists_at_each_step_each_blob_once():
    for seed in range(60):
        recorded = random_history(seed)
        slow, real = SlowReplay(recorded, POLICIES[0]), SlowReplay(recorded, POLICIES[0])
        found = run(recorded, POLICIES[0], pinned={"hub": frozenset({1, 2})})
        for step, _ in zip(found.steps, slow.run(MOMENTS), strict=True):
            without, with_policy = (
                {
                    number
                    for digest in recorded.lives
                    if one.exists(digest, step.at)
                    for number in recorded.contents[digest]
                }
                for one in (real, slow)
            )
            assert step.stored_bytes == sum(map(abs, without))
            assert step.stored_with_policy_bytes == sum(map(abs, with_policy | (without & {1, 2})))
            assert step.saved_bytes >= 0


def small_history(*pulls: PullDay, pushed_again_at: int | None = None) -> RecordedRepository:
    """Two images that were there from the beginning, tagged old and new; old may be pushed again on some day."""
    again = () if pushed_again_at is None else (START + pushed_again_at * DAY,)
    lives = {
        digest: ManifestLife(ObservedManifest(digest, "image", True, START, False), (START, *again), again)
        for digest in (digest_of(1), digest_of(2))
    }
    tags = {
        "old": (TagMark(START, digest_of(1), False), *(TagMark(at, digest_of(1), True) for at in again)),
        "new": (TagMark(START, digest_of(2), False),),
    }
    return RecordedRepository(registry="hub", name="team/app", tags=tags, lives=lives, pulls=pulls)


def pull(day: float, tag: str = "old", pull_class: str = "workload") -> PullDay:
    return PullDay(START + day * DAY, digest_of(1), tag, pull_class, "GET", 3)


OLD_GOES = policy_of("delete: [{match: {tags: {any: [old]}}, when: {tagged: {older-than: 10d}}}]")


def test_a_pull_after_the_removal_is_regretted_with_its_day_and_class():
    found = run(small_history(pull(5), pull(20.5), pull(30, pull_class="scanner")), OLD_GOES)
    [regret] = found.regrets
    assert regret.removed_at == START + 14 * DAY
    assert (regret.first_at, regret.last_at) == (START + 20.5 * DAY, START + 30 * DAY)
    assert (regret.pull_count, regret.use_count) == (6, 3)
    assert regret.by_class == (("scanner", 3), ("workload", 3))
    assert [step.failed_count for step in found.steps] == [0, 0, 3, 0, 3, 0, 0, 0, 0]
    assert sum(step.failed_use_count for step in found.steps) == 3


def test_what_is_pushed_again_is_there_again_and_goes_again():
    found = run(small_history(pull(20), pull(30), pull(50), pushed_again_at=25), OLD_GOES)
    assert [(one.removed_at - START) // DAY for one in found.regrets] == [14, 42]
    assert [step.tag_count for step in found.steps] == [0, 0, 1, 0, 0, 0, 1, 0, 0]


def test_a_pull_keeps_what_was_pulled_and_what_failed_does_not():
    policy = policy_of("delete: [{match: {tags: {any: [old]}}, when: {pulled: {older-than: 10d}}}]")
    assert not run(small_history(*(pull(day) for day in range(1, 60, 5))), policy).regrets
    [regret] = run(small_history(pull(6), *(pull(day) for day in range(22, 60, 5))), policy).regrets
    assert regret.removed_at == START + 21 * DAY
    assert regret.pull_count == 24


def test_pulls_before_they_were_recorded_are_unknown_and_keep():
    registries = {"hub": REGISTRY.__class__(name="hub", events_since=START + 40 * DAY)}
    policy = policy_of("delete: [{match: {tags: {any: [old]}}, when: {pulled: {older-than: 10d}}}]")
    inputs = BacktestInputs(policies=(policy,), registries=registries, moments=MOMENTS, ends_at=END)
    found = backtest(inputs, [small_history()], lambda _, numbers: dict.fromkeys(numbers, 1))
    assert [step.tag_count for step in found.steps] == [0, 0, 0, 0, 0, 0, 0, 0, 1]
    assert found.notes == ("pulls of hub are recorded since 2026-09-10 only: before, unknown keeps",)


def test_a_hold_and_a_doubt_keep():
    hold = Hold(id=1, registry="hub", repository="team/app", tag="old")
    assert not sum(step.tag_count for step in run(small_history(), OLD_GOES, holds=(hold,)).steps)
    history = small_history()
    doubtful = RecordedRepository(
        registry="hub", name="team/app", tags=history.tags, lives=history.lives, doubt="it was not read completely"
    )
    found = run(doubtful, OLD_GOES)
    assert [step.doubtful_count for step in found.steps] == [1] * len(MOMENTS)
    assert not any(step.tag_count for step in found.steps)


def test_an_index_that_is_pushed_again_brings_its_children():
    child, index = digest_of(1), digest_of(2)
    again = START + 25 * DAY
    lives = {
        child: ManifestLife(ObservedManifest(child, "image", True, START, False), (START,)),
        index: ManifestLife(
            ObservedManifest(index, "index", True, START, False, is_index=True, children=(child,)),
            (START, again),
            (again,),
        ),
    }
    marks = (TagMark(START, index, False), TagMark(again, index, True))
    pulls = tuple(PullDay(START + day * DAY, child, "", "ci", "GET", 1) for day in (20, 30))
    recorded = RecordedRepository(registry="hub", name="team/app", tags={"old": marks}, lives=lives, pulls=pulls)
    policy = policy_of("delete: [{when: {tagged: {older-than: 10d}}}]\nlimits: {never-empty: false}")
    found = run(recorded, policy)
    assert [step.manifest_count for step in found.steps] == [0, 0, 2, 0, 0, 0, 2, 0, 0]
    [regret] = found.regrets
    assert (regret.tag, regret.digest, regret.first_at) == ("", child, START + 20 * DAY)


def test_runs_are_at_midnight_and_whole_days_apart():
    moments = list_moments(START + timedelta(hours=5), START + 20 * DAY, 7 * DAY)
    assert moments == (START + DAY, START + 8 * DAY, START + 15 * DAY)
    for every in (timedelta(hours=12), timedelta(hours=36)):
        with pytest.raises(InputError, match="whole days"):
            list_moments(START, END, every)
    with pytest.raises(InputError, match="1000 runs"):
        list_moments(START, START + 2000 * DAY, DAY)


def test_budgets_are_said_not_to_be_replayed():
    policy = policy_of("delete: [{budget: {max: 1GB}}]")
    assert run(small_history(), policy).notes == ("budgets are not replayed: what they would have taken stays",)
