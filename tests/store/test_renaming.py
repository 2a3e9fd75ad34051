"""Renamed paths: whatever the order in which renames and other events arrive, the repositories end as one."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

from regwarden.store.database import Access, open_database
from tests.notifications import event, push, remove, state_of, take_in


def rename(old: str, new: str, minute: float) -> dict[str, Any]:
    return event("rename", old, minute=minute, target={"rename": {"type": "project", "from": old, "to": new}})


@pytest.mark.parametrize(
    "found",
    [
        [push("a", "1", 1, 0), rename("a", "b", 5), rename("b", "c", 6), push("b", "1", 2, 5.5)],
        [push("a", "1", 1, 0), rename("a", "b", 5), rename("b", "a", 6), push("a", "1", 2, 7)],
        [push("a", "1", 1, 0), remove("a", 1, 2), rename("a", "b", 5), push("b", "1", 1, 1)],
        [push("g/a", "1", 1, 0), rename("g", "h", 5), rename("h/a", "k", 6), push("k", "2", 2, 7)],
    ],
    ids=["one after the other", "there and back", "with a removal", "a group, then a project"],
)
def test_renames_give_the_same_in_every_order(found: list[dict[str, Any]]) -> None:
    expected = None
    for order in permutations(found):
        database = open_database("sqlite:///:memory:", access=Access.WRITE)
        try:
            for one in order:
                take_in(database, one)
            state = state_of(database)
        finally:
            database.close()
        expected = expected or state
        assert state == expected, [one["id"] for one in order]
