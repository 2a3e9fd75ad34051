"""Pushing to and deleting from the sample registry, and the notifications this causes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from regwarden.core.oci import media_types
from regwarden.core.oci.digests import Digest
from regwarden.testing.behaviour import Behaviour
from regwarden.testing.content import Content
from regwarden.testing.images import artifact, image, layer, real_layer
from regwarden.testing.notifications import Endpoint
from regwarden.testing.server import SampleRegistry

ALL = {"Accept": ", ".join(media_types.ACCEPT_MANIFESTS)}
NOWHERE = Digest.of(b"nowhere")


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def _ask(http, method, url, body=None, **headers):
    async with http.request(method, url, data=body, headers=headers) as response:
        return response, await response.read()


async def _push_blob(http, registry, name, content):
    opened, _ = await _ask(http, "POST", f"{registry.url}/v2/{name}/blobs/uploads/")
    assert opened.status == 202
    half = len(content) // 2
    patched, _ = await _ask(http, "PATCH", opened.headers["Location"], content[:half])
    location = patched.headers["Location"]
    return await _ask(http, "PUT", f"{location}&digest={Digest.of(content)}", content[half:])


async def test_a_pushed_image_can_be_pulled_and_was_announced(http):
    built = image([real_layer(b"layer")])
    async with SampleRegistry(Content()) as registry:
        for blob in built.blobs:
            response, _ = await _push_blob(http, registry, "team/app", blob.content)
            assert response.status == 201
            assert response.headers["Docker-Content-Digest"] == str(blob.digest)
        url = f"{registry.url}/v2/team/app/manifests/1.0"
        response, _ = await _ask(http, "PUT", url, built.payload, **{"Content-Type": built.media_type})
        assert response.status == 201
        assert "OCI-Subject" not in response.headers
        assert (await _ask(http, "GET", url, **ALL))[1] == built.payload
    facts = [(event.action, event.repository, event.tag, event.is_manifest) for event in registry.events]
    assert facts == [
        ("push", "team/app", "", False),
        ("push", "team/app", "", False),
        ("push", "team/app", "1.0", True),
        ("pull", "team/app", "1.0", True),
    ]


async def test_a_blob_with_another_digest_is_refused(http):
    async with SampleRegistry(Content()) as registry:
        opened, _ = await _ask(http, "POST", f"{registry.url}/v2/app/blobs/uploads/")
        response, body = await _ask(http, "PUT", f"{opened.headers['Location']}&digest={NOWHERE}", b"x")
    assert (response.status, json.loads(body)["errors"][0]["code"]) == (400, "DIGEST_INVALID")
    assert registry.events == []


async def test_a_manifest_that_lacks_blobs_is_refused_with_each_of_them(http):
    built = image([layer("a", 10), layer("b", 10)])
    async with SampleRegistry(Content()) as registry:
        url = f"{registry.url}/v2/app/manifests/1"
        response, body = await _ask(http, "PUT", url, built.payload, **{"Content-Type": built.media_type})
        assert response.status == 400
        assert {error["detail"] for error in json.loads(body)["errors"]} == {str(blob.digest) for blob in built.blobs}
        for payload, kind in ((b"{}", "text/plain"), (b"{", built.media_type)):
            response, body = await _ask(http, "PUT", url, payload, **{"Content-Type": kind})
            assert (response.status, json.loads(body)["errors"][0]["code"]) == (400, "MANIFEST_INVALID")


async def test_a_blob_is_mounted_from_another_repository(http):
    content = Content()
    blob = real_layer(b"shared").blob
    content.repository("one").blobs[blob.digest] = blob
    async with SampleRegistry(content) as registry:
        uploads = f"{registry.url}/v2/two/blobs/uploads/"
        assert (await _ask(http, "POST", f"{uploads}?mount={blob.digest}&from=one"))[0].status == 201
        assert (await _ask(http, "POST", f"{uploads}?mount={NOWHERE}&from=one"))[0].status == 202
        assert (await _ask(http, "GET", f"{registry.url}/v2/two/blobs/{blob.digest}"))[1] == b"shared"
    assert (registry.events[0].action, registry.events[0].target.from_repository) == ("mount", "one")


async def test_the_subject_is_confirmed_where_the_referrers_api_exists(http):
    content = Content()
    subject = image([])
    bill = artifact("application/x", [real_layer(b"x")], subject=subject)
    content.repository("app").add(subject, "1")
    content.repository("app").blobs.update({blob.digest: blob for blob in bill.blobs})
    async with SampleRegistry(content, behaviour=Behaviour.oci_1_1()) as registry:
        url = f"{registry.url}/v2/app/manifests/{bill.digest}"
        response, _ = await _ask(http, "PUT", url, bill.payload, **{"Content-Type": bill.media_type})
        assert response.headers["OCI-Subject"] == str(subject.digest)
        _, body = await _ask(http, "GET", f"{registry.url}/v2/app/referrers/{subject.digest}")
    assert [entry["digest"] for entry in json.loads(body)["manifests"]] == [str(bill.digest)]


async def test_deleting_by_digest_takes_the_tags_and_says_so_one_by_one(http):
    content = Content()
    digest = content.repository("app").add(image([]), "1", "2")
    async with SampleRegistry(content) as registry:
        url = f"{registry.url}/v2/app/manifests/{digest}"
        assert (await _ask(http, "DELETE", url))[0].status == 202
        assert (await _ask(http, "DELETE", url))[0].status == 404
    assert [(event.digest, event.tag) for event in registry.events] == [(digest, ""), (None, "1"), (None, "2")]
    assert len({event.caller.request_id for event in registry.events}) == 1


async def test_deleting_by_tag_and_deleting_at_all_can_be_off(http):
    content = Content()
    digest = content.repository("app").add(image([]), "1", "2")
    async with SampleRegistry(content) as registry:
        url = f"{registry.url}/v2/app/manifests/1"
        assert (await _ask(http, "DELETE", url))[0].status == 400
        registry.behaviour.can_delete_tag = True
        assert (await _ask(http, "DELETE", url))[0].status == 202
        assert content.repository("app").tags == {"2": digest}
        registry.behaviour.can_delete = False
        response, body = await _ask(http, "DELETE", f"{registry.url}/v2/app/manifests/{NOWHERE}")
        assert (response.status, json.loads(body)["errors"][0]["code"]) == (405, "UNSUPPORTED")


@pytest.mark.parametrize("generation", [2, 3])
async def test_events_are_posted_in_order_until_they_are_taken(http, generation):
    received: list[tuple[str, dict]] = []
    answers = [503, 200, 200, 200]

    async def take(request: web.BaseRequest) -> web.Response:
        received.append((request.headers["Content-Type"], await request.json()))
        assert request.headers["Authorization"] == "Bearer x"
        return web.Response(status=answers.pop(0))

    runner = web.ServerRunner(web.Server(take))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    content = Content()
    digest = content.repository("app").add(image([]), "1")
    endpoint = Endpoint(f"http://127.0.0.1:{port}/", (("Authorization", "Bearer x"),), backoff_seconds=0.01)
    behaviour = Behaviour.distribution_2() if generation == 2 else Behaviour.distribution_3()
    async with SampleRegistry(content, behaviour=behaviour, notify=endpoint) as registry:
        await _ask(http, "HEAD", f"{registry.url}/v2/app/manifests/1", **ALL, **{"User-Agent": "probe/1"})
        await _ask(http, "DELETE", f"{registry.url}/v2/app/manifests/{digest}")
        await registry.flush_events()
    await runner.cleanup()
    events = [body["events"][0] for _, body in received]
    assert [event["action"] for event in events] == ["pull", "pull", "delete", "delete"]
    assert events[0] == events[1]  # the refused event came again, unchanged
    assert events[0]["request"]["useragent"] == "probe/1"
    assert events[0]["request"]["method"] == "HEAD"
    assert events[0]["target"]["tag"] == "1"
    assert events[0]["target"]["url"].endswith(f"/v2/app/manifests/{digest}")
    kind, untagged = received[3][0], events[3]["target"]
    if generation == 2:
        assert kind.endswith("v1+json")
        assert untagged == {"repository": "app", "tag": "1"}
    else:
        assert kind.endswith("v2+json")
        assert untagged == {"mediaType": "", "digest": "", "size": 0, "repository": "app", "tag": "1"}


async def test_a_thousand_tags_are_read_in_a_few_seconds(http):
    content = Content()
    repository = content.repository("app")
    for number in range(1000):
        repository.add(image([layer(str(number), 10)]), f"1.{number}")
    async with SampleRegistry(content) as registry, asyncio.timeout(5):
        slots = asyncio.Semaphore(8)

        async def fetch(tag: str) -> int:
            async with slots:
                return (await _ask(http, "GET", f"{registry.url}/v2/app/manifests/{tag}", **ALL))[0].status

        statuses = await asyncio.gather(*(fetch(f"1.{number}") for number in range(1000)))
    assert statuses == [200] * 1000
