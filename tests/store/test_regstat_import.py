"""What regstat collected is taken in once, however often it is imported; what cannot be placed is counted."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, text

from regwarden.core.oci.descriptors import Descriptor
from regwarden.core.oci.digests import Digest
from regwarden.core.oci.manifests import Manifest
from regwarden.errors import InputError, NotFound
from regwarden.store.applying import EventRegistry
from regwarden.store.contents import ManifestContent, save_contents
from regwarden.store.history import find_histories
from regwarden.store.regstat import enable_regstat
from regwarden.store.regstat_import import import_regstat
from regwarden.store.regstat_source import open_regstat_source
from regwarden.store.schema import blobs, manifests, metadata, registries, repositories, repository_manifests, tags
from regwarden.store.times import from_micros
from tests.store.regstat_tables import create_tables

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
PROD = EventRegistry("prod", "https://registry.example.com", hosts=("alias.internal:5000",))
HOST = "registry.example.com"


def digest(name: str) -> str:
    return str(Digest.of(name.encode()))


def day(number: int) -> datetime:
    return datetime(2026, 6, 1) + timedelta(days=number)  # noqa: DTZ001 -- as regstat stored it


ROWS: dict[str, list[Any]] = {
    "manifests": [("app:1", day(1), day(9)), ("app:2", day(5), None), ("loose", day(2), None), ("web", day(4), day(4))],
    "blobs": [("base", day(1), day(9)), ("app", day(5), None), ("stray", day(3), None), ("left", day(1), None)],
    "deleted_manifests": [("old", day(0), day(2), day(7)), ("older", day(2), None, day(4))],
    "deleted_blobs": [("dust", day(0), None, day(8))],
    "tags": [
        (f"{HOST}/team/app:1.0", "alias.internal:5000", "team/app", "1.0", "app:1", day(1), day(9)),
        (f"{HOST}/team/app:latest", f"{HOST}:443", "team/app", "latest", "app:2", day(5), day(9)),
        (f"{HOST}/team/web", HOST, "team/web", None, "web", day(4), None),
        (f"{HOST}/team/odd:1", "10.0.0.1:5000", "team/odd", "1", "web", day(4), None),
        ("other.example.com/x:1", "other.example.com", "x", "1", "web", day(4), None),
    ],
    "deleted_tags": [
        (f"{HOST}/team/app:0.9", HOST, "team/app", "0.9", "old", day(0), day(2), day(7)),
        (f"{HOST}/team/app:latest", HOST, "team/app", "latest", "older", day(2), None, day(4)),
    ],
    "manifest_blob": [("app:1", "base"), ("app:2", "base"), ("app:2", "app")],
    "deleted_manifest_blob": [("old", "dust"), ("old", "left")],
}


def fill(connection) -> None:
    create_tables(connection)
    connection.exec_driver_sql("SET LOCAL timezone TO 'UTC'")
    for table in ("manifests", "blobs", "deleted_manifests", "deleted_blobs", "tags", "deleted_tags"):
        for row in ROWS[table]:
            place = 4 if "tags" in table else 0
            values = (*row[:place], digest(row[place]), *row[place + 1 :])
            marks = ", ".join(["%s"] * len(values))
            connection.exec_driver_sql(f"INSERT INTO regstat.{table} VALUES ({marks})", values)
    for table in ("manifest_blob", "deleted_manifest_blob"):
        for left, right in ROWS[table]:
            values = (digest(left), digest(right))
            connection.exec_driver_sql(f"INSERT INTO regstat.{table} VALUES (%s, %s)", values)


@pytest.fixture
def source_url(postgresql_url, opened) -> str:
    database = opened(postgresql_url)
    database.write_now(fill)
    return postgresql_url


@pytest.fixture(params=["sqlite", "postgresql"])
def target(request, source_url, opened, tmp_path):
    """A SQLite file, or the PostgreSQL database in which regstat's own tables are."""
    if request.param == "postgresql":
        return opened(source_url)
    return opened(f"sqlite:///{tmp_path}/inventory.sqlite3")


