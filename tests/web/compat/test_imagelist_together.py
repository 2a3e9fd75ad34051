"""imagelist's interface beside the allow-list and beside other replicas, over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import pytest

from regwarden.core.allowlist import Outcome
from regwarden.flows.allow_questions import AllowOptions
from regwarden.flows.allowing import AllowList
from regwarden.store.allow import AllowFilter, list_entries, remove_entry
from regwarden.store.audit import AuditFilter, list_audit
from regwarden.store.changes import ALLOW, read_changes
from regwarden.store.database import Access, Database, open_database
from tests.fixtures.postgresql import DurablePostgresql
from tests.web.compat.imagelist_server import Server, imagelist_server

HEX = "0123456789abcdef" * 4
REPLICA_COUNT = 3


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    is_file = request.param == "sqlite"
    url = f"sqlite:///{tmp_path / 'x.sqlite3'}" if is_file else request.getfixturevalue("postgresql_url")
    with open_database(url, access=Access.WRITE, create=True) as database:
        yield database


@asynccontextmanager
async def watched(database: Database) -> AsyncIterator[AllowList]:
    """The allow-list of this process."""
    allow_list = AllowList(database, AllowOptions(), {})
    await allow_list.open()
    await allow_list.refresh()
    watching = asyncio.create_task(allow_list.watch())
    try:
        yield allow_list
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def is_allowed(allow_list: AllowList, image: str, *, expected: bool) -> bool:
    """Whether it may run, as soon as that is as expected, or after two seconds."""
    for _ in range(200):
        if ((await allow_list.answer(image)).outcome is Outcome.ALLOW) == expected:
            return expected
        await asyncio.sleep(0.01)
    return not expected


@pytest.mark.parametrize(
    ("image_id", "image"),
    [
        (HEX, f"registry.example.com/team/app@sha256:{HEX}"),
        (f"sha256:{HEX}", f"sha256:{HEX}"),
        (f"registry.example.com/team/app@sha256:{HEX}", f"registry.example.com/team/app@sha256:{HEX}"),
        ("team/app:1.0", "team/app:1.0"),
        ("our build 17", "our build 17"),
    ],
)
async def test_what_is_put_is_allowed_and_what_is_deleted_is_not(database, image_id, image):
    async with watched(database) as allow_list, imagelist_server(database, wake=allow_list.wake) as server:
        assert not await is_allowed(allow_list, image, expected=False)
        assert (await server.put(image_id, "app", "1.0")).status == 200
        assert await is_allowed(allow_list, image, expected=True)
        assert (await server.ask("DELETE", f"/images/{quote(image_id)}")).status == 204
        assert not await is_allowed(allow_list, image, expected=False)


async def test_they_are_one_list(database):
    async with imagelist_server(database) as server:
        await server.put(f"host/app@sha256:{HEX}", "app", "1.0", "latest")
        (entry,) = database.read_now(lambda connection: list_entries(connection, AllowFilter()))
        assert (entry.image, entry.digest, entry.name) == (f"host/app@sha256:{HEX}", f"sha256:{HEX}", "app")
        assert (entry.tags, entry.is_protecting) == (("1.0", "latest"), True)
        database.write_now(lambda connection: remove_entry(connection, entry.id, "alice", entry.made_at))
        assert (await server.ask("GET", "/images")).body == b"[]"
        assert (await server.put(f"host/app@sha256:{HEX}", "other")).json["name"] == "other"


async def test_concurrent_first_puts_at_several_replicas_all_succeed(postgresql_url: str):
    async def put_everywhere(servers: list[Server], image_id: str) -> set[int]:
        asked = [one.put(image_id, f"n{place}", f"t{place}") for place, one in enumerate(servers) for _ in range(3)]
        return {answer.status for answer in await asyncio.gather(*asked)}

    with ExitStack() as databases:
        opened = [
            databases.enter_context(open_database(postgresql_url, access=Access.WRITE, create=True))
            for _ in range(REPLICA_COUNT)
        ]
        async with (
            imagelist_server(opened[0]) as first,
            imagelist_server(opened[1]) as second,
            imagelist_server(opened[2]) as third,
        ):
            servers = [first, second, third]
            found = await asyncio.gather(*(put_everywhere(servers, f"id/{number}") for number in range(20)))
            assert found == [{200}] * 20
            shown = (await first.ask("GET", "/images?sort=id")).json
            assert len(shown) == 20
            for one in servers:
                assert (await one.ask("GET", "/images?sort=id")).json == shown
            assert all(image["tags"][0].startswith("t") for image in shown)
        change_count = REPLICA_COUNT * 3 * 20
        assert opened[0].read_now(read_changes)[ALLOW] == change_count
        assert len(opened[0].read_now(lambda connection: list_audit(connection, AuditFilter()))) == change_count


async def test_puts_and_deletes_at_once_all_succeed(postgresql_url: str):
    with (
        open_database(postgresql_url, access=Access.WRITE, create=True) as one,
        open_database(postgresql_url, access=Access.WRITE) as other,
    ):
        async with imagelist_server(one) as first, imagelist_server(other) as second:
            asked = [
                request
                for number in range(40)
                for request in (first.put("a", "n", str(number)), second.ask("DELETE", "/images/a"))
            ]
            assert {answer.status for answer in await asyncio.gather(*asked)} == {200, 204}


async def test_while_the_server_of_the_database_is_gone_errors_are_empty(durable_postgresql: DurablePostgresql):
    url = durable_postgresql.url(durable_postgresql.create_database())
    with open_database(url, access=Access.WRITE, create=True) as database:
        async with imagelist_server(database) as server:
            assert (await server.put("a", "n")).status == 200
            durable_postgresql.kill()
            for method, path in (("GET", "/health/ping"), ("GET", "/images/a"), ("DELETE", "/images/a")):
                answer = await server.ask(method, path)
                assert (answer.status, answer.body) == (500, b"")
            assert (await server.put("a", "n")).status == 500
            durable_postgresql.start()
            assert (await server.ask("GET", "/health/ping")).status == 200
            assert (await server.ask("GET", "/images/a")).status == 200
