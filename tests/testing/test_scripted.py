"""The scripted registry keeps to its script, fails the test otherwise, and can break an answer in every way."""

from __future__ import annotations

import re
import urllib.request

import aiohttp
import pytest

from regwarden.testing.scripted import ScriptedRegistry, running_scripted_registry
from regwarden.testing.scripted_replies import (
    CloseWithoutAnswer,
    EndlessBody,
    Garbage,
    Reply,
    Reset,
    Silence,
    SlowDrip,
    Truncated,
    blob_reply,
    catalog_reply,
    challenge_reply,
    error_reply,
    manifest_reply,
    not_modified_reply,
    tags_reply,
    token_reply,
)


async def _get(url, method="GET", timeout_seconds=5.0, **headers):
    timeout = aiohttp.ClientTimeout(total=timeout_seconds)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.request(method, url, headers=headers) as response,
    ):
        return response.status, await response.read(), response.headers


async def test_answers_come_in_turn_for_each_request():
    async with ScriptedRegistry() as registry:
        registry.expect("GET", "/v2/a/tags/list", error_reply(503), tags_reply("a", ["1"]))
        registry.expect("GET", "/v2/", Reply(200, b"{}"), is_repeated=True)
        assert (await _get(f"{registry.url}/v2/"))[0] == 200
        assert (await _get(f"{registry.url}/v2/a/tags/list"))[0] == 503
        assert (await _get(f"{registry.url}/v2/"))[0] == 200
        assert (await _get(f"{registry.url}/v2/a/tags/list"))[1] == b'{"name": "a", "tags": ["1"]}'


async def _play(targets, *, script, is_ordered=False):
    async with ScriptedRegistry(is_ordered=is_ordered) as registry:
        for target in script:
            registry.expect("GET", target, Reply(200))
        return [(await _get(registry.url + target))[0] for target in targets]


async def test_an_unscripted_request_fails_the_test():
    with pytest.raises(AssertionError, match="not in the script: GET /v2/surprise"):
        await _play(["/v2/surprise"], script=[])


async def test_a_request_that_does_not_come_fails_the_test_unless_optional():
    async with ScriptedRegistry() as registry:
        registry.expect("GET", "/v2/", Reply(200), is_optional=True)
    with pytest.raises(AssertionError, match="did not come: GET /v2/"):
        await _play([], script=["/v2/"])


async def test_one_request_more_than_answers_fails_the_test():
    with pytest.raises(AssertionError, match="not in the script"):
        await _play(["/v2/", "/v2/"], script=["/v2/"])


async def test_the_error_of_the_test_itself_is_not_hidden():
    async def fail() -> None:
        async with ScriptedRegistry() as registry:
            registry.expect("GET", "/v2/", Reply(200))
            raise KeyError

    with pytest.raises(KeyError):
        await fail()


async def test_ordered_scripts_insist_on_their_order():
    assert await _play(["/a", "/b"], script=["/a", "/b"], is_ordered=True) == [200, 200]
    assert await _play(["/b", "/a"], script=["/a", "/b"]) == [200, 200]
    with pytest.raises(AssertionError, match="not in the script: GET /b"):
        await _play(["/b", "/a", "/b"], script=["/a", "/b"], is_ordered=True)


async def test_targets_and_headers_choose_the_exchange():
    async with ScriptedRegistry() as registry:
        registry.expect("GET", "/v2/_catalog?n=5&last=a", catalog_reply(["b"]))
        registry.expect("GET", re.compile(r"/v2/x/blobs/.*"), blob_reply(b"blob"))
        registry.expect("GET", "/m", not_modified_reply(), headers={"If-None-Match": "x"})
        registry.expect("GET", "/m", manifest_reply(b"{}"), headers={"If-None-Match": None})
        registry.expect(
            "GET", "/m", Reply(201), headers={"If-None-Match": lambda value: value is not None and value > "y"}
        )
        assert (await _get(f"{registry.url}/v2/_catalog?last=a&n=5"))[0] == 200
        assert (await _get(f"{registry.url}/v2/x/blobs/sha256:1"))[1] == b"blob"
        assert (await _get(f"{registry.url}/m"))[0] == 200
        assert (await _get(f"{registry.url}/m", **{"If-None-Match": "z"}))[0] == 201
        status, body, headers = await _get(f"{registry.url}/m", **{"If-None-Match": "x"})
        assert (status, body) == (304, b"")
        assert "Content-Length" not in headers


async def test_replies_say_what_registries_say():
    async with ScriptedRegistry() as registry:
        registry.expect("GET", "/1", challenge_reply('Bearer realm="r"', 'Basic realm="b"'))
        registry.expect("GET", "/2", token_reply("t", field_name="access_token", expires_in=None))
        registry.expect("GET", "/3", catalog_reply(["a"], next_target="/v2/_catalog?last=a"))
        registry.expect("GET", "/4", tags_reply("a", None))
        registry.expect("HEAD", "/5", manifest_reply(b"{}", digest="sha256:lie"))
        assert (await _get(f"{registry.url}/1"))[2]["WWW-Authenticate"] == 'Bearer realm="r", Basic realm="b"'
        assert (await _get(f"{registry.url}/2"))[1] == b'{"access_token": "t"}'
        assert (await _get(f"{registry.url}/3"))[2]["Link"] == '</v2/_catalog?last=a>; rel="next"'
        assert b"null" in (await _get(f"{registry.url}/4"))[1]
        status, body, headers = await _get(f"{registry.url}/5", method="HEAD")
        assert (status, body, headers["Content-Length"]) == (200, b"", "2")
        assert headers["Docker-Content-Digest"] == "sha256:lie"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (CloseWithoutAnswer(), aiohttp.ServerDisconnectedError),
        (Reset(), aiohttp.ClientOSError),
        (Reset(after=Reply(200, b"x" * 100)), (aiohttp.ClientOSError, aiohttp.ClientPayloadError)),
        (Truncated(Reply(200, b"x" * 100), 50), aiohttp.ClientPayloadError),
        (Garbage(), aiohttp.ClientResponseError),
        (Silence(), TimeoutError),
        (EndlessBody(), TimeoutError),
        (SlowDrip(Reply(200, b"x" * 100), pause_seconds=0.1), TimeoutError),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_an_answer_can_break_in_every_way(answer, error):
    async with ScriptedRegistry() as registry:
        registry.expect(
            "POST", "/v2/", answer
        )  # POST, because clients repeat a GET on a closed connection by themselves
        with pytest.raises(error):
            await _get(f"{registry.url}/v2/", method="POST", timeout_seconds=0.3)


async def test_a_slow_answer_arrives_whole_in_the_end():
    async with ScriptedRegistry() as registry:
        registry.expect("GET", "/", SlowDrip(Reply(200, b"all of it"), piece_bytes=4, pause_seconds=0.001))
        assert (await _get(f"{registry.url}/"))[1] == b"all of it"


def test_it_runs_in_a_thread_and_verifies_there():
    def script(registry: ScriptedRegistry) -> None:
        registry.expect("GET", "/v2/", Reply(200, b"{}"))

    with running_scripted_registry(script) as registry:
        assert urllib.request.urlopen(f"{registry.url}/v2/").read() == b"{}"
    with pytest.raises(AssertionError, match="did not come"), running_scripted_registry(script):
        pass
