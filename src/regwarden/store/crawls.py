"""Crawls as rows: beginning or continuing one, settling what vanished, ending it with its certificate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.engine import Connection

from regwarden.core.coverage import Certificate, Disappearance, Problem
from regwarden.store.bulk import bulk_upsert
from regwarden.store.inventory import ensure_repository, mark_untagged
from regwarden.store.problems import load_problems, replace_problems
from regwarden.store.schema import (
    crawl_checkpoints,
    crawl_problems,
    crawls,
    manifests,
    registries,
    repositories,
    repository_manifests,
    tag_history,
    tags,
)
from regwarden.store.times import from_micros, to_micros

_CONTINUE_WITHIN: Final = timedelta(hours=24)
RESTRICTED: Final = "restricted"


@dataclass(frozen=True, slots=True)
class BegunCrawl:
    """A running crawl. ``done`` are the repositories it published before it was interrupted."""

    crawl_id: int
    registry_id: int
    started_at: datetime
    was_resumed: bool
    is_first: bool
    endpoint_changed: bool
    capabilities: Mapping[str, str]
    done: frozenset[str]


@dataclass(frozen=True, slots=True)
class NewCrawl:
    """A crawl to begin: of which registry (``fingerprint`` identifies address and credentials), reading what."""

    name: str
    url: str
    kind: str
    fingerprint: str
    options: str


def begin_crawl(connection: Connection, new: NewCrawl, *, at: datetime) -> BegunCrawl:
    """Start a crawl of a registry, or continue the one that was interrupted within a day with the same options.

    The caller holds the exclusive right to crawl this registry, so a crawl that is still ``running`` was cut off.
    """
    bulk_upsert(
        connection,
        registries,
        [
            {
                "name": new.name,
                "url": new.url,
                "kind": new.kind,
                "first_seen_at": to_micros(at),
                "endpoint_fingerprint": new.fingerprint,
            }
        ],
        conflict=("name",),
    )
    registry = connection.execute(select(registries).where(registries.c.name == new.name)).one()
    connection.execute(update(registries).where(registries.c.id == registry.id).values(url=new.url, kind=new.kind))
    row = connection.execute(
        select(crawls)
        .where(crawls.c.registry_id == registry.id, crawls.c.state == "running")
        .order_by(crawls.c.id.desc())
        .limit(1)
    ).first()
    can_continue = (
        row is not None and row.options == new.options and at - from_micros(row.started_at) < _CONTINUE_WITHIN
    )
    if row is not None and can_continue:
        crawl_id, started_at = int(row.id), from_micros(row.started_at)
    else:
        _abandon(connection, registry.id)
        started_at = at
        crawl_id = int(
            connection.execute(
                insert(crawls)
                .values(registry_id=registry.id, state="running", options=new.options, started_at=to_micros(at))
                .returning(crawls.c.id)
            ).scalar_one()
        )
    done = connection.execute(
        select(repositories.c.name).where(
            repositories.c.registry_id == registry.id,
            repositories.c.crawl_id == crawl_id,
            repositories.c.state.in_(("complete", "untagged")),
        )
    ).scalars()
    return BegunCrawl(
        crawl_id=crawl_id,
        registry_id=int(registry.id),
        started_at=started_at,
        was_resumed=can_continue,
        is_first=registry.crawl_id is None,
        endpoint_changed=registry.endpoint_fingerprint != new.fingerprint,
        capabilities=msgspec.json.decode(registry.capabilities, type=dict[str, str]),
        done=frozenset(done),
    )


def _abandon(connection: Connection, registry_id: int) -> None:
    """Mark crawls that were cut off and drop what only they could have settled."""
    running = crawls.c.registry_id == registry_id, crawls.c.state == "running"
    ids = list(connection.execute(select(crawls.c.id).where(*running)).scalars())
    if not ids:
        return
    connection.execute(update(crawls).where(*running).values(state="interrupted"))
    connection.execute(delete(crawl_checkpoints).where(crawl_checkpoints.c.crawl_id.in_(ids)))
    for crawl_id in ids:
        withdraw_vanished(connection, crawl_id)


def known_repositories(connection: Connection, registry_id: int) -> dict[str, int]:
    """The repositories that are not gone: name → number of tags."""
    rows = connection.execute(
        select(repositories.c.name, func.count(tags.c.id).label("tag_count"))
        .select_from(repositories.outerjoin(tags, tags.c.repository_id == repositories.c.id))
        .where(repositories.c.registry_id == registry_id, repositories.c.deleted_at.is_(None))
        .group_by(repositories.c.name)
    )
    return {row.name: row.tag_count for row in rows}


def save_capabilities(connection: Connection, registry_id: int, capabilities: Mapping[str, str]) -> None:
    """Replace the capability record of a registry."""
    connection.execute(
        update(registries)
        .where(registries.c.id == registry_id)
        .values(capabilities=msgspec.json.encode(dict(capabilities)).decode())
    )


def mark_repository_vanished(connection: Connection, registry_id: int, name: str, crawl_id: int) -> None:
    """Note that a running crawl found a known repository gone; nothing is marked as deleted yet."""
    connection.execute(
        update(repositories)
        .where(repositories.c.registry_id == registry_id, repositories.c.name == name)
        .values(vanished_in=crawl_id)
    )


def save_unread_repository(
    connection: Connection, begun: BegunCrawl, problem: Problem, *, state: str, at: datetime
) -> None:
    """Note that a repository could not be read at all (``denied``, ``failed``); what is known of it stays.

    So do the problems of its tags and manifests; what this crawl found gone before it was interrupted is open again.
    """
    repository_id = ensure_repository(connection, begun.registry_id, problem.repository, at)
    earlier, _ = load_problems(connection, repository_id, problem.repository)
    problems = (problem, *(known for known in earlier if known.tag or known.digest))
    replace_problems(connection, begun.registry_id, repository_id, problems, at=at)
    connection.execute(
        update(tags)
        .where(tags.c.repository_id == repository_id, tags.c.vanished_in.is_not(None))
        .values(vanished_in=None)
    )
    connection.execute(
        update(repositories)
        .where(repositories.c.id == repository_id)
        .values(state=state, crawl_id=begun.crawl_id, problem_count=len(problems), vanished_in=None)
    )


def load_totals(connection: Connection, begun: BegunCrawl) -> dict[str, int]:
    """What the repositories read by a crawl hold, by the names of the certificate's counts."""
    ours = repositories.c.registry_id == begun.registry_id, repositories.c.crawl_id == begun.crawl_id
    by_state = {
        row.state: row.repository_count
        for row in connection.execute(
            select(repositories.c.state, func.count().label("repository_count"))
            .where(*ours)
            .group_by(repositories.c.state)
        )
    }
    distinct_manifests = func.count(repository_manifests.c.manifest_id.distinct())
    return {
        "repository_count": sum(by_state.values()),
        "tag_count": _count(connection, select(func.count()).select_from(tags.join(repositories)).where(*ours)),
        "manifest_count": _count(
            connection,
            select(distinct_manifests)
            .select_from(repository_manifests.join(repositories))
            .where(*ours, repository_manifests.c.deleted_at.is_(None)),
        ),
        "problem_count": _count(
            connection, select(func.count()).select_from(crawl_problems.join(repositories)).where(*ours)
        ),
    } | {f"{state}_count": by_state.get(state, 0) for state in ("denied", "failed", "partial", "untagged")}


