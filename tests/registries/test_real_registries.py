"""Does the connector understand the real Distribution, 2.x and 3.x?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from regwarden.core.oci import media_types
from regwarden.core.oci.digests import Digest
from regwarden.errors import RegistryDenied, RegistryMissing
from regwarden.registries.api import Ability, BlobHead, FetchedManifest, Unchanged
from regwarden.registries.client.credentials import Basic
from tests.fixtures.distribution_servers import PASSWORD, USERNAME, RegistryServer, StartRegistry
from tests.registries.conftest import Connect

pytestmark = pytest.mark.e2e

CONFIG = b'{"os":"linux","architecture":"amd64"}'
MANIFEST = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "config": {"mediaType": media_types.OCI_CONFIG, "digest": str(Digest.of(CONFIG)), "size": len(CONFIG)},
        "layers": [],
    },
    indent=3,
).encode()
DIGEST = Digest.of(MANIFEST)


@pytest.fixture(params=["docker_registry", "distribution3"])
def start(request: pytest.FixtureRequest) -> StartRegistry:
    return request.getfixturevalue(request.param)


def _fill(server: RegistryServer) -> None:
    """Put ``team/app:latest`` into the storage folder; ``team/bare`` never had tags, ``team/empty`` lost them."""
    root = server.root / "docker/registry/v2"
    repository = root / "repositories/team/app"
    for content in (CONFIG, MANIFEST):
        _write(root / f"blobs/sha256/{Digest.of(content).hex[:2]}/{Digest.of(content).hex}/data", content)
    link = str(DIGEST).encode()
    _write(repository / f"_layers/sha256/{Digest.of(CONFIG).hex}/link", str(Digest.of(CONFIG)).encode())
    _write(repository / f"_manifests/revisions/sha256/{DIGEST.hex}/link", link)
    _write(repository / "_manifests/tags/latest/current/link", link)
    _write(repository / f"_manifests/tags/latest/index/sha256/{DIGEST.hex}/link", link)
    (root / "repositories/team/bare/_layers").mkdir(parents=True)
    (root / "repositories/team/empty/_manifests/tags").mkdir(parents=True)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


async def test_everything_that_can_be_read_is_read(connect: Connect, start: StartRegistry) -> None:
    server = start()
    _fill(server)
    connector = connect(server.url)
    assert not (await connector.ping()).is_authenticated
    fetched = await connector.fetch_manifest("team/app", "latest")
    assert fetched == FetchedManifest(DIGEST, media_types.OCI_MANIFEST, MANIFEST)
    assert await connector.fetch_manifest("team/app", str(DIGEST)) == fetched
    assert await connector.fetch_manifest("team/app", "latest", known=DIGEST) == Unchanged(DIGEST)
    head = await connector.head_manifest("team/app", "latest")
    assert head is not None
    assert (head.digest, head.size_bytes) == (DIGEST, len(MANIFEST))
    assert await connector.fetch_blob("team/app", Digest.of(CONFIG), max_bytes=1000) == CONFIG
    assert await connector.head_blob("team/app", Digest.of(CONFIG)) == BlobHead(exists=True, size_bytes=len(CONFIG))


async def test_what_is_gone_is_missing_and_what_has_no_tags_is_told_apart(
    connect: Connect, start: StartRegistry
) -> None:
    server = start()
    _fill(server)
    connector = connect(server.url)
    for reference in ("gone", str(Digest.of(b"gone"))):
        with pytest.raises(RegistryMissing):
            await connector.fetch_manifest("team/app", reference)
        assert await connector.head_manifest("team/app", reference) is None
    with pytest.raises(RegistryMissing):
        await connector.fetch_blob("team/app", Digest.of(b"gone"), max_bytes=10)
    assert not (await connector.head_blob("team/app", Digest.of(b"gone"))).exists
    assert (await connector.list_tags("team/app")).tags == ("latest",)
    empty = await connector.list_tags("team/empty")
    assert (empty.tags, empty.exists, empty.is_complete) == ((), True, True)
    assert not (await connector.list_tags("team/bare")).exists
    assert await connector.list_referrers("team/app", DIGEST) is None


@pytest.mark.parametrize("can_delete", [True, False])
async def test_abilities_are_found_out_and_nothing_is_changed(
    connect: Connect, start: StartRegistry, can_delete: bool
) -> None:
    server = start(can_delete=can_delete)
    _fill(server)
    connector = connect(server.url)
    assert await connector.probe_delete("team/app") is (Ability.SUPPORTED if can_delete else Ability.UNSUPPORTED)
    found = await connector.probe_capabilities()
    assert (found.catalog, found.referrers) == (Ability.SUPPORTED, Ability.UNSUPPORTED)
    assert found.delete is (Ability.SUPPORTED if can_delete else Ability.UNSUPPORTED)
    assert found.token_auth is Ability.UNSUPPORTED
    assert (await connector.list_tags("team/app")).tags == ("latest",)


async def test_a_password_file_is_obeyed(connect: Connect, start: StartRegistry) -> None:
    server = start(with_password=True)
    _fill(server)
    connector = connect(server.url, credentials=Basic(USERNAME, PASSWORD))
    assert (await connector.ping()).is_authenticated
    assert (await connector.list_tags("team/app")).tags == ("latest",)
    for credentials in (Basic(USERNAME, "wrong"), None):
        refused = connect(server.url, **({"credentials": credentials} if credentials else {}))
        with pytest.raises(RegistryDenied):
            await refused.ping()
