"""What a plan says that it frees is what the next collection of garbage frees, byte for byte; and what stays is whole.

Random registries on real servers. ``REGWARDEN_COLLECTION_SEEDS`` is how many of them are tried on each server (the
first few by default, within a minute). ``REGWARDEN_SHARED`` may name a folder with another generator of registries
(``tools/make_registry.py``); then some of its are tried, too.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from regwarden.library import Inventory
from regwarden.library_plans import PlanArguments
from regwarden.testing.content import BuiltManifest, Content, StoredManifest
from regwarden.testing.images import artifact, image, image_config, index, real_layer
from tests.cleanup_world import NAME, WAIVED, World, carry_out
from tests.fixtures.distribution_servers import RegistryServer, StartRegistry
from tests.gitlab_double.modes import ROOT
from tests.live_registry import packed
from tests.random_registries import (
    RandomRegistry,
    lay_out,
    missing_from,
    random_registry,
    stored_bytes,
    stored_tags,
)

pytestmark = pytest.mark.e2e

SEED_COUNT = int(os.environ.get("REGWARDEN_COLLECTION_SEEDS", "5"))
FEWER = max(SEED_COUNT // 2, 1)
GENERATOR = Path(os.environ.get("REGWARDEN_SHARED", "")) / "tools" / "make_registry.py"
SERVERS = {"docker_registry": "2.8", "distribution3": "3.1"}
HEAD = "apiVersion: retention/v1\nkind: Policy\nmetadata: {name: tidy}\nscope: {}\n"
POLICIES = (
    'keep: [{match: {tags: {any: ["glob:1.*"]}}, newest: 2, rank: {by: [semver]}}]\ndefault: delete\n',
    'delete: [{match: {tags: {any: ["glob:1.*", "glob:dev-*"]}}, beyond: 2, rank: {by: [created]}}]\n',
    "protect: [{tags: {any: [latest]}}]\ndelete: [{when: {created: {older-than: 1d}}}]\nunit: digest\n",
    'delete: [{match: {tags: {any: ["glob:1.*"]}}, beyond: 1, rank: {by: [semver]}}, {untagged: {within: 30d}}]\n',
    "keep: [{match: {special: [signatures, fallback-tags]}}]\ndefault: delete\nreferrers: explicit\n",
)
# As whoever pushed all this must have had it: foreign layers, and indexes of layers (build caches), are taken again.
VALIDATION = {"manifests": {"urls": {"allow": ["^https://"]}, "indexes": {"platforms": "none"}}}
Start = Callable[[RandomRegistry], World]


def seeds(first: int, count: int) -> list[Any]:
    """So many for each server; with five of them every way to clean up comes first once."""
    return [
        pytest.param(kind, seed, id=f"{name}-{seed}")
        for place, (kind, name) in enumerate(SERVERS.items())
        for seed in range(first + place * count, first + (place + 1) * count)
    ]


@pytest.fixture
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Start:
    """Lay out a registry, collect its garbage to start clean, run it."""
    start_registry: StartRegistry = request.getfixturevalue(request.param)

    def start(registry: RandomRegistry) -> World:
        root = tmp_path / "storage"
        lay_out(registry, root)
        server = start_registry(root=root, is_started=False, settings={"validation": VALIDATION})
        server.collect_garbage()
        server.start()
        return World(server, tmp_path)

    return start


@pytest.mark.parametrize(("start", "seed"), seeds(0, SEED_COUNT), indirect=["start"])
def test_the_next_collection_frees_exactly_what_the_plan_says(start: Start, seed: int, tmp_path: Path) -> None:
    registry = random_registry(seed)
    world = start(registry)
    root = world.registry.root
    with world.open() as inventory:
        assert inventory.crawl(NAME).state == "complete"
        move_tags(world, inventory, registry, seed)
        before, tags_before = stored_bytes(root), all_tags(root, registry.content)
        plan, steps = first_that_removes(inventory, possible_plans(registry, seed))
        (ending,) = inventory.finish_plan(plan.summary.id).endings
    world.registry.collect_garbage()
    sizes = plan.summary.sizes[NAME]
    assert sizes["lower_bound_bytes"] == sizes["reclaimable_bytes"] == ending.at_least_bytes == ending.at_most_bytes
    assert before - stored_bytes(root) == sizes["reclaimable_bytes"]
    removed = {(step.repository, tag) for step in steps for tag in step.tags}
    tags_after = all_tags(root, registry.content)
    assert tags_after == {place: digest for place, digest in tags_before.items() if place not in removed}
    assert missing_in(root, registry.content, tags_after) == []
    world.registry.start()
    pull_some(world, registry, list(tags_after), tmp_path / "pulled")


@pytest.mark.parametrize(("start", "seed"), seeds(1000, FEWER), indirect=["start"])
def test_with_untagged_manifests_that_nobody_knows_the_collection_frees_what_lies_between_the_bounds(
    start: Start, seed: int
) -> None:
    registry = random_registry(seed, has_untagged=True)
    world = start(registry)
    root = world.registry.root
    before = stored_bytes(root)
    with world.open() as inventory:
        inventory.crawl(NAME)
        plan, _ = first_that_removes(inventory, possible_plans(registry, seed, is_untagged_known=False))
    world.registry.collect_garbage()
    sizes = plan.summary.sizes[NAME]
    assert sizes["lower_bound_bytes"] <= before - stored_bytes(root) <= sizes["reclaimable_bytes"]
    assert sizes["confidence"] == "upper-bound"
    everything = all_tags(root, registry.content)
    assert missing_in(root, registry.content, everything) == []


@pytest.mark.parametrize(("start", "seed"), seeds(2000, FEWER), indirect=["start"])
def test_after_an_undo_a_collection_frees_nothing_of_what_was_there(start: Start, seed: int) -> None:
    registry = random_registry(seed)
    world = start(registry)
    root = world.registry.root
    before, tags_before = stored_bytes(root), all_tags(root, registry.content)
    with world.open() as inventory:
        inventory.crawl(NAME)
        plan, _ = first_that_removes(inventory, possible_plans(registry, seed))
        assert all_tags(root, registry.content) != tags_before
        undone = inventory.undo_plan(plan.summary.id)
        assert (undone.state, undone.losses, undone.failures) == ("undone", (), ())
    world.registry.collect_garbage()
    assert all_tags(root, registry.content) == tags_before
    assert stored_bytes(root) == before
    assert missing_in(root, registry.content, tags_before) == []


APP = f"{ROOT}app"
BASE, OWN = packed("base"), packed("own")
GOING, OTHER = image([BASE, OWN]), image([BASE, packed("other")])
DOCUMENTS = artifact("application/example", [real_layer(GOING.payload)])


@dataclass(frozen=True)
class Case:
    """What else there is besides two images, one of which goes, and how much of that one stays because of it."""

    also: BuiltManifest
    stays: tuple[bytes | None, ...]
    repository: str = APP
    tag: str = ""
    is_also_removed: bool = False
    omitted: tuple[BuiltManifest, ...] = ()

    @property
    def is_known(self) -> bool:
        return bool(self.tag)


CASES = {
    "an unknown image has one of its layers": Case(
        image([OWN], image_config(labels={"of": "it"})), (OWN.blob.content,)
    ),
    "an unknown index lists it": Case(index([GOING, OTHER]), (GOING.payload,)),
    "an index of another repository lists it and has it not": Case(
        index([GOING, OTHER]), (GOING.payload,), repository=f"{ROOT}other", tag="sparse", omitted=(GOING,)
    ),
    "a layer of an artifact is the same document": Case(DOCUMENTS, (GOING.payload,), tag="documents"),
    "that artifact goes, too": Case(DOCUMENTS, (), tag="documents", is_also_removed=True),
}


@pytest.mark.parametrize("start", SERVERS, ids=SERVERS.values(), indirect=True)
@pytest.mark.parametrize("name", CASES)
def test_what_else_holds_content_is_taken_into_account(start: Start, name: str) -> None:
    case, content = CASES[name], Content()
    content.repository(APP).add(GOING, "going")
    content.repository(APP).add(OTHER, "other")
    tags = (case.tag,) if case.tag else ()
    content.repository(case.repository).add(case.also, *tags, omit=[one.digest for one in case.omitted])
    world = start(RandomRegistry(content, ()))
    root = world.registry.root
    before = stored_bytes(root)
    named = [f"{APP}:going", *([f"{case.repository}:{case.tag}"] if case.is_also_removed else [])]
    with world.open() as inventory:
        inventory.crawl(NAME)
        arguments = PlanArguments(tags=named, waive=WAIVED, untagged_known=case.is_known)
        plan, _ = first_that_removes(inventory, iter([arguments]))
        (ending,) = inventory.finish_plan(plan.summary.id).endings
    world.registry.collect_garbage()
    freed, sizes = before - stored_bytes(root), plan.summary.sizes[NAME]
    gone = {GOING.payload, *(b"".join(blob.chunks()) for blob in GOING.blobs)} - {b"".join(BASE.blob.chunks())}
    if case.is_also_removed:
        gone |= {case.also.payload, *(b"".join(blob.chunks()) for blob in case.also.blobs)}
    kept_bytes = {b"".join(blob.chunks()) for blob in OTHER.blobs}
    assert freed == sum(map(len, gone - kept_bytes - set(case.stays)))
    if case.is_known:
        assert freed == sizes["reclaimable_bytes"] == sizes["lower_bound_bytes"] == ending.at_most_bytes
    else:
        assert sizes["lower_bound_bytes"] == ending.at_least_bytes == 0
        assert 0 < freed < sizes["reclaimable_bytes"] == ending.at_most_bytes


@pytest.mark.parametrize("seed", ["11", "12"])
def test_another_generator_agrees(docker_registry: StartRegistry, tmp_path: Path, seed: str) -> None:
    if not GENERATOR.is_file():
        pytest.skip("REGWARDEN_SHARED does not name a folder with tools/make_registry.py")
    root, truth = tmp_path / "root", tmp_path / "truth.json"
    sizes = ["--layer-data", "exact", "--size-scale", "0.0001", "--untagged", "0", "--copy-fraction", "0.3"]
    amount = ["--repos", "12", "--tags", "8", "--multiarch-fraction", "0.4", "--seed", seed]
    places: list[str | Path] = ["--root", root, "--truth", truth]
    subprocess.run([sys.executable, GENERATOR, *places, *sizes, *amount], check=True, capture_output=True)
    server = docker_registry(root=root, is_started=False)
    server.collect_garbage()
    server.start()
    before = stored_bytes(root)
    with World(server, tmp_path).open() as inventory:
        inventory.crawl(NAME)
        policy = HEAD + "delete: [{beyond: 3, rank: {by: [created]}}]\n"
        plan, report = carry_out(
            inventory, PlanArguments(policies={"policy": policy}, waive=WAIVED, untagged_known=True)
        )
        assert set(report.results) == {"done"}
    server.collect_garbage()
    assert before - stored_bytes(root) == plan.summary.sizes[NAME]["reclaimable_bytes"] > 0


def possible_plans(registry: RandomRegistry, seed: int, *, is_untagged_known: bool = True) -> Iterator[PlanArguments]:
    """Ways to clean up, different ones for each seed; the last removes everything."""
    chance = random.Random(seed)
    always = PlanArguments(waive=WAIVED, untagged_known=is_untagged_known)
    names = sorted(registry.content.repositories)
    ways = [
        PlanArguments(tags=tags_of_some_digests(registry, chance)),
        PlanArguments(tags=tags_of_some_digests(registry, chance), untag=True, with_placeholders=True),
        PlanArguments(repositories=chance.sample(names, len(names) // 2), excluded=["1.2"]),
        PlanArguments(tags=["glob:**:1.0", "glob:**:glob:dev-*"], match_all_tags=False),
        PlanArguments(repositories=["glob:**"], tag_regexes=["1\\.[0-3]$", "dev-", "latest"], excluded=["1.2"]),
        *(PlanArguments(policies={"policy": HEAD + text}) for text in POLICIES),
    ]
    first = seed % len(ways)
    for way in (*ways[first:], *ways[:first], PlanArguments(repositories=["glob:**"])):
        yield PlanArguments(**{**always, **way})


def tags_of_some_digests(registry: RandomRegistry, chance: random.Random) -> list[str]:
    """Tags of a third of all digests; here and there one is left out, so that its digest must stay."""
    tags = registry.regular_tags()
    digests = sorted({str(registry.content.repositories[name].tags[tag]) for name, tag in tags})
    chosen = set(chance.sample(digests, max(len(digests) // 3, 1)))
    return [
        f"{name}:{tag}"
        for name, tag in tags
        if str(registry.content.repositories[name].tags[tag]) in chosen and chance.random() < 0.9
    ]


def first_that_removes(inventory: Inventory, ways: Iterator[PlanArguments]) -> tuple[Any, list[Any]]:
    """Carry out the first plan that has something to remove; it and its steps, all of which were done."""
    for arguments in ways:
        plan_id = inventory.create_plan(**arguments)
        if inventory.plan_steps(plan_id):
            break
    inventory.approve_plan(plan_id)
    report = inventory.apply_plan(plan_id, waive=("no-live-events",))
    assert (report.state, report.problems, report.broken_indexes) == ("applied", (), ())
    assert set(report.results) == {"done"}
    return inventory.plan(plan_id), inventory.plan_steps(plan_id)


def move_tags(world: World, inventory: Inventory, registry: RandomRegistry, seed: int) -> None:
    """Let tags point elsewhere between two crawls: what they leave is untagged, and known."""
    chance = random.Random(seed)
    content = registry.content
    for name, tag in registry.regular_tags():
        target = chance.choice(sorted(content.repositories[name].tags.values(), key=str))
        if chance.random() < 0.1 and target != content.repositories[name].tags[tag]:
            push(world.registry, name, tag, content.repositories[name].manifests[target])
            content.repositories[name].set_tag(tag, target)
    assert inventory.crawl(NAME).state == "complete"


def push(server: RegistryServer, repository: str, tag: str, manifest: StoredManifest) -> None:
    headers = {"Content-Type": manifest.media_type}
    url = f"{server.url}/v2/{repository}/manifests/{tag}"
    request = urllib.request.Request(url, manifest.payload, headers, method="PUT")
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert answer.status == 201


def all_tags(root: Path, content: Content) -> dict[tuple[str, str], str]:
    return {(name, tag): digest for name in content.repositories for tag, digest in stored_tags(root, name).items()}


def missing_in(root: Path, content: Content, tags: dict[tuple[str, str], str]) -> list[str]:
    """What these tags lead to and is not stored any more."""
    return [text for (name, _), digest in tags.items() for text in missing_from(root, content, name, digest)]


def pull_some(world: World, registry: RandomRegistry, tags: list[tuple[str, str]], folder: Path) -> None:
    """Pull two of the tags, every platform, verified."""
    content = registry.content
    pullable = [
        (name, tag)
        for name, tag in tags
        if can_be_pulled(content, name, content.repositories[name].manifests[content.repositories[name].tags[tag]])
    ]
    for number, (name, tag) in enumerate(sorted(pullable)[:2]):
        world.pull(f"{name}:{tag}", folder / str(number))


def can_be_pulled(content: Content, name: str, manifest: StoredManifest) -> bool:
    """No client can copy a build cache, whose index lists layers, or layers elsewhere; skopeo no index in an index."""
    here = {str(digest): found for digest, found in content.repositories[name].manifests.items()}
    document = json.loads(manifest.payload)
    children = [one["digest"] for one in document.get("manifests", ())]
    if any("manifests" in json.loads(here[digest].payload) for digest in children if digest in here):
        return False
    if any("urls" in one for one in document.get("layers", ())) or not here.keys() >= set(children):
        return False
    return all(can_be_pulled(content, name, here[digest]) for digest in children)
