"""Tags, manifests, blobs and referrers: are they read whole, verified, and never taken for gone by mistake?"""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from regwarden.core.oci import media_types
from regwarden.core.oci.digests import Digest
from regwarden.errors import InputError, RegistryDenied, RegistryError, RegistryMissing, RegistryProtocolError
from regwarden.registries.api import Ability, BlobHead, Connector, FetchedManifest, ListsReferrers, Unchanged
from regwarden.registries.client.client import RegistryClient
from regwarden.registries.client.credentials import Basic
from regwarden.registries.client.limits import Limits
from regwarden.registries.client.settings import ClientSettings
from regwarden.registries.distribution.blobs import allowed_target
from regwarden.testing.scripted import ScriptedRegistry
from regwarden.testing.scripted_replies import (
    Answer,
    Reply,
    Truncated,
    blob_reply,
    challenge_reply,
    error_reply,
    json_reply,
    manifest_reply,
    not_modified_reply,
    tags_reply,
)
from tests.registries.conftest import QUICK, Connect

PAYLOAD = b'{"schemaVersion": 2}\n'
OTHER = b'{"schemaVersion": 2, "x": 1}'
DIGEST = Digest.of(PAYLOAD)
TAG = "/v2/team/app/manifests/latest"
BLOB = f"/v2/team/app/blobs/{DIGEST}"
REGISTRY_404 = {"Content-Type": "application/json; charset=utf-8", "Docker-Distribution-Api-Version": "registry/2.0"}


def _is_connector(connector: Connector) -> Connector:
    return connector


async def test_the_connector_is_one_for_the_type_checker_and_lists_referrers(connect: Connect) -> None:
    assert isinstance(_is_connector(connect("http://localhost")), ListsReferrers)


# ---------------------------------------------------------------------------------------------- tags


async def _tags(connect: Connect, *answers: Answer, size: int = 3) -> tuple[tuple[str, ...], bool, str]:
    """Ask a registry that answers these pages, whatever page is asked for."""
    async with ScriptedRegistry(is_ordered=True) as registry:
        for answer in answers:
            registry.expect("GET", re.compile(r"/v2/team/app/tags/list.*"), answer)
        listing = await connect(registry.url, replace(QUICK, page_size=size, retries=1)).list_tags("team/app")
        return listing.tags, listing.is_complete, listing.doubt


async def test_tags_are_read_over_all_pages(connect: Connect) -> None:
    async with ScriptedRegistry() as registry:
        link = "/v2/team/app/tags/list?last=b&n=1000"
        registry.expect("GET", "/v2/team/app/tags/list?n=1000", tags_reply("team/app", ["a", "b"], next_target=link))
        registry.expect("GET", link, tags_reply("team/app", None))
        listing = await connect(registry.url).list_tags("team/app")
    assert listing.tags == ("a", "b")
    assert listing.is_complete
    assert listing.page_count == 2


async def test_null_is_an_empty_list_that_exists(connect: Connect) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("GET", "/v2/team/app/tags/list?n=1000", tags_reply("team/app", None))
        listing = await connect(registry.url).list_tags("team/app")
    assert (listing.tags, listing.exists, listing.is_complete) == ((), True, True)


async def test_an_unknown_name_is_a_listing_that_does_not_exist(connect: Connect) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("GET", "/v2/team/app/tags/list?n=1000", error_reply(404, "NAME_UNKNOWN"))
        listing = await connect(registry.url).list_tags("team/app")
    assert (listing.tags, listing.exists) == ((), False)


async def test_a_full_page_without_link_is_asked_behind(connect: Connect) -> None:
    pages = (tags_reply("x", ["a", "b", "c"]), tags_reply("x", ["d"]))
    assert await _tags(connect, *pages) == (("a", "b", "c", "d"), True, "")


async def test_a_server_without_paging_answers_twice_at_most(connect: Connect) -> None:
    page = tags_reply("x", ["a", "b", "c"])
    assert await _tags(connect, page, page) == (("a", "b", "c"), True, "")


