"""A crawl of a changing registry: what it asks for, what it keeps, what it marks as gone, what it certifies."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqlalchemy import select

from regwarden.core.oci.digests import Digest
from regwarden.core.patterns import parse_pattern
from regwarden.errors import RegistryError
from regwarden.store.manifest_reports import describe_manifest
from regwarden.store.schema import (
    crawl_problems,
    manifests,
    registries,
    repositories,
    repository_blobs,
    repository_manifests,
    tag_history,
    tags,
)
from regwarden.testing.behaviour import Behaviour, Fault
from regwarden.testing.content import Content
from regwarden.testing.images import artifact, attestation, image, image_config, index, layer, real_layer
from regwarden.testing.server import SampleRegistry
from tests.crawling import Inventory, open_inventory

CONFIGURED = image_config("linux/arm64", labels={"team": "payments"})


def an_image(seed: str):
    return image([layer("base", 1000), layer(seed, 10)], CONFIGURED)


@pytest.fixture
def content():
    content = Content()
    app = content.repository("team/app")
    for number in range(10):
        app.add(an_image(f"app {number}"), f"1.{number}")
    app.set_tag("latest", app.tags["1.9"])
    multi = content.repository("team/multi")
    one, two = an_image("one"), image([layer("two", 20)])
    multi.add(index([one, two, attestation(one)]), "1.0")
    return content


@pytest.fixture
async def registry(content):
    async with SampleRegistry(content) as registry:
        yield registry


@pytest.fixture
async def inventory(registry):
    async with open_inventory(registry.url) as inventory:
        yield inventory


def tag_digests(inventory: Inventory) -> dict[str, str | None]:
    rows = inventory.rows(
        select(repositories.c.name.label("repository"), tags.c.name, manifests.c.digest).select_from(
            tags.join(repositories).outerjoin(manifests, manifests.c.id == tags.c.manifest_id)
        )
    )
    return {
        f"{row['repository']}:{row['name']}": str(Digest.from_bytes(row["digest"])) if row["digest"] else None
        for row in rows
    }


def expected_digests(content: Content) -> dict[str, str]:
    return {
        f"{name}:{tag}": str(digest)
        for name, repository in content.repositories.items()
        for tag, digest in repository.tags.items()
    }


async def test_everything_that_tags_lead_to_is_in_the_inventory(content, inventory):
    report = await inventory.crawl()
    assert report.state == "complete"
    assert tag_digests(inventory) == expected_digests(content)
    kept = {Digest.from_bytes(row["digest"]) for row in inventory.rows(select(manifests)) if row["state"] == "read"}
    assert kept == {digest for repository in content.repositories.values() for digest in repository.manifests}


async def test_configs_give_platform_labels_and_time(inventory):
    await inventory.crawl()
    rows = inventory.rows(select(manifests).where(manifests.c.platform == "linux/arm64"))
    assert len(rows) == 11
    assert {row["labels"] for row in rows} == {'{"team":"payments"}'}
    assert all(row["created_at"] is not None and row["config_state"] == "read" for row in rows)


async def test_an_index_is_as_new_as_its_newest_child_and_runs_where_they_do(inventory):
    await inventory.crawl()
    row = inventory.rows(select(manifests).where(manifests.c.is_index == 1))[0]
    assert row["platform"] == "linux/arm64,linux/amd64"
    assert row["created_at"] is not None


async def test_crawling_an_unchanged_registry_again_leaves_no_pull_event_and_fetches_no_body(registry, inventory):
    await inventory.crawl()
    registry.forget()
    report = await inventory.crawl()
    assert report.state == "complete"
    assert registry.events == []
    asked = [request for request in registry.requests if "/manifests/" in request.path]
    assert len(asked) == 12
    assert all(request.is_conditional and request.status == 304 for request in asked)
    others = [request.path for request in registry.requests if "/manifests/" not in request.path]
    assert sorted(others) == ["/v2/", "/v2/_catalog", "/v2/team/app/tags/list", "/v2/team/multi/tags/list"]
    assert report.certificate.manifest_body_count == 0
    assert report.certificate.tag_count == 12


async def test_a_moved_tag_is_followed_and_its_history_kept(content, registry, inventory):
    await inventory.crawl()
    app = content.repository("team/app")
    before = str(app.tags["latest"])
    app.add(an_image("newer"), "latest")
    report = await inventory.crawl()
    assert report.certificate.moved_tag_count == 1
    assert tag_digests(inventory) == expected_digests(content)
    points = inventory.rows(select(tag_history).where(tag_history.c.tag == "latest").order_by(tag_history.c.at))
    assert [str(Digest.from_bytes(row["digest"])) for row in points] == [before, str(app.tags["latest"])]
    assert {row["cause"] for row in points} == {"crawl"}


async def test_a_manifest_that_lost_its_last_tag_is_untagged_since_then_but_not_gone(content, inventory):
    app = content.repository("team/app")
    await inventory.crawl()
    old = app.tags["1.3"]
    app.add(an_image("replacement"), "1.3")
    await inventory.crawl()
    row = inventory.rows(select(repository_manifests).join(manifests).where(manifests.c.digest == old.to_bytes()))[0]
    assert row["untagged_since"] is not None
    assert row["deleted_at"] is None


async def test_a_tag_that_is_gone_is_confirmed_once_and_its_end_is_history(content, registry, inventory):
    await inventory.crawl()
    del content.repository("team/app").tags["1.5"]
    registry.forget()
    report = await inventory.crawl()
    assert report.state == "complete"
    assert report.certificate.gone_tag_count == 1
    assert "team/app:1.5" not in tag_digests(inventory)
    assert [r.status for r in registry.requests if r.path.endswith("/manifests/1.5")] == [404]
    points = inventory.rows(select(tag_history).where(tag_history.c.tag == "1.5").order_by(tag_history.c.at))
    assert [bool(row["digest"]) for row in points] == [True, False]
    assert registry.events == []


async def test_a_repository_is_as_new_as_the_newest_tag_that_is_left(content, inventory):
    async def newest() -> int | None:
        await inventory.crawl()
        found = select(repositories.c.newest_created_at).where(repositories.c.name == "team/dated")
        return inventory.rows(found)[0]["newest_created_at"]

    dated = content.repository("team/dated")
    for year in (2024, 2025):
        dated.add(image([layer(str(year), 10)], image_config(created=datetime(year, 1, 1, tzinfo=UTC))), str(year))
    first = await newest()
    del dated.tags["2025"]
    assert first is not None
    assert await newest() == first - 366 * 86_400_000_000
    dated.tags.clear()
    assert await newest() is None


async def test_entries_that_listings_leave_out_stay_and_are_doubted(registry, inventory, content):
    await inventory.crawl()
    registry.behaviour.hidden_tags = {"team/app:1.2"}
    registry.behaviour.hidden_repositories = {"team/multi"}
    registry.forget()
    report = await inventory.crawl()
    assert tag_digests(inventory) == expected_digests(content)
    assert any("1.2" in doubt for doubt in report.certificate.doubts)
    assert report.certificate.gone_repository_count == 0
    assert registry.events == []


async def test_a_repository_that_answers_404_itself_is_gone(content, registry, inventory):
    for number in range(8):
        content.repository(f"other/{number}").add(an_image("other"), "1")
    await inventory.crawl()
    del content.repositories["other/3"]
    report = await inventory.crawl()
    assert report.state == "complete"
    assert report.certificate.gone_repository_count == 1
    gone = inventory.rows(select(repositories).where(repositories.c.name == "other/3"))[0]
    assert gone["deleted_at"] is not None
    assert "other/3:1" not in tag_digests(inventory)
    content.repository("other/3").add(an_image("other"), "1")
    await inventory.crawl()
    back = inventory.rows(select(repositories).where(repositories.c.name == "other/3"))[0]
    assert back["deleted_at"] is None
    assert tag_digests(inventory) == expected_digests(content)


async def test_much_vanishing_at_once_needs_a_person_to_accept_it(content, registry, inventory):
    await inventory.crawl()
    before = tag_digests(inventory)
    app = content.repository("team/app")
    for tag in ("1.1", "1.2", "1.3"):
        del app.tags[tag]
    report = await inventory.crawl()
    assert report.state == "partial"
    assert any("3 of 12 known tags have vanished" in doubt for doubt in report.certificate.doubts)
    assert tag_digests(inventory) == before
    report = await inventory.crawl(accept_disappearance=True)
    assert report.state == "complete"
    assert report.certificate.gone_tag_count == 3
    assert tag_digests(inventory) == expected_digests(content)


async def test_other_credentials_that_see_an_empty_repository_are_not_believed(content, inventory):
    for number in range(100):
        content.repository("big/neighbour").add(an_image(f"n{number}"), f"{number}")
    await inventory.crawl()
    content.repository("team/app").tags.clear()
    inventory.fingerprint = "two"
    report = await inventory.crawl()
    assert report.state == "partial"
    assert any("all 11 tags of team/app" in doubt for doubt in report.certificate.doubts)
    assert "team/app:1.0" in tag_digests(inventory)
    # The change stays suspicious until somebody accepts it.
    assert (await inventory.crawl()).state == "partial"
    assert (await inventory.crawl(accept_disappearance=True)).state == "complete"
    assert "team/app:1.0" not in tag_digests(inventory)


@pytest.mark.parametrize("status", [401, 403])
async def test_refused_access_never_means_gone(registry, inventory, content, status):
    await inventory.crawl()
    before = tag_digests(inventory)
    registry.behaviour.faults[("GET", "/v2/team/app/.*")] = [Fault(status)] * 50
    report = await inventory.crawl()
    assert report.state == "partial"
    assert report.certificate.denied_count == 1
    assert tag_digests(inventory) == before
    state = {row["name"]: row["state"] for row in inventory.rows(select(repositories))}
    assert state == {"team/app": "denied", "team/multi": "complete"}


async def test_an_unreadable_manifest_makes_its_repository_partial_and_no_other(registry, inventory, content):
    await inventory.crawl()
    before = tag_digests(inventory)
    registry.behaviour.faults[("GET", "/v2/team/app/manifests/1.4")] = [Fault(500)] * 50
    report = await inventory.crawl()
    assert report.state == "partial"
    assert report.certificate.partial_count == 1
    assert tag_digests(inventory) == before
    assert {(p.repository, p.tag) for p in report.problems} == {("team/app", "1.4")}


async def test_a_passing_failure_is_survived(registry, inventory, content):
    registry.behaviour.faults[("GET", "/v2/team/app/manifests/1.4")] = [Fault(500), Fault(0)]
    registry.behaviour.faults[("GET", "/v2/_catalog")] = [Fault(503)]
    registry.behaviour.faults[("GET", "/v2/team/multi/tags/list")] = [Fault(429, headers=(("Retry-After", "0"),))]
    report = await inventory.crawl()
    assert report.state == "complete"
    assert tag_digests(inventory) == expected_digests(content)
    assert report.certificate.retry_count >= 4


async def test_a_dangling_tag_is_a_problem_and_not_a_gap(content, inventory):
    content.repository("team/app").set_tag("lost", Digest.of(b"never pushed"))
    report = await inventory.crawl()
    assert report.state == "complete"
    assert [(p.tag, p.code) for p in report.problems] == [("lost", "dangling-tag")]
    row = inventory.rows(select(tags).where(tags.c.name == "lost"))[0]
    assert (row["state"], row["manifest_id"]) == ("dangling", None)


async def test_a_missing_child_is_remembered_and_not_asked_for_every_time(content, registry, inventory):
    gone = an_image("gone")
    content.repository("team/broken").add(index([an_image("here"), gone]), "1", omit=[gone.digest])
    first = await inventory.crawl()
    assert [(p.repository, p.code, p.digest) for p in first.problems] == [
        ("team/broken", "missing-child", str(gone.digest))
    ]
    registry.forget()
    second = await inventory.crawl()
    assert [p.code for p in second.problems] == ["missing-child"]
    assert not [request for request in registry.requests if str(gone.digest) in request.path]
    content.repository("team/broken").add(gone)
    third = await inventory.crawl(verify=True)
    assert third.problems == ()


async def test_only_a_verifying_crawl_notices_that_a_tagged_manifest_is_gone(content, registry, inventory):
    """A conditional request by tag compares the tag's link alone: 304 although the manifest is not there."""
    await inventory.crawl()
    app = content.repository("team/app")
    del app.manifests[app.tags["1.6"]]
    report = await inventory.crawl(verify=True)
    assert ("1.6", "dangling-tag") in {(p.tag, p.code) for p in report.problems}
    verified = inventory.rows(select(repositories).where(repositories.c.name == "team/multi"))[0]
    assert verified["verified_at"] is not None


