"""What must every connector that changes things do, whatever the registry behind it? Tests to inherit from.

They put everything there themselves, so that the same ones run on the sample registry and on real servers. Define
the fixtures ``make_connector`` and ``open_place`` in the subclass; see ``connector_contract`` for the rest.
"""

# ruff: noqa: D102, S101  these are tests: their names say what they check

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

import pytest

from regwarden.core.oci.digests import Digest
from regwarden.errors import RegistryError
from regwarden.registries.api import (
    Ability,
    Connector,
    DeletesManifests,
    DeletesTags,
    FetchedManifest,
    ProvesBlobs,
    PutsManifests,
    Removal,
)
from regwarden.testing.connector_contract import MakeConnector
from regwarden.testing.content import BuiltManifest
from regwarden.testing.images import Layer, image, index, real_layer


class ChangingConnector(Connector, DeletesManifests, DeletesTags, PutsManifests, ProvesBlobs, Protocol):
    """A connector with all abilities that change something."""


@dataclass(frozen=True, slots=True)
class Place:
    """A registry to change: where it is, and whether it removes tags alone."""

    url: str
    can_untag: bool


class OpenPlace(Protocol):
    """Opens an empty registry; the options are switches of its configuration."""

    def __call__(self, *, can_delete: bool = True) -> AbstractAsyncContextManager[Place]:
        """Open it; leaving the context closes it."""


class Changing(Protocol):
    """Opens a place and a connector to it."""

    def __call__(self, **options: bool) -> AbstractAsyncContextManager[tuple[ChangingConnector, Place]]:
        """The connector and its place; both are closed at the end."""


def picture(seed: str) -> BuiltManifest:
    """A small image whose blobs have real bytes."""
    return image([real_layer(f"layer of {seed}".encode())])


async def push(connector: PutsManifests, repository: str, built: BuiltManifest, *tags: str) -> None:
    """Put everything that ``built`` needs, then itself, by digest and under ``tags``."""
    for child in built.children:
        await push(connector, repository, child)
    for blob in built.blobs:
        assert await connector.put_blob(repository, b"".join(blob.chunks())) == blob.digest
    for reference in tags or (str(built.digest),):
        await connector.put_manifest(repository, reference, built.media_type, built.payload)


