"""What a registry can do is kept, and no question that was not answered makes it poorer."""

from __future__ import annotations

from sqlalchemy import insert, select

from regwarden.store.capabilities import find_probe_repository, load_capabilities, merge_capabilities
from regwarden.store.database import Database
from regwarden.store.schema import registries, repositories


def _add_registry(database: Database, name: str = "prod", **states: str) -> None:
    def work(connection):
        values = {"name": name, "url": "http://localhost", "kind": "distribution", "first_seen_at": 1}
        key = connection.execute(insert(registries).values(values).returning(registries.c.id)).scalar_one()
        for repository, state in states.items():
            gone = {"deleted_at": 5, "state": "complete"} if state == "gone" else {"state": state}
            row = {"registry_id": key, "name": repository, "first_seen_at": 1, **gone}
            connection.execute(insert(repositories).values(row))

    database.write_now(work)


def _merge(database: Database, found: dict[str, str], *, is_elsewhere: bool = False) -> dict[str, str]:
    return database.write_now(
        lambda connection: merge_capabilities(connection, "prod", found, is_elsewhere=is_elsewhere)
    )


def _load(database: Database) -> dict[str, str]:
    return database.read_now(lambda connection: load_capabilities(connection, "prod"))


def test_what_is_not_known_now_stays_as_it_was_known(database):
    _add_registry(database)
    assert _load(database) == {}
    _merge(database, {"delete": "supported", "delete_tag": "unknown"})
    merged = _merge(database, {"delete": "unknown", "delete_tag": "unsupported", "catalog": "supported"})
    expected = {"delete": "supported", "delete_tag": "unsupported", "catalog": "supported"}
    assert merged == expected == _load(database)
    assert _merge(database, {"delete": "unsupported"})["delete"] == "unsupported"


def test_at_another_address_nothing_of_before_counts(database):
    _add_registry(database)
    _merge(database, {"delete": "supported", "delete_tag": "supported"})
    _merge(database, {"catalog": "supported", "delete": "unknown"}, is_elsewhere=True)
    assert _load(database) == {"catalog": "supported", "delete": "unknown"}


def test_of_a_registry_that_the_inventory_does_not_have_nothing_is_kept(database):
    _add_registry(database, "other")
    assert _merge(database, {"delete": "supported"}) == {"delete": "supported"}
    assert _load(database) == {}
    assert database.read_now(lambda found: found.scalar(select(registries.c.capabilities))) == "{}"


def test_questions_are_asked_in_a_repository_that_is_there_and_may_be_read(database):
    _add_registry(database, a="gone", b="denied", c="untagged", d="complete")
    _add_registry(database, "empty", a="gone")
    for name, expected in (("prod", "c"), ("empty", None), ("never seen", None)):
        found = database.read_now(lambda connection, name=name: find_probe_repository(connection, name))
        assert found == expected
