"""Deleting: is it asked for once, never repeated on a doubt, and never believed done or gone by mistake?"""

from __future__ import annotations

import re
import time

import pytest

from regwarden.core.oci.digests import Digest
from regwarden.errors import InputError, RegistryDenied, RegistryError, RegistryProtocolError, RegistryUnreachable
from regwarden.registries.api import Ability, DeletesManifests, DeletesTags, ProvesBlobs, PutsManifests, Removal
from regwarden.registries.client.credentials import Basic
from regwarden.registries.client.limits import Limits
from regwarden.testing.authentication import BearerAuth
from regwarden.testing.behaviour import Behaviour
from regwarden.testing.content import Content
from regwarden.testing.images import image, index, real_layer
from regwarden.testing.scripted import ScriptedRegistry
from regwarden.testing.scripted_replies import (
    Answer,
    CloseWithoutAnswer,
    Garbage,
    Reply,
    Reset,
    Silence,
    error_reply,
    json_reply,
)
from regwarden.testing.server import SampleRegistry
from tests.registries.conftest import Connect

DIGEST = Digest.of(b"a manifest")
MANIFEST = f"/v2/team/app/manifests/{DIGEST}"
TAG = "/v2/team/app/manifests/1.0"
PROBE = f"/v2/team/app/manifests/sha256:{'0' * 64}"
NO_SUCH_TAG = re.compile(r"/v2/team/app/manifests/regwarden-no-such-tag-[0-9a-f]{32}")
DONE = Reply(202)


def test_the_connector_has_all_abilities_that_change_something(connect: Connect) -> None:
    connector = connect("http://localhost")
    for ability in (DeletesManifests, DeletesTags, PutsManifests, ProvesBlobs):
        assert isinstance(connector, ability)


@pytest.mark.parametrize(
    "fault",
    [
        CloseWithoutAnswer(),
        Reset(),
        Reset(after=Reply(202, headers={"Content-Length": "10"})),
        Silence(30),
        Garbage(),
        Reply(500, b"{}"),
        Reply(502, b"<html>bad gateway</html>"),
        Reply(503, b"", {"Retry-After": "0"}),
        Reply(504),
    ],
    ids=["closed", "reset", "broken", "silent", "garbage", "500", "502", "503", "504"],
)
async def test_nobody_knows_whether_it_was_done_and_it_is_not_asked_again(connect: Connect, fault: Answer) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("GET", "/v2/", json_reply({}))
        registry.expect("DELETE", MANIFEST, fault)
        connector = connect(registry.url, Limits(request_timeout_seconds=1, retry_wait_seconds=0.05))
        await connector.ping()  # so that closing is not the first thing this server ever does
        with pytest.raises(RegistryError) as failed:
            await connector.delete_manifest("team/app", DIGEST)
        assert [request.method for request in registry.requests] == ["GET", "DELETE"]
    status = failed.value.status
    assert status is None or status >= 500, "the mark by which callers know that they must look"
    if status is None and not isinstance(fault, Garbage):
        assert isinstance(failed.value, RegistryUnreachable)
    assert connector.traffic.retries == 0


async def test_a_registry_that_throttles_is_waited_for(connect: Connect) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("DELETE", MANIFEST, Reply(429, b"", {"Retry-After": "0"}), DONE)
        connector = connect(registry.url)
        assert await connector.delete_manifest("team/app", DIGEST) is Removal.REMOVED
    assert connector.traffic.throttled == 1


async def test_a_503_that_says_when_to_come_back_slows_the_requests_after_it(connect: Connect) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("DELETE", MANIFEST, Reply(503, b"", {"Retry-After": "1"}))
        registry.expect("DELETE", TAG, DONE)
        connector = connect(registry.url, Limits(retry_wait_seconds=0.3))
        with pytest.raises(RegistryError):
            await connector.delete_manifest("team/app", DIGEST)
        began = time.monotonic()
        assert await connector.delete_tag("team/app", "1.0") is Removal.REMOVED
        assert time.monotonic() - began > 0.2


@pytest.mark.parametrize("answer", [Reply(200), Reply(202), Reply(204)])
async def test_every_success_is_one(connect: Connect, answer: Answer) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("DELETE", MANIFEST, answer)
        assert await connect(registry.url).delete_manifest("team/app", DIGEST) is Removal.REMOVED


@pytest.mark.parametrize("code", ["MANIFEST_UNKNOWN", "NAME_UNKNOWN"])
async def test_an_honest_404_is_already_gone(connect: Connect, code: str) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("DELETE", MANIFEST, error_reply(404, code))
        assert await connect(registry.url).delete_manifest("team/app", DIGEST) is Removal.ALREADY_GONE


