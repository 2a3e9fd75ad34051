"""Old rows of our own go after their time, and nothing else does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, insert, select

from regwarden.store import purging
from regwarden.store.deliveries import replay_known
from regwarden.store.event_schema import deliveries, events, pull_days, senders
from regwarden.store.purging import Keeping, Purged, purge
from regwarden.store.schema import manifests, registries, repositories
from regwarden.store.times import to_micros
from tests.notifications import RECEIVED, apply_all, envelope, push, store_bodies

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)
DAY = timedelta(days=1)
TODAY = (NOW - datetime(1970, 1, 1, tzinfo=UTC)).days
KEEPING = Keeping(bodies=DAY, quarantine=30 * DAY, events=60 * DAY, pulls=100 * DAY, trash=365 * DAY)


def add_deliveries(database, *given):
    rows = [
        {
            "registry": "one",
            "received_at": to_micros(NOW - age),
            "sender": "::1",
            "state": state,
            "body_bytes": 1,
            "body": b"1",
        }
        for state, age in given
    ]
    database.write_now(lambda connection: connection.execute(insert(deliveries), rows))


def left(database, table):
    return database.read_now(lambda connection: connection.execute(select(func.count()).select_from(table)).scalar())


async def test_deliveries_go_by_their_state_and_their_age(database):
    add_deliveries(
        database,
        ("quarantined", 40 * DAY),
        ("pending", 40 * DAY),
        ("applied", 40 * DAY),
        ("quarantined", 2 * DAY),
        ("unknown-registry", 31 * DAY),
        ("applied", 2 * DAY),
        ("applied", DAY / 2),
    )
    assert await purge(database, KEEPING, NOW) == Purged(delivery_count=2, quarantine_count=2)
    stay = database.read_now(
        lambda connection: connection.execute(select(deliveries.c.state).order_by(deliveries.c.id)).scalars().all()
    )
    assert stay == ["pending", "quarantined", "applied"]
    assert await purge(database, KEEPING, NOW) == Purged()


async def test_many_rows_go_in_small_pieces(database, monkeypatch):
    monkeypatch.setattr(purging, "PIECE_ROWS", 10)
    ages = [(state, (60 - number) * DAY) for number in range(57) for state in ("applied", "quarantined")]
    add_deliveries(database, *ages)
    sizes = []
    write = database.write

    async def counted(work, **options):
        sizes.append(await write(work, **options))
        return sizes[-1]

    monkeypatch.setattr(database, "write", counted)
    assert await purge(database, KEEPING, NOW) == Purged(delivery_count=57, quarantine_count=30)
    assert max(sizes) <= 10
    assert left(database, deliveries) == 27


async def test_a_delivery_that_is_applied_again_meanwhile_stays(database, monkeypatch):
    add_deliveries(database, ("quarantined", 40 * DAY))
    write = database.write

    async def replayed_before(work, **options):
        database.write_now(lambda connection: connection.execute(deliveries.update().values(state="pending")))
        return await write(work, **options)

    monkeypatch.setattr(database, "write", replayed_before)
    assert await purge(database, KEEPING, NOW) == Purged()
    assert left(database, deliveries) == 1


async def test_events_go_by_when_they_were_received_not_by_what_they_say(database):
    rows = [
        {
            "source": "one",
            "event_id": str(number),
            "delivery_id": 1,
            "state": "applied",
            "action": "push",
            "at": to_micros(NOW - 300 * DAY),
            "received_at": to_micros(NOW - age),
            "target": "manifest",
            "repository": "app",
        }
        for number, age in enumerate((70 * DAY, 59 * DAY, DAY))
    ]
    database.write_now(lambda connection: connection.execute(insert(events), rows))
    assert await purge(database, KEEPING, NOW) == Purged(event_count=1)
    assert left(database, events) == 2


async def test_events_of_a_registry_that_is_not_known_stay_as_long_as_their_deliveries(database):
    bodies = [envelope(push("a", "1", 1, 0, host="other.example.test")), envelope(push("a", "1", 1, 0))]
    store_bodies(database, bodies, registry="")
    apply_all(database)
    later = RECEIVED + 20 * DAY
    keeping = Keeping(bodies=DAY, quarantine=30 * DAY, events=10 * DAY, pulls=DAY, trash=DAY)
    assert await purge(database, keeping, later) == Purged(delivery_count=1, event_count=1)
    assert database.write_now(lambda connection: replay_known(connection, {"other.example.test"})) == 1
    apply_all(database)
    purged = await purge(database, keeping, later + 20 * DAY)
    assert (purged.event_count, left(database, events)) == (1, 0)


@pytest.mark.parametrize("piece", [2, 500])
async def test_daily_pulls_go_by_their_day(database, monkeypatch, piece):
    monkeypatch.setattr(purging, "PIECE_ROWS", piece)

    def fill(connection):
        registry = {"id": 1, "name": "one", "url": "https://r", "kind": "distribution", "first_seen_at": 0}
        connection.execute(insert(registries), registry)
        repository = {"id": 1, "registry_id": 1, "name": "app", "first_seen_at": 0, "state": "complete"}
        connection.execute(insert(repositories), repository)
        manifest = {"id": 1, "digest": b"1", "state": "unread", "media_type": "", "size_bytes": 0, "blob_ids": b""}
        connection.execute(insert(manifests), manifest)
        rows = [
            {
                "repository_id": 1,
                "manifest_id": 1,
                "tag": tag,
                "day": TODAY - age,
                "pull_class": "ci",
                "method": "GET",
                "pull_count": 1,
                "last_at": 0,
            }
            for age in (200, 101, 100, 1)
            for tag in ("", "latest", "1.0")
        ]
        connection.execute(insert(pull_days), rows)

    database.write_now(fill)
    assert await purge(database, KEEPING, NOW) == Purged(pull_day_count=6)
    assert left(database, pull_days) == 6


async def test_of_processes_that_have_ended_the_last_one_of_each_registry_stays(database):
    def add(connection):
        for number, ages in ((1, (90, 80, 70)), (2, (90, 5))):
            row = {"id": number, "name": f"r{number}", "url": "u", "kind": "distribution", "first_seen_at": 0}
            connection.execute(insert(registries), row)
            for age in ages:
                at = to_micros(NOW - age * DAY)
                sender = {"registry_id": number, "instance_id": str(age), "address": "", "first_at": at, "last_at": at}
                connection.execute(insert(senders), sender)

    database.write_now(add)
    await purge(database, KEEPING, NOW)
    kept = select(senders.c.registry_id, senders.c.instance_id).order_by(senders.c.registry_id)
    assert [tuple(row) for row in database.read_now(lambda c: c.execute(kept).all())] == [(1, "70"), (2, "5")]
