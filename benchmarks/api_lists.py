"""How long does a page of a list of ``/api/v1`` take, over a million tags? Milliseconds: median and p99.

Usage: ``python benchmarks/api_lists.py [--tags 1000000] [--requests 300] [--database FILE]``. The service is a process
of its own, asked over one kept connection; every second request goes on behind the last page, so that pages in the
middle count too. `CPU ms` is the service's own time for one request, whatever else the machine does. The baseline is
the same page from the store, in this process, without HTTP.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from queries import NOW, build_store, make_query, measure
from sqlalchemy import create_engine

from regwarden import connect
from regwarden.store.database import Access, open_database
from regwarden.store.queries import list_rows

AIM_MILLISECONDS = 100
API = "/api/v1"
REPOSITORY = "/registries/mirror.example.com/repositories/team00%2Fservice-00000"
LISTS = {
    "registries": "/registries",
    "repositories": "/repositories",
    "repositories, the largest first": "/repositories?sort=-stored_bytes",
    "20 repositories with their tags": "/repositories?embed=tags&limit=20",
    "tags": "/tags",
    "tags of a repository": f"{REPOSITORY}/tags",
    "tags, the largest first": "/tags?sort=-size",
    "tags, the oldest first": "/tags?sort=created",
    "tags called latest": "/tags?tag=latest",
    "tags by a glob": "/tags?tag=glob:sha-ff*",
    "tags by size": "/tags?where=size%20%3E%201900000000",
    "tags with their total": "/tags?count=true",
    "manifests": "/manifests",
    "one tag": f"{REPOSITORY}/tags/latest",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tags", type=int, default=1_000_000)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--database", type=Path, default=Path(tempfile.gettempdir()) / "regwarden-api-lists.sqlite3")
    arguments = parser.parse_args()
    url = f"sqlite:///{arguments.database}"
    if not arguments.database.exists():
        with closing(open_database(url, access=Access.WRITE, create=True)):
            pass
        build_store(arguments.database, arguments.tags, is_made=True)
    with create_engine(url).connect() as connection:
        bare = measure(lambda: list_rows(connection, make_query(), NOW), 20)
    print(f"{'page':34}{'median ms':>12}{'p99 ms':>10}{'CPU ms':>10}{'bytes':>12}")
    with service(url) as (ask, spent):
        for name, path in LISTS.items():
            before = spent()
            taken, size = measure_pages(path, ask, arguments.requests)
            report(name, taken, (spent() - before) * 1000 / len(taken), size)
    print(f"{'100 tags from the store alone':34}{bare:12.1f}")


def measure_pages(path: str, ask: Callable[[str], bytes], count: int) -> tuple[list[float], int]:
    """Milliseconds of each request, the shortest first, and the most bytes that came."""
    taken, following, size = [], None, 0
    for number in range(count):
        place = following if following is not None and number % 2 else f"{API}{path}"
        started = time.perf_counter()
        body = ask(place)
        taken.append((time.perf_counter() - started) * 1000)
        following = json.loads(body)["_links"].get("next", {}).get("href") or following
        size = max(size, len(body))
    return sorted(taken), size


def report(name: str, taken: list[float], cpu_milliseconds: float, size: int) -> None:
    p99 = taken[int(len(taken) * 0.99) - 1]
    remark = "" if p99 < AIM_MILLISECONDS else f"  above the aim of {AIM_MILLISECONDS}"
    print(f"{name:34}{statistics.median(taken):12.1f}{p99:10.1f}{cpu_milliseconds:10.1f}{size:12,}{remark}", flush=True)


@contextmanager
def service(database: str) -> Iterator[tuple[Callable[[str], bytes], Callable[[], float]]]:
    """The service: a function from a path to the body of the answer, and one that says its CPU seconds so far."""
    with connect(database, environ={}) as inventory:
        token = inventory.create_token(f"bench-{time.time_ns()}", roles=["viewer"]).token
    command = [sys.executable, "-m", "regwarden", "--database", database, "serve", "--listen", "127.0.0.1:0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        found = next(one for line in process.stderr if (one := re.search(r"listening on http://(\S+)", line)))
        threading.Thread(target=process.stderr.read, daemon=True).start()
        with closing(http.client.HTTPConnection(found[1], timeout=60)) as connection:

            def ask(path: str) -> bytes:
                connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
                answer = connection.getresponse()
                body = answer.read()
                assert answer.status == 200, body
                return body

            def spent() -> float:
                ticks = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
                return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")

            yield ask, spent
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
