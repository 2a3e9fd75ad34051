"""Manifests that were read one by one become part of the inventory, and nothing else changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import insert, select

from regwarden import clock
from regwarden.core.coverage import Problem
from regwarden.core.oci.configs import parse_config
from regwarden.core.oci.digests import Digest
from regwarden.core.oci.manifests import parse_manifest
from regwarden.store.contents import ManifestContent, save_contents
from regwarden.store.database import Database
from regwarden.store.inventory import Naming
from regwarden.store.schema import (
    crawl_problems,
    manifests,
    registries,
    removals,
    repositories,
    repository_manifests,
    tags,
)
from regwarden.store.single_manifests import SingleReading, publish_manifests
from regwarden.store.times import from_micros, to_micros
from regwarden.testing.images import image, image_config, index, layer

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
BUILT = datetime(2026, 1, 2, tzinfo=UTC)
CHILD = image([layer("one", 10)], image_config(created=BUILT))
PARENT = index([CHILD])


@pytest.fixture
def filled(database: Database) -> Database:
    """A tag that points to an index whose bytes are known, but not those of the image it lists."""

    def fill(connection):
        registry = {"id": 1, "name": "one", "url": "https://r", "kind": "distribution", "first_seen_at": 0}
        connection.execute(insert(registries), registry)
        repository = {"id": 1, "registry_id": 1, "name": "app", "first_seen_at": 0, "state": "complete"}
        connection.execute(insert(repositories), repository)
        save_contents(connection, [content_of(PARENT)])
        manifest_id = id_of(connection, PARENT.digest)
        tag = {"name": "1.0", "state": "ok", "first_seen_at": 0, "tagged_at": 0, "event_at": 5}
        connection.execute(insert(tags), tag | {"repository_id": 1, "manifest_id": manifest_id})

    database.write_now(fill)
    return database


def content_of(built, **facts):
    manifest = parse_manifest(built.payload, built.media_type)
    return ManifestContent(built.digest, built.media_type, built.payload, manifest=manifest, **facts)


def id_of(connection, digest):
    return connection.execute(select(manifests.c.id).where(manifests.c.digest == digest.to_bytes())).scalar_one()


def publish(database, *here, at=NOON, examined=None, problems=(), repository="app"):
    reading = SingleReading(
        registry_id=1,
        repository=repository,
        naming=Naming(1, at),
        at=at,
        here=frozenset(here),
        examined=frozenset(here if examined is None else examined),
        problems=problems,
    )
    database.write_now(lambda connection: publish_manifests(connection, reading))


def read_child(database):
    config = next(blob for blob in CHILD.blobs if blob.digest == content_of(CHILD).manifest.config.digest)
    facts = parse_config(b"".join(config.chunks()))
    content = content_of(CHILD, config=facts, config_state="read", created_at=facts.created_at, platform="linux/amd64")
    database.write_now(lambda connection: save_contents(connection, [content]))


def rows(database, table):
    return database.read_now(lambda connection: connection.execute(select(table)).all())


def test_a_child_that_is_read_later_dates_its_index_and_the_tag_and_moves_nothing(filled):
    (before,) = rows(filled, tags)
    read_child(filled)
    publish(filled, CHILD.digest)
    (after,) = rows(filled, tags)
    assert (before.created_at, after.created_at) == (None, to_micros(BUILT))
    assert (after.manifest_id, after.tagged_at, after.event_at) == (before.manifest_id, 0, 5)
    (repository,) = rows(filled, repositories)
    assert repository.newest_created_at == to_micros(BUILT)
    (place,) = rows(filled, repository_manifests)
    assert (place.first_seen_at, place.alive_at, place.verified_at) == (to_micros(NOON),) * 3
    assert rows(filled, registries)[0].changed_at >= to_micros(NOON)


def test_what_was_read_later_never_makes_anything_older(filled):
    read_child(filled)
    publish(filled, CHILD.digest, at=NOON)
    changed_at = rows(filled, registries)[0].changed_at
    publish(filled, CHILD.digest, at=NOON - MINUTE)
    (place,) = rows(filled, repository_manifests)
    assert (place.alive_at, place.verified_at) == (to_micros(NOON), to_micros(NOON))
    assert rows(filled, registries)[0].changed_at >= changed_at


@pytest.mark.parametrize(("removed_at", "is_gone"), [(NOON - MINUTE, False), (NOON + MINUTE, True)])
def test_being_read_proves_existence_at_that_moment_only(filled, removed_at, is_gone):
    read_child(filled)
    removal = {"repository_id": 1, "digest": CHILD.digest.to_bytes(), "at": to_micros(removed_at)}
    filled.write_now(lambda connection: connection.execute(insert(removals), removal))
    publish(filled, CHILD.digest)
    (place,) = rows(filled, repository_manifests)
    assert (place.deleted_at is not None) == is_gone


def test_problems_of_what_was_examined_are_replaced_and_those_of_others_stay(filled):
    other = Digest.of(b"other")
    missing = Problem("app", "", str(CHILD.digest), "missing-child", "it is not here")
    elsewhere = Problem("app", "", str(other), "bad-manifest", "it cannot be read")
    publish(filled, examined=[CHILD.digest, other], problems=(missing, elsewhere))
    assert rows(filled, repositories)[0].problem_count == 2
    assert rows(filled, registries)[0].changed_at is None
    read_child(filled)
    publish(filled, CHILD.digest)
    assert [row.code for row in rows(filled, crawl_problems)] == ["bad-manifest"]
    assert rows(filled, repositories)[0].problem_count == 1


def test_figures_are_outdated_from_when_it_is_kept_however_long_the_reading_took(filled):
    before = clock.now()
    read_child(filled)
    publish(filled, CHILD.digest, at=NOON)
    (registry,) = rows(filled, registries)
    assert from_micros(registry.changed_at) >= before


def test_a_repository_that_has_another_name_by_now_is_left_alone(filled):
    read_child(filled)
    publish(filled, CHILD.digest, repository="renamed")
    assert len(rows(filled, repositories)) == 1
    assert rows(filled, repository_manifests) == []
