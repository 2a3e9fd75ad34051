"""Whatever people, registries and crashes do, in any order: nothing goes that anybody wants, everything can come back.

Hypothesis makes up the stories, the oracle watches every change. ``REGWARDEN_STORIES`` is how many stories are told
(by default a few, always the same ones), ``REGWARDEN_STORY_STEPS`` how long they are.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from regwarden.core.plan import GuardCode
from regwarden.core.undo import LossCode
from regwarden.flows.finish_records import NOWHERE
from regwarden.flows.finishing import finish_plan
from regwarden.testing.content import BuiltManifest
from regwarden.testing.images import cosign_signature, image, image_config, index, layer, sbom, signature_tag
from tests.policy_drafts import drafts
from tests.simulated_cleanup import NAME, SimulatedCleanup, selecting
from tests.simulated_registry import Lifeline, Plot

STORIES = int(os.environ.get("REGWARDEN_STORIES", "0"))
SHRINKS = bool(os.environ.get("REGWARDEN_STORY_SHRINKS"))
STEPS = int(os.environ.get("REGWARDEN_STORY_STEPS", "25"))
REPOSITORIES = ("app", "team/lib")
TAGS = ("v1", "v2", "dev-1", "dev-2", "prod", "latest")


def _picture(seed: str) -> BuiltManifest:
    return image([layer(f"layer of {seed}", 1000)], image_config(labels={"seed": seed}))


PICTURES = tuple(map(_picture, "abcd"))
FIRST, SECOND = index(PICTURES[:2]), index(PICTURES[1:3])
NESTED = index([FIRST, PICTURES[3]])
SUBJECTS = (PICTURES[0], PICTURES[3], FIRST)
ABOUT = tuple(map(sbom, SUBJECTS))
NAMED = {
    **dict(zip(("a", "b", "c", "d"), PICTURES, strict=True)),
    "first": FIRST,
    "second": SECOND,
    "nested": NESTED,
    **dict(zip(("about a", "about d", "about first"), ABOUT, strict=True)),
}

repositories = st.sampled_from(REPOSITORIES)
tags = st.sampled_from(TAGS)
pushed = st.sampled_from(sorted(NAMED))
numbers = st.integers(0, 7)
moments = st.sampled_from([1, 1, 1, 2, 2, 3, 5, 8])
waivers = st.frozensets(
    st.sampled_from([GuardCode.MIN_AGE, GuardCode.NEVER_EMPTY, GuardCode.REPOSITORY_SHARE]), max_size=3
)
selections = st.builds(
    partial(selecting),
    st.sampled_from(["app", "app:glob:*", "app:glob:v*", "app:glob:dev-*", "team/lib:glob:*", "team/lib"]),
    match_all_tags=st.booleans(),
    untag=st.booleans(),
    with_placeholders=st.booleans(),
)
lifelines = st.builds(Lifeline, dies_at=st.integers(1, 30), after=st.booleans())
COUNTS: Counter[str] = Counter()


class Story(RuleBasedStateMachine):
    """One registry, from its first push on."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()

    @initialize(untags=st.booleans(), lists_referrers=st.booleans())
    def begin(self, untags: bool, lists_referrers: bool) -> None:
        self.world = SimulatedCleanup(self.loop.run_until_complete, untags=untags, lists_referrers=lists_referrers)
        self.push("app", "first", "v1", ties=False)
        self.push("app", "d", "dev-1", ties=True)
        self.push("team/lib", "a", "latest", ties=True)
        self.push("app", "second", "v2", ties=False)
        self.world.crawl()
        self.world.take_in()

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.settle()
            COUNTS.update(self.world.oracle.counts)
            self.world.close()
        self.loop.close()

    # Others.

    @rule(repository=repositories, name=pushed, tag=st.one_of(tags, tags, tags, st.just("")), ties=st.booleans())
    def push(self, repository: str, name: str, tag: str, ties: bool) -> None:
        """With ``ties`` something else is pushed in the same moment."""
        built = NAMED[name]
        if built in ABOUT:
            subject = SUBJECTS[ABOUT.index(built)]
            if self.world.registry.find(repository, str(subject.digest)) is None:
                return
        self.world.push(repository, built, tag)
        if ties and tag:
            self.world.clock.is_frozen = True
            self.world.push(repository, PICTURES[3], "dev-2" if tag != "dev-2" else "dev-1")
            self.world.clock.is_frozen = False

    @rule(repository=repositories, number=st.integers(0, 2))
    def sign(self, repository: str, number: int) -> None:
        subject = SUBJECTS[number].digest
        if self.world.registry.find(repository, str(subject)) is not None:
            self.world.push(repository, cosign_signature(subject, repository), signature_tag(subject))

    @rule(repository=repositories, number=numbers)
    def untag(self, repository: str, number: int) -> None:
        here = sorted(self.world.registry.content.repository(repository).tags)
        if here and self.world.registry.untags:
            self.world.untag(repository, here[number % len(here)])

    @rule(repository=repositories, number=numbers)
    def remove(self, repository: str, number: int) -> None:
        """Somebody deletes a manifest that no index lists, with its tags."""
        manifests = self.world.oracle.manifests(repository)
        listed = {part["digest"] for one in manifests.values() for part in one.get("manifests", ())}
        if free := sorted(manifests.keys() - listed):
            self.world.remove(repository, free[number % len(free)])

    @rule(repository=repositories, tag=tags)
    def pull(self, repository: str, tag: str) -> None:
        self.world.pull(repository, tag)

    # Time, and what is told.

    @rule(
        to=st.sampled_from(["minute", "hour", "day", "week", "month", "year", "2h", "25h", "9d"]),
        offset=st.sampled_from([-1, 0, 1]),
    )
    def wait(self, to: str, offset: int) -> None:
        now = self.world.clock.present
        then = _boundary(now, to) + offset * timedelta(milliseconds=1)
        self.world.clock.present = max(now, then)

    @rule(seed=st.sampled_from([0, 0, 1, 2]), half=st.booleans(), twice=st.sampled_from([False, False, True]))
    def deliver(self, seed: int, half: bool, twice: bool) -> None:
        self.world.deliver(
            lambda one: not half or int(one.event_id.removeprefix("event-")) % 2 == 0, seed=seed, twice=twice
        )

    @rule(number=numbers)
    def drop(self, number: int) -> None:
        self.world.drop(number)

    @rule()
    def take_in(self) -> None:
        self.world.take_in()

    @rule()
    def crawl(self) -> None:
        self.world.take_in()
        self.world.crawl()
        self._check_inventory()

    # People here.

    @precondition(lambda self: len(self.world.oracle.holds) < 2)
    @rule(repository=repositories, tag=st.one_of(tags, st.just("")), name=st.one_of(st.just(""), pushed))
    def protect(self, repository: str, tag: str, name: str) -> None:
        self.world.protect(repository, tag, "" if tag or not name else str(NAMED[name].digest))

    @precondition(lambda self: self.world.oracle.holds)
    @rule()
    def unprotect(self) -> None:
        self.world.unprotect()

    @rule(
        made_from=st.one_of(drafts(), selections),
        waived=waivers,
        agrees=st.sampled_from([True, True, True, False]),
        later=st.sampled_from(["", "2h", "25h", "9d"]),
    )
    def plan(self, made_from: Any, waived: frozenset[GuardCode], agrees: bool, later: str) -> None:
        """Some time ``later`` somebody makes a plan."""
        if later:
            self.wait(later, 0)
        self._plan(made_from, waived, agrees=agrees)

    def _plan(self, made_from: Any, waived: frozenset[GuardCode], *, agrees: bool) -> int | None:
        plan_id = self.world.plan(made_from, waived)
        if plan_id is not None and agrees:
            self.world.agree(plan_id)
        return plan_id

    @rule(made_from=st.one_of(drafts(), selections), waived=waivers, later=st.sampled_from(["", "2h", "25h", "9d"]))
    def clean_in_peace(self, made_from: Any, waived: frozenset[GuardCode], later: str) -> None:
        """Everything is known and nobody does anything: what was planned is done."""
        if later:
            self.wait(later, 0)
        self.crawl()
        self.world.take_in()
        plan_id = self._plan(made_from, waived, agrees=True)
        report = None if plan_id is None else self.world.apply(plan_id)
        if report is not None and not self.world.oracle.dropped:
            assert set(report.results) <= {"done"}, report
            assert report.state == "applied", report
            assert not report.broken_indexes, report
            assert not report.problems, report

    @precondition(lambda self: self.world.plans)
    @rule(number=numbers, is_prompt=st.booleans())
    def apply(self, number: int, is_prompt: bool) -> None:
        self.world.apply(self._pick(number), is_prompt=is_prompt)

    @precondition(lambda self: self.world.plans)
    @rule(number=numbers, lifeline=lifelines, is_prompt=st.booleans())
    def apply_and_die(self, number: int, lifeline: Lifeline, is_prompt: bool) -> None:
        self.world.apply(self._pick(number), lifeline=Lifeline(lifeline.dies_at, lifeline.after), is_prompt=is_prompt)

    @precondition(lambda self: self.world.plans)
    @rule(
        number=numbers,
        method=st.sampled_from(["DELETE", "DELETE", ""]),
        at=moments,
        after=st.sampled_from([False, False, True]),
        act=st.sampled_from(["push", "push", "push", "index", "protect", "untag"]),
        is_prompt=st.booleans(),
    )
    def apply_in_a_race(self, number: int, method: str, at: int, after: bool, act: str, is_prompt: bool) -> None:
        """Somebody does something between two requests, most of all immediately before a deletion."""
        plan_id = self._pick(number)
        if act == "protect" and not after:
            method = "HEAD"  # after the intent it is too late
        plot = Plot(method, at, after=after, act=partial(self._act, plan_id, act, number))
        self.world.apply(plan_id, plot=plot, is_prompt=is_prompt)

    @precondition(lambda self: self.world.plans)
    @rule(number=numbers, method=st.sampled_from(["DELETE", "PUT", ""]), at=moments, after=st.booleans())
    def apply_with_a_lost_answer(self, number: int, method: str, at: int, after: bool) -> None:
        self.world.apply(self._pick(number), plot=Plot(method, at, after=after, breaks=True))

    @precondition(lambda self: self.world.plans)
    @rule(number=numbers)
    def undo(self, number: int) -> None:
        plan_id = self._pick_taken(number)
        report = self.world.undo(plan_id)
        if report is not None:
            self._check_undone(plan_id, report)

    @precondition(lambda self: self.world.plans)
    @rule(number=numbers, lifeline=lifelines)
    def undo_and_die(self, number: int, lifeline: Lifeline) -> None:
        self.world.undo(self._pick_taken(number), lifeline=Lifeline(lifeline.dies_at, lifeline.after))

    @precondition(lambda self: self.world.plans)
    @rule(number=numbers, at=moments, after=st.booleans())
    def undo_with_a_lost_answer(self, number: int, at: int, after: bool) -> None:
        self.world.undo(self._pick_taken(number), plot=Plot("PUT", at, after=after, breaks=True))

    @precondition(lambda self: self.world.oracle.taken)
    @rule(number=numbers)
    def undo_a_part(self, number: int) -> None:
        oracle = self.world.oracle
        plan_id = min(oracle.taken)
        places = [one for one in sorted(oracle.taken[plan_id]) if oracle.changes[one][1] == plan_id]
        if not places or plan_id in self.world.ended:
            return
        repository, reference = places[number % len(places)]
        word = f"{repository}{'@' if ':' in reference else ':'}{reference}"
        report = self.world.undo(plan_id, only=[word])
        if report is not None and not report.losses and not report.failures:
            assert (repository, reference) not in dict(oracle.missing_after_undo(plan_id))

    @precondition(lambda self: self.world.plans)
    @rule(number=numbers, collects=st.booleans())
    def finish(self, number: int, collects: bool) -> None:
        plan_id = self._pick_taken(number)
        if plan_id in self.world.oracle.taken and plan_id not in self.world.ended:
            work = finish_plan(self.world.services, plan_id, principal="ann", places={NAME: NOWHERE})
            self.loop.run_until_complete(work)
            self.world.ended.add(plan_id)
            assert self.world.undo(plan_id) is None
        if collects:
            self.world.registry.collect_garbage()
            self.world.is_collected = True

    @rule()
    def settle(self) -> None:
        """All that is not lost for ever comes in, and what raced is put back."""
        self.world.take_in()
        self.world.restore()
        self.world.take_in()
        if not self.world.is_collected:
            self.world.oracle.check_races()

    @invariant()
    def everything_is_whole(self) -> None:
        if hasattr(self, "world"):
            self.world.oracle.check_indexes()
            self.world.check_blobs()

    def _pick(self, number: int) -> int:
        """A plan: most of all the last one that removes something."""
        ids = sorted(self.world.plans)
        full = [one for one in ids if self.world.plans[one].plan.steps] or ids
        return full[-1] if number > 1 else ids[number % len(ids)]

    def _pick_taken(self, number: int) -> int:
        """A plan that removed something, if there is one."""
        ids = sorted(self.world.oracle.taken) or sorted(self.world.plans)
        return ids[number % len(ids)]

    def _act(self, plan_id: int, act: str, number: int, repository: str, reference: str) -> None:
        """Somebody wants what a request of ours is about, or else something that the plan removes."""
        world = self.world
        steps = [one for one in world.plans[plan_id].plan.steps if one.repository == repository]
        names = [tag for one in steps for tag in one.tags if not tag.startswith("sha256-")] or ["v1"]
        tag = (*names, "fresh")[number % (len(names) + 1)]
        removed = {one.digest for one in steps}
        wanted = [one for one in NAMED.values() if str(one.digest) == reference]
        wanted += [one for one in NAMED.values() if str(one.digest) in removed] or list(PICTURES)
        if act == "push":
            world.push(repository or "app", wanted[0], tag)
        elif act == "index":
            world.push(repository or "app", index([wanted[0], PICTURES[3]]), "fresh")
        elif act == "protect":
            world.protect(repository or "app", "", str(wanted[0].digest))
        elif world.registry.untags and repository and tag in world.registry.content.repository(repository).tags:
            world.untag(repository, tag)

    def _check_inventory(self) -> None:
        """After a crawl the inventory has every tag, and all that tags lead to."""
        for repository in REPOSITORIES:
            there = self.world.oracle.tags(repository)
            assert self.world.known_tags(repository) == there
            reached = {one for digest in there.values() for one in self.world.oracle.closure(repository, digest)}
            there_too = self.world.oracle.manifests(repository).keys()
            assert reached & there_too <= self.world.known_manifests(repository)

    def _check_undone(self, plan_id: int, report: Any) -> None:
        """What nobody touched since is as it was, unless its content was collected."""
        assert not report.failures, report
        self.world.oracle.counts["undone"] += 1
        if not self.world.is_collected:
            assert {loss.code for loss in report.losses} <= {LossCode.TAG_MOVED}, report
            assert not dict(self.world.oracle.missing_after_undo(plan_id)), report


