"""The inventory follows a real registry by its notifications alone, and equals what a fresh crawl finds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from regwarden.library import Inventory
from regwarden.testing.content import BuiltManifest
from regwarden.testing.images import sbom
from tests.live_registry import TOLD_BY_GITLAB, Live, live_registry, multi_platform, picture

pytestmark = pytest.mark.e2e

MULTI = multi_platform("1")
DOCKER_1, OCI_1, OCI_2, OCI_3 = picture("docker 1", is_oci=False), *(picture(f"oci {seed}") for seed in "123")
# Which registry, which form of the pasted block, and where the inventory is.
SITES = [("docker_registry", "lean", "postgresql_url"), ("distribution3", "full", "")]


@pytest.fixture(params=SITES, ids=["2.8-lean-postgresql", "3.1-full"])
def live(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Live]:
    kind, form, database = request.param
    url, start = request.getfixturevalue(database) if database else "", request.getfixturevalue(kind)
    with live_registry(tmp_path, start, form=form, database_url=url, is_hasty=True) as live:
        live.can_delete_tags = kind == "distribution3"
        yield live


def tags(inventory: Inventory) -> dict[str, str]:
    return {f"{row.repository}:{row.tag}": row.digest for row in inventory.tags()}


def size_of(built: BuiltManifest) -> int:
    blobs = {blob.digest: blob.size_bytes for blob in built.blobs}
    return len(built.payload) + sum(blobs.values())


def never_crawled(inventory: Inventory) -> bool:
    (row,) = inventory.registries("prod")
    return row.crawled_at is None


def pulls(inventory: Inventory) -> dict[tuple[Any, ...], int]:
    rows = inventory.pulls(by=("repository", "tag", "class", "method"))
    return {(row.repository, row.tag, row.pull_class, row.method): row.pull_count for row in rows}


def test_the_inventory_follows_the_events_and_equals_a_fresh_crawl_also_after_a_restart(live: Live) -> None:
    expected = _push_everything(live)
    _tell_platforms_and_sizes(live)
    _pull_and_count(live)
    _delete(live, expected)
    with live.connect() as inventory:
        assert never_crawled(inventory)
        assert {row.user_agent.split("/")[0] for row in inventory.events(actions=["pull"])} <= {"skopeo"}
        past = [row.digest for row in inventory.history("prod/team/app:latest")]
        assert past == [str(OCI_2.digest), str(OCI_1.digest)]
    live.becomes({}, lambda _: live.differences(ignored=TOLD_BY_GITLAB | {"state"}))
    _lose_events(live, expected)
    assert live.differences() == {}


def _push_everything(live: Live) -> dict[str, str]:
    """Each push is seen before the next one is made."""
    expected: dict[str, str] = {}

    def see(name: str, built: BuiltManifest) -> None:
        expected[name] = str(built.digest)
        live.becomes(expected, tags)

    live.copy("docker:1", "team/app:1.0")
    see("team/app:1.0", DOCKER_1)
    live.copy("oci:1", "team/app:latest")
    see("team/app:latest", OCI_1)
    live.copy("oci:2", "team/app:latest")
    see("team/app:latest", OCI_2)
    live.copy("oci:2", "team/app:2.0")
    see("team/app:2.0", OCI_2)
    live.copy("multi:1", "team/multi:1", "--multi-arch=all")
    see("team/multi:1", MULTI)
    live.copy("docker:1", "other/copy:1.0")
    for seed in "1234":  # if much of a registry vanished at once, a person would have to accept it
        live.copy("oci:2", f"other/copy:more-{seed}")
        expected[f"other/copy:more-{seed}"] = str(OCI_2.digest)
    see("other/copy:1.0", DOCKER_1)
    live.copy("multi:2", "team/converted:1", "--multi-arch=all", "--format", "v2s2")
    live.becomes([2], lambda inventory: [len(row.platforms.split(",")) for row in inventory.tags("team/converted")])
    with live.connect() as inventory:
        expected = tags(inventory)
    about = sbom(DOCKER_1)
    untagged = picture("nobody names it")
    for built in (about, untagged):
        live.put("team/app", built)
    wanted = {(str(about.digest), str(DOCKER_1.digest)), (str(untagged.digest), "")}
    live.becomes(
        wanted,
        lambda inventory: {
            (row.digest, row.subject or "")
            for row in inventory.manifests("team/app")
            if not row.tags and row.digest != str(OCI_1.digest)
        },
    )
    return expected


def _tell_platforms_and_sizes(live: Live) -> None:
    def figures(inventory: Inventory) -> dict[str, tuple[Any, ...]]:
        wanted = ("team/app:1.0", "team/multi:1")
        return {
            f"{row.repository}:{row.tag}": (row.logical_bytes, row.platforms)
            for row in inventory.tags()
            if f"{row.repository}:{row.tag}" in wanted
        }

    both = len(MULTI.payload) + sum(size_of(child) for child in MULTI.children)
    expected = {"team/app:1.0": (size_of(DOCKER_1), "linux/amd64"), "team/multi:1": (both, "linux/amd64,linux/arm64")}
    live.becomes(expected, figures)


def _pull_and_count(live: Live) -> None:
    with live.connect() as inventory:
        assert pulls(inventory) == {}, "what the service reads itself is no pull"
    live.pull("team/app:1.0", "by-tag")
    live.pull(f"team/app@{OCI_2.digest}", "by-digest")
    # One by digest counts for every tag that leads there.
    expected = {
        ("team/app", "1.0", "other", "GET"): 1,
        ("team/app", "2.0", "other", "GET"): 1,
        ("team/app", "latest", "other", "GET"): 1,
    }
    live.becomes(expected, pulls)
    with live.connect() as inventory:
        assert Counter(row.tag for row in inventory.tags(where=["pulled < 1h"])) == Counter(["1.0", "2.0", "latest"])


def _delete(live: Live, expected: dict[str, str]) -> None:
    """A digest goes with its tags in one repository only; on Distribution 3.x a tag goes alone."""
    live.call("DELETE", f"team/app/manifests/{DOCKER_1.digest}")
    del expected["team/app:1.0"]
    live.becomes(expected, tags)
    assert "other/copy:1.0" in expected
    if live.can_delete_tags:
        live.call("DELETE", "team/app/manifests/2.0")
        del expected["team/app:2.0"]
        live.becomes(expected, tags)


def _lose_events(live: Live, expected: dict[str, str]) -> None:
    """What happens while the service is away, and dies with the registry's process, is found by the crawl after it."""
    live.stop_service()
    live.copy("oci:3", "team/app:lost")
    live.copy("oci:3", "team/app:latest")
    live.call("DELETE", f"team/multi/manifests/{MULTI.digest}")
    live.registry.kill()
    live.registry.start()
    live.start_service()
    with live.connect() as inventory:
        assert tags(inventory) == expected
        assert never_crawled(inventory)
    live.copy("docker:2", "team/app:after")
    del expected["team/multi:1"]
    for name, built in (("lost", OCI_3), ("latest", OCI_3), ("after", picture("docker 2", is_oci=False))):
        expected[f"team/app:{name}"] = str(built.digest)
    live.becomes(expected, tags)
    live.becomes(("complete", 2), lambda inventory: (inventory.registries("prod")[0].crawl_state, _senders(inventory)))
    live.becomes(True, lambda _: live.is_settled())


def _senders(inventory: Inventory) -> int:
    return inventory.notifications("prod", form="none").status.sender_count