@contextmanager
def source(url: str, schema: str = "regstat"):
    with open_regstat_source(url, schema) as found:
        yield found


def run_import(database, url: str, *registry: EventRegistry):
    with source(url) as found:
        return import_regstat(database, found, registry or (PROD,), now=NOW)


def contents_of(database) -> dict[str, list[tuple]]:
    def read(connection):
        return {
            table.name: sorted(tuple(map(repr, row)) for row in connection.execute(select(table)))
            for table in metadata.sorted_tables
        }

    return database.read_now(read)


def test_what_is_taken_and_what_is_left_is_counted(target, source_url):
    report = run_import(target, source_url)
    assert (report.tag_count, report.deleted_tag_count, report.manifest_count) == (4, 2, 5)
    assert report.blob_count == 4
    assert (report.untagged_manifest_count, report.unplaced_blob_count) == (1, 1)
    assert dict(report.unknown_hosts) == {"other.example.com": 1}
    assert report.unreadable_count == 0


def test_aliases_and_the_names_that_regstat_gave_lead_to_the_registry(target, source_url):
    run_import(target, source_url)
    rows = target.read_now(
        lambda connection: connection.execute(
            select(repositories.c.name, tags.c.name, tags.c.host, tags.c.tagged_at)
            .select_from(tags.join(repositories))
            .order_by(repositories.c.name, tags.c.name)
        ).all()
    )
    assert [(row[0], row[1]) for row in rows] == [("team/app", "1.0"), ("team/app", "latest"), ("team/odd", "1")]
    assert [row[2] for row in rows] == ["alias.internal:5000", "", "10.0.0.1:5000"]
    assert from_micros(rows[0][3]) == day(1).replace(tzinfo=UTC)


def test_history_holds_what_was_deleted_too(target, source_url):
    run_import(target, source_url)

    def intervals(tag):
        found = target.read_now(lambda connection: find_histories(connection, "team/app", tag))
        return [(one.digest and str(one.digest), one.since.replace(tzinfo=None)) for one in found[0].intervals]

    assert intervals("0.9") == [(digest("old"), day(0)), (None, day(7))]
    assert intervals("latest") == [(digest("older"), day(2)), (None, day(4)), (digest("app:2"), day(5))]


def test_a_deleted_manifest_is_deleted_and_its_last_pull_is_kept(target, source_url):
    run_import(target, source_url)

    def read(connection):
        rows = connection.execute(
            select(manifests.c.digest, manifests.c.state, repository_manifests)
            .select_from(repository_manifests.join(manifests).join(repositories))
            .where(repositories.c.name == "team/app")
        )
        return {str(Digest.from_bytes(row.digest)): row for row in rows}

    rows = target.read_now(read)
    old, live = rows[digest("old")], rows[digest("app:1")]
    assert from_micros(old.deleted_at) == day(7).replace(tzinfo=UTC)
    assert from_micros(old.pulled_at) == day(2).replace(tzinfo=UTC)
    assert (live.deleted_at, from_micros(live.pulled_at)) == (None, day(9).replace(tzinfo=UTC))
    assert rows[digest("app:2")].pulled_at is None
    assert {row.state for row in rows.values()} == {"unread"}


def test_importing_again_changes_nothing(target, source_url):
    run_import(target, source_url)
    before = contents_of(target)
    run_import(target, source_url)
    assert contents_of(target) == before
    assert len(before["tags"]) == 3


def test_an_import_does_not_claim_to_have_seen_all_pulls(target, source_url):
    run_import(target, source_url)
    row = target.read_now(lambda connection: connection.execute(select(registries)).one())
    assert (row.name, row.events_since, row.delivered_at) == ("prod", None, None)
    assert row.changed_at is not None


def test_a_registry_that_is_configured_later_is_taken_by_another_import(target, source_url):
    run_import(target, source_url)
    report = run_import(target, source_url, PROD, EventRegistry("other", "http://other.example.com"))
    assert report.tag_count == 5
    assert not report.unknown_hosts


