"""Blobs that nothing names, and manifests that need a blob which is gone: regstat's two questions about blobs."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Table, insert, update
from sqlalchemy.engine import Connection

from regwarden.core.conditions import parse_condition
from regwarden.core.query import Query
from regwarden.core.selectors import parse_selector
from regwarden.store.database import Database
from regwarden.store.packing import pack_blob_ids
from regwarden.store.queries import count_rows, list_rows
from regwarden.store.schema import (
    blobs,
    manifests,
    registries,
    repositories,
    repository_blobs,
    repository_manifests,
)
from regwarden.store.times import to_micros

NOW = datetime(2026, 11, 21, tzinfo=UTC)
ORPHANED = Query("blob", conditions=(parse_condition("blob", "is_orphaned = true"),))
LACKING = Query("manifest", is_lacking_blobs=True)


def _digest(number: int) -> bytes:
    return b"\x01" + number.to_bytes(32, "big")


def _text(number: int) -> str:
    return f"sha256:{number:064x}"


def _repository(number: int, name: str, **values: Any) -> dict[str, Any]:
    return {
        "id": number,
        "registry_id": 1,
        "name": name,
        "first_seen_at": 0,
        "seen_at": 1,
        "deleted_at": None,
        "state": "complete",
        **values,
    }


def _manifest(number: int, *blob_ids: int, state: str = "read") -> dict[str, Any]:
    packed, layer_count = pack_blob_ids(blob_ids)
    return {
        "id": number,
        "digest": _digest(100 + number),
        "media_type": "m",
        "size_bytes": 1,
        "state": state,
        "is_index": 0,
        "layer_count": layer_count,
        "blob_ids": packed,
    }


def _held(repository_id: int, manifest_id: int, *, deleted_at: int | None = None) -> dict[str, Any]:
    return {
        "repository_id": repository_id,
        "manifest_id": manifest_id,
        "first_seen_at": 0,
        "deleted_at": deleted_at,
    }


def _uploaded(repository_id: int, blob_id: int, *, days: int = 2, deleted_at: int | None = None) -> dict[str, Any]:
    at = to_micros(NOW - timedelta(days=days))
    return {
        "repository_id": repository_id,
        "blob_id": blob_id,
        "first_seen_at": at,
        "pushed_at": at,
        "deleted_at": deleted_at,
    }


def _insert(connection: Connection, *, table: Table, rows: list[dict[str, Any]]) -> None:
    connection.execute(insert(table), rows)


@pytest.fixture
def filled(database: Database) -> Database:
    """Repository 1 names the blobs 1 and 2, 2 was never read whole, 3 has no manifest, 4 is gone."""
    rows: dict[Any, list[dict[str, Any]]] = {
        registries: [{"id": 1, "name": "prod", "url": "https://r", "kind": "distribution", "first_seen_at": 0}],
        repositories: [
            _repository(1, "a"),
            _repository(2, "b", state="partial"),
            _repository(3, "c"),
            _repository(4, "d", deleted_at=5),
        ],
        blobs: [
            {"id": number, "digest": _digest(number), "media_type": "", "size_bytes": number} for number in range(1, 8)
        ],
        manifests: [_manifest(1, 1, 2), _manifest(2, 3), _manifest(3, 4, 1)],
        repository_manifests: [_held(1, 1), _held(1, 2, deleted_at=9), _held(2, 3)],
        repository_blobs: [
            _uploaded(1, 1),
            _uploaded(1, 3),  # of the deleted manifest
            _uploaded(1, 5, days=0),
            _uploaded(1, 6, deleted_at=9),
            _uploaded(2, 5),
            _uploaded(3, 7),
            _uploaded(4, 7),
        ],
    }
    for table, values in rows.items():
        database.write_now(partial(_insert, table=table, rows=values))
    return database


def _found(database: Database, query: Query) -> list[tuple[object, object]]:
    page = database.read_now(lambda connection: list_rows(connection, query, NOW))
    assert database.read_now(lambda connection: count_rows(connection, query, NOW)) == len(page.rows)
    return [(row["repository"], row["digest"]) for row in page.rows]


def test_uploaded_blobs_that_no_living_manifest_names_are_orphaned(filled: Database) -> None:
    assert _found(filled, ORPHANED) == [("a", _text(3)), ("a", _text(5)), ("c", _text(7))]


def test_what_was_just_uploaded_can_be_left_out(filled: Database) -> None:
    settled = replace(ORPHANED, conditions=(*ORPHANED.conditions, parse_condition("blob", "pushed > 1d")))
    assert _found(filled, settled) == [("a", _text(3)), ("c", _text(7))]


def test_whether_a_blob_is_needed_is_unknown_where_not_everything_was_read(filled: Database) -> None:
    unknown = Query("blob", conditions=(parse_condition("blob", "is_orphaned = unknown"),))
    assert _found(filled, unknown) == [("b", _text(5))]
    filled.write_now(
        lambda connection: connection.execute(update(manifests).where(manifests.c.id == 1).values(state="unread"))
    )
    assert _found(filled, ORPHANED) == [("c", _text(7))]


def test_a_blob_of_a_tag_or_digest_that_was_asked_for_is_named_by_it(filled: Database) -> None:
    asked = Query("blob", selectors=(parse_selector(f"a@{_text(101)}"),))
    page = filled.read_now(lambda connection: list_rows(connection, asked, NOW))
    assert [(row["digest"], row["is_orphaned"]) for row in page.rows] == [(_text(1), False), (_text(2), False)]


def test_pages_of_blobs_hold_every_row_once(filled: Database) -> None:
    whole = _found(filled, Query("blob"))
    assert len(whole) == 8
    found: list[tuple[object, object]] = []
    cursor = None
    while True:
        page = filled.read_now(partial(list_rows, query=Query("blob", limit=1, cursor=cursor), now=NOW))
        found += [(row["repository"], row["digest"]) for row in page.rows]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert found == whole


def test_manifests_that_need_a_blob_which_is_gone_are_found(filled: Database) -> None:
    assert _found(filled, LACKING) == []
    gone = update(repository_blobs).where(repository_blobs.c.blob_id == 1).values(deleted_at=9)
    filled.write_now(lambda connection: connection.execute(gone))
    # Blob 1 is gone from the repository a; the one of b is another matter.
    assert _found(filled, LACKING) == [("a", _text(101))]
    filled.write_now(lambda connection: connection.execute(insert(repository_blobs), [_uploaded(2, 4, deleted_at=9)]))
    assert _found(filled, LACKING) == [("a", _text(101)), ("b", _text(103))]
    only = replace(LACKING, conditions=(parse_condition("manifest", f"digest = {_text(103)}"),))
    assert _found(filled, only) == [("b", _text(103))]
    filled.write_now(
        lambda connection: connection.execute(
            update(repository_manifests).where(repository_manifests.c.repository_id == 2).values(deleted_at=9)
        )
    )
    assert _found(filled, LACKING) == [("a", _text(101))]
