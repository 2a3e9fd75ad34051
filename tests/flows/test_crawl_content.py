"""What a crawl learns of content: across repositories, across interruptions, and from a registry that lies."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from sqlalchemy import select

from regwarden.core.observed import Needs
from regwarden.core.oci import media_types
from regwarden.core.oci.digests import Digest
from regwarden.core.patterns import parse_pattern
from regwarden.core.special_tags import special_kind
from regwarden.flows import reading
from regwarden.registries.client.limits import Limits
from regwarden.store.observed import load_repository
from regwarden.store.schema import (
    crawl_problems,
    manifests,
    repositories,
    repository_blobs,
    repository_manifests,
    tags,
)
from regwarden.testing.behaviour import Behaviour, Fault
from regwarden.testing.content import Content, StoredManifest
from regwarden.testing.images import artifact, image, image_config, index, layer, real_layer
from regwarden.testing.server import SampleRegistry
from tests.crawling import NAME, Inventory, open_inventory
from tests.flows.test_crawl_interrupted import cancel_when

SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"


def an_image(seed: str):
    return image([layer(seed, 10)], image_config(labels={"seed": seed}))


def bad_manifest() -> StoredManifest:
    payload = b'{"schemaVersion":2}'
    return StoredManifest(Digest.of(payload), media_types.OCI_MANIFEST, payload)


def claim(payload: bytes, digest: Digest, media_type: str) -> Fault:
    """An answer that calls these bytes by that digest and type."""
    return Fault(200, payload.decode(), (("Content-Type", media_type), ("Docker-Content-Digest", str(digest))))


@pytest.fixture
def content():
    return Content()


@pytest.fixture
async def registry(content):
    async with SampleRegistry(content) as registry:
        yield registry


@pytest.fixture
async def inventory(registry):
    limits = Limits(retries=0, retry_wait_seconds=0.01)
    async with open_inventory(registry.url, limits=limits) as inventory:
        yield inventory


def problem_codes(inventory: Inventory) -> list[str]:
    return sorted(row["code"] for row in inventory.rows(select(crawl_problems)))


def existing(inventory: Inventory, repository: str) -> set[Digest]:
    statement = (
        select(manifests.c.digest)
        .select_from(repository_manifests.join(manifests).join(repositories))
        .where(repositories.c.name == repository, repository_manifests.c.deleted_at.is_(None))
    )
    return {Digest.from_bytes(row["digest"]) for row in inventory.rows(statement)}


async def test_problems_of_content_outlive_a_crawl_that_could_not_look(content, registry, inventory):
    app = content.repository("team/app")
    app.put_manifest(bad_manifest())
    app.set_tag("bad", bad_manifest().digest)
    await inventory.crawl()
    assert problem_codes(inventory) == ["bad-manifest"]
    registry.behaviour.faults["GET", "/v2/team/app/tags/list"] = [Fault(403)]
    await inventory.crawl()
    assert problem_codes(inventory) == ["bad-manifest", "registry-denied"]
    await inventory.crawl()
    assert problem_codes(inventory) == ["bad-manifest"]


async def test_problems_of_content_that_is_gone_disappear(content, inventory):
    app = content.repository("team/app")
    app.put_manifest(bad_manifest())
    app.set_tag("bad", bad_manifest().digest)
    await inventory.crawl()
    app.add(an_image("good"), "bad")
    del app.manifests[bad_manifest().digest]
    await inventory.crawl()
    assert problem_codes(inventory) == ["bad-manifest"]
    await inventory.crawl(verify=True)
    assert problem_codes(inventory) == []


async def test_problems_of_a_repository_that_is_gone_disappear(content, inventory):
    content.repository("team/app").add(an_image("app"), "1")
    content.repository("team/lost").set_tag("lost", Digest.of(b"never pushed"))
    await inventory.crawl()
    del content.repositories["team/lost"]
    await inventory.crawl(accept_disappearance=True)
    assert problem_codes(inventory) == []


async def test_configs_passed_over_elsewhere_are_read_where_the_content_is_met_again(content, inventory):
    both = index([an_image("one"), an_image("two")])
    content.repository("first/app").add(an_image("app"), "1")
    content.repository("first/multi").add(both, "1")
    await inventory.crawl(with_configs=False)
    content.repository("second/app").add(an_image("app"), "1")
    content.repository("second/multi").add(both, "1")
    await inventory.crawl(repositories=(parse_pattern("glob:second/*"),))
    images = inventory.rows(select(manifests).where(manifests.c.is_index == 0))
    assert {row["config_state"] for row in images} == {"read"}
    assert all(row["created_at"] is not None for row in inventory.rows(select(manifests)))
    await inventory.crawl()
    assert all(row["created_at"] is not None for row in inventory.rows(select(tags)))


async def test_tags_are_dated_when_their_configs_are_read_at_last(content, inventory):
    content.repository("team/app").add(an_image("app"), "1")
    content.repository("team/app").add(index([index([an_image("one")]), an_image("two")]), "multi")
    await inventory.crawl(with_configs=False)
    await inventory.crawl()
    dated = {row["name"]: row["created_at"] is not None for row in inventory.rows(select(tags))}
    assert dated == {"1": True, "multi": True}
    assert inventory.rows(select(repositories))[0]["newest_created_at"] is not None


async def test_a_missing_config_stays_a_problem_while_it_is_not_asked_for_again(content, inventory):
    app = content.repository("team/app")
    lost = an_image("app")
    app.add(lost, "1", omit=[blob.digest for blob in lost.blobs])
    await inventory.crawl()
    assert problem_codes(inventory) == ["missing-config"]
    app.set_tag("2", lost.digest)
    await inventory.crawl()
    assert problem_codes(inventory) == ["missing-config"]
    app.add(lost)
    await inventory.crawl(verify=True)
    assert problem_codes(inventory) == []


def large_repository(content: Content, *, missing: bool = False):
    """A repository of indexes; returns a child that the first of them lists (and may lack)."""
    repository = content.repository("large/app")
    for number in range(100):
        child = an_image(f"child {number}")
        repository.add(index([child]), f"{number:03}", omit=[child.digest] if missing and number == 0 else [])
    return an_image("child 0")


async def test_a_continued_crawl_knows_the_children_of_what_it_read_before(content, inventory, monkeypatch):
    monkeypatch.setattr(reading, "CHUNK_TAG_COUNT", 20)
    missing = large_repository(content, missing=True)
    await cancel_when(inventory, lambda progress: progress.tags_done >= 60)
    report = await inventory.crawl()
    assert report.certificate.was_resumed
    assert report.certificate.manifest_count == 199
    assert [problem.digest for problem in report.problems] == [str(missing.digest)]


async def test_a_child_that_failed_before_the_kill_is_asked_for_after_it(content, registry, inventory, monkeypatch):
    monkeypatch.setattr(reading, "CHUNK_TAG_COUNT", 20)
    child = large_repository(content)
    registry.behaviour.faults["GET", f"/v2/large/app/manifests/{child.digest}"] = [Fault(503)] * 50
    await cancel_when(inventory, lambda progress: progress.tags_done >= 60)
    assert (await inventory.crawl()).state == "partial"
    registry.behaviour.faults.clear()
    assert (await inventory.crawl()).state == "complete"
    assert child.digest in existing(inventory, "large/app")


async def test_a_continued_crawl_knows_the_referrers_of_what_it_read_before(content, monkeypatch):
    monkeypatch.setattr(reading, "CHUNK_TAG_COUNT", 20)
    repository = content.repository("large/app")
    for number in range(100):
        subject = an_image(f"{number}")
        repository.add(subject, f"{number:03}")
        repository.add(artifact("application/example", [real_layer(b"{}")], subject=subject))
    behaviour = Behaviour.oci_1_1()
    async with SampleRegistry(content, behaviour=behaviour) as registry, open_inventory(registry.url) as inventory:
        await cancel_when(inventory, lambda progress: progress.tags_done >= 60)
        report = await inventory.crawl()
        assert report.certificate.manifest_count == 200


async def test_a_continued_crawl_does_not_claim_to_have_seen_tags_just_now(content, registry, monkeypatch):
    monkeypatch.setattr(reading, "CHUNK_TAG_COUNT", 20)
    for number in range(100):
        content.repository("large/app").add(an_image(f"{number}"), f"{number:03}")
    moment = datetime(2030, 1, 1, tzinfo=UTC)
    async with open_inventory(registry.url, now=lambda: moment) as inventory:
        await cancel_when(inventory, lambda progress: progress.tags_done >= 60)
        first = moment
        moment += timedelta(hours=5)
        await inventory.crawl()
        row = inventory.rows(select(tags).where(tags.c.name == "000"))[0]
        assert row["verified_at"] == row["tagged_at"] == int(first.timestamp() * 1_000_000)


async def test_what_is_nested_too_deep_stays_partial_until_it_has_been_read(content, inventory):
    nested = an_image("deep")
    for _ in range(12):
        nested = index([nested])
    content.repository("team/deep").add(nested, "1")
    assert (await inventory.crawl()).state == "partial"
    report = await inventory.crawl()
    states = {row["state"] for row in inventory.rows(select(manifests))}
    assert report.state == "partial" or states == {"read"}


async def test_a_known_index_that_comes_under_another_type_is_still_that_index(content, registry, inventory):
    multi = index([an_image("one"), an_image("two")])
    content.repository("team/app").add(multi, "1")
    await inventory.crawl()
    content.repository("team/copy").add(multi, "1")
    registry.behaviour.faults["GET", "/v2/team/copy/manifests/1"] = [claim(multi.payload, multi.digest, SCHEMA_1)]
    report = await inventory.crawl()
    assert report.state == "complete"
    assert existing(inventory, "team/copy") == existing(inventory, "team/app")


async def test_a_false_claim_about_a_digest_does_not_last_once_its_bytes_come(content, registry, inventory):
    real = an_image("real")
    content.repository("evil/app").set_tag("1", real.digest)
    registry.behaviour.faults["GET", "/v2/evil/app/manifests/1"] = [
        claim(b'{"schemaVersion":1}', real.digest, SCHEMA_1)
    ]
    await inventory.crawl()
    content.repository("team/app").add(real, "1")
    await inventory.crawl()
    row = inventory.rows(select(manifests).where(manifests.c.digest == real.digest.to_bytes()))[0]
    assert (row["state"], row["config_state"]) == ("read", "read")


async def test_declared_sizes_beyond_all_numbers_do_not_stop_a_crawl(content, inventory):
    entries = [
        {"mediaType": "a/b", "digest": str(Digest.of(b"%d" % number)), "size": 2**50} for number in range(17_000)
    ]
    document = {"schemaVersion": 2, "config": {**entries[0], "size": 1}, "layers": entries}
    payload = msgspec.json.encode(document)
    hostile = StoredManifest(Digest.of(payload), media_types.OCI_MANIFEST, payload)
    content.repository("evil/app").put_manifest(hostile)
    content.repository("evil/app").set_tag("1", hostile.digest)
    content.repository("team/app").add(an_image("good"), "1")
    report = await inventory.crawl()
    assert report.certificate.tag_count == 2
    assert inventory.rows(select(tags).where(tags.c.logical_bytes > 2**50))


async def test_a_blob_that_was_missing_in_one_repository_is_asked_for_there_again(content, inventory):
    shared = an_image("shared")
    for name in ("a/app", "b/app"):
        content.repository(name).add(shared, "1")
    blob = next(blob for blob in shared.blobs if blob.size_bytes == 10)
    for name in ("a/app", "b/app"):
        del content.repository(name).blobs[blob.digest]
    await inventory.crawl(verify_blobs=True)
    missing = select(repository_blobs).where(repository_blobs.c.deleted_at.is_not(None))
    assert len(inventory.rows(missing)) == 2
    for name in ("a/app", "b/app"):
        content.repository(name).blobs[blob.digest] = blob
    report = await inventory.crawl(verify_blobs=True)
    assert report.certificate.missing_blob_count == 0
    assert inventory.rows(missing) == []


async def test_build_caches_and_images_without_labels_are_what_cleanup_knows_them_for(content, inventory):
    entries = [
        {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": str(Digest.of(b"layer")), "size": 5},
        {"mediaType": media_types.BUILDKIT_CACHE_CONFIG, "digest": str(Digest.of(b"config")), "size": 6},
    ]
    payload = msgspec.json.encode({"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": entries})
    cache = StoredManifest(Digest.of(payload), media_types.OCI_INDEX, payload)
    repository = content.repository("team/app")
    repository.put_manifest(cache)
    repository.set_tag("cache", cache.digest)
    repository.add(image([layer("plain", 10)], image_config()), "plain")
    repository.add(an_image("labelled"), "labelled")
    await inventory.crawl()
    found = inventory.database.read_now(
        lambda one: load_repository(one, NAME, "team/app", Needs(labels=True), datetime.now(UTC))
    )
    assert found is not None
    known = {tag.name: found.manifests[tag.digest] for tag in found.tags}
    kinds = {name: special_kind(name, one) for name, one in known.items()}
    assert kinds == {"cache": "build-caches", "plain": None, "labelled": None}
    assert [known[name].labels for name in ("plain", "labelled", "cache")] == [{}, {"seed": "labelled"}, None]
