"""What we did ourselves is known at once, and the registry's notifications of it change nothing more."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from itertools import permutations
from typing import Any

import pytest
from sqlalchemy import insert, select, update
from sqlalchemy.engine import Connection

from regwarden import clock
from regwarden.core.oci.digests import Digest
from regwarden.errors import NotFound
from regwarden.store.database import Database
from regwarden.store.event_schema import drifts, rereads
from regwarden.store.inventory import Naming, RepositoryReading, TagReading
from regwarden.store.own_changes import note_deleted, note_restored, note_untagged
from regwarden.store.publishing import publish
from regwarden.store.schema import crawls, manifests, metadata, registries, repository_manifests, tag_history
from regwarden.store.times import from_micros, to_micros
from tests.notifications import (
    FOLDING,
    START,
    digest_of,
    number_of,
    push,
    remove,
    state_of,
    tags_of,
    take_in,
    untag,
)

NAME = "team/app"
OURS = f"regwarden/1.0 ({FOLDING.installation})"
BEFORE = (push(NAME, "1.0", 1, 0), push(NAME, "latest", 1, 1), push(NAME, "2.0", 2, 2), push("team/web", "1.0", 1, 3))

Step = Callable[[Database], object]


def minutes(count: float) -> datetime:
    return START + timedelta(minutes=count)


def noted(change: Callable[[Connection], None]) -> Step:
    return lambda database: database.write_now(change)


def told(*events: dict[str, Any]) -> Step:
    return lambda database: take_in(database, *events)


def ours(made: dict[str, Any]) -> dict[str, Any]:
    return made | {"request": made["request"] | {"useragent": OURS}}


DELETED = noted(
    lambda one: note_deleted(one, "prod", NAME, digest=digest_of(1), tags=("1.0", "latest"), at=minutes(9.9))
)
UNTAGGED = noted(lambda one: note_untagged(one, "prod", NAME, tags=("1.0",), at=minutes(9.9)))
RESTORED = noted(
    lambda one: note_restored(one, "prod", NAME, digest=digest_of(1), tags=("1.0", "latest"), at=minutes(20.1))
)
DELETED_TOLD = told(ours(remove(NAME, 1, 10)))
UNTAGGED_TOLD = told(ours(untag(NAME, "1.0", 10)))
RESTORED_TOLD = told(ours(push(NAME, "1.0", 1, 20)), ours(push(NAME, "latest", 1, 20.05)))


def fresh(database: Database) -> Database:
    def empty(connection: Connection) -> None:
        for table in reversed(metadata.sorted_tables):
            connection.execute(table.delete())

    database.write_now(empty)
    take_in(database, *BEFORE)
    return database


def manifests_of(database: Database) -> dict[tuple[str, int], bool]:
    """(repository, number) → whether it exists."""
    return {(row[0], number_of(row[1])): row[8] is None for row in state_of(database)[1]}


@pytest.mark.parametrize(
    "steps",
    [
        (DELETED, DELETED_TOLD),
        (UNTAGGED, UNTAGGED_TOLD),
        (DELETED, DELETED_TOLD, RESTORED, RESTORED_TOLD),
        (DELETED, RESTORED, RESTORED_TOLD),
    ],
)
def test_the_order_of_our_own_word_and_of_the_registrys_does_not_matter(
    database: Database, steps: tuple[Step, ...]
) -> None:
    states = []
    for order in permutations(steps):
        fresh(database)
        for step in order:
            step(database)
        states.append(state_of(database))
    assert all(state == states[0] for state in states)
    assert states[0] != state_of(fresh(database))


@pytest.mark.parametrize(
    ("own", "registrys"),
    [
        ((DELETED,), (DELETED_TOLD,)),
        ((UNTAGGED,), (UNTAGGED_TOLD,)),
        ((DELETED, RESTORED), (DELETED_TOLD, RESTORED_TOLD)),
    ],
)
def test_our_own_word_alone_gives_the_inventory_that_events_give(
    database: Database, own: tuple[Step, ...], registrys: tuple[Step, ...]
) -> None:
    outcomes = []
    for steps in (own, registrys):
        fresh(database)
        for step in steps:
            step(database)
        outcomes.append((tags_of(database), manifests_of(database)))
    assert outcomes[0] == outcomes[1]
    fresh(database)
    if RESTORED in own:
        assert outcomes[0] == (tags_of(database), manifests_of(database))
    else:
        assert outcomes[0] != (tags_of(database), manifests_of(database))


def test_a_deleted_manifest_is_gone_in_its_repository_only(database: Database) -> None:
    DELETED(fresh(database))
    assert tags_of(database) == {(NAME, "2.0"): 2, ("team/web", "1.0"): 1}
    assert manifests_of(database) == {(NAME, 1): False, (NAME, 2): True, ("team/web", 1): True}


def test_an_untagged_manifest_stays_and_is_untagged_since_then(database: Database) -> None:
    fresh(database)
    noted(lambda one: note_untagged(one, "prod", NAME, tags=("2.0",), at=minutes(9)))(database)
    assert manifests_of(database)[NAME, 2]
    since = select(repository_manifests.c.untagged_since).join(manifests)
    second = manifests.c.digest == Digest.parse(digest_of(2)).to_bytes()
    assert database.read_now(lambda one: one.execute(since.where(second)).scalar_one()) == to_micros(minutes(9))


def test_putting_back_is_no_push_but_a_push_by_others_is(database: Database) -> None:
    def pushed_at() -> set[int]:
        return {row[3] for row in state_of(database)[1] if row[0] == NAME and number_of(row[1]) == 1}

    for step in (DELETED, DELETED_TOLD, RESTORED, RESTORED_TOLD):
        step(fresh(database) if step is DELETED else database)
    assert pushed_at() == {to_micros(minutes(1))}
    take_in(database, push(NAME, "3.0", 1, 30))
    assert pushed_at() == {to_micros(minutes(30))}


def test_what_we_pushed_is_ours_only_with_the_id_of_this_installation(database: Database) -> None:
    fresh(database)
    take_in(database, push(NAME, "1.0", 1, 30, useragent="regwarden/1.0 (another)"))
    assert {row[3] for row in state_of(database)[1] if row[0] == NAME and number_of(row[1]) == 1} == {
        to_micros(minutes(30))
    }


def test_a_push_after_our_deletion_stands(database: Database) -> None:
    fresh(database)
    take_in(database, push(NAME, "1.0", 1, 9.95))
    DELETED(database)
    assert tags_of(database)[NAME, "1.0"] == 1
    assert (NAME, "latest") not in tags_of(database)
    assert manifests_of(database)[NAME, 1]


def test_the_history_says_that_it_was_us(database: Database) -> None:
    for step in (DELETED, RESTORED):
        step(fresh(database) if step is DELETED else database)
    history = select(tag_history.c.cause, tag_history.c.digest).where(tag_history.c.tag == "latest")
    rows = database.read_now(lambda one: one.execute(history.order_by(tag_history.c.at)).all())
    stored = Digest.parse(digest_of(1)).to_bytes()
    assert [(row.cause, bytes(row.digest)) for row in rows] == [
        ("event", stored),
        ("ourselves", b""),
        ("ourselves", stored),
    ]


def test_figures_are_due_and_an_unknown_registry_is_refused(database: Database) -> None:
    fresh(database)
    database.write_now(lambda one: one.execute(update(registries).values(changed_at=0)))
    before = clock.now()
    UNTAGGED(database)
    changed = database.read_now(lambda one: one.execute(select(registries.c.changed_at)).scalar_one())
    # From when it is noted: the figures may have been computed without it while the request was under way.
    assert from_micros(changed) >= max(before, minutes(9.9))
    with pytest.raises(NotFound):
        noted(lambda one: note_untagged(one, "elsewhere", NAME, tags=("1.0",), at=minutes(9)))(database)


def crawl(database: Database, found: dict[str, int], at: datetime, vanished: tuple[str, ...] = ()) -> None:
    def begin(connection: Connection) -> tuple[int, int]:
        registry_id = connection.execute(select(registries.c.id)).scalar_one()
        values = {"registry_id": registry_id, "state": "complete", "started_at": to_micros(at)}
        connection.execute(update(manifests).values(state="read"))
        return registry_id, connection.execute(insert(crawls).values(values).returning(crawls.c.id)).scalar_one()

    registry_id, crawl_id = database.write_now(begin)
    digests = {tag: Digest.parse(digest_of(number)) for tag, number in found.items()}
    reading = RepositoryReading(
        registry_id=registry_id,
        crawl_id=crawl_id,
        name=NAME,
        catalog_position=0,
        state="complete",
        started_at=at,
        naming=Naming(registry_id, at),
        tags={tag: TagReading(digest, "ok", at) for tag, digest in digests.items()},
        vanished=vanished,
        manifests=frozenset(digests.values()),
    )
    asyncio.run(publish(database, reading, lambda: at + timedelta(seconds=1)))


def steps_and_findings() -> Iterator[tuple[tuple[Step, ...], dict[str, int]]]:
    yield (DELETED,), {"2.0": 2}
    yield (DELETED, DELETED_TOLD), {"2.0": 2}
    yield (UNTAGGED,), {"2.0": 2, "latest": 1}
    yield (DELETED, RESTORED), {"1.0": 1, "2.0": 2, "latest": 1}
    yield (DELETED, DELETED_TOLD, RESTORED, RESTORED_TOLD), {"1.0": 1, "2.0": 2, "latest": 1}


@pytest.mark.parametrize(("steps", "found"), list(steps_and_findings()))
def test_a_crawl_afterwards_finds_no_drift(database: Database, steps: tuple[Step, ...], found: dict[str, int]) -> None:
    fresh(database)
    # Events are known since before the first reading, so that later changes without one are drift.
    database.write_now(lambda one: one.execute(update(registries).values(events_since=0)))
    database.write_now(lambda one: one.execute(rereads.delete()))
    crawl(database, {"1.0": 1, "latest": 1, "2.0": 2}, minutes(6))
    for step in steps:
        step(database)
    crawl(database, found, minutes(40))
    assert database.read_now(lambda one: one.execute(select(drifts)).all()) == []
    assert {tag: number for (name, tag), number in tags_of(database).items() if name == NAME} == found
    crawl(database, dict.fromkeys(found, 2), minutes(60))
    kinds = database.read_now(lambda one: one.execute(select(drifts.c.kind)).scalars().all())
    assert ("missed-move" in kinds) == any(number != 2 for number in found.values())


def test_our_placeholder_leaves_the_tag_gone(database: Database) -> None:
    fresh(database)
    noted(partial(note_untagged, registry="prod", repository=NAME, tags=("1.0",), at=minutes(10)))(database)
    take_in(database, ours(push(NAME, "1.0", 9, 9.95)), ours(remove(NAME, 9, 9.99)))
    assert (NAME, "1.0") not in tags_of(database)
    assert manifests_of(database)[NAME, 9] is False


def test_a_crawl_that_is_published_meanwhile_does_not_bring_back_what_we_deleted(
    postgresql_url: str, opened: Callable[[str], Database]
) -> None:
    """Two processes write, as a command beside the service does on PostgreSQL: the crawl knows nothing of the other."""
    ours_, theirs = opened(postgresql_url), opened(postgresql_url)
    fresh(ours_)
    is_noted, may_end = threading.Event(), threading.Event()

    def delete(connection: Connection) -> None:
        note_deleted(connection, "prod", NAME, digest=digest_of(1), tags=("1.0", "latest"), at=minutes(9.9))
        is_noted.set()
        assert may_end.wait(20)

    deleting = threading.Thread(target=ours_.write_now, args=(delete,))
    deleting.start()
    assert is_noted.wait(20)
    # It was read before the deletion.
    found = {"1.0": 1, "latest": 1, "2.0": 2}
    crawling = threading.Thread(target=crawl, args=(theirs, found, minutes(9)))
    crawling.start()
    crawling.join(1)
    may_end.set()
    deleting.join(20)
    crawling.join(20)
    assert {place[1] for place in tags_of(ours_) if place[0] == NAME} == {"2.0"}
