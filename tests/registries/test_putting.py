"""Putting things back: exact bytes, to the registry alone, with its refusals in words that help."""

from __future__ import annotations

import re

import pytest

from regwarden.core.oci import media_types
from regwarden.core.oci.digests import Digest
from regwarden.errors import InputError, RegistryDenied, RegistryError, RegistryProtocolError
from regwarden.registries.client.credentials import Basic
from regwarden.testing.authentication import BearerAuth, DigestAuth
from regwarden.testing.behaviour import Behaviour
from regwarden.testing.content import Content
from regwarden.testing.images import real_layer
from regwarden.testing.scripted import ScriptedRegistry
from regwarden.testing.scripted_replies import (
    Answer,
    CloseWithoutAnswer,
    Reply,
    challenge_reply,
    error_reply,
    json_reply,
)
from regwarden.testing.server import SampleRegistry
from tests.registries.conftest import Connect

PAYLOAD = b'{\n   "schemaVersion": 2\n}'
DIGEST = Digest.of(PAYLOAD)
TYPE = media_types.OCI_MANIFEST
TAG = "/v2/team/app/manifests/1.0"
UPLOADS = "/v2/team/app/blobs/uploads/"
CREATED = Reply(201, headers={"Docker-Content-Digest": str(DIGEST)})
CONTENT = b"config"
STORED = Digest.of(CONTENT)


async def test_the_bytes_go_as_they_are_with_their_type(connect: Connect) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("PUT", TAG, CREATED, headers={"content-type": TYPE})
        await connect(registry.url).put_manifest("team/app", "1.0", TYPE, PAYLOAD)
    assert registry.requests[0].body == PAYLOAD


@pytest.mark.parametrize("scheme", ['Basic realm="r"', 'Digest realm="r", qop="auth", nonce="n", algorithm=SHA-256'])
async def test_the_body_is_sent_again_with_credentials(connect: Connect, scheme: str) -> None:
    async with ScriptedRegistry(is_ordered=True) as registry:
        registry.expect("PUT", TAG, challenge_reply(scheme), headers={"Authorization": None})
        if scheme.startswith("Digest"):  # the first try with this scheme still has no nonce to answer to
            registry.expect("PUT", TAG, challenge_reply(scheme), is_optional=True, headers={"Authorization": None})
        registry.expect("PUT", TAG, CREATED, headers={"Authorization": lambda value: value is not None})
        await connect(registry.url, credentials=Basic("ann", "pw")).put_manifest("team/app", "1.0", TYPE, PAYLOAD)
    assert registry.requests[-1].body == PAYLOAD


@pytest.mark.parametrize("fault", [CloseWithoutAnswer(), Reply(500), Reply(503, b"", {"Retry-After": "0"})])
async def test_a_push_of_which_nobody_knows_is_not_repeated(connect: Connect, fault: Answer) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("GET", "/v2/", json_reply({}))
        registry.expect("PUT", TAG, fault)
        registry.expect("POST", UPLOADS, fault)
        connector = connect(registry.url)
        await connector.ping()
        with pytest.raises(RegistryError):
            await connector.put_manifest("team/app", "1.0", TYPE, PAYLOAD)
        with pytest.raises(RegistryError):
            await connector.put_blob("team/app", CONTENT)