def load_disappearance(connection: Connection, begun: BegunCrawl) -> Disappearance:
    """What the running crawl would mark as gone, beside what was known when it started."""
    before = to_micros(begun.started_at)
    of_registry = repositories.c.registry_id == begun.registry_id
    existing = of_registry, repositories.c.deleted_at.is_(None), repositories.c.first_seen_at < before
    gone_repository = repositories.c.vanished_in == begun.crawl_id
    gone_tag = tags.c.vanished_in == begun.crawl_id
    joined = select(func.count()).select_from(tags.join(repositories))
    emptied = connection.execute(
        select(repositories.c.name, func.count().label("tag_count"))
        .select_from(tags.join(repositories))
        .where(*existing, tags.c.first_seen_at < before)
        .group_by(repositories.c.name, repositories.c.vanished_in)
        .having((func.count() == func.count(tags.c.vanished_in)) | (repositories.c.vanished_in == begun.crawl_id))
    )
    return Disappearance(
        known_repository_count=_count(connection, select(func.count()).select_from(repositories).where(*existing)),
        gone_repository_count=_count(
            connection, select(func.count()).select_from(repositories).where(of_registry, gone_repository)
        ),
        known_tag_count=_count(connection, joined.where(*existing, tags.c.first_seen_at < before)),
        gone_tag_count=_count(connection, joined.where(of_registry, gone_tag | gone_repository)),
        emptied=tuple((row.name, row.tag_count) for row in emptied),
        endpoint_changed=begun.endpoint_changed,
    )


