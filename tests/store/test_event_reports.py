"""Which events are found, in which order, and what is known of a registry's notifications."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import insert

from regwarden.core.oci.digests import Digest
from regwarden.core.patterns import parse_pattern
from regwarden.errors import InputError, NotFound
from regwarden.store.database import Database
from regwarden.store.event_reports import (
    EventQuery,
    list_events,
    list_events_after,
    list_unknown_hosts,
    newest_event_id,
)
from regwarden.store.event_schema import deliveries, events, rereads, senders
from regwarden.store.notification_reports import has_blob_events, loss_since, notification_status
from regwarden.store.schema import registries
from regwarden.store.times import to_micros

START = datetime(2026, 11, 1, tzinfo=UTC)
DIGEST = Digest.parse("sha256:" + "ab" * 32)


def _insert(database: Database, table: Any, *rows: dict[str, Any]) -> None:
    database.write_now(lambda connection: connection.execute(insert(table), list(rows)))


def _event(number: int, **values: Any) -> dict[str, Any]:
    minute = values.pop("minute", number)
    return {
        "source": "prod",
        "event_id": f"e{number}",
        "registry_id": 1,
        "delivery_id": number,
        "state": "applied",
        "action": "push",
        "at": to_micros(START + timedelta(minutes=minute)),
        "received_at": to_micros(START + timedelta(minutes=number)),
        "target": "manifest",
        "repository": "team/app",
        "tag": "",
        "actor": "",
        "host": "registry.example.com",
        "pull_class": "",
        "digest": None,
        **values,
    }


@pytest.fixture
def filled(database: Database) -> Database:
    """Five events of a known registry, two of a host that nobody has; the fourth is as old as the first."""
    _insert(
        database,
        registries,
        {"id": 1, "name": "prod", "url": "https://registry.example.com", "kind": "distribution", "first_seen_at": 0},
        {"id": 2, "name": "dev", "url": "https://dev.example.com", "kind": "distribution", "first_seen_at": 0},
    )
    _insert(
        database,
        events,
        _event(1, tag="1.0", digest=DIGEST.to_bytes(), actor="alice"),
        _event(2, action="pull", pull_class="ci", tag="1.0"),
        _event(3, action="delete", target="tag", tag="latest", actor="bob"),
        _event(4, minute=1, target="blob", repository="team/web"),
        _event(5, action="pull", pull_class="scanner", registry_id=2, source="dev"),
        _event(6, registry_id=None, source="new:5000", host="new:5000", state="unknown-registry"),
        _event(7, registry_id=None, source="new:5000", host="new:5000", state="unknown-registry", minute=0),
    )
    return database


def _ids(database: Database, limit: int | None = None, cursor: str | None = None, **query: Any) -> list[object]:
    page = database.read_now(lambda connection: list_events(connection, EventQuery(**query), limit, cursor))
    return [row["id"] for row in page.rows]


def test_the_newest_by_the_registrys_clock_comes_first(filled: Database) -> None:
    assert _ids(filled) == [6, 5, 3, 2, 4, 1, 7]


def test_pages_hold_every_event_once(filled: Database) -> None:
    found: list[object] = []
    cursor = None
    while True:
        page = filled.read_now(partial(list_events, query=EventQuery(), limit=2, cursor=cursor))
        found += [row["id"] for row in page.rows]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert found == [6, 5, 3, 2, 4, 1, 7]
    with pytest.raises(InputError) as error:
        _ids(filled, cursor="nonsense")
    assert error.value.code == "bad-cursor"


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ({"registries": ("prod",)}, [3, 2, 4, 1]),
        ({"registries": ("dev.example.com",)}, [5]),
        ({"repositories": (parse_pattern("glob:team/w*"),)}, [4]),
        ({"repositories": (parse_pattern("team/web"),)}, [4]),
        ({"tags": (parse_pattern("semver:^1"),)}, [2, 1]),
        ({"actors": (parse_pattern("alice"), parse_pattern("re:b.b"))}, [3, 1]),
        ({"actions": ("pull", "delete")}, [5, 3, 2]),
        ({"targets": ("tag", "blob")}, [3, 4]),
        ({"classes": ("ci",)}, [2]),
        ({"since": START + timedelta(minutes=2), "until": START + timedelta(minutes=5)}, [3, 2]),
        ({"has_unknown_host": True}, [6, 7]),
        ({"actions": ("pull",), "classes": ("ci", "scanner"), "registries": ("prod",)}, [2]),
    ],
)
def test_everything_that_is_asked_for_must_hold(filled: Database, query: dict[str, Any], ids: list[int]) -> None:
    assert _ids(filled, **query) == ids


def test_a_registry_that_is_not_known_is_an_error(filled: Database) -> None:
    with pytest.raises(NotFound):
        _ids(filled, registries=("nowhere",))


def test_a_row_has_readable_values(filled: Database) -> None:
    query = EventQuery(actors=(parse_pattern("alice"),))
    (row,) = filled.read_now(lambda connection: list_events(connection, query, None, None)).rows
    assert (row["registry"], row["digest"], row["at"]) == ("prod", str(DIGEST), START + timedelta(minutes=1))


def test_what_came_after_a_position_comes_once_and_in_order(filled: Database) -> None:
    query = EventQuery(actions=("push",))

    def after(position: int, limit: int = 1000) -> tuple[list[object], int]:
        rows, behind = filled.read_now(lambda connection: list_events_after(connection, query, position, limit))
        return [row["id"] for row in rows], behind

    assert after(0, 2) == ([1, 4], 4)
    assert after(4) == ([6, 7], 7)
    assert after(7) == ([], 7)
    _insert(filled, events, _event(8, action="pull"), _event(9))
    assert after(7) == ([9], 9)
    assert filled.read_now(newest_event_id) == 9


def test_hosts_that_no_registry_has_are_counted(filled: Database) -> None:
    (host,) = filled.read_now(list_unknown_hosts)
    assert (host.host, host.event_count, host.first_at, host.last_at) == (
        "new:5000",
        2,
        START,
        START + timedelta(minutes=6),
    )


def test_the_status_counts_what_waits_was_set_aside_and_fails(filled: Database) -> None:
    delivery = {"received_at": 0, "sender": "s", "body_bytes": 1}
    _insert(
        filled,
        deliveries,
        {**delivery, "registry": "prod", "state": "pending"},
        {**delivery, "registry": "", "state": "pending"},
        {**delivery, "registry": "dev", "state": "pending"},
        {**delivery, "registry": "prod", "state": "quarantined"},
        {**delivery, "registry": "prod", "state": "applied"},
    )
    _insert(
        filled,
        senders,
        {"registry_id": 1, "instance_id": "a", "address": "r:5000", "first_at": 1, "last_at": 5},
        {"registry_id": 1, "instance_id": "b", "address": "r:5000", "first_at": 6, "last_at": 9},
        {"registry_id": 2, "instance_id": "c", "address": "d:5000", "first_at": 6, "last_at": 9},
    )
    reread = {"registry_id": 1, "reason": "drift", "due_at": 1}
    _insert(
        filled,
        rereads,
        {**reread, "repository": "a", "reference": "", "attempt_count": 3, "problem": "denied"},
        {**reread, "repository": "b", "reference": "", "attempt_count": 0, "problem": ""},
    )
    status = filled.read_now(lambda connection: notification_status(connection, "prod"))
    assert (status.pending_count, status.quarantined_count) == (2, 1)
    assert (status.sender_count, status.sender_address_count) == (2, 1)
    assert [one.instance_id for one in status.senders] == ["b", "a"]
    assert (status.reread_count, status.failing_reread_count) == (2, 1)
    assert [(one.repository, one.problem, one.attempt_count) for one in status.failing_rereads] == [("a", "denied", 3)]
    assert status.has_blob_events
    assert not filled.read_now(lambda connection: has_blob_events(connection, 2))
    assert filled.read_now(has_blob_events)


def test_of_a_registry_that_the_inventory_does_not_have_only_deliveries_are_known(filled: Database) -> None:
    _insert(
        filled,
        deliveries,
        {"registry": "new", "state": "pending", "received_at": 0, "sender": "s", "body_bytes": 1},
    )
    status = filled.read_now(lambda connection: notification_status(connection, "new"))
    assert (status.pending_count, status.events_since, status.sender_count) == (1, None, 0)
    assert filled.read_now(lambda connection: loss_since(connection, "new", START)) is None
    loss = filled.read_now(lambda connection: loss_since(connection, "prod", START))
    assert loss is not None
    assert loss.rate is None