async def test_what_is_missing_is_named_whatever_the_form_of_the_details(connect: Connect) -> None:
    gone = [Digest.of(str(number).encode()) for number in range(6)]
    details: list[object] = [str(gone[0]), {"digest": str(gone[1])}, None, ["x"], "no digest", str(gone[0])]
    details += [str(digest) for digest in gone[2:]]
    errors = [{"code": "MANIFEST_BLOB_UNKNOWN", "message": "blob unknown", "detail": detail} for detail in details]
    async with ScriptedRegistry() as registry:
        registry.expect("PUT", TAG, json_reply({"errors": errors}, status=400))
        with pytest.raises(RegistryError) as refused:
            await connect(registry.url).put_manifest("team/app", "1.0", TYPE, PAYLOAD)
    assert refused.value.code == "manifest-blob-unknown"
    assert all(str(digest) in refused.value.message for digest in gone[:3])
    assert "and 3 more" in refused.value.message


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (error_reply(400, "MANIFEST_INVALID"), "registry-protocol"),
        (error_reply(403, "DENIED"), "registry-denied"),
        (Reply(405, b"Method not allowed", {"Allow": "GET, HEAD"}), "registry-read-only"),
        (Reply(201, headers={"Docker-Content-Digest": str(Digest.of(b"converted"))}), "digest-mismatch"),
        (Reply(201, headers={"Docker-Content-Digest": "nonsense"}), "digest-mismatch"),
        (Reply(307, headers={"Location": "http://127.0.0.1:1/"}), "registry-protocol"),
    ],
)
async def test_a_refused_push_has_its_code(connect: Connect, answer: Answer, code: str) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("PUT", TAG, answer)
        with pytest.raises(RegistryError) as refused:
            await connect(registry.url).put_manifest("team/app", "1.0", TYPE, PAYLOAD)
    assert refused.value.code == code


async def test_a_digest_of_another_algorithm_is_checked_by_it(connect: Connect) -> None:
    longer = Digest.of(PAYLOAD, "sha512")
    async with ScriptedRegistry() as registry:
        answer = Reply(201, headers={"Docker-Content-Digest": str(longer)})
        registry.expect("PUT", f"/v2/team/app/manifests/{longer}", answer)
        await connect(registry.url).put_manifest("team/app", str(longer), TYPE, PAYLOAD)


@pytest.mark.parametrize("reference", ["a/b", "../x", "sha256:12", ""])
async def test_a_wrong_reference_is_never_sent(connect: Connect, reference: str) -> None:
    async with ScriptedRegistry() as registry:
        with pytest.raises(InputError):
            await connect(registry.url).put_manifest("team/app", reference, TYPE, PAYLOAD)


@pytest.mark.parametrize(
    ("location", "target"),
    [
        (
            "/v2/team/app/blobs/uploads/7?_state=a%2Fb%3D",
            f"/v2/team/app/blobs/uploads/7?_state=a%2Fb%3D&digest={STORED}",
        ),
        ("HERE/v2/team/app/blobs/uploads/7", f"/v2/team/app/blobs/uploads/7?digest={STORED}"),
        ("HERE/v2/team/app/blobs/uploads/7?x=%20#top", f"/v2/team/app/blobs/uploads/7?x=%20&digest={STORED}"),
        ("team/app/blobs/uploads/7", f"/v2/team/app/blobs/uploads/7?digest={STORED}"),
    ],
    ids=["path", "absolute", "fragment", "relative"],
)
async def test_an_upload_goes_where_the_registry_says_byte_for_byte(
    connect: Connect, location: str, target: str
) -> None:
    async with ScriptedRegistry() as registry:
        opened = Reply(202, headers={"Location": location.replace("HERE", registry.url)})
        registry.expect("POST", UPLOADS, opened, headers={"content-length": "0"})
        registry.expect("PUT", re.compile(".*"), Reply(201), headers={"content-type": "application/octet-stream"})
        assert await connect(registry.url).put_blob("team/app", CONTENT) == STORED
    assert registry.requests[1].target == target
    assert registry.requests[1].body == CONTENT


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1:1/v2/x",
        "http://storage.example.com/v2/x",
        "//storage.example.com/v2/x",
        "https://127.0.0.1/v2/x",
        "http://ann:pw@HOST/v2/x",
        "ftp://HOST/x",
        "http://[::1/x",
        "",
    ],
)
async def test_an_upload_never_goes_to_another_address(connect: Connect, location: str) -> None:
    async with ScriptedRegistry() as registry:
        place = location.replace("HOST", registry.url.partition("://")[2])
        registry.expect("POST", re.compile(".*"), *[Reply(202, headers={"Location": place})] * 2)
        connector = connect(registry.url, blob_hosts=("storage.example.com", "127.0.0.1:1"))
        with pytest.raises(RegistryProtocolError) as refused:
            await connector.put_blob("team/app", CONTENT)
        # A mount has nothing to upload: the upload that cannot be cancelled is left to the registry.
        assert not await connector.mount_blob("team/app", STORED, "team/other")
    assert [request.method for request in registry.requests] == ["POST", "POST"]
    assert "pw" not in f"{refused.value} {refused.value.hint}"


