"""When the service looks for pushes that raced a deletion: at once when something tells of one, and not for nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from regwarden.flows.restoring import Restored, restore_races
from regwarden.jobs import restoring
from regwarden.jobs.restoring import LOOK_AGAIN_SECONDS, LOOK_ANYWAY_SECONDS, LOOK_SHARE, RestoringLoop
from regwarden.store.races import load_signs
from regwarden.testing.content import Content
from tests.crawling import NAME
from tests.flows.cleaning import Cleanup, cleaning, picture

OLD, NEW = picture("old"), picture("new")
HOUR = timedelta(hours=1)


def content_of_two() -> Content:
    content = Content()
    content.repository("app").add(OLD, "1.0")
    content.repository("app").add(NEW, "2.0")
    return content


class Watch:
    """The loop of a cleanup, a clock that is moved by hand, and how often it has really looked."""

    def __init__(self, cleanup: Cleanup, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds = 1000.0
        self.look_count = 0
        self.look_takes = 0.0
        self.loop = RestoringLoop(cleanup.services, NAME)
        look = restore_races

        async def counted(*arguments: Any, **options: Any) -> Restored:
            self.look_count += 1
            self.seconds += self.look_takes
            return await look(*arguments, **options)

        monkeypatch.setattr(restoring, "restore_races", counted)
        monkeypatch.setattr(restoring, "monotonic", lambda: self.seconds)

    async def looks(self, *, after: float = 1.0) -> bool:
        """Whether a step that much later looks."""
        self.seconds += after
        before = self.look_count
        await self.loop.step()
        return self.look_count > before


async def applied(cleanup: Cleanup) -> int:
    await cleanup.crawl()
    plan_id = await cleanup.save(cleanup.plan(cleanup.select("app:1.0")), "ann")
    assert (await cleanup.apply(plan_id)).results == {"done": 1}
    await cleanup.drain()
    return plan_id


async def test_where_nothing_was_removed_nothing_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    async with cleaning(content_of_two()) as cleanup:
        await cleanup.crawl()
        watch = Watch(cleanup, monkeypatch)
        await cleanup.push("app", NEW, "3.0")
        await cleanup.drain()
        assert not await watch.looks()
        assert not await watch.looks(after=LOOK_ANYWAY_SECONDS)


async def test_after_a_deletion_it_looks_once_and_again_when_something_was_pushed_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with cleaning(content_of_two()) as cleanup:
        await applied(cleanup)
        watch = Watch(cleanup, monkeypatch)
        assert await watch.looks()
        assert not await watch.looks()
        assert await watch.loop.step() == LOOK_AGAIN_SECONDS
        await cleanup.push("app", NEW, "3.0")
        await cleanup.drain()
        assert await watch.looks()
        assert not await watch.looks()
        assert await watch.looks(after=LOOK_ANYWAY_SECONDS)


async def test_what_is_pushed_long_after_the_last_deletion_is_no_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    async with cleaning(content_of_two()) as cleanup:
        await applied(cleanup)
        read = cleanup.database.read_now
        since, margin = datetime.now(UTC) - HOUR, timedelta(seconds=60)
        before = read(lambda found: load_signs(found, NAME, since=since, after_id=0, margin=margin))
        assert before is not None
        await cleanup.push("app", NEW, "3.0")
        await cleanup.drain()
        after = before.event_id
        near = read(lambda found: load_signs(found, NAME, since=since, after_id=after, margin=margin))
        far = read(lambda found: load_signs(found, NAME, since=since, after_id=after, margin=-HOUR))
        late = read(lambda found: load_signs(found, NAME, since=since + 2 * HOUR, after_id=after, margin=margin))
        assert near is not None
        assert far is not None
        assert (near.has_push, far.has_push, late) == (True, False, None)
        assert near.event_id > before.event_id


async def test_a_race_is_found_in_the_step_after_its_event(monkeypatch: pytest.MonkeyPatch) -> None:
    async with cleaning(content_of_two()) as cleanup:
        plan_id = await applied(cleanup)
        watch = Watch(cleanup, monkeypatch)
        assert await watch.looks()
        await cleanup.push("app", OLD, "release")
        # As if that had been lost with the deletion.
        repository = cleanup.content.repository("app")
        del repository.tags["release"]
        del repository.manifests[OLD.digest]
        await cleanup.drain()
        assert await watch.looks()
        assert cleanup.tags("app")["release"] == str(OLD.digest)
        assert cleanup.states(plan_id) == ["restored"]


async def test_what_a_failure_left_is_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with cleaning(content_of_two()) as cleanup:
        await applied(cleanup)
        watch = Watch(cleanup, monkeypatch)
        assert await watch.looks()
        watch.loop.recover("the database was away")
        assert await watch.looks()
        assert not await watch.looks()


async def test_a_look_that_takes_long_is_followed_by_a_longer_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    async with cleaning(content_of_two()) as cleanup:
        await applied(cleanup)
        watch = Watch(cleanup, monkeypatch)
        watch.look_takes = 6.0
        assert await watch.looks()
        watch.loop.recover("again, please")
        assert not await watch.looks(after=6.0)
        assert await watch.loop.step() == pytest.approx(LOOK_SHARE * 6.0 - 6.0)
        assert await watch.looks(after=LOOK_SHARE * 6.0)
