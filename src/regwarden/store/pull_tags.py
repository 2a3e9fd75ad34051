"""Which tags are meant by a request for a digest? Those that led to it at some time of that day.

A tag leads to the manifest that it points to and, where that is an index, to what the index lists.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, NamedTuple

from sqlalchemy import select
from sqlalchemy.engine import Connection

from regwarden.core.history import Point, Removal, build_intervals
from regwarden.core.oci.digests import Digest
from regwarden.store.chunks import chunked
from regwarden.store.schema import manifest_children, manifests, removals, tag_history
from regwarden.store.times import from_micros, to_micros

_DAY_MICROS: Final = 86_400 * 1_000_000
_FOREVER: Final = 2**62


@dataclass(frozen=True, slots=True)
class PulledManifests:
    """Digests of the manifests that were asked for, and what leads to each: itself, and indexes that list it."""

    digests: Mapping[int, bytes]
    holders: Mapping[int, frozenset[bytes]]


@dataclass(slots=True)
class TagIntervals:
    """On which days (since 1970, UTC; first and last) which tags led to which digests, by repository and digest."""

    intervals: dict[tuple[int, bytes], list[tuple[str, int, int]]] = field(default_factory=dict)

    def of_day(self, repository_id: int, holders: Iterable[bytes], day: int) -> set[str]:
        """The tags that pointed to any of ``holders`` at some time of a ``day``."""
        return {
            tag
            for digest in holders
            for tag, first, last in self.intervals.get((repository_id, digest), ())
            if first <= day <= last
        }

    def add(self, place: tuple[int, bytes], tag: str, since: int, until: int) -> None:
        """A tag pointed there from one moment until another (microseconds)."""
        self.intervals.setdefault(place, []).append((tag, since // _DAY_MICROS, (until - 1) // _DAY_MICROS))


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
            if not any(row.digest in wanted for row in rows):
                continue
            ends = deleted.get(repository_id, ())
            if len(rows) == 1 and not ends:
                found.add((repository_id, rows[0].digest), tag, rows[0].at, _FOREVER)
                continue
            points = [
                Point(from_micros(row.at), _digest(row.digest), row.cause, from_micros(row.effective_at))
                for row in rows
            ]
            for one in build_intervals(points, ends):
                if one.digest is not None and (digest := one.digest.to_bytes()) in wanted:
                    until = _FOREVER if one.until is None else to_micros(one.until)
                    found.add((repository_id, digest), tag, to_micros(one.since), until)
    return found


class _Observed(NamedTuple):
    repository_id: int
    tag: str
    at: int
    digest: bytes
    cause: str
    effective_at: int


def _histories(connection: Connection, repository_ids: list[int]) -> Iterator[tuple[int, str, list[_Observed]]]:
    history = tag_history.c
    statement = (
        select(*(history[name] for name in _Observed._fields))
        .where(history.repository_id.in_(repository_ids))
        .order_by(history.repository_id, history.tag)
    )
    # SQLAlchemy's rows would take longer than all the rest.
    rows: Any = connection.execute(statement).cursor
    for (repository_id, tag), found in groupby(map(_Observed._make, rows), key=itemgetter(0, 1)):
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