def _boundary(now: datetime, to: str) -> datetime:
    """The next one of the calendar, or so much later."""
    midnight = datetime(now.year, now.month, now.day, tzinfo=UTC)
    return {
        "minute": now + timedelta(minutes=1),
        "hour": now + timedelta(hours=1),
        "2h": now + timedelta(hours=2),
        "25h": now + timedelta(hours=25),
        "9d": now + timedelta(days=9),
        "day": midnight + timedelta(days=1),
        "week": midnight + timedelta(days=7 - now.weekday()),
        "month": datetime(now.year + now.month // 12, now.month % 12 + 1, 1, tzinfo=UTC),
        "year": datetime(now.year + 1, 1, 1, tzinfo=UTC),
    }[to]


@pytest.mark.timeout(24 * 3600)
def test_no_story_ends_badly():
    run_state_machine_as_test(
        Story,
        settings=settings(
            max_examples=STORIES or 20,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize=not STORIES,
            database=None,
            phases=[Phase.generate, Phase.shrink] if SHRINKS else [Phase.generate],
            suppress_health_check=list(HealthCheck),
            print_blob=False,
        ),
    )
    # Otherwise nothing was shown.
    assert {"deleted", "put", "applied", "died", "undone"} <= COUNTS.keys(), COUNTS


def test_a_story_of_a_race_that_is_noticed_and_mended():
    """The oracle sees that something was pushed while it was deleted, and that it came back."""
    story = Story()
    story.begin(untags=True, lists_referrers=False)
    story.plan(made_from=selecting("app:v1"), waived=frozenset(), agrees=True, later="25h")
    story.apply_in_a_race(number=7, method="DELETE", at=1, after=False, act="push", is_prompt=False)
    oracle = story.world.oracle
    race_count = len(oracle.races)
    assert ("app", "fresh") in {one.place for one in oracle.races}
    story.teardown()
    assert (oracle.counts["restored"], oracle.races) == (race_count, [])


def test_a_story_of_a_deletion_that_breaks_off_and_is_undone():
    story = Story()
    story.begin(untags=False, lists_referrers=True)
    story.plan(made_from=selecting("app:v1"), waived=frozenset(), agrees=True, later="25h")
    story.apply_and_die(number=7, lifeline=Lifeline(dies_at=13, after=True), is_prompt=True)
    oracle = story.world.oracle
    first_count = oracle.counts["deleted"]
    assert (oracle.counts["died"], bool(first_count)) == (1, True)
    story.apply(number=7, is_prompt=True)
    assert oracle.counts["deleted"] > first_count
    story.undo(number=0)
    assert oracle.tags("app")["v1"] == str(FIRST.digest)
    story.teardown()
