"""The inventory as a whole: totals, the largest, coverage, problems."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import insert

from regwarden.core.oci.digests import Digest
from regwarden.store import reports, schema
from regwarden.store.database import Database
from regwarden.store.times import from_micros

DIGEST = Digest.of(b"manifest")


def _insert(connection: Any) -> None:
    def add(table: Any, **values: Any) -> None:
        connection.execute(insert(table).values(**values))

    for number, name in ((1, "prod"), (2, "dev"), (3, "never")):
        figures = {"stored_bytes": 100 * number, "layer_bytes": 7, "disk_bytes": 5} if number < 3 else {}
        crawl = {"crawl_id": number, "crawled_at": 50, "crawl_state": "complete"} if number == 1 else {}
        url = f"https://{name}.example.com"
        add(schema.registries, id=number, name=name, url=url, kind="distribution", first_seen_at=0, **figures, **crawl)
    add(schema.crawls, id=1, registry_id=1, state="complete", started_at=1, certificate='{"page_count": 3}')
    add(schema.crawls, id=2, registry_id=2, state="running", started_at=1)
    places = (
        (1, 1, "small", "complete", None, 10, 9),
        (2, 1, "large", "partial", None, 90, 1),
        (3, 1, "gone", "complete", 9, 999, 999),
        (4, 2, "middle", "complete", None, 50, None),
    )
    for number, registry_id, name, state, deleted_at, stored_bytes, exclusive_bytes in places:
        add(
            schema.repositories,
            id=number,
            registry_id=registry_id,
            name=name,
            state=state,
            deleted_at=deleted_at,
            stored_bytes=stored_bytes,
            exclusive_bytes=exclusive_bytes,
            first_seen_at=0,
        )
    add(schema.manifests, id=1, digest=DIGEST.to_bytes(), state="read", media_type="m", size_bytes=1, blob_ids=b"")
    for number, (repository_id, name, manifest_id, logical_bytes) in enumerate(
        ((1, "a", 1, 5), (2, "b", None, 70), (2, "c", 1, None), (3, "d", 1, 1000), (4, "e", 1, 60)), start=1
    ):
        add(
            schema.tags,
            id=number,
            repository_id=repository_id,
            name=name,
            manifest_id=manifest_id,
            logical_bytes=logical_bytes,
            state="ok",
            first_seen_at=0,
            tagged_at=0,
        )
    problems: tuple[tuple[int, int | None, str], ...] = (
        (1, 2, "b"),
        (1, 2, "a"),
        (1, 1, "a"),
        (1, None, "z"),
        (2, 4, "a"),
    )
    for registry_id, affected_id, code in problems:
        add(
            schema.crawl_problems,
            registry_id=registry_id,
            repository_id=affected_id,
            tag="t" if affected_id else "",
            digest=DIGEST.to_bytes() if code == "b" else b"",
            code=code,
            message="it is so",
            first_seen_at=1,
            seen_at=2,
            tried_at=2,
        )


@pytest.fixture
def filled(database: Database) -> Database:
    database.write_now(_insert)
    return database


def test_the_overview_has_every_registry_by_name(filled: Database) -> None:
    found = filled.read_now(reports.registry_overview)
    assert [(one.registry, one.stored_bytes, one.layer_bytes, one.disk_bytes) for one in found] == [
        ("dev", 200, 7, 5),
        ("never", None, None, None),
        ("prod", 100, 7, 5),
    ]


def test_usage_names_the_largest_that_exist(filled: Database) -> None:
    report = filled.read_now(lambda connection: reports.usage_report(connection, top=2))
    assert [(one.repository, one.stored_bytes) for one in report.by_stored] == [("large", 90), ("middle", 50)]
    assert [(one.repository, one.exclusive_bytes) for one in report.by_exclusive] == [("small", 9), ("large", 1)]
    assert [(one.tag, one.digest, one.logical_bytes) for one in report.largest_tags] == [
        ("b", None, 70),
        ("e", str(DIGEST), 60),
    ]


def test_usage_counts_problems_by_kind_most_frequent_first(filled: Database) -> None:
    report = filled.read_now(reports.usage_report)
    assert [(one.registry, one.code, one.problem_count) for one in report.problems] == [
        ("dev", "a", 1),
        ("prod", "a", 2),
        ("prod", "b", 1),
        ("prod", "z", 1),
    ]


def test_usage_can_be_limited_to_registries(filled: Database) -> None:
    report = filled.read_now(lambda connection: reports.usage_report(connection, ["dev"]))
    assert [one.registry for one in report.registries] == ["dev"]
    assert {one.registry for one in report.by_stored} == {"dev"}
    assert {one.registry for one in report.largest_tags} == {"dev"}
    assert {one.registry for one in report.problems} == {"dev"}


def test_coverage_tells_how_complete_and_how_old(filled: Database) -> None:
    dev, never, prod = filled.read_now(reports.coverage)
    assert (prod.state, prod.crawled_at, prod.certificate) == ("complete", from_micros(50), {"page_count": 3})
    assert prod.repository_states == {"complete": 1, "partial": 1}
    assert not prod.is_crawl_running
    assert dev.is_crawl_running
    assert (never.state, never.crawled_at, never.certificate, never.repository_states) == (None, None, {}, {})


def test_problems_are_listed_by_place(filled: Database) -> None:
    found = filled.read_now(lambda connection: reports.list_problems(connection, "prod"))
    assert {(one.repository, one.tag, one.code) for one in found} == {
        ("", "", "z"),
        ("large", "t", "a"),
        ("large", "t", "b"),
        ("small", "t", "a"),
    }
    one = filled.read_now(lambda connection: reports.list_problems(connection, "prod", "large"))
    assert [(problem.code, problem.digest) for problem in one] == [("b", str(DIGEST)), ("a", "")]


def test_an_empty_inventory_has_empty_reports(database: Database) -> None:
    assert database.read_now(reports.registry_overview) == []
    assert database.read_now(reports.coverage) == []
    assert database.read_now(reports.usage_report) == reports.UsageReport(
        registries=(), by_stored=(), by_exclusive=(), largest_tags=(), problems=()
    )