async def test_a_page_size_that_is_refused_is_left_to_the_server(connect: Connect) -> None:
    pages = (error_reply(400, "PAGINATION_NUMBER_INVALID"), tags_reply("x", ["a"]))
    assert await _tags(connect, *pages) == (("a",), True, "")


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (Reply(404, b"404 page not found"), "page 2"),
        (error_reply(503), "page 2"),
        (Truncated(tags_reply("x", ["b"]), 5), "page 2"),
        (tags_reply("x", ["b"], next_target="http://elsewhere.example.com/v2/team/app/tags/list"), "elsewhere"),
        (tags_reply("x", ["b"], next_target="/v2/team/app/tags/list?last=a"), "circle"),
    ],
)
async def test_a_list_that_breaks_off_is_incomplete_with_a_reason(connect: Connect, second: Answer, words: str) -> None:
    first = tags_reply("x", ["a"], next_target="/v2/team/app/tags/list?last=a")
    answers = [first, second] if isinstance(second, Reply) and second.status != 503 else [first, second, second]
    tags, is_complete, doubt = await _tags(connect, *answers)
    assert tags[0] == "a"
    assert not is_complete
    assert words in doubt


async def test_a_refusal_in_the_middle_is_denied(connect: Connect) -> None:
    with pytest.raises(RegistryDenied):
        await _tags(connect, tags_reply("x", ["a"], next_target="/v2/team/app/tags/list?last=a"), error_reply(403))


async def test_entries_that_are_no_tags_are_left_out_and_make_the_list_incomplete(connect: Connect) -> None:
    page = json_reply({"tags": ["ok", 7, None, "a/b", "x" * 129, "-a", "", "é"]})
    tags, is_complete, doubt = await _tags(connect, page)
    assert tags == ("ok",)
    assert not is_complete
    assert doubt.startswith("7 entries")


@pytest.mark.parametrize(
    "answer",
    [
        Reply(404, b"404 page not found\n", {"Content-Type": "text/plain"}),
        Reply(404, b"<html>nginx</html>", {"Content-Type": "text/html"}),
        Reply(200, b"<html>login</html>", {"Content-Type": "text/html"}),
        json_reply({"tags": {}}),
        json_reply({}),
    ],
)
async def test_what_is_no_list_is_never_an_empty_one(connect: Connect, answer: Answer) -> None:
    with pytest.raises(RegistryProtocolError):
        await _tags(connect, answer)


@pytest.mark.parametrize("name", ["../x", "a//b", "A", "", "a?b", "a/../b", "a%2fb"])
async def test_a_name_that_is_no_repository_never_reaches_the_registry(connect: Connect, name: str) -> None:
    connector = connect("http://127.0.0.1:9")
    with pytest.raises(InputError):
        await connector.list_tags(name)
    with pytest.raises(InputError):
        await connector.fetch_manifest(name, "latest")
    with pytest.raises(InputError):
        await connector.fetch_blob(name, DIGEST, max_bytes=1)
    assert connector.traffic.requests == 0


# ----------------------------------------------------------------------------------------- manifests


async def test_all_four_types_are_accepted_always_and_the_known_digest_is_named(connect: Connect) -> None:
    rules = {"Accept": ", ".join(media_types.ACCEPT_MANIFESTS), "If-None-Match": f'"{DIGEST}"'}
    async with ScriptedRegistry() as registry:
        registry.expect("GET", TAG, not_modified_reply(), headers=rules)
        connector = connect(registry.url)
        assert await connector.fetch_manifest("team/app", "latest", known=DIGEST) == Unchanged(DIGEST)
    assert (connector.traffic.not_modified, connector.traffic.manifest_bodies) == (1, 0)


async def test_304_for_something_else_is_not_believed(connect: Connect) -> None:
    async with ScriptedRegistry() as registry:
        lie = Reply(304, headers={"Docker-Content-Digest": str(Digest.of(OTHER)), "Content-Length": ""})
        registry.expect("GET", TAG, lie, manifest_reply(OTHER))
        fetched = await connect(registry.url).fetch_manifest("team/app", "latest", known=DIGEST)
    assert fetched == FetchedManifest(Digest.of(OTHER), media_types.OCI_MANIFEST, OTHER)


