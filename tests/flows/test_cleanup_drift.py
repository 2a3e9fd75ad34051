"""The world moves between the plan and the step: what changed is left alone, and so is what it leads to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from regwarden import clock
from regwarden.core.observed import Hold
from regwarden.core.plan import GuardCode
from regwarden.store.protections import save_protection
from regwarden.testing.content import Content
from tests.crawling import NAME
from tests.flows.cleaning import QUICK, Cleanup, cleaning, picture, platforms

# Steps are done in the order of digests: that of NEW comes first.
NEW, OLD = sorted((picture("one"), picture("two")), key=lambda one: one.digest)
OTHER, MULTI = picture("other"), platforms("multi")
NEWEST = """\
apiVersion: retention/v1
kind: Policy
metadata: {name: newest}
scope: {}
limits: {per-run: {share-of-repo: unlimited}}
keep: [{match: {tags: {any: ["glob:*"]}}, newest: 1, rank: {by: [version]}}]
delete: [{match: {tags: {any: ["glob:*"]}}}]
"""


def images() -> Content:
    content = Content()
    repository = content.repository("app")
    repository.add(OLD, "1.0")
    repository.add(NEW, "2.0")
    repository.add(OTHER, "3.0")
    return content


async def retag(cleanup: Cleanup) -> None:
    await cleanup.push("app", OTHER, "1.0")


async def tag_again(cleanup: Cleanup) -> None:
    await cleanup.push("app", OLD, "another")


async def tag_in_silence(cleanup: Cleanup) -> None:
    cleanup.content.repository("app").set_tag("another", OLD.digest)


async def retag_in_silence(cleanup: Cleanup) -> None:
    cleanup.content.repository("app").set_tag("1.0", OTHER.digest)


async def untag_in_silence(cleanup: Cleanup) -> None:
    del cleanup.content.repository("app").tags["1.0"]


async def push_again(cleanup: Cleanup) -> None:
    await cleanup.push("app", OLD, "1.0")


async def hold_it(cleanup: Cleanup) -> None:
    hold = Hold(id=0, registry=NAME, repository="app", digest=str(OLD.digest), by="bob")
    await cleanup.database.write(lambda connection: save_protection(connection, hold, clock.now()))


async def hold_its_tag(cleanup: Cleanup) -> None:
    hold = Hold(id=0, registry=NAME, repository="app", tag="1.0", by="bob")
    await cleanup.database.write(lambda connection: save_protection(connection, hold, clock.now()))


async def list_it(cleanup: Cleanup) -> None:
    """An index that is known by now lists it."""
    parent = platforms("parent", OLD)
    cleanup.content.repository("app").add(parent)
    await cleanup.push("app", parent, "parent")
    await cleanup.read_all()


CHANGES: list[Any] = [
    retag,
    tag_again,
    tag_in_silence,
    retag_in_silence,
    untag_in_silence,
    push_again,
    hold_it,
    hold_its_tag,
    list_it,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda one: one.__name__)
async def test_what_changed_since_the_plan_was_made_stays(change):
    async with cleaning(images()) as cleanup:
        await cleanup.crawl()
        plan_id = await cleanup.save(cleanup.plan(cleanup.select("app:glob:[12].0")), "ann")
        await change(cleanup)
        report = await cleanup.apply(plan_id)
        assert (report.results, report.state) == ({"done": 1, "drifted": 1}, "applied")
        assert [path.rpartition("/")[2] for path in cleanup.sent()] == [str(NEW.digest)]
        (drifted,) = [one for one in cleanup.steps(plan_id) if one.state == "drifted"]
        assert drifted.step.digest == str(OLD.digest)
        assert drifted.detail


@pytest.mark.parametrize("moved", ["3.0", "2.0"])
async def test_without_notifications_a_tag_that_was_moved_to_what_goes_holds_it(moved):
    """Deleting the digest would take the tag along, and no step asks for it before."""
    async with cleaning(images()) as cleanup:
        cleanup.is_deaf = True
        await cleanup.crawl()
        plan_id = await cleanup.save(cleanup.plan(cleanup.select("app:glob:[12].0")), "ann")
        cleanup.content.repository("app").set_tag(moved, OLD.digest)
        report = await cleanup.apply(plan_id, replace(QUICK, waived=frozenset({GuardCode.NO_LIVE_EVENTS})))
        assert report.results["drifted"] >= 1
        assert cleanup.tags("app")[moved] == str(OLD.digest) == cleanup.tags("app")["1.0"]


async def test_without_notifications_a_tag_that_was_moved_to_something_unknown_stops_its_repository():
    async with cleaning(images()) as cleanup:
        cleanup.is_deaf = True
        await cleanup.crawl()
        plan_id = await cleanup.save(cleanup.plan(cleanup.select("app:glob:[12].0")), "ann")
        parent = platforms("parent", OLD)
        cleanup.content.repository("app").add(parent, "3.0")
        report = await cleanup.apply(plan_id, replace(QUICK, waived=frozenset({GuardCode.NO_LIVE_EVENTS})))
        assert report.results == {"pending": 2}
        assert "its tag 3.0 leads to something that the inventory does not know; crawl it first" in report.problems[0]
        assert cleanup.holds("app", OLD, NEW) == [True, True]


@pytest.mark.parametrize("change", [one for one in CHANGES if one is not list_it], ids=lambda one: one.__name__)
async def test_what_changes_while_the_plan_is_applied_stays(change):
    """The change comes after the facts were looked at, before the step that it is about."""
    content = images()
    async with cleaning(content) as cleanup:
        await cleanup.crawl()
        plan_id = await cleanup.save(cleanup.plan(cleanup.select("app:glob:[12].0")), "ann")
        assert [one.step.digest for one in cleanup.steps(plan_id)] == [str(NEW.digest), str(OLD.digest)]
        delete = cleanup.inventory.connector.delete_manifest
        changes = [change]

        async def change_meanwhile(repository, digest):
            removal = await delete(repository, digest)
            while changes:
                await changes.pop()(cleanup)
            return removal

        cleanup.inventory.connector.delete_manifest = change_meanwhile  # type: ignore[method-assign]  # a test double
        report = await cleanup.apply(plan_id)
        held_back = {"done": 2} if change is tag_in_silence else {"done": 1, "drifted": 1}
        assert report.results == held_back


async def test_a_newer_tag_that_is_deleted_meanwhile_makes_the_next_one_the_newest():
    async with cleaning(images()) as cleanup:
        await cleanup.crawl()
        plan_id = await cleanup.save(cleanup.plan(NEWEST), "ann")
        assert {one.step.digest for one in cleanup.steps(plan_id)} == {str(OLD.digest), str(NEW.digest)}
        await cleanup.others.delete_manifest("app", OTHER.digest)
        report = await cleanup.apply(plan_id)
        assert report.results == {"done": 1, "drifted": 1}
        assert cleanup.tags("app") == {"2.0": str(NEW.digest)}


async def test_an_index_that_changed_keeps_its_children():
    content = Content()
    content.repository("app").add(MULTI, "1.0")
    content.repository("app").add(NEW, "2.0")
    async with cleaning(content) as cleanup:
        await cleanup.crawl()
        plan_id = await cleanup.save(cleanup.plan(cleanup.select("app:1.0")), "ann")
        content.repository("app").set_tag("more", MULTI.digest)
        report = await cleanup.apply(plan_id)
        assert (report.results, cleanup.sent()) == ({"drifted": 3}, [])


async def test_what_is_gone_already_is_no_failure():
    async with cleaning(images()) as cleanup:
        await cleanup.crawl()
        plan_id = await cleanup.save(cleanup.plan(cleanup.select("app:1.0")), "ann")
        cleanup.content.repository("app").delete_manifest(OLD.digest)
        await cleanup.others.head_manifest("app", "2.0")
        report = await cleanup.apply(plan_id)
        assert (report.results, cleanup.sent()) == ({"gone": 1}, [])
        assert cleanup.known_tags("app").keys() == {"2.0", "3.0"}


async def test_a_tag_of_something_unknown_stops_the_repository_until_it_was_read():
    async with cleaning(images()) as cleanup:
        await cleanup.crawl()
        plan_id = await cleanup.save(cleanup.plan(cleanup.select("app:1.0")), "ann")
        cleanup.content.repository("app").add(platforms("unknown", OLD), "unknown")
        report = await cleanup.apply(plan_id)
        assert (report.results, report.state, cleanup.sent()) == ({"pending": 1}, "applying", [])
        assert "crawl it first" in report.problems[0]
        await cleanup.read_all()
        assert (await cleanup.apply(plan_id)).results == {"drifted": 1}


async def test_what_was_just_pushed_is_waited_for_until_it_is_read(monkeypatch):
    monkeypatch.setattr("regwarden.flows.applying._WAIT_SECONDS", 0.01)
    async with cleaning(images()) as cleanup:
        await cleanup.crawl()
        plan_id = await cleanup.save(cleanup.plan(cleanup.select("app:1.0")), "ann")
        fresh = picture("fresh")
        cleanup.content.repository("app").add(fresh)
        await cleanup.push("app", fresh, "fresh")
        report = await cleanup.apply(plan_id)
        assert (report.results, report.state, cleanup.sent()) == ({"pending": 1}, "applying", [])
        await cleanup.read_all()
        assert (await cleanup.apply(plan_id)).results == {"done": 1}


async def test_pulls_by_others_of_something_else_hold_nothing_up():
    async with cleaning(images()) as cleanup:
        await cleanup.crawl()
        plan_id = await cleanup.save(cleanup.plan(cleanup.select("app:glob:[12].0")), "ann")

        async def pull():
            await cleanup.others.fetch_manifest("app", "3.0")

        cleanup.drained.append(pull)
        assert (await cleanup.apply(plan_id)).results == {"done": 2}


async def test_a_repository_that_changes_all_the_time_is_left_for_later():
    async with cleaning(images()) as cleanup:
        await cleanup.crawl()
        plan_id = await cleanup.save(cleanup.plan(cleanup.select("app:1.0")), "ann")

        async def retag_three():
            await cleanup.push("app", OTHER, "3.0")

        cleanup.drained.append(retag_three)
        report = await cleanup.apply(plan_id)
        assert (report.results, cleanup.sent()) == ({"pending": 1}, [])
        assert "all the time" in report.problems[0]
        cleanup.drained.clear()
        assert (await cleanup.apply(plan_id)).results == {"done": 1}


async def test_what_another_repository_uses_still_stays_when_the_plan_is_thought_over():
    """Otherwise nothing of the repository would be left, and a guard would hold all of it back."""
    content = Content()
    content.repository("app").add(OLD, "1.0")
    content.repository("app").add(NEW, "2.0")
    content.repository("lib").add(NEW, "2.0")
    async with cleaning(content) as cleanup:
        await cleanup.crawl()
        plan_id = await cleanup.save(cleanup.plan(cleanup.select("app")), "ann")
        assert [one.step.digest for one in cleanup.steps(plan_id)] == [str(OLD.digest)]
        assert (await cleanup.apply(plan_id)).results == {"done": 1}
        assert cleanup.tags("app") == {"2.0": str(NEW.digest)}
