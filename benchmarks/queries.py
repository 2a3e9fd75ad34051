"""How fast is one question to a store of a million tags? Prints milliseconds beside a baseline of the same run.

Usage: ``python benchmarks/queries.py [--tags 1000000] [--database FILE]``. The file is kept and used again.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from sqlalchemy import Connection, create_engine, insert, text
from sqlalchemy.engine import Engine

from regwarden.core.conditions import parse_condition, parse_sort
from regwarden.core.patterns import parse_pattern
from regwarden.core.query import Query
from regwarden.store import schema
from regwarden.store.queries import count_rows, list_rows
from regwarden.store.query_paging import write_cursor
from regwarden.store.query_scan import find_rows, prepare_scan

TAGS_PER_REPOSITORY = 50
NOW = datetime(2026, 11, 1, tzinfo=UTC)
_DAY = 86_400_000_000
_NOW_MICROS = int(NOW.timestamp()) * 1_000_000


def build_store(path: Path, tag_count: int, *, is_made: bool = False) -> Engine:
    """A SQLite store at ``path`` with ``tag_count`` tags in two registries; an existing file is used as it is.

    With ``is_made`` its tables are there already, and empty.
    """
    is_new = is_made or not path.exists()
    engine = create_engine(f"sqlite:///{path}")
    if is_new:
        schema.metadata.create_all(engine)
        with engine.begin() as connection:
            connection.exec_driver_sql("PRAGMA synchronous=OFF")
            _fill(connection, tag_count)
            connection.execute(text("ANALYZE"))
    return engine


def _fill(connection: Connection, tag_count: int) -> None:
    repository_count = tag_count // TAGS_PER_REPOSITORY
    registries = [
        {"id": number, "name": name, "url": f"https://{name}", "kind": "distribution", "first_seen_at": 0}
        for number, name in ((1, "registry.example.com"), (2, "mirror.example.com"))
    ]
    connection.execute(insert(schema.registries), registries)
    connection.execute(insert(schema.repositories), [_repository(number) for number in range(repository_count)])
    for batch in _manifest_batches(tag_count):
        connection.execute(insert(schema.manifests), batch)
        connection.execute(
            insert(schema.repository_manifests),
            [
                {
                    "repository_id": 1 + (row["id"] - 1) // TAGS_PER_REPOSITORY,
                    "manifest_id": row["id"],
                    "first_seen_at": 0,
                }
                for row in batch
            ],
        )
    numbers = list(range(tag_count))
    random.Random(1).shuffle(numbers)
    for start in range(0, tag_count, 10_000):
        connection.execute(insert(schema.tags), [_tag(number) for number in numbers[start : start + 10_000]])


def _repository(number: int) -> dict[str, object]:
    return {
        "id": number + 1,
        "registry_id": 1 if number % 4 else 2,
        "name": f"team{number % 97:02d}/service-{number:05d}",
        "first_seen_at": 0,
        "state": "complete",
        "tag_count": TAGS_PER_REPOSITORY,
        "stored_bytes": number * 1_000_003,
    }


def _manifest_batches(tag_count: int) -> Iterator[list[dict[str, object]]]:
    draw = random.Random(2)
    for start in range(0, tag_count, 10_000):
        yield [
            {
                "id": number + 1,
                "digest": b"\x01" + draw.randbytes(32),
                "state": "read",
                "media_type": "application/vnd.oci.image.manifest.v1+json",
                "config_digest": b"\x01" + draw.randbytes(32),
                "platform": draw.choice(("linux/amd64", "linux/arm64/v8")),
                "created_at": _created_at(number),
                "size_bytes": 1200,
                "layer_count": 8,
                "blob_ids": draw.randbytes(40),
                "logical_bytes": _logical_bytes(number),
            }
            for number in range(start, min(start + 10_000, tag_count))
        ]


def _tag(number: int) -> dict[str, object]:
    position = number % TAGS_PER_REPOSITORY
    if position == 0:
        name = "latest"
    elif position < 30:
        name = f"{position % 5}.{position}.{number % 1000}" + ("-rc1" if number % 7 == 0 else "")
    else:
        name = f"sha-{(number * 2654435761) % 2**32:08x}"
    return {
        "repository_id": 1 + number // TAGS_PER_REPOSITORY,
        "name": name,
        "manifest_id": number + 1,
        "state": "ok",
        "first_seen_at": 0,
        "tagged_at": 0,
        "created_at": _created_at(number),
        "logical_bytes": _logical_bytes(number),
        "exclusive_bytes": 0,
    }


def _created_at(number: int) -> int:
    return _NOW_MICROS - (number * 7919 % 1500) * _DAY - number % 86_400


def _logical_bytes(number: int) -> int:
    return (number * 1_000_003) % 2_000_000_000


CONDITIONS = {
    "first page": {},
    "exact tag": {"tags": ("latest",)},
    "exact tag, no match": {"tags": ("nothing",)},
    "prefix glob": {"tags": ("glob:sha-ff*",)},
    "prefix glob, no match": {"tags": ("glob:zz*",)},
    "inner glob": {"tags": ("glob:*-rc*",)},
    "inner glob, no match": {"tags": ("glob:*zzz*",)},
    "repository glob": {"repositories": ("glob:*/service-000?1",)},
    "size, few match": {"where": "size > 1999990000"},
    "size, 5 % match": {"where": "size > 1900000000"},
    "size, half match": {"where": "size > 1000000000"},
    "created, two days": {"where": "created between 10d and 12d"},
    "created, a fifth": {"where": "created < 300d"},
    "digest prefix": {"where": "digest ~ ^sha256:abcd"},
    "sorted by size, down": {"sort": "-size"},
    "sorted by age": {"sort": "created"},
    "re:, first page": {"tags": ("re:.*-rc[0-9]",)},
    "re:, full scan": {"tags": ("re:.*zzz",)},
    "semver:, first page": {"tags": ("semver:>=3 <4",)},
    "semver:, full scan": {"tags": ("semver:>=77",)},
}
LIMIT = 100


def make_query(*, tags=(), repositories=(), where=None, sort=None) -> Query:
    return Query(
        "tag",
        tags=tuple(parse_pattern(text) for text in tags),
        repositories=tuple(parse_pattern(text) for text in repositories),
        conditions=(parse_condition("tag", where),) if where else (),
        sort=(parse_sort("tag", sort),) if sort else (),
        limit=LIMIT,
    )


def measure(work: Callable[[], object], repeats: int = 3) -> float:
    """The best of some runs, in milliseconds."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best * 1000


