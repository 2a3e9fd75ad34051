"""How long does a crawl take, beside a bare client that fetches the same documents and keeps nothing?

Starts Debian's docker-registry on loopback, fills it with workload W and runs both in turn. ``--latency-ms`` puts a
relay in between that delays every answer. ``--docker-registry-util PYTHON`` names an interpreter that has that
predecessor installed, to time its reading of digests in the same run. Figures are in-process; start-up is separate.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

from workload import push_workload

ACCEPT = ",".join(
    f"application/vnd.{kind}+json"
    for kind in (
        "docker.distribution.manifest.v2",
        "docker.distribution.manifest.list.v2",
        "oci.image.manifest.v1",
        "oci.image.index.v1",
    )
)
UTIL = """
import sys, time
from docker_registry_util.client import DockerRegistryClient
from docker_registry_util.query import DockerRegistryQuery
started = time.perf_counter()
DockerRegistryQuery(DockerRegistryClient(sys.argv[1])).refresh()
print(time.perf_counter() - started)
"""


def time_bare(url: str, *, workers: int, with_configs: bool) -> float:
    """Seconds that threads with kept connections need for every tag's manifest and, if asked, every config."""
    address, local = urlsplit(url), threading.local()

    def fetch(path: str) -> bytes:
        if not hasattr(local, "connection"):
            local.connection = http.client.HTTPConnection(address.hostname or "", address.port)
        local.connection.request("GET", path, headers={"Accept": ACCEPT})
        response = local.connection.getresponse()
        body: bytes = response.read()
        assert response.status == 200, path
        return body

    started = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        names = json.loads(fetch("/v2/_catalog?n=1000"))["repositories"]
        lists = pool.map(lambda name: json.loads(fetch(f"/v2/{name}/tags/list"))["tags"], names)
        places = [f"/v2/{name}/manifests/{tag}" for name, tags in zip(names, lists, strict=True) for tag in tags]
        bodies = list(pool.map(fetch, places))
        if with_configs:
            configs = {
                json.loads(body)["config"]["digest"]: place.partition("/manifests/")[0]
                for place, body in zip(places, bodies, strict=True)
            }
            list(pool.map(fetch, [f"{repository}/blobs/{digest}" for digest, repository in configs.items()]))
    return time.perf_counter() - started


def time_crawl(url: str, database: Path, *, with_configs: bool) -> tuple[float, int, int]:
    """Seconds, requests and manifest bodies of one crawl into ``database``."""
    from regwarden import clock
    from regwarden.flows.crawl import CrawlOptions, RegistryTarget, crawl
    from regwarden.flows.services import Services
    from regwarden.registries.client.limits import Limits
    from regwarden.registries.client.settings import ClientSettings
    from regwarden.registries.distribution.connector import open_connector
    from regwarden.store.database import Access, open_database

    async def run() -> tuple[float, int, int]:
        opened = open_database(f"sqlite:///{database}", access=Access.WRITE, create=True)
        options = CrawlOptions(with_configs=with_configs)
        connector = open_connector(ClientSettings(url), Limits(connections=options.concurrency))
        try:
            started = time.perf_counter()
            report = await crawl(Services(opened, clock.now, {"w": connector}), RegistryTarget("w", url), options)
            seconds = time.perf_counter() - started
        finally:
            await connector.close()
            opened.close()
        assert report.state == "complete"
        return seconds, report.certificate.request_count, report.certificate.manifest_body_count

    try:
        import uvloop
    except ImportError:
        return asyncio.run(run())
    return uvloop.run(run())


