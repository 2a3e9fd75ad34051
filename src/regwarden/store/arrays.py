"""Small steps on integer arrays that the size engine is made of: exact sums, lookups, walking along edges."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from regwarden.core.graph import MAX_SUM_BYTES

Integers = NDArray[np.int64]
Positions = NDArray[np.int32]
Numbers = NDArray[np.int64] | NDArray[np.int32]
ScalarT = TypeVar("ScalarT", NDArray[np.int64], NDArray[np.int32])
Flags = NDArray[np.bool_]

_SAFE_TOTAL: Final = 2.0**62
_HALF_BITS: Final = 31
_LOW_HALF: Final = (1 << _HALF_BITS) - 1


def sum_by_group(groups: Numbers, values: Integers, group_count: int) -> Integers:
    """The sum of the (non-negative) values of each group, exact, at most ``MAX_SUM_BYTES``."""
    sums = np.zeros(group_count, dtype=np.int64)
    if values.sum(dtype=np.float64) < _SAFE_TOTAL:
        np.add.at(sums, groups, values)
        return sums
    # Too large for 64 bits together: both halves of each value on their own, which holds for 2**31 values.
    high = np.zeros(group_count, dtype=np.int64)
    np.add.at(sums, groups, values & _LOW_HALF)
    np.add.at(high, groups, values >> _HALF_BITS)
    high += sums >> _HALF_BITS
    fits = high <= MAX_SUM_BYTES >> _HALF_BITS
    joined: Integers = np.where(fits, (np.where(fits, high, 0) << _HALF_BITS) | (sums & _LOW_HALF), MAX_SUM_BYTES)
    return joined


def add_capped(first: Integers, second: Integers) -> Integers:
    """Both added, each result at most ``MAX_SUM_BYTES``."""
    room = MAX_SUM_BYTES - first
    total: Integers = first + np.minimum(second, room)
    return total


def distinct(values: ScalarT) -> ScalarT:
    """Sorted, each once. Several times faster than ``np.unique``, which looks integers up in a table."""
    ordered = np.sort(values)
    first = np.ones(len(ordered), dtype=np.bool_)
    first[1:] = ordered[1:] != ordered[:-1]
    return ordered[first]


def total(values: Integers) -> int:
    """The sum of all values, exact, at most ``MAX_SUM_BYTES``."""
    return int(sum_by_group(np.zeros(len(values), dtype=np.int32), values, 1)[0])


class Lookup:
    """Finds the place of an id among sorted distinct ids."""

    def __init__(self, ids: Integers) -> None:
        self._ids = ids
        highest = int(ids[-1]) if len(ids) else 0
        self._table: Positions | None = None
        if highest < 8 * len(ids) + (1 << 16):
            self._table = np.full(highest + 1, -1, dtype=np.int32)
            self._table[ids] = np.arange(len(ids), dtype=np.int32)

    def find(self, wanted: Numbers) -> Positions:
        """The position of each wanted id, -1 where it is not among the ids."""
        if self._table is not None:
            inside = wanted < len(self._table)
            if inside.all():
                return self._table[wanted]
            return np.where(inside, self._table[np.where(inside, wanted, 0)], np.int32(-1))
        places = np.searchsorted(self._ids, wanted)
        places[places == len(self._ids)] = 0
        return np.where(self._ids[places] == wanted, places, -1).astype(np.int32)


@dataclass(frozen=True, slots=True)
class Edges:
    """Edges grouped by where they begin: those of ``n`` stand in ``targets[starts[n]:starts[n + 1]]``."""

    starts: Integers
    targets: Positions

    @staticmethod
    def grouped(sources: Numbers, targets: Numbers, count: int) -> Edges:
        """Group edges in any order between ``count`` things; the same edge twice counts once."""
        keys = distinct(sources.astype(np.int64) << 32 | targets.astype(np.int64))
        starts = np.searchsorted(keys, np.arange(count + 1, dtype=np.int64) << 32)
        return Edges(starts.astype(np.int64), (keys & 0xFFFFFFFF).astype(np.int32))

    def counts(self, sources: Numbers) -> Integers:
        """How many edges begin at each source."""
        return self.starts[sources + 1] - self.starts[sources]

    def follow(self, sources: Numbers) -> tuple[Integers, Integers]:
        """All edges of the sources: for each its source's place in ``sources``, and its own place in ``targets``."""
        counts = self.counts(sources)
        owners = np.repeat(np.arange(len(sources)), counts)
        ends = np.cumsum(counts)
        places = np.arange(len(owners)) + np.repeat(self.starts[sources] - (ends - counts), counts)
        return owners, places

    def reachable(self, marked: Flags) -> Flags:
        """What can be reached from the marked, themselves included."""
        reached = marked.copy()
        frontier: Numbers = np.flatnonzero(marked & (np.diff(self.starts) > 0))
        while len(frontier):
            found = self.targets[self.follow(frontier)[1]]
            frontier = distinct(found[~reached[found]])
            reached[frontier] = True
        return reached

    def closures(self, roots: Numbers) -> tuple[Integers, Integers]:
        """Per root everything reachable, itself included, each once: (place in ``roots``, what was reached)."""
        keys = np.arange(len(roots), dtype=np.int64) << 32 | roots.astype(np.int64)
        seen = keys
        while len(keys):
            owners, places = self.follow(keys & 0xFFFFFFFF)
            found = distinct((keys[owners] & ~np.int64(0xFFFFFFFF)) | self.targets[places])
            keys = found[~np.isin(found, seen)]
            seen = np.concatenate((seen, keys))
        seen = np.sort(seen)
        return seen >> 32, seen & 0xFFFFFFFF


def batches(weights: Integers, limit: int) -> Iterator[slice]:
    """Cut neighbours into slices of at most ``limit`` total weight (one that is heavier alone stands alone)."""
    ends = np.cumsum(weights)
    begin = 0
    while begin < len(weights):
        done = int(ends[begin - 1]) if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, done + limit, side="right")))
        yield slice(begin, end)
        begin = end
