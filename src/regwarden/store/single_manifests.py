"""How do manifests that were read one by one, because events named them, become part of the inventory?

No tag is made to point elsewhere, and nothing is marked as gone: that is for events and for whole readings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select, update
from sqlalchemy.engine import Connection

from regwarden import clock
from regwarden.core.coverage import Problem
from regwarden.core.oci.digests import Digest
from regwarden.store.bulk import Join, bulk_ids, bulk_join
from regwarden.store.chunks import chunked
from regwarden.store.contents import date_indexes, date_tags
from regwarden.store.existence import Touched, refresh_existence
from regwarden.store.inventory import Naming
from regwarden.store.naming import discard_renamed, hold_repository
from regwarden.store.problems import Replacement, load_problem_ids, write_problems
from regwarden.store.schema import manifests, registries, repositories, repository_manifests, tags
from regwarden.store.times import to_micros

_READABLE = ("read", "unread")


@dataclass(frozen=True, slots=True, kw_only=True)
class SingleReading:
    """Manifests of one repository that were asked for by digest; ``at`` is when the first request was sent.

    ``here`` are those that exist in it, with all that they lead to; ``examined`` those that problems were looked for
    in again. ``naming`` is of when it was known that ``repository`` was to be asked.
    """

    registry_id: int
    repository: str
    naming: Naming
    at: datetime
    here: frozenset[Digest]
    examined: frozenset[Digest] = frozenset()
    problems: tuple[Problem, ...] = ()


def load_deleted_manifests(
    connection: Connection, registry_id: int, repository: str, digests: Sequence[Digest]
) -> set[Digest]:
    """Those of these manifests that are known to be deleted from the repository."""
    found: set[Digest] = set()
    for chunk in chunked([digest.to_bytes() for digest in digests]):
        rows = connection.execute(
            select(manifests.c.digest)
            .join(repository_manifests, repository_manifests.c.manifest_id == manifests.c.id)
            .join(repositories, repositories.c.id == repository_manifests.c.repository_id)
            .where(
                repositories.c.registry_id == registry_id,
                repositories.c.name == repository,
                repository_manifests.c.deleted_at.is_not(None),
                manifests.c.digest.in_(chunk),
            )
        ).scalars()
        found.update(Digest.from_bytes(digest) for digest in rows)
    return found


def publish_manifests(connection: Connection, reading: SingleReading) -> bool:
    """Take a reading into the inventory. The content of its manifests must have been kept before.

    Returns ``False``, and takes nothing, if no repository is called so, or if it was renamed in the meantime. Then it
    is read as a whole under its new name: content may have been kept of which something was not there any more.
    """
    repository_id = hold_repository(connection, reading.naming, reading.repository)
    if discard_renamed(connection, reading.naming, reading.repository) or repository_id is None:
        return False
    at = to_micros(reading.at)
    here = [digest.to_bytes() for digest in sorted(reading.here)]
    ids = bulk_ids(connection, manifests, "digest", here)
    bulk_join(
        connection,
        repository_manifests,
        [
            {
                "repository_id": repository_id,
                "manifest_id": manifest_id,
                "first_seen_at": at,
                "alive_at": at,
                "verified_at": at,
            }
            for manifest_id in ids.values()
        ],
        Join(greatest=("alive_at", "verified_at")),
    )
    refresh_existence(connection, repository_id, Touched(set(here)))
    dated = date_indexes(connection, reading.here)
    date_tags(connection, repository_id, {*ids.values(), *dated})
    _refresh_tags(connection, repository_id, list(ids.values()))
    newest = select(func.max(tags.c.created_at)).where(tags.c.repository_id == repository_id).scalar_subquery()
    connection.execute(
        update(repositories)
        .where(repositories.c.id == repository_id)
        .values(newest_created_at=newest, problem_count=_replace_problems(connection, repository_id, reading))
    )
    if here:
        # Not when the reading began: it may have taken longer than computing the figures without it.
        moment = to_micros(max(reading.at, clock.now()))
        connection.execute(
            update(registries)
            .where(registries.c.id == reading.registry_id, func.coalesce(registries.c.changed_at, moment) <= moment)
            .values(changed_at=moment)
        )
    return True


def _refresh_tags(connection: Connection, repository_id: int, manifest_ids: Sequence[int]) -> None:
    """What tags repeat of their manifests was not known before these were read."""
    logical = select(manifests.c.logical_bytes).where(manifests.c.id == tags.c.manifest_id).scalar_subquery()
    for chunk in chunked(manifest_ids):
        read_now = tags.c.repository_id == repository_id, tags.c.manifest_id.in_(chunk)
        connection.execute(update(tags).where(*read_now, tags.c.logical_bytes.is_(None)).values(logical_bytes=logical))
        unreadable = select(manifests.c.id).where(manifests.c.id.in_(chunk), manifests.c.state.not_in(_READABLE))
        is_unreadable = tags.c.manifest_id.in_(unreadable)
        for condition, state in ((is_unreadable, "unreadable"), (~is_unreadable, "ok")):
            connection.execute(update(tags).where(*read_now, condition, tags.c.state != state).values(state=state))


def _replace_problems(connection: Connection, repository_id: int, reading: SingleReading) -> int:
    """Keep what is wrong with these manifests, and with others; returns how much that is."""
    known = load_problem_ids(connection, reading.registry_id, repository_id)
    examined = {digest.to_bytes() for digest in reading.examined}
    named = {problem.digest for problem in reading.problems}
    stale = {
        key: ids
        for key, ids in known.items()
        if not key[0] and key[1] and (key[1] in examined or str(Digest.from_bytes(key[1])) in named)
    }
    replacement = Replacement(
        reading.registry_id,
        repository_id,
        [row_id for ids in stale.values() for row_id in ids],
        reading.problems,
        reading.at,
        frozenset(map(str, reading.examined)),
    )
    write_problems(connection, replacement)
    return len(known) - len(stale) + len(reading.problems)
