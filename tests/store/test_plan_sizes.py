"""The bytes that a plan frees are those of the specification, on random registries."""

from __future__ import annotations

import hashlib
import random

import pytest

from regwarden.core.graph import Confidence, ManifestFacts, RegistryFacts, RepositoryFacts, held_by_untagged, release
from regwarden.core.oci.digests import Digest
from regwarden.core.plan import PlanSizes
from regwarden.errors import NotFound
from regwarden.store.database import Database
from regwarden.store.plan_sizes import measure_plan
from tests.store.random_registries import RegistryWriter, make_registry

SEEDS = 60


def digest_of(registry_id: int, name: str) -> str:
    return str(Digest("sha256", hashlib.sha256(f"{registry_id}/{name}".encode()).hexdigest()))


def measure(
    database: Database, registry: str, deleted: list[tuple[str, str]], *, is_untagged_known: bool = True
) -> PlanSizes:
    return database.read_now(
        lambda connection: measure_plan(connection, registry, deleted, is_untagged_known=is_untagged_known)
    )


def test_the_figures_are_those_of_the_specification(database: Database) -> None:
    facts = {seed: make_registry(seed) for seed in range(SEEDS)}
    ids = database.write_now(lambda connection: _write(connection, facts))
    outcomes = set()
    for seed, one in facts.items():
        chance = random.Random(seed)
        pairs = [(place.name, name) for place in one.repositories for name in sorted(one.manifests)]
        deleted = [pair for pair in pairs if chance.random() < 0.4]
        plan = [(repository, digest_of(ids[seed], name)) for repository, name in deleted]
        found = measure(database, f"r{ids[seed]}", plan)
        existing = {(place.name, name) for place in one.repositories for name in place.manifests}
        expected = release(one, existing.intersection(deleted))
        is_known = all(one.manifests[name].is_read for place in one.repositories for name in place.manifests)
        assert found.reclaimable_bytes == expected.freed_bytes
        assert found.lower_bound_bytes == (expected.freed_bytes if is_known else 0)
        assert found.confidence is (Confidence.EXACT if is_known else Confidence.UPPER_BOUND)
        assert found.untagged_bytes == held_by_untagged(one, existing.intersection(deleted))
        outcomes.add((expected.freed_bytes > 0, found.untagged_bytes > 0, is_known))
    assert len(outcomes) >= 5


def _write(connection, facts: dict[int, RegistryFacts]) -> dict[int, int]:
    writer = RegistryWriter(connection)
    return {seed: writer.write(one).registry_id for seed, one in facts.items()}


SHARED = RegistryFacts(
    manifests={
        "old": ManifestFacts(10, layers=("base", "own")),
        "new": ManifestFacts(20, layers=("base", "other")),
        "left": ManifestFacts(30, layers=("own",)),
    },
    blob_sizes={"base": 1000, "own": 200, "other": 300},
    repositories=(RepositoryFacts("a", {"1": "old", "2": "new"}, frozenset({"old", "new", "left"})),),
)


def test_a_blob_that_something_else_names_is_not_freed(database: Database) -> None:
    database.write_now(lambda connection: RegistryWriter(connection).write(SHARED))
    plan = [("a", digest_of(1, "old"))]
    known = measure(database, "r1", plan)
    assert (known.reclaimable_bytes, known.untagged_bytes) == (10, 200)
    unsure = measure(database, "r1", plan, is_untagged_known=False)
    assert (unsure.lower_bound_bytes, unsure.confidence) == (0, Confidence.UPPER_BOUND)


BOTH = RegistryFacts(
    manifests={
        "image": ManifestFacts(10, layers=("base",)),
        "bundle": ManifestFacts(20, layers=("image",)),
        "sparse": ManifestFacts(30, children=("listed",), is_index=True),
        "listed": ManifestFacts(40, layers=("base", "own")),
    },
    blob_sizes={"base": 1000, "image": 10, "own": 200},
    repositories=(
        RepositoryFacts("a", {"1": "image", "2": "bundle", "3": "listed"}, frozenset({"image", "bundle", "listed"})),
        RepositoryFacts("b", {"1": "sparse"}, frozenset({"sparse"})),
    ),
)


@pytest.mark.parametrize(
    ("deleted", "freed_bytes"),
    [
        (["image"], 0),  # the bundle has the document as a layer
        (["bundle"], 20),
        (["image", "bundle"], 10 + 20),
        (["listed"], 200),  # the other repository's index goes on listing its document
        (["image", "bundle", "listed"], 10 + 20 + 1000 + 200),
        (["listed", "sparse"], 30 + 40 + 200),
    ],
)
def test_content_that_is_both_a_manifest_and_a_blob_or_is_listed_elsewhere_counts_rightly(
    database: Database, deleted: list[str], freed_bytes: int
) -> None:
    database.write_now(lambda connection: RegistryWriter(connection).write(BOTH))
    plan = [("b" if name == "sparse" else "a", digest_of(1, name)) for name in deleted]
    found = measure(database, "r1", plan)
    assert (found.reclaimable_bytes, found.lower_bound_bytes) == (freed_bytes, freed_bytes)


def test_what_does_not_exist_frees_nothing(database: Database) -> None:
    database.write_now(lambda connection: RegistryWriter(connection).write(SHARED))
    nothing = [("b", digest_of(1, "old")), ("a", digest_of(1, "unheard of"))]
    found = measure(database, "r1", nothing)
    assert (found.reclaimable_bytes, found.untagged_bytes) == (0, 0)
    with pytest.raises(NotFound):
        measure(database, "elsewhere", [])
