"""A crawl that is cut off, and one whose registry misbehaves: it goes on, and failure is never taken for emptiness."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import suppress

import pytest
from sqlalchemy import func, select

from regwarden.errors import Conflict, RegistryError
from regwarden.flows import reading
from regwarden.flows.crawl import Progress
from regwarden.registries.client.limits import Limits
from regwarden.store.schema import crawl_checkpoints, crawls, repositories, tags
from regwarden.testing.behaviour import Fault
from regwarden.testing.content import Content
from regwarden.testing.images import image, index, layer
from regwarden.testing.server import SampleRegistry
from tests.crawling import Inventory, open_inventory


def many_repositories() -> Content:
    content = Content()
    for number in range(30):
        repository = content.repository(f"team{number % 3}/app{number:02}")
        for release in range(5):
            repository.add(image([layer("base", 100), layer(f"{number} {release}", 10)]), f"1.{release}")
        repository.add(index([image([layer(f"{number} a", 5)]), image([layer(f"{number} b", 6)])]), "multi")
    return content


async def cancel_when(inventory: Inventory, is_time) -> None:
    """Crawl, and cut the crawl off as soon as its progress says that it is time."""
    loop = asyncio.get_running_loop()
    task: asyncio.Task[object]

    def watch(progress: Progress) -> None:
        if is_time(progress):
            loop.call_soon(task.cancel)

    task = asyncio.create_task(inventory.crawl(watch))
    with pytest.raises(asyncio.CancelledError):
        await task


def known_tags(inventory: Inventory) -> set[tuple[str, str]]:
    rows = inventory.rows(
        select(repositories.c.name.label("repository"), tags.c.name).select_from(tags.join(repositories))
    )
    return {(row["repository"], row["name"]) for row in rows}


async def test_an_interrupted_crawl_continues_where_it_stopped():
    content = many_repositories()
    async with SampleRegistry(content) as registry, open_inventory(registry.url) as inventory:
        await cancel_when(inventory, lambda progress: progress.repositories_done >= 12)
        done = {row["name"] for row in inventory.rows(select(repositories)) if row["state"] == "complete"}
        assert len(done) >= 12
        registry.forget()
        report = await inventory.crawl()
        assert report.state == "complete"
        assert report.certificate.was_resumed
        assert report.certificate.tag_count == 180
        asked = {request.path for request in registry.requests}
        assert not [name for name in done if any(path.startswith(f"/v2/{name}/") for path in asked)]
        assert len(known_tags(inventory)) == 180
        assert len(inventory.rows(select(crawls))) == 1


async def test_a_continued_crawl_does_not_read_the_tags_of_a_large_repository_again(monkeypatch):
    monkeypatch.setattr(reading, "CHUNK_TAG_COUNT", 20)
    content = Content()
    for number in range(200):
        content.repository("large/app").add(image([layer(f"layer {number}", 10)]), f"{number:03}")
    async with SampleRegistry(content) as registry, open_inventory(registry.url) as inventory:
        await cancel_when(inventory, lambda progress: progress.tags_done >= 100)
        assert inventory.rows(select(func.count().label("n")).select_from(crawl_checkpoints))[0]["n"] >= 100
        registry.forget()
        report = await inventory.crawl()
        assert report.certificate.tag_count == 200
        assert len([request for request in registry.requests if "/manifests/" in request.path]) <= 100
        assert inventory.rows(select(crawl_checkpoints)) == []


async def test_a_crawl_with_other_options_starts_afresh():
    async with SampleRegistry(many_repositories()) as registry, open_inventory(registry.url) as inventory:
        await cancel_when(inventory, lambda progress: progress.repositories_done >= 5)
        report = await inventory.crawl(verify=True)
        assert not report.certificate.was_resumed
        assert [row["state"] for row in inventory.rows(select(crawls).order_by(crawls.c.id))] == [
            "interrupted",
            "complete",
        ]


async def test_what_an_interrupted_crawl_found_gone_is_settled_by_the_one_that_continues_it():
    content = many_repositories()
    async with SampleRegistry(content) as registry, open_inventory(registry.url) as inventory:
        await inventory.crawl()
        for number in range(30):
            del content.repository(f"team{number % 3}/app{number:02}").tags["1.0"]
        await cancel_when(inventory, lambda progress: progress.repositories_done >= 12)
        assert len(known_tags(inventory)) == 180
        report = await inventory.crawl()
        assert report.certificate.gone_tag_count == 30
        assert len(known_tags(inventory)) == 150


async def test_one_registry_is_crawled_once_at_a_time():
    async with SampleRegistry(many_repositories()) as registry, open_inventory(registry.url) as inventory:
        first = asyncio.create_task(inventory.crawl())
        await asyncio.sleep(0)
        with pytest.raises(Conflict):
            await inventory.crawl()
        assert (await first).state == "complete"


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_fails_nothing_known_is_lost_and_nothing_partial_is_called_complete(seed):
    """Random failures of random requests, more than retries can hide."""
    dice = random.Random(seed)
    content = many_repositories()
    limits = Limits(retries=1, retry_wait_seconds=0.01)
    async with SampleRegistry(content) as registry, open_inventory(registry.url, limits=limits) as inventory:
        if dice.random() < 0.7:
            await inventory.crawl()
        before = known_tags(inventory)
        victims = [f"/v2/{name}/.*" for name in dice.sample(sorted(content.repositories), 4)]
        patterns = [*victims, dice.choice(["/v2/_catalog", "/v2/team0/.*/tags/list", "/v2/team1/.*/manifests/1.1"])]
        for pattern in patterns:
            status = dice.choice([0, 401, 403, 429, 500, 502, 503])
            registry.behaviour.faults["GET", pattern] = [Fault(status)] * dice.randint(1, 30)
        state = "failed"
        with suppress(RegistryError):
            state = (await inventory.crawl()).state
        assert before <= known_tags(inventory)
        everything = {(name, tag) for name, found in content.repositories.items() for tag in found.tags}
        assert state != "complete" or known_tags(inventory) == everything
        registry.behaviour.faults.clear()
        assert (await inventory.crawl()).state == "complete"
        assert known_tags(inventory) == everything


async def test_progress_is_told_from_beginning_to_end():
    seen: list[Progress] = []
    async with SampleRegistry(many_repositories()) as registry, open_inventory(registry.url) as inventory:
        await inventory.crawl(seen.append)
    phases = list(Counter(progress.phase for progress in seen))
    assert phases == ["listing", "reading", "sizes", "done"]
    last = seen[-1]
    assert (last.repositories_done, last.repositories_total) == (30, 30)
    assert (last.tags_done, last.tags_total, last.manifests_fetched) == (180, 180, 240)
