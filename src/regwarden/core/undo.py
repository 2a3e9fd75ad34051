"""What has to be put back, in which order, and what cannot come back? From what a plan took away and what is there.

Pure and repeatable: what is there already is not put again, so an undo that broke off is simply computed anew.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

from regwarden.core.oci.digests import Digest
from regwarden.core.oci.manifests import parse_manifest
from regwarden.errors import InputError

Place = tuple[str, str]
"""(registry, repository)."""


class Taken(NamedTuple):
    """What one step of a plan took from a repository: a manifest with all its tags, or only tags of it."""

    position: int
    registry: str
    repository: str
    digest: str
    tags: tuple[str, ...] = ()


class Kept(NamedTuple):
    """A manifest whose bytes are in the trash: what must be there before it. ``blobs`` are (digest, size in bytes)."""

    digest: str
    media_type: str
    children: tuple[str, ...] = ()
    subject: str | None = None
    blobs: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Present:
    """What a repository has now, as far as the undo needs to know: where tags point, which manifests exist.

    A tag that does not exist is absent from ``tags``; ``None``: it exists, nobody knows where it points.
    """

    tags: Mapping[str, str | None]
    manifests: frozenset[str]


class Restore(NamedTuple):
    """One manifest to put by its digest, or with ``tag`` under that tag. ``needs`` are puts that must succeed before.

    ``position`` is the first step of the plan that it serves.
    """

    position: int
    registry: str
    repository: str
    digest: str
    tag: str = ""
    needs: tuple[str, ...] = ()


class BlobProof(NamedTuple):
    """A blob that must be readable in a repository before its manifests are put back."""

    registry: str
    repository: str
    digest: str
    size_bytes: int


class Mount(NamedTuple):
    """A blob that a repository has lost and another one, ``source``, still has."""

    registry: str
    repository: str
    digest: str
    source: str


class LossCode(StrEnum):
    """Why something does not come back."""

    NOT_KEPT = "not-kept"
    BLOB_GONE = "blob-gone"
    NOT_WRITABLE = "not-writable"  # the registry cannot be asked, or takes no changes
    TAG_MOVED = "tag-moved"


class Loss(NamedTuple):
    """What does not come back: the manifest ``digest`` of a step, or with ``tag`` only that tag.

    ``missing`` is the blob or manifest that is missing, ``needed_by`` the manifest that names it; ``now`` is where the
    tag points meanwhile, or what the registry said.
    """

    code: LossCode
    position: int
    registry: str
    repository: str
    digest: str
    tag: str = ""
    missing: str = ""
    needed_by: str = ""
    now: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What was found out about writing and blobs: places that cannot be written to and why, blobs not readable there.

    ``sources`` names by (registry, blob) the repositories in which such a blob was read.
    """

    unwritable: Mapping[Place, str] = field(default_factory=dict)
    unreadable: Mapping[Place, frozenset[str]] = field(default_factory=dict)
    sources: Mapping[tuple[str, str], Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Undo:
    """What to do, repository by repository: ``mounts`` first, then ``restores`` in order: manifests, then tags.

    ``proofs`` are all blobs that what is restored needs. ``returning`` are the steps that come back, but for tags
    among the ``losses``; also those of which nothing is missing any more.
    """

    restores: tuple[Restore, ...]
    mounts: tuple[Mount, ...]
    proofs: tuple[BlobProof, ...]
    losses: tuple[Loss, ...]
    returning: tuple[Taken, ...]


NOTHING_FOUND: Final = Findings()


def read_kept(digest: str, media_type: str, payload: bytes) -> Kept:
    """What a manifest from the trash needs. Raises ``InputError`` where its bytes are not those of ``digest``."""
    if not Digest.parse(digest).matches(payload):
        raise InputError(f"the bytes kept of {digest} are not its bytes", code="damaged-trash")
    manifest = parse_manifest(payload, media_type)
    return Kept(
        digest,
        media_type,
        tuple(dict.fromkeys(str(child.digest) for child in manifest.children)),
        str(manifest.subject.digest) if manifest.subject is not None else None,
        tuple({str(part.digest): part.size_bytes for part in manifest.stored_blobs()}.items()),
    )


def build_undo(
    taken: Iterable[Taken],
    kept: Mapping[str, Kept],
    present: Mapping[Place, Present],
    findings: Findings = NOTHING_FOUND,
) -> Undo:
    """The ordered steps that put ``taken`` back, and what cannot come back.

    A manifest is put back with everything that it leads to, or not at all. ``kept`` by digest holds what the trash
    has; a place that ``present`` lacks is empty. Without ``findings`` every blob is taken for readable: ask for the
    ``proofs`` of the result, then build again with what was found.
    """
    by_place: dict[Place, list[Taken]] = defaultdict(list)
    for one in taken:
        by_place[one.registry, one.repository].append(one)
    parts = [
        _Repository(place, kept, present.get(place, Present({}, frozenset())), findings).undo(sorted(by_place[place]))
        for place in sorted(by_place)
    ]
    return Undo(
        restores=tuple(one for part in parts for one in part.restores),
        mounts=tuple(one for part in parts for one in part.mounts),
        proofs=tuple(one for part in parts for one in part.proofs),
        losses=tuple(one for part in parts for one in part.losses),
        returning=tuple(sorted(one for part in parts for one in part.returning)),
    )


class _Repository:
    """The undo of one repository."""

    def __init__(self, place: Place, kept: Mapping[str, Kept], present: Present, findings: Findings) -> None:
        self._place = place
        self._kept = kept
        self._present = present
        self._findings = findings
        self._unreadable = findings.unreadable.get(place, frozenset())
        self._causes: dict[str, frozenset[tuple[LossCode, str, str]]] = {}

    def undo(self, taken: Sequence[Taken]) -> Undo:
        """Put these back; sorted by position."""
        losses: list[Loss] = []
        returning: list[Taken] = []
        for one in taken:
            found = self._losses_of(one)
            losses.extend(found)
            if not found:
                returning.append(one)
        own = {one.digest: one.position for one in reversed(returning)}
        served: dict[str, int] = {}  # manifest to put -> its own step, else the first that needs it
        for one in returning:
            for digest in self._closure(one.digest):
                served.setdefault(digest, own.get(digest, one.position))
        tags, moved = self._tags(returning, served)
        blobs = sorted({blob for digest in served for blob in self._kept[digest].blobs})
        lost = {blob for blob, _ in blobs if blob in self._unreadable}
        return Undo(
            restores=(*self._ordered(served), *tags),
            mounts=tuple(Mount(*self._place, blob, self._source(blob)) for blob in sorted(lost)),
            proofs=tuple(BlobProof(*self._place, blob, size_bytes) for blob, size_bytes in blobs),
            losses=tuple(sorted((*losses, *moved))),
            returning=tuple(returning),
        )

    def _losses_of(self, one: Taken) -> list[Loss]:
        """Why a step's manifest cannot come back; nothing where it is there."""
        why = self._findings.unwritable.get(self._place)
        is_there = one.digest in self._present.manifests
        if why is not None and not (is_there and all(self._present.tags.get(tag) == one.digest for tag in one.tags)):
            return [Loss(LossCode.NOT_WRITABLE, *one[:4], now=why)]
        if is_there and all(tag in self._present.tags for tag in one.tags):
            return []
        causes = self._causes_of(one.digest)
        if not causes and is_there and one.digest not in self._kept:
            # It never went, only its tag: nothing leads to its bytes but the trash.
            causes = frozenset({(LossCode.NOT_KEPT, one.digest, one.digest)})
        return [Loss(code, *one[:4], missing=missing, needed_by=by) for code, missing, by in sorted(causes)]

    def _causes_of(self, root: str) -> frozenset[tuple[LossCode, str, str]]:
        """What is missing of a manifest and everything it leads to: (why, what is missing, which manifest names it)."""
        for digest in self._closure(root):
            if digest in self._causes:
                continue
            kept = self._kept.get(digest)
            if kept is None:
                self._causes[digest] = frozenset({(LossCode.NOT_KEPT, digest, digest)})
                continue
            own = {
                (LossCode.BLOB_GONE, blob, digest)
                for blob, _ in kept.blobs
                if blob in self._unreadable and not self._source(blob)
            }
            self._causes[digest] = frozenset(own).union(*(self._causes.get(c, frozenset()) for c in kept.children))
        return self._causes.get(root, frozenset())

    def _source(self, blob: str) -> str:
        found = self._findings.sources.get((self._place[0], blob), ())
        return min((name for name in found if name != self._place[1]), default="")

    def _closure(self, root: str) -> Iterator[str]:
        """Manifests that are missing here and that ``root`` leads to: children before parents, each once."""
        seen: set[str] = set()
        todo = [(root, False)]
        while todo:
            digest, are_children_done = todo.pop()
            if are_children_done:
                yield digest
            elif digest not in seen and digest not in self._present.manifests:
                seen.add(digest)
                todo.append((digest, True))
                kept = self._kept.get(digest)
                todo.extend((child, False) for child in reversed(kept.children if kept is not None else ()))

    def _ordered(self, served: Mapping[str, int]) -> list[Restore]:
        """Children before indexes, subjects before their referrers, and otherwise by digest."""
        ranks: dict[str, int] = {}
        for root in sorted(served):
            todo = [(root, False)]
            while todo:
                digest, are_others_done = todo.pop()
                before = [one for one in self._before(digest) if one in served]
                if are_others_done:
                    ranks[digest] = 1 + max((ranks[one] for one in before), default=0)
                elif digest not in ranks:
                    ranks[digest] = 0  # content that leads to itself does not exist; were it so, this would end
                    todo.append((digest, True))
                    todo.extend((one, False) for one in before)
        return [
            Restore(
                served[digest],
                *self._place,
                digest,
                needs=tuple(child for child in self._kept[digest].children if child in served),
            )
            for digest in sorted(served, key=lambda one: (ranks[one], one))
        ]

    def _before(self, digest: str) -> tuple[str, ...]:
        kept = self._kept[digest]
        return kept.children if kept.subject is None else (*kept.children, kept.subject)

    def _tags(self, returning: Sequence[Taken], served: Mapping[str, int]) -> tuple[list[Restore], list[Loss]]:
        """Tags to set, by name, and those that point elsewhere. Of two steps that took a tag the later one has it."""
        moved: list[Loss] = []
        owners: dict[str, Taken] = {}
        for one in reversed(returning):
            for tag in one.tags:
                now = self._present.tags.get(tag, "") if tag not in owners else owners[tag].digest
                if now == "":
                    owners[tag] = one
                elif now != one.digest:
                    moved.append(Loss(LossCode.TAG_MOVED, *one[:4], tag=tag, now=now or ""))
        tags = [
            Restore(one.position, *self._place, one.digest, tag, (one.digest,) if one.digest in served else ())
            for tag, one in sorted(owners.items())
        ]
        return tags, moved
