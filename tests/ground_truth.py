"""The exact figures of a generated registry, and holding an inventory against them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from regwarden.core.oci.digests import Digest
from regwarden.store.schema import manifests, registries, repositories, repository_manifests, tags
from tests.crawling import Inventory

Truth = dict[str, Any]


def assert_inventory_equals(inventory: Inventory, truth: Truth, *, major: int = 2) -> None:
    """Every figure of the inventory equals the ground truth: registry, repositories, tags, manifests."""
    listed = {name: facts for name, facts in truth["repositories"].items() if facts[f"catalog_{major}"]}
    rows = {row["name"]: row for row in inventory.rows(select(repositories))}
    assert set(rows) == set(listed)
    for name, facts in listed.items():
        row = rows[name]
        found = {
            "tags": row["tag_count"],
            "logical": row["logical_bytes"],
            "dedup": row["stored_bytes"],
            "exclusive": row["exclusive_bytes"],
        }
        expected = {
            "tags": facts["tags"],
            "logical": facts["logical"],
            "dedup": facts["tagged"]["dedup"],
            "exclusive": facts["tagged"]["exclusive"],
        }
        assert found == expected, name
    registry = inventory.rows(select(registries))[0]
    assert registry["tag_count"] == truth["registry"]["tags"]
    assert registry["logical_bytes"] == truth["registry"]["logical"]
    assert registry["stored_bytes"] == truth["registry"]["tagged"]["dedup"]
    assert _tag_digests(inventory) == {
        (name, tag): digest
        for name, facts in listed.items()
        for tag, digest in facts["tag_digests"].items()
        if digest in facts["manifests"]  # a dangling tag leads nowhere
    }
    _assert_manifests_equal(inventory, listed)


def _tag_digests(inventory: Inventory) -> dict[tuple[str, str], str]:
    rows = inventory.rows(
        select(repositories.c.name.label("repository"), tags.c.name, manifests.c.digest).select_from(
            tags.join(repositories).join(manifests, manifests.c.id == tags.c.manifest_id)
        )
    )
    return {(row["repository"], row["name"]): str(Digest.from_bytes(row["digest"])) for row in rows}


def _assert_manifests_equal(inventory: Inventory, listed: Truth) -> None:
    rows = inventory.rows(
        select(
            repositories.c.name,
            manifests.c.digest,
            manifests.c.media_type,
            manifests.c.created_at,
            repository_manifests.c.exclusive_bytes,
            tags.c.logical_bytes,
            tags.c.exclusive_bytes.label("tag_exclusive_bytes"),
        )
        .select_from(tags.join(repositories).join(manifests, manifests.c.id == tags.c.manifest_id))
        .join(
            repository_manifests,
            (repository_manifests.c.repository_id == repositories.c.id)
            & (repository_manifests.c.manifest_id == manifests.c.id),
        )
    )
    assert rows
    for row in rows:
        facts = listed[row["name"]]["manifests"][str(Digest.from_bytes(row["digest"]))]
        assert row["media_type"] == facts["media_type"], row["name"]
        assert row["logical_bytes"] == facts["size"], row["name"]
        assert row["exclusive_bytes"] == facts["exclusive"], row["name"]
