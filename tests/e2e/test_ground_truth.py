"""A real registry, laid out on disk by a generator that knows every figure exactly, crawled over HTTP.

``tests/data/registry`` holds one such registry with its figures. ``REGWARDEN_SHARED`` may name a folder with the
generator itself (``tools/make_registry.py``); then more seeds and larger registries are tried.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from sqlalchemy import select

from regwarden.store.schema import crawl_problems, repositories
from tests import ground_truth
from tests.crawling import open_inventory

pytestmark = pytest.mark.e2e

DATA = Path(__file__).resolve().parent.parent / "data" / "registry"
GENERATOR = Path(os.environ.get("REGWARDEN_SHARED", "")) / "tools" / "make_registry.py"


@pytest.fixture
def recorded_root(tmp_path):
    root = tmp_path / "recorded"
    with tarfile.open(DATA / "root.tar.gz") as archive:
        archive.extractall(root, filter="data")
    return root


@pytest.fixture
def recorded_truth():
    return json.loads((DATA / "truth.json").read_text())


async def test_every_figure_of_a_crawled_registry_equals_the_ground_truth(
    docker_registry, recorded_root, recorded_truth
):
    server = docker_registry(root=recorded_root)
    async with open_inventory(server.url) as inventory:
        report = await inventory.crawl()
        assert report.state == "complete"
        ground_truth.assert_inventory_equals(inventory, recorded_truth)
        problems = {(row["tag"], row["code"]) for row in inventory.rows(select(crawl_problems))}
        assert problems == {("lost", "dangling-tag"), ("", "missing-child")}


async def test_distribution_3_gives_the_same_figures(distribution3, recorded_root, recorded_truth):
    server = distribution3(root=recorded_root)
    async with open_inventory(server.url) as inventory:
        report = await inventory.crawl()
        assert report.state == "complete"
        ground_truth.assert_inventory_equals(inventory, recorded_truth, major=3)


async def test_postgresql_holds_the_same_figures(docker_registry, recorded_root, recorded_truth, postgresql_url):
    server = docker_registry(root=recorded_root)
    async with open_inventory(server.url, postgresql_url) as inventory:
        await inventory.crawl()
        ground_truth.assert_inventory_equals(inventory, recorded_truth)


@pytest.mark.parametrize("page_limit", [1, 2, 3, 5, 7])
async def test_catalog_pages_that_lose_entries_never_make_a_known_repository_vanish(
    docker_registry, recorded_root, recorded_truth, page_limit, tmp_path
):
    """The parent/digit-child layout breaks pages of Distribution 2.x; small pages make sure that it is met."""
    database_url = f"sqlite:///{tmp_path}/inventory.sqlite3"
    server = docker_registry(root=recorded_root)
    async with open_inventory(server.url, database_url) as inventory:
        await inventory.crawl()
        known = {row["name"] for row in inventory.rows(select(repositories))}
    small = docker_registry(root=recorded_root, settings={"catalog": {"maxentries": page_limit}})
    async with open_inventory(small.url, database_url) as inventory:
        report = await inventory.crawl()
        assert {row["name"] for row in inventory.rows(select(repositories)) if row["deleted_at"] is None} == known
        assert report.certificate.page_count > 1
        assert report.certificate.gone_repository_count == 0
        ground_truth.assert_inventory_equals(inventory, recorded_truth)


@pytest.mark.parametrize("page_limit", [1, 2, 3, 5, 7])
async def test_a_first_crawl_with_small_catalog_pages_finds_everything_or_says_that_it_may_not(
    docker_registry, recorded_root, recorded_truth, page_limit
):
    server = docker_registry(root=recorded_root, settings={"catalog": {"maxentries": page_limit}})
    async with open_inventory(server.url) as inventory:
        report = await inventory.crawl()
        found = {row["name"] for row in inventory.rows(select(repositories))}
        everything = {name for name, facts in recorded_truth["repositories"].items() if facts["catalog_2"]}
        assert found <= everything
        assert found == everything or not report.certificate.is_listing_trustworthy


@pytest.mark.parametrize(
    ("seed", "options"),
    [
        ("1", ["--repos", "40", "--tags", "6", "--edge-cases", "--layer-data", "exact", "--size-scale", "0.0001"]),
        ("2", ["--repos", "25", "--tags", "10", "--edge-cases", "--layer-data", "exact", "--size-scale", "0.0001"]),
        ("3", ["--repos", "120", "--tags", "4", "--layer-data", "none", "--copy-fraction", "0.4"]),
        ("4", ["--repos", "10", "--tags", "40", "--layer-data", "none", "--multiarch-fraction", "0.8"]),
    ],
)
async def test_generated_registries_of_many_seeds_equal_their_ground_truth(docker_registry, tmp_path, seed, options):
    if not GENERATOR.is_file():
        pytest.skip("REGWARDEN_SHARED does not name a folder with tools/make_registry.py")
    root, truth = tmp_path / "root", tmp_path / "truth.json"
    command = [sys.executable, GENERATOR, "--root", root, "--truth", truth, "--truth-manifests"]
    subprocess.run([*command, "--untagged", "0", "--seed", seed, *options], check=True, capture_output=True)
    server = docker_registry(root=root)
    async with open_inventory(server.url) as inventory:
        report = await inventory.crawl()
        assert report.state == "complete"
        ground_truth.assert_inventory_equals(inventory, json.loads(truth.read_text()))
