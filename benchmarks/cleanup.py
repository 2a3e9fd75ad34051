"""How fast is a cleanup planned? Builds a synthetic inventory, then measures in a fresh process.

    python benchmarks/cleanup.py                                     # 1,000,000 manifests in 5,000 repositories
    python benchmarks/cleanup.py --manifests 140000 --repositories 1
    python benchmarks/cleanup.py --database postgresql://…           # an empty database; it is left filled
    python benchmarks/cleanup.py --keep FILE                         # a SQLite file that is built once and used again

The inventory is that of ``sizes.py`` (Zipf repositories, every tenth image in an index of two, one tag for each image
outside an index and for each index) with the times that notifications and a crawl would have left: of half of the
tags and manifests an event told.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sizes import fill, peak_mib, timed
from sqlalchemy.engine import Connection

from regwarden.core.observed import Needs, ObservedRegistry, ObservedRepository
from regwarden.core.plan import Plan, PlanSizes
from regwarden.core.policy_reading import parse_policies
from regwarden.flows.planning import PlanRequest, decide
from regwarden.store.database import Access, Database, open_database
from regwarden.store.observed import iterate_repositories, load_registry
from regwarden.store.plan_sizes import measure_plan
from regwarden.store.plans import pack_plan, save_plan

REGISTRY = "r"
NOW = datetime(2026, 11, 1, tzinfo=UTC)
DAYS = 400
_NOW = int(NOW.timestamp()) * 1_000_000
_START = int((NOW - timedelta(days=DAYS)).timestamp()) * 1_000_000

# Three rules that keep, two of which count, and two that delete: of most repositories two thirds go.
_POLICY = """
apiVersion: retention/v1
kind: Policy
metadata: {name: general}
scope: {registries: [r]}
keep:
  - {match: {tags: {any: ["semver:*"]}}, newest: 10, per: semver-major, rank: {by: [semver, tagged]}}
  - {newest: 5, rank: {by: [tagged]}}
  - {match: {tags: {any: ["glob:*5.0"]}}}
delete:
  - {when: {tagged: {older-than: 90d}}}
  - {untagged: {older-than: 7d}}
limits: {per-run: {manifests: unlimited, share-of-repo: 100%}}
"""
_BUDGET = _POLICY.replace("limits:", "  - {budget: {max: 1GB}}\nlimits:")

# Spread by a multiplier that is prime to the number of minutes, so that neighbours differ.
_MOMENT = f"{_START} + ({{key}} * 7919 % {DAYS * 1440}) * 60000000 + {{key}} % 60000000"
_DATING = f"""
UPDATE manifests SET created_at = {_MOMENT.format(key="id")};
UPDATE repository_manifests SET first_seen_at = {_MOMENT.format(key="manifest_id")};
UPDATE repository_manifests SET pushed_at = first_seen_at WHERE manifest_id % 2 = 0;
UPDATE tags SET tagged_at = {_MOMENT.format(key="manifest_id")};
INSERT INTO tag_history (repository_id, tag, at, digest, cause, effective_at)
  SELECT t.repository_id, t.name, t.tagged_at, m.digest, CASE WHEN m.id % 2 = 0 THEN 'event' ELSE 'crawl' END,
  t.tagged_at FROM tags t JOIN manifests m ON m.id = t.manifest_id;
UPDATE repositories SET seen_at = {_NOW},
  tag_count = (SELECT count(*) FROM tags t WHERE t.repository_id = repositories.id),
  manifest_count = (SELECT count(*) FROM repository_manifests m WHERE m.repository_id = repositories.id);
UPDATE registries SET crawled_at = {_NOW}, crawl_state = 'complete', events_since = {_START}, delivered_at = {_NOW};
INSERT INTO crawls (registry_id, state, started_at, finished_at, certificate)
  VALUES (1, 'complete', 0, {_START}, '{{"scope":""}}');
