"""The distribution connector changes things as every connector must: on the sample registry and on real servers."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from regwarden.core.oci.digests import Digest
from regwarden.errors import RegistryError
from regwarden.registries.api import Removal
from regwarden.registries.client.limits import Limits
from regwarden.registries.client.settings import ClientSettings
from regwarden.registries.distribution.connector import DistributionConnector, open_connector
from regwarden.testing.behaviour import Behaviour
from regwarden.testing.content import Content
from regwarden.testing.server import SampleRegistry
from tests.fixtures.distribution_servers import RegistryServer, StartRegistry
from tests.registries.conftest import Connect

pytest.register_assert_rewrite("regwarden.testing.connector_contract", "regwarden.testing.connector_contract_changes")

from regwarden.testing.connector_contract import MakeConnector  # noqa: E402  rewritten first
from regwarden.testing.connector_contract_changes import (  # noqa: E402  rewritten first
    ChangesContract,
    OpenPlace,
    Place,
    picture,
    push,
)

READ_ONLY = {"storage": {"maintenance": {"readonly": {"enabled": True}}}}


class OfDistribution(ChangesContract):
    @pytest.fixture
    def make_connector(self) -> MakeConnector:
        async def make(
            url: str, *, user: str = "", password: str = "", use_digest_auth: bool = False
        ) -> DistributionConnector:
            del user, password, use_digest_auth
            return open_connector(ClientSettings(url), Limits(retry_wait_seconds=0.1))

        return make


class TestOnTheSampleRegistry(OfDistribution):
    @pytest.fixture(params=[Behaviour.distribution_2, Behaviour.distribution_3, Behaviour.oci_1_1])
    def open_place(self, request: pytest.FixtureRequest) -> OpenPlace:
        @asynccontextmanager
        async def open_(*, can_delete: bool = True) -> AsyncIterator[Place]:
            behaviour = request.param()
            behaviour.can_delete = can_delete
            async with SampleRegistry(Content(), behaviour=behaviour) as registry:
                yield Place(registry.url, behaviour.can_delete_tag)

        return open_


@pytest.mark.e2e
class TestOnRealServers(OfDistribution):
    @pytest.fixture(params=["docker_registry", "distribution3"])
    def open_place(self, request: pytest.FixtureRequest) -> OpenPlace:
        start: StartRegistry = request.getfixturevalue(request.param)

        @asynccontextmanager
        async def open_(*, can_delete: bool = True) -> AsyncIterator[Place]:
            yield Place(start(can_delete=can_delete).url, request.param == "distribution3")

        return open_


@pytest.fixture(params=["docker_registry", "distribution3"])
def start(request: pytest.FixtureRequest) -> StartRegistry:
    found: StartRegistry = request.getfixturevalue(request.param)
    return found


@pytest.mark.e2e
async def test_a_registry_in_read_only_mode_is_told_apart_from_one_that_never_deletes(
    connect: Connect, start: StartRegistry
) -> None:
    server = start()
    built = picture("stays")
    await push(connect(server.url), "team/app", built, "1.0")
    server.stop()
    server.config["storage"].update(READ_ONLY["storage"])
    server.start()
    connector = connect(server.url)
    changes: tuple[Callable[[], object], ...] = (
        lambda: connector.delete_manifest("team/app", built.digest),
        lambda: connector.delete_tag("team/app", "1.0"),
        lambda: connector.put_manifest("team/app", "2.0", built.media_type, built.payload),
        lambda: connector.put_blob("team/app", b"new"),
        lambda: connector.mount_blob("team/new", built.blobs[0].digest, "team/app"),
        lambda: connector.probe_delete("team/app"),
        lambda: connector.probe_untag("team/app"),
    )
    for change in changes:
        with pytest.raises(RegistryError) as refused:
            await change()  # type: ignore[misc]  # each is a coroutine of its own type
        assert refused.value.code == "registry-read-only"
        assert "maintenance" in refused.value.hint
    assert (await connector.list_tags("team/app")).tags == ("1.0",)


@pytest.mark.e2e
async def test_a_blob_that_only_the_cache_still_knows_is_not_proven(connect: Connect, start: StartRegistry) -> None:
    server = start()
    connector, built = connect(server.url), picture("collected")
    await push(connector, "team/app", built, "1.0")
    blob = built.blobs[0]
    assert await connector.prove_blob("team/app", blob.digest, blob.size_bytes)
    assert await connector.delete_manifest("team/app", built.digest) is Removal.REMOVED
    _collect_garbage(server)
    assert (await connector.head_blob("team/app", blob.digest)).exists, "the cache forgot it: this test proves nothing"
    assert not await connector.prove_blob("team/app", blob.digest, blob.size_bytes)


@pytest.mark.e2e
async def test_a_mount_that_fails_leaves_no_upload_behind(connect: Connect, start: StartRegistry) -> None:
    server = start()
    assert not await connect(server.url).mount_blob("team/app", Digest.of(b"nowhere"), "team/other")
    uploads = server.root / "docker/registry/v2/repositories/team/app/_uploads"
    # Distribution leaves empty folders of a cancelled upload; what was uploaded is gone.
    assert uploads.exists()
    assert not list(uploads.glob("*/data")), "the upload is still open"


def _collect_garbage(server: RegistryServer) -> None:
    command = [str(server.program), "garbage-collect", str(server.config_path)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
