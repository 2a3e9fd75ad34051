"""Who did what is found again by any of its parts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from regwarden.store.audit import AuditFilter, list_audit, page_audit, record
from regwarden.store.database import Database

NOW = datetime(2026, 11, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def filled(database: Database) -> Database:
    def write(connection) -> None:
        record(connection, at=NOW + HOUR, principal="ann", action="plan-apply", plan_id=1, detail={"b": 1, "a": [2]})
        record(connection, at=NOW, principal="bob", action="plan-create", plan_id=1, subject="team/app")
        record(connection, at=NOW + 2 * HOUR, principal="ann", action="protection-add")

    database.write_now(write)
    return database


@pytest.mark.parametrize(
    ("wanted", "actions"),
    [
        (AuditFilter(), ["plan-create", "plan-apply", "protection-add"]),
        (AuditFilter(principal="ann"), ["plan-apply", "protection-add"]),
        (AuditFilter(plan_id=1), ["plan-create", "plan-apply"]),
        (AuditFilter(action="plan-create"), ["plan-create"]),
        (AuditFilter(since=NOW + HOUR), ["plan-apply", "protection-add"]),
        (AuditFilter(until=NOW + HOUR), ["plan-create"]),
        (AuditFilter(limit=2), ["plan-apply", "protection-add"]),
        (AuditFilter(plan_id=9), []),
    ],
)
def test_entries_are_found_by_what_is_asked_for(filled: Database, wanted: AuditFilter, actions: list[str]) -> None:
    assert [one.action for one in filled.read_now(lambda connection: list_audit(connection, wanted))] == actions


def test_an_entry_says_everything(filled: Database) -> None:
    first, second, _ = filled.read_now(lambda connection: list_audit(connection, AuditFilter()))
    assert (first.at, first.principal, first.plan_id, first.subject, dict(first.detail)) == (
        NOW,
        "bob",
        1,
        "team/app",
        {},
    )
    assert dict(second.detail) == {"a": [2], "b": 1}


def test_pages_follow_the_order_in_which_it_was_written(filled: Database) -> None:
    first = filled.read_now(lambda connection: page_audit(connection, AuditFilter(limit=2)))
    assert [one.action for one in first] == ["protection-add", "plan-create"]
    rest = AuditFilter(limit=2, before_id=first[-1].id)
    assert [one.action for one in filled.read_now(lambda connection: page_audit(connection, rest))] == ["plan-apply"]
