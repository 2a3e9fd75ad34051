"""The stories of real registries behind a GitLab in each mode: a choice of them; `make gitlab-tests` tells them all."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from regwarden.registries.api import Removal
from regwarden.testing.content import BuiltManifest
from tests.behind_gitlab import starting
from tests.e2e import test_cleanup_live
from tests.e2e.test_cleanup_races import Receiver, fill, picture, push, read, receiving, settled
from tests.fixtures.distribution_servers import StartRegistry
from tests.flows.cleaning import QUICK, Cleanup, attached
from tests.gitlab_double.modes import Mode, find_chosen_mode
from tests.live_registry import live_registry

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(find_chosen_mode() is not None, reason="all stories are told in that mode"),
]
NAME, TAGS = "team/app", [f"old-{number}" for number in range(24)]


# With the database: test_gitlab_cleanup. A plain registry: test_cleanup_live. Events: test_gitlab_events.
@pytest.mark.parametrize("mode", ["files"])
def test_a_plan_is_made_applied_taken_back_and_finished(mode: Mode, tmp_path: Path) -> None:
    story = test_cleanup_live.test_a_plan_is_made_applied_taken_back_and_finished_beside_the_service
    with starting(tmp_path, mode) as start, live_registry(tmp_path, start, is_hasty=True) as live:
        story(live)


async def test_what_is_pushed_to_a_tag_while_it_is_removed_alone_is_not_lost(tmp_path: Path) -> None:
    """With the database tags are removed; somebody lets each point elsewhere within milliseconds of its removal."""
    with starting(tmp_path, "database") as start:
        async with receiving() as receiver, aiohttp.ClientSession() as session:
            await _race_tags(start, receiver, session)


async def _race_tags(start: StartRegistry, receiver: Receiver, session: aiohttp.ClientSession) -> None:
    server = await asyncio.to_thread(start, notify=[{"url": receiver.url, "timeout": "2s", "threshold": 100}])
    others = {tag: picture(50, number) for number, tag in enumerate(TAGS)}
    content = {tag: picture(1, number) for number, tag in enumerate(TAGS)}
    content |= {tag.replace("old", "other"): built for tag, built in others.items()}
    await fill(session, f"{server.url}/v2/{NAME}", content)
    await settled(receiver)
    async with attached(server.url, ":memory:") as cleanup:
        receiver.cleanup = cleanup
        await cleanup.crawl()
        plan_id = await cleanup.save(cleanup.plan(cleanup.select(f"{NAME}:glob:old-*")), "ann")
        accepted = _let_race(cleanup, session, f"{server.url}/v2/{NAME}", others)
        report = await cleanup.apply(plan_id, replace(QUICK, linger_seconds=2, max_failures=1000))
        await settled(receiver)
        late = await cleanup.restore()
        assert report.problems == late.problems == ()
        lost = [tag for tag in accepted if await read(session, server.url, (NAME, tag)) != others[tag].payload]
        assert (len(accepted), lost) == (len(TAGS), [])
        assert report.restored_count + late.restored_count > 0
        await settled(receiver)
        receiver.cleanup = None


def _let_race(cleanup: Cleanup, session: aiohttp.ClientSession, url: str, others: dict[str, BuiltManifest]) -> set[str]:
    """Push another manifest to each tag about when it is removed; what was accepted is filled in."""
    chance, accepted = random.Random(7), set[str]()
    delete = cleanup.inventory.connector.delete_tag

    async def race(repository: str, tag: str) -> Removal:
        async def push_it() -> None:
            await asyncio.sleep(chance.random() * 0.004)
            if await push(session, url, others[tag], tag):
                accepted.add(tag)

        pushing = asyncio.ensure_future(push_it())
        await asyncio.sleep(chance.random() * 0.012)
        try:
            return await delete(repository, tag)
        finally:
            await pushing

    cleanup.inventory.connector.delete_tag = race  # type: ignore[method-assign]  # somebody works against us
    return accepted
