"""Applying, dying, restoring and undoing with PostgreSQL as the database: what is committed when, is the same there."""

from __future__ import annotations

import pytest

from regwarden.flows import applying
from regwarden.flows.undoing import undo_plan
from regwarden.testing.behaviour import Behaviour
from regwarden.testing.content import Content
from tests.flows.cleaning import cleaning, picture, platforms
from tests.flows.test_cleanup_crashes import POINTS, Died, check_taken_up, content_of_three, die, nothing
from tests.flows.test_restoring import race

OLD, NEW, MULTI = picture("old"), picture("new"), platforms("multi")


@pytest.fixture
def address(postgresql_url: str) -> str:
    return postgresql_url


def content_of_two() -> Content:
    content = Content()
    content.repository("app").add(OLD, "1.0")
    content.repository("app").add(MULTI, "1.1")
    content.repository("app").add(NEW, "2.0")
    return content


async def test_what_was_removed_comes_back_by_an_undo(address):
    async with cleaning(content_of_two(), Behaviour(), address) as cleanup:
        await cleanup.crawl()
        before = cleanup.tags("app")
        plan_id = await cleanup.save(cleanup.plan(cleanup.select("app:glob:1*")), "ann")
        report = await cleanup.apply(plan_id)
        assert (report.state, report.results, report.problems) == ("applied", {"done": 4}, ())
        assert cleanup.tags("app") == {"2.0": str(NEW.digest)} == cleanup.known_tags("app")
        undone = await undo_plan(cleanup.services, plan_id, principal="ann")
        assert (undone.state, undone.failures, undone.losses) == ("undone", (), ())
        assert cleanup.tags("app") == before == cleanup.known_tags("app")
        assert cleanup.holds("app", OLD, MULTI, *MULTI.children) == [True] * 4


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("name", "owner"), POINTS[2:], ids=[one[0] for one in POINTS[2:]])
async def test_a_run_that_dies_is_taken_up_without_a_second_effect(monkeypatch, address, name, owner, after):
    async with cleaning(content_of_three(), Behaviour(), address) as cleanup:
        await cleanup.crawl()
        plan_id = await cleanup.save(cleanup.plan(cleanup.select("app:glob:1*")), "ann")
        with monkeypatch.context() as patched:
            die(patched, owner, name, at=2, after=after)
            patched.setattr("regwarden.flows.cleanup._finish", nothing)
            patched.setattr("regwarden.flows.cleanup._linger", nothing)
            patched.setattr(applying._Work, "end", nothing)
            with pytest.raises((Died, AttributeError)):
                await cleanup.apply(plan_id)
        await check_taken_up(cleanup, plan_id)


async def test_pushes_that_raced_come_back_by_event_and_by_crawl(address):
    async with cleaning(content_of_two(), Behaviour(), address) as cleanup:
        await cleanup.crawl()
        plan_id = await cleanup.save(cleanup.plan(cleanup.select("app:glob:1*")), "ann")
        race(cleanup, str(OLD.digest), before=lambda: cleanup.push("app", OLD, "release"))
        assert (await cleanup.apply(plan_id)).restored_count == 1
        cleanup.content.repository("app").set_tag("candidate", MULTI.digest)  # left by a push that nobody told of
        await cleanup.read_all()
        assert (await cleanup.restore()).restored_count == 1
        assert cleanup.tags("app") == {
            "2.0": str(NEW.digest),
            "candidate": str(MULTI.digest),
            "release": str(OLD.digest),
        }
        assert cleanup.holds("app", MULTI, *MULTI.children) == [True] * 3
        assert (await cleanup.restore()).restored_count == 0
