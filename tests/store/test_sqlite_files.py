"""SQLite files: rights, locks, damage, and processes that end without saying goodbye."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest
from sqlalchemy import insert, select

from regwarden.errors import Conflict, StoreError
from regwarden.store.database import Access
from regwarden.store.schema import installation
from regwarden.store.upkeep import check

NOBODY = 65534
WRITE_FOREVER = """
import sys
from sqlalchemy import insert
from regwarden.store.database import Access, open_database
from regwarden.store.schema import installation

database = open_database(sys.argv[1], access=Access.WRITE, create=True)
number = 0
while True:
    rows = [{"name": f"{number:06}-{row:03}", "value": "x" * 200} for row in range(100)]
    database.write_now(lambda connection: connection.execute(insert(installation), rows))
    number += 1
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
"""


def put(name: str):
    return lambda connection: connection.execute(insert(installation).values(name=name, value="")).rowcount


def names(connection) -> list[str]:
    return list(connection.execute(select(installation.c.name).order_by(installation.c.name)).scalars())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "inventory.sqlite3"


@pytest.fixture
def written(file, opened) -> Path:
    """A closed database with one row."""
    database = opened(f"sqlite:///{file}")
    database.write_now(put("a"))
    database.close()
    return file


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A folder of root's that this process, for the time of the test not root, can read but not change."""
    folder = Path(tempfile.mkdtemp())
    yield folder
    if os.geteuid() != os.getuid():
        os.seteuid(os.getuid())
    folder.chmod(0o700)
    shutil.rmtree(folder)


def drop_rights(folder: Path, mode: int = 0o555) -> None:
    folder.chmod(mode)
    if os.geteuid() == 0:
        os.seteuid(NOBODY)


def test_a_new_file_and_its_folders_belong_to_their_owner_alone(tmp_path, opened):
    file = tmp_path / "new" / "folder" / "inventory.sqlite3"
    database = opened(f"sqlite:///{file}")
    database.write_now(put("a"))
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode) for path in (file.parent.parent, *file.parent.parent.rglob("*"))
    }
    assert modes == {
        "new": 0o700,
        "folder": 0o700,
        file.name: 0o600,
        f"{file.name}-wal": 0o600,
        f"{file.name}-shm": 0o600,
        f"{file.name}.lock": 0o600,
    }


def test_a_place_without_an_inventory_is_left_empty(file, opened):
    for access in Access:
        with pytest.raises(StoreError, match="there is no inventory"):
            opened(f"sqlite:///{file}", access=access, create=False)
    assert list(file.parent.iterdir()) == []


def test_closing_leaves_everything_in_the_one_file(written):
    assert sorted(path.name for path in written.parent.iterdir()) == [written.name, f"{written.name}.lock"]


def test_the_writer_writes_through_to_the_disk_and_keeps_foreign_keys(file, opened):
    def settings(connection):
        names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        return [connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in names]

    database = opened(f"sqlite:///{file}")
    assert database.write_now(settings) == ["wal", 2, 1, 10_000]


def test_readers_never_checkpoint(file, opened):
    database = opened(f"sqlite:///{file}")
    for reader in (database, opened(f"sqlite:///{file}", access=Access.READ)):
        assert reader.read_now(lambda c: c.exec_driver_sql("PRAGMA wal_autocheckpoint").scalar_one()) == 0


def test_a_second_writer_is_told_who_is_in_the_way_and_a_reader_is_let_in(file, opened):
    with writing_process(file):
        with pytest.raises(Conflict) as caught:
            opened(f"sqlite:///{file}")
        assert str(caught.value) == f"another regwarden process is writing to {file}"
        assert caught.value.hint
        reader = opened(f"sqlite:///{file}", access=Access.READ)
        assert len(reader.read_now(names)) >= 100
    # The lock ended with its process.
    opened(f"sqlite:///{file}").write_now(put("after"))


def test_a_second_writer_in_the_same_process_is_refused_too(file, opened):
    first = opened(f"sqlite:///{file}")
    with pytest.raises(Conflict):
        opened(f"sqlite:///{file}")
    first.write_now(put("a"))
    first.close()
    assert opened(f"sqlite:///{file}").read_now(names) == ["a"]


def test_nothing_that_was_answered_is_lost_when_the_writer_is_killed(file, opened):
    with writing_process(file) as lines:
        answered = [int(lines.readline()) for _ in range(30)][-1]

    assert Path(f"{file}-wal").stat().st_size > 0
    before = opened(f"sqlite:///{file}", access=Access.READ).read_now(names)
    assert opened(f"sqlite:///{file}").read_now(names) == before
    assert len(before) % 100 == 0
    assert len(before) // 100 >= answered
    assert check(f"sqlite:///{file}").is_sound


