"""How fast are the sizes of a million manifests? Builds a synthetic inventory, then measures in a fresh process.

    python benchmarks/sizes.py                       # 1,000,000 manifests, 10,000,000 edges, 20,000 repositories
    python benchmarks/sizes.py --manifests 100000 --repositories 2000
    python benchmarks/sizes.py --database postgresql://…   # an empty database; it is left filled

Repositories have Zipf sizes. An image has ten blobs: four of a shared base, four of its repository, two of its own.
Every tenth image stands in an index of two; every image outside an index, and every index, has one tag. Documents
are incompressible bytes of the length that a compressed manifest has, because the reader passes over them on disk.
The baselines compute stored and exclusive bytes (ours: attributed and untagged ones too) of a fifth of the same
repositories, once from rows with plain Python sets and once with SQL on relational edges, scaled to all of them.
"""

from __future__ import annotations

import argparse
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from sqlalchemy import select
from sqlalchemy.engine import Connection

from regwarden.store import schema
from regwarden.store.analytics import load_referrers, measure_graph, reclaim, reclaimable
from regwarden.store.bulk import bulk_upsert
from regwarden.store.database import Access, Database, open_database
from regwarden.store.graph_arrays import Graph, load_graph
from regwarden.store.packing import pack_blob_ids, unpack_blob_ids
from regwarden.store.repository_sizes import RepositorySizes, measure_repositories
from regwarden.store.tag_sizes import rank_tags

T = TypeVar("T")

BASE_COUNT = 300
BLOBS_EACH = 10
PAYLOAD_BYTES = 620
BATCH_ROWS = 20_000
SELECTED_PART = 0.3
SAMPLE_STEP = 5
REGISTRY_ID = 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--manifests", type=int, default=1_000_000)
    parser.add_argument("--repositories", type=int, default=20_000)
    parser.add_argument("--database", help="URL of an empty database (default: a SQLite file that is deleted)")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure)
        return
    with tempfile.TemporaryDirectory() as folder:
        url = arguments.database or f"sqlite:///{folder}/inventory.sqlite3"
        started = time.perf_counter()
        with open_database(url, access=Access.WRITE, create=True) as database:
            fill(database, arguments.manifests, arguments.repositories)
        file = Path(folder, "inventory.sqlite3")
        size = f", {file.stat().st_size / 2**20:,.0f} MiB" if file.exists() else ""
        print(f"{'inventory built (not measured)':44}{time.perf_counter() - started:9.1f} s{size}", flush=True)
        subprocess.run([sys.executable, __file__, "--measure", url], check=True)


def fill(database: Database, manifest_count: int, repository_count: int) -> None:
    chance = random.Random(1)
    numbers = np.random.default_rng(1)
    weights = 1 / np.arange(1, repository_count + 1) ** 0.9
    sizes = np.maximum(1, np.floor(weights / weights.sum() * manifest_count)).astype(int).tolist()
    chance.shuffle(sizes)
    registry = {"id": REGISTRY_ID, "name": "r", "url": "", "kind": "distribution", "first_seen_at": 0}
    write(database, schema.registries, iter([registry]))
    write(database, schema.repositories, (repository_row(place) for place in range(repository_count)))
    blob_count = BASE_COUNT * 4 + sum(sizes) * 3 + repository_count * 4
    blob_sizes = (numbers.lognormal(15, 2, blob_count).astype(int) + 32).tolist()
    write(database, schema.blobs, (blob_row(place, size) for place, size in enumerate(blob_sizes)))
    write(database, schema.manifests, manifest_rows(sizes))
    write(database, schema.manifest_children, (row for row, _ in child_rows(sizes)))
    write(database, schema.repository_manifests, (existence_row(*place) for place in placed(sizes)))
    in_index = {row["child_id"] for row, _ in child_rows(sizes)}
    write(database, schema.tags, (tag_row(*place) for place in placed(sizes) if place[1] not in in_index))


def placed(sizes: list[int]) -> Iterator[tuple[int, int, int]]:
    """(repository id, manifest id, number within the repository) of every manifest."""
    manifest_id = 0
    for repository, size in enumerate(sizes):
        for number in range(size):
            manifest_id += 1
            yield repository + 1, manifest_id, number


def repository_row(place: int) -> dict[str, object]:
    name = f"team-{place % 97:02}/application-{place}"
    return {"id": place + 1, "registry_id": REGISTRY_ID, "name": name, "first_seen_at": 0, "state": "complete"}


