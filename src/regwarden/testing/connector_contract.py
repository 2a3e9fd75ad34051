"""What must every connector do, whatever its kind? A test class to inherit from: give it a way to make a connector.

The expectations are the promises of ``registries/api.py``. Set ``make_connector`` in the subclass,
and call ``pytest.register_assert_rewrite`` for this module before importing it, for readable failures.
"""

# ruff: noqa: D102, S101  these are tests: their names say what they check

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, Protocol

import pytest

from regwarden.core.oci import media_types
from regwarden.core.oci.digests import Digest
from regwarden.core.oci.manifests import parse_manifest
from regwarden.errors import RegistryDenied, RegistryMissing, RegistryProtocolError, RegistryUnreachable
from regwarden.registries.api import Ability, Connector, FetchedManifest, ListsReferrers, Unchanged
from regwarden.testing.authentication import Auth, BasicAuth, BearerAuth, DigestAuth
from regwarden.testing.behaviour import Behaviour, Fault
from regwarden.testing.content import BuiltManifest, Content, StoredManifest
from regwarden.testing.images import artifact, image, index, layer, real_layer
from regwarden.testing.server import SampleRegistry

USERS: Final = {"reader": "correct horse"}
_WRONG: Final = "battery staple"
_GENERATIONS: Final = [Behaviour.distribution_2, Behaviour.distribution_3, Behaviour.oci_1_1]


class MakeConnector(Protocol):
    """Makes a connector to the registry at ``url``; an empty ``user`` means anonymous."""

    def __call__(
        self, url: str, *, user: str = "", password: str = "", use_digest_auth: bool = False
    ) -> Awaitable[Connector]:
        """Make it; the suite closes it."""


