"""Registries, repositories, tags, contents and reports over HTTP: the questions of the command line."""

from __future__ import annotations

import asyncio
import csv
import io
from datetime import timedelta
from urllib.parse import quote

import msgspec
import pytest

from regwarden import clock
from regwarden.core.access import Role
from tests.web.api.conftest import Api, area

APP = "/registries/prod/repositories/team%2Fapp"


async def test_the_root_leads_to_every_list(api: Api):
    links = (await api.get("")).json["_links"]
    assert {"registries", "repositories", "tags", "manifests", "blobs", "usage", "problems"} <= set(links)
    assert (await api.get("/")).json["_links"] == links


async def test_every_link_of_the_root_can_be_followed_or_says_what_it_wants(api: Api):
    links = (await api.get("")).json["_links"]
    templates = {name: link["href"] for name, link in links.items() if link.get("templated")}
    assert templates == {
        "history": "/api/v1/history{?reference}",
        "allow-check": "/api/v1/allow/check{?image}",
        "exports": "/api/v1/exports/{noun}",
        "gitlab-cleanup-simulation": "/api/v1/gitlab/cleanup/simulation{?project}",
    }
    for name in links.keys() - templates.keys() - {"events-stream", "allow", "allow-decisions"}:
        answer = await api.get(links[name]["href"].removeprefix("/api/v1"))
        assert answer.status == 200, (name, answer.body)


async def test_every_link_of_an_answer_can_be_followed(api: Api):
    seen: set[str] = set()
    waiting = ["/api/v1/registries", "/api/v1/tags?limit=2", "/api/v1/manifests", "/api/v1/blobs?limit=3"]
    while waiting:
        address = waiting.pop()
        if address in seen or len(seen) > 150:
            continue
        seen.add(address)
        answer = await api.get(address.removeprefix("/api/v1"))
        assert answer.status == 200, (address, answer.body)
        waiting += links_in(answer.json)
    assert any("/history" in address for address in seen)
    assert any("cursor=" in address for address in seen)


def links_in(value: object) -> list[str]:
    if isinstance(value, dict):
        own = [link["href"] for link in value.get("_links", {}).values()]
        return own + [href for name, one in value.items() if name != "_links" for href in links_in(one)]
    return [href for one in value for href in links_in(one)] if isinstance(value, list) else []


async def test_conditions_order_and_pages_are_those_of_the_command_line(api: Api):
    asked = quote("tag ~ glob:1.*")
    answer = await api.get(f"/tags?registry=prod&repository=team/app&where={asked}&sort=-size&limit=2&count=true")
    assert [row["tag"] for row in answer.items] == ["1.2.0", "1.1.0"]
    assert answer.json["total"] == 3
    following = answer.json["_links"]["next"]["href"].removeprefix("/api/v1")
    rest = await api.get(following)
    assert [row["tag"] for row in rest.items] == ["1.0.0"]
    assert "next" not in rest.json["_links"]


@pytest.mark.parametrize(
    ("query", "field", "code"),
    [
        ("where=size%20%3E", "where", "bad-condition"),
        ("where=sise%20%3E%201", "where", "unknown-field"),
        ("sort=sise", "sort", "unknown-field"),
        ("tag=re:(", "tag", "bad-pattern"),
        ("repository=re:(", "repository", "bad-pattern"),
        ("cursor=x", "cursor", "bad-cursor"),
        ("select=%3A", "select", "bad-selector"),
        ("as_of=never", "as_of", "bad-input"),
        ("limit=0", "limit", "bad-request"),
        ("include_unknown=maybe", "include_unknown", "bad-request"),
        ("regisry=prod", "regisry", "unknown-parameter"),
    ],
)
async def test_what_cannot_be_understood_is_named(api: Api, query: str, field: str, code: str):
    answer = await api.get(f"/tags?{query}")
    assert (answer.status, answer.json["errors"][0]["field"], answer.json["code"]) == (400, field, code)


