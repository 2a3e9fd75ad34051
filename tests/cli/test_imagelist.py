"""From imagelist's database to the allow-list, as a person does it."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from regwarden.store.database import Access, open_database
from regwarden.store.imagelist import list_images

TABLE = (
    "CREATE TABLE images (created_at timestamptz, updated_at timestamptz, id varchar(255) PRIMARY KEY, name text, "
    "tags varchar(100))"
)
ROWS = (
    "INSERT INTO images VALUES ('2017-11-01 10:00:00+00:00', '2017-11-02 10:00:00+00:00', 'a', 'app', "
    """'{"1.0"}'), (NULL, NULL, 'b', 'app', '{cut'), (NULL, NULL, 'c', NULL, NULL)"""
)


def images(url: str) -> list[tuple[str, tuple[str, ...] | None]]:
    with open_database(url, access=Access.READ) as database:
        return database.read_now(lambda c: [(image.id, image.tags) for image in list_images(c, sort="id")])


def test_imagelists_database_is_taken_over(run, postgresql_url):
    with psycopg.connect(postgresql_url) as connection:
        connection.execute(TABLE)
        connection.execute(ROWS.encode())
    first = run("db", "import", "imagelist", "--output", "json", "--database", postgresql_url)
    assert first.exit_code == 3, first.stderr
    assert json.loads(first.stdout) == {
        "image_count": 3,
        "added_count": 2,
        "updated_count": 0,
        "unchanged_count": 0,
        "removed_count": 0,
        "unreadable_count": 1,
        "without_tags_count": 1,
    }
    assert "warning: 'b': its tags" in first.stderr
    assert "warning: 'c': it has no name" in first.stderr
    assert images(postgresql_url) == [("b", None), ("a", ("1.0",))]
    again = run("db", "import", "imagelist", "--output", "json", "--database", postgresql_url)
    assert json.loads(again.stdout)["unchanged_count"] == 2


def test_a_sqlite_file_is_taken_into_another(run, tmp_path: Path):
    with closing(sqlite3.connect(tmp_path / "old.sqlite3")) as file, file:
        file.execute(TABLE.replace("images", "pictures"))
        file.execute("INSERT INTO pictures (id, name) VALUES ('a', 'app')")
    url = f"sqlite:///{tmp_path}/inventory.sqlite3"
    options = ("--from", f"sqlite:///{tmp_path}/old.sqlite3", "--table", "pictures", "--database", url)
    done = run("db", "import", "imagelist", *options)
    assert done.exit_code == 0, done.stderr
    assert images(url) == [("a", None)]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (("--from", "sqlite:///nowhere.sqlite3"), "no-imagelist"),
        (("--table", "x y"), "bad-input"),
        (("--from", "http://x"), "bad-database-address"),
    ],
)
def test_what_cannot_be_read_is_said(run, tmp_path, options, code):
    failed = run("db", "import", "imagelist", "--database", f"sqlite:///{tmp_path}/inventory.sqlite3", *options)
    assert failed.exit_code != 0
    assert f"error[{code}]" in failed.stderr
