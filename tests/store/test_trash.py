"""The trash: exact bytes or none, each once."""

from __future__ import annotations

import zlib

import pytest
from sqlalchemy import func, select

from regwarden.errors import StoreError
from regwarden.store.cleanup_schema import trash
from regwarden.store.plans import save_plan
from regwarden.store.trash import Role, TrashEntry, load, put
from tests.store.cleanup_plans import digest_of, plan, step


def entry(position=0, content="one", role=Role.DELETED):
    return TrashEntry(
        position=position,
        digest=digest_of(content),
        role=role,
        media_type="application/vnd.oci.image.manifest.v1+json",
        payload=content.encode(),
    )


@pytest.fixture
def plan_id(database):
    return database.write_now(lambda connection: save_plan(connection, plan(step(0), step(1, content="two"))))


def kept(database, plan_id, **which):
    return database.read_now(lambda connection: load(connection, plan_id, **which))


def test_what_is_put_in_comes_out_byte_for_byte_and_is_kept_once(database, plan_id):
    entries = [
        entry(),
        entry(content="child", role=Role.DESCENDANT),
        entry(1, "two"),
        entry(1, "child", Role.DESCENDANT),
    ]
    for _ in range(2):
        database.write_now(lambda connection: put(connection, plan_id, entries))
    assert set(kept(database, plan_id)) == set(entries)
    assert kept(database, plan_id, positions=[1]) == tuple(sorted(entries[2:], key=lambda one: one.digest))
    assert database.read_now(lambda connection: connection.scalar(select(func.count()).select_from(trash))) == 3


def test_bytes_with_another_digest_are_refused_with_all_that_came_along(database, plan_id):
    wrong = TrashEntry(position=0, digest=digest_of("one"), role=Role.DELETED, media_type="x", payload=b"two")
    with pytest.raises(StoreError) as caught:
        database.write_now(lambda connection: put(connection, plan_id, [entry(1, "two"), wrong]))
    assert caught.value.code == "trash-digest"
    assert kept(database, plan_id) == ()


@pytest.mark.parametrize("damage", [b"not zlib", zlib.compress(b"other bytes")])
def test_damaged_bytes_are_never_given_back(database, plan_id, damage):
    database.write_now(lambda connection: put(connection, plan_id, [entry()]))
    database.write_now(lambda connection: connection.execute(trash.update().values(payload=damage)))
    with pytest.raises(StoreError) as caught:
        kept(database, plan_id)
    assert caught.value.code == "trash-digest"