@contextlib.contextmanager
def running_registry(folder: Path) -> Iterator[str]:
    """A docker-registry with its packaged kind of configuration."""
    config = {
        "version": "0.1",
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "storage")}, "cache": {"blobdescriptor": "inmemory"}},
        "http": {"addr": "127.0.0.1:5079", "secret": "benchmark"},
    }
    (folder / "config.yml").write_text(json.dumps(config))
    process = subprocess.Popen(
        ["docker-registry", "serve", str(folder / "config.yml")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(100):
            with contextlib.suppress(OSError):
                http.client.HTTPConnection("127.0.0.1", 5079).request("GET", "/v2/")
                break
            time.sleep(0.05)
        yield "http://127.0.0.1:5079"
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def relay(url: str, latency_ms: float) -> Iterator[str]:
    """A TCP relay that delays what the registry answers, in a thread of its own; nothing without latency."""
    if not latency_ms:
        yield url
        return
    address, loop, started = urlsplit(url), asyncio.new_event_loop(), threading.Event()
    port = [0]

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(65_536):
                if delay:
                    await asyncio.sleep(delay)
                writer.write(chunk)
                await writer.drain()
        writer.close()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream = await asyncio.open_connection(address.hostname, address.port)
        await asyncio.gather(pump(reader, upstream[1], 0), pump(upstream[0], writer, latency_ms / 1000))

    async def serve() -> None:
        server = await asyncio.start_server(connect, "127.0.0.1", 0)
        port[0] = server.sockets[0].getsockname()[1]
        started.set()
        await server.serve_forever()

    def run() -> None:
        with contextlib.suppress(RuntimeError):
            loop.run_until_complete(serve())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    started.wait()
    yield f"http://127.0.0.1:{port[0]}"
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


def time_util(python: str, url: str) -> float:
    """Seconds that docker-registry-util needs to read every digest, as it measures itself."""
    done = subprocess.run([python, "-c", UTIL, url], check=True, capture_output=True, text=True)
    return float(done.stdout.strip().splitlines()[-1])


def report(title: str, ours: list[float], theirs: list[float], baseline: str) -> None:
    """Print medians, ranges and the ratio of one pair."""
    mine, other = statistics.median(ours), statistics.median(theirs)
    print(
        f"{title}: {mine:.2f} s [{min(ours):.2f}-{max(ours):.2f}]; {baseline}: {other:.2f} s "
        f"[{min(theirs):.2f}-{max(theirs):.2f}]; ratio {mine / other:.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--docker-registry-util", metavar="PYTHON", default="")
    arguments = parser.parse_args()
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import regwarden.flows.crawl, regwarden.wiring"], check=True)
    print(f"start-up (imports of a crawl, a process of its own): {time.perf_counter() - started:.2f} s")
    with tempfile.TemporaryDirectory() as name, running_registry(Path(name)) as registry:
        push_workload(registry)
        with relay(registry, arguments.latency_ms) as url:
            measure(url, Path(name), arguments)


def measure(url: str, folder: Path, arguments: argparse.Namespace) -> None:
    """Run ours and the baselines in turn and print every pair."""
    cold: list[float] = []
    again: list[float] = []
    bare: list[float] = []
    digests: list[float] = []
    bare_digests: list[float] = []
    util: list[float] = []
    for number in range(arguments.rounds):
        database = folder / f"{number}.sqlite3"
        bare.append(time_bare(url, workers=8, with_configs=True))
        seconds, requests, _ = time_crawl(url, database, with_configs=True)
        cold.append(seconds)
        seconds, again_requests, bodies = time_crawl(url, database, with_configs=True)
        again.append(seconds)
        bare_digests.append(time_bare(url, workers=8, with_configs=False))
        digests.append(time_crawl(url, folder / f"{number}m.sqlite3", with_configs=False)[0])
        if arguments.docker_registry_util:
            util.append(time_util(arguments.docker_registry_util, url))
    report(f"cold crawl, configs included ({requests} requests)", cold, bare, "bare client, 8 threads")
    report(f"crawl again ({again_requests} requests, {bodies} manifest bodies)", again, cold, "cold crawl")
    report("cold crawl, manifests only", digests, bare_digests, "bare client, 8 threads")
    if util:
        report("cold crawl, manifests only", digests, util, "docker-registry-util, digests only")


if __name__ == "__main__":
    main()