def settle_vanished(connection: Connection, begun: BegunCrawl, at: datetime) -> None:
    """Mark as gone what the running crawl confirmed to be gone: repositories, their tags, single tags."""
    moment = to_micros(at)
    gone = (
        select(tags.c.id, tags.c.repository_id, tags.c.name, tags.c.manifest_id, repositories.c.vanished_in)
        .select_from(tags.join(repositories))
        .where(
            repositories.c.registry_id == begun.registry_id,
            (tags.c.vanished_in == begun.crawl_id) | (repositories.c.vanished_in == begun.crawl_id),
        )
    )
    rows = connection.execute(gone).all()
    bulk_upsert(
        connection,
        tag_history,
        [
            {"repository_id": row.repository_id, "tag": row.name, "at": moment, "digest": b"", "cause": "crawl"}
            for row in rows
        ],
        conflict=("repository_id", "tag", "at", "digest", "cause"),
    )
    connection.execute(delete(tags).where(tags.c.id.in_(select(gone.subquery().c.id))))
    orphaned: dict[int, set[int]] = {}
    for row in rows:
        if row.manifest_id is not None:
            orphaned.setdefault(row.repository_id, set()).add(row.manifest_id)
    for repository_id, manifest_ids in orphaned.items():
        mark_untagged(connection, repository_id, sorted(manifest_ids), at)
    vanished = select(repositories.c.id).where(
        repositories.c.registry_id == begun.registry_id, repositories.c.vanished_in == begun.crawl_id
    )
    connection.execute(
        update(repository_manifests)
        .where(repository_manifests.c.repository_id.in_(vanished), repository_manifests.c.deleted_at.is_(None))
        .values(deleted_at=moment)
    )
    connection.execute(delete(crawl_problems).where(crawl_problems.c.repository_id.in_(vanished)))
    connection.execute(
        update(repositories)
        .where(repositories.c.registry_id == begun.registry_id, repositories.c.vanished_in == begun.crawl_id)
        .values(deleted_at=moment, vanished_in=None, problem_count=0)
    )


def withdraw_vanished(connection: Connection, crawl_id: int) -> None:
    """Forget what a crawl found gone: nobody accepted it."""
    connection.execute(update(tags).where(tags.c.vanished_in == crawl_id).values(vanished_in=None))
    connection.execute(update(repositories).where(repositories.c.vanished_in == crawl_id).values(vanished_in=None))


def finish_crawl(
    connection: Connection, begun: BegunCrawl, *, state: str, certificate: Certificate, fingerprint: str | None
) -> None:
    """End a crawl.

    A failed one says nothing about the registry, so the record of the last good one stays, and so it does after one
    that was restricted to some repositories; until a whole one has ended the registry's state is ``restricted``.
    What it found gone and did not settle is forgotten: nobody accepted it.
    ``fingerprint`` identifies address and credentials; ``None`` keeps the old one, so that a change stays suspicious.
    """
    finished = to_micros(certificate.finished_at)
    if state != "complete":
        withdraw_vanished(connection, begun.crawl_id)
    connection.execute(
        update(crawls)
        .where(crawls.c.id == begun.crawl_id)
        .values(state=state, finished_at=finished, certificate=msgspec.json.encode(asdict(certificate)).decode())
    )
    values = _registry_record(connection, begun, state, certificate)
    if fingerprint is not None:
        values["endpoint_fingerprint"] = fingerprint
    if values:
        connection.execute(update(registries).where(registries.c.id == begun.registry_id).values(values))


def _registry_record(connection: Connection, begun: BegunCrawl, state: str, certificate: Certificate) -> dict[str, Any]:
    """What a crawl says of the registry as a whole. A restricted one says nothing where a whole one has been before."""
    if state == "failed":
        return {"crawl_state": state}
    of_registry = crawl_problems.c.registry_id == begun.registry_id
    counted = {"problem_count": _count(connection, select(func.count()).select_from(crawl_problems).where(of_registry))}
    record = {"crawl_id": begun.crawl_id, "crawled_at": to_micros(certificate.finished_at)}
    if not certificate.scope:
        return counted | record | {"crawl_state": state}
    before = connection.execute(select(registries.c.crawl_state).where(registries.c.id == begun.registry_id)).scalar()
    return counted if before not in (None, RESTRICTED) else counted | record | {"crawl_state": RESTRICTED}


def forget_unread_registry(connection: Connection, begun: BegunCrawl) -> None:
    """End a first crawl that read nothing as if it had not been: a registry without any repository goes too."""
    of_registry = repositories.c.registry_id == begun.registry_id
    if _count(connection, select(func.count()).select_from(repositories).where(of_registry)):
        return
    connection.execute(delete(crawls).where(crawls.c.registry_id == begun.registry_id))
    connection.execute(delete(registries).where(registries.c.id == begun.registry_id))


def refresh_statistics(connection: Connection) -> None:
    """Let the database look at how its tables have grown, so that it chooses the right indexes."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA analysis_limit = 1000")
        connection.exec_driver_sql("ANALYZE")
        return
    for table in (repositories, tags, repository_manifests, manifests):
        connection.exec_driver_sql(f"ANALYZE {table.name}")


def _count(connection: Connection, statement: Any) -> int:
    return int(connection.execute(statement).scalar_one())
