"""Which manifests of a repository stay, and because of what; in which order may the others be deleted?

Everything that stays keeps what it leads to: an index its children, a referrer its subject. A manifest that follows
(a signature, an attestation) stays with its subject and goes with it. Linear in manifests, tags and edges.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from regwarden.core.observed import ObservedManifest


class Tie(StrEnum):
    """What keeps a manifest."""

    TAG = "tag"  # a tag that stays
    ITSELF = "itself"  # it is untagged and stays
    RECENT = "recent"  # it was pushed or untagged a moment ago
    HELD = "held"
    SHARED = "shared"  # only its tag was meant
    INDEX = "index"  # an index that stays lists it
    REFERRER = "referrer"  # what stays refers to it
    SUBJECT = "subject"  # it refers to what stays
    TANGLED = "tangled"  # it follows something that goes only after it, which nobody honest says


class Cause(NamedTuple):
    """Why a manifest stays; ``name`` is the tag or digest that keeps it, empty for itself."""

    tie: Tie
    name: str = ""


@dataclass(frozen=True, slots=True)
class Ties:
    """What leads to what in one repository: only what exists there.

    ``referrers`` are by manifest: those whose document names it as their subject. ``followers`` are the untagged ones
    of them that follow; ``special_tags`` are, by subject, the manifests whose tag follows it.
    """

    manifests: Mapping[str, ObservedManifest]
    referrers: Mapping[str, list[str]]
    followers: set[str] = field(default_factory=set)
    special_tags: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def children(self, digest: str) -> Sequence[str]:
        """What an index lists."""
        listed = self.manifests[digest].children
        return [child for child in listed if child in self.manifests] if listed else ()

    def kept_by(self, digest: str) -> Iterator[tuple[str, Tie]]:
        """What stays because a manifest stays."""
        for child in self.children(digest):
            yield child, Tie.INDEX
        subject = self.manifests[digest].subject
        if subject is not None and subject in self.manifests:
            yield subject, Tie.REFERRER
        for referrer in self.referrers.get(digest, ()):
            if referrer in self.followers:
                yield referrer, Tie.SUBJECT
        for special in self.special_tags.get(digest, ()):
            yield special, Tie.SUBJECT

    def deleted_after(self, digest: str, *, strictly: bool = True) -> Sequence[str]:
        """What may be deleted only after a manifest: its children and what follows it.

        Not ``strictly``, also what refers to it but goes for a reason of its own: better after it than before.
        """
        children = self.children(digest)
        referrers, specials = self.referrers.get(digest, ()), self.special_tags.get(digest, ())
        if not referrers and not specials:
            return children
        return [*children, *(one for one in referrers if not strictly or one in self.followers), *specials]


def build_ties(manifests: Mapping[str, ObservedManifest]) -> Ties:
    """The ties of the manifests of one repository, without what follows."""
    referrers: dict[str, list[str]] = defaultdict(list)
    for digest in sorted(digest for digest, one in manifests.items() if one.subject is not None):
        subject = manifests[digest].subject
        if subject is not None and subject in manifests:
            referrers[subject].append(digest)
    return Ties(manifests, referrers)


def settle(ties: Ties, starts: Iterable[tuple[str, Cause]]) -> tuple[Mapping[str, Cause], tuple[str, ...]]:
    """What stays (digest to cause) because of what starts to, and everything else in an order safe to break off.

    Parents come before children and subjects before referrers, so that after any number of deletions nothing that
    exists lacks a child because of them. What no such order leads to stays, too.
    """
    stays: dict[str, Cause] = {}
    _spread(ties, starts, stays)
    while True:
        # A referrer that lists its own subject has no place after it, but may go.
        for strictly in (False, True):
            order = _order(ties, stays, strictly=strictly)
            if len(order) + len(stays) == len(ties.manifests):
                return stays, order
        ordered = set(order)
        tangled = {digest for digest in ties.manifests if digest not in stays and digest not in ordered}
        _spread(ties, ((digest, Cause(Tie.TANGLED)) for digest in sorted(_knot(ties, tangled))), stays)


def _knot(ties: Ties, tangled: set[str]) -> set[str]:
    """Of manifests that no order leads to, those that lead to themselves; the others only wait for these."""
    later_counts = {one: sum(later in tangled for later in ties.deleted_after(one)) for one in tangled}
    earlier: dict[str, list[str]] = defaultdict(list)
    for digest in tangled:
        for later in ties.deleted_after(digest):
            if later in tangled:
                earlier[later].append(digest)
    free = [digest for digest, count in later_counts.items() if not count]
    knot = set(tangled)
    while free:
        digest = free.pop()
        knot.discard(digest)
        for before in earlier[digest]:
            later_counts[before] -= 1
            if not later_counts[before]:
                free.append(before)
    return knot


def _spread(ties: Ties, starts: Iterable[tuple[str, Cause]], stays: dict[str, Cause]) -> None:
    todo: deque[str] = deque()
    for digest, cause in starts:
        if digest not in stays:
            stays[digest] = cause
            todo.append(digest)
    while todo:
        keeper = todo.popleft()
        for digest, tie in ties.kept_by(keeper):
            if digest not in stays:
                stays[digest] = Cause(tie, keeper)
                todo.append(digest)


def _order(ties: Ties, stays: Mapping[str, Cause], *, strictly: bool) -> tuple[str, ...]:
    waits_for = dict.fromkeys(sorted(digest for digest in ties.manifests if digest not in stays), 0)
    after = {digest: found for digest in waits_for if (found := ties.deleted_after(digest, strictly=strictly))}
    for found in after.values():
        for later in found:
            if later in waits_for:
                waits_for[later] += 1
    ready = deque(digest for digest, count in waits_for.items() if not count)
    order = []
    while ready:
        digest = ready.popleft()
        order.append(digest)
        for later in after.get(digest, ()):
            if later in waits_for:
                waits_for[later] -= 1
                if not waits_for[later]:
                    ready.append(later)
    return tuple(order)
