"""The sample registry answers as Distribution does (``registries.md`` 3 and 4), asked with a plain HTTP client."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import aiohttp
import pytest

from regwarden.core.oci import media_types
from regwarden.core.oci.digests import Digest
from regwarden.testing.behaviour import Behaviour, Fault
from regwarden.testing.content import Content
from regwarden.testing.images import artifact, image, image_config, index, layer, real_layer
from regwarden.testing.server import SampleRegistry, running_sample_registry

ALL = {"Accept": ", ".join(media_types.ACCEPT_MANIFESTS)}
NOWHERE = Digest.of(b"nowhere")


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def _get(http, url, **headers):
    async with http.get(url, headers=headers, allow_redirects=False) as response:
        return response, await response.read()


def _code(body: bytes) -> str:
    return json.loads(body)["errors"][0]["code"]


async def test_the_base_path_says_that_this_is_a_registry(http):
    async with SampleRegistry(Content()) as registry:
        response, body = await _get(http, f"{registry.url}/v2/")
        assert (response.status, body) == (200, b"{}\n")
        assert response.headers["Docker-Distribution-Api-Version"] == "registry/2.0"
        assert (await _get(http, f"{registry.url}/v2"))[0].status == 301
        nothing, body = await _get(http, f"{registry.url}/v2/UPPER/tags/list")
        assert (nothing.status, body) == (404, b"404 page not found\n")


async def test_the_catalog_is_paged_by_relative_links(http):
    content = Content()
    for name in ("b", "a", "c/d", "c"):
        content.repository(name)
    async with SampleRegistry(content) as registry:
        response, body = await _get(http, f"{registry.url}/v2/_catalog?n=3")
        assert json.loads(body) == {"repositories": ["a", "b", "c"]} or json.loads(body)["repositories"][:2] == [
            "a",
            "b",
        ]
        link = response.headers["Link"]
        assert link.startswith("</v2/_catalog?last=")
        assert link.endswith('&n=3>; rel="next"')
        target = link[1 : link.index(">")]
        response, body = await _get(http, registry.url + target)
        assert len(json.loads(body)["repositories"]) == 1
        assert "Link" not in response.headers


async def test_a_page_larger_than_the_limit_is_refused(http):
    async with SampleRegistry(Content()) as registry:
        response, body = await _get(http, f"{registry.url}/v2/_catalog?n=1001")
        assert (response.status, _code(body)) == (400, "PAGINATION_NUMBER_INVALID")
        assert (await _get(http, f"{registry.url}/v2/_catalog?n=abc"))[0].status == 200
    async with SampleRegistry(Content(), behaviour=Behaviour.distribution_3()) as registry:
        assert (await _get(http, f"{registry.url}/v2/_catalog?n=abc"))[0].status == 400


async def test_a_page_that_ends_between_a_digit_child_and_its_parent_loses_the_parent(http):
    content = Content()
    for name in ("a", "a/1b", "z"):
        content.repository(name)
    async with SampleRegistry(content) as registry:
        _, first = await _get(http, f"{registry.url}/v2/_catalog?n=1")
        _, rest = await _get(http, f"{registry.url}/v2/_catalog?n=5&last=a/1b")
    assert (json.loads(first)["repositories"], json.loads(rest)["repositories"]) == (["a/1b"], ["z"])


async def test_generation_2_lists_all_tags_in_no_order_and_ignores_paging(http):
    content = Content()
    tags = [f"1.{number}" for number in range(20)]
    content.repository("app").add(image([]), *tags)
    async with SampleRegistry(content) as registry:
        response, body = await _get(http, f"{registry.url}/v2/app/tags/list?n=3")
    listed = json.loads(body)["tags"]
    assert sorted(listed) == sorted(tags)
    assert listed != sorted(listed)
    assert "Link" not in response.headers


async def test_generation_3_pages_tags_and_links_on_at_the_exact_end(http):
    content = Content()
    content.repository("app").add(image([]), "a", "b", "c", "d")
    async with SampleRegistry(content, behaviour=Behaviour.distribution_3()) as registry:
        whole, body = await _get(http, f"{registry.url}/v2/app/tags/list")
        assert json.loads(body)["tags"] == ["a", "b", "c", "d"]
        assert "Link" not in whole.headers
        response, body = await _get(http, f"{registry.url}/v2/app/tags/list?n=2&last=b")
        assert json.loads(body)["tags"] == ["c", "d"]
        assert response.headers["Link"] == '</v2/app/tags/list?last=d&n=2>; rel="next"'
        _, body = await _get(http, f"{registry.url}/v2/app/tags/list?n=2&last=d")
        assert json.loads(body)["tags"] is None


async def test_no_tags_is_null_and_never_a_tag_is_name_unknown(http):
    content = Content()
    lost = content.repository("lost")
    lost.delete_manifest(lost.add(image([]), "1"))
    content.repository("never")
    async with SampleRegistry(content) as registry:
        response, body = await _get(http, f"{registry.url}/v2/lost/tags/list")
        assert (response.status, json.loads(body)["tags"]) == (200, None)
        response, body = await _get(http, f"{registry.url}/v2/never/tags/list")
        assert (response.status, _code(body)) == (404, "NAME_UNKNOWN")


async def test_hidden_names_are_left_out_of_lists_but_answer(http):
    content = Content()
    content.repository("app").add(image([]), "1", "2")
    content.repository("shy").add(image([]), "1")
    behaviour = Behaviour(hidden_repositories={"shy"}, hidden_tags={"app:2"})
    async with SampleRegistry(content, behaviour=behaviour) as registry:
        assert json.loads((await _get(http, f"{registry.url}/v2/_catalog"))[1])["repositories"] == ["app"]
        assert json.loads((await _get(http, f"{registry.url}/v2/app/tags/list"))[1])["tags"] == ["1"]
        assert (await _get(http, f"{registry.url}/v2/app/manifests/2", **ALL))[0].status == 200
        assert (await _get(http, f"{registry.url}/v2/shy/tags/list"))[0].status == 200


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_manifest_comes_with_digest_etag_type_and_length(http, method):
    content = Content()
    built = image([layer("a", 10)])
    content.repository("app").add(built, "1")
    async with (
        SampleRegistry(content) as registry,
        http.request(method, f"{registry.url}/v2/app/manifests/1", headers=ALL) as response,
    ):
        body = await response.read()
    assert response.headers["Docker-Content-Digest"] == str(built.digest)
    assert response.headers["Etag"] == f'"{built.digest}"'
    assert response.headers["Content-Length"] == str(len(built.payload))
    assert response.headers["Content-Type"] == built.media_type
    assert body == (built.payload if method == "GET" else b"")


async def test_only_the_exact_etag_is_not_modified(http):
    content = Content()
    digest = content.repository("app").add(image([]), "1")
    async with SampleRegistry(content) as registry:
        url = f"{registry.url}/v2/app/manifests/1"
        for value, status in (
            (f'"{digest}"', 304),
            (str(digest), 304),
            (f'W/"{digest}"', 200),
            ("*", 200),
            (f'"{NOWHERE}"', 200),
            (f'"{NOWHERE}", "{digest}"', 200),
        ):
            response, body = await _get(http, url, **ALL, **{"If-None-Match": value})
            assert response.status == status, value
            assert (body == b"") == (status == 304)
        assert len(registry.pull_events) == 4
        assert [request.is_conditional for request in registry.requests] == [True] * 6


async def test_a_dangling_tag_is_not_modified_and_yet_unknown(http):
    content = Content()
    content.repository("app").set_tag("1", NOWHERE)
    async with SampleRegistry(content) as registry:
        url = f"{registry.url}/v2/app/manifests/1"
        assert (await _get(http, url, **ALL, **{"If-None-Match": f'"{NOWHERE}"'}))[0].status == 304
        response, body = await _get(http, url, **ALL)
    assert (response.status, _code(body)) == (404, "MANIFEST_UNKNOWN")


async def test_oci_content_without_an_oci_accept_is_404_and_a_pull_event(http):
    content = Content()
    child = image([])
    content.repository("app").add(index([child]), "1")
    async with SampleRegistry(content) as registry:
        for reference in ("1", str(child.digest)):
            response, body = await _get(http, f"{registry.url}/v2/app/manifests/{reference}", Accept="*/*")
            assert response.status == 404
            assert "accept header does not support" in json.loads(body)["errors"][0]["message"]
        assert len(registry.pull_events) == 2
        registry.behaviour.generation = 3
        assert (await _get(http, f"{registry.url}/v2/app/manifests/1", Accept="*/*"))[0].status == 200


async def test_docker_content_is_converted_for_clients_that_do_not_ask_for_it(http):
    content = Content()
    children = [image([], image_config(platform), oci=False) for platform in ("linux/arm64", "linux/amd64")]
    repository = content.repository("app")
    repository.add(index(children, oci=False), "list")
    repository.add(children[1], "image")
    async with SampleRegistry(content) as registry:
        response, body = await _get(http, f"{registry.url}/v2/app/manifests/list", Accept=media_types.DOCKER_MANIFEST)
        assert response.headers["Docker-Content-Digest"] == str(children[1].digest)
        assert body == children[1].payload
        response, body = await _get(http, f"{registry.url}/v2/app/manifests/image", Accept="*/*")
        assert response.content_type == media_types.SCHEMA_1_SIGNED
        assert json.loads(body)["schemaVersion"] == 1
        response, _ = await _get(http, f"{registry.url}/v2/app/manifests/{children[1].digest}", Accept="*/*")
        assert response.content_type == media_types.DOCKER_MANIFEST


async def test_a_blob_asked_for_as_a_manifest_is_an_internal_error(http):
    content = Content()
    blob = layer("a", 10)
    content.repository("app").add(image([blob]), "1")
    async with SampleRegistry(content) as registry:
        assert (await _get(http, f"{registry.url}/v2/app/manifests/{blob.blob.digest}", **ALL))[0].status == 500
        assert (await _get(http, f"{registry.url}/v2/app/manifests/sha256:abc", **ALL))[0].status == 500


async def test_blobs_are_served_whole_in_part_and_by_head(http):
    content = Content()
    real, huge = real_layer(b"0123456789"), layer("huge", 9 * 2**30)
    content.repository("app").add(image([real, huge]), "1")
    async with SampleRegistry(content) as registry:
        url = f"{registry.url}/v2/app/blobs/{real.blob.digest}"
        assert (await _get(http, url))[1] == b"0123456789"
        response, body = await _get(http, url, Range="bytes=2-4")
        assert (response.status, body, response.headers["Content-Range"]) == (206, b"234", "bytes 2-4/10")
        assert (await _get(http, url, Range="bytes=20-30"))[0].status == 416
        assert (await _get(http, url, **{"If-None-Match": f'"{real.blob.digest}"'}))[0].status == 304
        huge_url = f"{registry.url}/v2/app/blobs/{huge.blob.digest}"
        async with http.head(huge_url) as response:
            assert response.headers["Content-Length"] == str(9 * 2**30)
        response, body = await _get(http, huge_url, Range=f"bytes={9 * 2**30 - 5}-")
        assert (response.status, len(body)) == (206, 5)
        response, body = await _get(http, f"{registry.url}/v2/app/blobs/{NOWHERE}")
        assert (response.status, _code(body)) == (404, "BLOB_UNKNOWN")


async def test_referrers_exist_only_where_switched_on(http):
    content = Content()
    subject = image([])
    repository = content.repository("app")
    repository.add(subject, "1")
    kinds = ("application/a", "application/b")
    for kind in kinds:
        repository.add(artifact(kind, [real_layer(kind.encode())], subject=subject, annotations={"kind": kind}))
    async with SampleRegistry(content) as registry:
        url = f"{registry.url}/v2/app/referrers/{subject.digest}"
        assert (await _get(http, url))[1] == b"404 page not found\n"
        registry.behaviour.has_referrers_api = True
        response, body = await _get(http, url)
        assert response.content_type == media_types.OCI_INDEX
        entries = json.loads(body)["manifests"]
        assert {entry["artifactType"] for entry in entries} == set(kinds)
        assert {entry["annotations"]["kind"] for entry in entries} == set(kinds)
        response, body = await _get(http, f"{url}?artifactType=application/a")
        assert response.headers["OCI-Filters-Applied"] == "artifactType"
        assert len(json.loads(body)["manifests"]) == 1
        registry.behaviour.referrers_page_limit = 1
        response, first = await _get(http, url)
        link = response.headers["Link"]
        response, second = await _get(http, registry.url + link[1 : link.index(">")])
        assert "Link" not in response.headers
        assert json.loads(first)["manifests"] != json.loads(second)["manifests"]


async def test_faults_are_given_once_each_in_order(http):
    content = Content()
    content.repository("app").add(image([]), "1")
    behaviour = Behaviour()
    behaviour.faults[("GET", r"/v2/app/.*")] = [Fault(429, headers=(("Retry-After", "3"),)), Fault(0), Fault(0)]
    async with SampleRegistry(content, behaviour=behaviour) as registry:
        url = f"{registry.url}/v2/app/tags/list"
        response, _ = await _get(http, url)
        assert (response.status, response.headers["Retry-After"]) == (429, "3")
        with pytest.raises(aiohttp.ServerDisconnectedError):  # the client asks once more by itself
            await _get(http, url)
        assert (await _get(http, url))[0].status == 200
        assert [request.status for request in registry.requests] == [429, 0, 0, 200]


def test_it_runs_in_a_thread_for_synchronous_tests():
    import urllib.request

    with running_sample_registry(Content()) as registry, urllib.request.urlopen(f"{registry.url}/v2/") as response:
        assert response.status == 200
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"{registry.url}/v2/")