async def test_ages_count_up_to_the_date_that_is_asked_for(api: Api):
    young = quote("first_seen_at < 30d")
    now = (await api.get(f"/tags?where={young}&count=true")).json
    later = (await api.get(f"/tags?where={young}&count=true&age_from=2100-01-01")).json
    assert (now["total"], now["unknown_count"]) == (10, 0)
    assert later["total"] == 0
    wrong = await api.get("/tags?age_from=soon")
    assert (wrong.status, wrong.json["errors"][0]["field"]) == (400, "age_from")


async def test_what_no_condition_can_decide_is_counted(api: Api):
    found = (await api.get(f"/tags?where={quote('pulled < 30d')}&count=true")).json
    assert (found["total"], found["unknown_count"]) == (0, 10)
    assert "unknown_count" not in (await api.get("/tags")).json


async def test_blobs_that_are_gone_or_needed_by_nothing(api: Api):
    assert (await api.get("/blobs?missing=true")).items == []
    assert (await api.get("/blobs?orphaned=true&where=state%20!=%20missing")).items == []
    assert (await api.get("/blobs?missing=maybe")).status == 400


async def test_names_with_slashes_are_one_segment(api: Api):
    assert (await api.get(APP)).json["repository"] == "team/app"
    assert (await api.get("/registries/prod/repositories/team/app")).status == 404
    tag = (await api.get(f"{APP}/tags/1.0.0")).json
    assert (tag["tag"], tag["_links"]["self"]["href"]) == ("1.0.0", f"/api/v1{APP}/tags/1.0.0")
    history = await api.get(f"{APP}/tags/1.0.0/history")
    assert [row["digest"] for row in history.items] == [tag["digest"]]
    assert (await api.get("/history?reference=prod/team/app:1.0.0")).items == history.items


@pytest.mark.parametrize(
    "path",
    [
        "/registries/none",
        "/registries/prod/repositories/none",
        "/registries/prod/repositories/glob%3A**",
        "/registries/prod/repositories/re%3A.*",
        "/registries/prod/repositories/%00",
        "/registries/prod/repositories/%FF",
        f"{APP}/tags/none",
        f"{APP}/tags/glob%3A*",
        f"{APP}/tags/%3C9",
        f"{APP}/tags/none/history",
        "/registries/prod/repositories/none/tags",
        "/manifests/sha256:" + "0" * 64,
        "/exports/nothing",
    ],
)
async def test_what_is_not_there(api: Api, path: str):
    answer = await api.get(path)
    assert answer.status in (404, 400)
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status == 400) == (path.endswith(("%00", "%FF", "exports/nothing")))


async def test_levels_are_embedded(api: Api):
    answer = (await api.get("/registries/prod?embed=repositories,tags")).json
    repositories = answer["_embedded"]["repositories"]
    assert [one["repository"] for one in repositories] == ["team/app", "team/web"]
    assert [tag["tag"] for tag in repositories[0]["_embedded"]["tags"]] == ["1.0.0", "1.1.0", "1.2.0", "latest"]
    assert answer["coverage"]["state"] == "complete"
    listed = await api.get("/repositories?embed=tags&registry=prod")
    assert listed.items == repositories
    assert (await api.get("/repositories?embed=layers")).json["errors"][0]["field"] == "embed"
    assert (await api.get("/repositories?embed=tags&limit=500")).json["errors"][0]["field"] == "limit"
    one = (await api.get(f"{APP}?embed=tags")).json
    assert one == repositories[0]


