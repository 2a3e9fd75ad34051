"""How fast is the allow-list with a million entries: loading, memory, answers, against a SELECT for each answer?

python benchmarks/bench_allow.py [--entries 1000000] [--related 200000] [--requests 20000]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import hashlib
import os
import random
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import aiohttp
from sqlalchemy import Table, insert, text
from starlette.requests import Request

from regwarden.core.access import Grant, Principal, PrincipalKind, Role
from regwarden.flows.allow_questions import AllowOptions, Place, ask_once
from regwarden.flows.allowing import AllowList
from regwarden.settings_sections import parse_listen_address
from regwarden.settings_sources import load_settings
from regwarden.store.allow import AllowRecord, save_entry
from regwarden.store.allow_holds import load_allow_holds, read_mark
from regwarden.store.allow_schema import allow_entries
from regwarden.store.database import Access, Database, open_database
from regwarden.store.schema import manifest_children, manifests, registries, repositories, repository_manifests
from regwarden.store.times import to_micros
from regwarden.web.api.application import build_api
from regwarden.web.api.context import ApiParts
from regwarden.web.listening import bound, serving, shown_address

NOW = datetime.now(UTC)
SLICE = 50_000
WORKERS = 16
REPOSITORIES = 2_000


def digest(number: int) -> bytes:
    """The stored form of the digest of manifest ``number``; those of configs are negative."""
    return b"\x01" + hashlib.sha256(str(number).encode()).digest()


def shown(number: int) -> str:
    """The same as people write it."""
    return f"sha256:{digest(number)[1:].hex()}"


def write_rows(database: Database, table: Table, rows: list[dict[str, object]]) -> None:
    """Insert rows."""
    database.write_now(lambda connection: connection.execute(insert(table), rows).rowcount)


def fill(database: Database, entry_count: int, related_count: int) -> None:
    """Entries by digest, one in a hundred denied; the first ``related_count`` are manifests of the inventory.

    Each of them has a config, and every fifth is an index of the four after it.
    """
    at = to_micros(NOW)
    for start in range(0, entry_count, SLICE):
        entries: list[dict[str, object]] = [
            {
                "effect": "deny" if number % 100 == 99 else "allow",
                "image": shown(number),
                "digest": digest(number),
                "reason": f"release {number % 1000}",
                "made_at": at,
                "made_by": "ci",
                "updated_at": at,
                "change_number": 1,
            }
            for number in range(start, min(start + SLICE, entry_count))
        ]
        write_rows(database, allow_entries, entries)
    registry: dict[str, object] = {
        "id": 1,
        "name": "prod",
        "url": "https://reg.example.com",
        "kind": "distribution",
        "first_seen_at": at,
    }
    write_rows(database, registries, [registry])
    places: list[dict[str, object]] = [
        {"id": one + 1, "registry_id": 1, "name": f"team/app-{one}", "first_seen_at": at, "state": "complete"}
        for one in range(REPOSITORIES)
    ]
    write_rows(database, repositories, places)
    for start in range(0, related_count, SLICE):
        numbers = range(start, min(start + SLICE, related_count))
        known: list[dict[str, object]] = [
            {
                "id": number + 1,
                "digest": digest(number),
                "state": "read",
                "media_type": "",
                "is_index": int(number % 5 == 0),
                "config_digest": digest(-number - 1) if number % 5 else None,
                "size_bytes": 1,
                "blob_ids": b"",
            }
            for number in numbers
        ]
        there: list[dict[str, object]] = [
            {"repository_id": number % REPOSITORIES + 1, "manifest_id": number + 1, "first_seen_at": at}
            for number in numbers
        ]
        listed: list[dict[str, object]] = [
            {"parent_id": number + 1, "position": place, "child_id": number + place + 2}
            for number in numbers
            if number % 5 == 0
            for place in range(4)
        ]
        for table, rows in ((manifests, known), (repository_manifests, there), (manifest_children, listed)):
            write_rows(database, table, rows)
    database.write_now(lambda connection: connection.execute(text("INSERT INTO changes VALUES ('allow', 1)")).rowcount)
    database.write_now(lambda connection: connection.execute(text("ANALYZE")).rowcount)


def resident_bytes() -> int:
    """What this process has in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def tell(what: str, seconds: Sequence[float], elapsed: float) -> None:
    """One line of figures."""
    ordered = sorted(seconds)
    p50, p99 = statistics.median(ordered), ordered[int(len(ordered) * 0.99) - 1]
    print(f"{what:58} {len(ordered) / elapsed:>10,.0f}/s   p50 {p50 * 1e6:9,.1f} µs   p99 {p99 * 1e6:9,.1f} µs")


def measure(what: str, images: Sequence[str], ask: Callable[[str], object]) -> None:
    """Ask one after the other."""
    gc.collect()
    seconds = []
    began = time.perf_counter()
    for image in images:
        at = time.perf_counter()
        ask(image)
        seconds.append(time.perf_counter() - at)
    tell(what, seconds, time.perf_counter() - began)


