"""A real client pushes to, inspects and pulls from the sample registry, with and without token authentication."""

from __future__ import annotations

import asyncio
import gzip
import json
from pathlib import Path

import pytest

from regwarden.testing.authentication import Auth, BearerAuth
from regwarden.testing.content import Content
from regwarden.testing.images import image, image_config, index, real_layer
from regwarden.testing.server import SampleRegistry
from tests.servers import require_binary

pytestmark = pytest.mark.e2e


async def _skopeo(*arguments: str) -> str:
    skopeo = require_binary("skopeo")
    process = await asyncio.create_subprocess_exec(
        skopeo, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


def _multi_platform() -> Content:
    content = Content()
    children = [
        image([real_layer(gzip.compress(f"files of {platform}".encode() * 500, mtime=0))], image_config(platform))
        for platform in ("linux/amd64", "linux/arm64")
    ]
    content.repository("source/app").add(index(children), "1.0")
    return content


@pytest.mark.parametrize("auth", [None, BearerAuth({"ann": "secret"})], ids=["open", "bearer"])
async def test_skopeo_copies_a_multi_platform_image_and_sees_the_same_bytes(auth: Auth):
    async with SampleRegistry(_multi_platform(), auth=auth) as registry:
        address = registry.url.removeprefix("http://")
        login = ["--src-creds", "ann:secret", "--dest-creds", "ann:secret"] if auth else []
        source, target = f"docker://{address}/source/app:1.0", f"docker://{address}/copy/app:2.0"
        options = ["--all", "--src-tls-verify=false", "--dest-tls-verify=false", *login]
        await _skopeo("copy", *options, source, target)
        login = ["--creds", "ann:secret"] if auth else []
        raw = await _skopeo("inspect", "--raw", "--tls-verify=false", *login, target)
        tags = json.loads(await _skopeo("list-tags", "--tls-verify=false", *login, target.removesuffix(":2.0")))
    copied, original = registry.content.repository("copy/app"), registry.content.repository("source/app")
    assert copied.tags["2.0"] == original.tags["1.0"]
    assert raw.encode() == original.manifests[original.tags["1.0"]].payload
    assert tags["Tags"] == ["2.0"]
    assert set(copied.blobs) == set(original.blobs)
    pushed = [event for event in registry.events if event.action == "push" and event.tag]
    assert [(event.repository, event.tag) for event in pushed] == [("copy/app", "2.0")]
    assert pushed[0].user_agent.startswith("skopeo/")


async def test_skopeo_pulls_pushes_as_docker_format_and_deletes(tmp_path: Path):
    async with SampleRegistry(_multi_platform()) as registry:
        address = registry.url.removeprefix("http://")
        local = f"dir:{tmp_path / 'pulled'}"
        await _skopeo("copy", "--src-tls-verify=false", f"docker://{address}/source/app:1.0", local)
        target = f"docker://{address}/docker/app:1"
        await _skopeo("copy", "--format", "v2s2", "--dest-tls-verify=false", local, target)
        stored = registry.content.repository("docker/app").find_manifest("1")
        assert stored is not None
        assert stored.media_type == "application/vnd.docker.distribution.manifest.v2+json"
        await _skopeo("delete", "--tls-verify=false", target)
        assert registry.content.repository("docker/app").tags == {}
