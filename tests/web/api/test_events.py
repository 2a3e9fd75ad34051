"""Events and pulls over HTTP: listed, counted, live and resumable; what was set aside; nothing outside of reach."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from regwarden import clock
from regwarden.core.access import Role
from regwarden.flows.ingest import Applier
from regwarden.store.deliveries import QUARANTINED, NewDelivery, insert_deliveries
from regwarden.web.api.context import ApiParts
from regwarden.wiring import build_folding
from tests.serving import recorded_bodies
from tests.web.api.conftest import Api, area
from tests.web.api.working import configured, ended

PUSH, PULL = "10-tag-overwrite", "30-pull-manifest-by-tag"


@pytest.fixture
def api_parts(api_parts: ApiParts, tmp_path: Path) -> ApiParts:
    """Notifications are taken from registries that are configured."""
    return configured(api_parts, tmp_path / "regwarden.toml", prod="https://prod.test", other="https://other.test")


async def deliver(api: Api, *bodies: bytes, registry: str = "prod", state: str = "pending") -> None:
    """What a registry sent, stored and applied."""
    rows = [NewDelivery(registry, clock.now(), "10.0.0.1", body, len(body), state) for body in bodies]
    await api.database.write(lambda connection: insert_deliveries(connection, rows))
    await Applier(api.database, clock.now, build_folding(api.parts.loaded.settings, "test")).drain()


class Stream:
    """Server-sent events as a client reads them."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    async def next(self) -> tuple[str, Any]:
        """The id and the content of the next event."""
        number = ""
        async with asyncio.timeout(10):
            while True:
                line = (await self.response.content.readline()).decode().rstrip("\n")
                if line.startswith("id: "):
                    number = line.removeprefix("id: ")
                elif line.startswith("data: "):
                    return number, msgspec.json.decode(line.removeprefix("data: "))


@asynccontextmanager
async def streaming(address: str, query: str = "", who: str = "admin", **headers: str) -> AsyncIterator[Stream]:
    url = f"{address}/api/v1/events/stream{query}"
    sent = {"Authorization": f"Bearer {who}", **headers}
    async with aiohttp.ClientSession() as session, session.get(url, headers=sent) as response:
        assert (response.status, response.content_type) == (200, "text/event-stream")
        yield Stream(response)


async def test_events_are_listed_and_chosen(api: Api):
    await deliver(api, *recorded_bodies(PUSH), *recorded_bodies(PULL))
    rows = (await api.get("/events")).items
    assert {one["action"] for one in rows} == {"push", "pull"}
    assert rows[0]["_links"]["repository"] == {"href": "/api/v1/registries/prod/repositories/api%2Fone"}
    pulls = (await api.get("/events?action=pull&tag=glob:v*&registry=prod&since=2020-01-01")).items
    assert [(one["tag"], one["method"]) for one in pulls] == [("v1", "GET")]
    first = await api.get("/events?limit=3")
    rest = await api.get(first.json["_links"]["next"]["href"].removeprefix("/api/v1"))
    assert first.items + rest.items == rows
    for query, code in (("action=x", "bad-input"), ("since=x", None), ("limit=0", "bad-request"), ("odd=1", None)):
        answer = await api.get(f"/events?{query}")
        assert answer.status == 400, query
        assert code in (None, answer.json["code"])
    assert (await api.get("/events?class=ci&class=human")).status == 200


async def test_of_other_repositories_nobody_hears(api: Api):
    api.people.add("one", Role.VIEWER, area(("prod",), ("api/one",)))
    api.people.add("unprivileged", Role.VIEWER, area(("other",)))
    await deliver(api, *recorded_bodies(PUSH))
    assert (await api.get("/events", who="one")).items == (await api.get("/events")).items != []
    for who in ("web", "unprivileged"):
        assert (await api.get("/events", who=who)).items == []
        assert (await api.get("/pulls", who=who)).items == []


async def test_they_are_sent_as_they_come_and_none_is_missed_after_a_break(api: Api):
    async with api.served() as address:
        async with streaming(address) as all_of_them, streaming(address, "?repository=nothing") as none:
            await deliver(api, *recorded_bodies(PUSH))
            number, first = await all_of_them.next()
            assert (first["repository"], number) == ("api/one", str(first["id"]))
            waiting = asyncio.create_task(none.next())
            await asyncio.sleep(0.2)
            assert not waiting.done()
            waiting.cancel()
        await deliver(api, *recorded_bodies(PULL))
        async with streaming(address, "?action=pull", **{"Last-Event-ID": number}) as resumed:
            assert (await resumed.next())[1]["action"] == "pull"
        async with streaming(address, "?since=2020-01-01") as whole:
            assert (await whole.next())[0] == number
        begun = asyncio.get_running_loop().time()
        async with streaming(address) as open_one:
            await api.parts.operations.close()
            assert b"data" not in await open_one.response.content.read()
        assert asyncio.get_running_loop().time() - begun < 5


