"""How fast is a cleanup planned? Builds a synthetic inventory, then measures in a fresh process.

    python benchmarks/cleanup.py                                     # 1,000,000 manifests in 5,000 repositories
    python benchmarks/cleanup.py --manifests 140000 --repositories 1
    python benchmarks/cleanup.py --database postgresql://…           # an empty database; it is left filled
    python benchmarks/cleanup.py --keep FILE                         # a SQLite file that is built once and used again
    python benchmarks/cleanup.py --budgets                           # besides, a budget for each repository

The inventory is that of ``sizes.py`` (Zipf repositories, every tenth image in an index of two, one tag for each image
outside an index and for each index) with the times that notifications and a crawl would have left: of half of the
tags and manifests an event told. The baseline is reading the same facts in the same process, without deciding anything.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from sizes import fill, peak_mib, timed
from sqlalchemy.engine import Connection

from regwarden.core.observed import Needs, ObservedRegistry, ObservedRepository
from regwarden.core.plan import Plan, PlanSizes
from regwarden.core.planning import PlanInputs, plan_repository
from regwarden.core.policy import Policy
from regwarden.core.policy_reading import parse_policies
from regwarden.core.retention import collect_policies, evaluate
from regwarden.core.verdicts import RepositoryVerdicts
from regwarden.flows.planning import PlanRequest, decide
from regwarden.store.collector import collector_paused
from regwarden.store.database import Access, Database, open_database
from regwarden.store.observed import iterate_repositories, load_registry
from regwarden.store.plan_sizes import measure_plan
from regwarden.store.plans import PackedPlan, pack_plan, save_plan

T = TypeVar("T")

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
    """What the stages after loading work on; ``verdicts`` are those of the rules, before they are lifted to steps."""

    connection: Connection
    registry: ObservedRegistry
    repositories: list[ObservedRepository]
    policies: tuple[Policy, ...]
    verdicts: list[RepositoryVerdicts] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--manifests", type=int, default=1_000_000)
    parser.add_argument("--repositories", type=int, default=5_000)
    parser.add_argument("--database", help="URL of an empty database (default: a SQLite file that is deleted)")
    parser.add_argument("--keep", type=Path, help="SQLite file that is built once and used again")
    parser.add_argument("--budgets", action="store_true", help="also a plan with a budget for each repository")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure, with_budgets=arguments.budgets)
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
        options = ["--budgets"] if arguments.budgets else []
        subprocess.run([sys.executable, __file__, "--measure", url, *options], check=True)


def date(database: Database) -> None:
    """Give everything its times."""
    for sql in _DATING.split(";"):
        database.write_now(lambda connection, sql=sql: connection.exec_driver_sql(sql) and None)


def measure(url: str, *, with_budgets: bool) -> None:
    print(f"{'before anything':44}{'':11}{peak_mib():10,.0f} MiB", flush=True)
    with open_database(url, access=Access.READ) as database:
        database.read_now(lambda connection: run(connection, with_budgets=with_budgets))


def run(connection: Connection, *, with_budgets: bool) -> None:
    """Reading alone, the whole beside it, then every stage on its own; more of them are added to ``STAGES``."""
    count, reading = timed_in_cpu("load, one repository after the other", lambda: walk(connection, Needs()))
    print(f"  {count[0]:,} repositories, {count[1]:,} manifests, {count[2]:,} tags")
    planning = plan_and_keep(connection)
    print(f"{'  = with saving, beside reading alone':44}{planning / reading:9.2f} times (CPU)", flush=True)
    if with_budgets:
        _, budgeted = timed_in_cpu("a plan with a budget for each repository", lambda: make_plan(connection, _BUDGET))
        print(f"{'  = beside reading alone':44}{budgeted / reading:9.2f} times (CPU)", flush=True)
    timed("load with pulls and labels", lambda: walk(connection, Needs(labels=True, pulls=True)))
    timed("load with two fields", lambda: walk(connection, Needs(fields=frozenset({"logical_bytes", "pushed_at"}))))
    found = list(iterate_repositories(connection, REGISTRY, None, Needs(), NOW))
    policies = parse_policies(_POLICY, name="policy.yaml")
    loaded = Loaded(connection, load_registry(connection, REGISTRY), found, policies)
    print(f"{'everything held at once':44}{'':11}{peak_mib():10,.0f} MiB", flush=True)
    with collector_paused():
        for label, stage in STAGES.items():
            timed(label, lambda stage=stage: stage(loaded))


def timed_in_cpu(label: str, work: Callable[[], T]) -> tuple[T, float]:
    """Like ``timed``, with the seconds that the processor took: other work does not change them as much."""
    started = time.process_time()
    result, _ = timed(label, work)
    return result, time.process_time() - started


def plan_and_keep(connection: Connection) -> float:
    """CPU seconds of both."""
    plan, planning = timed_in_cpu("a whole plan: read, decide, lift, measure", lambda: make_plan(connection, _POLICY))
    print(f"  {len(plan.steps):,} steps")
    packed, packing = timed_in_cpu("its rows, packed", lambda: pack_plan(plan))
    _, saving = timed_in_cpu("and saved", lambda: keep(packed))
    return planning + packing + saving


def make_plan(connection: Connection, text: str) -> Plan:
    request = PlanRequest(
        policies=parse_policies(text, name="policy.yaml"),
        policy_texts={"policy.yaml": text},
        made_by="somebody",
        expires_after=timedelta(days=7),
    )
    return decide(connection, request, [REGISTRY], NOW, lambda _progress: None)


def keep(packed: PackedPlan) -> None:
    with open_database(":memory:", access=Access.WRITE, create=True) as database:
        database.write_now(lambda connection: save_plan(connection, packed))


def walk(connection: Connection, needs: Needs) -> tuple[int, int, int]:
    repositories = manifests = tags = 0
    for one in iterate_repositories(connection, REGISTRY, None, needs, NOW):
        repositories += 1
        manifests += len(one.manifests)
        tags += len(one.tags)
    return repositories, manifests, tags


def apply_rules(loaded: Loaded) -> None:
    for one in loaded.repositories:
        collected = collect_policies(loaded.policies, REGISTRY, one.name)
        if collected is not None:
            found = evaluate(collected, one, loaded.registry, holds=(), now=NOW, with_details=False)
            loaded.verdicts.append(found)


def lift_to_steps(loaded: Loaded) -> None:
    registries = {REGISTRY: loaded.registry}
    inputs = PlanInputs(registries=registries, snapshots={}, now=NOW, made_by="somebody", policies=loaded.policies)
    for one, verdicts in zip(loaded.repositories, loaded.verdicts, strict=True):
        plan_repository(inputs, one, verdicts, loaded.policies)


def size_of_a_third(loaded: Loaded) -> PlanSizes:
    deleted = [
        (one.name, digest)
        for one in loaded.repositories
        for place, digest in enumerate(one.manifests)
        if place % 3 == 0
    ]
    return measure_plan(loaded.connection, REGISTRY, deleted, is_untagged_known=False)


STAGES: dict[str, Callable[[Loaded], object]] = {
    "rules": apply_rules,
    "steps and guards of each repository": lift_to_steps,
    "bytes that deleting a third frees": size_of_a_third,
}


if __name__ == "__main__":
    main()
