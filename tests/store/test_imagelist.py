"""What imagelist's clients put is kept as imagelist kept it, by one process or by several."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.engine import Connection

from regwarden.core.oci.digests import Digest
from regwarden.store.allow_schema import allow_entries
from regwarden.store.audit import AuditFilter, list_audit
from regwarden.store.changes import ALLOW, read_changes
from regwarden.store.database import Database
from regwarden.store.imagelist import (
    ImagelistImage,
    delete_image,
    digest_of,
    find_image,
    list_images,
    ping,
    put_image,
)
from tests.store.conftest import OpenDatabase

NOW = datetime(2026, 5, 1, 12, 0, 0, 123456, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
HEX = "0123456789abcdef" * 4


def put(
    database: Database, image_id: str, name: str, tags: list[str] | None = None, now: datetime = NOW
) -> ImagelistImage:
    return database.write_now(lambda c: put_image(c, (image_id, name, tags), principal="ci", now=now))


def number(database: Database) -> int:
    return database.read_now(read_changes).get(ALLOW, 0)


def actions(database: Database) -> list[tuple[str, str, str]]:
    entries = database.read_now(lambda c: list_audit(c, AuditFilter()))
    return [(one.action, one.principal, one.subject) for one in entries]


def test_an_unknown_id_is_added_with_both_times(database):
    image = put(database, HEX, "app", ["1.0", "latest"])
    assert image == ImagelistImage(HEX, "app", ("1.0", "latest"), NOW, NOW)
    assert database.read_now(lambda c: find_image(c, HEX)) == image
    row = database.read_now(lambda c: c.execute(select(allow_entries)).one())
    assert (row.effect, row.image, row.pattern, row.scope, row.is_protecting) == ("allow", HEX, "", "{}", 1)
    assert row.digest == Digest("sha256", HEX).to_bytes()
    assert (row.made_by, row.change_number, row.removed_at) == ("ci", 1, None)
    assert (number(database), actions(database)) == (1, [("imagelist-put", "ci", HEX)])


@pytest.mark.parametrize("tags", [["2.0"], [], ["1.0"]])
def test_of_a_known_id_the_tags_are_replaced_and_the_name_never(database, tags):
    put(database, "x", "app", ["1.0"])
    image = put(database, "x", "other", tags, LATER)
    assert image == ImagelistImage("x", "app", tuple(tags), NOW, LATER)
    assert (number(database), len(actions(database))) == (2, 2)


def test_of_a_known_id_nothing_changes_without_tags(database):
    put(database, "x", "app", ["1.0"])
    assert put(database, "x", "other", None, LATER) == ImagelistImage("x", "app", ("1.0",), NOW, NOW)
    assert (number(database), len(actions(database))) == (1, 1)


def test_what_is_deleted_can_be_put_again_under_another_name(database):
    put(database, "x", "app", ["1.0"])
    assert database.write_now(lambda c: delete_image(c, "x", principal="ops", now=LATER))
    assert not database.write_now(lambda c: delete_image(c, "x", principal="ops", now=LATER))
    assert database.read_now(lambda c: find_image(c, "x")) is None
    again = LATER + timedelta(hours=1)
    assert put(database, "x", "other", None, again) == ImagelistImage("x", "other", None, again, again)
    rows = database.read_now(lambda c: c.execute(select(allow_entries).order_by(allow_entries.c.id)).all())
    assert [(row.imagelist_id, row.removed_by, row.change_number) for row in rows] == [(None, "ops", 2), ("x", "", 3)]
    assert [action for action, *_ in actions(database)] == ["imagelist-put", "imagelist-delete", "imagelist-put"]


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("created_at", ["b", "a", "c"]),
        ("updated_at", ["c", "b", "a"]),
        ("name", ["a", "b", "c"]),
        ("id", ["c", "b", "a"]),
        ("ID", ["c", "b", "a"]),
        ("", ["c", "b", "a"]),
    ],
)
def test_lists_descend_always(database, sort, expected):
    put(database, "c", "n1", None, NOW)
    put(database, "a", "n3", None, NOW + timedelta(seconds=1))
    put(database, "b", "n2", None, NOW + timedelta(seconds=2))
    put(database, "c", "n1", [], NOW + timedelta(seconds=3))
    found = database.read_now(lambda c: [image.id for image in list_images(c, sort=sort)])
    assert found == expected


def test_lists_are_filtered_by_the_exact_name(database):
    for image_id, name in (("1", "app"), ("2", "App"), ("3", "app2"), ("4", "app")):
        put(database, image_id, name)
    assert database.read_now(lambda c: [image.id for image in list_images(c, name="app", sort="id")]) == ["4", "1"]


def test_a_database_with_the_table_answers_a_ping(database):
    database.read_now(ping)


@pytest.mark.parametrize(
    ("image_id", "is_digest"),
    [
        (HEX, True),
        (f"sha256:{HEX}", True),
        (f"host:5000/org/app@sha256:{HEX}", True),
        (f"docker-pullable://host/app@sha256:{HEX}", True),
        (f"docker://sha256:{HEX}", True),
        (f"sha256:{HEX}\n", True),
        (HEX.upper(), False),
        (HEX[1:], False),
        (f"{HEX}0", False),
        (f"sha256:{HEX}0", False),
        (f"xsha256:{HEX}", False),
        (f"app-{HEX}", False),
        (f"{HEX}\n", False),
        ("app:1.0", False),
    ],
)
def test_which_ids_name_a_digest(image_id, is_digest):
    assert digest_of(image_id) == (Digest("sha256", HEX).to_bytes() if is_digest else None)


async def test_concurrent_first_puts_all_succeed(database):
    def work(name: str):
        return lambda c: put_image(c, ("x", name, [name]), principal="ci", now=NOW)

    names = [f"n{number}" for number in range(20)]
    images = await asyncio.gather(*(database.write(work(name)) for name in names))
    assert {image.name for image in images} == {images[0].name}
    assert [image.tags for image in images] == [(name,) for name in names]


async def test_concurrent_first_puts_of_several_processes_all_succeed(postgresql_url: str, opened: OpenDatabase):
    replicas = [opened(postgresql_url) for _ in range(4)]

    def work(image_id: str, name: str):
        def put_slowly(connection: Connection) -> ImagelistImage:
            assert find_image(connection, "other") is None
            return put_image(connection, (image_id, name, [name]), principal="ci", now=NOW)

        return put_slowly

    asked = [(image_id, replica) for image_id in "abcdefghij" for replica in range(4)]
    images = await asyncio.gather(*(replicas[n].write(work(image_id, f"n{n}"), urgent=True) for image_id, n in asked))
    assert [(image.id, image.tags) for image in images] == [(image_id, (f"n{n}",)) for image_id, n in asked]
    with_names = {(image.id, image.name) for image in images}
    assert len(with_names) == 10
    assert number(replicas[0]) == 40
    assert len(actions(replicas[0])) == 40
