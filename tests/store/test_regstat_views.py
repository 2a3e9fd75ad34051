"""Questions written for regstat's tables are answered by its views on ours; regstat's own tables are left alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import delete, insert, text, update

from regwarden.core.folding import Changes, ContentChange, Removal, TagPoint
from regwarden.core.oci.digests import Digest
from regwarden.errors import Conflict, InputError
from regwarden.store import migrations
from regwarden.store.applying import EventRegistry, ensure_registry
from regwarden.store.cleanup_schema import plans
from regwarden.store.database import Access
from regwarden.store.folded import Place, apply_changes
from regwarden.store.packing import pack_blob_ids
from regwarden.store.regstat import RegstatState, disable_regstat, enable_regstat, regstat_status
from regwarden.store.regstat_views import COMPANION
from regwarden.store.schema import blobs, manifests, tags
from tests.store.regstat_tables import columns_of, create_tables

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
REGISTRY = EventRegistry("prod", "https://registry.example.com:5000")
TEXT, TIME = "text", "timestamp without time zone"


def days_ago(days: float) -> datetime:
    return NOW - timedelta(days=days)


def digest(name: str) -> Digest:
    return Digest.of(name.encode())


class World:
    """A registry that events tell of, with images whose blobs are known."""

    def __init__(self, database):
        self.database = database
        self.registry_id = database.write_now(lambda connection: ensure_registry(connection, REGISTRY, NOW))

    def apply(self, changes: Changes) -> None:
        place = Place(self.registry_id, "registry.example.com:5000")
        self.database.write_now(lambda connection: apply_changes(connection, place, changes, NOW))

    def upload(self, repository: str, *names: str, at: datetime, pulled: datetime | None = None) -> None:
        changes = Changes(repositories={repository: at})
        for name in names:
            changes.blobs[repository, digest(name)] = ContentChange(
                at, max(at, pulled or at), pushed_at=at, fetched_at=pulled, media_type="layer", size_bytes=10
            )
        self.apply(changes)

    def push(self, repository: str, name: str, *tag_names: str, at: datetime, pulled: datetime | None = None) -> None:
        changes = Changes(repositories={repository: at})
        changes.manifests[repository, digest(name)] = ContentChange(
            at, max(at, pulled or at), pushed_at=at, fetched_at=pulled, media_type="manifest", size_bytes=5
        )
        changes.points = {TagPoint(repository, tag, at, digest(name)) for tag in tag_names}
        changes.hosts = {(repository, tag): (at, "alias.internal") for tag in tag_names if tag == "aliased"}
        self.apply(changes)

    def link(self, name: str, *blob_names: str) -> None:
        def save(connection):
            ids = dict(connection.execute(blobs.select().with_only_columns(blobs.c.digest, blobs.c.id)).all())
            packed, count = pack_blob_ids([ids[digest(blob).to_bytes()] for blob in blob_names])
            connection.execute(
                update(manifests)
                .where(manifests.c.digest == digest(name).to_bytes())
                .values(blob_ids=packed, layer_count=count)
            )

        self.database.write_now(save)

    def remove(self, repository: str, name: str, at: datetime) -> None:
        self.apply(Changes(repositories={repository: at}, removals={Removal(repository, digest(name), at)}))

    def untag(self, repository: str, tag: str, at: datetime) -> None:
        self.apply(Changes(repositories={repository: at}, points={TagPoint(repository, tag, at, None)}))

    def ask(self, sql: str) -> list[tuple]:
        rows = self.database.read_now(lambda connection: connection.execute(text(sql)).all())
        return [tuple(row) for row in rows]


@pytest.fixture
def database(postgresql_url, opened):
    return opened(postgresql_url)


@pytest.fixture
def world(database) -> World:
    """Two live images, one of them old and never pulled; one deleted; an orphaned blob and one that is missing."""
    world = World(database)
    world.upload("team/app", "base", "app", "config", at=days_ago(90), pulled=days_ago(3))
    world.push("team/app", "app:1", "1.0", "stable", "latest", at=days_ago(90))
    world.link("app:1", "base", "app", "config")
    world.upload("team/web", "base", "web", "lost", at=days_ago(10))
    world.push("team/web", "web:1", "edge", at=days_ago(10), pulled=days_ago(2))
    world.link("web:1", "base", "web", "lost")
    world.upload("team/web", "orphan", at=days_ago(9))
    world.remove("team/web", "lost", days_ago(1))
    world.upload("team/old", "old-layer", at=days_ago(200))
    world.push("team/old", "old:1", "0.9", at=days_ago(200), pulled=days_ago(150))
    world.link("old:1", "old-layer")
    world.remove("team/old", "old:1", days_ago(100))
    enable_regstat(database, now=NOW)
    return world


def test_the_views_have_the_names_columns_and_types_of_the_tables(database):
    database.write_now(lambda connection: create_tables(connection, "original"))
    enable_regstat(database, now=NOW)
    expected, found = (
        database.read_now(lambda connection, schema=schema: columns_of(connection, schema))
        for schema in ("original", "regstat")
    )
    # The documentation lists a column that the table did not have.
    expected["deleted_manifest_blob"].append(("deleted", TIME))
    assert found == expected
    assert found["tags"][:2] == [("name", TEXT), ("registry", TEXT)]


def test_the_list_of_images(world):
    assert world.ask("SELECT name FROM regstat.tags ORDER BY name") == [
        (f"registry.example.com:5000/{name}",)
        for name in ("team/app:1.0", "team/app:latest", "team/app:stable", "team/web:edge")
    ]
    assert world.ask("SELECT registry, repository, tag, manifest_digest FROM regstat.tags WHERE tag = 'edge'") == [
        ("registry.example.com:5000", "team/web", "edge", str(digest("web:1")))
    ]


def test_the_host_that_clients_used_is_shown_beside_the_configured_name(world):
    world.push("team/web", "web:1", "aliased", at=days_ago(5))
    assert world.ask("SELECT name, registry FROM regstat.tags WHERE tag = 'aliased'") == [
        ("registry.example.com:5000/team/web:aliased", "alias.internal")
    ]


def test_the_number_of_blobs(world):
    names = ("base", "app", "config", "web", "orphan", "old-layer")
    assert {row[0] for row in world.ask("SELECT digest FROM regstat.blobs")} == {str(digest(name)) for name in names}
    assert world.ask("SELECT count(*) FROM regstat.blobs") == [(6,)]


def test_images_that_are_older_than_some_days(world):
    question = "SELECT tag FROM regstat.tags WHERE pushed < timestamp '2026-11-21' - interval '30 days' ORDER BY tag"
    assert world.ask(question) == [("1.0",), ("latest",), ("stable",)]
    assert world.ask(f"SELECT pushed FROM regstat.manifests WHERE digest = '{digest('web:1')}'") == [
        (days_ago(10).replace(tzinfo=None),)
    ]


def test_images_that_were_not_pulled_for_some_months(world):
    question = """
        SELECT DISTINCT repository FROM regstat.tags
        WHERE pulled IS NULL OR pulled < timestamp '2026-11-21' - interval '2 months' ORDER BY repository"""
    assert world.ask(question) == [("team/app",)]
    world.push("team/app", "app:1", at=days_ago(90), pulled=days_ago(1))
    assert world.ask(question) == []


def test_orphaned_blobs(world):
    question = """
        SELECT digest FROM regstat.blobs LEFT JOIN regstat.manifest_blob ON blob_digest = digest
        WHERE manifest_digest IS NULL"""
    assert {row[0] for row in world.ask(question)} == {str(digest("orphan")), str(digest("old-layer"))}


def test_manifests_that_reference_missing_blobs(world):
    question = """
        SELECT t.name, d.blob_digest, d.deleted FROM regstat.tags t
        JOIN regstat.deleted_manifest_blob d ON d.manifest_digest = t.manifest_digest"""
    assert world.ask(question) == [
        ("registry.example.com:5000/team/web:edge", str(digest("lost")), days_ago(1).replace(tzinfo=None))
    ]


def test_images_with_the_most_tags(world):
    question = """
        SELECT repository, manifest_digest, count(*) FROM regstat.tags
        GROUP BY repository, manifest_digest ORDER BY count(*) DESC LIMIT 1"""
    assert world.ask(question) == [("team/app", str(digest("app:1")), 3)]


def test_what_was_deleted_is_in_the_deleted_tables(world):
    deleted, pushed = days_ago(100).replace(tzinfo=None), days_ago(200).replace(tzinfo=None)
    pulled = days_ago(150).replace(tzinfo=None)
    image = str(digest("old:1"))
    assert world.ask("SELECT * FROM regstat.deleted_manifests") == [(image, pushed, pulled, deleted)]
    name = "registry.example.com:5000/team/old:0.9"
    assert world.ask("SELECT * FROM regstat.deleted_tags") == [
        (name, "registry.example.com:5000", "team/old", "0.9", image, pushed, pulled, deleted)
    ]
    assert (image, str(digest("old-layer")), deleted) in world.ask("SELECT * FROM regstat.deleted_manifest_blob")
    assert [row[0] for row in world.ask("SELECT digest FROM regstat.deleted_blobs")] == [str(digest("lost"))]


def test_a_digest_lives_as_long_as_any_repository_has_it(world):
    world.push("team/copy", "web:1", "edge", at=days_ago(8))
    world.remove("team/web", "web:1", days_ago(1))
    question = f"SELECT count(*) FROM regstat.manifests WHERE digest = '{digest('web:1')}'"
    assert world.ask(question) == [(1,)]
    assert world.ask("SELECT repository FROM regstat.tags WHERE tag = 'edge'") == [("team/copy",)]
    assert ("team/web",) in world.ask("SELECT repository FROM regstat.deleted_tags WHERE tag = 'edge'")
    world.remove("team/copy", "web:1", days_ago(0.5))
    assert world.ask(question) == [(0,)]


def test_a_tag_that_was_untagged_and_pushed_again_is_not_among_the_deleted(world):
    world.untag("team/app", "stable", days_ago(50))
    assert world.ask("SELECT tag, deleted FROM regstat.deleted_tags WHERE repository = 'team/app'") == [
        ("stable", days_ago(50).replace(tzinfo=None))
    ]
    world.push("team/app", "app:1", "stable", at=days_ago(40))
    assert world.ask("SELECT tag FROM regstat.deleted_tags WHERE repository = 'team/app'") == []


def test_what_only_a_crawl_knows_is_as_old_as_its_first_sight(world):
    with_crawl = Changes(repositories={"team/crawled": days_ago(20)})
    with_crawl.manifests["team/crawled", digest("crawled")] = ContentChange(days_ago(20), days_ago(20))
    world.apply(with_crawl)
    world.link("crawled", "base")
    question = f"SELECT pushed, pulled FROM regstat.manifests WHERE digest = '{digest('crawled')}'"
    assert world.ask(question) == [(days_ago(20).replace(tzinfo=None), None)]


def test_links_are_kept_up_to_date_while_the_views_are_there(world):
    question = f"SELECT count(*) FROM regstat.manifest_blob WHERE manifest_digest = '{digest('web:1')}'"
    assert world.ask(question) == [(2,)]
    world.link("web:1", "base")
    assert world.ask(question) == [(1,)]
    links = f"SELECT count(*) FROM {COMPANION}.manifest_blobs"
    before = world.ask(links)[0][0]
    packed = pack_blob_ids([1, 2**31 + 7, 2**32 - 1])[0]

    def add(connection):
        connection.execute(
            insert(manifests).values(
                digest=digest("new").to_bytes(), state="read", media_type="", size_bytes=1, blob_ids=packed
            )
        )

    world.database.write_now(add)
    assert world.ask(f"SELECT max(blob_id) FROM {COMPANION}.manifest_blobs") == [(2**32 - 1,)]
    world.database.write_now(
        lambda connection: connection.execute(delete(manifests).where(manifests.c.digest == digest("new").to_bytes()))
    )
    assert world.ask(links) == [(before,)]


def test_a_dangling_tag_is_not_an_image(world):
    world.database.write_now(
        lambda connection: connection.execute(update(tags).where(tags.c.name == "1.0").values(state="dangling"))
    )
    assert world.ask("SELECT count(*) FROM regstat.tags WHERE tag = '1.0'") == [(0,)]


def test_enabling_again_keeps_the_rights_that_were_granted(world):
    world.database.write_now(lambda connection: connection.exec_driver_sql("GRANT SELECT ON regstat.tags TO PUBLIC"))
    assert enable_regstat(world.database, now=NOW) is None
    granted = """
        SELECT count(*) FROM information_schema.role_table_grants
        WHERE grantee = 'PUBLIC' AND table_schema = 'regstat'"""
    assert world.ask(granted) == [(1,)]


def test_views_survive_a_restart_and_leave_the_migrations_alone(postgresql_url, opened):
    database = opened(postgresql_url)
    enable_regstat(database, now=NOW)
    database.close()
    again = opened(postgresql_url)
    assert regstat_status(again).state is RegstatState.ENABLED
    options = {"version_table": migrations.VERSION_TABLE}
    differences = again.read_now(
        lambda connection: compare_metadata(MigrationContext.configure(connection, opts=options), plans.metadata)
    )
    assert differences == []


def test_views_of_another_release_are_reported_and_replaced(database):
    enable_regstat(database, now=NOW)
    comment = "COMMENT ON SCHEMA regstat IS 'views of regwarden, version 0'"
    database.write_now(lambda connection: connection.exec_driver_sql(comment))
    assert regstat_status(database).state is RegstatState.OUTDATED
    enable_regstat(database, now=NOW)
    assert regstat_status(database).state is RegstatState.ENABLED


def test_disabling_removes_everything_that_enabling_made(world):
    assert disable_regstat(world.database)
    assert regstat_status(world.database).state is RegstatState.DISABLED
    left = "SELECT count(*) FROM pg_namespace WHERE nspname IN ('regstat', 'regwarden_regstat')"
    assert world.ask(left) == [(0,)]
    assert world.ask("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'regwarden%'") == [(0,)]
    assert not disable_regstat(world.database)
    enable_regstat(world.database, now=NOW)
    assert world.ask("SELECT count(*) FROM regstat.tags") == [(4,)]


def test_views_on_which_the_user_built_are_not_removed(world):
    own = "CREATE VIEW public.mine AS SELECT name FROM regstat.tags"
    world.database.write_now(lambda connection: connection.exec_driver_sql(own))
    with pytest.raises(Conflict) as caught:
        disable_regstat(world.database)
    assert caught.value.code == "regstat-in-use"
    assert "mine" in caught.value.message
    assert world.ask("SELECT count(*) FROM public.mine") == [(4,)]


def test_tables_of_regstat_itself_are_left_alone(database):
    database.write_now(create_tables)
    add = "INSERT INTO regstat.blobs VALUES ('sha256:x', now(), NULL)"
    database.write_now(lambda connection: connection.exec_driver_sql(add))
    assert regstat_status(database).state is RegstatState.FOREIGN
    with pytest.raises(Conflict) as caught:
        enable_regstat(database, now=NOW)
    assert caught.value.code == "regstat-exists"
    assert "db import regstat" in caught.value.hint
    disable_regstat(database)
    assert database.read_now(lambda connection: connection.scalar(text("SELECT count(*) FROM regstat.blobs"))) == 1


def test_the_old_schema_is_renamed_on_request_and_keeps_its_rows(database):
    def fill(connection):
        create_tables(connection)
        create_tables(connection, "regstat_old_20261121")
        connection.exec_driver_sql("INSERT INTO regstat.blobs VALUES ('sha256:x', now(), NULL)")

    database.write_now(fill)
    assert enable_regstat(database, now=NOW, rename_old=True) == "regstat_old_20261121_2"
    assert regstat_status(database).state is RegstatState.ENABLED
    old = text("SELECT count(*) FROM regstat_old_20261121_2.blobs")
    assert database.read_now(lambda connection: connection.scalar(old)) == 1
    assert database.read_now(lambda connection: connection.scalar(text("SELECT count(*) FROM regstat.blobs"))) == 0


def test_sqlite_has_no_schema_regstat(tmp_path, opened):
    database = opened(f"sqlite:///{tmp_path}/inventory.sqlite3", access=Access.WRITE)
    with pytest.raises(InputError) as caught:
        enable_regstat(database, now=NOW)
    assert caught.value.code == "needs-postgresql"
