"""How much is stored at each step of a backtest, in the world as it was and in the one that the policy leaves?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple


class Changes(NamedTuple):
    """The manifests that came to a repository, and those that went, between two steps."""

    came: Sequence[str]
    went: Sequence[str]


class StoredTotals:
    """What the repositories of one registry store: documents and blobs by number, each once."""

    def __init__(self, step_count: int) -> None:
        self._contents: dict[str, Sequence[int]] = {}
        self._changes: list[list[tuple[Changes, Changes]]] = [[] for _ in range(step_count)]

    def add(self, contents: Mapping[str, Sequence[int]], changes: Sequence[tuple[Changes, Changes]]) -> None:
        """One repository: what its manifests store, and what changed in both worlds at each step."""
        self._contents.update(contents)
        for number, pair in enumerate(changes):
            if any(one.came or one.went for one in pair):
                self._changes[number].append(pair)

    def numbers(self) -> set[int]:
        """Everything that any of the manifests holds."""
        return {number for held in self._contents.values() for number in held}

    def measure(self, sizes: Mapping[int, int], pinned: AbstractSet[int]) -> Iterator[tuple[int, int]]:
        """The bytes at each step, without the policy and with it. What is ``pinned`` is never saved."""
        real, other = _Holders(self._contents, sizes), _Holders(self._contents, sizes)
        for pairs in self._changes:
            for without, with_policy in pairs:
                real.apply(without)
                other.apply(with_policy)
            kept = pinned & (real.counts.keys() - other.counts.keys()) if pinned else ()
            yield real.total_bytes, other.total_bytes + sum(sizes.get(number, 0) for number in kept)


class _Holders:
    """How many manifests in how many repositories hold each document and blob, and what all of it weighs."""

    def __init__(self, contents: Mapping[str, Sequence[int]], sizes: Mapping[int, int]) -> None:
        self._contents = contents
        self._sizes = sizes
        self.counts: Counter[int] = Counter()
        self.total_bytes = 0

    def apply(self, changes: Changes) -> None:
        """Take what came and what went."""
        counts, sizes = self.counts, self._sizes
        for digest in changes.came:
            for number in self._contents.get(digest, ()):
                counts[number] += 1
                if counts[number] == 1:
                    self.total_bytes += sizes.get(number, 0)
        for digest in changes.went:
            for number in self._contents.get(digest, ()):
                counts[number] -= 1
                if not counts[number]:
                    del counts[number]
                    self.total_bytes -= sizes.get(number, 0)
