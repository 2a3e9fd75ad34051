"""Cleaning up real registries by the command line alone, as a person does: what is planned, done, refused and freed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from regwarden.core.oci.digests import Digest
from regwarden.testing.content import BuiltManifest, Content
from regwarden.testing.images import image, image_config, index
from tests.cleanup_world import NAME, World
from tests.fixtures.distribution_servers import StartRegistry
from tests.gitlab_double.modes import ROOT
from tests.live_registry import packed, skopeo
from tests.random_registries import RandomRegistry, lay_out, stored_bytes, stored_tags

pytestmark = pytest.mark.e2e

YOUNG = ("--waive", "min-age")
OTHER = f"{ROOT}other"
BOTH = ["docker_registry", "distribution3"]


def picture(seed: str, platform: str = "linux/amd64") -> BuiltManifest:
    return image([packed("base"), packed(f"only in {seed}")], image_config(platform, labels={"of": seed}))


OLD, NEW = picture("old"), picture("new")
# The platforms of an index that goes, one of which another index lists, too.
COMMON = picture("common", "linux/arm64")
GOING, STAYING = index([picture("going"), COMMON]), index([picture("staying"), COMMON])


def build_content() -> Content:
    content = Content()
    for name in ("team/app", "team/web", OTHER):
        content.repository(name).add(OLD, "1.0")
        content.repository(name).add(NEW, "2.0", "latest")
    content.repository("team/app").add(GOING, "1.1")
    content.repository("team/app").add(STAYING, "2.1")
    return content


def start(registry: StartRegistry, folder: Path, **options: Any) -> World:
    """The registry after one collection, running, and crawled."""
    root = folder / "storage"
    lay_out(RandomRegistry(build_content(), ()), root)
    server = registry(root=root, is_started=False, **options)
    server.collect_garbage()
    server.start()
    world = World(server, folder)
    world.tell("crawl", NAME)
    return world


@pytest.fixture(params=BOTH)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    return start(request.getfixturevalue(request.param), tmp_path)


@pytest.fixture
def world_2(docker_registry: StartRegistry, tmp_path: Path) -> World:
    return start(docker_registry, tmp_path)


def tags(world: World, repository: str) -> dict[str, str]:
    return stored_tags(world.registry.root, repository)


def guards(world: World, plan: Any) -> dict[str, str]:
    return {one["code"]: one["state"] for one in world.ask("plan", "show", str(plan["id"]), "--guards")}


def size_of(*blobs: Any) -> int:
    return sum(len(blob.payload) if isinstance(blob, BuiltManifest) else blob.size_bytes for blob in blobs)


def pulled_digest(folder: Path) -> str:
    return str(Digest.of((folder / "manifest.json").read_bytes()))


@pytest.mark.parametrize("kind", BOTH)
def test_where_deletion_is_switched_off_the_plan_is_blocked_and_the_lines_that_help_are_printed(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    world = start(request.getfixturevalue(kind), tmp_path, can_delete=False)
    before = tags(world, "team/app")
    wanted = ("--tag", "team/app:1.1", *YOUNG)
    plan = world.plan(*wanted, status=3)
    assert guards(world, plan)["delete-disabled"] == "blocks"
    assert "does not allow to delete" in world.tell("plan", "show", str(plan["id"]))
    world.tell("plan", "approve", str(plan["id"]), status=1)
    world.tell("plan", "apply", str(plan["id"]), "--waive", "no-live-events", "--waive", "delete-disabled", status=1)
    assert tags(world, "team/app") == before
    told = world.tell("registry", "check", NAME)
    assert "delete:\n" in told
    assert "enabled: true" in told
    assert "REGISTRY_STORAGE_DELETE_ENABLED=true" in told
    # What it says helps.
    world.registry.stop()
    world.registry.config["storage"]["delete"]["enabled"] = True
    world.registry.start()
    plan = world.plan(*wanted)
    assert "delete-disabled" not in guards(world, plan)
    assert world.apply(plan["id"])["state"] == "applied"
    assert tags(world, "team/app") == {tag: digest for tag, digest in before.items() if tag != "1.1"}


def test_an_index_goes_with_its_own_platforms_and_the_other_stays_whole(world: World, tmp_path: Path) -> None:
    plan = world.plan("--tag", "team/app:1.1", *YOUNG)
    report = world.apply(plan["id"])
    assert (report["state"], report["results"], report["broken_indexes"]) == ("applied", {"done": 2}, [])
    assert report["verified_index_count"] == 1
    world.registry.stop()
    world.registry.collect_garbage()
    world.registry.start()
    for child, architecture in zip(STAYING.children, ("amd64", "arm64"), strict=True):
        folder = tmp_path / "pulled" / architecture
        world.pull("team/app:2.1", folder, "--override-arch", architecture)
        assert pulled_digest(folder) == str(child.digest)
    world.pull("team/app:2.1", tmp_path / "pulled" / "all")


def test_a_digest_that_two_listed_repositories_share_goes_from_both(world: World) -> None:
    everywhere = ("--repository", "team/app", "--repository", "team/web", "--repository", OTHER)
    plan = world.plan(*everywhere, "--tag", "1.0", *YOUNG, "--untagged-known")
    assert world.apply(plan["id"])["results"] == {"done": 3}
    assert [("1.0" in tags(world, name)) for name in ("team/app", "team/web", OTHER)] == [False] * 3
    before = stored_bytes(world.registry.root)
    world.registry.collect_garbage()
    config, _, own_layer = OLD.blobs
    assert before - stored_bytes(world.registry.root) == size_of(OLD, config, own_layer)


def test_a_digest_that_another_repository_uses_is_left_alone_everywhere(world: World) -> None:
    listed = ("--repository", "team/app", "--repository", "team/web", "--tag", "1.0", *YOUNG)
    plan = world.plan(*listed)
    assert world.ask("plan", "show", str(plan["id"]), "--steps") == []
    kept = world.ask("plan", "show", str(plan["id"]), "--verdicts", "--outcome", "keep")
    reasons = [reason for one in kept if one["tag"] == "1.0" for reason in one["reasons"]]
    assert [one["code"] for one in reasons] == ["shared", "shared"]
    assert all(OTHER in one["detail"] for one in reasons)
    world.tell("plan", "create", *listed, "--raise-intersecting-repository", status=1)


def test_untag_removes_only_the_tag_where_the_registry_can(distribution3: StartRegistry, tmp_path: Path) -> None:
    world = start(distribution3, tmp_path)
    before = tags(world, "team/app")
    plan = world.plan("--tag", "team/app:latest", "--untag", *YOUNG)
    assert world.apply(plan["id"])["results"] == {"done": 1}
    assert tags(world, "team/app") == {tag: digest for tag, digest in before.items() if tag != "latest"}
    world.registry.collect_garbage()
    world.registry.start()
    world.pull("team/app:2.0", tmp_path / "pulled")
    assert pulled_digest(tmp_path / "pulled") == str(NEW.digest)


def test_untag_leaves_the_tag_where_the_registry_cannot_and_says_so(world_2: World) -> None:
    plan = world_2.plan("--tag", "team/app:latest", "--untag", *YOUNG)
    assert guards(world_2, plan)["cannot-untag"] == "blocks"
    assert world_2.ask("plan", "show", str(plan["id"]), "--steps") == []
    before = tags(world_2, "team/app")
    world_2.apply(plan["id"])
    assert tags(world_2, "team/app") == before


def test_a_placeholder_removes_just_that_tag_and_its_sibling_is_pulled(world_2: World, tmp_path: Path) -> None:
    before = tags(world_2, "team/app")
    bytes_before = stored_bytes(world_2.registry.root)
    plan = world_2.plan("--tag", "team/app:latest", "--untag", "--placeholders", *YOUNG)
    assert world_2.apply(plan["id"])["results"] == {"done": 1}
    assert tags(world_2, "team/app") == {tag: digest for tag, digest in before.items() if tag != "latest"}
    world_2.registry.collect_garbage()
    assert stored_bytes(world_2.registry.root) == bytes_before  # nothing of the placeholder is left
    world_2.registry.start()
    world_2.pull("team/app:2.0", tmp_path / "pulled")
    assert pulled_digest(tmp_path / "pulled") == str(NEW.digest)
    listed = json.loads(skopeo("list-tags", "--tls-verify=false", f"docker://{world_2.registry.host}/team/app"))
    assert "latest" not in listed["Tags"]


@pytest.mark.parametrize("is_measured", [True, False], ids=["measured", "asked"])
def test_finish_compares_what_the_collection_freed(world: World, is_measured: bool) -> None:
    root = world.registry.root
    if is_measured:
        world.more_settings = f'storage_path = "{root}"\n'
    plan = world.plan("--tag", "team/app:1.1", *YOUNG, "--untagged-known")
    freed = plan["sizes"][NAME]["reclaimable_bytes"]
    world.apply(plan["id"])
    (ending,) = world.ask("plan", "finish", str(plan["id"]))["endings"]
    assert (ending["at_least_bytes"], ending["at_most_bytes"]) == (freed, freed)
    (early,) = world.ask("plan", "finish", str(plan["id"]), "--collected", status=3)["collected"]
    assert early["conclusion"] == "not-collected"
    before = stored_bytes(root)
    world.registry.collect_garbage()
    world.registry.start()
    (found,) = world.ask("plan", "finish", str(plan["id"]), "--collected")["collected"]
    assert found["conclusion"] == "collected"
    assert found["freed_bytes"] == (freed if is_measured else None)
    assert before - stored_bytes(root) == freed
    # The index, the platform that only it had, and of that one its configuration and its own layer.
    (own, _), (config, _, own_layer) = GOING.children, GOING.children[0].blobs
    assert freed == size_of(GOING, own, config, own_layer)
    assert found["gone_count"] == found["sample_count"] == 2
    world.tell("plan", "undo", str(plan["id"]), status=1)
