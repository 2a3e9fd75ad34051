"""What did others do in a repository while we were at work in it? The events that we did not cause, by repository.

Events are applied one source after the other, so what was not yet applied at a moment has a greater id than all that
was: the journal keeps that id with each intent.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import and_, func, or_, select
from sqlalchemy.engine import Connection

from regwarden.core.oci.digests import Digest
from regwarden.core.plan import Step
from regwarden.store.chunks import chunked
from regwarden.store.cleanup_schema import journal
from regwarden.store.event_schema import deliveries, events
from regwarden.store.installation import find_installation_id
from regwarden.store.schema import (
    crawl_problems,
    crawls,
    manifest_children,
    manifests,
    registries,
    repositories,
    repository_manifests,
    tags,
)
from regwarden.store.times import from_micros, to_micros

_PULL: Final = "pull"
_MISSING: Final = ("dangling-tag", "missing-child")
_COLUMNS: Final = (
    events.c.id,
    events.c.action,
    events.c.target,
    events.c.digest,
    events.c.tag,
    events.c.at,
    events.c.media_type,
    events.c.user_agent,
)


class Touch(NamedTuple):
    """An event of somebody else. ``at`` is the registry's time; ``digest`` and ``tag`` may be empty."""

    id: int
    action: str
    target: str
    digest: str
    tag: str
    at: datetime
    media_type: str


def newest_event_id(connection: Connection, registry: str) -> int:
    """The id of the last event of a registry that was applied, 0 before the first."""
    statement = select(func.max(events.c.id)).where(events.c.registry_id == _id_of(registry))
    return int(connection.scalar(statement) or 0)


def last_delivery_at(connection: Connection, registry: str) -> datetime | None:
    """When something was last delivered in the name of a registry, also if it was about our own requests alone."""
    mine = select(deliveries.c.received_at).where(deliveries.c.registry == registry)
    return from_micros(connection.scalar(mine.order_by(deliveries.c.id.desc()).limit(1)))


def load_touches(connection: Connection, registry: str, repository: str, *, after_id: int) -> tuple[Touch, ...]:
    """The events about a repository (or renamings of it) that we did not cause, in the order they were applied.

    Only those with a greater id than ``after_id``, and no pulls: there may be millions of them.
    """
    here = or_(events.c.repository == repository, events.c.other_repository == repository)
    statement = select(*_COLUMNS).where(
        events.c.registry_id == _id_of(registry), here, events.c.id > after_id, events.c.action != _PULL
    )
    own = f"({find_installation_id(connection)})"
    rows = connection.execute(statement.order_by(events.c.id))
    return tuple(_touch(row) for row in rows if not _is_own(row.user_agent, own))


def is_pulled(connection: Connection, step: Step, *, after_id: int, digests: Collection[str]) -> bool:
    """Whether others pulled one of ``digests`` or of the step's tags where it is, by events after ``after_id``."""
    own = f"({find_installation_id(connection)})"
    here = select(events.c.user_agent).where(
        events.c.registry_id == _id_of(step.registry),
        events.c.repository == step.repository,
        events.c.id > after_id,
        events.c.action == _PULL,
    )
    about = [events.c.digest.in_(chunk) for chunk in chunked(sorted(map(Digest.stored_form, digests)))]
    about += [events.c.tag.in_(chunk) for chunk in chunked(sorted(step.tags))]
    rows = (row for one in about for row in connection.execute(here.where(one)))
    return any(not _is_own(row.user_agent, own) for row in rows)


class Signs(NamedTuple):
    """By what it is seen, at the cost of a few rows, whether something new is to be looked at.

    The last entry of the journal, the last event, when the last crawl or reading ended; and whether since a given
    event somebody pushed anything at a time at which a removal was under way.
    """

    journal_id: int
    event_id: int
    read_at: int
    has_push: bool


def load_signs(
    connection: Connection, registry: str, *, since: datetime, after_id: int, margin: timedelta
) -> Signs | None:
    """What there is now; ``None`` where we removed nothing from a registry at or after ``since``.

    ``has_push`` is about events with a greater id than ``after_id``, from the registry's times until ``margin`` after
    our last entry.
    """
    entries = select(journal.c.id, journal.c.at).where(journal.c.registry == registry)
    last = connection.execute(entries.order_by(journal.c.at.desc(), journal.c.id.desc()).limit(1)).first()
    if last is None or last.at < to_micros(since):
        return None
    ends_at = to_micros(from_micros(last.at) + margin)
    of_registry = events.c.registry_id == _id_of(registry)
    pushes = select(events.c.id).where(
        of_registry, events.c.id > after_id, events.c.action.in_(("push", "mount")), events.c.at <= ends_at
    )
    ended = select(func.max(crawls.c.finished_at)).where(crawls.c.registry_id == _id_of(registry))
    return Signs(
        journal_id=last.id,
        event_id=newest_event_id(connection, registry),
        read_at=connection.scalar(ended) or 0,
        has_push=connection.execute(pushes.limit(1)).first() is not None,
    )


