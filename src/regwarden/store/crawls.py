"""Crawls as rows: beginning or continuing one, what it has read so far, ending it with its certificate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from sqlalchemy import case, delete, func, insert, select, tuple_, update
from sqlalchemy.engine import Connection

from regwarden.core.coverage import Certificate, Disappearance, Problem
from regwarden.core.oci.digests import Digest
from regwarden.store.bulk import bulk_ids, bulk_upsert
from regwarden.store.chunks import chunked
from regwarden.store.drifts import REREAD_AFTER, close_drifts, withdraw_missed_deletes
from regwarden.store.event_schema import deliveries, drifts, events, repository_renames, rereads, senders
from regwarden.store.inventory import Naming
from regwarden.store.naming import discard_renamed, ensure_named, hold_repository, load_naming
from regwarden.store.problems import Replacement, load_problem_ids, write_problems
from regwarden.store.row_locks import lock_repositories
from regwarden.store.schema import (
    crawl_checkpoints,
    crawl_problems,
    crawls,
    manifests,
    registries,
    repositories,
    repository_manifests,
    tags,
)
from regwarden.store.times import from_micros, to_micros

_CONTINUE_WITHIN: Final = timedelta(hours=24)
_CHECKPOINT_COUNT: Final = 1_000
RESTRICTED: Final = "restricted"


@dataclass(frozen=True, slots=True)
class BegunCrawl:
    """A running crawl. ``done`` are the repositories it published before it was interrupted.

    ``naming`` is of when it was begun or continued: the names of repositories are asked for after that.
    """

    crawl_id: int
    registry_id: int
    started_at: datetime
    was_resumed: bool
    is_first: bool
    endpoint_changed: bool
    capabilities: Mapping[str, str]
    done: frozenset[str]
    naming: Naming


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
        naming=load_naming(connection, int(registry.id), at),
    )


def _abandon(connection: Connection, registry_id: int) -> None:
    """Mark crawls that were cut off. What only they could have settled bears their id, and nobody looks for it."""
    running = crawls.c.registry_id == registry_id, crawls.c.state == "running"
    for crawl_id in connection.execute(select(crawls.c.id).where(*running)).scalars().all():
        connection.execute(update(crawls).where(crawls.c.id == crawl_id).values(state="interrupted"))
        withdraw_missed_deletes(connection, crawl_id)


def save_checkpoint(
    connection: Connection, naming: Naming, crawl_id: int, name: str, resolved: Mapping[str, Digest]
) -> None:
    """Remember tags of a large repository that a running crawl has read, whose manifests are kept already.

    Nothing, if it was renamed meanwhile: then nothing of that reading counts.
    """
    repository_id = ensure_named(connection, naming, name)
    if repository_id is None:
        return
    ids = bulk_ids(connection, manifests, "digest", [digest.to_bytes() for digest in set(resolved.values())])
    bulk_upsert(
        connection,
        crawl_checkpoints,
        [
            {"crawl_id": crawl_id, "repository_id": repository_id, "tag": tag, "manifest_id": ids[digest.to_bytes()]}
            for tag, digest in resolved.items()
        ],
        update=("manifest_id",),
        conflict=("crawl_id", "repository_id", "tag"),
    )


def drop_old_checkpoints(connection: Connection, registry_id: int) -> bool:
    """Forget some checkpoints of crawls that cannot be continued any more. Returns whether that were all."""
    columns = crawl_checkpoints.c
    ended = select(crawls.c.id).where(crawls.c.registry_id == registry_id, crawls.c.state != "running")
    some = select(columns.crawl_id, columns.repository_id, columns.tag).where(columns.crawl_id.in_(ended))
    rows = connection.execute(some.limit(_CHECKPOINT_COUNT)).all()
    key = tuple_(columns.crawl_id, columns.repository_id, columns.tag)
    for chunk in chunked(rows, 200):
        connection.execute(delete(crawl_checkpoints).where(key.in_([tuple(row) for row in chunk])))
    return len(rows) < _CHECKPOINT_COUNT


def known_repositories(connection: Connection, registry_id: int) -> dict[str, int]:
    """The repositories that are not gone: name → number of tags."""
    rows = connection.execute(
        select(repositories.c.name, func.count(tags.c.id).label("tag_count"))
        .select_from(repositories.outerjoin(tags, tags.c.repository_id == repositories.c.id))
        .where(repositories.c.registry_id == registry_id, repositories.c.deleted_at.is_(None))
        .group_by(repositories.c.name)
    )
    return {row.name: row.tag_count for row in rows}


def load_crawled_at(connection: Connection, registry_id: int) -> datetime | None:
    """When the last crawl that says something of the whole registry ended; ``None`` where there was none."""
    return from_micros(connection.scalar(select(registries.c.crawled_at).where(registries.c.id == registry_id)))


def mark_repository_vanished(connection: Connection, begun: BegunCrawl, name: str) -> bool:
    """Note that a running crawl found a known repository gone; nothing is marked as deleted yet.

    Returns ``False``, and marks nothing, if it was renamed meanwhile.
    """
    repository_id = hold_repository(connection, begun.naming, name)
    if discard_renamed(connection, begun.naming, name):
        return False
    connection.execute(
        update(repositories).where(repositories.c.id == repository_id).values(vanished_in=begun.crawl_id)
    )
    return True


def save_unread_repository(
    connection: Connection, begun: BegunCrawl, problem: Problem, *, state: str, at: datetime
) -> bool:
    """Note that a repository could not be read at all (``denied``, ``failed``); what is known of it stays.

    So do the problems of its tags and manifests; what this crawl found gone before it was interrupted is open again.
    Returns ``False``, and notes nothing, if it was renamed meanwhile.
    """
    repository_id = ensure_named(connection, begun.naming, problem.repository)
    if repository_id is None:
        return False
    lock_repositories(connection, (repository_id,))
    known = load_problem_ids(connection, begun.registry_id, repository_id)
    of_itself = [row_id for (tag, digest, _), ids in known.items() if not tag and not digest for row_id in ids]
    write_problems(connection, Replacement(begun.registry_id, repository_id, of_itself, (problem,), at, frozenset()))
    problem_count = sum(map(len, known.values())) - len(of_itself) + 1
    withdraw_missed_deletes(connection, begun.crawl_id, problem.repository)
    connection.execute(
        update(tags)
        .where(tags.c.repository_id == repository_id, tags.c.vanished_in.is_not(None))
        .values(vanished_in=None)
    )
    connection.execute(
        update(repositories)
        .where(repositories.c.id == repository_id)
        .values(state=state, crawl_id=begun.crawl_id, problem_count=problem_count, vanished_in=None)
    )
    return True


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
        .having((func.count() == func.sum(case((gone_tag, 1), else_=0))) | gone_repository)
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


def finish_crawl(
    connection: Connection, begun: BegunCrawl, *, state: str, certificate: Certificate, fingerprint: str | None
) -> None:
    """End a crawl.

    A failed one says nothing about the registry, so the record of the last good one stays, and so it does after one
    that was restricted to some repositories; until a whole one has ended the registry's state is ``restricted``.
    What it found gone and did not settle is forgotten: nobody accepted it. Where it was a whole crawl, repositories
    that changed without an event are read once more.
    ``fingerprint`` identifies address and credentials; ``None`` keeps the old one, so that a change stays suspicious.
    """
    finished = to_micros(certificate.finished_at)
    if state == "failed":
        withdraw_missed_deletes(connection, begun.crawl_id)
    close_drifts(
        connection, begun.crawl_id, reread_at=None if certificate.scope else certificate.finished_at + REREAD_AFTER
    )
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
    """End a first crawl that read nothing as if it had not been: a registry of which nothing is known goes too.

    One that sent events is known, whether or not they could be applied.
    """
    registry_id = begun.registry_id
    for table in (repositories, events, senders, rereads, repository_renames):
        if connection.execute(select(table.c.registry_id).where(table.c.registry_id == registry_id).limit(1)).first():
            return
    since = connection.execute(select(registries.c.events_since).where(registries.c.id == registry_id)).scalar()
    of_name = select(registries.c.name).where(registries.c.id == registry_id).scalar_subquery()
    delivered = select(deliveries.c.id).where(deliveries.c.registry == of_name).limit(1)
    if since is not None or connection.execute(delivered).first() is not None:
        return
    connection.execute(delete(drifts).where(drifts.c.registry_id == registry_id))
    connection.execute(delete(crawls).where(crawls.c.registry_id == begun.registry_id))
    connection.execute(delete(registries).where(registries.c.id == begun.registry_id))


def _count(connection: Connection, statement: Any) -> int:
    return int(connection.execute(statement).scalar_one())