def middle_cursor(connection: Connection, tag_count: int) -> str:
    """A cursor behind about half of the rows."""
    query = replace(make_query(), limit=tag_count // 2)
    scan = prepare_scan(connection, query, NOW)
    _, place = next(islice(find_rows(connection, scan, None, tag_count // 2), tag_count // 2 - 1, None))
    return write_cursor(scan.order, place)


def run(connection: Connection, tag_count: int) -> None:
    names = "registries r JOIN repositories p ON p.registry_id = r.id JOIN tags t ON t.repository_id = p.id"
    plain = f"SELECT * FROM {names} WHERE p.deleted_at IS NULL ORDER BY r.name, p.name, t.name"
    offset = measure(lambda: connection.execute(text(f"{plain} LIMIT {LIMIT} OFFSET {tag_count // 2}")).all(), 1)
    fetched = measure(lambda: sum(1 for _ in connection.execute(text(plain)).yield_per(2000)), 1)
    cursor = middle_cursor(connection, tag_count)
    middle = measure(lambda: list_rows(connection, replace(make_query(), cursor=cursor), NOW))
    print(f"{'question':28}{'ms':>10}{'rows':>8}{'count, ms':>12}")
    for name, parts in CONDITIONS.items():
        query = make_query(**parts)
        found = list_rows(connection, query, NOW)
        taken = measure(lambda: list_rows(connection, query, NOW))  # noqa: B023 -- run at once
        counted = measure(lambda: count_rows(connection, query, NOW), 1)  # noqa: B023 -- run at once
        print(f"{name:28}{taken:10.1f}{len(found.rows):8}{counted:12.1f}")
        if name.endswith("full scan"):
            print(f"{'':28}{taken / fetched:10.2f} of fetching every row without a condition ({fetched:.0f} ms)")
    print(f"{'page in the middle':28}{middle:10.1f}")
    print(f"{'the same by OFFSET':28}{offset:10.1f}  the cursor takes {middle / offset:.3f} of it")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tags", type=int, default=1_000_000)
    parser.add_argument("--database", type=Path, default=Path(tempfile.gettempdir()) / "regwarden-queries.sqlite3")
    arguments = parser.parse_args()
    engine = build_store(arguments.database, arguments.tags)
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA cache_size = -32768")
        run(connection, arguments.tags)


if __name__ == "__main__":
    main()