async def test_304_without_being_asked_is_an_error(connect: Connect) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("GET", TAG, not_modified_reply())
        with pytest.raises(RegistryProtocolError):
            await connect(registry.url).fetch_manifest("team/app", "latest")


@pytest.mark.parametrize("reference", ["latest", str(DIGEST)])
async def test_wrong_bytes_are_asked_for_once_more(connect: Connect, reference: str) -> None:
    path = f"/v2/team/app/manifests/{reference}"
    async with ScriptedRegistry() as registry:
        registry.expect("GET", path, manifest_reply(OTHER, digest=str(DIGEST)), manifest_reply(PAYLOAD))
        fetched = await connect(registry.url).fetch_manifest("team/app", reference)
    assert isinstance(fetched, FetchedManifest)
    assert fetched.payload == PAYLOAD


@pytest.mark.parametrize("reference", ["latest", str(DIGEST)])
async def test_bytes_that_stay_wrong_are_never_accepted(connect: Connect, reference: str) -> None:
    path = f"/v2/team/app/manifests/{reference}"
    async with ScriptedRegistry() as registry:
        registry.expect("GET", path, *[manifest_reply(OTHER, digest=str(DIGEST))] * 2)
        with pytest.raises(RegistryProtocolError) as caught:
            await connect(registry.url).fetch_manifest("team/app", reference)
    assert caught.value.code == "digest-mismatch"


async def test_without_a_digest_header_the_bytes_decide(connect: Connect) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("GET", TAG, Reply(200, PAYLOAD, {"Content-Type": media_types.OCI_INDEX}))
        fetched = await connect(registry.url).fetch_manifest("team/app", "latest")
    assert fetched == FetchedManifest(DIGEST, media_types.OCI_INDEX, PAYLOAD)


async def test_a_sha512_digest_is_verified_too(connect: Connect) -> None:
    digest = Digest.of(PAYLOAD, "sha512")
    async with ScriptedRegistry() as registry:
        registry.expect("GET", TAG, manifest_reply(PAYLOAD, digest=str(digest)))
        fetched = await connect(registry.url).fetch_manifest("team/app", "latest")
    assert isinstance(fetched, FetchedManifest)
    assert fetched.digest == digest


async def test_schema_1_keeps_the_digest_that_the_registry_gives(connect: Connect) -> None:
    async with ScriptedRegistry() as registry:
        reply = manifest_reply(OTHER, media_types.SCHEMA_1_SIGNED, digest=str(DIGEST))
        registry.expect("GET", TAG, reply)
        fetched = await connect(registry.url).fetch_manifest("team/app", "latest")
    assert fetched == FetchedManifest(DIGEST, media_types.SCHEMA_1_SIGNED, OTHER)


async def test_only_a_registry_that_says_so_makes_a_manifest_missing(connect: Connect) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("GET", TAG, error_reply(404, "MANIFEST_UNKNOWN", detail={"Tag": "latest"}))
        with pytest.raises(RegistryMissing):
            await connect(registry.url).fetch_manifest("team/app", "latest")


@pytest.mark.parametrize(
    "detail", [{"Name": "team/app", "Revision": str(DIGEST)}, f"unknown manifest name=team/app revision={DIGEST}"]
)
async def test_a_tag_that_leads_nowhere_tells_where_it_led(connect: Connect, detail: object) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("GET", TAG, error_reply(404, "MANIFEST_UNKNOWN", detail=detail))
        with pytest.raises(RegistryMissing) as caught:
            await connect(registry.url).fetch_manifest("team/app", "latest")
    assert caught.value.named == (str(DIGEST),)