@pytest.mark.parametrize(
    "answer",
    [
        Reply(404, b"404 page not found"),
        Reply(404, b"<html>nothing here</html>", {"Content-Type": "text/html"}),
        Reply(301, headers={"Location": "/elsewhere"}),
        Reply(307, headers={"Location": "http://127.0.0.1:1/"}),
        error_reply(400, "UNKNOWN"),
        error_reply(409, "CONFLICT"),
    ],
    ids=["404 text", "404 page", "301", "307", "400", "409"],
)
async def test_an_unclear_answer_is_neither_done_nor_gone(connect: Connect, answer: Answer) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("DELETE", MANIFEST, answer)
        with pytest.raises(RegistryProtocolError):
            await connect(registry.url).delete_manifest("team/app", DIGEST)


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        (error_reply(405, "UNSUPPORTED"), "delete-disabled", "REGISTRY_STORAGE_DELETE_ENABLED=true"),
        (Reply(405, b"Method not allowed", {"Allow": "GET, HEAD"}), "registry-read-only", "maintenance"),
        (error_reply(409, "MANIFEST_REFERENCED"), "manifest-referenced", "index"),
        (error_reply(403, "DENIED"), "registry-denied", ""),
    ],
)
async def test_each_refusal_has_its_code_and_says_what_to_do(
    connect: Connect, answer: Answer, code: str, words: str
) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("DELETE", MANIFEST, answer)
        with pytest.raises(RegistryError) as refused:
            await connect(registry.url).delete_manifest("team/app", DIGEST)
    assert refused.value.code == code
    assert words in refused.value.hint


@pytest.mark.parametrize("answer", [error_reply(400, "DIGEST_INVALID"), error_reply(405, "UNSUPPORTED"), Reply(405)])
async def test_a_registry_that_cannot_untag_says_so(connect: Connect, answer: Answer) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("DELETE", TAG, answer)
        registry.expect("DELETE", NO_SUCH_TAG, answer)
        connector = connect(registry.url)
        with pytest.raises(RegistryError) as refused:
            await connector.delete_tag("team/app", "1.0")
        assert refused.value.code == "untag-unsupported"
        assert await connector.probe_untag("team/app") is Ability.UNSUPPORTED


@pytest.mark.parametrize("tag", [str(DIGEST), "", "a/b", "x y", "..", "a?b"])
async def test_what_is_no_tag_is_never_sent_as_one(connect: Connect, tag: str) -> None:
    async with ScriptedRegistry() as registry:
        with pytest.raises(InputError):
            await connect(registry.url).delete_tag("team/app", tag)
    assert registry.requests == []


@pytest.mark.parametrize(
    ("answer", "ability"),
    [
        (error_reply(404, "MANIFEST_UNKNOWN"), Ability.SUPPORTED),
        (DONE, Ability.SUPPORTED),
        (Reply(404), Ability.UNKNOWN),
    ],
)
async def test_untagging_is_probed_with_a_tag_that_nobody_else_can_know(
    connect: Connect, answer: Answer, ability: Ability
) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("DELETE", NO_SUCH_TAG, answer, answer)
        connector = connect(registry.url)
        assert await connector.probe_untag("team/app") is ability
        await connector.probe_untag("team/app")
    assert registry.requests[0].target != registry.requests[1].target


async def test_a_probe_that_is_refused_is_an_error_and_not_an_answer(connect: Connect) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("DELETE", PROBE, error_reply(403, "DENIED"))
        registry.expect("DELETE", NO_SUCH_TAG, error_reply(403, "DENIED"))
        connector = connect(registry.url)
        for probe in (connector.probe_delete, connector.probe_untag):
            with pytest.raises(RegistryDenied):
                await probe("team/app")


async def test_only_the_right_to_delete_in_this_repository_is_asked_for(connect: Connect) -> None:
    content = Content()
    built = image([])
    content.repository("team/app").add(built, "1.0")
    auth = BearerAuth({"ann": "pw"}, denied_repositories=frozenset({"team/other"}))
    async with SampleRegistry(content, auth=auth, behaviour=Behaviour.distribution_3()) as registry:
        connector = connect(registry.url, credentials=Basic("ann", "pw"))
        assert await connector.delete_tag("team/app", "1.0") is Removal.REMOVED
        assert await connector.delete_manifest("team/app", built.digest) is Removal.REMOVED
        queries = [request.query for request in registry.requests if request.path == "/token"]
        assert len(queries) == 1, "the token is used again"
        assert "repository:team/app:pull,delete" in queries[0]
        assert "push" not in queries[0]
        with pytest.raises(RegistryDenied) as denied:
            await connector.delete_manifest("team/other", built.digest)
    assert "right to delete" in denied.value.hint


async def test_a_registry_that_keeps_the_children_of_indexes_is_understood(connect: Connect) -> None:
    content = Content()
    child = image([real_layer(b"x")])
    built = index([child])
    content.repository("team/app").add(built, "1.0")
    async with SampleRegistry(content, behaviour=Behaviour(keeps_children=True)) as registry:
        connector = connect(registry.url)
        with pytest.raises(RegistryError) as refused:
            await connector.delete_manifest("team/app", child.digest)
        assert refused.value.code == "manifest-referenced"
        assert await connector.delete_manifest("team/app", built.digest) is Removal.REMOVED
        assert await connector.delete_manifest("team/app", child.digest) is Removal.REMOVED
