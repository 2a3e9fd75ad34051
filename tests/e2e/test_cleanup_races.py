"""Somebody pushes what is being deleted, image by image, at a real registry: nothing it accepted stays lost."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from sqlalchemy import insert

from regwarden import clock
from regwarden.core.oci.digests import Digest
from regwarden.core.plan import GuardCode
from regwarden.errors import RegistryError, RegistryMissing
from regwarden.registries.api import FetchedManifest, Removal
from regwarden.store.event_schema import deliveries
from regwarden.store.times import to_micros
from regwarden.testing.content import Blob, BuiltManifest
from regwarden.testing.images import image, image_config, real_layer
from tests.crawling import NAME
from tests.flows.cleaning import QUICK, Cleanup, attached
from tests.gitlab_double.modes import find_chosen_mode

pytestmark = pytest.mark.e2e

# About half of the pushes meet their deletion: thirty and more races of each run.
REPOSITORY_COUNT, IMAGE_COUNT = 8, 10
SHARED = real_layer(b"a layer that all images share")


@pytest.fixture(autouse=True)
def _impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A deletion that broke off is looked at as soon as the registry has told of who raced it: see ``let_race``."""
    monkeypatch.setattr("regwarden.flows.apply_steps._PAUSE_SECONDS", 0.02)


@dataclass
class Receiver:
    """Takes the registry's notifications in as a service does: they are stored before it is answered."""

    url: str = ""
    cleanup: Cleanup | None = None
    count: int = 0
    pushed: set[tuple[str, str]] = field(default_factory=set)  # repository and tag

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.count += 1
        if self.cleanup is not None:
            row = {
                "registry": NAME,
                "received_at": to_micros(clock.now()),
                "sender": "127.0.0.1",
                "state": "pending",
                "body_bytes": len(body),
                "body": body,
            }
            await self.cleanup.database.write(lambda connection: connection.execute(insert(deliveries), row))
        for event in json.loads(body)["events"]:
            if event["action"] == "push":
                self.pushed.add((event["target"]["repository"], event["target"].get("tag", "")))
        return web.Response()


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    application = web.Application()
    application.router.add_post("/", receiver.take)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    try:
        yield receiver
    finally:
        await runner.cleanup()


def picture(repository: int, number: int) -> BuiltManifest:
    return image([SHARED], image_config(labels={"of": f"{repository} {number}"}))


async def push(session: aiohttp.ClientSession, url: str, built: BuiltManifest, reference: str) -> bool:
    """Whether the registry accepted a manifest whose blobs it has."""
    place = f"{url}/manifests/{reference}"
    async with session.put(place, data=built.payload, headers={"Content-Type": built.media_type}) as answer:
        return answer.status == 201


async def fill(session: aiohttp.ClientSession, url: str, tags: dict[str, BuiltManifest]) -> None:
    for tag, built in {**tags, "stays": picture(99, 0)}.items():
        for blob in built.blobs if tag in ("old-0", "stays") else built.blobs[:1]:
            await upload(session, url, blob)
        assert await push(session, url, built, tag)


async def upload(session: aiohttp.ClientSession, url: str, blob: Blob) -> None:
    async with session.post(f"{url}/blobs/uploads/") as answer:
        place = answer.headers["Location"]
    body, headers = b"".join(blob.chunks()), {"Content-Type": "application/octet-stream"}
    async with session.put(f"{place}&digest={blob.digest}", data=body, headers=headers) as answer:
        assert answer.status == 201


@pytest.mark.parametrize("kind", ["docker_registry", "distribution3"])
async def test_pushes_that_race_deletions_are_not_lost(kind: str, request: pytest.FixtureRequest) -> None:
    start = request.getfixturevalue(kind)
    images = {
        f"team/app{repository}": {f"old-{number}": picture(repository, number) for number in range(IMAGE_COUNT)}
        for repository in range(REPOSITORY_COUNT)
    }
    async with receiving() as receiver, aiohttp.ClientSession() as session:
        endpoint = {"url": receiver.url, "timeout": "2s", "threshold": 100, "backoff": "50ms"}
        server = await asyncio.to_thread(start, notify=[endpoint])
        await asyncio.gather(*(fill(session, f"{server.url}/v2/{name}", tags) for name, tags in images.items()))
        await settled(receiver)
        async with attached(server.url, ":memory:") as cleanup:
            receiver.cleanup = cleanup
            await cleanup.crawl()
            plan_id = await cleanup.save(cleanup.plan(cleanup.select(*(f"{one}:glob:old-*" for one in images))), "ann")
            accepted = let_race(cleanup, session, server.url, images, receiver.pushed)
            report = await cleanup.apply(plan_id, replace(QUICK, linger_seconds=2, max_failures=1000))
            await settled(receiver)
            late = await cleanup.restore()
            assert report.problems == late.problems == ()
            assert report.results.get("pending", 0) == 0
            # Many of them did lose something, or this would prove nothing.
            assert report.restored_count + late.restored_count >= 10
            lost = [name for name, built in accepted.items() if await read(session, server.url, name) != built.payload]
            assert (len(accepted) > 50, lost) == (True, [])
            await check_what_stays(cleanup, images)
            await settled(receiver)
            receiver.cleanup = None


