"""Is the history that a backtest walks along what the inventory was at each moment?"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from regwarden.core.backtest_world import World, list_happenings
from regwarden.core.observed import Needs, ObservedRepository
from regwarden.core.recorded import RecordedRepository
from regwarden.store import schema
from regwarden.store.database import Database
from regwarden.store.observed import load_repository
from regwarden.store.recorded import find_pinned, history_begin, iterate_recorded, load_sizes
from regwarden.store.times import to_micros
from tests.notifications import START, apply_all, digest_of, envelope, pull, push, remove, store_bodies, untag
from tests.store.random_registries import RegistryWriter, make_registry
from tests.store.test_observed import execute, list_children, settle
from tests.store.test_time_travel import SPAN, make_log, minute, write_log

NAME = "team/app"
DAY_MINUTES = 1440
RECEIVED = START + timedelta(days=400)
EVERYTHING: Callable[[str], bool] = lambda _: True  # noqa: E731 - a name for it
ALL_NEEDS = Needs(labels=True, pulls=True)


def load_recorded(database: Database, registry: str = "prod", name: str = NAME) -> RecordedRepository:
    def read(connection: Any) -> RecordedRepository:
        return next(iter(iterate_recorded(connection, registry, name.__eq__, ALL_NEEDS)))

    return database.read_now(read)


def world_at(recorded: RecordedRepository, moment: datetime) -> ObservedRepository:
    world = World(recorded)
    assert not world.advance([one for one in list_happenings(recorded) if one[0] <= moment])
    return world.observe(recorded.doubt)


def random_event(dice: random.Random, at: float) -> dict[str, Any]:
    tag, number = dice.choice(["a", "b", "c"]), dice.randint(1, 4)
    return dice.choice(
        [
            push(NAME, tag, number, at),
            push(NAME, tag, number, at),
            push(NAME, None, number, at),
            pull(NAME, dice.choice([None, tag]), number, at, agent=dice.choice(["ci/1", "scanner/2"])),
            untag(NAME, tag, at),
            remove(NAME, number, at),
        ]
    )


@pytest.mark.parametrize("seed", range(4))
def test_at_each_moment_the_world_is_what_the_inventory_was_then(database: Database, seed: int) -> None:
    dice = random.Random(seed)
    first = [push(NAME, tag, number, 0) for number, tag in enumerate("abc", 1)] + [push(NAME, None, 4, 0)]
    seen: list[tuple[datetime, ObservedRepository | None]] = []
    for day in range(30):
        found = first if not day else [random_event(dice, day * DAY_MINUTES)]
        store_bodies(database, [envelope(one) for one in found], received_at=RECEIVED)
        apply_all(database, now=RECEIVED)
        settle(database)
        if not day:
            list_children(database, 4, 1)
        now = START + timedelta(days=day)
        seen.append(
            (now, database.read_now(lambda connection: load_repository(connection, "prod", NAME, ALL_NEEDS, RECEIVED)))
        )
    recorded = load_recorded(database)
    for now, expected in seen:
        world = world_at(recorded, now)
        if expected is None:
            assert not world.tags
            continue
        assert sorted(world.tags) == sorted(expected.tags), now
        # No registry takes an index without what it lists; the inventory waits until it is told.
        brought = {child for one in expected.manifests.values() for child in one.children}
        assert world.manifests.keys() - brought == expected.manifests.keys() - brought
        for digest in expected.manifests:
            assert world.manifests[digest] == expected.manifests[digest], (now, digest)


@pytest.mark.parametrize("seed", range(8))
def test_what_crawls_events_and_removals_left_is_replayed(database: Database, seed: int) -> None:
    facts = make_registry(seed)
    facts = replace(
        facts, repositories=tuple(replace(one, tags={}, manifests=frozenset()) for one in facts.repositories)
    )
    log = make_log(seed, facts)
    written: dict[str, int] = {}

    def write(connection: Any) -> None:
        made = RegistryWriter(connection, seed).write(facts)
        write_log(connection, log, facts, made)
        written.update(made.manifests)

    database.write_now(write)
    digests = database.read_now(
        lambda connection: dict(connection.execute(select(schema.manifests.c.digest, schema.manifests.c.id)).all())
    )
    names = {
        f"sha256:{digest[1:].hex()}": name
        for digest, key in digests.items()
        for name in written
        if written[name] == key
    }
    histories = database.read_now(lambda connection: list(iterate_recorded(connection, "r1", EVERYTHING, Needs())))
    assert [one.name for one in histories] == sorted(one.name for one in facts.repositories)
    for moment in range(SPAN + 1):
        tags, here = log.tags_at(moment), log.manifests_at(moment)
        for recorded in histories:
            world = world_at(recorded, minute(moment))
            found = {(recorded.name, one.name, names[one.digest or ""]) for one in world.tags}
            assert found == {one for one in tags if one[0] == recorded.name}
            expected = {manifest for repository, manifest in here if repository == recorded.name}
            brought = {child for name in expected for child in facts.manifests[name].children}
            brought |= {child for name in brought for child in facts.manifests[name].children}
            assert {names[digest] for digest in world.manifests} - brought == expected - brought


def test_sizes_are_of_documents_and_blobs_and_what_others_hold_is_pinned(database: Database) -> None:
    facts = make_registry(5)
    made: dict[str, Any] = {}
    database.write_now(lambda connection: made.update(written=RegistryWriter(connection).write(facts)))
    ids = made["written"].manifests
    histories = database.read_now(lambda connection: list(iterate_recorded(connection, "r1", EVERYTHING, Needs())))
    numbers = {
        number for one in histories for digest in world_at(one, minute(0)).manifests for number in one.contents[digest]
    }
    sizes = database.read_now(lambda connection: load_sizes(connection, numbers))
    held = {name for one in facts.repositories for name in one.manifests}
    blobs = {blob for name in held for blob in (*facts.manifests[name].layers, *facts.manifests[name].others)}
    expected = sum(facts.manifests[name].size_bytes for name in held) + sum(facts.blob_sizes[blob] for blob in blobs)
    assert sum(sizes.values()) == expected
    inside = facts.repositories[0].name
    pinned = database.read_now(lambda connection: find_pinned(connection, "r1", inside.__eq__))
    outside = {name for one in facts.repositories[1:] for name in one.manifests}
    assert {-number for number in pinned if number < 0} == {ids[name] for name in outside}
    assert not database.read_now(lambda connection: find_pinned(connection, "r1", EVERYTHING))


def test_the_history_begins_with_the_first_whole_crawl(database: Database) -> None:
    assert database.read_now(lambda connection: history_begin(connection, "prod")) is None
    store_bodies(database, [envelope(push(NAME, "a", 1, 0))], received_at=RECEIVED)
    apply_all(database, now=RECEIVED)
    assert database.read_now(lambda connection: history_begin(connection, "prod")) == RECEIVED
    settle(database)
    assert database.read_now(lambda connection: history_begin(connection, "prod")) == START - timedelta(days=1)


def test_what_could_not_be_read_is_in_doubt(database: Database) -> None:
    store_bodies(database, [envelope(push(NAME, "a", 1, 0))], received_at=RECEIVED)
    apply_all(database, now=RECEIVED)
    settle(database)
    assert load_recorded(database).doubt == ""

    def add_unread(connection: Any) -> None:
        number = connection.execute(select(schema.repositories.c.id)).scalar_one()
        place = {"repository_id": number, "name": "x", "state": "unreadable", "tagged_at": 0}
        connection.execute(insert(schema.tags).values(place | {"first_seen_at": to_micros(START)}))

    database.write_now(add_unread)
    recorded = load_recorded(database)
    assert (recorded.doubt, recorded.doubtful_since) == ("a tag could not be read", START)
    execute(database, update(schema.repositories).values(state="partial"))
    recorded = load_recorded(database)
    assert (recorded.doubt, recorded.doubtful_since) == ("the repository was not read completely", None)


def test_a_digest_is_the_same_text_everywhere(database: Database) -> None:
    store_bodies(database, [envelope(push(NAME, "a", 1, 0)), envelope(pull(NAME, "a", 1, 1))], received_at=RECEIVED)
    apply_all(database, now=RECEIVED)
    settle(database)
    recorded = load_recorded(database)
    assert list(recorded.lives) == [digest_of(1)] == [recorded.tags["a"][0].digest] == [recorded.pulls[0].digest]