def blob_row(place: int, size: int) -> dict[str, object]:
    digest = b"\x01" + os.urandom(32)
    media_type = "application/vnd.oci.image.layer.v1.tar+gzip"
    return {"id": place + 1, "digest": digest, "media_type": media_type, "size_bytes": size}


def is_index(number: int) -> bool:
    return number % 22 == 21


def manifest_rows(sizes: list[int]) -> Iterator[dict[str, object]]:
    own = BASE_COUNT * 4
    for repository_id, manifest_id, number in placed(sizes):
        if number == 0:
            middle, own = own, own + sizes[repository_id - 1] + 4
        base = repository_id * repository_id % BASE_COUNT * 4
        layers = [*range(base + 1, base + 5), *range(middle + number + 1, middle + number + 5), own + 1]
        packed, layer_count = (b"", 0) if is_index(number) else pack_blob_ids(layers, [own + 2])
        own += 2
        yield {
            "id": manifest_id,
            "digest": b"\x01" + os.urandom(32),
            "state": "read",
            "media_type": "application/vnd.oci.image.manifest.v1+json",
            "is_index": int(is_index(number)),
            "size_bytes": 1_900,
            "layer_count": layer_count,
            "blob_ids": packed,
            "payload": os.urandom(PAYLOAD_BYTES),
        }


def child_rows(sizes: list[int]) -> Iterator[tuple[dict[str, int], int]]:
    for repository_id, manifest_id, number in placed(sizes):
        if is_index(number):
            for position in range(2):
                child_id = manifest_id - 1 - position
                yield {"parent_id": manifest_id, "position": position, "child_id": child_id}, repository_id


def existence_row(repository_id: int, manifest_id: int, _: int) -> dict[str, object]:
    return {"repository_id": repository_id, "manifest_id": manifest_id, "first_seen_at": 0}


def tag_row(repository_id: int, manifest_id: int, number: int) -> dict[str, object]:
    times = {"first_seen_at": 0, "tagged_at": 0}
    return {"repository_id": repository_id, "name": f"1.{number}.0", "manifest_id": manifest_id, "state": "ok", **times}


def write(database: Database, table, rows: Iterator[dict[str, object]]) -> None:
    while batch := list(islice(rows, BATCH_ROWS)):
        database.write_now(lambda connection, batch=batch: bulk_upsert(connection, table, batch))


def peak_mib() -> float:
    # Not ru_maxrss: a process inherits that from the one that started it.
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def timed(label: str, work: Callable[[], T]) -> tuple[T, float]:
    started, cpu_started = time.perf_counter(), time.process_time()
    result = work()
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    print(f"{label:44}{seconds:9.2f} s{cpu_seconds:9.2f} s CPU{peak_mib():8,.0f} MiB peak so far", flush=True)
    return result, seconds


def measure(url: str) -> None:
    print(f"{'before anything':44}{'':11}{peak_mib():10,.0f} MiB", flush=True)
    with open_database(url, access=Access.READ) as database:
        graph, load = timed("load the graph", lambda: database.read_now(lambda one: load_graph(one, REGISTRY_ID)))
        print(
            f"  {len(graph.manifest_ids):,} manifests, {len(graph.blobs.targets):,} edges, "
            f"{len(graph.blob_bytes):,} blobs, {len(graph.repositories.ids):,} repositories, "
            f"{len(graph.tags.ids):,} tags"
        )
        sizes, repositories = timed("all repository sizes", lambda: measure_repositories(graph))
        print(f"{'  = with loading':44}{load + repositories:9.2f} s", flush=True)
        chosen = np.random.default_rng(7).random(len(graph.manifest_ids)) < SELECTED_PART
        everywhere = np.ones(len(graph.repositories.ids), dtype=np.bool_)
        referrers = database.read_now(lambda one: load_referrers(one, graph))
        label = f"reclaimable bytes of {int(chosen.sum()):,} manifests"
        (freed, _), reclaiming = timed(label, lambda: reclaim(graph, referrers, chosen, everywhere))
        print(f"{'  = with loading':44}{load + reclaiming:9.2f} s", flush=True)
        ranks, _ = timed("tag ranks", lambda: database.read_now(lambda one: rank_tags(one, graph)))
        timed("every figure of every tag and repository", lambda: measure_graph(graph, ranks))
        chosen_ids = graph.manifest_ids[chosen]
        again, _ = timed(
            "reclaimable() in one call, loading included",
            lambda: database.read_now(lambda one: reclaimable(one, REGISTRY_ID, chosen_ids)),
        )
        assert again.reclaimable_bytes == freed
        compare(database, graph, sizes, (load, repositories))


