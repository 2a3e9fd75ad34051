"""Cleanup of a registry that collects manifests by itself: tag by tag, half done, protected, taken back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from regwarden.errors import RegistryDenied, RegistryUnreachable
from regwarden.flows.apply_records import Considered, Question
from regwarden.flows.reconsidering import reconsider
from regwarden.store.connections import Connection
from regwarden.testing.content import BuiltManifest
from regwarden.testing.images import image, index, layer
from tests.gitlab_like import Cleaned, cleaned, protected


@pytest.fixture
def world() -> Iterator[Cleaned]:
    with cleaned() as world:
        yield world


def an_image(seed: str) -> BuiltManifest:
    return image([layer("base", 1000), layer(seed, 10)])


async def filled(world: Cleaned) -> BuiltManifest:
    """One image with three tags that goes, and one that stays."""
    old = an_image("old")
    for tag in ("1.0", "1.1", "1.2"):
        world.registry.push("team/app", old, tag)
    world.registry.push("team/app", an_image("new"), "2.0")
    await world.crawl()
    return old


async def test_a_manifest_goes_by_its_tags_and_is_left_to_the_registry(world: Cleaned) -> None:
    old = await filled(world)
    plan_id = await world.plan("team/app:glob:1.*")
    report = await world.apply(plan_id)
    assert report is not None
    assert (report.state, report.problems) == ("applied", ())
    assert world.ended(plan_id) == [("delete", "done")]
    assert world.connector.deletions == [("team/app", tag) for tag in ("1.0", "1.1", "1.2")]
    assert old.digest in world.registry.content.repository("team/app").manifests
    assert set(world.tags("team/app")) == {"2.0"}
    assert not [one for one in world.connector.asked if one[0] in ("PUT", "POST")]
    assert ("HEAD", "team/app", "2.0") not in world.connector.asked  # the listing told where it points
    undone = await world.undo(plan_id)
    assert (undone.state, undone.restored_step_count, undone.tag_count) == ("undone", 1, 3)
    assert {world.tags("team/app")[tag] for tag in ("1.0", "1.1", "1.2")} == {old.digest}


async def test_what_a_broken_connection_left_is_removed_by_the_same_run(world: Cleaned) -> None:
    await filled(world)
    broken = iter((RegistryUnreachable("the connection broke", temporary=True),))

    def before(tag: str) -> None:
        if tag == "1.1":
            for error in broken:
                raise error

    world.connector.before = before
    plan_id = await world.plan("team/app:glob:1.*")
    report = await world.apply(plan_id)
    assert report is not None
    assert report.state == "applied"
    assert world.ended(plan_id) == [("delete", "done")]
    assert set(world.tags("team/app")) == {"2.0"}
    assert (await world.undo(plan_id)).tag_count == 3


async def test_killed_anywhere_it_is_brought_to_an_end_and_can_be_taken_back(world: Cleaned) -> None:
    old = await filled(world)
    for dies_at in range(1, 60, 2):
        plan_id = await world.plan("team/app:glob:1.*")
        report = await world.apply(plan_id, dies_at=dies_at)
        if report is not None:
            break
        if world.stored(plan_id).state != "applied":
            report = await world.apply(plan_id)
            assert report is not None
            assert report.state == "applied", (dies_at, report)
        assert world.ended(plan_id) == [("delete", "done")], (dies_at, world.steps(plan_id))
        assert set(world.tags("team/app")) == {"2.0"}, dies_at
        undone = await world.undo(plan_id)
        assert undone.state == "undone", (dies_at, undone)
        assert {world.tags("team/app")[tag] for tag in ("1.0", "1.1", "1.2")} == {old.digest}, dies_at
        await world.crawl()
    assert dies_at > 9


async def test_a_tag_that_moves_meanwhile_is_left_alone(world: Cleaned) -> None:
    await filled(world)
    newer = an_image("newer")
    world.connector.before = lambda tag: world.registry.push("team/app", newer, "1.2") if tag == "1.0" else None
    plan_id = await world.plan("team/app:glob:1.*")
    report = await world.apply(plan_id)
    assert report is not None
    assert world.ended(plan_id) == [("delete", "failed")]  # some of it is gone, so an undo looks at it
    assert world.tags("team/app")["1.2"] == newer.digest
    await world.undo(plan_id)
    assert world.tags("team/app")["1.2"] == newer.digest
    assert {"1.0", "1.1"} <= world.tags("team/app").keys()


async def test_what_a_rule_protects_is_skipped_and_the_plan_goes_on(
    world: Cleaned, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = record_looks(monkeypatch)
    for number in range(8):
        world.registry.push("team/app", an_image(str(number)), f"1.{number}")
    world.registry.push("team/app", an_image("new"), "2.0")
    await world.crawl()
    for number in range(7):  # more than failures that stop a run
        code = "tag-immutable" if number % 2 else "tag-protected"
        world.connector.refusals[f"1.{number}"] = protected(code=code)
    plan_id = await world.plan("team/app:glob:1.*")
    report = await world.apply(plan_id)
    assert report is not None
    assert (report.state, report.problems, len(report.skipped)) == ("applied", (), 7)
    assert "protected by GitLab: a rule protects this tag" in report.skipped[0]
    assert sorted(world.ended(plan_id)) == [("delete", "done"), *[("delete", "drifted")] * 7]
    assert "1.7" not in world.tags("team/app")
    assert len(looks) <= 2  # thousands may be protected, and every look is at all of them


async def test_what_others_depend_on_is_looked_at_again_where_a_rule_protects_it(
    world: Cleaned, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = record_looks(monkeypatch)
    child, signed, signature = an_image("child"), an_image("signed"), an_image("signature")
    multi = index([child])
    world.registry.push("team/app", multi, "1.0")
    world.registry.push("team/app", signed, "1.1")
    world.registry.push("team/app", signature, f"sha256-{signed.digest.hex}.sig")
    world.registry.push("team/app", an_image("alone"), "1.2")
    world.registry.push("team/app", an_image("new"), "2.0")
    await world.crawl()
    world.connector.refusals["1.0"] = protected()
    report = await world.apply(await world.plan("team/app:glob:1.*"))
    assert report is not None
    assert (report.state, len(report.skipped)) == ("applied", 1)
    assert set(looks[0].linked or ()) == {str(one.digest) for one in (multi, child, signed, signature)}
    assert len(looks) == 3  # the proof, the first look, and the one after the index
    assert str(child.digest) in {str(one) for one in world.registry.content.repository("team/app").manifests}


def record_looks(monkeypatch: pytest.MonkeyPatch) -> list[Considered]:
    """What is found each time that a repository is looked at while a plan is applied."""
    found: list[Considered] = []

    def look(connection: Connection, question: Question) -> Considered:
        found.append(reconsider(connection, question))
        return found[-1]

    monkeypatch.setattr("tests.gitlab_like.reconsider", look)
    return found


async def test_a_rule_that_protects_one_of_several_tags_leaves_what_can_be_taken_back(world: Cleaned) -> None:
    old = await filled(world)
    world.connector.refusals["1.1"] = protected()
    plan_id = await world.plan("team/app:glob:1.*")
    report = await world.apply(plan_id)
    assert report is not None
    assert "1 of its tags were removed before" in report.problems[0]
    assert world.ended(plan_id) == [("delete", "failed")]
    await world.undo(plan_id)
    assert world.tags("team/app")["1.0"] == old.digest


async def test_children_of_an_index_are_left_to_be_collected_with_it(world: Cleaned) -> None:
    children = [an_image("one"), an_image("two")]
    world.registry.push("team/app", index(children), "1.0")
    world.registry.push("team/app", an_image("new"), "2.0")
    await world.crawl()
    plan_id = await world.plan("team/app:1.0")
    report = await world.apply(plan_id)
    assert report is not None
    assert (report.state, report.problems) == ("applied", ())
    assert world.ended(plan_id) == [("delete", "done")] * 3
    assert world.connector.deletions == [("team/app", "1.0")]
    assert "collects it with the index" in world.steps(plan_id)[-1].detail
    undone = await world.undo(plan_id)
    assert (undone.state, undone.tag_count) == ("undone", 1)


async def test_where_we_may_not_delete_the_other_repositories_are_cleaned(world: Cleaned) -> None:
    for name in ("team/app", "team/tool"):
        for tag in ("1.0", "2.0"):
            world.registry.push(name, an_image(f"{name} {tag}"), tag)
    await world.crawl()
    denied: Any = RegistryDenied("GitLab does not grant us delete on team/app", code="not-granted", status=403)

    async def refuse(repository: str, tag: str) -> Any:
        if repository == "team/app":
            raise denied
        return await type(world.connector).delete_tag(world.connector, repository, tag)

    plan_id = await world.plan("team/app:1.0", "team/tool:1.0")
    setattr(world.connector, "delete_tag", refuse)  # noqa: B010 -- a method cannot be assigned to
    report = await world.apply(plan_id)
    assert report is not None
    assert report.problems == ("team/app: GitLab does not grant us delete on team/app",)
    assert world.ended(plan_id) == [("delete", "failed"), ("delete", "done")]
