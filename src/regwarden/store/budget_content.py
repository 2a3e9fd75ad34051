"""How many bytes do repositories store, each blob once, and what would be stored no longer if candidates went?

Content numbers are made up here, for one question at a time: what the same single candidate holds is one number.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from sqlalchemy import select
from sqlalchemy.engine import Connection

from regwarden.core.budget_reach import BudgetReach
from regwarden.core.oci.digests import Digest
from regwarden.errors import NotFound
from regwarden.store.arrays import Flags, Integers, Lookup, Numbers, distinct, sum_by_group, total
from regwarden.store.bulk import bulk_ids
from regwarden.store.graph_arrays import find_pairs, load_graph, pair_key
from regwarden.store.past_rows import fetch
from regwarden.store.schema import manifests, registries, repositories

_BLOB = 1 << 31
"""Added to the position of a blob, to tell it from a manifest."""


class Weighed(NamedTuple):
    """What some repositories store, and what of it only the candidates asked about hold, each by content number."""

    stored_bytes: int
    holds: tuple[tuple[int, ...], ...]
    sizes: Mapping[int, int]


class StoredContent:
    """The content of one registry, while candidates of budgets are chosen one budget after the other."""

    def __init__(self, connection: Connection, registry: str, reaches: Mapping[str, BudgetReach]) -> None:
        """Read it; ``reaches`` are by repository. Candidates are numbered in that order, then by position.

        Raises ``NotFound`` (code ``unknown-registry``) and ``StoreError`` (code ``damaged``).
        """
        registry_id = connection.execute(select(registries.c.id).where(registries.c.name == registry)).scalar()
        if registry_id is None:
            raise NotFound(f"nothing is known of the registry {registry[:80]!r}", code="unknown-registry")
        self._graph = graph = load_graph(connection, registry_id)
        self._places = _places_of(connection, registry_id)
        self._pairs = _find_pairs(connection, reaches, self._places, Lookup(graph.manifest_ids), graph.pair_keys())
        self._is_read = graph.pair_is_read
        count = len(graph.pair_manifest)
        self._going: Flags = np.zeros(count, dtype=np.bool_)
        self._free: Flags = np.zeros(count, dtype=np.bool_)
        held: list[int] = []
        ends = [0]
        for name, reach in reaches.items():
            known = self._pairs.get(name, {})
            for flags, digests in ((self._going, reach.going), (self._free, reach.free)):
                flags[[known[digest] for digest in digests if digest in known]] = True
            for holds in reach.holds:
                held += [known[digest] for digest in holds if digest in known and self._is_read[known[digest]]]
                ends.append(len(held))
        self._held: Integers = np.array(held, dtype=np.int64)
        self._starts: Integers = np.array(ends, dtype=np.int64)
        self._holder_counts: Integers = np.zeros(count, dtype=np.int64)
        np.add.at(self._holder_counts, self._held, 1)
        self._free &= self._holder_counts > 0

    def take(self, candidates: Collection[int]) -> None:
        """From now on these candidates are thought to go."""
        np.subtract.at(self._holder_counts, self._held_by(np.array(sorted(candidates), dtype=np.int64))[1], 1)

    def weigh(self, names: Collection[str], owners: Sequence[Sequence[int]]) -> Weighed:
        """What these repositories store, and what each owner, some candidates that go together, holds of it.

        Left out of what is held is what something else in the repositories holds.
        """
        pairs = self._pairs_of(names)
        here = pairs[~self._going[pairs] & (~self._free[pairs] | (self._holder_counts[pairs] > 0))]
        members = np.array([one for candidates in owners for one in candidates], dtype=np.int64)
        numbers = np.repeat(np.arange(len(owners)), [len(candidates) for candidates in owners])
        sources, held = self._held_by(members)
        np.subtract.at(self._holder_counts, held, 1)
        fixed = self._content(here[~self._free[here] | (self._holder_counts[here] > 0)])
        np.add.at(self._holder_counts, held, 1)
        owner_of, content = self._named(numbers[sources], held)
        is_loose = ~_is_among(content, fixed)
        return _numbered(owner_of[is_loose], content[is_loose], len(owners), self._measure(self._content(here)), self)

    def stored_bytes(self, names: Collection[str], deleted: Mapping[str, Collection[str]]) -> int:
        """What these repositories store without what is ``deleted``, by repository."""
        pairs = self._pairs_of(names)
        gone = [self._pairs[name][one] for name in names for one in deleted.get(name, ()) if one in self._pairs[name]]
        return self._measure(self._content(pairs[~_is_among(pairs, np.array(sorted(gone), dtype=np.int64))]))

    def sizes_of(self, content: Integers) -> Integers:
        """The bytes of content, each."""
        graph, is_blob = self._graph, content >= _BLOB
        found = np.zeros(len(content), dtype=np.int64)
        found[is_blob] = graph.blob_bytes[content[is_blob] - _BLOB]
        found[~is_blob] = graph.manifest_bytes[content[~is_blob]]
        return found

    def _measure(self, content: Integers) -> int:
        return total(self.sizes_of(content))

    def _pairs_of(self, names: Collection[str]) -> Integers:
        """The pairs of repositories whose manifests were read."""
        places = np.array(sorted(self._places[name] for name in names if name in self._places), dtype=np.int64)
        starts = np.searchsorted(self._graph.pair_repository, places)
        ends = np.searchsorted(self._graph.pair_repository, places, side="right")
        parts = [np.arange(start, end) for start, end in zip(starts, ends, strict=True)]
        pairs: Integers = np.concatenate([np.zeros(0, dtype=np.int64), *parts])
        return pairs[self._is_read[pairs]]

    def _held_by(self, candidates: Integers) -> tuple[Integers, Integers]:
        """What candidates hold: the place of each among them, and a pair."""
        counts = self._starts[candidates + 1] - self._starts[candidates]
        owners = np.repeat(np.arange(len(candidates)), counts)
        first = np.cumsum(counts) - counts
        return owners, self._held[np.arange(len(owners)) + np.repeat(self._starts[candidates] - first, counts)]

    def _content(self, pairs: Integers) -> Integers:
        """The manifests of pairs and the blobs that those name, ascending, each once."""
        found = distinct(self._graph.pair_manifest[pairs].astype(np.int64))
        blobs = self._graph.blobs.targets[self._graph.blobs.follow(found)[1]]
        return np.concatenate((found, distinct(blobs).astype(np.int64) + _BLOB))

    def _named(self, owners: Numbers, pairs: Integers) -> tuple[Integers, Integers]:
        """What owners hold by pairs, each once for each owner: (owner, content), by owner."""
        manifest = self._graph.pair_manifest[pairs].astype(np.int64)
        sources, places = self._graph.blobs.follow(manifest)
        blobs = self._graph.blobs.targets[places].astype(np.int64) + _BLOB
        owned = np.concatenate((owners, owners[sources])).astype(np.int64)
        keys = distinct(owned << 32 | np.concatenate((manifest, blobs)))
        return keys >> 32, keys & 0xFFFFFFFF


def _numbered(owners: Integers, content: Integers, count: int, stored_bytes: int, stored: StoredContent) -> Weighed:
    """Numbers: for each owner its own for what it alone holds, and behind those one for each content that is shared."""
    known = distinct(content)
    places = np.searchsorted(known, content)
    sizes = stored.sizes_of(known)
    is_shared = (np.bincount(places, minlength=len(known)) > 1)[places]
    alone = sum_by_group(owners[~is_shared], sizes[places[~is_shared]], count)
    found = {number: int(size) for number, size in enumerate(alone) if size}
    shared = distinct(places[is_shared])
    numbers = count + np.searchsorted(shared, places[is_shared])
    found.update(zip(range(count, count + len(shared)), sizes[shared].tolist(), strict=True))
    holds = [[number] if number in found else [] for number in range(count)]
    for owner, number in zip(owners[is_shared].tolist(), numbers.tolist(), strict=True):
        holds[owner].append(number)
    return Weighed(stored_bytes, tuple(map(tuple, holds)), found)


def _is_among(values: Integers, ascending: Integers) -> Flags:
    if not len(ascending):
        return np.zeros(len(values), dtype=np.bool_)
    places = np.minimum(np.searchsorted(ascending, values), len(ascending) - 1)
    found: Flags = ascending[places] == values
    return found


def _places_of(connection: Connection, registry_id: int) -> dict[str, int]:
    here = repositories.c
    statement = select(here.name).where(here.registry_id == registry_id, here.deleted_at.is_(None)).order_by(here.name)
    return {name: place for place, (name,) in enumerate(fetch(connection, statement))}


def _find_pairs(
    connection: Connection,
    reaches: Mapping[str, BudgetReach],
    places: Mapping[str, int],
    manifest_places: Lookup,
    keys: Integers,
) -> dict[str, dict[str, int]]:
    """Where in the graph everything stands that may go: by repository, then by digest."""
    digests = {digest for reach in reaches.values() for part in (reach.going, reach.free) for digest in part}
    stored = {digest: Digest.stored_form(digest) for digest in digests}
    ids = bulk_ids(connection, manifests, "digest", stored.values())
    found: dict[str, dict[str, int]] = {}
    for name, reach in reaches.items():
        here = [digest for part in (reach.going, reach.free) for digest in part if stored[digest] in ids]
        wanted = manifest_places.find(np.array([ids[stored[digest]] for digest in here], dtype=np.int64))
        place = np.full(len(here), places.get(name, -1), dtype=np.int32)
        pairs = np.where(wanted < 0, -1, find_pairs(keys, pair_key(place, wanted)))
        found[name] = {digest: pair for digest, pair in zip(here, pairs.tolist(), strict=True) if pair >= 0}
    return found