@pytest.mark.parametrize(
    "answer",
    [
        error_reply(404, "MANIFEST_UNKNOWN", "OCI manifest found, but accept header does not support OCI manifests"),
        Reply(404, b"404 page not found\n", {"Content-Type": "text/plain"}),
        Reply(404, b"<html>", {"Content-Type": "text/html"}),
        Reply(404, b"", REGISTRY_404),
        Reply(404, b'{"message":"no Route matched"}', {"Content-Type": "application/json"}),
        Reply(410),
        Reply(302, headers={"Location": "/login"}),
        Reply(200, b"<html>login</html>", {"Content-Type": "text/html"}),
        error_reply(400, "MANIFEST_INVALID"),
    ],
)
async def test_no_other_answer_makes_a_manifest_missing(connect: Connect, answer: Answer) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("GET", TAG, answer)
        with pytest.raises(RegistryProtocolError):
            await connect(registry.url).fetch_manifest("team/app", "latest")


async def test_head_tells_digest_type_and_size(connect: Connect) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("HEAD", TAG, manifest_reply(PAYLOAD), headers={"If-None-Match": None})
        head = await connect(registry.url).head_manifest("team/app", "latest")
    assert head is not None
    assert (head.digest, head.media_type, head.size_bytes) == (DIGEST, media_types.OCI_MANIFEST, len(PAYLOAD))


async def test_a_head_404_with_the_marks_of_a_registry_is_gone(connect: Connect) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("HEAD", TAG, Reply(404, b"", REGISTRY_404))
        assert await connect(registry.url).head_manifest("team/app", "latest") is None


@pytest.mark.parametrize("head", [Reply(404, b"", {"Content-Type": "text/html"}), Reply(404), Reply(405), Reply(400)])
@pytest.mark.parametrize("is_there", [True, False])
async def test_an_unclear_head_is_confirmed_by_get(connect: Connect, head: Reply, is_there: bool) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("HEAD", TAG, head)
        registry.expect("GET", TAG, manifest_reply(PAYLOAD) if is_there else error_reply(404, "MANIFEST_UNKNOWN"))
        found = await connect(registry.url).head_manifest("team/app", "latest")
    assert (found is not None) is is_there


# --------------------------------------------------------------------------------------------- blobs


async def test_a_blob_is_verified(connect: Connect) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("GET", BLOB, blob_reply(OTHER), blob_reply(PAYLOAD))
        assert await connect(registry.url).fetch_blob("team/app", DIGEST, max_bytes=100) == PAYLOAD


async def test_a_blob_redirect_to_a_configured_host_carries_no_credentials(connect: Connect) -> None:
    async with ScriptedRegistry() as registry, ScriptedRegistry() as storage:
        elsewhere = storage.url.replace("127.0.0.1", "localhost")
        target = f"{elsewhere}/bucket/x?X-Signature=a%2Fb%3D"
        registry.expect("GET", BLOB, challenge_reply('Basic realm="r"'), Reply(307, headers={"Location": target}))
        storage.expect("GET", "/bucket/x?X-Signature=a%2Fb%3D", Reply(200, PAYLOAD), headers={"Authorization": None})
        connector = connect(registry.url, credentials=Basic("ann", "pw"), blob_hosts=("localhost",))
        assert await connector.fetch_blob("team/app", DIGEST, max_bytes=100) == PAYLOAD
        assert storage.requests[0].target.endswith("?X-Signature=a%2Fb%3D"), "a signed address must not be rewritten"


async def test_a_redirect_on_the_same_origin_is_followed(connect: Connect) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("GET", BLOB, Reply(302, headers={"Location": "/elsewhere/x"}))
        registry.expect("GET", "/elsewhere/x", Reply(200, PAYLOAD))
        assert await connect(registry.url).fetch_blob("team/app", DIGEST, max_bytes=100) == PAYLOAD


async def test_redirects_do_not_go_on_for_ever(connect: Connect) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("GET", BLOB, *[Reply(307, headers={"Location": BLOB})] * 4)
        with pytest.raises(RegistryProtocolError, match="more than 3 times"):
            await connect(registry.url).fetch_blob("team/app", DIGEST, max_bytes=100)


