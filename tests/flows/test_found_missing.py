"""What a crawl finds missing because of us comes back, also if no event told of the push; nothing else does."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import update

from regwarden import clock
from regwarden.core.oci.digests import Digest
from regwarden.flows.restoring import restore_races
from regwarden.flows.services import Services
from regwarden.store.cleanup_schema import journal
from regwarden.store.journal import EntryKind
from regwarden.store.times import to_micros
from regwarden.testing.content import Content
from regwarden.testing.images import index
from tests.crawling import NAME
from tests.flows.cleaning import Cleanup, cleaning, picture, platforms

OLD, NEW, MULTI = picture("old"), picture("new"), platforms("multi")


def content_of_two() -> Content:
    content = Content()
    content.repository("app").add(OLD, "1.0")
    content.repository("app").add(MULTI, "1.1")
    content.repository("app").add(NEW, "2.0")
    return content


async def removed(cleanup: Cleanup, tag: str) -> int:
    """A plan that removed this tag's manifest; nothing of what others do is told."""
    await cleanup.crawl()
    plan_id = await cleanup.save(cleanup.plan(cleanup.select(f"app:{tag}")), "ann")
    await cleanup.apply(plan_id)
    cleanup.is_deaf = True
    return plan_id


def leave_link(cleanup: Cleanup, tag: str, digest: Digest) -> None:
    """As Distribution leaves the tag of a push that a deletion overtook."""
    cleanup.content.repository("app").set_tag(tag, digest)


def looks(cleanup: Cleanup, plan_id: int) -> list[tuple[str, tuple[str, ...]]]:
    return [(one.result, one.tags) for one in cleanup.journal(plan_id) if one.entry is EntryKind.RESTORE_OUTCOME]


@pytest.mark.parametrize(("tag", "built"), [("1.0", OLD), ("1.1", MULTI)])
async def test_a_tag_that_a_crawl_finds_dangling_comes_back_with_all_that_its_manifest_lists(tag, built):
    async with cleaning(content_of_two()) as cleanup:
        plan_id = await removed(cleanup, tag)
        leave_link(cleanup, "release", built.digest)
        assert (await cleanup.restore()).restored_count == 0  # nobody knows yet
        await cleanup.read_all()
        assert (await cleanup.restore()).restored_count == 1
        assert cleanup.holds("app", built, *built.children) == [True] * (1 + len(built.children))
        assert cleanup.known_tags("app")["release"] == str(built.digest)
        assert tag not in cleanup.tags("app")
        assert looks(cleanup, plan_id) == [("done", ("release",))]
        cleanup.registry.requests.clear()
        await cleanup.read_all()
        before = len(cleanup.registry.requests)
        assert (await cleanup.restore()).restored_count == 0
        assert len(cleanup.registry.requests) == before


async def test_a_planned_tag_that_our_own_deletion_left_behind_stays_a_dead_link():
    async with cleaning(content_of_two()) as cleanup:
        plan_id = await removed(cleanup, "1.0")
        leave_link(cleanup, "1.0", OLD.digest)
        await cleanup.read_all()
        assert (await cleanup.restore()).restored_count == 0
        assert cleanup.holds("app", OLD) == [False]
        assert looks(cleanup, plan_id) == [("present", ("1.0",))]


async def test_a_tag_that_dangles_for_another_reason_is_asked_for_once_and_not_after_each_crawl():
    async with cleaning(content_of_two()) as cleanup:
        plan_id = await removed(cleanup, "1.0")
        leave_link(cleanup, "lost", Digest.of(b"never pushed"))
        await cleanup.read_all()
        assert (await cleanup.restore()).problems == ()
        await set_back(cleanup, plan_id, timedelta(minutes=2))
        # This look may have come too early: the request was just over. The next one is the last.
        for count in (2, 2, 2):
            await cleanup.read_all()
            assert (await cleanup.restore()).restored_count == 0
            assert len(looks(cleanup, plan_id)) == count
        assert not cleanup.content.repository("app").manifests.keys() & {OLD.digest}


async def test_what_dangled_before_we_removed_anything_is_not_asked_for():
    content = content_of_two()
    content.repository("app").set_tag("lost", Digest.of(b"never pushed"))
    async with cleaning(content) as cleanup:
        plan_id = await removed(cleanup, "1.0")
        await cleanup.restore()
        assert looks(cleanup, plan_id) == []


async def test_a_child_that_an_index_lacks_because_of_us_comes_back():
    async with cleaning(content_of_two()) as cleanup:
        await removed(cleanup, "1.0")
        parent = index([OLD, NEW])
        cleanup.content.repository("app").add(parent, "both", omit=[OLD.digest])
        await cleanup.read_all()
        assert (await cleanup.restore()).restored_count == 1
        assert cleanup.holds("app", parent, OLD, NEW) == [True] * 3
        assert "1.0" not in cleanup.tags("app")


async def test_a_child_that_no_existing_index_needs_any_more_stays_away():
    async with cleaning(content_of_two()) as cleanup:
        await removed(cleanup, "1.0")
        parent = index([OLD, NEW])
        cleanup.content.repository("app").add(parent, "both", omit=[OLD.digest])
        await cleanup.read_all()
        cleanup.content.repository("app").delete_manifest(parent.digest)
        assert (await cleanup.restore()).restored_count == 0
        assert cleanup.holds("app", OLD) == [False]


async def test_what_its_owner_deleted_after_it_had_come_back_stays_away():
    async with cleaning(content_of_two()) as cleanup:
        await removed(cleanup, "1.0")
        cleanup.is_deaf = False
        await cleanup.push("app", OLD, "again")
        await cleanup.others.delete_manifest("app", OLD.digest)
        leave_link(cleanup, "again", OLD.digest)
        await cleanup.read_all()
        assert (await cleanup.restore()).restored_count == 0
        assert cleanup.holds("app", OLD) == [False]


async def test_what_cannot_come_back_is_tried_at_once_again_and_then_ever_more_rarely():
    async with cleaning(content_of_two()) as cleanup:
        plan_id = await removed(cleanup, "1.0")
        leave_link(cleanup, "release", OLD.digest)
        await cleanup.read_all()
        cleanup.registry.behaviour.is_read_only = True
        later, attempts = clock.now(), []
        for _ in range(20):
            later += timedelta(seconds=30)
            services = Services(cleanup.database, lambda: later, cleanup.services.connectors)  # noqa: B023 -- used at once
            attempts.append(len((await restore_races(services, NAME)).problems))
        assert attempts == [1, 1, 1, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]
        cleanup.registry.behaviour.is_read_only = False
        later += timedelta(hours=1)
        assert (await restore_races(services, NAME)).restored_count == 1
        assert looks(cleanup, plan_id)[-1] == ("done", ("release",))


async def set_back(cleanup: Cleanup, plan_id: int, age: timedelta) -> None:
    """Let everything that the journal has of a plan be older."""
    moved = update(journal).where(journal.c.plan_id == plan_id).values(at=journal.c.at - to_micros_of(age))
    await cleanup.database.write(lambda connection: connection.execute(moved))


def to_micros_of(age: timedelta) -> int:
    moment = clock.now()
    return to_micros(moment) - to_micros(moment - age)