async def test_what_is_too_much_to_embed_is_linked(api: Api, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("regwarden.web.api.lists.EMBEDDED_LIMIT", 1)
    answer = (await api.get("/registries/prod?embed=tags")).json
    (repository,) = answer["_embedded"]["repositories"]
    assert len(repository["_embedded"]["tags"]) == 1
    others = await api.get(repository["_links"]["truncated"]["href"].removeprefix("/api/v1"))
    assert [tag["tag"] for tag in others.items] == ["1.1.0", "1.2.0", "latest"]
    behind = await api.get(answer["_links"]["truncated"]["href"].removeprefix("/api/v1"))
    assert [row["repository"] for row in behind.items] == ["team/web"]


async def test_who_holds_a_digest(api: Api):
    digest = (await api.get(f"{APP}/tags/1.2.0")).json["digest"]
    found = (await api.get(f"/manifests/{digest}")).json
    assert {(use["registry"], use["repository"], use["tag"]) for use in found["uses"]} == {
        (registry, "team/app", tag) for registry in ("other", "prod") for tag in ("1.2.0", "latest")
    }
    assert (await api.get(f"/manifests/{digest[:20]}")).json["digest"] == digest
    only = (await api.get(f"/manifests/{digest}", who="web")).status
    assert only == 404
    layer = found["manifest"]["layers"][0]["digest"]
    places = {
        (use["registry"], use["repository"]) for use in (await api.get(f"/manifests/{layer}", who="web")).json["uses"]
    }
    assert places == {("prod", "team/web")}


async def test_reports(api: Api):
    usage = (await api.get("/usage?top=1")).json
    assert [row["registry"] for row in usage["registries"]] == ["other", "prod"]
    assert len(usage["by_stored"]) == 1
    assert (await api.get("/usage?registry=none")).status == 404
    assert (await api.get("/problems")).json["total"] == 0
    assert (await api.get("/problems?cursor=x")).status == 400
    growth = await api.get("/registries/prod/growth")
    assert [row["tag_count"] for row in growth.items] == [5]
    assert (await api.get("/registries/prod/growth?by=year")).json["errors"][0]["field"] == "by"
    assert (await api.get("/registries/prod/growth?since=x")).json["errors"][0]["field"] == "since"
    sizes = await api.get("/tags/sizes?repository=team/app")
    assert [(row["registry"], row["tag_count"]) for row in sizes.items] == [("other", 4), ("prod", 4)]


async def test_the_past_is_asked_with_the_same_parameters(api: Api):
    assert (await api.get("/tags?as_of=2000-01-01")).json["code"] == "before-history"
    assert len((await api.get("/tags?as_of=2999-01-01&registry=prod")).items) == 5
    assert (await api.get("/tags?as_of=2999-01-01", who="web")).items[0]["repository"] == "team/web"


async def test_exports_are_whole_and_guarded(api: Api):
    answer = await api.get("/exports/tag?registry=prod")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(answer.body.decode())))
    assert [row["tag"] for row in rows] == ["1.0.0", "1.1.0", "1.2.0", "latest", "edge"]
    lines = (await api.get("/exports/tag?registry=prod&format=jsonl&columns=tag,size")).body.splitlines()
    assert [msgspec.json.decode(line)["tag"] for line in lines] == [row["tag"] for row in rows]
    assert (await api.get("/exports/tag?format=xml")).status == 400
    assert (await api.get("/exports/tag?columns=tga")).json["errors"][0]["field"] == "columns"
    assert (await api.get("/exports/registry?tag=x")).json["errors"][0]["field"] == "tag"
    assert (await api.get("/exports/tag?registry=none")).status == 404
    assert (await api.get("/exports/tag?where=tag~none&format=jsonl")).body == b""
    limited = (await api.get("/exports/repository?columns=repository", who="web")).body.decode().split()
    assert limited == ["repository", "team/web"]


def test_a_formula_gets_an_apostrophe():
    from regwarden.web.api.exports import _written

    assert b"'=1+1" in b"".join(_written([{"tag": "=1+1"}], ["tag"], "csv"))