class Missing(NamedTuple):
    """What was found to lead nowhere: a listed tag, or (``tag`` is empty) a manifest that an index lists.

    ``digest`` of a tag is empty where nobody knows what it pointed to.
    """

    tag: str
    digest: str
    seen_at: datetime


def load_missing(connection: Connection, registry: str, repository: str, *, since: datetime) -> tuple[Missing, ...]:
    """What the last reading of a repository found missing at or after ``since``, by tag and digest.

    A tag whose manifest went after it was read counts from when that went.
    """
    problems, here = crawl_problems.c, repository_manifests.c
    of_repository = (repositories.c.registry_id == _id_of(registry), repositories.c.name == repository)
    noted = (
        select(problems.tag, problems.digest, problems.seen_at)
        .join_from(crawl_problems, repositories, repositories.c.id == problems.repository_id)
        .where(*of_repository, problems.code.in_(_MISSING), problems.seen_at >= to_micros(since))
    )
    left = (
        select(tags.c.name, manifests.c.digest, here.deleted_at)
        .join_from(tags, repositories, repositories.c.id == tags.c.repository_id)
        .join(manifests, manifests.c.id == tags.c.manifest_id)
        .join(repository_manifests, and_(here.repository_id == repositories.c.id, here.manifest_id == manifests.c.id))
        .where(*of_repository, here.deleted_at >= to_micros(since))
    )
    rows = [*connection.execute(noted), *connection.execute(left)]
    found = (Missing(row[0], str(Digest.from_bytes(row[1])) if row[1] else "", from_micros(row[2])) for row in rows)
    return tuple(sorted(found))


def list_indexes_of(
    connection: Connection, registry: str, repository: str, digests: Collection[str]
) -> dict[str, tuple[str, ...]]:
    """The indexes that exist in a repository and list one of ``digests``, each with all that it lists."""
    found: dict[int, str] = {}
    children = manifests.alias()
    listing = (
        select(manifests.c.id, manifests.c.digest)
        .distinct()
        .join_from(manifests, manifest_children, manifest_children.c.parent_id == manifests.c.id)
        .join(children, children.c.id == manifest_children.c.child_id)
        .join(repository_manifests, repository_manifests.c.manifest_id == manifests.c.id)
        .join(repositories, repositories.c.id == repository_manifests.c.repository_id)
        .where(
            repositories.c.registry_id == _id_of(registry),
            repositories.c.name == repository,
            repository_manifests.c.deleted_at.is_(None),
        )
    )
    for chunk in chunked(sorted(digests)):
        stored = [Digest.parse(one).to_bytes() for one in chunk]
        for row in connection.execute(listing.where(children.c.digest.in_(stored))):
            found[row.id] = str(Digest.from_bytes(row.digest))
    listed: dict[str, tuple[str, ...]] = dict.fromkeys(sorted(found.values()), ())
    for ids in chunked(sorted(found)):
        rows = connection.execute(
            select(manifest_children.c.parent_id, manifests.c.digest)
            .join(manifests, manifests.c.id == manifest_children.c.child_id)
            .where(manifest_children.c.parent_id.in_(ids))
            .order_by(manifest_children.c.parent_id, manifest_children.c.position)
        )
        for row in rows:
            index = found[row.parent_id]
            listed[index] = (*listed[index], str(Digest.from_bytes(row.digest)))
    return listed


def _id_of(registry: str) -> Any:
    return select(registries.c.id).where(registries.c.name == registry).scalar_subquery()


def _is_own(user_agent: str, own: str) -> bool:
    return user_agent.startswith("regwarden/") and user_agent.endswith(own)


def _touch(row: Any) -> Touch:
    digest = "" if row.digest is None else str(Digest.from_bytes(row.digest))
    return Touch(row.id, row.action, row.target, digest, row.tag, from_micros(row.at), row.media_type)
