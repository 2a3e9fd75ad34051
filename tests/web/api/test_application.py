"""What every route of ``/api/v1`` shares."""

from __future__ import annotations

import gzip

import pytest

from tests.web.api.conftest import Api


async def test_a_list_is_hal(api: Api):
    answer = await api.get("/registries")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/hal+json")
    assert [row["registry"] for row in answer.items] == ["other", "prod"]
    assert answer.json["_links"]["self"] == {"href": "/api/v1/registries"}


async def test_without_a_token_and_with_a_wrong_one(api: Api):
    for headers in ({}, {"Authorization": "Bearer other"}, {"Authorization": "Basic eDp5"}):
        answer = await api.get("/registries", who=None, headers=headers)
        assert (answer.status, answer.json["code"]) == (401, "unauthorized")
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.headers["content-type"] == "application/problem+json"


async def test_somebody_without_a_role_is_refused(api: Api):
    answer = await api.get("/registries", who="nobody")
    assert (answer.status, answer.json["code"]) == (403, "forbidden")


async def test_unknown_and_wrong_parameters_are_named(api: Api):
    answer = await api.get("/registries?limt=3")
    assert (answer.status, answer.json["code"]) == (400, "unknown-parameter")
    assert answer.json["errors"][0]["field"] == "limt"
    assert answer.json["hint"] == "Did you mean limit?"
    for text in ("0", "1001", "x", "-1"):
        answer = await api.get(f"/registries?limit={text}")
        assert (answer.status, answer.json["errors"][0]["field"]) == (400, "limit")


async def test_what_is_not_there_and_what_cannot_be_done(api: Api):
    assert (await api.get("/nothing")).status == 404
    assert (await api.get("/registries/")).status == 404
    answer = await api.ask("POST", "/registries")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


async def test_whoever_has_an_answer_learns_that_it_holds(api: Api):
    first = await api.get("/registries")
    tag = first.headers["etag"]
    for given in (tag, f'"x", {tag}', "*", tag.removeprefix("W/")):
        again = await api.get("/registries", headers={"If-None-Match": given})
        assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)
    assert (await api.get("/registries", headers={"If-None-Match": '"x"'})).status == 200


async def test_head_is_get_without_the_body(api: Api):
    got, head = await api.get("/registries"), await api.ask("HEAD", "/registries")
    assert (head.status, head.body) == (200, b"")
    assert head.headers == got.headers


async def test_long_answers_are_compressed(api: Api):
    plain = await api.get("/registries")
    packed = await api.get("/registries", headers={"Accept-Encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body
    assert "Accept-Encoding" in plain.headers["vary"]


async def test_every_answer_has_the_headers_that_protect(api: Api):
    for path in ("/registries", "/nothing"):
        headers = (await api.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["content-security-policy"].startswith("default-src 'none'")


async def test_a_body_that_is_too_large_is_refused(api: Api):
    answer = await api.ask("POST", "/registries", b"x" * (4 * 1024 * 1024 + 1), headers={"Content-Length": "4194305"})
    assert (answer.status, answer.json["code"]) == (413, "body-too-large")


async def test_it_answers_on_a_listener(api: Api):
    import aiohttp

    async with (
        api.served() as address,
        aiohttp.ClientSession(headers={"Authorization": "Bearer viewer"}) as session,
        session.get(f"{address}/api/v1/registries") as answer,
    ):
        assert answer.status == 200


async def test_a_stream_is_not_streamed_for_its_head(api: Api):
    answer = await api.ask("HEAD", "/exports/tag")
    assert (answer.status, answer.body, answer.headers["content-type"]) == (200, b"", "text/csv; charset=utf-8")


@pytest.mark.parametrize("headers", [{"Content-Length": "70000"}, {"Transfer-Encoding": "chunked"}])
async def test_nothing_large_is_read_of_strangers(api: Api, headers: dict[str, str]) -> None:
    body = b"{" + b" " * 70_000
    refused = await api.ask("POST", "/plans", body, who=None, headers=headers)
    assert (refused.status, refused.headers["www-authenticate"]) == (401, 'Bearer realm="regwarden"')
    assert refused.headers["x-content-type-options"] == "nosniff"
    assert (await api.ask("POST", "/plans", body, who="cleaner", headers=headers)).status == 400
    long = await api.ask("POST", "/plans", b"", headers={"Content-Length": "9" * 5000})
    assert long.status == 413