async def test_a_manifest_without_tag_that_is_gone_is_noticed_by_a_verifying_crawl(content, inventory):
    app = content.repository("team/app")
    await inventory.crawl()
    old = app.tags["1.3"]
    app.add(an_image("replacement"), "1.3")
    await inventory.crawl()
    del app.manifests[old]
    await inventory.crawl(verify=True)
    row = inventory.rows(select(repository_manifests).join(manifests).where(manifests.c.digest == old.to_bytes()))[0]
    assert row["deleted_at"] is not None


async def test_referrers_are_found_through_the_api_and_asked_for_in_turn(content):
    signed = an_image("signed")
    repository = content.repository("team/signed")
    repository.add(signed, "1")
    repository.add(artifact("application/example.signature", [real_layer(b"{}")], subject=signed))
    async with (
        SampleRegistry(content, behaviour=Behaviour.oci_1_1()) as registry,
        open_inventory(registry.url) as inventory,
    ):
        await inventory.crawl()
        found = inventory.rows(select(manifests).where(manifests.c.subject_digest == signed.digest.to_bytes()))
        assert [row["artifact_type"] for row in found] == ["application/example.signature"]
        registry.forget()
        await inventory.crawl()
        asked = [request for request in registry.requests if "/referrers/" in request.path]
        assert len(asked) < 12
        assert registry.events == []


