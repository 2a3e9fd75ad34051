"""Pushes that race a deletion: what a registry accepted comes back, and what nobody wants back does not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from regwarden.errors import RegistryError
from regwarden.store.journal import EntryKind
from regwarden.testing.behaviour import Behaviour
from regwarden.testing.content import BuiltManifest, Content
from regwarden.testing.images import index
from tests.flows.cleaning import QUICK, Cleanup, cleaning, picture, platforms

OLD, NEW, MULTI = picture("old"), picture("new"), platforms("multi")

Push = Callable[[], Awaitable[None]]


def content_of_two() -> Content:
    content = Content()
    content.repository("app").add(OLD, "1.0")
    content.repository("app").add(MULTI, "1.1")
    content.repository("app").add(NEW, "2.0")
    return content


def race(cleanup: Cleanup, digest: str, *, before: Push | None = None, after: Push | None = None) -> None:
    """Let somebody push immediately before, or after, the deletion of ``digest`` reaches the registry."""
    delete = cleanup.inventory.connector.delete_manifest

    async def raced(repository, wanted):
        if str(wanted) == digest and before is not None:
            await before()
        removal = await delete(repository, wanted)
        if str(wanted) == digest and after is not None:
            await after()
        return removal

    cleanup.inventory.connector.delete_manifest = raced  # type: ignore[method-assign]  # as if somebody was faster


async def test_a_tag_that_was_pushed_in_between_comes_back_under_its_name():
    async with cleaning(content_of_two()) as cleanup:
        await cleanup.crawl()
        plan_id = await cleanup.save(cleanup.plan(cleanup.select("app:1.0")), "ann")
        race(cleanup, str(OLD.digest), before=lambda: cleanup.push("app", OLD, "release"))
        report = await cleanup.apply(plan_id)
        assert (report.restored_count, report.results) == (1, {"restored": 1})
        assert cleanup.tags("app")["release"] == str(OLD.digest)
        assert "1.0" not in cleanup.tags("app")
        assert cleanup.known_tags("app")["release"] == str(OLD.digest)
        restored = [one for one in cleanup.journal(plan_id) if one.entry is EntryKind.RESTORE_OUTCOME]
        assert [(one.result, one.tags) for one in restored] == [("done", ("release",))]
        # Asked again, nothing is left to be done, and nothing is asked of the registry.
        cleanup.registry.requests.clear()
        assert (await cleanup.restore()).restored_count == 0
        assert cleanup.registry.requests == []


async def test_an_index_that_was_pushed_in_between_comes_back_with_the_children_that_went_after_it():
    async with cleaning(content_of_two()) as cleanup:
        await cleanup.crawl()
        plan_id = await cleanup.save(cleanup.plan(cleanup.select("app:1.1")), "ann")
        # Its event comes in only when the children are gone, too.
        hold_back(cleanup)
        race(cleanup, str(MULTI.digest), before=lambda: cleanup.push("app", MULTI, "release"))
        report = await cleanup.apply(plan_id)
        assert (report.results, cleanup.holds("app", MULTI, *MULTI.children)) == ({"done": 3}, [False] * 3)
        let_through(cleanup)
        assert (await cleanup.restore()).restored_count == 1
        assert cleanup.holds("app", MULTI, *MULTI.children) == [True] * 3
        assert cleanup.tags("app")["release"] == str(MULTI.digest)


async def test_a_child_that_a_new_index_lists_comes_back():
    async with cleaning(content_of_two()) as cleanup:
        await cleanup.crawl()
        plan_id = await cleanup.save(cleanup.plan(cleanup.select("app:1.0")), "ann")
        parent = index([OLD, NEW])
        race(cleanup, str(OLD.digest), before=lambda: cleanup.push("app", parent, "both"))
        report = await cleanup.apply(plan_id)
        assert report.restored_count == 1
        assert cleanup.holds("app", parent, OLD, NEW) == [True] * 3


async def test_what_was_pushed_by_digest_in_between_comes_back_by_digest():
    async with cleaning(content_of_two()) as cleanup:
        await cleanup.crawl()
        plan_id = await cleanup.save(cleanup.plan(cleanup.select("app:1.0")), "ann")
        race(cleanup, str(OLD.digest), before=lambda: cleanup.push("app", OLD))
        assert (await cleanup.apply(plan_id)).restored_count == 1
        assert cleanup.holds("app", OLD) == [True]
        assert "1.0" not in cleanup.tags("app")


async def test_a_push_after_the_deletion_lost_nothing_and_is_looked_at_once():
    async with cleaning(content_of_two()) as cleanup:
        await cleanup.crawl()
        plan_id = await cleanup.save(cleanup.plan(cleanup.select("app:1.0")), "ann")
        race(cleanup, str(OLD.digest), after=lambda: cleanup.push("app", OLD, "release"))
        report = await cleanup.apply(plan_id)
        assert (report.restored_count, report.results) == (0, {"done": 1})
        assert cleanup.tags("app")["release"] == str(OLD.digest)
        (entry,) = [one for one in cleanup.journal(plan_id) if one.entry is EntryKind.RESTORE_OUTCOME]
        assert entry.result == "present"
        assert (await cleanup.restore()).harmless_count == 0


async def test_what_was_pushed_and_deleted_again_by_its_owner_stays_away():
    async with cleaning(content_of_two()) as cleanup:
        await cleanup.crawl()
        plan_id = await cleanup.save(cleanup.plan(cleanup.select("app:1.0")), "ann")
        hold_back(cleanup)
        race(cleanup, str(OLD.digest), before=lambda: cleanup.push("app", OLD, "release"))
        await cleanup.apply(plan_id)
        await cleanup.push("app", OLD, "again")
        await cleanup.others.delete_manifest("app", OLD.digest)
        let_through(cleanup)
        assert (await cleanup.restore()).restored_count == 0
        assert cleanup.holds("app", OLD) == [False]


async def test_a_tag_that_was_moved_on_meanwhile_is_left_alone():
    async with cleaning(content_of_two()) as cleanup:
        await cleanup.crawl()
        plan_id = await cleanup.save(cleanup.plan(cleanup.select("app:1.0")), "ann")
        hold_back(cleanup)
        race(cleanup, str(OLD.digest), before=lambda: cleanup.push("app", OLD, "release"))
        await cleanup.apply(plan_id)
        await cleanup.push("app", NEW, "release")
        let_through(cleanup)
        assert (await cleanup.restore()).restored_count == 0
        assert cleanup.tags("app")["release"] == str(NEW.digest)


async def test_a_tag_that_was_pushed_before_its_placeholder_comes_back():
    content = Content()
    content.repository("app").add(OLD, "1.0", "1.1")
    content.repository("app").add(NEW, "2.0")
    async with cleaning(content) as cleanup:
        await cleanup.crawl()
        made_from = cleanup.select("app:1.1", untag=True, with_placeholders=True)
        plan_id = await cleanup.save(cleanup.plan(made_from), "ann")
        put_blob = cleanup.inventory.connector.put_blob

        async def raced(repository, payload):
            await cleanup.push("app", NEW, "1.1")
            return await put_blob(repository, payload)

        cleanup.inventory.connector.put_blob = raced  # type: ignore[method-assign]  # as if somebody was faster
        report = await cleanup.apply(plan_id)
        assert report.restored_count == 1
        assert cleanup.tags("app") == {"1.0": str(OLD.digest), "1.1": str(NEW.digest), "2.0": str(NEW.digest)}


async def test_our_own_events_are_no_races():
    content = Content()
    content.repository("app").add(OLD, "1.0", "1.1")
    content.repository("app").add(NEW, "2.0")
    async with cleaning(content) as cleanup:
        await cleanup.crawl()
        await cleanup.clean(cleanup.select("app:1.1", untag=True, with_placeholders=True))
        assert await cleanup.restore() == await cleanup.restore()
        assert cleanup.tags("app").keys() == {"1.0", "2.0"}


async def test_what_cannot_be_put_back_is_told_and_tried_again():
    async with cleaning(content_of_two()) as cleanup:
        await cleanup.crawl()
        plan_id = await cleanup.save(cleanup.plan(cleanup.select("app:1.0")), "ann")

        async def push_and_close():
            await cleanup.push("app", OLD, "release")

        async def close():
            cleanup.registry.behaviour.is_read_only = True

        race(cleanup, str(OLD.digest), before=push_and_close, after=close)
        report = await cleanup.apply(plan_id)
        assert (report.restored_count, report.results) == (0, {"done": 1})
        assert "could not be put back" in report.problems[0]
        cleanup.registry.behaviour.is_read_only = False
        assert (await cleanup.restore()).restored_count == 1
        assert cleanup.tags("app")["release"] == str(OLD.digest)


async def test_a_registry_that_accepts_and_forgets_is_found_out():
    async with cleaning(content_of_two()) as cleanup:
        await cleanup.crawl()
        plan_id = await cleanup.save(cleanup.plan(cleanup.select("app:1.0")), "ann")

        async def forget():
            cleanup.registry.behaviour.unwritable_manifests.add(OLD.digest)

        race(cleanup, str(OLD.digest), before=lambda: cleanup.push("app", OLD, "release"), after=forget)
        report = await cleanup.apply(plan_id)
        assert report.restored_count == 0
        assert report.problems


async def test_while_a_request_may_be_under_way_nothing_is_said_of_it():
    async with cleaning(content_of_two()) as cleanup:
        await cleanup.crawl()
        plan_id = await cleanup.save(cleanup.plan(cleanup.select("app:1.0")), "ann")
        found = []

        async def push_and_look():
            await cleanup.push("app", OLD, "release")
            found.append(await cleanup.restore())

        race(cleanup, str(OLD.digest), before=push_and_look)
        report = await cleanup.apply(plan_id)
        assert [(one.restored_count, one.harmless_count) for one in found] == [(0, 0)]
        assert report.restored_count == 1
        assert cleanup.tags("app")["release"] == str(OLD.digest)


@pytest.mark.parametrize("skew", [timedelta(minutes=-30), timedelta(minutes=30)])
async def test_the_clock_of_the_registry_does_not_matter(skew):
    async with cleaning(content_of_two()) as cleanup:
        await cleanup.crawl()
        plan_id = await cleanup.save(cleanup.plan(cleanup.select("app:1.0")), "ann")

        async def push():
            await cleanup.push("app", OLD, "release")
            cleanup.registry.events[:] = [
                replace(event, at=event.at + skew) if event.tag == "release" else event
                for event in cleanup.registry.events
            ]

        cleanup.inventory.connector.traffic.clock_skew = skew
        race(cleanup, str(OLD.digest), before=push)
        report = await cleanup.apply(plan_id)
        assert report.restored_count == 1
        assert cleanup.tags("app")["release"] == str(OLD.digest)


async def test_an_index_that_stays_and_lacks_a_child_is_told():
    shared = picture("shared")
    first, second = platforms("first", shared), platforms("second", shared)
    content = Content()
    content.repository("app").add(first, "1")
    content.repository("app").add(second, "2")
    async with cleaning(content, Behaviour()) as cleanup:
        await cleanup.crawl()
        plan_id = await cleanup.save(cleanup.plan(cleanup.select("app:1")), "ann")
        (child, *_) = [one for one in first.children if one.digest != shared.digest]
        race(cleanup, str(child.digest), before=lambda: vanish(cleanup, shared))
        report = await cleanup.apply(plan_id, QUICK)
        assert report.broken_indexes == (f"app: the index {second.digest} lacks {shared.digest}",)


async def test_a_registry_that_falls_silent_is_not_asked_for_every_child_that_stays(monkeypatch):
    """Nobody can interrupt that look, so it must end where no answer comes."""
    shared = picture("shared")
    content = Content()
    content.repository("app").add(platforms("first", shared), "1")
    for number in range(20):
        content.repository("app").add(platforms(f"other {number}", shared), f"2.{number}")
    async with cleaning(content) as cleanup:
        await cleanup.crawl()
        plan_id = await cleanup.save(cleanup.plan(cleanup.select("app:1")), "ann")
        asked: list[str] = []

        async def fall_silent(_site, digest):
            asked.append(digest)
            raise RegistryError("it does not answer", temporary=True)

        monkeypatch.setattr("regwarden.flows.verifying.exists", fall_silent)
        report = await cleanup.apply(plan_id, QUICK)
        assert (report.state, report.verified_index_count, len(asked)) == ("applied", 0, 3)
        assert report.broken_indexes[-1] == "app: of the indexes that stay 20 could not be walked to the end"


async def vanish(cleanup: Cleanup, built: BuiltManifest) -> None:
    cleanup.content.repository("app").manifests.pop(built.digest)


def hold_back(cleanup: Cleanup) -> None:
    """Events of others stay away from now on."""
    cleanup.held_back = True


def let_through(cleanup: Cleanup) -> None:
    """They come in, late."""
    cleanup.held_back = False
