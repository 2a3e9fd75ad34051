"""Undo and finish against real registries: everything comes back, and after a collection what is gone is named."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from regwarden.core.collection_steps import Flavour
from regwarden.core.oci.digests import Digest
from regwarden.core.undo import LossCode
from regwarden.core.undo_losses import explain_loss
from regwarden.flows.deletion_probe import probe_deletion
from regwarden.flows.finish_records import CollectionPlace, Conclusion
from regwarden.flows.finishing import finish_collected, finish_plan, run_collection
from regwarden.flows.services import Services
from regwarden.flows.undoing import UndoReport, undo_plan
from regwarden.testing.content import BuiltManifest
from regwarden.testing.images import artifact, image, image_config, index
from tests import servers
from tests.crawling import NAME, Inventory, open_inventory
from tests.live_registry import packed, skopeo
from tests.removing import plan_of, remove

pytestmark = pytest.mark.e2e

APP, LIB = "team/app", "team/lib"
AMD = image([packed("base"), packed("amd")], image_config("linux/amd64"))
ARM = image([packed("base"), packed("arm")], image_config("linux/arm64"))
MULTI = index([AMD, ARM])
SIGNATURE = artifact("application/example", [packed("signed")], subject=MULTI)
OTHER = image([packed("base"), packed("other")], image_config("linux/amd64"))
# The same content as OTHER under another manifest: a collection takes its document and nothing else.
TWIN = image([packed("base"), packed("other")], image_config("linux/amd64"), annotations={"of": "other"})
EVERYTHING = (
    (APP, MULTI.digest, ("1.0", "latest")),
    (APP, AMD.digest, ()),
    (APP, ARM.digest, ()),
    (APP, SIGNATURE.digest, ("signed",)),
)


@pytest.fixture(params=["docker_registry", "distribution3"])
def registry(request):
    return request.getfixturevalue(request.param)()


@pytest.fixture
async def inventory(registry):
    async with open_inventory(registry.url) as inventory:
        await put(inventory, APP, MULTI, "1.0", "latest")
        await put(inventory, APP, SIGNATURE, "signed")
        await put(inventory, APP, OTHER, "other")
        await put(inventory, APP, TWIN, "twin")
        await inventory.crawl()
        yield inventory


@pytest.fixture
def services(inventory):
    return Services(inventory.database, inventory.now, {NAME: inventory.connector})


async def put(inventory: Inventory, repository: str, built: BuiltManifest, *tags: str) -> None:
    for child in built.children:
        await put(inventory, repository, child)
    for blob in built.blobs:
        await inventory.connector.put_blob(repository, b"".join(blob.chunks()))
    for reference in tags or (str(built.digest),):
        await inventory.connector.put_manifest(repository, reference, built.media_type, built.payload)


async def tag_map(services: Services) -> dict[str, tuple[str, bytes]]:
    """Every tag of the repository, with the bytes that it leads to."""
    connector = services.connectors[NAME]
    listing = await connector.list_tags(APP)
    found = {}
    for tag in listing.tags:
        manifest = await connector.fetch_manifest(APP, tag)
        found[tag] = (str(manifest.digest), manifest.payload)  # type: ignore[union-attr]  # nothing was said to be known
    return found


def pull(registry, tag: str, folder: Path, *, platform: str = "") -> None:
    os_, _, architecture = platform.partition("/")
    chosen = ("--override-os", os_, "--override-arch", architecture) if platform else ()
    skopeo(*chosen, "copy", "--src-tls-verify=false", f"docker://{registry.host}/{APP}:{tag}", f"dir:{folder}")


async def removed(services: Services, *removals) -> int:
    return await remove(services, plan_of(services.now(), NAME, removals or EVERYTHING))


async def undone(services: Services, plan_id: int) -> UndoReport:
    return await undo_plan(services, plan_id, principal="anna")


async def test_an_undo_restores_every_tag_and_every_platform_can_be_pulled(registry, services, tmp_path):
    before = await tag_map(services)
    plan_id = await removed(services)
    assert set(await tag_map(services)) == {"other", "twin"}
    report = await undone(services, plan_id)
    assert (report.state, report.failures, report.losses) == ("undone", (), ())
    assert await tag_map(services) == before
    for platform in ("linux/amd64", "linux/arm64"):
        await asyncio.to_thread(pull, registry, "1.0", tmp_path / platform.replace("/", "-"), platform=platform)
    everything = ("copy", "--all", "--src-tls-verify=false")
    skopeo(*everything, f"docker://{registry.host}/{APP}:latest", f"dir:{tmp_path / 'all'}")
    raw = skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{registry.host}/{APP}:signed")
    assert str(Digest.of(raw.encode())) == str(SIGNATURE.digest)


async def test_after_a_collection_it_refuses_and_names_what_is_gone(registry, services):
    plan_id = await removed(services)
    registry.stop()
    registry.collect()
    registry.start()
    report = await undone(services, plan_id)
    assert set(await tag_map(services)) == {"other", "twin"}
    assert (report.manifest_count, report.tag_count, report.state) == (0, 0, "applied")
    lost = {(one.digest, one.missing) for one in report.losses if one.code is LossCode.BLOB_GONE}
    alive = {blob.digest for blob in OTHER.blobs}
    gone = {built: [blob for blob in built.blobs if blob.digest not in alive] for built in (AMD, ARM, SIGNATURE)}
    assert lost == {
        *((str(built.digest), str(blob.digest)) for built, blobs in gone.items() for blob in blobs),
        *((str(MULTI.digest), str(blob.digest)) for built in (AMD, ARM) for blob in gone[built]),
    }
    assert all(one.missing in explain_loss(one) for one in report.losses)


async def test_after_a_collection_what_lost_only_its_document_comes_back(registry, services, tmp_path):
    before = await tag_map(services)
    plan_id = await removed(services, (APP, TWIN.digest, ("twin",)))
    registry.stop()
    registry.collect()
    registry.start()
    assert (await undone(services, plan_id)).state == "undone"
    assert await tag_map(services) == before
    await asyncio.to_thread(pull, registry, "twin", tmp_path / "twin")


async def test_after_a_collection_blobs_of_another_repository_are_found_again(registry, inventory, services, tmp_path):
    await put(inventory, LIB, MULTI, "copy")
    await inventory.crawl()
    before = await tag_map(services)
    plan_id = await removed(services, *EVERYTHING[:3])
    registry.stop()
    registry.collect()
    registry.start()
    report = await undone(services, plan_id)
    assert (report.failures, report.losses, report.state) == ((), (), "undone")
    assert await tag_map(services) == before
    everything = ("copy", "--all", "--src-tls-verify=false")
    skopeo(*everything, f"docker://{registry.host}/{APP}:latest", f"dir:{tmp_path / 'all'}")


async def test_a_collection_beside_a_running_registry_is_seen(docker_registry, tmp_path):
    registry = docker_registry()
    async with open_inventory(registry.url) as inventory:
        services = Services(inventory.database, inventory.now, {NAME: inventory.connector})
        await put(inventory, APP, OTHER, "other")
        await put(inventory, APP, TWIN, "twin")
        await put(inventory, APP, AMD, "amd")
        await inventory.crawl()
        before = await tag_map(services)
        plan_id = await removed(services, (APP, TWIN.digest, ("twin",)), (APP, AMD.digest, ("amd",)))
        registry.collect()  # and it runs on, with its cache
        report = await undone(services, plan_id)
        assert [(one.code, one.digest) for one in report.failures] == [("restart-needed", str(TWIN.digest))]
        assert {one.digest for one in report.losses} == {str(AMD.digest)}
        assert set(await tag_map(services)) == {"other"}
        registry.stop()
        registry.start()
        report = await undone(services, plan_id)
        assert report.failures == ()
        assert await tag_map(services) == {tag: found for tag, found in before.items() if tag != "amd"}
        await asyncio.to_thread(pull, registry, "twin", tmp_path / "twin")


async def test_the_operators_command_frees_what_was_expected(registry, services):
    await probe_deletion(services, NAME, APP)
    registry.stop()
    registry.collect()  # to start clean
    registry.start()
    plan_id = await removed(services)
    script = registry.config_path.with_name("collect.sh")
    program = f"{registry.program} garbage-collect {registry.config_path}"
    script.write_text(f"#!/bin/sh\nset -e\nOTEL_TRACES_EXPORTER=none {program} | tail -n 3\n")
    script.chmod(0o700)
    place = CollectionPlace(storage_path=registry.root, command=(str(script),), timeout_seconds=60)
    places = {NAME: place}
    (end,) = await finish_plan(services, plan_id, principal="anna", places=places)
    is_2 = "docker-registry" in str(registry.program)
    assert end.flavour is (Flavour.DISTRIBUTION_2 if is_2 else Flavour.DISTRIBUTION_3)
    assert end.sample
    registry.stop()
    runs = await run_collection(services, plan_id, principal="anna", places=places)
    assert runs[NAME].exit_status == 0, runs[NAME].output
    registry.start()
    (found,) = await finish_collected(services, plan_id, principal="anna", places=places)
    assert found.freed_bytes == end.expected.at_most_bytes
    assert (found.conclusion, found.gone_count) == (Conclusion.COLLECTED, len(end.sample))
    (unmeasured,) = await finish_collected(services, plan_id, principal="anna", places={})
    assert (unmeasured.conclusion, unmeasured.freed_bytes) == (Conclusion.COLLECTED, None)
    assert servers.answers_http(registry.url)