class ChangesContract:
    """Inherit, and define the fixtures ``make_connector`` and ``open_place``."""

    @pytest.fixture
    def make_connector(self) -> MakeConnector:
        """How to make a connector of the kind under test."""
        raise NotImplementedError

    @pytest.fixture
    def open_place(self) -> OpenPlace:
        """Where to change things."""
        raise NotImplementedError

    @pytest.fixture
    def changing(self, make_connector: MakeConnector, open_place: OpenPlace) -> Changing:
        @asynccontextmanager
        async def change(**options: bool) -> AsyncIterator[tuple[ChangingConnector, Place]]:
            async with open_place(**options) as place:
                connector = await make_connector(place.url)
                assert isinstance(connector, DeletesManifests)
                assert isinstance(connector, DeletesTags)
                assert isinstance(connector, PutsManifests)
                assert isinstance(connector, ProvesBlobs)
                try:
                    yield connector, place
                finally:
                    await connector.close()

        return change

    async def test_what_is_put_is_there_byte_for_byte(self, changing: Changing) -> None:
        built = index([picture("a"), picture("b")])
        async with changing() as (connector, _):
            await push(connector, "team/app", built, "1.0", "latest")
            for reference in ("1.0", "latest", str(built.digest)):
                assert await connector.fetch_manifest("team/app", reference) == _fetched(built)
            assert await connector.put_blob("team/app", b"") == Digest.of(b"")

    async def test_a_delete_takes_all_tags_of_the_manifest_and_nothing_else(self, changing: Changing) -> None:
        child = picture("child")
        built, other = index([child]), picture("other")
        async with changing() as (connector, _):
            await push(connector, "team/app", built, "1.0", "1", "latest")
            await push(connector, "team/app", other, "other")
            await push(connector, "team/copy", built, "1.0")
            assert await connector.delete_manifest("team/app", built.digest) is Removal.REMOVED
            assert (await connector.list_tags("team/app")).tags == ("other",)
            assert await connector.head_manifest("team/app", str(built.digest)) is None
            assert await connector.head_manifest("team/app", str(child.digest)) is not None
            assert await connector.head_manifest("team/copy", "1.0") is not None
            assert (await connector.head_blob("team/app", child.blobs[0].digest)).exists
            assert await connector.delete_manifest("team/app", built.digest) is Removal.ALREADY_GONE
            assert await connector.delete_manifest("team/never", built.digest) is Removal.ALREADY_GONE

    async def test_a_tag_is_removed_alone_or_not_at_all(self, changing: Changing) -> None:
        built = picture("tagged twice")
        async with changing() as (connector, place):
            await push(connector, "team/app", built, "1.0", "latest")
            if place.can_untag:
                assert await connector.delete_tag("team/app", "latest") is Removal.REMOVED
                assert await connector.delete_tag("team/app", "latest") is Removal.ALREADY_GONE
                assert (await connector.list_tags("team/app")).tags == ("1.0",)
            else:
                with pytest.raises(RegistryError) as refused:
                    await connector.delete_tag("team/app", "latest")
                assert refused.value.code == "untag-unsupported"
                assert sorted((await connector.list_tags("team/app")).tags) == ["1.0", "latest"]
            assert await connector.fetch_manifest("team/app", "1.0") == _fetched(built)

    @pytest.mark.parametrize("can_delete", [True, False])
    async def test_deletion_is_probed_without_changing_anything(self, changing: Changing, *, can_delete: bool) -> None:
        built = picture("stays")
        async with changing(can_delete=can_delete) as (connector, place):
            assert (await connector.probe_capabilities()).delete is Ability.UNKNOWN
            await push(connector, "team/app", built, "1.0")
            expected = Ability.SUPPORTED if can_delete else Ability.UNSUPPORTED
            assert await connector.probe_delete("team/app") is expected
            assert await connector.probe_delete("team/never") is expected
            untag = await connector.probe_untag("team/app")
            assert untag is (Ability.SUPPORTED if can_delete and place.can_untag else Ability.UNSUPPORTED)
            assert (await connector.list_tags("team/app")).tags == ("1.0",)
            known = await connector.probe_capabilities()
            assert (known.delete, known.delete_tag) == (expected, untag)

    async def test_a_registry_that_does_not_delete_says_how_to_switch_it_on(self, changing: Changing) -> None:
        built = picture("stays")
        async with changing(can_delete=False) as (connector, _):
            await push(connector, "team/app", built, "1.0")
            with pytest.raises(RegistryError) as refused:
                await connector.delete_manifest("team/app", built.digest)
            assert refused.value.code == "delete-disabled"
            assert "storage: delete: enabled: true" in refused.value.hint
            assert "REGISTRY_STORAGE_DELETE_ENABLED=true" in refused.value.hint
            assert await connector.fetch_manifest("team/app", "1.0") == _fetched(built)

    async def test_what_was_deleted_is_put_back_children_first(self, changing: Changing) -> None:
        child = picture("child")
        built = index([child])
        async with changing() as (connector, _):
            await push(connector, "team/app", built, "1.0", "latest")
            for digest in (built.digest, child.digest):
                assert await connector.delete_manifest("team/app", digest) is Removal.REMOVED
            with pytest.raises(RegistryError) as refused:
                await connector.put_manifest("team/app", "1.0", built.media_type, built.payload)
            assert refused.value.code == "manifest-blob-unknown"
            assert str(child.digest) in refused.value.message
            await connector.put_manifest("team/app", str(child.digest), child.media_type, child.payload)
            for tag in ("1.0", "latest"):
                await connector.put_manifest("team/app", tag, built.media_type, built.payload)
            assert sorted((await connector.list_tags("team/app")).tags) == ["1.0", "latest"]
            assert await connector.fetch_manifest("team/app", "latest") == _fetched(built)

    async def test_a_manifest_is_not_taken_before_its_blobs(self, changing: Changing) -> None:
        built = image([real_layer(b"one"), real_layer(b"two"), real_layer(b"three")])
        async with changing() as (connector, _):
            for blob in built.blobs[:2]:
                await connector.put_blob("team/app", b"".join(blob.chunks()))
            with pytest.raises(RegistryError) as refused:
                await connector.put_manifest("team/app", "1.0", built.media_type, built.payload)
            assert refused.value.code == "manifest-blob-unknown"
            assert str(built.blobs[2].digest) in refused.value.message
            assert str(built.blobs[0].digest) not in refused.value.message

    async def test_bytes_under_a_foreign_digest_are_refused(self, changing: Changing) -> None:
        built, other = picture("one"), picture("other")
        async with changing() as (connector, _):
            await push(connector, "team/app", built)
            with pytest.raises(RegistryError):
                await connector.put_manifest("team/app", str(other.digest), built.media_type, built.payload)
            assert await connector.head_manifest("team/app", str(other.digest)) is None

    async def test_a_blob_is_mounted_from_where_it_is_and_not_from_elsewhere(self, changing: Changing) -> None:
        shared: Layer = real_layer(b"shared")
        async with changing() as (connector, _):
            digest = await connector.put_blob("team/one", b"".join(shared.blob.chunks()))
            assert await connector.mount_blob("team/two", digest, "team/one")
            assert await connector.fetch_blob("team/two", digest, max_bytes=100) == b"shared"
            missing = Digest.of(b"nowhere")
            assert not await connector.mount_blob("team/two", missing, "team/one")
            assert not (await connector.head_blob("team/two", missing)).exists

    async def test_a_blob_is_proven_by_reading_of_it(self, changing: Changing) -> None:
        async with changing() as (connector, _):
            digest = await connector.put_blob("team/app", b"some bytes")
            empty = await connector.put_blob("team/app", b"")
            assert await connector.prove_blob("team/app", digest, 10)
            assert await connector.prove_blob("team/app", digest, 1)
            assert await connector.prove_blob("team/app", digest, 123_456_789)  # declared by a manifest that lies
            assert await connector.prove_blob("team/app", empty, 0)
            assert not await connector.prove_blob("team/app", Digest.of(b"nowhere"), 10)


def _fetched(built: BuiltManifest) -> FetchedManifest:
    return FetchedManifest(built.digest, built.media_type, built.payload)