@contextmanager
def writing_process(file: Path) -> Iterator[IO[str]]:
    """A process that writes to ``file`` until it is killed; it prints a line after each commit."""
    command = [sys.executable, "-c", WRITE_FOREVER, f"sqlite:///{file}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        try:
            assert program.stdout.readline() == "1\n"
            yield program.stdout
        finally:
            program.kill()


@pytest.mark.parametrize("access", Access)
def test_a_file_that_is_no_database_is_named_and_left_alone(file, opened, access):
    content = b"This is not a database, it is a letter. " * 100
    file.write_bytes(content)
    with pytest.raises(StoreError) as caught:
        opened(f"sqlite:///{file}", access=access)
    assert caught.value.code == "not-a-database"
    assert str(caught.value) == f"{file} is not a SQLite database"
    assert caught.value.hint
    assert file.read_bytes() == content


def test_the_database_of_another_program_is_left_alone(file, opened):
    with sqlite3.connect(file) as other:
        other.execute("CREATE TABLE bookmarks (url TEXT)")
    other.close()
    with pytest.raises(StoreError) as caught:
        opened(f"sqlite:///{file}")
    assert caught.value.code == "not-an-inventory"
    other = sqlite3.connect(file)
    assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("bookmarks",)]
    other.close()


def test_an_empty_file_is_no_inventory_until_one_is_wanted(file, opened):
    file.touch()
    for access in Access:
        with pytest.raises(StoreError, match="there is no inventory"):
            opened(f"sqlite:///{file}", access=access, create=False)
    assert opened(f"sqlite:///{file}").read_now(names) == []


async def test_damage_is_one_sentence_with_a_hint(written, opened):
    damage(written)
    database = opened(f"sqlite:///{written}", access=Access.READ)
    with pytest.raises(StoreError) as caught:
        await database.read(lambda connection: connection.exec_driver_sql("SELECT * FROM tags").all())
    assert caught.value.code == "database-damaged"
    assert "\n" not in str(caught.value)
    assert caught.value.hint


def test_a_check_finds_damage(written):
    damage(written)
    report = check(f"sqlite:///{written}")
    assert not report.is_sound
    assert report.problems


def damage(file: Path) -> None:
    """Overwrite every page but those of the schema and the version."""
    connection = sqlite3.connect(file)
    page_bytes = connection.execute("PRAGMA page_size").fetchone()[0]
    (first_page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'tags'").fetchone()
    connection.close()
    with file.open("r+b") as pages:
        pages.seek((first_page - 1) * page_bytes)
        pages.write(b"\xaa" * page_bytes)


@pytest.mark.skipif(sys.platform == "win32", reason="rights are another matter on Windows")
def test_a_copy_on_a_read_only_medium_can_be_read(written, unprivileged, opened):
    copy = unprivileged / "copy.sqlite3"
    shutil.copy(written, copy)
    copy.chmod(0o444)
    drop_rights(unprivileged)
    assert opened(f"sqlite:///{copy}", access=Access.READ).read_now(names) == ["a"]


@pytest.mark.skipif(sys.platform == "win32", reason="rights are another matter on Windows")
def test_a_copy_with_a_log_on_a_read_only_medium_is_not_read_without_its_log(file, unprivileged, opened):
    database = opened(f"sqlite:///{file}")
    database.write_now(put("a"))
    for suffix in ("", "-wal"):
        copy = unprivileged / f"copy.sqlite3{suffix}"
        shutil.copy(f"{file}{suffix}", copy)
        copy.chmod(0o444)
    drop_rights(unprivileged)
    with pytest.raises(StoreError) as caught:
        opened(f"sqlite:///{unprivileged}/copy.sqlite3", access=Access.READ)
    assert caught.value.code == "database-place"
    assert "-shm" in caught.value.hint


@pytest.mark.skipif(sys.platform == "win32", reason="rights are another matter on Windows")
@pytest.mark.parametrize("name", ["inventory.sqlite3", "new/folder/inventory.sqlite3"])
def test_a_folder_without_the_right_to_write_is_named(unprivileged, opened, name):
    drop_rights(unprivileged)
    with pytest.raises(StoreError) as caught:
        opened(f"sqlite:///{unprivileged}/{name}")
    assert caught.value.code == "database-place"
    assert str(unprivileged) in str(caught.value)
    assert "Permission denied" in str(caught.value)


@pytest.mark.skipif(sys.platform == "win32", reason="rights are another matter on Windows")
def test_a_file_without_the_right_to_read_is_named(unprivileged, opened):
    file = unprivileged / "inventory.sqlite3"
    opened(f"sqlite:///{file}").close()
    file.chmod(0o000)
    drop_rights(unprivileged)
    with pytest.raises(StoreError) as caught:
        opened(f"sqlite:///{file}", access=Access.READ)
    assert caught.value.code == "database-place"


def test_a_folder_is_no_file(tmp_path, opened):
    for access in Access:
        with pytest.raises(StoreError) as caught:
            opened(f"sqlite:///{tmp_path}", access=access)
        assert caught.value.code == "database-place"
        assert str(caught.value) == f"{tmp_path} is a directory"


@pytest.mark.skipif(sys.platform == "win32", reason="rights are another matter on Windows")
def test_a_folder_that_must_not_be_entered_is_named(unprivileged, opened):
    drop_rights(unprivileged, 0o000)
    for access in Access:
        with pytest.raises(StoreError) as caught:
            opened(f"sqlite:///{unprivileged}/inventory.sqlite3", access=access)
        assert caught.value.code == "database-place"


def test_a_file_name_may_hold_characters_that_mean_something_in_a_url(tmp_path, opened):
    url = f"sqlite:///{tmp_path / '100%25 #1 & mehr ünï.sqlite3'}"
    database = opened(url)
    database.write_now(put("a"))
    assert opened(url, access=Access.READ).read_now(names) == ["a"]
    assert (tmp_path / "100%25 #1 & mehr ünï.sqlite3").exists()
