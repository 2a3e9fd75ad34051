"""Rows of tags are made anew from points, and what no point can say is left as it is."""

from __future__ import annotations

from sqlalchemy import insert, select, update

from regwarden.store.database import Database
from regwarden.store.schema import repositories, tag_history, tags
from regwarden.store.times import to_micros
from tests.notifications import RECEIVED, push, take_in, untag


def test_a_tag_that_leads_nowhere_is_not_taken_for_gone_by_late_events(database: Database) -> None:
    """A crawl found it dangling; events of before that crawl come afterwards."""
    take_in(database, push("a", "other", 1, 0))
    read_at = to_micros(RECEIVED)

    def read_by_a_crawl(connection):
        connection.execute(update(repositories).values(seen_at=read_at, settled_at=read_at, read_until=read_at))
        row = {"repository_id": select(repositories.c.id).scalar_subquery(), "name": "broken", "state": "dangling"}
        connection.execute(insert(tags).values(row | {"first_seen_at": read_at, "tagged_at": read_at}))

    database.write_now(read_by_a_crawl)
    for late in (push("a", "broken", 2, 1), push("a", "broken", 3, 2), untag("a", "broken", 3)):
        take_in(database, late)
    of_tag = select(tags.c.state).where(tags.c.name == "broken")
    assert database.read_now(lambda connection: connection.execute(of_tag).scalars().all()) == ["dangling"]
    causes = select(tag_history.c.cause).where(tag_history.c.tag == "broken")
    assert set(database.read_now(lambda connection: connection.execute(causes).scalars())) == {"event"}