async def test_a_404_of_the_storage_is_not_a_missing_blob(connect: Connect) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("GET", BLOB, Reply(404, b"<Error><Code>NoSuchKey</Code></Error>"))
        with pytest.raises(RegistryProtocolError):
            await connect(registry.url).fetch_blob("team/app", DIGEST, max_bytes=100)


@pytest.mark.parametrize(
    ("base", "location", "is_allowed"),
    [
        ("https://r.example.com", "https://b.s3.example.com/x?s=1", True),
        ("https://r.example.com", "/v2/x", True),
        ("https://r.example.com", "http://b.s3.example.com/x", False),
        ("https://r.example.com", "https://evil.example.com/x", False),
        ("https://r.example.com", "https://r.example.com:8443/x", False),
        ("https://r.example.com", "https://u:p@b.s3.example.com/x", False),
        ("https://r.example.com", "https://127.0.0.1/x", False),
        ("https://r.example.com", "https://169.254.169.254/x", False),
        ("https://r.example.com", "https://2130706433/x", False),
        ("https://r.example.com", "ftp://b.s3.example.com/x", False),
        ("https://r.example.com", "https://[bad/x", False),
        ("https://r.example.com", "", True),
        ("http://127.0.0.1:5000", "http://127.0.0.1:9000/x", True),
        ("http://127.0.0.1:5000", "http://169.254.169.254/x", False),
    ],
)
async def test_redirects_obey_the_rules_for_foreign_hosts(base: str, location: str, is_allowed: bool) -> None:
    hosts = ("*.s3.example.com", "127.0.0.1", "169.254.169.254", "2130706433")
    client = RegistryClient(ClientSettings(base, blob_hosts=hosts), Limits())
    source = client.url("a/blobs/x")
    if is_allowed:
        assert allowed_target(client, source, location).host
    else:
        with pytest.raises(RegistryProtocolError):
            allowed_target(client, source, location)


async def test_the_setting_is_named_where_a_blob_host_is_not_configured(connect: Connect) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("GET", BLOB, Reply(307, headers={"Location": "http://storage.example.com:9000/x"}))
        with pytest.raises(RegistryProtocolError) as caught:
            await connect(registry.url).fetch_blob("team/app", DIGEST, max_bytes=100)
    assert 'blob_hosts = ["storage.example.com:9000"]' in caught.value.hint


@pytest.mark.parametrize(
    ("answer", "head"),
    [
        (blob_reply(PAYLOAD), BlobHead(exists=True, size_bytes=len(PAYLOAD))),
        (Reply(307, headers={"Location": "https://storage.example.com/x"}), BlobHead(exists=True)),
        (Reply(404, b"", REGISTRY_404), BlobHead(exists=False)),
    ],
)
async def test_a_blob_head_tells_existence_and_size(connect: Connect, answer: Answer, head: BlobHead) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("HEAD", BLOB, answer)
        assert await connect(registry.url).head_blob("team/app", DIGEST) == head


async def test_an_unclear_blob_404_is_not_a_missing_blob(connect: Connect) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("HEAD", BLOB, Reply(404, b"", {"Content-Type": "text/html"}))
        registry.expect("GET", BLOB, Reply(404, b"<html>", {"Content-Type": "text/html"}))
        with pytest.raises(RegistryProtocolError):
            await connect(registry.url).head_blob("team/app", DIGEST)


@pytest.mark.parametrize(
    ("answer", "exists"),
    [(Reply(206, b"x"), True), (Reply(200, b"x"), True), (error_reply(404, "BLOB_UNKNOWN", "unknown"), False)],
)
async def test_a_json_404_without_the_mark_of_a_registry_is_confirmed(
    connect: Connect, answer: Reply, exists: bool
) -> None:
    """A gateway in front of the registry answers JSON too."""
    async with ScriptedRegistry() as registry:
        registry.expect("HEAD", BLOB, Reply(404, b"", {"Content-Type": "application/json"}))
        registry.expect("GET", BLOB, answer, headers={"Range": "bytes=0-0"})
        assert (await connect(registry.url).head_blob("team/app", DIGEST)).exists is exists


# ----------------------------------------------------------------------------------------- referrers

