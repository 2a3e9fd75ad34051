"""Is a blob said to be readable only if some of it was read, and said to be gone only if that is clear?"""

from __future__ import annotations

import pytest

from regwarden.core.oci.digests import Digest
from regwarden.errors import RegistryError, RegistryProtocolError
from regwarden.registries.client.credentials import Basic
from regwarden.testing.behaviour import Behaviour
from regwarden.testing.content import Content
from regwarden.testing.images import layer
from regwarden.testing.scripted import ScriptedRegistry
from regwarden.testing.scripted_replies import (
    Answer,
    EndlessBody,
    Reply,
    Truncated,
    challenge_reply,
    error_reply,
    json_reply,
)
from regwarden.testing.server import SampleRegistry
from tests.registries.conftest import Connect

DIGEST = Digest.of(b"0123456789")
BLOB = f"/v2/team/app/blobs/{DIGEST}"
LAST = {"Range": "bytes=9-9"}
BYTE = Reply(206, b"9", {"Content-Range": "bytes 9-9/10"})
WHOLE = Reply(200, b"0123456789")


async def _prove(connect: Connect, *answers: Answer, size_bytes: int = 10) -> bool:
    async with ScriptedRegistry() as registry:
        registry.expect("GET", "/v2/", json_reply({}))
        registry.expect("GET", BLOB, *answers, headers={"Range": f"bytes={size_bytes - 1}-{size_bytes - 1}"})
        connector = connect(registry.url)
        await connector.ping()
        return await connector.prove_blob("team/app", DIGEST, size_bytes)


@pytest.mark.parametrize("answer", [BYTE, WHOLE, Reply(200, b"x" * 4)], ids=["a byte", "all", "all, which is less"])
async def test_a_byte_or_all_of_it_is_a_proof(connect: Connect, answer: Answer) -> None:
    assert await _prove(connect, answer)


@pytest.mark.parametrize("broken", [Truncated(BYTE, 0), Truncated(WHOLE, 9), Reply(206, b"89"), Reply(206, b"")])
async def test_what_breaks_off_or_is_no_single_byte_is_asked_for_once_more(connect: Connect, broken: Answer) -> None:
    assert not await _prove(connect, broken, broken)
    assert await _prove(connect, broken, BYTE)


async def test_a_missing_blob_is_not_proven(connect: Connect) -> None:
    assert not await _prove(connect, error_reply(404, "BLOB_UNKNOWN"))


@pytest.mark.parametrize("answer", [Reply(404, b"404 page not found"), error_reply(403, "DENIED"), Reply(204)])
async def test_an_unclear_answer_is_no_answer(connect: Connect, answer: Answer) -> None:
    with pytest.raises(RegistryError):
        await _prove(connect, answer)


async def test_a_server_without_ranges_is_not_read_to_the_end_of_a_huge_blob(connect: Connect) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("GET", BLOB, EndlessBody())
        connector = connect(registry.url)
        assert await connector.prove_blob("team/app", DIGEST, 40 * 2**30)
        assert connector.traffic.received_bytes < 10 * 2**20


async def test_the_size_of_a_manifest_is_not_believed(connect: Connect) -> None:
    async with ScriptedRegistry(is_ordered=True) as registry:
        # As Distribution 2.x answers: it announces a body that never comes.
        registry.expect("GET", BLOB, Truncated(Reply(416, b"x" * 10), 0), headers={"Range": "bytes=999-999"})
        registry.expect("GET", BLOB, Reply(206, b"0"), headers={"Range": "bytes=0-0"})
        assert await connect(registry.url).prove_blob("team/app", DIGEST, 1000)


async def test_an_empty_blob_is_read_whole(connect: Connect) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("GET", BLOB, Reply(200, b""), headers={"Range": None})
        assert await connect(registry.url).prove_blob("team/app", DIGEST, 0)


async def test_storage_is_asked_for_the_byte_and_gets_no_credentials(connect: Connect) -> None:
    async with ScriptedRegistry() as registry, ScriptedRegistry() as storage:
        elsewhere = storage.url.replace("127.0.0.1", "localhost")
        moved = Reply(307, headers={"Location": f"{elsewhere}/bucket/x?sig=a%2Fb"})
        registry.expect("GET", BLOB, challenge_reply('Basic realm="r"'), moved, moved)
        wanted = {"Authorization": None, **LAST}
        storage.expect("GET", "/bucket/x?sig=a%2Fb", BYTE, Reply(404, b"<Error>NoSuchKey</Error>"), headers=wanted)
        connector = connect(registry.url, credentials=Basic("ann", "pw"), blob_hosts=("localhost",))
        assert await connector.prove_blob("team/app", DIGEST, 10)
        assert not await connector.prove_blob("team/app", DIGEST, 10)


async def test_storage_that_refuses_proves_nothing(connect: Connect) -> None:
    async with ScriptedRegistry() as registry, ScriptedRegistry() as storage:
        moved = Reply(307, headers={"Location": f"{storage.url.replace('127.0.0.1', 'localhost')}/x"})
        registry.expect("GET", BLOB, moved)
        storage.expect("GET", "/x", Reply(403, b"<Error>expired</Error>"))
        with pytest.raises(RegistryError):
            await connect(registry.url, blob_hosts=("localhost",)).prove_blob("team/app", DIGEST, 10)


async def test_a_host_that_is_not_configured_is_not_asked(connect: Connect) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("GET", BLOB, Reply(307, headers={"Location": "http://storage.example.com/x"}))
        with pytest.raises(RegistryProtocolError) as refused:
            await connect(registry.url).prove_blob("team/app", DIGEST, 10)
    assert refused.value.code == "blob-host-refused"


async def test_a_blob_that_only_a_cache_knows_is_found_out(connect: Connect) -> None:
    content = Content()
    lost, alive = layer("lost", 5000), layer("alive", 2**40)
    for one in (lost, alive):
        content.repository("team/app").blobs[one.blob.digest] = one.blob
    async with SampleRegistry(content, behaviour=Behaviour(lost_blobs={lost.blob.digest})) as registry:
        connector = connect(registry.url)
        assert (await connector.head_blob("team/app", lost.blob.digest)).exists
        assert not await connector.prove_blob("team/app", lost.blob.digest, 5000)
        assert await connector.prove_blob("team/app", alive.blob.digest, 2**40)
        assert connector.traffic.received_bytes < 1000
