"""Changes are counted per subject, in the transaction of the change."""

from __future__ import annotations

import pytest

from regwarden.store.changes import ACCESS, ALLOW, note_change, read_changes
from regwarden.store.database import Database


def test_every_change_of_a_subject_has_the_next_number(database: Database) -> None:
    assert database.read_now(read_changes) == {}
    assert [database.write_now(lambda connection: note_change(connection, ACCESS)) for _ in range(3)] == [1, 2, 3]
    assert database.write_now(lambda connection: note_change(connection, ALLOW)) == 1
    assert database.read_now(read_changes) == {ACCESS: 3, ALLOW: 1}


def test_a_change_that_is_rolled_back_is_not_counted(database: Database) -> None:
    def fail(connection: object) -> None:
        note_change(connection, ACCESS)  # type: ignore[arg-type]  # tests do not name SQLAlchemy's types
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        database.write_now(fail)
    assert database.read_now(read_changes) == {}
