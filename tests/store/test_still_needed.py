"""Which repositories have a blob and which content is needed: worked out of plain rows, on both databases."""

from __future__ import annotations

import pytest

from regwarden.core.oci.digests import Digest
from regwarden.store.blob_sources import list_blob_sources
from regwarden.store.packing import unpack_blob_ids
from regwarden.store.still_needed import find_still_needed
from tests.store.sample_inventory import Inventory, make_inventory

NOWHERE = str(Digest.of(b"in no registry"))


def digests(inventory: Inventory, table: str) -> dict[int, str]:
    return {row["id"]: str(Digest.from_bytes(row["digest"])) for row in inventory.rows[table]}


def existing(inventory: Inventory, registry_id: int) -> list[tuple[str, int]]:
    """(repository, manifest id) of everything that is there."""
    names = {
        row["id"]: row["name"]
        for row in inventory.rows["repositories"]
        if row["registry_id"] == registry_id and row.get("deleted_at") is None
    }
    return [
        (names[row["repository_id"]], row["manifest_id"])
        for row in inventory.rows["repository_manifests"]
        if row["repository_id"] in names and row.get("deleted_at") is None
    ]


@pytest.mark.parametrize("seed", range(5))
def test_the_sources_of_a_blob_are_the_repositories_with_a_manifest_that_names_it(database, seed):
    inventory = make_inventory(seed)
    database.write_now(inventory.insert)
    blobs, contents = digests(inventory, "blobs"), inventory.by_id("manifests")
    asked = {*blobs.values(), NOWHERE}
    for registry in inventory.rows["registries"]:
        wanted: dict[str, set[str]] = {}
        for name, manifest_id in existing(inventory, registry["id"]):
            for blob_id in unpack_blob_ids(contents[manifest_id]["blob_ids"]):
                wanted.setdefault(blobs[blob_id], set()).add(name)
        found = database.read_now(lambda connection, name=registry["name"]: list_blob_sources(connection, name, asked))
        assert found == {digest: tuple(sorted(names)) for digest, names in wanted.items()}


@pytest.mark.parametrize("seed", range(5))
def test_needed_is_every_manifest_that_exists_or_is_listed_and_every_blob_that_one_names(database, seed):
    inventory = make_inventory(seed)
    database.write_now(inventory.insert)
    blobs, names, contents = digests(inventory, "blobs"), digests(inventory, "manifests"), inventory.by_id("manifests")
    asked = {*blobs.values(), *names.values(), NOWHERE}
    for registry in inventory.rows["registries"]:
        there = {manifest_id for _, manifest_id in existing(inventory, registry["id"])}
        wanted = {names[one] for one in there}
        # A collection marks what an index lists, also where the child does not exist beside it.
        wanted |= {names[row["child_id"]] for row in inventory.rows["manifest_children"] if row["parent_id"] in there}
        wanted |= {blobs[blob_id] for one in there for blob_id in unpack_blob_ids(contents[one]["blob_ids"])}
        found = database.read_now(lambda connection, name=registry["name"]: find_still_needed(connection, name, asked))
        assert found == wanted


def test_nothing_asked_is_nothing_found(database):
    assert database.read_now(lambda connection: list_blob_sources(connection, "one", [])) == {}
    assert database.read_now(lambda connection: find_still_needed(connection, "one", [NOWHERE])) == frozenset()
