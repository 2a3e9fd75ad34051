"""Which tags are meant by a request for a digest? Those that led to it at some time of that day.

A tag leads to the manifest that it points to and, where that is an index, to what the index lists.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from typing import Any, Final

from sqlalchemy import Row, select
from sqlalchemy.engine import Connection

from regwarden.core.history import Point, Removal, build_intervals
from regwarden.core.oci.digests import Digest
from regwarden.store.chunks import chunked
from regwarden.store.schema import manifest_children, manifests, removals, tag_history
from regwarden.store.times import from_micros

_EPOCH: Final = date(1970, 1, 1)
_FOREVER: Final = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class PulledManifests:
    """Digests of the manifests that were asked for, and what leads to each: itself, and indexes that list it."""

    digests: Mapping[int, bytes]
    holders: Mapping[int, frozenset[bytes]]


@dataclass(slots=True)
class TagIntervals:
    """When which tags pointed to which digests, by repository and digest."""

    intervals: dict[tuple[int, bytes], list[tuple[str, datetime, datetime]]] = field(default_factory=dict)

    def of_day(self, repository_id: int, holders: Iterable[bytes], day: int) -> set[str]:
        """The tags that pointed to any of ``holders`` at some time of a ``day`` (days since 1970, UTC)."""
        begin = datetime.combine(_EPOCH + timedelta(days=day), datetime.min.time(), UTC)
        end = begin + timedelta(days=1)
        return {
            tag
            for digest in holders
            for tag, since, until in self.intervals.get((repository_id, digest), ())
            if since < end and until > begin
        }


def load_manifests(connection: Connection, manifest_ids: Collection[int], *, has_holders: bool) -> PulledManifests:
    """The digests of manifests and, if asked for, of the indexes above them."""
    parents = _load_parents(connection, manifest_ids) if has_holders else {}
    above = {number: _above(number, parents) for number in manifest_ids} if has_holders else {}
    digests: dict[int, bytes] = {}
    for chunk in chunked(sorted({*manifest_ids, *(one for numbers in above.values() for one in numbers)})):
        statement = select(manifests.c.id, manifests.c.digest).where(manifests.c.id.in_(chunk))
        digests.update((row.id, bytes(row.digest)) for row in connection.execute(statement))
    holders = {number: frozenset(digests[one] for one in (number, *numbers)) for number, numbers in above.items()}
    return PulledManifests(digests, holders)


def _load_parents(connection: Connection, manifest_ids: Collection[int]) -> dict[int, set[int]]:
    parents: dict[int, set[int]] = defaultdict(set)
    seen, frontier = set(manifest_ids), set(manifest_ids)
    while frontier:
        found: set[int] = set()
        for chunk in chunked(sorted(frontier)):
            for row in connection.execute(select(manifest_children).where(manifest_children.c.child_id.in_(chunk))):
                parents[row.child_id].add(row.parent_id)
                found.add(row.parent_id)
        frontier = found - seen
        seen |= found
    return parents


def _above(number: int, parents: Mapping[int, set[int]]) -> set[int]:
    above: set[int] = set()
    frontier = {number}
    while frontier:
        frontier = {parent for one in frontier for parent in parents.get(one, ())} - above - {number}
        above |= frontier
    return above


def load_intervals(connection: Connection, repository_ids: Collection[int], wanted: Collection[bytes]) -> TagIntervals:
    """When tags of these repositories pointed to any of the ``wanted`` digests."""
    found = TagIntervals()
    for chunk in chunked(sorted(repository_ids)):
        deleted = _load_removals(connection, chunk, wanted)
        for repository_id, tag, rows in _histories(connection, chunk):
            if not any(bytes(row.digest) in wanted for row in rows):
                continue
            points = [
                Point(from_micros(row.at), _digest(row.digest), row.cause, from_micros(row.effective_at))
                for row in rows
            ]
            for one in build_intervals(points, deleted.get(repository_id, ())):
                if one.digest is not None and one.digest.to_bytes() in wanted:
                    place = (repository_id, one.digest.to_bytes())
                    found.intervals.setdefault(place, []).append((tag, one.since, one.until or _FOREVER))
    return found


def _histories(connection: Connection, repository_ids: list[int]) -> Iterator[tuple[int, str, list[Row[Any]]]]:
    statement = (
        select(tag_history)
        .where(tag_history.c.repository_id.in_(repository_ids))
        .order_by(tag_history.c.repository_id, tag_history.c.tag)
    )
    rows = connection.execute(statement)
    for (repository_id, tag), found in groupby(rows, key=lambda row: (row.repository_id, row.tag)):
        yield repository_id, tag, list(found)


def _load_removals(
    connection: Connection, repository_ids: list[int], wanted: Collection[bytes]
) -> dict[int, list[Removal]]:
    """The deletions that may end an interval that is wanted."""
    found: dict[int, list[Removal]] = {}
    for row in connection.execute(select(removals).where(removals.c.repository_id.in_(repository_ids))):
        if not row.digest or bytes(row.digest) in wanted:
            found.setdefault(row.repository_id, []).append(Removal(from_micros(row.at), _digest(row.digest)))
    return found


def _digest(stored: bytes) -> Digest | None:
    return Digest.from_bytes(bytes(stored)) if stored else None
