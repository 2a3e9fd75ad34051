"""Notifications: how many a second are durably stored and answered, and how many are applied?

The service is `regwarden serve` in a process of its own, with a database on this disk; every event comes in a request
and on a connection of its own, as registries send them. Baselines of the same run: the same web server that answers
without storing anything, and bare bulk inserts of the same bodies.

    python benchmarks/events.py [--seconds 5] [--postgresql]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

SECRET = "benchmark-secret"
INSTANCE = str(uuid.uuid4())
IMAGES, TAGS = 4_000, 50
CONFIGURATION = """\
[defaults]
crawl_every = "never"

[events]
keep_bodies = "1s"
keep_events = "1s"

[[registry]]
name = "prod"
url = "http://127.0.0.1:{registry}"
hook_secret_files = ["{secret}"]
"""


def known_images() -> list[tuple[str, str, Any]]:
    """What the registry of the measurement holds: repository, tag, manifest."""
    from regwarden.testing.images import image, layer

    return [
        (
            f"team/app{number // TAGS}",
            f"v{number % TAGS}",
            image([layer(f"{number} {part}", 4096) for part in range(4)]),
        )
        for number in range(IMAGES)
    ]


def bodies() -> Iterator[bytes]:
    """Pushes and pulls of known images as Distribution sends them, about 1 kB each, without end."""
    images = known_images()
    number = 0
    while True:
        number += 1
        # A push, then two pulls of what it pushed: one by tag, one by digest.
        count, step = divmod(number, 3)
        repository, tag, built = images[count * 7 % IMAGES]
        digest = str(built.digest)
        now = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + f".{number % 1_000_000:06d}Z"
        target: dict[str, Any] = {
            "mediaType": built.media_type,
            "size": len(built.payload),
            "digest": digest,
            "length": len(built.payload),
            "repository": repository,
            "url": f"http://registry.example.test:5000/v2/{repository}/manifests/{digest}",
        }
        if step < 2:
            target["tag"] = tag
        request = {
            "id": str(uuid.uuid4()),
            "addr": "10.1.2.3:51234",
            "host": "registry.example.test:5000",
            "method": "PUT" if step == 0 else "HEAD" if step == 1 else "GET",
            "useragent": "containerd/1.7.13",
        }
        one = {
            "id": str(uuid.uuid4()),
            "timestamp": now,
            "action": "push" if step == 0 else "pull",
            "target": target,
            "request": request,
            "actor": {},
            "source": {"addr": "registry-0:5000", "instanceID": INSTANCE},
        }
        yield json.dumps({"events": [one]}, indent=3).encode()


class Load:
    """Senders of events, each serial, each event on a new connection."""

    def __init__(self, port: int, seconds: float) -> None:
        self.port = port
        self.seconds = seconds
        self.found: list[float] = []
        self.source = bodies()

    async def run(self, senders: int) -> tuple[float, float, float]:
        """Events a second, median and 99th percentile of the answers in milliseconds."""
        started = time.perf_counter()
        self.ends_at = started + self.seconds
        await asyncio.gather(*(self._send() for _ in range(senders)))
        elapsed = time.perf_counter() - started
        ordered = sorted(self.found)
        return len(ordered) / elapsed, ordered[len(ordered) // 2] * 1e3, ordered[int(len(ordered) * 0.99)] * 1e3

    async def _send(self) -> None:
        loop = asyncio.get_running_loop()
        while time.perf_counter() < self.ends_at:
            body = next(self.source)
            head = (
                "POST /hooks/prod HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: Go-http-client/1.1\r\n"
                f"Authorization: Bearer {SECRET}\r\nContent-Length: {len(body)}\r\n"
                "Content-Type: application/vnd.docker.distribution.events.v2+json\r\n\r\n"
            ).encode()
            started = time.perf_counter()
            answered: asyncio.Future[bytes] = loop.create_future()
            sender = partial(_Answer, head + body, answered)
            transport, _ = await loop.create_connection(sender, "127.0.0.1", self.port)
            answer = await answered
            self.found.append(time.perf_counter() - started)
            transport.close()
            if answer[9:12] not in (b"200", b"204"):
                raise SystemExit(f"answered {answer[:200]!r}")


class _Answer(asyncio.Protocol):
    def __init__(self, request: bytes, answered: asyncio.Future[bytes]) -> None:
        self.request = request
        self.answered = answered

    def connection_made(self, transport: Any) -> None:
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        if not self.answered.done():
            self.answered.set_result(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.answered.done():
            self.answered.set_exception(exc or ConnectionResetError("closed without an answer"))


@contextlib.contextmanager
def process(*command: str, environ: dict[str, str] | None = None, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A server that listens on ``port`` while the block lasts."""
    running = subprocess.Popen(command, env={**os.environ, **(environ or {})}, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
                break
            time.sleep(0.05)
        else:
            raise SystemExit("the server did not start")
        yield running
    finally:
        running.send_signal(signal.SIGTERM)
        running.wait(30)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run(port: int, seconds: float, senders: int) -> tuple[float, float, float]:
    from uvloop import new_event_loop

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(Load(port, seconds).run(senders))


def null_server(port: int) -> None:
    """The service's web server with everything but storing."""
    from regwarden import clock
    from regwarden.settings_sections import parse_listen_address
    from regwarden.store.deliveries import NewDelivery
    from regwarden.web.bodies import BodyReader
    from regwarden.web.hooks import Hooks
    from regwarden.web.listening import bound, serving
    from regwarden.web.senders import Senders
    from regwarden.wiring import run_async

    class Nowhere:
        async def store(self, delivery: NewDelivery) -> None:
            del delivery

    async def work() -> None:
        hooks = Hooks(Nowhere(), Senders({"prod": [SECRET]}), clock.now, BodyReader())
        stopped = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
        with bound(parse_listen_address(f"127.0.0.1:{port}")) as listeners:
            async with serving(hooks, listeners, None):
                await stopped.wait()

    run_async(work())


def sync_milliseconds(folder: Path) -> float:
    """What one synchronisation of one page costs on this disk."""
    found = []
    with (folder / "sync").open("wb", buffering=0) as file:
        for _ in range(200):
            file.write(b"x" * 4096)
            started = time.perf_counter()
            os.fdatasync(file.fileno())
            found.append(time.perf_counter() - started)
    return statistics.median(found) * 1e3


def bare_inserts(folder: Path, count: int = 20_000) -> float:
    """Bodies a second, 500 in a transaction, synchronised like ours."""
    connection = sqlite3.connect(folder / "bare.sqlite3", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE deliveries (id INTEGER PRIMARY KEY, at INTEGER, state TEXT, body BLOB)")
    connection.execute("CREATE INDEX pending ON deliveries (id) WHERE state = 'pending'")
    source = bodies()
    rows = [(1, "pending", next(source)) for _ in range(count)]
    started = time.perf_counter()
    for start in range(0, count, 500):
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO deliveries (at, state, body) VALUES (?, ?, ?)", rows[start : start + 500])
        connection.execute("COMMIT")
    elapsed = time.perf_counter() - started
    connection.close()
    return count / elapsed


def pending(database: str) -> int:
    from sqlalchemy import func, select

    from regwarden.store.database import Access, open_database
    from regwarden.store.event_schema import deliveries

    with open_database(database, access=Access.READ) as opened:
        waiting = select(func.count()).where(deliveries.c.state == "pending")
        return int(opened.read_now(lambda connection: connection.execute(waiting).scalar_one()))


def large_registry(port: int) -> None:
    """The registry whose events are sent, to be crawled."""
    from regwarden.testing.content import Content
    from regwarden.testing.server import Listen, SampleRegistry

    content = Content()
    for repository, tag, built in known_images():
        content.repository(repository).add(built, tag)

    async def work() -> None:
        stopped = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
        async with SampleRegistry(content, listen=Listen("127.0.0.1", port)):
            await stopped.wait()

    asyncio.run(work())


def backup(database: str, folder: Path) -> list[str]:
    """A copy of the whole file by SQLite's own means, as an operator makes it."""
    program = (
        "import sqlite3, sys; source = sqlite3.connect(sys.argv[1]); "
        "source.backup(sqlite3.connect(sys.argv[2]), pages=200, sleep=0.01)"
    )
    return [sys.executable, "-c", program, database.removeprefix("sqlite:///"), str(folder / "copy.sqlite3")]


def measure(name: str, database: str, folder: Path, seconds: float, baselines: dict[int, float]) -> None:
    (folder / "secret").write_text(SECRET)
    configuration = folder / f"{name}.toml"
    port, registry = free_port(), free_port()
    configuration.write_text(CONFIGURATION.format(secret=folder / "secret", registry=registry))
    ours = [sys.executable, "-m", "regwarden"]
    options = ["--database", database, "--config", str(configuration)]
    with (
        process(sys.executable, __file__, "--large-registry", str(registry), port=registry),
        process(*ours, "serve", *options, "--listen", f"127.0.0.1:{port}", port=port),
    ):
        subprocess.run([*ours, "crawl", "prod", *options, "-q"], check=True, stdout=subprocess.DEVNULL)
        for senders in (1, 64):
            started = time.perf_counter()
            rate, median, slowest = run(port, seconds, senders)
            waiting = pending(database)
            print(
                f"{name:>10}  {senders:>3} senders  {rate:>7,.0f}/s  median {median:5.2f} ms  p99 {slowest:6.2f} ms  "
                f"{rate / baselines[senders]:5.0%} of the server that stores nothing;  {waiting:,} to be applied"
            )
            while pending(database):
                time.sleep(0.1)
            applied = rate * seconds / (time.perf_counter() - started)
            print(f"{'':>10}               all applied: {applied:,.0f}/s while and after they came")
        beside = {
            "a crawl": [*ours, "crawl", "prod", "--verify", *options, "-q"],
            "a purge": [*ours, "db", "purge", *options],
        }
        if name == "sqlite":
            beside["a backup"] = backup(database, folder)
        for what, command in beside.items():
            with subprocess.Popen(command, stdout=subprocess.DEVNULL) as work:
                started = time.perf_counter()
                rate, median, slowest = run(port, seconds, 1)
                work.wait()
                elapsed = time.perf_counter() - started
            print(
                f"{name:>10}  beside {what:<9} {rate:>7,.0f}/s  median {median:5.2f} ms  p99 {slowest:6.2f} ms  "
                f"(it took {elapsed:.1f} s, exit status {work.returncode})"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--postgresql", action="store_true", help="also with a PostgreSQL of its own")
    parser.add_argument("--null-server", type=int, metavar="PORT", help=argparse.SUPPRESS)
    parser.add_argument("--large-registry", type=int, metavar="PORT", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.null_server:
        null_server(options.null_server)
        return
    if options.large_registry:
        large_registry(options.large_registry)
        return
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        print(f"one synchronisation of the disk: {sync_milliseconds(folder):.3f} ms")
        print(f"bare inserts, 500 in a transaction: {bare_inserts(folder):,.0f}/s")
        baselines: dict[int, float] = {}
        port = free_port()
        with process(sys.executable, __file__, "--null-server", str(port), port=port):
            for senders in (1, 64):
                baselines[senders], median, slowest = run(port, options.seconds, senders)
                print(
                    f"{'no storing':>10}  {senders:>3} senders  {baselines[senders]:>7,.0f}/s  "
                    f"median {median:5.2f} ms  p99 {slowest:6.2f} ms"
                )
        measure("sqlite", f"sqlite:///{folder / 'events.sqlite3'}", folder, options.seconds, baselines)
        if options.postgresql:
            sys.path.insert(0, str(Path(__file__).parents[1]))
            from tests.fixtures.postgresql import DURABLE, running_postgresql

            with running_postgresql(DURABLE) as server:
                measure("postgresql", server.url(server.create_database()), folder, options.seconds, baselines)


if __name__ == "__main__":
    main()