REFERRERS = f"/v2/team/app/referrers/{DIGEST}"


def _index(*payloads: bytes) -> Reply:
    entries = [
        {"mediaType": media_types.OCI_MANIFEST, "digest": str(Digest.of(p)), "size": len(p), "artifactType": "a/b"}
        for p in payloads
    ]
    body = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": entries}
    return Reply(200, json.dumps(body).encode(), {"Content-Type": media_types.OCI_INDEX})


async def test_referrers_are_read_over_all_pages(connect: Connect) -> None:
    async with ScriptedRegistry() as registry:
        first = _index(b"1", b"2")
        link = {"Link": f'<{REFERRERS}?page=2>; rel="next"'}
        registry.expect("GET", REFERRERS, Reply(200, first.body, {**first.headers, **link}))
        registry.expect("GET", f"{REFERRERS}?page=2", _index(b"2", b"3"))
        found = await connect(registry.url).list_referrers("team/app", DIGEST)
    assert found is not None
    assert [descriptor.digest for descriptor in found] == [Digest.of(b"1"), Digest.of(b"2"), Digest.of(b"3")]
    assert found[0].artifact_type == "a/b"


async def test_a_registry_without_the_api_is_asked_once_only(connect: Connect) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("GET", REFERRERS, Reply(404, b"404 page not found\n", {"Content-Type": "text/plain"}))
        connector = connect(registry.url)
        assert await connector.list_referrers("team/app", DIGEST) is None
        assert await connector.list_referrers("team/app", DIGEST) is None


@pytest.mark.parametrize(
    "answer",
    [error_reply(403), error_reply(404, "NAME_UNKNOWN"), Reply(200, b"{}"), Reply(200, b"x"), error_reply(400)],
)
async def test_no_other_answer_means_that_there_are_no_referrers(connect: Connect, answer: Answer) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("GET", REFERRERS, answer)
        with pytest.raises(RegistryError):
            await connect(registry.url).list_referrers("team/app", DIGEST)


# -------------------------------------------------------------------------------------------- probes


@pytest.mark.parametrize(
    "answer",
    [
        Reply(200, b"<html>hello</html>", {"Content-Type": "text/html"}),
        Reply(404, b"404"),
        Reply(301, headers={"Location": "https://registry.example.com/v2/"}),
        Reply(400, b"Client sent an HTTP request to an HTTPS server."),
    ],
)
async def test_what_is_no_registry_is_said_with_a_hint(connect: Connect, answer: Answer) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("GET", "/v2/", answer)
        with pytest.raises(RegistryProtocolError, match="does not look like a container registry") as caught:
            await connect(registry.url).ping()
    assert caught.value.hint
    assert caught.value.code == "not-a-registry"


async def test_a_ping_tells_what_the_server_says_it_is(connect: Connect) -> None:
    async with ScriptedRegistry() as registry:
        headers = {"Gitlab-Container-Registry-Version": "4.32.0", "Date": "Sat, 21 Nov 2026 11:00:00 GMT"}
        registry.expect("GET", "/v2/", json_reply({}, headers=headers))
        ping = await connect(registry.url).ping()
    assert ping.server == "GitLab 4.32.0"
    assert ping.date is not None
    assert not ping.is_authenticated


@pytest.mark.parametrize(
    ("answer", "ability"),
    [
        (error_reply(405, "UNSUPPORTED"), Ability.UNSUPPORTED),
        (error_reply(404, "MANIFEST_UNKNOWN"), Ability.SUPPORTED),
        (Reply(404, b"404 page not found"), Ability.UNKNOWN),
        (Reply(405, b"Method not allowed", {"Allow": "GET, HEAD, PUT"}), Ability.UNSUPPORTED),
    ],
)
async def test_deletes_are_probed_with_a_digest_that_cannot_exist(
    connect: Connect, answer: Answer, ability: Ability
) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("DELETE", f"/v2/team/app/manifests/sha256:{'0' * 64}", answer)
        assert await connect(registry.url).probe_delete("team/app") is ability
