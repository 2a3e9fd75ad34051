"""Bulk writes and look-ups mean the same on both databases."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from sqlalchemy import select

from regwarden.store.bulk import bulk_ids, bulk_update, bulk_upsert, excluded
from regwarden.store.database import Database
from regwarden.store.schema import blobs, manifests, registries, tag_history


def _blob(name: bytes, size_bytes: int, **columns: object) -> dict[str, object]:
    return {"digest": name, "media_type": "text/plain", "size_bytes": size_bytes, **columns}


def _upsert_blobs(database: Database, rows: list[dict[str, object]], **options: Any) -> dict[bytes, int]:
    database.write_now(lambda connection: bulk_upsert(connection, blobs, rows, conflict=("digest",), **options))
    found = database.read_now(lambda connection: connection.execute(select(blobs.c.digest, blobs.c.size_bytes)).all())
    return {bytes(digest): size for digest, size in found}


def test_rows_are_inserted_and_an_existing_one_is_kept(database: Database):
    _upsert_blobs(database, [_blob(b"a", 1)])
    assert _upsert_blobs(database, [_blob(b"a", 100), _blob(b"b", 2)]) == {b"a": 1, b"b": 2}


def test_an_existing_row_takes_the_columns_named_and_no_others(database: Database):
    _upsert_blobs(database, [_blob(b"a", 1)])
    _upsert_blobs(database, [_blob(b"a", 7) | {"media_type": "changed"}], update=("size_bytes",))
    row = database.read_now(lambda connection: connection.execute(select(blobs)).one())
    assert (row.size_bytes, row.media_type) == (7, "text/plain")


def test_a_condition_restricts_which_existing_rows_change(database: Database):
    _upsert_blobs(database, [_blob(b"a", 10), _blob(b"b", 10)])
    smaller = excluded(blobs.c.size_bytes) < blobs.c.size_bytes
    found = _upsert_blobs(database, [_blob(b"a", 5), _blob(b"b", 20)], update=("size_bytes",), where=smaller)
    assert found == {b"a": 5, b"b": 10}


def test_a_condition_may_hold_values(database: Database):
    _upsert_blobs(database, [_blob(b"a", 10), _blob(b"b", 30)])
    rows = [_blob(b"a", 5), _blob(b"b", 20)]
    assert _upsert_blobs(database, rows, update=("size_bytes",), where=blobs.c.size_bytes > 20) == {b"a": 10, b"b": 20}


def test_of_rows_with_the_same_key_the_last_one_updates(database: Database):
    _upsert_blobs(database, [_blob(b"a", 1)])
    assert _upsert_blobs(database, [_blob(b"a", 2), _blob(b"a", 3)], update=("size_bytes",)) == {b"a": 3}


def test_of_rows_with_the_same_key_the_first_one_is_kept_without_update(database: Database):
    assert _upsert_blobs(database, [_blob(b"a", 2), _blob(b"a", 3)]) == {b"a": 2}


def test_no_rows_are_no_statement(database: Database):
    assert _upsert_blobs(database, []) == {}


def test_values_of_every_type_come_back_as_they_were(database: Database):
    huge = 2**62
    row = {
        "digest": b"\x00\xff" * 16,
        "state": "read",
        "media_type": "ünï\N{GRINNING FACE} 'quoted' \"%s\" {a,b} \\ NULL",
        "config_digest": None,
        "subject_digest": b"",
        "is_index": True,
        "created_at": -huge,
        "size_bytes": huge,
        "blob_ids": bytes(range(256)),
        "labels": None,
    }
    empty = dict.fromkeys(row) | {
        "digest": b"2",
        "state": "",
        "media_type": "",
        "is_index": False,
        "size_bytes": 0,
        "blob_ids": b"",
    }
    database.write_now(lambda connection: bulk_upsert(connection, manifests, [row, empty], conflict=("digest",)))

    columns = [manifests.c[name] for name in row]
    statement = select(*columns).order_by(manifests.c.id)
    first, second = database.read_now(lambda connection: connection.execute(statement).all())
    assert first._asdict() == row | {"is_index": 1}
    assert second._asdict() == empty | {"is_index": 0}


def test_a_column_may_be_null_in_every_row(database: Database):
    row = {"digest": b"a", "state": "unread", "media_type": "", "size_bytes": 1, "blob_ids": b""}
    row |= {"created_at": None, "labels": None, "payload": None}
    database.write_now(lambda connection: bulk_upsert(connection, manifests, [row], conflict=("digest",)))
    assert database.read_now(lambda connection: connection.execute(select(manifests.c.created_at)).scalar_one()) is None


def test_rows_with_unlike_columns_are_refused_and_nothing_is_written(database: Database):
    with pytest.raises(ValueError, match="same columns"):
        _upsert_blobs(database, [_blob(b"a", 1), _blob(b"b", 2, is_conflicting=1)])
    with pytest.raises(ValueError, match="size_bytes"):
        _upsert_blobs(database, [_blob(b"a", 1), {"digest": b"b", "media_type": "", "is_conflicting": 1}])
    assert _upsert_blobs(database, []) == {}


def test_the_primary_key_decides_unless_told_otherwise(database: Database):
    row = {"id": 5, "name": "r", "url": "u", "kind": "distribution", "first_seen_at": 1}
    for url in ("old", "new"):
        rows = [row | {"url": url}]
        database.write_now(partial(bulk_upsert, table=registries, rows=rows, update=("url",)))
    assert database.read_now(lambda connection: connection.execute(select(registries.c.url)).scalars().all()) == ["new"]


def test_more_rows_than_one_statement_takes(database: Database):
    count = 25_003
    found = _upsert_blobs(database, [_blob(b"%d" % number, number) for number in range(count)])
    assert found == {b"%d" % number: number for number in range(count)}


def test_ids_are_found_for_the_keys_that_exist(database: Database):
    count = 12_345
    keys = [b"%d" % number for number in range(count)]
    _upsert_blobs(database, [_blob(key, 1) for key in keys])
    stored = database.read_now(lambda connection: connection.execute(select(blobs.c.digest, blobs.c.id)).all())
    asked = [*keys, b"absent", *keys[:10]]
    assert database.read_now(lambda connection: bulk_ids(connection, blobs, "digest", asked)) == {
        bytes(digest): number for digest, number in stored
    }


def test_ids_are_found_by_text_and_by_number(database: Database):
    row = {"id": 3, "name": "it's 100%", "url": "", "kind": "", "first_seen_at": 44}
    database.write_now(lambda connection: bulk_upsert(connection, registries, [row]))
    assert database.read_now(lambda connection: bulk_ids(connection, registries, "name", ["it's 100%", "x"])) == {
        "it's 100%": 3
    }
    assert database.read_now(lambda connection: bulk_ids(connection, registries, "first_seen_at", [44, 45])) == {44: 3}


def test_no_keys_have_no_ids(database: Database):
    assert database.read_now(lambda connection: bulk_ids(connection, blobs, "digest", [])) == {}


def test_a_violated_foreign_key_is_an_error(database: Database):
    point = {"repository_id": 99, "tag": "a", "at": 1, "effective_at": 1, "digest": b"", "cause": "crawl"}
    with pytest.raises(Exception, match=r"(?i)foreign key"):
        database.write_now(lambda connection: bulk_upsert(connection, tag_history, [point]))


def test_existing_rows_are_changed_by_their_key_and_none_is_added(database: Database):
    ids = _upsert_ids(database)
    changes = [{"id": ids[b"a"], "size_bytes": 9, "media_type": "x"}, {"id": 99, "size_bytes": 1, "media_type": "y"}]
    database.write_now(lambda connection: bulk_update(connection, blobs, changes))
    database.write_now(lambda connection: bulk_update(connection, blobs, []))
    columns = (blobs.c.digest, blobs.c.size_bytes, blobs.c.media_type)
    rows = database.read_now(lambda connection: connection.execute(select(*columns).order_by(blobs.c.digest)).all())
    assert [tuple(row) for row in rows] == [(b"a", 9, "x"), (b"b", 2, "text/plain")]
    with pytest.raises(ValueError, match="same columns"):
        database.write_now(lambda connection: bulk_update(connection, blobs, [{"id": 1, "size_bytes": 2}, {"id": 2}]))


def _upsert_ids(database: Database) -> dict[bytes, int]:
    _upsert_blobs(database, [_blob(b"a", 1), _blob(b"b", 2)])
    return database.read_now(lambda connection: bulk_ids(connection, blobs, "digest", [b"a", b"b"]))