async def test_without_notifications_a_crawl_brings_back_what_it_finds_dangling(docker_registry: Any) -> None:
    """About half of what is lost leaves its tag in the listing; only of that a crawl can know."""
    images = {
        f"team/app{repository}": {f"old-{number}": picture(repository, number) for number in range(IMAGE_COUNT)}
        for repository in range(REPOSITORY_COUNT)
    }
    server = await asyncio.to_thread(docker_registry)
    async with aiohttp.ClientSession() as session, attached(server.url, ":memory:") as cleanup:
        await asyncio.gather(*(fill(session, f"{server.url}/v2/{name}", tags) for name, tags in images.items()))
        await cleanup.crawl()
        plan_id = await cleanup.save(cleanup.plan(cleanup.select(*(f"{one}:glob:old-*" for one in images))), "ann")
        accepted = let_race(cleanup, session, server.url, images)
        waived = frozenset({GuardCode.NO_LIVE_EVENTS})
        report = await cleanup.apply(plan_id, replace(QUICK, max_failures=1000, waived=waived))
        assert report.can_miss_races
        await cleanup.read_all()
        found = await cleanup.restore()
        assert found.problems == ()
        # Behind a GitLab the ways are longer, and fewer of them meet.
        assert found.restored_count >= (3 if find_chosen_mode() is None else 1)
        lost = {name for name, built in accepted.items() if await read(session, server.url, name) != built.payload}
        listed = {(one, tag) for one in images for tag in (await cleanup.others.list_tags(one)).tags}
        for name in sorted(lost & listed):  # where the two met within the tag's own folder not even a digest is left
            with pytest.raises(RegistryMissing) as caught:
                await cleanup.others.fetch_manifest(*name)
            assert caught.value.named == ()
        assert (await cleanup.restore()).restored_count == 0


def let_race(
    cleanup: Cleanup,
    session: aiohttp.ClientSession,
    url: str,
    images: dict[str, dict[str, BuiltManifest]],
    told: set[tuple[str, str]] | None = None,
) -> dict[tuple[str, str], BuiltManifest]:
    """Push each manifest under a new tag within milliseconds of its deletion; what was accepted is filled in.

    A deletion that broke off ends when the push is in ``told``, if anybody is told.
    """
    chance = random.Random(7)
    by_digest = {
        (repository, built.digest): (tag, built) for repository, tags in images.items() for tag, built in tags.items()
    }
    accepted: dict[tuple[str, str], BuiltManifest] = {}
    delete = cleanup.inventory.connector.delete_manifest

    async def race(repository: str, digest: Digest) -> Removal:
        tag, built = by_digest[repository, digest]
        new = tag.replace("old", "new")

        async def push_it() -> None:
            await asyncio.sleep(chance.random() * 0.004)
            if await push(session, f"{url}/v2/{repository}", built, new):
                accepted[repository, new] = built

        pushing = asyncio.ensure_future(push_it())
        await asyncio.sleep(chance.random() * 0.008)
        try:
            return await delete(repository, digest)
        except RegistryError:
            await pushing
            if told is not None and (repository, new) in accepted:
                await asyncio.wait_for(become_known((repository, new), told), 20)
            raise
        finally:
            await pushing

    cleanup.inventory.connector.delete_manifest = race  # type: ignore[method-assign]  # somebody works against us
    return accepted


async def become_known(name: tuple[str, str], told: set[tuple[str, str]]) -> None:
    while name not in told:
        await asyncio.sleep(0.005)


async def settled(receiver: Receiver) -> None:
    """Wait until no more notifications come in."""
    before = -1
    while before != receiver.count:
        before = receiver.count
        await asyncio.sleep(0.7)


async def read(session: aiohttp.ClientSession, url: str, name: tuple[str, str]) -> bytes:
    headers = {"Accept": "*/*, application/vnd.oci.image.manifest.v1+json"}
    async with session.get(f"{url}/v2/{name[0]}/manifests/{name[1]}", headers=headers) as answer:
        return await answer.read()


async def check_what_stays(cleanup: Cleanup, images: dict[str, dict[str, BuiltManifest]]) -> None:
    """Old tags are gone, but where a deletion broke off and was reverted; the inventory says what the registry has."""
    for repository in images:
        listing: Any = await cleanup.others.list_tags(repository)
        found: dict[str, str] = {}
        for tag in listing.tags:
            try:
                answer = await cleanup.others.fetch_manifest(repository, tag)
            except RegistryError:
                continue
            assert isinstance(answer, FetchedManifest)
            found[tag] = str(answer.digest)
        assert all(tag.replace("old", "new") in found for tag in found)
        assert "stays" in found
        assert cleanup.known_tags(repository) == found