class ConnectorContract:
    """Inherit, and define the fixture ``make_connector``."""

    @pytest.fixture
    def make_connector(self) -> MakeConnector:
        """How to make a connector of the kind under test."""
        raise NotImplementedError

    @pytest.mark.parametrize("behave", _GENERATIONS)
    async def test_every_repository_is_listed_over_many_pages(
        self, make_connector: MakeConnector, behave: Callable[[], Behaviour]
    ) -> None:
        content = Content()
        names = {f"team{number % 7}/app-{number:03}" for number in range(250)}
        for name in names:
            content.repository(name)
        behaviour = behave()
        behaviour.catalog_page_limit = behaviour.catalog_page_default = 40
        async with _connected(make_connector, content, behaviour=behaviour) as (connector, _):
            listed = [name async for page in connector.list_repositories() for name in page.names]
        assert sorted(set(listed)) == sorted(names)

    @pytest.mark.parametrize("behave", _GENERATIONS)
    async def test_every_tag_is_listed_over_many_pages(
        self, make_connector: MakeConnector, behave: Callable[[], Behaviour]
    ) -> None:
        content = Content()
        tags = [f"1.{number}" for number in range(330)]
        content.repository("app").add(image([]), *tags)
        async with _connected(make_connector, content, behaviour=behave()) as (connector, _):
            listing = await connector.list_tags("app")
        assert sorted(listing.tags) == sorted(tags)
        assert listing.is_complete
        assert listing.exists

    async def test_a_repository_that_lost_all_its_tags_has_an_empty_complete_list(
        self, make_connector: MakeConnector
    ) -> None:
        content = Content()
        content.repository("app").has_tag_list = True
        async with _connected(make_connector, content) as (connector, _):
            listing = await connector.list_tags("app")
        assert (listing.tags, listing.is_complete, listing.exists) == ((), True, True)

    async def test_a_repository_that_never_had_a_tag_does_not_exist_as_a_list(
        self, make_connector: MakeConnector
    ) -> None:
        content = Content()
        content.repository("ghost")
        async with _connected(make_connector, content) as (connector, _):
            listing = await connector.list_tags("ghost")
        assert (listing.tags, listing.exists) == ((), False)

    @pytest.mark.parametrize("oci", [True, False])
    async def test_a_manifest_arrives_byte_for_byte_with_its_own_type(
        self, make_connector: MakeConnector, *, oci: bool
    ) -> None:
        content = Content()
        children = [image([layer("a", 1000)], oci=oci), image([layer("b", 2000)], oci=oci)]
        built = index(children, oci=oci)
        content.repository("app").add(built, "1.0")
        async with _connected(make_connector, content) as (connector, _):
            by_tag = await connector.fetch_manifest("app", "1.0")
            by_digest = await connector.fetch_manifest("app", str(children[0].digest))
        assert by_tag == FetchedManifest(built.digest, built.media_type, built.payload)
        assert by_digest == FetchedManifest(children[0].digest, children[0].media_type, children[0].payload)

    async def test_an_unchanged_tag_costs_no_body_and_leaves_no_pull_event(self, make_connector: MakeConnector) -> None:
        content = Content()
        digest = content.repository("app").add(image([]), "1.0")
        async with _connected(make_connector, content) as (connector, registry):
            answer = await connector.fetch_manifest("app", "1.0", known=digest)
            assert registry.pull_events == []
        assert answer == Unchanged(digest)
        assert connector.traffic.not_modified == 1
        assert connector.traffic.manifest_bodies == 0

    async def test_a_moved_tag_brings_the_new_manifest(self, make_connector: MakeConnector) -> None:
        content = Content()
        repository = content.repository("app")
        old = repository.add(image([layer("old", 10)]), "latest")
        new = repository.add(image([layer("new", 10)]), "latest")
        async with _connected(make_connector, content) as (connector, _):
            answer = await connector.fetch_manifest("app", "latest", known=old)
        assert isinstance(answer, FetchedManifest)
        assert answer.digest == new

    async def test_what_is_gone_is_missing(self, make_connector: MakeConnector) -> None:
        content = Content()
        content.repository("app").add(image([]), "1.0")
        async with _connected(make_connector, content) as (connector, _):
            with pytest.raises(RegistryMissing):
                await connector.fetch_manifest("app", "2.0")
            with pytest.raises(RegistryMissing):
                await connector.fetch_manifest("app", str(Digest.of(b"never was")))
            assert await connector.head_manifest("app", "2.0") is None

    async def test_an_existing_manifest_is_proven_by_its_head(self, make_connector: MakeConnector) -> None:
        content = Content()
        built = image([])
        content.repository("app").add(built, "1.0")
        async with _connected(make_connector, content) as (connector, _):
            head = await connector.head_manifest("app", "1.0")
        assert head is not None
        assert (head.digest, head.media_type, head.size_bytes) == (built.digest, built.media_type, len(built.payload))

    async def test_a_dangling_tag_is_unchanged_but_has_no_head(self, make_connector: MakeConnector) -> None:
        content = Content()
        lost = Digest.of(b"deleted behind the registry's back")
        content.repository("app").set_tag("1.0", lost)
        async with _connected(make_connector, content) as (connector, _):
            assert await connector.fetch_manifest("app", "1.0", known=lost) == Unchanged(lost)
            assert await connector.head_manifest("app", "1.0") is None

    async def test_bytes_that_do_not_match_their_digest_are_refused(self, make_connector: MakeConnector) -> None:
        content = Content()
        repository = content.repository("app")
        built = image([])
        forged = StoredManifest(built.digest, built.media_type, built.payload + b" ")
        repository.manifests[built.digest] = forged
        async with _connected(make_connector, content) as (connector, _):
            with pytest.raises(RegistryProtocolError):
                await connector.fetch_manifest("app", str(built.digest))

    async def test_a_refused_repository_is_denied_and_not_missing(self, make_connector: MakeConnector) -> None:
        content = Content()
        content.repository("secret/app").add(image([]), "1.0")
        content.repository("open/app").add(image([]), "1.0")
        auth = BearerAuth(USERS, denied_repositories=frozenset({"secret/app"}))
        async with _connected(make_connector, content, auth=auth) as (connector, _):
            with pytest.raises(RegistryDenied):
                await connector.list_tags("secret/app")
            with pytest.raises(RegistryDenied):
                await connector.fetch_manifest("secret/app", "1.0")
            with pytest.raises(RegistryDenied):
                await connector.head_manifest("secret/app", "1.0")
            assert (await connector.list_tags("open/app")).tags == ("1.0",)

    @pytest.mark.parametrize(
        "auth",
        [
            BasicAuth(USERS),
            BearerAuth(USERS),
            BearerAuth(USERS, field_names=("access_token",)),
            BearerAuth(USERS, token_uses=2),
            DigestAuth(USERS, algorithm="MD5"),
            DigestAuth(USERS, nonce_uses=3),
        ],
        ids=["basic", "bearer", "bearer-access-token", "bearer-short-lived", "digest-md5", "digest-sha256-stale"],
    )
    async def test_right_credentials_open_and_wrong_ones_are_denied(
        self, make_connector: MakeConnector, auth: Auth
    ) -> None:
        content = Content()
        repository = content.repository("app")
        built = [image([layer(str(number), 10)]) for number in range(6)]
        for number, one in enumerate(built):
            repository.add(one, str(number))
        async with _connected(make_connector, content, auth=auth) as (connector, registry):
            assert (await connector.ping()).is_authenticated
            for number, one in enumerate(built):
                assert await connector.fetch_manifest("app", str(number)) == _fetched(one)
            is_digest = isinstance(auth, DigestAuth)
            stranger = await make_connector(registry.url, user="reader", password=_WRONG, use_digest_auth=is_digest)
            try:
                with pytest.raises(RegistryDenied) as denied:
                    await stranger.list_tags("app")
            finally:
                await stranger.close()
        assert _WRONG not in f"{denied.value} {denied.value.hint} {denied.value.diagnostics}"

    async def test_anonymous_reading_works_with_a_token_server(self, make_connector: MakeConnector) -> None:
        content = Content()
        content.repository("app").add(image([]), "1.0")
        registry = SampleRegistry(content, auth=BearerAuth(has_anonymous_pull=True))
        async with registry:
            connector = await make_connector(registry.url)
            try:
                assert (await connector.list_tags("app")).tags == ("1.0",)
            finally:
                await connector.close()

    async def test_a_blob_is_verified_and_bounded(self, make_connector: MakeConnector) -> None:
        content = Content()
        real, declared = real_layer(b"config" * 50), layer("declared", 5000)
        content.repository("app").add(image([real, declared]), "1.0")
        async with _connected(make_connector, content) as (connector, _):
            assert await connector.fetch_blob("app", real.blob.digest, max_bytes=1000) == b"config" * 50
            with pytest.raises(RegistryProtocolError):
                await connector.fetch_blob("app", real.blob.digest, max_bytes=100)
            with pytest.raises(RegistryProtocolError):  # its bytes do not match its digest
                await connector.fetch_blob("app", declared.blob.digest, max_bytes=10_000)
            with pytest.raises(RegistryMissing):
                await connector.fetch_blob("app", Digest.of(b"nowhere"), max_bytes=100)

    async def test_a_blob_head_tells_the_stored_size(self, make_connector: MakeConnector) -> None:
        content = Content()
        huge = layer("huge", 40 * 2**30)
        content.repository("app").add(image([huge]), "1.0")
        async with _connected(make_connector, content) as (connector, _):
            there = await connector.head_blob("app", huge.blob.digest)
            nowhere = await connector.head_blob("app", Digest.of(b"nowhere"))
        assert (there.exists, there.size_bytes) == (True, 40 * 2**30)
        assert not nowhere.exists

    async def test_referrers_are_listed_over_many_pages(self, make_connector: MakeConnector) -> None:
        content = Content()
        repository = content.repository("app")
        subject = image([])
        repository.add(subject, "1.0")
        expected = {
            repository.add(artifact("application/vnd.example", [real_layer(f"{n}".encode())], subject=subject))
            for n in range(120)
        }
        async with _connected(make_connector, content, behaviour=Behaviour.oci_1_1()) as (connector, _):
            if not isinstance(connector, ListsReferrers):
                pytest.skip("this kind of connector does not list referrers")
            referrers = await connector.list_referrers("app", subject.digest)
            none = await connector.list_referrers("app", Digest.of(b"no subject"))
        assert referrers is not None
        assert {descriptor.digest for descriptor in referrers} == expected
        assert {descriptor.artifact_type for descriptor in referrers} == {"application/vnd.example"}
        assert none == ()

    async def test_a_registry_without_referrers_says_none_and_not_empty(self, make_connector: MakeConnector) -> None:
        content = Content()
        digest = content.repository("app").add(image([]), "1.0")
        async with _connected(make_connector, content) as (connector, _):
            if not isinstance(connector, ListsReferrers):
                pytest.skip("this kind of connector does not list referrers")
            assert await connector.list_referrers("app", digest) is None

    async def test_abilities_are_found_out_without_writing(self, make_connector: MakeConnector) -> None:
        for behaviour, expected in (
            (Behaviour.distribution_2(), Ability.UNSUPPORTED),
            (Behaviour.oci_1_1(), Ability.SUPPORTED),
        ):
            content = Content()
            content.repository("app").add(image([]), "1.0")
            async with _connected(make_connector, content, behaviour=behaviour) as (connector, registry):
                capabilities = await connector.probe_capabilities()
                assert [event for event in registry.events if event.action != "pull"] == []
            assert capabilities.catalog is Ability.SUPPORTED
            assert capabilities.referrers in (expected, Ability.UNKNOWN)

    async def test_passing_failures_are_survived(self, make_connector: MakeConnector) -> None:
        content = Content()
        built = image([])
        content.repository("app").add(built, "1.0")
        behaviour = Behaviour()
        behaviour.faults = {
            ("GET", "/v2/app/tags/list"): [Fault(503), Fault(429, headers=(("Retry-After", "0"),))],
            ("GET", "/v2/app/manifests/1.0"): [Fault(500, '{"errors":[{"code":"UNKNOWN"}]}'), Fault(0)],
        }
        async with _connected(make_connector, content, behaviour=behaviour) as (connector, _):
            assert (await connector.list_tags("app")).tags == ("1.0",)
            assert await connector.fetch_manifest("app", "1.0") == _fetched(built)
        # An HTTP library may itself ask again when a kept connection closes, so the last fault need not be counted.
        assert connector.traffic.retries + connector.traffic.throttled >= 3

    async def test_a_dead_address_is_unreachable(self, make_connector: MakeConnector) -> None:
        async with SampleRegistry(Content()) as registry:
            url = registry.url
        connector = await make_connector(url)
        try:
            with pytest.raises(RegistryUnreachable):
                await connector.ping()
        finally:
            await connector.close()

    async def test_only_the_four_types_are_asked_for_so_that_nothing_is_converted(
        self, make_connector: MakeConnector
    ) -> None:
        content = Content()
        repository = content.repository("app")
        repository.add(image([layer("x", 10)], oci=False), "docker")
        repository.add(index([image([], oci=False)], oci=False), "list")
        async with _connected(make_connector, content) as (connector, _):
            for tag, kind in (("docker", media_types.DOCKER_MANIFEST), ("list", media_types.DOCKER_LIST)):
                answer = await connector.fetch_manifest("app", tag)
                assert isinstance(answer, FetchedManifest)
                assert parse_manifest(answer.payload, answer.media_type).media_type == kind


def _fetched(built: BuiltManifest) -> FetchedManifest:
    return FetchedManifest(built.digest, built.media_type, built.payload)


@asynccontextmanager
async def _connected(
    make_connector: MakeConnector, content: Content, *, auth: Auth = None, behaviour: Behaviour | None = None
) -> AsyncIterator[tuple[Connector, SampleRegistry]]:
    async with SampleRegistry(content, auth=auth, behaviour=behaviour) as registry:
        user = "reader" if auth is not None else ""
        connector = await make_connector(
            registry.url, user=user, password=USERS.get(user, ""), use_digest_auth=isinstance(auth, DigestAuth)
        )
        try:
            yield connector, registry
        finally:
            await connector.close()