async def measure_at_once(what: str, images: Sequence[str], ask: Callable[[str], Awaitable[object]]) -> None:
    """Ask with as many as ``WORKERS`` at once."""
    gc.collect()
    waiting, seconds = list(images), []

    async def work() -> None:
        while waiting:
            image = waiting.pop()
            at = time.perf_counter()
            await ask(image)
            seconds.append(time.perf_counter() - at)

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(WORKERS)))
    tell(what, seconds, time.perf_counter() - began)


class Anybody:
    """Takes everybody for a program that may read."""

    def __init__(self) -> None:
        self._principal = Principal(id="token:1", name="ci", kind=PrincipalKind.TOKEN, grants=(Grant(Role.VIEWER),))

    async def authenticate(self, request: Request) -> Principal:
        """Who asks."""
        del request
        return self._principal


async def measure_http(database: Database, allow: AllowList | None, images: Sequence[str], what: str) -> None:
    """The same over HTTP, client and service in one process."""
    loaded = load_settings({}, database=database.url)
    parts = ApiParts(database=database, loaded=loaded, environ={}, authenticator=Anybody(), commands={}, allow=allow)
    with bound(parse_listen_address("127.0.0.1:0")) as listeners:
        async with serving(build_api(parts), listeners, None), aiohttp.ClientSession() as session:
            address = f"{shown_address(listeners[0], is_tls=False)}/api/v1/allow/check"

            async def ask(image: str) -> None:
                async with session.get(address, params={"image": image}) as response:
                    await response.read()
                    assert response.status == 200

            await measure_at_once(what, images, ask)


async def run(database: Database, given: argparse.Namespace) -> None:
    """Load, ask, change, hold."""
    gc.collect()
    before = resident_bytes()
    allow = AllowList(database, AllowOptions(), {})
    began = time.perf_counter()
    await allow.open()
    await allow.refresh()
    loaded_in = time.perf_counter() - began
    gc.collect()
    used = resident_bytes() - before
    print(f"load {len(allow):,} entries: {loaded_in:.1f} s, {used / 2**20:,.0f} MiB, {used / len(allow):.0f} B each")

    chance = random.Random(1)
    listed = [shown(chance.randrange(given.entries)) for _ in range(given.requests)]
    strange = [shown(given.entries + number) for number in range(given.requests)]
    related = [shown(-chance.randrange(1, given.related)) for _ in range(given.requests)]
    measure("check by digest, listed", listed, allow.check)
    measure("check by digest, not listed", strange, allow.check)
    measure("check by digest of a config, through its manifest", related, allow.check)
    measure("check HOST/REPOSITORY@DIGEST", [f"reg.example.com/team/app@{one}" for one in listed], allow.check)
    few = listed[: max(1, given.requests // 20)]

    def from_database(image: str) -> object:
        return database.read_now(lambda found: ask_once(found, image, Place(), AllowOptions(), NOW))

    measure("baseline: entries and relations read for each check", few, from_database)
    select = text("SELECT id, effect FROM allow_entries WHERE digest = :digest AND removed_at IS NULL")

    def one_select(image: str) -> object:
        stored = b"\x01" + bytes.fromhex(image[7:])
        return database.read_now(lambda found: found.execute(select, {"digest": stored}).all())

    measure("baseline: a bare SELECT for each check, no relations", listed[: given.requests // 4], one_select)
    await measure_http(database, allow, listed[: given.requests // 2], f"HTTP, {WORKERS} at once, from memory")
    await measure_http(database, None, few, f"HTTP, {WORKERS} at once, baseline: read for each check")

    seconds = []
    for number in range(20):
        image = shown(-(10**9) - number)
        record = AllowRecord(effect="allow", image=image, digest=image, made_at=NOW, made_by="ci")
        await database.write(partial(save_entry, record=record))
        at = time.perf_counter()
        await allow.refresh()
        seconds.append(time.perf_counter() - at)
        assert allow.check(image).outcome == "allow"
    print(f"take in one change: median {statistics.median(seconds) * 1e3:.1f} ms")
    began = time.perf_counter()
    held = database.read_now(lambda found: load_allow_holds(found, "prod", NOW))
    print(f"what is allowed in the registry, for a plan: {len(held):,} holds in {time.perf_counter() - began:.1f} s")
    began = time.perf_counter()
    held = database.read_now(lambda found: load_allow_holds(found, "prod", NOW, ["team/app-1"]))
    print(f"in one repository, when steps begin: {len(held)} holds in {(time.perf_counter() - began) * 1e3:.1f} ms")
    began = time.perf_counter()
    database.read_now(read_mark)
    print(f"whether that changed, before each step: {(time.perf_counter() - began) * 1e3:.2f} ms")


def main() -> None:
    """Make the list in a file of its own and measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--related", type=int, default=200_000)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--database", help="an empty PostgreSQL database instead of a SQLite file")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        url = given.database or f"sqlite:///{place}/inventory.sqlite3"
        with open_database(url, access=Access.WRITE, create=True) as database:
            fill(database, given.entries, given.related)
            asyncio.run(run(database, given))


if __name__ == "__main__":
    main()