def test_a_crawl_fills_in_sizes_without_finding_a_contradiction(target, source_url):
    run_import(target, source_url)
    layer = Descriptor("layer", Digest.parse(digest("base")), 1234)
    manifest = Manifest("application/x", Digest.parse(digest("app:1")), 100, layers=(layer,))
    content = ManifestContent(manifest.digest, manifest.media_type, b"{}", manifest=manifest)
    assert target.write_now(lambda connection: save_contents(connection, [content])) == ()
    row = target.read_now(
        lambda connection: connection.execute(select(blobs).where(blobs.c.digest == layer.digest.to_bytes())).one()
    )
    assert (row.media_type, row.size_bytes, row.is_conflicting) == ("layer", 1234, 0)


def test_the_views_show_what_was_imported(source_url, opened):
    database = opened(source_url)
    run_import(database, source_url)
    renamed = enable_regstat(database, now=NOW, rename_old=True)

    def rows(schema, table, columns):
        statement = text(f"SELECT {columns} FROM {schema}.{table} WHERE {WANTED.get(table, 'true')} ORDER BY 1, 2")
        return database.read_now(lambda connection: connection.execute(statement).all())

    for table, columns in COMPARED.items():
        assert rows("regstat", table, columns) == rows(renamed, table, columns), table
    statement = text("""
        SELECT digest FROM regstat.blobs LEFT JOIN regstat.manifest_blob ON blob_digest = digest
        WHERE manifest_digest IS NULL""")
    orphans = database.read_now(lambda connection: connection.execute(statement).scalars().all())
    assert orphans == [digest("left")]


COMPARED = {
    "blobs": "digest, pushed",
    "manifests": "digest, pushed, pulled",
    "manifest_blob": "manifest_digest, blob_digest",
    "tags": "name, repository, tag, manifest_digest, pushed",
    "deleted_blobs": "digest, pushed, pulled, deleted",
    "deleted_manifests": "digest, pushed, pulled, deleted",
    "deleted_tags": "name, repository, tag, manifest_digest, pushed, deleted",
    "deleted_manifest_blob": "manifest_digest, blob_digest",
}
# What has no place, no registry, no tag, or (deleted_tags) exists again.
WANTED = {
    "blobs": f"digest <> '{digest('stray')}'",
    "manifests": f"digest <> '{digest('loose')}'",
    "tags": "tag IS NOT NULL AND name NOT LIKE 'other%'",
    "deleted_tags": "tag <> 'latest'",
}


def test_our_own_views_are_not_imported(source_url, opened):
    database = opened(source_url)
    run_import(database, source_url)
    renamed = str(enable_regstat(database, now=NOW, rename_old=True))
    with pytest.raises(NotFound) as caught, source(source_url):
        pass
    assert caught.value.code == "no-regstat"
    assert "--schema" in caught.value.hint
    before = contents_of(database)
    with source(source_url, renamed) as found:
        import_regstat(database, found, (PROD,), now=NOW)
    assert contents_of(database) == before


def test_a_database_without_regstat_is_named(postgresql_url, tmp_path):
    with pytest.raises(NotFound, match="no table regstat") as caught, source(postgresql_url):
        pass
    assert caught.value.code == "no-regstat"
    with pytest.raises(InputError) as refused, source(f"sqlite:///{tmp_path}/x.sqlite3"):
        pass
    assert refused.value.code == "needs-postgresql"
    with pytest.raises(InputError), source(postgresql_url, 'x"; DROP SCHEMA public; --'):
        pass


def test_deletion_times_are_read_in_the_time_zone_of_the_server(source_url, opened):
    database = opened(source_url)
    name = source_url.rpartition("/")[2]
    zone = f"ALTER DATABASE {name} SET timezone TO 'Etc/GMT-2'"
    database.write_now(lambda connection: connection.exec_driver_sql(zone))
    run_import(database, source_url)
    found = database.read_now(lambda connection: find_histories(connection, "team/app", "0.9"))
    assert found[0].intervals[-1].since == day(7).replace(tzinfo=UTC) - timedelta(hours=2)
