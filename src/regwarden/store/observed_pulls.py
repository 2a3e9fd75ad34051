"""When was each manifest of some repositories pulled last, by which class and how?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from regwarden.core.observed import LastPull
from regwarden.store.event_schema import pull_days
from regwarden.store.past_rows import fetch
from regwarden.store.times import from_micros

PullKey = tuple[str, str, str]
"""Class, method and tag."""

PullsByManifest = dict[int, dict[PullKey, int]]
"""The last pulls of each manifest (by id), in microseconds."""


def load_pulls(connection: Connection, repository_ids: Sequence[int]) -> dict[int, PullsByManifest]:
    """The last recorded pull of each manifest by each class, method and tag, by repository."""
    days = pull_days.c
    key = (days.repository_id, days.manifest_id, days.pull_class, days.method, days.tag)
    statement = select(*key, func.max(days.last_at)).where(days.repository_id.in_(repository_ids)).group_by(*key)
    found: dict[int, PullsByManifest] = {}
    for repository_id, manifest_id, pull_class, method, tag, at in fetch(connection, statement):
        found.setdefault(repository_id, {}).setdefault(manifest_id, {})[pull_class, method, tag] = at
    return found


def lift_pulls(pulls: PullsByManifest, children: Mapping[int, Sequence[int]]) -> dict[int, tuple[LastPull, ...]]:
    """The pulls of each manifest of one repository; those of an index with what was asked of its parts by digest.

    ``children`` are the parts of the indexes that exist in the repository, by id.
    """
    parents: dict[int, set[int]] = defaultdict(set)
    for parent_id, parts in children.items():
        for part in parts:
            parents[part].add(parent_id)
    lifted: PullsByManifest = {manifest_id: dict(known) for manifest_id, known in pulls.items()}
    for manifest_id, known in pulls.items():
        by_digest = {key: at for key, at in known.items() if not key[2]}
        for above in _above(manifest_id, parents) if by_digest else ():
            joined = lifted.setdefault(above, {})
            for key, at in by_digest.items():
                joined[key] = max(at, joined.get(key, at))
    return {
        manifest_id: tuple(LastPull(from_micros(at), *key) for key, at in sorted(known.items()))
        for manifest_id, known in lifted.items()
    }


def _above(manifest_id: int, parents: Mapping[int, set[int]]) -> set[int]:
    """Everything that leads to a manifest; content cannot lead to itself, but rows might say so."""
    above: set[int] = set()
    frontier = {manifest_id}
    while frontier:
        frontier = {parent for one in frontier for parent in parents.get(one, ())} - above - {manifest_id}
        above |= frontier
    return above
