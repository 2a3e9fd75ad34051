"""What each guard, and each check before a deletion, is for: a story of a registry for each, and how it must end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any
from unittest.mock import patch

from regwarden.core.oci.digests import Digest
from regwarden.core.plan import GuardCode, StepKind
from regwarden.core.proof import Finding, Violation
from regwarden.errors import RegistryError
from regwarden.flows import reconsidering
from regwarden.store.plan_records import PlanState
from regwarden.store.plans import change_state
from regwarden.testing.images import image, image_config, index, layer
from regwarden.testing.notifications import Caller, Target
from tests.simulated_cleanup import SimulatedCleanup
from tests.simulated_registry import Died, Lifeline, Plot, SimulatedConnector

ONE, TWO, THREE = (image([layer(seed, 100)], image_config(labels={"seed": seed})) for seed in "123")
MULTI = index([ONE, TWO])
EVERYTHING = 'delete: [{match: {tags: {any: ["glob:*"]}}}]\n'
DEVELOPMENT = 'delete: [{match: {tags: {any: ["glob:dev*"]}}}]\n'
NONE = frozenset[GuardCode]()


def policy(body: str, limits: str = "never-empty: false, min-age: 1h", per_run: str = "") -> str:
    run = ", ".join(["share-of-repo: unlimited", *filter(None, [per_run])]) if "share" not in per_run else per_run
    return (
        "apiVersion: retention/v1\nkind: Policy\nmetadata: {name: all}\nscope: {}\n"
        f"limits: {{{limits}, on-exceed: block, per-run: {{{run}}}}}\n{body}"
    )


class Scene:
    """Two tags in ``app``, one in ``team/lib``; read completely, and two days have passed."""

    def __init__(self, *, untags: bool = False) -> None:
        self.loop = asyncio.new_event_loop()
        self.world = SimulatedCleanup(self.loop.run_until_complete, untags=untags, lists_referrers=False)
        self.world.push("app", ONE, "dev-1")
        self.world.push("app", TWO, "dev-2")
        self.world.push("team/lib", THREE, "dev-3")
        self.read()
        self.wait(timedelta(days=2))

    def read(self) -> None:
        self.world.crawl()
        self.world.take_in()

    def wait(self, length: timedelta) -> None:
        self.world.clock.present += length

    def close(self) -> None:
        self.world.close()
        self.loop.close()

    @property
    def deleted(self) -> list[tuple[str, str]]:
        return self.world.connector.deletions

    def plan(self, made_from: Any, *, agrees: bool = True, waived: frozenset[GuardCode] = NONE) -> int:
        plan_id = self.world.plan(made_from, waived)
        assert plan_id is not None
        if agrees:
            self.world.agree(plan_id)
        return plan_id

    def apply(self, made_from: Any, **options: Any) -> None:
        self.world.apply(self.plan(made_from), **options)

    def push(self, built: Any, tag: str, *, is_told: bool = True) -> None:
        """Somebody pushes; ``is_told``: an event comes of it."""
        self.world.push("app", built, tag)
        if not is_told:
            self.world.drop(-1)
            self.world.deliver(lambda _: False)
            while self.world.waiting:
                self.world.drop(0)


Story = Callable[[Scene], None]


# What each guard is for.


def refused(body: str, limits: str = "min-age: 1h, never-empty: false", per_run: str = "") -> Story:
    def story(scene: Scene) -> None:
        scene.apply(policy(body, limits, per_run))
        assert not scene.deleted

    return story


def nothing_is_emptied(scene: Scene) -> None:
    scene.apply(policy(EVERYTHING, "min-age: 1h, never-empty: true"))
    assert scene.world.oracle.tags("app")


def what_is_young_stays(scene: Scene) -> None:
    scene.push(MULTI, "dev-9")
    scene.read()
    scene.apply(policy(DEVELOPMENT))
    assert "dev-9" in scene.world.oracle.tags("app")


def an_old_inventory_is_not_used(scene: Scene) -> None:
    refused(f"requires: {{inventory-max-age: 1h}}\n{EVERYTHING}")(scene)


def what_could_not_be_read_is_not_used(scene: Scene) -> None:
    async def fail(_: SimulatedConnector) -> Any:
        pages: tuple[Any, ...] = ()
        for page in pages:
            yield page
        raise RegistryError("the catalog breaks off", temporary=True)

    with patch.object(SimulatedConnector, "list_repositories", fail), suppress(RegistryError, AssertionError):
        scene.world.crawl()
    refused(f"requires: {{coverage: complete}}\n{EVERYTHING}")(scene)


def a_short_history_of_pulls_is_not_used(scene: Scene) -> None:
    refused(f"requires: {{pull-history-min: 90d}}\n{EVERYTHING}")(scene)


def a_push_under_way_is_waited_for(scene: Scene) -> None:
    blob = Target("app", Digest.of(b"blob"), size_bytes=4)
    scene.world.registry.emit("push", blob, Caller("PUT", "r", "192.0.2.1:1", "docker/20", ""))
    scene.world.take_in()
    plan_id = scene.plan(policy(DEVELOPMENT))
    assert all(one.repository != "app" for one in scene.world.plans[plan_id].plan.steps)


def nobody_is_deaf(scene: Scene) -> None:
    scene.world.is_deaf = True
    scene.apply(policy(EVERYTHING), waived=NONE)
    assert not scene.deleted


def what_no_source_tells_is_not_used(scene: Scene) -> None:
    refused(f"requires: {{clusters: [prod]}}\n{EVERYTHING}")(scene)


def a_registry_that_deletes_nothing_is_not_asked(scene: Scene) -> None:
    scene.world.registry.deletes = False
    refused(EVERYTHING)(scene)


def a_tag_that_cannot_go_alone_stays(scene: Scene) -> None:
    scene.push(ONE, "kept")
    scene.read()
    scene.wait(timedelta(days=2))
    scene.apply(policy(DEVELOPMENT))
    assert scene.world.oracle.tags("app").keys() == {"dev-1", "kept"}
    assert all(":" in reference for _, reference in scene.deleted)


def a_repository_that_cannot_go_stays_empty(scene: Scene) -> None:
    scene.world.drops_repositories = True
    plan_id = scene.plan(policy(EVERYTHING))
    steps = scene.world.plans[plan_id].plan.steps
    assert {step.kind for step in steps} == {StepKind.DELETE}


# What each check is for.


def no_plan_is_applied_that_was_rejected(scene: Scene) -> None:
    plan_id = scene.plan(policy(EVERYTHING))
    scene.world.write(lambda connection: change_state(connection, plan_id, [PlanState.OPEN], PlanState.REJECTED))
    scene.world.apply(plan_id)
    assert not scene.deleted


def no_other_plan_is_applied(scene: Scene) -> None:
    first, second = scene.plan(policy(DEVELOPMENT)), scene.plan(policy(EVERYTHING))
    jobs = scene.world.plans
    jobs[second].plan, jobs[second].agreed = jobs[first].plan, jobs[first].agreed
    scene.world.apply(second)
    assert not scene.deleted


def no_plan_is_applied_that_is_blocked(scene: Scene) -> None:
    refused(EVERYTHING, per_run="manifests: 1")(scene)


def no_plan_is_applied_that_nobody_agreed_to(scene: Scene) -> None:
    scene.world.apply(scene.plan(policy(EVERYTHING), agrees=False))
    assert not scene.deleted


def no_plan_is_applied_that_expired(scene: Scene) -> None:
    plan_id = scene.plan(policy(EVERYTHING))
    scene.wait(timedelta(days=31))
    scene.world.apply(plan_id)
    assert not scene.deleted


def no_plan_is_applied_outside_of_its_window(scene: Scene) -> None:
    refused(EVERYTHING + 'apply: {window: "daily 03:00-04:00 UTC"}\n')(scene)


def what_became_old_is_not_used(scene: Scene) -> None:
    scene.read()
    plan_id = scene.plan(policy(f"requires: {{inventory-max-age: 1h}}\n{EVERYTHING}"))
    scene.wait(timedelta(hours=2))
    scene.world.apply(plan_id)
    assert not scene.deleted


def one_bad_repository_stops_all(scene: Scene) -> None:
    def check(evidence: Any) -> tuple[Violation, ...]:
        return (_violation(),) if evidence.repository == "team/lib" else ()

    with patch.object(reconsidering, "check", check):
        scene.apply(policy(EVERYTHING))
    assert not scene.deleted


def the_proof_is_asked_again(scene: Scene) -> None:
    asked = []

    def check(_: Any) -> tuple[Violation, ...]:
        asked.append(1)
        return (_violation(),) if len(asked) > 2 else ()

    with patch.object(reconsidering, "check", check), suppress(AssertionError):
        scene.apply(policy(EVERYTHING))
    assert not scene.deleted


def _violation() -> Violation:
    return Violation(next(iter(Finding)), "sha256:0", "invented")


def a_tag_that_moved_is_left_alone(scene: Scene) -> None:
    plan_id = scene.plan(policy(DEVELOPMENT.replace("dev*", "dev-1")))
    scene.push(TWO, "dev-1", is_told=False)
    scene.world.apply(plan_id)
    assert not scene.deleted


def a_manifest_that_lost_its_tag_is_left_alone(scene: Scene) -> None:
    scene.world.registry.untags = True
    plan_id = scene.plan(policy(DEVELOPMENT))
    scene.world.untag("app", "dev-1")
    scene.world.drop(-1)
    scene.world.apply(plan_id)
    assert ("app", str(ONE.digest)) not in scene.deleted


def a_tag_that_is_gone_needs_no_request(scene: Scene) -> None:
    scene.push(ONE, "kept")
    scene.read()
    scene.wait(timedelta(days=2))
    plan_id = scene.plan(policy(DEVELOPMENT.replace("dev*", "dev-1")))
    scene.world.untag("app", "dev-1")
    scene.world.drop(-1)
    scene.world.apply(plan_id)
    assert not scene.deleted


def everything_that_goes_is_kept(scene: Scene) -> None:
    scene.apply(policy(EVERYTHING))
    assert len(scene.deleted) == 3


def what_happens_in_between_is_noticed(scene: Scene) -> None:
    """The second request for a tag of the first step is the last before its deletion."""
    one = min([ONE, TWO], key=lambda built: built.digest)
    act = lambda *_: scene.world.push("app", one, "fresh")  # noqa: E731 -- a name for the table below
    plot = Plot("HEAD", 2, after=True, act=act)
    scene.apply(policy(DEVELOPMENT), plot=plot)
    assert plot.count > 1
    assert ("app", str(one.digest)) not in scene.deleted


def what_is_pulled_in_between_stays(scene: Scene) -> None:
    one = min([ONE, TWO], key=lambda built: built.digest)
    tag = "dev-1" if one is ONE else "dev-2"
    plot = Plot("HEAD", 2, after=True, act=lambda *_: scene.world.pull("app", tag))
    rule = 'delete: [{match: {tags: {any: ["glob:dev*"]}}, when: {pulled: {older-than: 1h}}}]\n'
    scene.apply(policy(rule), plot=plot)
    assert plot.count > 1
    assert ("app", str(one.digest)) not in scene.deleted


def what_is_held_in_between_stays(scene: Scene) -> None:
    one = min([ONE, TWO], key=lambda built: built.digest)
    plot = Plot("HEAD", 2, after=True, act=lambda *_: scene.world.protect("app", "", str(one.digest)))
    scene.apply(policy(DEVELOPMENT), plot=plot)
    assert ("app", str(one.digest)) not in scene.deleted


def what_is_pushed_in_between_comes_back(scene: Scene) -> None:
    one = min([ONE, TWO], key=lambda built: built.digest)
    plot = Plot("DELETE", 1, act=lambda *_: scene.world.push("app", one, "fresh"))
    scene.apply(policy(DEVELOPMENT), plot=plot)
    scene.world.take_in()
    scene.world.restore()
    assert scene.world.oracle.tags("app").get("fresh") == str(one.digest)


def what_was_done_unheard_can_be_undone(scene: Scene) -> None:
    plan_id = scene.plan(policy(DEVELOPMENT))
    scene.world.apply(plan_id, plot=Plot("DELETE", 1, after=True, breaks=True))
    assert len(scene.deleted) == len(set(scene.deleted)) == 3
    scene.world.undo(plan_id)
    assert scene.world.oracle.tags("app").keys() == {"dev-1", "dev-2"}


def nobody_is_asked_for_ever(scene: Scene) -> None:
    sent = []

    async def break_off(_: Any, repository: str, digest: Digest) -> None:
        sent.append(digest)
        raise RegistryError("the connection broke", temporary=True)

    plan_id = scene.plan(policy(DEVELOPMENT))
    with patch.object(SimulatedConnector, "delete_manifest", break_off):
        for _ in range(3):
            scene.world.apply(plan_id)
    assert max(map(sent.count, sent)) == 2


def what_goes_with_a_tag_comes_back(scene: Scene) -> None:
    scene.world.registry.untag_takes_all = True
    scene.push(ONE, "kept")
    scene.read()
    scene.wait(timedelta(days=2))
    scene.apply(policy(DEVELOPMENT.replace("dev*", "dev-1")))
    assert scene.world.oracle.tags("app").get("kept") == str(ONE.digest)


def a_placeholder_that_is_left_is_removed(scene: Scene) -> None:
    scene.push(ONE, "kept")
    scene.read()
    scene.wait(timedelta(days=2))
    body = DEVELOPMENT.replace("dev*", "dev-1") + "apply: {placeholders: true}\n"
    plan_id = scene.plan(policy(body))
    with patch.object(SimulatedConnector, "delete_manifest", _die):
        scene.world.apply(plan_id, lifeline=Lifeline())
    assert scene.world.oracle.tags("app").keys() == {"dev-1", "dev-2", "kept"}
    scene.world.apply(plan_id)
    assert scene.world.oracle.tags("app").keys() == {"dev-2", "kept"}


async def _die(self: SimulatedConnector, *_: Any) -> None:
    self.lifeline.is_dead = True
    raise Died


def a_tag_that_nobody_told_of_holds(scene: Scene) -> None:
    plan_id = scene.plan(policy(DEVELOPMENT))
    scene.push(ONE, "fresh", is_told=False)
    scene.world.apply(plan_id)
    assert ("app", str(ONE.digest)) not in scene.deleted


def a_tag_that_moved_where_nobody_listened_holds(scene: Scene) -> None:
    """Notifications come in, but they began after the last reading: they do not tell of everything since then."""
    scene.push(THREE, "stable")
    scene.world.take_in()
    scene.wait(timedelta(days=2))
    plan_id = scene.plan(policy(DEVELOPMENT))
    scene.push(ONE, "stable", is_told=False)
    scene.world.apply(plan_id)
    assert ("app", str(ONE.digest)) not in scene.deleted


def what_would_stay_now_stays(scene: Scene) -> None:
    body = f'keep: [{{match: {{tags: {{any: ["glob:*"]}}}}, newest: 1, rank: {{by: [tagged]}}}}]\n{DEVELOPMENT}'
    plan_id = scene.plan(policy(body))
    scene.world.remove("app", str(TWO.digest))
    scene.world.take_in()
    scene.world.apply(plan_id)
    assert scene.world.oracle.tags("app").keys() == {"dev-1"}
