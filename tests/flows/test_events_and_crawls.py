"""Events and crawls, interleaved, lost, late, repeated, cut off: after a quiet crawl the inventory is the registry."""

from __future__ import annotations

import asyncio
import copy
import random
import tempfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from sqlalchemy import select

from regwarden import clock
from regwarden.store.schema import manifests, repositories, tags
from regwarden.testing.content import BuiltManifest, Content
from regwarden.testing.images import image, layer
from regwarden.testing.server import running_sample_registry
from tests.crawling import Inventory, open_inventory
from tests.flows.noting import note, pushed

REPOSITORIES = ("team/app", "team/web")
TAGS = ("1.0", "2.0", "latest")
IMAGES = tuple(image([layer(f"layer {number}", 100 + number)]) for number in range(3))


class EventsAndCrawls(RuleBasedStateMachine):
    """A registry that people work with, a sender that loses and repeats, a crawler, and crashes."""

    @initialize(seed=st.integers(0, 2**16))
    def start(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.folder = tempfile.TemporaryDirectory()
        self.content = Content()
        self.registry = running_sample_registry(self.content)
        self.url = self.registry.__enter__().url
        self.runner = asyncio.Runner()
        self.moment = clock.now() - timedelta(days=1)
        self.waiting: list[dict[str, Any]] = []
        self.sent: list[dict[str, Any]] = []
        self.numbers = 0
        self.open()

    def open(self) -> None:
        address = f"sqlite:///{Path(self.folder.name) / 'inventory.sqlite3'}"
        self.opened = open_inventory(self.url, address, now=self.now)
        self.inventory: Inventory = self.runner.run(self.opened.__aenter__())

    def now(self) -> datetime:
        return self.moment

    def teardown(self) -> None:
        if not hasattr(self, "opened"):
            return
        try:
            self.settle()
        finally:
            self.runner.run(self.opened.__aexit__(None, None, None))
            self.runner.close()
            self.registry.__exit__(None, None, None)
            self.folder.cleanup()

    def pass_time(self) -> None:
        self.moment += timedelta(seconds=self.chance.choice((1, 5, 30, 90, 600)))

    def emit(self, event: dict[str, Any]) -> None:
        self.numbers += 1
        self.waiting.append(event | {"id": f"event-{self.numbers}", "timestamp": self.moment.isoformat()})

    @rule(repository=st.sampled_from(REPOSITORIES), tag=st.sampled_from(TAGS), built=st.sampled_from(IMAGES))
    def push(self, repository: str, tag: str, built: BuiltManifest) -> None:
        self.pass_time()
        # As Distribution does: the event comes first, then the tag is written.
        self.emit(pushed(self.inventory, repository, built, tag))
        self.content.repository(repository).add(built, tag)

    @rule(repository=st.sampled_from(REPOSITORIES), tag=st.sampled_from(TAGS))
    def push_and_take_back(self, repository: str, tag: str) -> None:
        """A tag is moved and moved back, and the second event is lost: only a crawl can know."""
        old = self.content.repository(repository).tags.get(tag)
        known = next((built for built in IMAGES if built.digest == old), None)
        if known is not None:
            self.push(repository, tag, next(built for built in IMAGES if built is not known))
            self.push(repository, tag, known)
            self.waiting.pop()

    @rule(repository=st.sampled_from(REPOSITORIES), number=st.integers(0, 2))
    def delete(self, repository: str, number: int) -> None:
        self.pass_time()
        digest = IMAGES[number].digest
        held = self.content.repository(repository)
        if held.find_manifest(str(digest)) is None:
            return
        template = pushed(self.inventory, repository, IMAGES[number]) | {"action": "delete"}
        self.emit(template | {"target": {"repository": repository, "digest": str(digest)}})
        for tag in held.delete_manifest(digest):
            self.emit(template | {"target": {"repository": repository, "tag": tag}})

    @precondition(lambda self: self.waiting)
    @rule()
    def deliver(self) -> None:
        """Some of what waits arrives, in any order, perhaps with something that arrived before."""
        self.pass_time()
        chosen = self.chance.sample(self.waiting, self.chance.randint(1, len(self.waiting)))
        self.waiting = [event for event in self.waiting if event not in chosen]
        again = self.chance.sample(self.sent, min(len(self.sent), self.chance.randint(0, 2)))
        self.sent += chosen
        self.runner.run(note(self.inventory, [copy.deepcopy(event) for event in (*chosen, *again)]))

    @precondition(lambda self: self.waiting)
    @rule()
    def lose(self) -> None:
        self.waiting.pop(self.chance.randrange(len(self.waiting)))

    @rule()
    def crawl(self) -> None:
        self.pass_time()
        self.runner.run(self.inventory.crawl(accept_disappearance=True))

    @rule()
    def crash_while_applying(self) -> None:
        """The process ends in the middle of a piece: nothing of it is there, and it is done again."""
        if not self.waiting:
            return
        chosen, self.waiting = self.waiting[:2], self.waiting[2:]
        self.sent += chosen
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("regwarden.store.applying._mark", _crash)
            with pytest.raises(RuntimeError, match="crash"):
                self.runner.run(note(self.inventory, chosen))
        self.runner.run(self.opened.__aexit__(None, None, None))
        self.open()
        self.runner.run(note(self.inventory, []))

    def settle(self) -> None:
        """Everything is quiet for a while; then a crawl, then what was late arrives after all."""
        self.moment += timedelta(minutes=10)
        self.runner.run(self.inventory.crawl(accept_disappearance=True))
        assert self.present() == self.expected()
        late, self.waiting = self.waiting, []
        self.moment += timedelta(minutes=10)
        self.runner.run(note(self.inventory, late))
        assert self.present() == self.expected()

    def present(self) -> dict[tuple[str, str], str]:
        rows = self.inventory.rows(
            select(repositories.c.name, tags.c.name.label("tag"), manifests.c.digest)
            .select_from(tags.join(repositories).join(manifests, manifests.c.id == tags.c.manifest_id))
            .where(tags.c.state == "ok")
        )
        return {(row["name"], row["tag"]): row["digest"][1:].hex() for row in rows}

    def expected(self) -> dict[tuple[str, str], str]:
        return {
            (name, tag): digest.hex
            for name in REPOSITORIES
            for tag, digest in self.content.repository(name).tags.items()
        }


def _crash(*_: object) -> None:
    raise RuntimeError("crash")


TestEventsAndCrawls = pytest.mark.timeout(300)(EventsAndCrawls.TestCase)
TestEventsAndCrawls.settings = settings(
    max_examples=25, stateful_step_count=14, deadline=None, suppress_health_check=list(HealthCheck)
)