async def test_content_known_from_elsewhere_is_not_fetched_again(content, registry, inventory):
    await inventory.crawl()
    content.repository("copy/multi").add(
        index([an_image("one"), image([layer("two", 20)]), attestation(an_image("one"))]), "1.0"
    )
    registry.forget()
    report = await inventory.crawl()
    assert report.certificate.fetched_manifest_count == 0
    assert not [r for r in registry.requests if "/blobs/" in r.path]
    assert tag_digests(inventory) == expected_digests(content)


async def test_without_configs_none_is_asked_for_and_a_later_crawl_makes_up_for_it(registry, inventory):
    await inventory.crawl(with_configs=False)
    assert not [request for request in registry.requests if "/blobs/" in request.path]
    assert {row["config_state"] for row in inventory.rows(select(manifests))} >= {"skipped"}
    registry.forget()
    await inventory.crawl()
    assert [request for request in registry.requests if "/blobs/" in request.path]
    states = {row["config_state"] for row in inventory.rows(select(manifests).where(manifests.c.is_index == 0))}
    assert states == {"read"}


async def test_blobs_are_asked_for_once_each_and_missing_ones_are_known_then(content, registry, inventory):
    lost = content.repository("team/app").add(image([layer("lost layer", 77)]), "lost")
    blob = next(d for d, b in content.repository("team/app").blobs.items() if b.size_bytes == 77)
    del content.repository("team/app").blobs[blob]
    await inventory.crawl()
    registry.forget()
    report = await inventory.crawl(verify_blobs=True)
    asked = [request.path.rsplit("/", 1)[1] for request in registry.requests if request.method == "HEAD"]
    assert len(asked) == len(set(asked)) == report.certificate.verified_blob_count + 1
    assert report.certificate.missing_blob_count == 1
    assert [p.code for p in report.problems] == ["missing-blob"]
    missing = inventory.rows(select(repository_blobs).where(repository_blobs.c.deleted_at.is_not(None)))
    assert len(missing) == 1
    assert lost in content.repository("team/app").manifests


