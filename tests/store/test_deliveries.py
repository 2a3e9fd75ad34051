"""Deliveries as they arrived: kept as sent, listed when set aside, looked at again on request."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import insert, select, update
from sqlalchemy.engine import Connection

from regwarden.store.deliveries import (
    NewDelivery,
    count_deliveries,
    find_delivery,
    insert_deliveries,
    list_quarantine,
    probe_writing,
    replay,
    replay_known,
)
from regwarden.store.event_schema import deliveries, events
from regwarden.store.schema import installation

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


def delivery(registry: str = "prod", body: bytes = b"{}", **changes: object) -> NewDelivery:
    return NewDelivery(registry, AT, "10.0.0.1", body, len(body), **changes)  # type: ignore[arg-type]


def keep(*rows: NewDelivery):
    return lambda connection: insert_deliveries(connection, rows)


def states(connection: Connection) -> list[str]:
    return list(connection.execute(select(deliveries.c.state).order_by(deliveries.c.id)).scalars())


def add_event(connection: Connection, delivery_id: int, event_id: str, state: str) -> None:
    connection.execute(
        insert(events).values(
            source="somewhere",
            event_id=event_id,
            delivery_id=delivery_id,
            state=state,
            action="push",
            at=0,
            received_at=0,
            target="manifest",
            repository="a",
        )
    )


def event_ids(connection: Connection) -> list[str]:
    return list(connection.execute(select(events.c.event_id).order_by(events.c.event_id)).scalars())


def test_a_body_is_kept_byte_by_byte(database):
    body = bytes(range(256)) + b"\x00{"
    database.write_now(keep(delivery(body=body), delivery(body=b"")))
    first = database.read_now(lambda connection: find_delivery(connection, 1))
    assert (first.body, first.body_bytes, first.state, first.received_at) == (body, len(body), "pending", AT)
    assert database.read_now(lambda connection: find_delivery(connection, 2)).body == b""
    assert database.read_now(lambda connection: find_delivery(connection, 3)) is None


def test_the_same_delivery_twice_is_two_rows_in_the_order_of_arrival(database):
    database.write_now(keep(*[delivery(body=b"%d" % number) for number in range(50)], delivery(body=b"0")))
    bodies = database.read_now(
        lambda connection: list(connection.execute(select(deliveries.c.body).order_by(deliveries.c.id)).scalars())
    )
    assert [bytes(body) for body in bodies] == [b"%d" % number for number in range(50)] + [b"0"]


def test_nothing_to_keep_is_no_statement(database):
    database.write_now(keep())
    assert database.read_now(states) == []


def test_what_was_set_aside_is_listed_newest_first_and_paged(database):
    database.write_now(
        keep(
            delivery(state="quarantined", reason="not JSON"),
            delivery(),
            delivery("", state="unknown-registry", reason="no registry is configured for other.example"),
            delivery("dev", state="quarantined", reason="too large", body_sha256=b"x" * 32),
            delivery(state="applied"),
        )
    )

    def listed(**options):
        options = {"limit": 10, **options}
        return [row.id for row in database.read_now(lambda connection: list_quarantine(connection, **options))]

    assert listed() == [4, 3, 1]
    assert listed(limit=2) == [4, 3]
    assert listed(limit=2, before_id=3) == [1]
    assert listed(registry="prod") == [1]
    (row, *_) = database.read_now(lambda connection: list_quarantine(connection, limit=1))
    assert (row.registry, row.reason, row.body_bytes, row.body) == ("dev", "too large", 2, None)


def test_replaying_puts_back_what_is_kept_whole_and_forgets_the_events_of_unknown_registries(database):
    database.write_now(
        keep(
            delivery(state="quarantined", reason="not JSON"),
            delivery("", state="unknown-registry", reason="who?"),
            delivery(state="quarantined", reason="too large", body_sha256=b"x" * 32),
            delivery(state="quarantined", reason="purged"),
            delivery(state="applied"),
        )
    )

    def prepare(connection: Connection) -> None:
        connection.execute(update(deliveries).where(deliveries.c.id == 4).values(body=None))
        add_event(connection, 2, "unknown", "unknown-registry")
        add_event(connection, 1, "known", "applied")

    database.write_now(prepare)
    assert database.write_now(lambda connection: replay(connection, None)) == 2
    assert database.read_now(states) == ["pending", "pending", "quarantined", "quarantined", "applied"]
    assert database.read_now(event_ids) == ["known"]
    assert database.read_now(lambda connection: find_delivery(connection, 1)).reason == ""
    assert database.write_now(lambda connection: replay(connection, None)) == 0


def test_chosen_deliveries_are_replayed(database):
    database.write_now(keep(*[delivery(state="quarantined") for _ in range(700)], delivery("dev", state="quarantined")))
    assert database.write_now(lambda connection: replay(connection, [1, 2, 2, 9999])) == 2
    assert database.write_now(lambda connection: replay(connection, None, registry="dev")) == 1
    assert database.write_now(lambda connection: replay(connection, range(1, 702))) == 698
    assert set(database.read_now(states)) == {"pending"}


def test_what_came_from_a_host_that_has_become_known_is_looked_at_again(database):
    database.write_now(keep(delivery("", state="unknown-registry"), delivery("", state="unknown-registry"), delivery()))
    database.write_now(lambda connection: add_event(connection, 1, "one", "unknown-registry"))
    database.write_now(lambda connection: add_event(connection, 3, "two", "applied"))
    assert database.write_now(lambda connection: replay_known(connection, {"elsewhere"})) == 0
    assert database.write_now(lambda connection: replay_known(connection, {"elsewhere", "somewhere"})) == 1
    assert database.read_now(states) == ["pending", "unknown-registry", "pending"]
    assert database.read_now(event_ids) == ["two"]


def test_probing_changes_nothing(database):
    database.write_now(probe_writing)
    database.write_now(lambda connection: connection.execute(insert(installation).values(name="id", value="x")))
    database.write_now(probe_writing)
    assert database.read_now(lambda connection: connection.scalar(select(installation.c.value))) == "x"


def test_what_waits_is_counted_and_the_oldest_is_dated(database):
    assert database.read_now(count_deliveries).oldest_pending_at is None
    later = NewDelivery("prod", AT + timedelta(hours=1), "", b"", 0)
    database.write_now(
        keep(
            later,
            delivery(),
            delivery(state="quarantined"),
            delivery(state="unknown-registry"),
            delivery(state="applied"),
        )
    )
    counts = database.read_now(count_deliveries)
    assert (counts.pending_count, counts.quarantined_count, counts.unknown_registry_count) == (2, 1, 1)
    assert counts.oldest_pending_at == AT