def compare(database: Database, graph: Graph, sizes: RepositorySizes, ours: tuple[float, float]) -> None:
    """Time the same on a fifth of the repositories in plain Python and in SQL, and scale it to all of them."""
    load, summing = ours
    sample = set(graph.repositories.ids[::SAMPLE_STEP].tolist())
    places = {int(graph.repositories.ids[place]): place for place in range(0, len(graph.repositories.ids), SAMPLE_STEP)}
    (rows, blob_bytes), reading = timed(
        "  baseline: read blobs and sample row by row", lambda: read_rows(database, sample)
    )
    factor = len(graph.manifest_ids) / len(rows)
    python, python_seconds = timed("  baseline: sets of plain Python, sample", lambda: with_sets(rows, blob_bytes))
    connection = edges_in_sqlite(rows, blob_bytes)
    sql, sql_seconds = timed("  baseline: SQL on indexed edges, sample", lambda: with_sql(connection))
    assert {repository: stored for repository, (stored, _) in python.items()} == {
        repository: int(sizes.stored[place]) for repository, place in places.items()
    }
    documents = Counter[int]()
    for repository, _, document, _ in rows:
        documents[repository] += document
    assert all(stored + documents[repository] == python[repository][0] for repository, (stored, _) in sql.items())
    print(f"  the sample is 1/{factor:.1f} of the manifests; its sums are scaled up, its reading is not")
    print(f"{'ratio: reading row by row':44}{reading / load:9.1f} times ours, or more")
    print(f"{'ratio: sums in plain Python':44}{python_seconds * factor / summing:9.1f} times ours")
    print(f"{'ratio: sums in SQL on edges':44}{sql_seconds * factor / summing:9.1f} times ours")


def read_rows(database: Database, sample: set[int]) -> tuple[list[tuple[int, int, int, list[int]]], dict[int, int]]:
    existing, manifests, blobs = schema.repository_manifests, schema.manifests, schema.blobs
    wanted = select(existing.c.repository_id, existing.c.manifest_id)
    contents = select(manifests.c.id, manifests.c.size_bytes, manifests.c.blob_ids)

    def read(connection: Connection) -> tuple[list[tuple[int, int, int, list[int]]], dict[int, int]]:
        where = {manifest: repository for repository, manifest in connection.execute(wanted) if repository in sample}
        rows = [
            (where[manifest], manifest, document, unpack_blob_ids(packed))
            for manifest, document, packed in connection.execute(contents)
            if manifest in where
        ]
        return rows, {row.id: row.size_bytes for row in connection.execute(select(blobs.c.id, blobs.c.size_bytes))}

    return database.read_now(read)


def with_sets(rows: list[tuple[int, int, int, list[int]]], blob_bytes: dict[int, int]) -> dict[int, tuple[int, int]]:
    by_repository: dict[int, set[int]] = {}
    sums = Counter[int]()
    for repository, _, document, blobs in rows:
        by_repository.setdefault(repository, set()).update(blobs)
        sums[repository] += document
    holders = Counter(blob for blobs in by_repository.values() for blob in blobs)
    return {
        repository: (
            sums[repository] + sum(blob_bytes[blob] for blob in blobs),
            sums[repository] + sum(blob_bytes[blob] for blob in blobs if holders[blob] == 1),
        )
        for repository, blobs in by_repository.items()
    }


def edges_in_sqlite(held: list[tuple[int, int, int, list[int]]], blob_bytes: dict[int, int]) -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE edges (repository INTEGER, blob INTEGER)")
    connection.execute("CREATE TABLE blobs (id INTEGER PRIMARY KEY, size INTEGER)")
    rows = ((repository, blob) for repository, _, _, blobs in held for blob in blobs)
    connection.executemany("INSERT INTO edges VALUES (?, ?)", rows)
    connection.executemany("INSERT INTO blobs VALUES (?, ?)", blob_bytes.items())
    connection.execute("CREATE INDEX edges_by_repository ON edges (repository, blob)")
    return connection


def with_sql(connection: sqlite3.Connection) -> dict[int, tuple[int, int]]:
    return {
        repository: (stored, exclusive)
        for repository, stored, exclusive in connection.execute(
            """
            WITH held AS (SELECT DISTINCT repository, blob FROM edges),
                 holders AS (SELECT blob, COUNT(*) AS count FROM held GROUP BY blob)
            SELECT held.repository, SUM(size), SUM(CASE WHEN count = 1 THEN size ELSE 0 END)
            FROM held JOIN holders USING (blob) JOIN blobs ON blobs.id = held.blob GROUP BY held.repository
            """
        )
    }


if __name__ == "__main__":
    main()