async def test_whoever_is_limited_sees_their_area_alone(api: Api):
    assert [row["registry"] for row in (await api.get("/registries", who="web")).items] == ["prod"]
    registry = (await api.get("/registries/prod", who="web")).json
    assert (registry["tag_count"], registry["stored_bytes"], registry["coverage"]) == (None, None, None)
    assert (await api.get("/registries/other", who="web")).status == 404
    assert {row["repository"] for row in (await api.get("/tags", who="web")).items} == {"team/web"}
    assert (await api.get("/tags?count=true", who="web")).json["total"] == 1
    assert (await api.get("/tags?registry=other", who="web")).status == 404
    assert (await api.get(APP, who="web")).status == 404
    assert (await api.get(f"{APP}/tags/1.0.0", who="web")).status == 404
    assert (await api.get(f"{APP}/tags/1.0.0/history", who="web")).status == 404
    assert (await api.get("/history?reference=team/app:1.0.0", who="web")).status == 404
    assert (await api.get("/registries/prod/growth", who="web")).json["code"] == "forbidden"
    assert (await api.get("/registries/prod/growth?repository=team/app", who="web")).status == 404
    assert (await api.get("/registries/prod/growth?repository=team/web", who="web")).status == 200
    usage = (await api.get("/usage", who="web")).json
    assert [row["repository"] for row in usage["by_stored"]] == ["team/web"]
    assert [row["tag"] for row in usage["largest_tags"]] == ["edge"]
    assert (await api.get("/registries?where=tag_count%20%3E%200", who="web")).items == []


async def test_a_pattern_that_sql_cannot_decide_limits_too(api: Api):
    api.people.add("odd", Role.VIEWER, area(("re:p.*",), ("re:.*/we.",)))
    assert [row["tag"] for row in (await api.get("/tags?limit=1", who="odd")).items] == ["edge"]
    assert "next" not in (await api.get("/tags?limit=1", who="odd")).json["_links"]


async def test_a_client_that_goes_away_leaves_no_export_running(api: Api, monkeypatch: pytest.MonkeyPatch):
    import asyncio

    import aiohttp

    from regwarden.web.api import exports

    monkeypatch.setattr(exports, "_CHUNK_BYTES", 1)
    header = {"Authorization": "Bearer admin"}
    async with api.served() as address, aiohttp.ClientSession(headers=header) as session:
        for _ in range(4):
            async with session.get(f"{address}/api/v1/exports/manifest") as answer:
                assert answer.status == 200
                answer.close()
        for _ in range(100):
            if exports._PLACES._value == 2:
                break
            await asyncio.sleep(0.02)
        assert exports._PLACES._value == 2


async def test_too_many_exports_are_told_to_come_again(api: Api):
    from regwarden.web.api import exports

    taken = [exports._PLACES.acquire(blocking=False) for _ in range(2)]
    try:
        answer = await api.get("/exports/tag")
    finally:
        for _ in filter(None, taken):
            exports._PLACES.release()
    assert (answer.status, answer.json["code"], answer.headers["retry-after"]) == (429, "too-many-exports", "30")


@pytest.mark.parametrize("path", ["/registries", "/repositories?embed=tags", "/tags", "/manifests", "/blobs", "/usage"])
async def test_what_has_not_changed_is_unchanged_a_day_later(api, monkeypatch, path):
    before = await api.get(path, who="viewer")
    later = clock.now() + timedelta(days=1)
    monkeypatch.setattr(clock, "now", lambda: later)
    again = await api.get(path, who="viewer", headers={"If-None-Match": before.headers["etag"]})
    assert (before.status, again.status) == (200, 304)


async def test_an_export_that_fails_for_an_unforeseen_reason_does_not_wait_for_ever(api: Api, monkeypatch) -> None:
    def fail(*_arguments: object, **_more: object) -> None:
        raise OverflowError("unforeseen")

    monkeypatch.setattr("regwarden.library.Inventory.consume", fail)
    for _ in range(3):  # nor does it keep its place
        with pytest.raises(OverflowError):
            async with asyncio.timeout(5):
                await api.get("/exports/tag")
