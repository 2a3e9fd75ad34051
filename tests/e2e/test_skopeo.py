"""Images pushed by a real client: the inventory shows what that client shows."""

from __future__ import annotations

import hashlib
import json
import subprocess

import pytest
from sqlalchemy import select

from regwarden.core.oci.digests import Digest
from regwarden.store.contents import load_payloads
from regwarden.store.schema import manifest_children, manifests, repositories, tags
from regwarden.testing.content import Content
from regwarden.testing.images import image, image_config, index, real_layer
from regwarden.testing.server import running_sample_registry
from tests import servers
from tests.crawling import open_inventory

pytestmark = pytest.mark.e2e


def skopeo(*arguments: str) -> bytes:
    program = servers.require_binary("skopeo")
    return subprocess.run([program, *arguments], check=True, capture_output=True, timeout=60).stdout


def host(url: str) -> str:
    return url.removeprefix("http://")


@pytest.fixture
def source():
    """Images whose layers are real bytes, so that a client can pull and verify them."""
    content = Content()
    amd = image([real_layer(b"amd64 layer")], image_config("linux/amd64"))
    arm = image([real_layer(b"arm64 layer")], image_config("linux/arm64"))
    content.repository("source/single").add(image([real_layer(b"one"), real_layer(b"two")], oci=False), "1")
    content.repository("source/multi").add(index([amd, arm]), "1")
    with running_sample_registry(content) as registry:
        yield host(registry.url)


@pytest.mark.parametrize(("name", "more"), [("single", []), ("multi", ["--multi-arch=all"])])
async def test_a_pushed_image_shows_what_skopeo_shows(docker_registry, source, name, more):
    server = docker_registry()
    target = f"docker://{host(server.url)}/team/{name}:1"
    skopeo(
        "copy", "--src-tls-verify=false", "--dest-tls-verify=false", *more, f"docker://{source}/source/{name}:1", target
    )
    raw = skopeo("inspect", "--raw", "--tls-verify=false", target)
    async with open_inventory(server.url) as inventory:
        report = await inventory.crawl()
        assert report.state == "complete"
        rows = inventory.rows(
            select(manifests, repositories.c.name.label("repository"), tags.c.name.label("tag")).select_from(
                tags.join(repositories).join(manifests, manifests.c.id == tags.c.manifest_id)
            )
        )
        assert [(row["repository"], row["tag"]) for row in rows] == [(f"team/{name}", "1")]
        digest = Digest.from_bytes(rows[0]["digest"])
        assert str(digest) == f"sha256:{hashlib.sha256(raw).hexdigest()}"
        kept = inventory.database.read_now(lambda connection: load_payloads(connection, [digest]))
        assert kept[digest][1] == raw
        document = json.loads(raw)
        assert rows[0]["media_type"] == document["mediaType"]
        if name == "multi":
            children = inventory.rows(select(manifest_children.c.platform).order_by(manifest_children.c.position))
            assert [row["platform"] for row in children] == [
                f"{entry['platform']['os']}/{entry['platform']['architecture']}" for entry in document["manifests"]
            ]
        else:
            assert rows[0]["layer_bytes"] == sum(layer["size"] for layer in document["layers"])
            shown = json.loads(skopeo("inspect", "--tls-verify=false", target))
            assert rows[0]["platform"] == f"{shown['Os']}/{shown['Architecture']}"
