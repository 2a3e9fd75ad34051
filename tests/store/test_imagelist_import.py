"""imagelist's own table becomes entries of the allow-list: from both databases, in every form it had."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import select

from regwarden.core.oci.digests import Digest
from regwarden.errors import InputError, NotFound
from regwarden.store.allow_schema import allow_entries
from regwarden.store.audit import AuditFilter, list_audit
from regwarden.store.changes import ALLOW, read_changes
from regwarden.store.database import Access, Database, open_database
from regwarden.store.imagelist import ImagelistImage, delete_image, find_image, list_images, put_image
from regwarden.store.imagelist_import import ImagelistReport, import_imagelist
from regwarden.store.imagelist_source import SourceImage, UnreadableRow, open_imagelist_source, read_row

NOW = datetime(2026, 5, 1, tzinfo=UTC)
CREATED = datetime(2017, 11, 1, 10, 0, 0, 123456, tzinfo=UTC)
UPDATED = datetime(2017, 11, 2, 10, 0, tzinfo=UTC)
HEX = "0123456789abcdef" * 4
OLD = "CREATE TABLE images (created_at timestamptz, updated_at timestamptz, id varchar(64) PRIMARY KEY, name text)"
NEW = (
    "CREATE TABLE images (created_at timestamptz, updated_at timestamptz, id varchar(255) PRIMARY KEY, name text, "
    "tags varchar(100))"
)
ROWS: list[tuple[Any, ...]] = [
    ("2017-11-01 12:00:00.123456+02:00", "2017-11-02 10:00:00+00:00", HEX, "app", '{"latest","v1.0"}'),
    ("2017-11-01 12:00:00.123456+02:00", "2017-11-02 10:00:00+00:00", "empty", "app", "{}"),
    ("2017-11-01 12:00:00.123456+02:00", "2017-11-02 10:00:00+00:00", "null", "app", None),
    ("2017-11-01 12:00:00.123456+02:00", "2017-11-02 10:00:00+00:00", f"h/app@sha256:{HEX}", "app", r'{"a\"\\b"}'),
    ("2017-11-01 12:00:00.123456+02:00", "2017-11-02 10:00:00+00:00", "broken", "app", '{"cut of'),
    (None, None, "timeless", "app", None),
    (None, None, "nameless", None, None),
]


class Table:
    """A table ``images`` somewhere."""

    def __init__(self, url: str) -> None:
        self.url = url

    def run(self, statement: str, rows: Sequence[tuple[Any, ...]] = ()) -> None:
        if self.url.startswith("sqlite"):
            with closing(sqlite3.connect(self.url.removeprefix("sqlite:///"))) as file, file:
                file.executemany(statement, rows) if rows else file.execute(statement)
            return
        with psycopg.connect(self.url) as connection, connection.cursor() as cursor:
            text = statement.replace("?", "%s").encode()
            cursor.executemany(text, rows) if rows else cursor.execute(text)

    def fill(self, rows: Sequence[tuple[Any, ...]] = ROWS) -> None:
        self.run(NEW)
        self.run("INSERT INTO images (created_at, updated_at, id, name, tags) VALUES (?, ?, ?, ?, ?)", rows)


@pytest.fixture(params=["sqlite", "postgresql"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Table]:
    if request.param == "sqlite":
        yield Table(f"sqlite:///{tmp_path / 'imagelist.sqlite3'}")
        return
    server = request.getfixturevalue("postgresql_server")
    name = server.create_database()
    yield Table(server.url(name))
    server.drop_database(name)


def take(database: Database, table: Table, name: str = "images") -> ImagelistReport:
    with open_imagelist_source(table.url, name) as source:
        return import_imagelist(database, source, principal="alice", now=NOW)


def found(database: Database, image_id: str) -> ImagelistImage | None:
    return database.read_now(lambda connection: find_image(connection, image_id))


def everything(database: Database) -> list[Any]:
    return [
        database.read_now(lambda c: [tuple(row) for row in c.execute(select(allow_entries).order_by("id"))]),
        database.read_now(lambda c: list_audit(c, AuditFilter())),
        database.read_now(read_changes),
    ]


def test_every_row_is_taken_with_its_times(database, table):
    table.fill()
    report = take(database, table)
    assert (report.image_count, report.added_count, report.unreadable_count) == (7, 6, 1)
    assert [(one.id, one.problem[:12]) for one in sorted(report.problems)] == [
        ("broken", "its tags: '{"),
        ("nameless", "it has no na"),
    ]
    assert found(database, HEX) == ImagelistImage(HEX, "app", ("latest", "v1.0"), CREATED, UPDATED)
    assert found(database, "empty") == ImagelistImage("empty", "app", (), CREATED, UPDATED)
    assert found(database, "null") == ImagelistImage("null", "app", None, CREATED, UPDATED)
    assert found(database, "broken") == ImagelistImage("broken", "app", None, CREATED, UPDATED)
    assert found(database, "timeless") == ImagelistImage("timeless", "app", None, NOW, NOW)
    placed = found(database, f"h/app@sha256:{HEX}")
    assert placed is not None
    assert placed.tags == ('a"\\b',)
    digests = database.read_now(lambda c: c.execute(select(allow_entries.c.digest)).scalars().all())
    assert sorted(map(bytes, filter(None, digests))) == [Digest("sha256", HEX).to_bytes()] * 2
    (entry,) = database.read_now(lambda c: list_audit(c, AuditFilter()))
    assert (entry.principal, entry.action, entry.detail["added_count"]) == ("alice", "imagelist-import", 6)
    assert database.read_now(read_changes) == {ALLOW: 1}


def test_a_second_import_changes_nothing(database, table):
    table.fill()
    take(database, table)
    before = everything(database)
    report = take(database, table)
    assert (report.added_count, report.updated_count, report.unchanged_count) == (0, 0, 6)
    assert everything(database) == before


def test_the_newer_one_stays_and_the_name_is_never_changed(database, table):
    def put(image_id: str, now: datetime) -> None:
        database.write_now(lambda c: put_image(c, (image_id, "ours", ["ours"]), principal="ci", now=now))

    put(HEX, UPDATED + timedelta(seconds=1))
    put("empty", UPDATED - timedelta(seconds=1))
    put("broken", UPDATED - timedelta(seconds=1))
    put("timeless", UPDATED)
    table.fill()
    report = take(database, table)
    assert (report.added_count, report.updated_count, report.unchanged_count) == (2, 1, 3)
    shown = {image.id: image for image in database.read_now(lambda c: list(list_images(c)))}
    assert (shown[HEX].tags, shown[HEX].updated_at) == (("ours",), UPDATED + timedelta(seconds=1))
    assert (shown["empty"].name, shown["empty"].tags, shown["empty"].updated_at) == ("ours", (), UPDATED)
    assert shown["broken"].tags == shown["timeless"].tags == ("ours",)


def test_what_was_removed_here_since_is_not_brought_back(database, table):
    table.fill()
    take(database, table)
    database.write_now(lambda c: delete_image(c, HEX, principal="ops", now=NOW))
    report = take(database, table)
    assert (report.removed_count, report.added_count, report.unchanged_count) == (1, 0, 5)
    assert found(database, HEX) is None
    table.run(f"UPDATE images SET updated_at = '2030-01-01 00:00:00+00:00' WHERE id = '{HEX}'")
    assert take(database, table).added_count == 1
    assert found(database, HEX) is not None


def test_an_old_table_without_tags_is_read(database, table):
    table.run(OLD)
    table.run("INSERT INTO images (id, name) VALUES (?, ?)", [("a", "app")])
    assert take(database, table).added_count == 1


def test_many_rows_are_taken_in_pieces(database, table):
    table.fill([(None, None, f"id{number}", "app", "{}") for number in range(2500)])
    assert take(database, table).added_count == 2500
    assert len(database.read_now(lambda c: list_audit(c, AuditFilter()))) == 3
    assert take(database, table).unchanged_count == 2500


def test_rows_with_one_id_are_one(database, tmp_path):
    table = Table(f"sqlite:///{tmp_path / 'old.sqlite3'}")
    table.run("CREATE TABLE images (id text, name text, tags text, updated_at text)")
    rows = [("a", "n", "{new}", "2020-01-02 00:00:00"), ("a", "n", "{old}", "2020-01-01 00:00:00")]
    table.run("INSERT INTO images VALUES (?, ?, ?, ?)", rows)
    report = take(database, table)
    assert (report.added_count, report.unchanged_count) == (1, 1)
    image = found(database, "a")
    assert image is not None
    assert image.tags == ("new",)


def test_a_column_of_arrays_and_a_table_of_another_name_are_read(database, postgresql_server):
    table = Table(postgresql_server.url(postgresql_server.create_database()))
    table.run("CREATE SCHEMA old; CREATE TABLE old.pictures (id text, name text, tags text[])")
    table.run("INSERT INTO old.pictures VALUES (?, ?, ?)", [("a", "n", ["x y", "z"])])
    assert take(database, table, "old.pictures").added_count == 1
    image = found(database, "a")
    assert image is not None
    assert image.tags == ("x y", "z")


def test_a_table_in_our_own_database_is_read(database):
    table = Table(database.url)
    table.fill(ROWS[:3])
    assert take(database, table).added_count == 3


@pytest.mark.parametrize("name", ["pictures", "nowhere.images"])
def test_a_missing_table_is_named(table, name):
    table.run("CREATE TABLE images (id text)")
    with pytest.raises(NotFound) as caught, open_imagelist_source(table.url, name):
        pass
    assert caught.value.code == "no-imagelist"


def test_another_table_of_this_name_is_not_taken_for_it(table):
    table.run("CREATE TABLE images (id text)")
    with pytest.raises(NotFound), open_imagelist_source(table.url, "images"):
        pass


def test_names_and_addresses_that_cannot_be_are_refused(tmp_path):
    with pytest.raises(InputError), open_imagelist_source(f"sqlite:///{tmp_path}/x", 'images"; DROP TABLE images'):
        pass
    with pytest.raises(NotFound), open_imagelist_source(f"sqlite:///{tmp_path}/x", "images"):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2017-11-01 10:00:00.123456+00", CREATED),
        ("2017-11-01 10:00:00.123456789+00:00", CREATED),
        ("2017-11-01T12:00:00.123456+02:00", CREATED),
        ("2017-11-01T10:00:00.123456Z", CREATED),
        ("2017-11-01 10:00:00.123456", CREATED),
        ("2017-11-01 10:00:00.123456789 +0000 UTC", CREATED),
        ("2017-11-01 04:30:00.123456-05:30", CREATED),
        ("2017-11-02 10:00:00", UPDATED),
        ("2017-11-02 10:00:00.000000 +0000 UTC m=+1.5", UPDATED),
        ("infinity", None),
        ("0044-03-15 00:00:00+00 BC", None),
        ("9999-12-31 23:59:59-23:59", None),
        ("2017-13-01 00:00:00", None),
        ("1509530400", None),
        ("", None),
    ],
)
def test_moments(text, expected):
    row = read_row(("a", "n", None, text, None))
    assert isinstance(row, SourceImage)
    assert row.created_at == expected


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ((b"\xff", "n", None, None, None), "UTF-8"),
        (("a\0", "n", None, None, None), "cannot be kept"),
        (("", "n", None, None, None), "no id"),
        ((None, "n", None, None, None), "no id"),
        (("a", "", None, None, None), "no name"),
        (("a" * 1025, "n", None, None, None), "1024 bytes"),
    ],
)
def test_rows_that_cannot_be_taken_say_why(row, problem):
    read = read_row(row)
    assert isinstance(read, UnreadableRow)
    assert problem in read.problem
    assert len(read.id) <= 80


def test_bytes_that_are_no_text_do_not_end_an_import(tmp_path):
    table = Table(f"sqlite:///{tmp_path / 'old.sqlite3'}")
    table.run("CREATE TABLE images (id text, name text)")
    table.run("INSERT INTO images VALUES (CAST(x'ff' AS text), 'n')")
    table.run("INSERT INTO images VALUES ('a', 'n')")
    with open_database(f"sqlite:///{tmp_path / 'ours.sqlite3'}", access=Access.WRITE, create=True) as database:
        report = take(database, table)
    assert (report.added_count, report.unreadable_count) == (1, 1)
