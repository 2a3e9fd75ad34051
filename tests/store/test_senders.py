"""New processes of a registry ask for a crawl, but not without a pause."""

from __future__ import annotations

from datetime import timedelta

from regwarden.store.applying import EventRegistry, ensure_registry
from regwarden.store.database import Database
from regwarden.store.senders import STARTS_WITHIN, Sender, note_senders
from tests.notifications import RECEIVED


def due_after(database: Database, *instances: str, minutes: float = 0) -> list[timedelta]:
    """When a crawl is due after these processes were heard of, counted from then."""
    now = RECEIVED + timedelta(minutes=minutes)

    def note(connection):
        registry_id = ensure_registry(connection, EventRegistry("prod", "https://r.example.test"), now)
        return note_senders(connection, registry_id, [Sender(one, "r:5000", now) for one in instances], now)

    return [one.due_at - now for one in database.write_now(note)]


def test_the_first_process_is_no_restart_and_a_known_one_neither(database: Database) -> None:
    assert due_after(database, "a") == []
    assert due_after(database, "a", "", minutes=1) == []


def test_a_new_process_asks_for_a_crawl_at_once(database: Database) -> None:
    due_after(database, "a")
    assert due_after(database, "b", minutes=1) == [timedelta(0)]
    assert due_after(database, "a", "b", minutes=2) == []


def test_a_registry_that_starts_again_and_again_is_crawled_with_pauses(database: Database) -> None:
    found = [due_after(database, f"process {number}", minutes=number) for number in range(6)]
    assert found == [[], [timedelta(0)], [timedelta(0)], [STARTS_WITHIN], [STARTS_WITHIN], [STARTS_WITHIN]]
    assert due_after(database, "much later", minutes=60) == [timedelta(0)]