async def test_a_restricted_crawl_leaves_the_rest_alone(content, registry, inventory):
    await inventory.crawl()
    registry.forget()
    del content.repositories["team/multi"]
    report = await inventory.crawl(repositories=(parse_pattern("glob:team/a*"),))
    assert report.certificate.repository_count == 1
    assert not [request for request in registry.requests if "team/multi" in request.path]
    assert "team/multi:1.0" in tag_digests(inventory)


async def test_named_repositories_are_read_where_the_catalog_is_refused(content):
    async with (
        SampleRegistry(content, behaviour=Behaviour(has_catalog=False)) as registry,
        open_inventory(registry.url) as inventory,
    ):
        report = await inventory.crawl(repositories=(parse_pattern("team/app"),))
        assert report.state == "complete"
        assert len(tag_digests(inventory)) == 11


async def test_sizes_of_repository_and_registry_are_there_after_a_crawl(inventory):
    await inventory.crawl()
    registry = inventory.rows(select(registries))[0]
    assert registry["sized_at"] is not None
    assert registry["tag_count"] == 12
    by_name = {row["name"]: row for row in inventory.rows(select(repositories))}
    # The base layer is shared with team/multi; everything else of team/app is its own.
    assert by_name["team/app"]["shared_bytes"] == 1000
    assert by_name["team/app"]["stored_bytes"] + by_name["team/multi"]["exclusive_bytes"] == registry["stored_bytes"]


