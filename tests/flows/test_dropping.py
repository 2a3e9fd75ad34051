"""A repository of which nothing stays is deleted as a whole: planned, proven, followed, resumed, taken back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from regwarden.core.plan import GuardCode, StepKind
from regwarden.core.projects import RepositoryStatus
from regwarden.core.proof import Change, Evidence, Finding, check
from regwarden.errors import RegistryError
from regwarden.registries.api import Ability
from regwarden.store.plans import load_whole_plan
from regwarden.store.schema import repositories
from regwarden.testing.content import BuiltManifest
from regwarden.testing.images import image, index, layer
from tests.gitlab_like import Cleaned, cleaned, protected


@pytest.fixture
def world() -> Iterator[Cleaned]:
    with cleaned() as world:
        yield world


def an_image(seed: str) -> BuiltManifest:
    return image([layer("base", 1000), layer(seed, 10)])


async def filled(world: Cleaned) -> None:
    for tag in ("1.0", "2.0"):
        world.registry.push("team/old", an_image(tag), tag)
    world.registry.push("team/old", index([an_image("child")]), "3.0")
    world.registry.push("team/app", an_image("kept"), "1.0")
    await world.crawl()


async def test_a_repository_goes_after_everything_in_it_and_comes_back_with_its_first_tag(world: Cleaned) -> None:
    await filled(world)
    before = world.tags("team/old")
    plan_id = await world.plan("team/old", drops=True)
    assert [str(one.step.kind) for one in world.steps(plan_id)] == [*["delete"] * 4, "drop"]
    report = await world.apply(plan_id)
    assert report is not None
    assert (report.state, report.problems) == ("applied", ())
    assert {state for _, state in world.ended(plan_id)} == {"done"}
    assert world.connector.dropped == ["team/old"]
    assert "team/old" not in world.registry.content.repositories
    known = world.database.read_now(
        lambda connection: {
            row.name: row.deleted_at for row in connection.execute(repositories.select().with_only_columns(*_COLUMNS))
        }
    )
    assert known["team/old"] is not None
    assert known["team/app"] is None
    # Its blobs are gone with it: they are linked again from where else they are, or uploaded by a test.
    for tag in ("1.0", "2.0", "child"):
        world.registry.content.repository("team/old").blobs.update({one.digest: one for one in an_image(tag).blobs})
    undone = await world.undo(plan_id)
    assert (undone.state, undone.asked_step_count, undone.restored_step_count) == ("undone", 4, 4)
    assert world.tags("team/old") == before
    assert {state for _, state in world.ended(plan_id)} == {"restored"}


_COLUMNS = (repositories.c.name, repositories.c.deleted_at)


async def test_killed_anywhere_it_is_brought_to_an_end(world: Cleaned) -> None:
    await filled(world)
    deaths = 0
    for dies_at in range(1, 90, 6):
        if dies_at > 1:
            world.connector.dropped.clear()
            world.connector.statuses.clear()
            world.registry.clock.present += timedelta(days=1)
            await filled(world)
        plan_id = await world.plan("team/old", drops=True)
        if await world.apply(plan_id, dies_at=dies_at) is not None:
            break
        deaths += 1
        if world.stored(plan_id).state != "applied":
            report = await world.apply(plan_id)
            assert report is not None
            assert report.state == "applied", (dies_at, report)
        assert {state for _, state in world.ended(plan_id)} <= {"done", "gone"}, (dies_at, world.steps(plan_id))
        assert "team/old" not in world.registry.content.repositories, dies_at
    assert deaths > 4


async def test_what_was_pushed_meanwhile_keeps_the_repository(world: Cleaned) -> None:
    await filled(world)
    world.connector.before = lambda tag: (
        world.registry.push("team/old", an_image("fresh"), "fresh") if tag == "1.0" else None
    )
    plan_id = await world.plan("team/old", drops=True)
    report = await world.apply(plan_id)
    assert report is not None
    assert world.ended(plan_id)[-1] == ("drop", "drifted")
    assert "it has tags again: fresh" in world.steps(plan_id)[-1].detail
    assert world.connector.dropped == []


async def test_what_stays_of_it_keeps_the_repository(world: Cleaned) -> None:
    await filled(world)
    world.connector.refusals["1.0"] = protected()
    plan_id = await world.plan("team/old", drops=True)
    await world.apply(plan_id)
    assert world.ended(plan_id)[-1] == ("drop", "drifted")
    assert world.connector.dropped == []


async def test_a_repository_that_the_registry_cannot_delete_is_a_failure(world: Cleaned) -> None:
    await filled(world)
    world.connector.statuses["team/old"] = [RepositoryStatus.DELETING, RepositoryStatus.FAILED]
    plan_id = await world.plan("team/old", drops=True)
    report = await world.apply(plan_id)
    assert report is not None
    assert report.problems == ("team/old: the registry has not deleted the repository",)
    assert world.ended(plan_id)[-1] == ("drop", "failed")


async def test_a_protected_repository_is_skipped(world: Cleaned) -> None:
    await filled(world)
    world.connector.refusals["team/old"] = protected("a rule protects this repository", "repository-protected")
    plan_id = await world.plan("team/old", drops=True)
    report = await world.apply(plan_id)
    assert report is not None
    assert (report.state, report.problems) == ("applied", ())
    assert report.skipped == ("team/old: protected by GitLab: a rule protects this repository",)


async def test_only_what_is_emptied_is_dropped_and_only_if_asked_for(world: Cleaned) -> None:
    await filled(world)
    kinds = {}
    for drops, selected in ((True, "team/old:glob:[12].0"), (False, "team/old")):
        plan_id = await world.plan(selected, drops=drops)
        kinds[drops] = {one.step.kind for one in world.steps(plan_id)}
    assert kinds == {True: {StepKind.DELETE}, False: {StepKind.DELETE}}


async def test_it_must_be_waived_that_nothing_is_left(world: Cleaned) -> None:
    await filled(world)
    plan_id = await world.plan("team/old", drops=True, waived=frozenset({GuardCode.REPOSITORY_SHARE}))
    assert world.steps(plan_id) == ()
    assert GuardCode.NEVER_EMPTY in {one.code for one in world.stored(plan_id).plan.guards}


async def test_where_the_registry_is_not_known_to_do_it_the_repository_stays_and_that_is_said(world: Cleaned) -> None:
    await filled(world)

    async def is_unknown(_connector: object) -> Ability:
        return Ability.UNKNOWN

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("regwarden.flows.planning.ask_drop", is_unknown)
        plan_id = await world.plan("team/old", drops=True)
    assert {one.step.kind for one in world.steps(plan_id)} == {StepKind.DELETE}
    guard = next(one for one in world.stored(plan_id).plan.guards if one.code is GuardCode.CANNOT_DROP)
    assert "team/old stays as an empty repository" in guard.message
    assert not world.stored(plan_id).plan.is_blocked


async def test_the_fingerprint_of_a_plan_that_was_stored_is_the_same(world: Cleaned) -> None:
    await filled(world)
    plan_id = await world.plan("team/old", drops=True)
    plan = world.database.read_now(lambda connection: load_whole_plan(connection, plan_id))
    assert plan.drops_repositories
    assert plan.steps[-1].digest == ""
    assert plan.fingerprint == world.stored(plan_id).summary.fingerprint


def _evidence() -> Evidence:
    built = an_image("one")
    digest = str(built.digest)
    return Evidence(
        registry="r",
        repository="n",
        existing=frozenset({digest}),
        manifests={digest: built.payload},
        tags={"1.0": digest},
        steps=[Change("delete", "r", "n", digest, ("1.0",)), Change("drop", "r", "n", "")],
    )


def test_the_proof_allows_a_drop_only_last_and_only_of_what_is_empty() -> None:
    good = _evidence()
    assert check(good) == ()
    first, drop = good.steps
    wrong = [
        replace(good, steps=[drop, first]),
        replace(good, steps=[drop]),
        replace(good, steps=[Change("untag", *first[1:]), drop]),
        replace(good, tags={**good.tags, "lost": None}, dangling=frozenset({"lost"})),
        replace(good, protected=frozenset({"2.0"})),
        replace(good, kept=frozenset({"2.0"})),
    ]
    for one in wrong:
        assert Finding.LEFT_IN_DROPPED in {found.finding for found in check(one)}, one
    assert Finding.BAD_STEP in {
        one.finding for one in check(replace(good, steps=[first, Change("drop", "r", "n", first.digest)]))
    }
    assert Finding.REPEATED in {one.finding for one in check(replace(good, steps=[first, first, drop]))}


async def test_a_registry_that_does_not_answer_is_asked_again_later(world: Cleaned) -> None:
    await filled(world)
    plan_id = await world.plan("team/old", drops=True)
    asked: list[str] = []

    async def silent(repository: str) -> RepositoryStatus:
        asked.append(repository)
        if len(asked) > 1:  # after it was asked for
            raise RegistryError("GitLab is away", code="registry-failing", temporary=False)
        return RepositoryStatus.PRESENT

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.connector, "find_repository_status", silent)
        report = await world.apply(plan_id)
    assert report is not None
    assert report.state == "applying"
    assert world.ended(plan_id)[-1] == ("drop", "intended")
    report = await world.apply(plan_id)
    assert report is not None
    assert report.state == "applied"
    assert world.ended(plan_id)[-1] == ("drop", "done")
