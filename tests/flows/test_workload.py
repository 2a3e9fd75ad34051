"""Workload W, whose totals the predecessors measured: 50 repositories of 20 tags with shared layers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlalchemy import select

from regwarden.store.schema import registries, repositories, tags
from regwarden.testing.content import Content
from regwarden.testing.images import image, image_config, layer
from regwarden.testing.server import SampleRegistry
from tests.crawling import open_inventory

SIZES = json.loads((Path(__file__).resolve().parent.parent / "data" / "workload.json").read_text())


def workload(*, oci: bool) -> Content:
    content = Content()
    for number, releases in enumerate(SIZES["releases"]):
        family = number % len(SIZES["families"])
        repository = content.repository(f"team{family}/app{number:02}")
        shared = [layer(f"family {family} {i}", size) for i, size in enumerate(SIZES["families"][family])]
        shared.append(layer(f"repository {number}", SIZES["repositories"][number]))
        for release, own in enumerate(releases):
            layers = [*shared, *(layer(f"release {number} {release} {i}", size) for i, size in enumerate(own))]
            config = image_config(labels={"release": f"{number} {release}"})
            latest = ["latest"] if release == len(releases) - 1 else []
            repository.add(image(layers, config, oci=oci), f"1.{release}.0", *latest)
    return content


@pytest.mark.parametrize("oci", [False, True])
async def test_the_predecessors_totals_come_out_exactly(oci):
    async with SampleRegistry(workload(oci=oci)) as registry, open_inventory(registry.url) as inventory:
        report = await inventory.crawl()
        assert (report.certificate.tag_count, report.certificate.manifest_count) == (1000, 950)
        total = inventory.rows(select(registries))[0]
        assert (total["layer_bytes"], total["disk_bytes"]) == (120_645_564, 6_518_854)
        first = inventory.rows(select(repositories).where(repositories.c.name == "team0/app00"))[0]
        assert (first["layer_bytes"], first["disk_bytes"]) == (2_413_007, 219_170)
        tag = inventory.rows(select(tags).where(tags.c.repository_id == first["id"], tags.c.name == "1.0.0"))[0]
        assert tag["layer_bytes"] == 120_650
