"""Readings published beside events, on both databases: what is weighed, what is drift, and how much is lost."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import insert, select

from regwarden.core.drift import crawl_margin, loss_rate
from regwarden.core.history import CRAWL_MARGIN
from regwarden.core.oci.digests import Digest
from regwarden.store.crawls import BegunCrawl
from regwarden.store.drifts import loss_report
from regwarden.store.event_schema import drifts, rereads
from regwarden.store.inventory import Naming, RepositoryReading, TagReading
from regwarden.store.publishing import publish
from regwarden.store.schema import (
    crawls,
    manifests,
    registries,
    removals,
    repositories,
    repository_manifests,
    tag_history,
    tags,
)
from regwarden.store.settling import settle_vanished
from regwarden.store.tag_state import resolve_tags
from regwarden.store.times import to_micros

START = datetime(2026, 11, 1, tzinfo=UTC)
NAME = "team/app"


def digest(seed: object) -> Digest:
    return Digest.of(str(seed).encode())


class World:
    """A registry as tags of one repository, its inventory, and the events that reach it."""

    def __init__(self, database) -> None:
        self.database = database
        self.crawl_id = 0

        def begin(connection) -> int:
            row = {"name": "prod", "url": "https://r.example", "kind": "distribution", "first_seen_at": 0}
            statement = insert(registries).values(row | {"events_since": 0}).returning(registries.c.id)
            return connection.execute(statement).scalar_one()

        self.registry_id = database.write_now(begin)

    def know(self, digests) -> None:
        rows = [
            {"digest": one.to_bytes(), "state": "read", "media_type": "", "size_bytes": 1, "blob_ids": b""}
            for one in sorted(set(digests))
        ]
        known = {row["digest"] for row in self.rows(select(manifests.c.digest))}
        rows = [row for row in rows if row["digest"] not in known]
        if rows:
            self.database.write_now(lambda connection: connection.execute(insert(manifests), rows))

    def rows(self, statement):
        return self.database.read_now(
            lambda connection: [dict(row) for row in connection.execute(statement).mappings()]
        )

    def crawl(
        self, found: dict[str, Digest], at: datetime, *, vanished=(), state: str = "complete", again: bool = False
    ):
        self.know(found.values())

        def begin(connection) -> int:
            values = {"registry_id": self.registry_id, "state": "complete", "started_at": to_micros(at)}
            return connection.execute(insert(crawls).values(values).returning(crawls.c.id)).scalar_one()

        if not again:
            self.crawl_id = self.database.write_now(begin)
        reading = RepositoryReading(
            registry_id=self.registry_id,
            crawl_id=self.crawl_id,
            name=NAME,
            catalog_position=0,
            state=state,
            started_at=at,
            naming=Naming(self.registry_id, at),
            tags={tag: TagReading(one, "ok", at) for tag, one in found.items()},
            vanished=tuple(vanished),
            manifests=frozenset(found.values()),
        )
        return asyncio.run(publish(self.database, reading, lambda: at + timedelta(seconds=1)))

    def tell(self, told: dict[str, Digest | None], at: datetime) -> None:
        """Let events say what tags point to (``None``: deleted)."""
        self.know(one for one in told.values() if one is not None)
        repository_id = self.rows(select(repositories.c.id))[0]["id"]
        points = [
            {
                "repository_id": repository_id,
                "tag": tag,
                "at": to_micros(at),
                "effective_at": to_micros(at),
                "digest": one.to_bytes() if one is not None else b"",
                "cause": "event",
            }
            for tag, one in told.items()
        ]

        def apply(connection) -> None:
            connection.execute(insert(tag_history), points)
            resolve_tags(connection, repository_id, list(told))

        self.database.write_now(apply)

    def tags(self) -> dict[str, bytes]:
        found = select(tags.c.name, manifests.c.digest).join(manifests, manifests.c.id == tags.c.manifest_id)
        return {row["name"]: bytes(row["digest"]) for row in self.rows(found)}

    def drifts(self) -> list[tuple[str, str]]:
        return [(row["kind"], row["tag"]) for row in self.rows(select(drifts).order_by(drifts.c.tag, drifts.c.id))]

    def loss(self):
        return self.database.read_now(lambda connection: loss_report(connection, self.registry_id, since=START))


@pytest.fixture
def world(database) -> World:
    return World(database)


def minutes(count: float) -> datetime:
    return START + timedelta(minutes=count)


def test_the_margin_grows_with_a_skew_that_can_be_measured():
    assert crawl_margin(None) == CRAWL_MARGIN
    assert crawl_margin(timedelta(seconds=-1.9)) == CRAWL_MARGIN
    assert crawl_margin(timedelta(seconds=-30)) == CRAWL_MARGIN + timedelta(seconds=30)
    assert crawl_margin(timedelta(seconds=30)) == CRAWL_MARGIN + timedelta(seconds=30)


def test_without_any_change_there_is_no_loss_rate():
    assert loss_rate(0, 0) is None
    assert loss_rate(3, 1) == 0.25


def test_what_no_event_told_of_is_drift_by_kind_and_heals(world):
    world.crawl({"same": digest(0), "moved": digest(1), "told": digest(2), "back": digest(3)}, minutes(0))
    world.tell({"told": digest(22), "back": None}, minutes(5))
    found = {"same": digest(0), "moved": digest(11), "told": digest(22), "back": digest(3), "new": digest(5)}
    published = world.crawl(found, minutes(10))
    assert world.drifts() == [("missed-restore", "back"), ("missed-move", "moved"), ("missed-push", "new")]
    assert (published.confirmed_count, published.drift_count) == (1, 3)
    assert world.tags() == {tag: one.to_bytes() for tag, one in found.items()}
    report = world.loss()
    assert (report.confirmed_count, report.missed_count, report.rate) == (1, 3, 0.75)
    assert report.kinds == {"missed-restore": 1, "missed-move": 1, "missed-push": 1}


def test_a_tag_that_is_gone_is_a_missed_deletion_once(world):
    world.crawl({"a": digest(0), "b": digest(1)}, minutes(0))
    world.crawl({"a": digest(0)}, minutes(10), vanished=["b"])
    world.crawl({"a": digest(0)}, minutes(11), vanished=["b"], again=True)  # as after a crash
    assert world.drifts() == [("missed-delete", "b")]
    assert bytes(world.rows(select(drifts))[0]["expected"]) == digest(1).to_bytes()
    settle(world)
    assert set(world.tags()) == {"a"}


def test_a_tag_that_an_event_told_of_since_is_not_marked_as_vanished(world):
    world.crawl({"a": digest(0), "b": digest(1)}, minutes(0))
    world.tell({"b": digest(2)}, minutes(9.5))
    world.crawl({"a": digest(0)}, minutes(10), vanished=["b"])
    assert [row["vanished_in"] for row in world.rows(select(tags))] == [None, None]
    assert world.drifts() == []
    due = world.rows(select(rereads))
    assert [(row["reason"], row["due_at"]) for row in due] == [
        ("crawl-disagrees", to_micros(minutes(10.5) + timedelta(seconds=5)))
    ]


def test_a_partial_reading_heals_but_proves_nothing(world):
    world.crawl({"a": digest(0)}, minutes(0))
    world.tell({"a": digest(1)}, minutes(5))
    published = world.crawl({"a": digest(1), "b": digest(2)}, minutes(10), state="partial")
    assert (published.confirmed_count, published.drift_count) == (0, 0)
    assert world.tags() == {"a": digest(1).to_bytes(), "b": digest(2).to_bytes()}
    assert world.rows(select(repositories.c.settled_at))[0]["settled_at"] == to_micros(minutes(0) - CRAWL_MARGIN)


def test_readings_in_quick_succession_stay_in_order_whatever_skew_was_measured(world):
    world.crawl({"a": digest(0)}, minutes(0))
    reading = RepositoryReading(
        registry_id=world.registry_id,
        crawl_id=world.crawl_id,
        name=NAME,
        catalog_position=0,
        state="complete",
        started_at=minutes(0.1),
        naming=Naming(world.registry_id, minutes(0.1)),
        tags={"a": TagReading(digest(1), "ok", minutes(0.1))},
        margin=CRAWL_MARGIN + timedelta(minutes=5),
    )
    world.know([digest(1)])
    asyncio.run(publish(world.database, reading, lambda: minutes(1)))
    repository_id = world.rows(select(repositories.c.id))[0]["id"]
    world.database.write_now(lambda connection: resolve_tags(connection, repository_id, ["a"]))
    assert world.tags() == {"a": digest(1).to_bytes()}


def test_a_manifest_that_was_deleted_and_is_found_is_there_again(world):
    world.crawl({"a": digest(0)}, minutes(0))
    repository_id = world.rows(select(repositories.c.id))[0]["id"]

    def remove(connection) -> None:
        row = {"repository_id": repository_id, "digest": digest(0).to_bytes(), "at": to_micros(minutes(5))}
        connection.execute(insert(removals), [row])
        connection.execute(repository_manifests.update().values(deleted_at=to_micros(minutes(5))))

    world.database.write_now(remove)
    world.crawl({"a": digest(0)}, minutes(5.5))  # too near to overrule it
    assert world.rows(select(repository_manifests))[0]["deleted_at"] is not None
    world.crawl({"a": digest(0)}, minutes(10))
    assert world.rows(select(repository_manifests))[0]["deleted_at"] is None


@pytest.mark.parametrize("loss", [0.0, 0.1, 0.5])
def test_the_loss_of_events_is_estimated_within_two_points(world, loss):
    """Tags are pushed, moved and deleted between crawls; each event is lost with the same chance."""
    chance = random.Random(f"loss {loss}")
    found = {f"t{number:04}": digest(number) for number in range(1500)}
    world.crawl(found, minutes(0))
    lost_count = change_count = serial = 0
    for turn in range(1, 4):
        told: dict[str, Digest | None] = {}
        state: dict[str, Digest | None] = dict(found)
        for tag in chance.sample(sorted(found), 700):
            serial += 1
            new = None if chance.random() < 0.2 else digest(f"move {turn} {serial}")
            state[tag] = new
            change_count += 1
            if chance.random() < loss:
                lost_count += 1
            else:
                told[tag] = new
        for number in range(300):
            tag = f"new {turn} {number}"
            state[tag] = digest(tag)
            change_count += 1
            if chance.random() < loss:
                lost_count += 1
            else:
                told[tag] = state[tag]
        found = {tag: one for tag, one in state.items() if one is not None}
        world.tell(told, minutes(30 * turn - 10))
        vanished = sorted(set(world.tags()) - set(found))
        published = world.crawl(found, minutes(30 * turn), vanished=vanished)
        assert published.confirmed_count <= len(told)
        settle(world)
        assert world.tags() == {tag: one.to_bytes() for tag, one in found.items()}
    report = world.loss()
    assert change_count == 3000
    assert report.confirmed_count + report.missed_count == change_count
    assert report.rate == pytest.approx(lost_count / change_count, abs=0.02)
    assert report.rate == pytest.approx(loss, abs=0.02)


def settle(world: World) -> None:
    started = world.rows(select(crawls.c.started_at).where(crawls.c.id == world.crawl_id))[0]["started_at"]
    begun = BegunCrawl(
        crawl_id=world.crawl_id,
        registry_id=world.registry_id,
        started_at=datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=started),
        was_resumed=False,
        is_first=False,
        endpoint_changed=False,
        capabilities={},
        done=frozenset(),
        naming=Naming(world.registry_id, minutes(0)),
    )
    asyncio.run(settle_vanished(world.database, begun, CRAWL_MARGIN))
