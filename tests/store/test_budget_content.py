"""What candidates of a budget hold is what plain sets say, on random registries."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping

import pytest

from regwarden.core.budget_reach import BudgetReach
from regwarden.core.graph import ManifestFacts, RegistryFacts, RepositoryFacts
from regwarden.core.oci.digests import Digest
from regwarden.errors import NotFound
from regwarden.store.budget_content import StoredContent
from regwarden.store.database import Database
from tests.store.random_registries import RegistryWriter, make_registry

SEEDS = 60
Pair = tuple[str, str]


def digest_of(registry_id: int, name: str) -> str:
    return str(Digest("sha256", hashlib.sha256(f"{registry_id}/{name}".encode()).hexdigest()))


def bytes_of(facts: RegistryFacts, pairs: set[Pair]) -> int:
    """What these manifests of repositories store, everything once."""
    found = {name for _, name in pairs if facts.manifests[name].is_read}
    blobs = {blob for name in found for blob in (*facts.manifests[name].layers, *facts.manifests[name].others)}
    return sum(facts.manifests[name].size_bytes for name in found) + sum(facts.blob_sizes[blob] for blob in blobs)


def read(database: Database, registry: str, reaches: Mapping[str, BudgetReach]) -> StoredContent:
    return database.read_now(lambda connection: StoredContent(connection, registry, reaches))


class Scene:
    """A random registry in which something goes, and candidates hold something."""

    def __init__(self, seed: int) -> None:
        self.chance = chance = random.Random(seed)
        self.facts = make_registry(seed)
        self.going: set[Pair] = set()
        self.held: list[tuple[str, set[str]]] = []
        for place in self.facts.repositories:
            existing = sorted(place.manifests)
            self.going |= {(place.name, name) for name in existing if chance.random() < 0.2}
            free = [name for name in existing if (place.name, name) not in self.going and chance.random() < 0.8]
            for _ in range(chance.randint(0, 4)):
                self.held.append((place.name, {name for name in free if chance.random() < 0.5}))

    def reaches(self, registry_id: int) -> dict[str, BudgetReach]:
        found = {}
        for place in self.facts.repositories:
            mine = [held for name, held in self.held if name == place.name]
            found[place.name] = BudgetReach(
                positions=tuple(range(len(mine))),
                holds=tuple(tuple(digest_of(registry_id, name) for name in sorted(held)) for held in mine),
                going=frozenset(digest_of(registry_id, digest) for name, digest in self.going if name == place.name),
                free=frozenset(digest_of(registry_id, one) for held in mine for one in held),
            )
        return found

    def stored(self, names: set[str], gone: set[int]) -> int:
        """What the repositories store if these candidates go."""
        free = {(name, one) for name, held in self.held for one in held}
        kept = {(name, one) for number, (name, held) in enumerate(self.held) if number not in gone for one in held}
        pairs = {(place.name, one) for place in self.facts.repositories for one in place.manifests}
        left = {pair for pair in pairs - self.going if pair not in free or pair in kept}
        return bytes_of(self.facts, {pair for pair in left if pair[0] in names})


def freed(holds: tuple[tuple[int, ...], ...], sizes: Mapping[int, int], going: set[int]) -> int:
    staying = {number for owner, held in enumerate(holds) if owner not in going for number in held}
    gone = {number for owner in going for number in holds[owner]}
    return sum(sizes[number] for number in gone - staying)


def test_what_goes_frees_what_sets_say(database: Database) -> None:
    scenes = [Scene(seed) for seed in range(SEEDS)]

    def write(connection) -> list[int]:
        writer = RegistryWriter(connection)
        return [writer.write(one.facts).registry_id for one in scenes]

    ids = database.write_now(write)
    freeing = sharing = 0
    for registry_id, scene in zip(ids, scenes, strict=True):
        reaches = scene.reaches(registry_id)
        content = read(database, f"r{registry_id}", reaches)
        names = {place.name for place in scene.facts.repositories if scene.chance.random() < 0.7}
        # Candidates are numbered by repository.
        order = [number for name in reaches for number, one in enumerate(scene.held) if one[0] == name]
        taken = {number for number in order if scene.chance.random() < 0.2}
        content.take([order.index(number) for number in taken])
        mine = [
            one for one in order if scene.held[one][0] in names and one not in taken and scene.chance.random() < 0.8
        ]
        owners = [mine[start : start + 2] for start in range(0, len(mine), 2)] if scene.chance.random() < 0.5 else None
        groups = owners if owners is not None else [[one] for one in mine]
        weighed = content.weigh(sorted(names), [[order.index(one) for one in group] for group in groups])
        before = scene.stored(names, taken)
        assert weighed.stored_bytes == before
        sharing += any(number >= len(groups) for held in weighed.holds for number in held)
        for _ in range(5):
            going = {owner for owner in range(len(groups)) if scene.chance.random() < 0.6}
            gone = taken.union(*(groups[owner] for owner in going))
            assert before - freed(weighed.holds, weighed.sizes, going) == scene.stored(names, gone)
            freeing += before > scene.stored(names, gone)
    assert freeing > SEEDS
    assert sharing > 5


TWO = RegistryFacts(
    manifests={"old": ManifestFacts(10, layers=("base", "own")), "new": ManifestFacts(20, layers=("base",))},
    blob_sizes={"base": 1000, "own": 200},
    repositories=(RepositoryFacts("a", {"1": "old", "2": "new"}, frozenset({"old", "new"})),),
)


def test_what_is_stored_afterwards_is_measured_by_what_is_deleted(database: Database) -> None:
    database.write_now(lambda connection: RegistryWriter(connection).write(TWO))
    old, new = digest_of(1, "old"), digest_of(1, "new")
    reaches = {"a": BudgetReach((0,), ((old,),), frozenset(), frozenset({old}))}
    content = read(database, "r1", reaches)
    assert content.stored_bytes(["a"], {}) == 1230
    assert content.stored_bytes(["a"], {"a": [old]}) == 1020
    # What no candidate holds was never said to be deletable.
    assert content.stored_bytes(["a"], {"a": [new]}) == 1230
    weighed = content.weigh(["a"], [[0]])
    assert (weighed.stored_bytes, sum(weighed.sizes.values())) == (1230, 210)


def test_a_registry_that_nobody_knows_has_no_content(database: Database) -> None:
    with pytest.raises(NotFound) as caught:
        read(database, "elsewhere", {})
    assert caught.value.code == "unknown-registry"