ANALYZE
"""


@dataclass
class Loaded:
    """What the stages after loading work on."""

    connection: Connection
    registry: ObservedRegistry
    repositories: list[ObservedRepository]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--manifests", type=int, default=1_000_000)
    parser.add_argument("--repositories", type=int, default=5_000)
    parser.add_argument("--database", help="URL of an empty database (default: a SQLite file that is deleted)")
    parser.add_argument("--keep", type=Path, help="SQLite file that is built once and used again")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure)
        return
    with tempfile.TemporaryDirectory() as folder:
        file = arguments.keep or Path(folder, "inventory.sqlite3")
        url = arguments.database or f"sqlite:///{file}"
        if arguments.database or not file.exists():
            started = time.perf_counter()
            with open_database(url, access=Access.WRITE, create=True) as database:
                fill(database, arguments.manifests, arguments.repositories)
                date(database)
            print(f"{'inventory built (not measured)':44}{time.perf_counter() - started:9.1f} s", flush=True)
        subprocess.run([sys.executable, __file__, "--measure", url], check=True)


def date(database: Database) -> None:
    """Give everything its times."""
    for sql in _DATING.split(";"):
        database.write_now(lambda connection, sql=sql: connection.exec_driver_sql(sql) and None)


def measure(url: str) -> None:
    print(f"{'before anything':44}{'':11}{peak_mib():10,.0f} MiB", flush=True)
    with open_database(url, access=Access.READ) as database:
        database.read_now(run)


def run(connection: Connection) -> None:
    """The whole, then every stage on its own; more of them are added to ``STAGES``."""
    plan_and_keep(connection)
    timed("a plan with a budget for each repository", lambda: make_plan(connection, _BUDGET))
    count, _ = timed("load, one repository after the other", lambda: walk(connection, Needs()))
    print(f"  {count[0]:,} repositories, {count[1]:,} manifests, {count[2]:,} tags")
    timed("the same with pulls and labels", lambda: walk(connection, Needs(labels=True, pulls=True)))
    timed("the same with two fields", lambda: walk(connection, Needs(fields=frozenset({"logical_bytes", "pushed_at"}))))
    found = list(iterate_repositories(connection, REGISTRY, None, Needs(), NOW))
    loaded = Loaded(connection, load_registry(connection, REGISTRY), found)
    print(f"{'everything held at once':44}{'':11}{peak_mib():10,.0f} MiB", flush=True)
    for label, stage in STAGES.items():
        timed(label, lambda stage=stage: stage(loaded))


def plan_and_keep(connection: Connection) -> None:
    plan, _ = timed("a whole plan: read, decide, lift, measure", lambda: make_plan(connection, _POLICY))
    print(f"  {len(plan.steps):,} steps")
    timed("its rows, packed and saved", lambda: keep(plan))


def make_plan(connection: Connection, text: str) -> Plan:
    request = PlanRequest(
        policies=parse_policies(text, name="policy.yaml"),
        policy_texts={"policy.yaml": text},
        made_by="somebody",
        expires_after=timedelta(days=7),
    )
    return decide(connection, request, [REGISTRY], NOW, lambda _progress: None)


def keep(plan: Plan) -> None:
    with open_database(":memory:", access=Access.WRITE, create=True) as database:
        database.write_now(lambda connection: save_plan(connection, pack_plan(plan)))


def walk(connection: Connection, needs: Needs) -> tuple[int, int, int]:
    repositories = manifests = tags = 0
    for one in iterate_repositories(connection, REGISTRY, None, needs, NOW):
        repositories += 1
        manifests += len(one.manifests)
        tags += len(one.tags)
    return repositories, manifests, tags


def size_of_a_third(loaded: Loaded) -> PlanSizes:
    deleted = [
        (one.name, digest)
        for one in loaded.repositories
        for place, digest in enumerate(one.manifests)
        if place % 3 == 0
    ]
    return measure_plan(loaded.connection, REGISTRY, deleted, is_untagged_known=False)


STAGES: dict[str, Callable[[Loaded], object]] = {
    "bytes that deleting a third frees": size_of_a_third,
}


if __name__ == "__main__":
    main()
