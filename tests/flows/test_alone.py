"""One plan at a time in each registry, and steps that are ended whole however often they are cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from regwarden.errors import Conflict
from regwarden.flows.alone import alone
from regwarden.flows.apply_steps import finish_whole
from regwarden.flows.undoing import undo_plan
from regwarden.testing.content import Content
from tests.flows.cleaning import Cleanup, cleaning, picture


@pytest.fixture
async def cleanup() -> AsyncIterator[Cleanup]:
    content = Content()
    for tag in ("1.0", "1.1", "2.0"):
        content.repository("app").add(picture(tag), tag)
    async with cleaning(content) as cleanup:
        await cleanup.crawl()
        yield cleanup


async def test_two_plans_of_one_registry_do_not_run_at_once(cleanup: Cleanup) -> None:
    first, second = [await cleanup.save(cleanup.plan(cleanup.select(f"app:1.{one}")), "ann") for one in (0, 1)]
    assert (await cleanup.apply(first)).results == {"done": 1}
    async with alone(cleanup.database, second):
        for refused in (cleanup.apply(second), undo_plan(cleanup.services, first, principal="ann")):
            with pytest.raises(Conflict) as caught:
                await refused
            assert caught.value.code == "database-busy"
    assert cleanup.tags("app").keys() == {"1.1", "2.0"}
    assert (await undo_plan(cleanup.services, first, principal="ann")).state == "undone"
    assert (await cleanup.apply(second)).results == {"done": 1}


async def test_what_is_to_be_finished_is_finished_although_it_is_cancelled_twice() -> None:
    is_done = asyncio.Event()

    async def work() -> None:
        await asyncio.sleep(0.05)
        is_done.set()

    running = asyncio.ensure_future(finish_whole(work()))
    for _ in range(2):
        await asyncio.sleep(0.01)
        running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert is_done.is_set()


async def test_what_fails_while_it_is_finished_fails() -> None:
    async def work() -> None:
        raise Conflict("no")

    with pytest.raises(Conflict, match="no"):
        await finish_whole(work())