@pytest.mark.parametrize("answer", [error_reply(400, "DIGEST_INVALID"), error_reply(404, "BLOB_UPLOAD_UNKNOWN")])
async def test_an_upload_that_is_refused_is_an_error(connect: Connect, answer: Answer) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("POST", UPLOADS, Reply(202, headers={"Location": f"{UPLOADS}7"}))
        registry.expect("PUT", re.compile(".*"), answer)
        with pytest.raises(RegistryError):
            await connect(registry.url).put_blob("team/app", CONTENT)


@pytest.mark.parametrize("cancelled", [Reply(204), Reply(404), Reply(500), CloseWithoutAnswer()])
async def test_an_upload_in_place_of_a_mount_is_cancelled_and_that_may_fail(
    connect: Connect, cancelled: Answer
) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("GET", "/v2/", json_reply({}))
        opened = Reply(202, headers={"Location": f"{UPLOADS}7?_state=x"})
        registry.expect("POST", f"{UPLOADS}?mount={STORED}&from=team%2Fother", opened)
        registry.expect("DELETE", f"{UPLOADS}7?_state=x", cancelled, is_repeated=True)
        connector = connect(registry.url)
        await connector.ping()
        assert not await connector.mount_blob("team/app", STORED, "team/other")


async def test_a_mount_asks_for_both_repositories_at_once(connect: Connect) -> None:
    content = Content()
    blob = real_layer(CONTENT).blob
    content.repository("team/other").blobs[blob.digest] = blob
    auth = BearerAuth({"ann": "pw"}, denied_repositories=frozenset({"team/secret"}))
    async with SampleRegistry(content, auth=auth) as registry:
        connector = connect(registry.url, credentials=Basic("ann", "pw"))
        assert await connector.mount_blob("team/app", blob.digest, "team/other")
        (query,) = [request.query for request in registry.requests if request.path == "/token"]
        assert "scope=repository:team/app:pull,push&scope=repository:team/other:pull" in query
        with pytest.raises(RegistryDenied) as denied:
            await connector.mount_blob("team/app", blob.digest, "team/secret")
        assert "right to push" in denied.value.hint


async def test_everything_can_be_put_with_http_digest(connect: Connect) -> None:
    async with SampleRegistry(Content(), auth=DigestAuth({"ann": "pw"}, nonce_uses=2)) as registry:
        connector = connect(registry.url, credentials=Basic("ann", "pw"))
        for number in range(4):
            payload = f"blob {number}".encode()
            assert await connector.put_blob("team/app", payload) == Digest.of(payload)
        assert len(registry.content.repositories["team/app"].blobs) == 4


async def test_a_registry_that_says_yes_and_stores_nothing_is_found_out_by_reading(connect: Connect) -> None:
    content = Content()
    behaviour = Behaviour(unwritable_manifests={DIGEST})
    async with SampleRegistry(content, behaviour=behaviour) as registry:
        connector = connect(registry.url)
        payload = b'{"schemaVersion":2,"mediaType":"%s","manifests":[]}' % media_types.OCI_INDEX.encode()
        behaviour.unwritable_manifests = {Digest.of(payload)}
        await connector.put_manifest("team/app", "1.0", media_types.OCI_INDEX, payload)
        assert await connector.head_manifest("team/app", "1.0") is None