async def test_a_registry_level_failure_changes_nothing_that_is_stored(content, registry, inventory):
    await inventory.crawl()
    before = tag_digests(inventory)
    registry.behaviour.faults[("GET", "/v2/_catalog")] = [Fault(500)] * 50
    report = await inventory.crawl()
    assert report.state == "partial"
    assert not report.certificate.is_listing_complete
    assert tag_digests(inventory) == before
    assert inventory.rows(select(crawl_problems)) == []


async def test_a_registry_that_was_never_read_is_not_remembered(content, registry, inventory):
    registry.behaviour.faults[("GET", "/v2/_catalog")] = [Fault(500)] * 50
    with pytest.raises(RegistryError):
        await inventory.crawl()
    assert inventory.rows(select(registries)) == []
    registry.behaviour.faults[("GET", "/v2/")] = [Fault(403)] * 50
    with pytest.raises(RegistryError):
        await inventory.crawl()
    assert inventory.rows(select(registries)) == []
    registry.behaviour.faults.clear()
    assert (await inventory.crawl()).state == "complete"


async def test_a_missing_blob_stays_a_problem_of_its_repository_until_it_is_back(content, registry, inventory):
    app = content.repository("team/app")
    app.add(image([layer("lost layer", 77)]), "lost")
    blob = next(blob for blob in app.blobs.values() if blob.size_bytes == 77)
    del app.blobs[blob.digest]
    await inventory.crawl(verify_blobs=True)
    report = await inventory.crawl()
    assert [(p.repository, p.digest, p.code) for p in report.problems] == [
        ("team/app", str(blob.digest), "missing-blob")
    ]
    assert report.certificate.problem_count == 1
    counted = inventory.rows(select(repositories.c.problem_count).where(repositories.c.name == "team/app"))
    assert [row["problem_count"] for row in counted] == [1]
    app.blobs[blob.digest] = blob
    report = await inventory.crawl(verify_blobs=True)
    assert report.problems == ()
    assert inventory.rows(select(repositories.c.problem_count).where(repositories.c.problem_count > 0)) == []


async def test_a_restricted_crawl_does_not_pass_for_one_of_the_whole_registry(content, inventory):
    content.repository("team/app").set_tag("lost", Digest.of(b"never pushed"))
    only_multi = (parse_pattern("glob:team/m*"),)
    await inventory.crawl(repositories=only_multi)
    assert inventory.rows(select(registries))[0]["crawl_state"] == "restricted"
    await inventory.crawl()
    before = inventory.rows(select(registries))[0]
    assert (before["crawl_state"], before["problem_count"]) == ("complete", 1)
    await inventory.crawl(repositories=only_multi)
    after = inventory.rows(select(registries))[0]
    for name in ("crawl_state", "crawled_at", "crawl_id", "problem_count"):
        assert after[name] == before[name]


async def test_a_manifest_tells_which_of_its_blobs_are_missing(content, inventory):
    app = content.repository("team/app")
    built = image([layer("base", 1000), layer("lost layer", 77)])
    app.add(built, "lost")
    blob = next(blob for blob in app.blobs.values() if blob.size_bytes == 77)
    del app.blobs[blob.digest]
    await inventory.crawl(verify_blobs=True)

    def describe(connection):
        manifest_id = connection.execute(select(manifests.c.id).where(manifests.c.digest == built.digest.to_bytes()))
        return describe_manifest(connection, manifest_id.scalar_one())

    assert inventory.database.read_now(describe).missing == {str(blob.digest)}