async def test_a_stream_ends_soon_after_the_token_or_the_role_of_who_reads_it(api: Api, monkeypatch):
    monkeypatch.setattr("regwarden.web.api.streams.LOOK_AGAIN_SECONDS", 0.05)
    api.people.add("leaving", Role.VIEWER)
    api.people.add("moving", Role.VIEWER)
    async with (
        api.served() as address,
        streaming(address, who="leaving") as left,
        streaming(address, who="moving") as moved,
        asyncio.timeout(5),
    ):
        await asyncio.sleep(0.2)
        assert not left.response.content.at_eof()
        del api.people.principals["leaving"]
        api.people.add("moving", Role.VIEWER, area(("other",)))
        assert b"data" not in await left.response.content.read()
        assert b"data" not in await moved.response.content.read()


async def test_what_cannot_be_streamed_is_told_before_it_begins(api: Api):
    assert (await api.get("/events/stream?action=x")).status == 400
    assert (await api.get("/events/stream?registry=nowhere")).status == 404
    assert (await api.get("/events/stream", headers={"Last-Event-ID": "x"})).json["code"] == "bad-event-id"
    assert (await api.get("/events/stream", who="nobody")).status == 403


async def test_deliveries_that_were_set_aside(api: Api):
    await deliver(api, b"{", b'{"\x1b": \xff', b"x" * 300_000, state=QUARANTINED)
    rows = (await api.get("/events/quarantine")).items
    assert [one["body_bytes"] for one in rows] == [300_000, 7, 1]
    page = await api.get("/events/quarantine?limit=2&registry=prod")
    rest = await api.get(page.json["_links"]["next"]["href"].removeprefix("/api/v1"))
    assert page.items + rest.items == rows
    second = (await api.get(f"/events/quarantine/{rows[1]['id']}")).json
    assert (second["body"], second["is_body_cut"]) == ('{"\x1b": \\xff', False)
    first = (await api.get(f"/events/quarantine/{rows[0]['id']}")).json
    assert (len(first["body"]), first["is_body_cut"]) == (256 * 1024, True)
    whole = await api.get(first["_links"]["body"]["href"].removeprefix("/api/v1"))
    assert (whole.body, whole.headers["content-type"]) == (b"x" * 300_000, "application/octet-stream")
    assert whole.headers["content-disposition"].startswith("attachment")
    assert (await api.get("/events/quarantine/99")).status == 404
    for path in (
        "/events/quarantine",
        f"/events/quarantine/{rows[0]['id']}",
        f"/events/quarantine/{rows[0]['id']}/body",
    ):
        assert (await api.get(path, who="web")).status == 403


async def test_they_are_looked_at_again(api: Api):
    await deliver(api, *recorded_bodies(PULL), state=QUARANTINED)
    (row,) = (await api.get("/events/quarantine")).items
    for body in ({}, {"ids": [row["id"]], "is_all": True}, {"ids": ["x"]}, {"ids": [0]}):
        assert (await api.ask("POST", "/events/replay", body, who="operator")).status == 400
    begun = await api.ask("POST", "/events/replay", {"ids": [row["id"]]}, who="operator")
    found = await ended(api, begun, who="operator")
    assert found["result"] == {"delivery_count": 1, "event_count": 1, "left_count": 0}
    assert (await api.get("/events/quarantine")).items == []
    assert [(one["action"], one["principal"]) for one in (await api.get("/audit")).items] == [
        ("event-replay", "operator")
    ]
    again = await api.ask("POST", "/events/replay", {"ids": [row["id"]]}, who="operator")
    assert (await ended(api, again, who="operator"))["error"]["status"] == 404
    api.people.add("part", Role.OPERATOR, area(("prod",)))
    assert (await api.ask("POST", "/events/replay", {"is_all": True}, who="part")).status == 403


@pytest.mark.parametrize("query", ["as_of=0001-01-01", "as_of=2026-01-01&since=3000y", "since=9999999d"])
async def test_pulls_before_all_time_are_a_mistake_of_who_asks(api: Api, query: str):
    answer = await api.get(f"/pulls?{query}")
    assert answer.status == 400, answer.body


async def test_pulls_are_counted(api: Api):
    await deliver(api, *recorded_bodies(PUSH), *recorded_bodies(PULL))
    rows = (await api.get("/pulls?since=2020-01-01&by=tag&by=method")).items
    assert [(one["method"], one["pull_count"]) for one in rows] == [("GET", 1)]
    answer = await api.get("/pulls?by=day,class&since=2020-01-01&selector=prod/api/one")
    assert answer.status == 200
    assert set(answer.json["known_since"]) == {"prod", "other"}
    for query, code in (
        ("by=colour", "bad-grouping"),
        ("sort=x", "bad-sort"),
        ("since=2026-01-02&until=2026-01-01", None),
    ):
        answer = await api.get(f"/pulls?{query}")
        assert answer.status == 400
        assert code in (None, answer.json["code"])
