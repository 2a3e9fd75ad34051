"""What would be in a repository if a policy had been at work? Its recorded history, walked along, less what went.

What was deleted or untagged stays away until it is pushed or tagged again. An index that is pushed again brings what
it lists: no registry takes it without.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime
from heapq import merge
from itertools import count
from operator import itemgetter
from typing import Final, NamedTuple, TypeAlias

from regwarden.core.conditions import FieldValue
from regwarden.core.observed import LastPull, ObservedManifest, ObservedRepository, ObservedTag, TagState
from regwarden.core.oci.digests import Digest
from regwarden.core.policy_matching import USE, Method
from regwarden.core.recorded import PullDay, RecordedRepository, TagMark

Happening: TypeAlias = tuple[datetime, int, int, str, TagMark | PullDay | None]
"""When, its order among those of the same moment, its number, a digest or tag, and what."""

MANIFEST_FIELDS: Final = frozenset({"media_type", "artifact_type", "is_index", "logical_bytes", "created_at"})

_GONE: Final = 0
_SEEN: Final = 1
_PUSHED: Final = 2
_MARKED: Final = 3
_PULLED: Final = 4
_NEW: Final = tuple.__new__
_FIRST_PULL: Final = ObservedManifest._fields.index("last_pushed_at")


class Failure(NamedTuple):
    """Pulls of one day that would have failed: what they asked for was removed at ``removed_at``."""

    pull: PullDay
    removed_at: datetime


def list_happenings(recorded: RecordedRepository) -> list[Happening]:
    """Everything that happened to a repository, in order: what goes, what comes, where tags point, who pulled."""
    numbers = count()
    found: list[Happening] = []
    for digest, life in recorded.lives.items():
        pushes = set(life.pushes)
        found += [(at, _GONE, next(numbers), digest, None) for at in life.departures]
        found += [(at, _SEEN, next(numbers), digest, None) for at in life.arrivals if at not in pushes]
        found += [(at, _PUSHED, next(numbers), digest, None) for at in life.pushes]
    for tag, marks in recorded.tags.items():
        found += [(mark.at, _MARKED, next(numbers), tag, mark) for mark in marks]
    found.sort(key=itemgetter(0, 1, 2))
    pulls: Iterator[Happening] = ((one.last_at, _PULLED, next(numbers), one.digest, one) for one in recorded.pulls)
    return list(merge(found, pulls, key=itemgetter(0, 1)))


def without_pulls(happenings: Iterable[Happening]) -> Iterator[Happening]:
    """The same for a world of which only is asked what is in it."""
    return (one for one in happenings if one[1] != _PULLED)


class World:
    """One repository at one moment, as it was or as it would have been.

    ``existing`` are the manifests that are there, ``points`` the tags. ``changed`` are the manifests of which that
    is otherwise than when it was last emptied.
    """

    def __init__(self, recorded: RecordedRepository, fields: frozenset[str] = frozenset()) -> None:
        self._recorded = recorded
        self._fields = fields
        self._lives = recorded.lives
        self._below = {digest: one.manifest.children for digest, one in recorded.lives.items() if one.manifest.children}
        self._above: dict[str, list[str]] = defaultdict(list)
        for parent, children in self._below.items():
            for child in dict.fromkeys(children):
                self._above[child].append(parent)
        self._seen: set[str] = set()
        self._removed_tags: dict[str, datetime] = {}
        self._removed: dict[str, datetime] = {}
        self._tag_counts: dict[str, int] = defaultdict(int)
        self._left: dict[str, tuple[datetime, bool]] = {}
        self._pushed_at: dict[str, datetime] = {}
        self._pulls: dict[str, dict[tuple[str, str, str], datetime]] = defaultdict(dict)
        self._built: dict[str, ObservedManifest] = {}
        self.existing: set[str] = set()
        self.points: dict[str, ObservedTag] = {}
        self.changed: set[str] = set()

    def advance(self, happenings: Iterable[Happening]) -> list[Failure]:
        """Let things happen, oldest first; which of the pulls would have failed."""
        failures = []
        for at, kind, _, name, what in happenings:
            if isinstance(what, TagMark):
                self._mark(name, what)
            elif isinstance(what, PullDay):
                if (removed_at := self._pull(what)) is not None:
                    failures.append(Failure(what, removed_at))
            elif kind == _GONE:
                self._drop(name)
            else:
                if kind == _PUSHED:
                    self._pushed_at[name] = at
                    self._built.pop(name, None)
                self._seen.add(name)
                self._arrive(name)
        return failures

    def untag(self, tag: str, at: datetime) -> None:
        """The policy removes a tag."""
        known = self.points.pop(tag, None)
        if known is not None:
            self._removed_tags[tag] = at
            self._leave(known.digest, at, is_exact=True)

    def delete(self, digest: str, at: datetime) -> None:
        """The policy deletes a manifest; its tags are removed before."""
        self._removed[digest] = at
        self._drop(digest)

    def observe(self, doubt: str = "") -> ObservedRepository:
        """What would be known of the repository now."""
        existing = self.existing
        for digest in existing - self._built.keys():
            self._built[digest] = self._build(digest)
        tags = tuple(
            one if one.digest in existing else one._replace(state=TagState.DANGLING) for one in self.points.values()
        )
        if self._fields:
            tags = tuple(one._replace(fields=self._fields_of(one)) for one in tags)
        built = self._built
        return ObservedRepository(
            registry=self._recorded.registry,
            name=self._recorded.name,
            tags=tags,
            manifests={digest: built[digest] for digest in sorted(existing)},
            doubt=doubt,
        )

    def _fields_of(self, tag: ObservedTag) -> dict[str, FieldValue | None]:
        """What conditions compare; fields of which the past is not known have no value."""
        manifest = self._built.get(tag.digest or "")
        found: dict[str, FieldValue | None] = dict.fromkeys(self._fields)
        if manifest is not None and manifest.is_read:
            found.update({name: getattr(manifest, name) for name in self._fields & MANIFEST_FIELDS})
        own: dict[str, FieldValue | None] = {
            "registry": self._recorded.registry,
            "repository": self._recorded.name,
            "tag": tag.name,
            "state": str(tag.state),
            "tagged_at": tag.tagged_at,
            "digest": Digest.parse(tag.digest) if tag.digest is not None else None,
            **_pull_times(manifest.pulls if manifest is not None else ()),
        }
        return found | {name: own[name] for name in self._fields & own.keys()}

    def _mark(self, tag: str, mark: TagMark) -> None:
        before = self.points.pop(tag, None)
        self._removed_tags.pop(tag, None)
        if before is not None and before.digest != mark.digest:
            self._leave(before.digest, mark.at, is_exact=mark.is_told)
        if mark.digest is None:
            return
        self.points[tag] = ObservedTag(tag, mark.digest, TagState.OK, mark.at, mark.is_told)
        if before is None or before.digest != mark.digest:
            self._tag_counts[mark.digest] += 1
            self._built.pop(mark.digest, None)
        self._seen.add(mark.digest)
        self._arrive(mark.digest)

    def _leave(self, digest: str | None, at: datetime, *, is_exact: bool) -> None:
        if digest is not None:
            self._tag_counts[digest] -= 1
            self._left[digest] = (at, is_exact)
            self._built.pop(digest, None)

    def _arrive(self, digest: str) -> None:
        """It is there, and so is what it lists, as far as that was ever there."""
        stack = [digest]
        done: set[str] = set()
        while stack:
            one = stack.pop()
            if one in done or one not in self._lives or one not in self._seen:
                continue
            done.add(one)
            self._removed.pop(one, None)
            if one not in self.existing:
                self.existing.add(one)
                self.changed ^= {one}
            stack += self._below.get(one, ())

    def _drop(self, digest: str) -> None:
        if digest in self.existing:
            self.existing.discard(digest)
            self.changed ^= {digest}

    def _pull(self, pull: PullDay) -> datetime | None:
        """Take note of pulls; when what they ask for was removed, if it is away because of that."""
        removed_at = self._removed_tags.get(pull.tag) if pull.tag else None
        removed_at = removed_at or self._removed.get(pull.digest)
        if removed_at is not None:
            return removed_at
        key = (pull.pull_class, pull.method, pull.tag)
        self._note(pull.digest, key, pull.last_at)
        if not pull.tag:
            # What is asked of the parts of an index counts for it too.
            for above in self._all_above(pull.digest):
                self._note(above, key, pull.last_at)
        return None

    def _note(self, digest: str, key: tuple[str, str, str], at: datetime) -> None:
        known = self._pulls[digest]
        known[key] = max(at, known.get(key, at))
        self._built.pop(digest, None)

    def _all_above(self, digest: str) -> set[str]:
        found: set[str] = set()
        stack = list(self._above.get(digest, ()))
        while stack:
            one = stack.pop()
            if one != digest and one not in found:
                found.add(one)
                stack += self._above.get(one, ())
        return found

    def _build(self, digest: str) -> ObservedManifest:
        fixed = self._lives[digest].manifest
        pushed_at = self._pushed_at.get(digest)
        left_at: datetime | None = None
        is_exact = False
        if self._tag_counts.get(digest, 0) <= 0:
            known = self._left.get(digest)
            if known is not None:
                left_at, is_exact = known
            else:
                first = fixed.first_seen_at
                left_at = first if pushed_at is None or pushed_at < first else pushed_at
                is_exact = fixed.is_pushed_exact and left_at == first
        pulls = self._pulls.get(digest)
        told = tuple(LastPull(at, *key) for key, at in sorted(pulls.items())) if pulls else ()
        # All values in the order of the fields: the usual way takes several times longer.
        values = (*fixed[:_FIRST_PULL], pushed_at, left_at, is_exact, *fixed[_FIRST_PULL + 3 : -1], told)
        return _NEW(ObservedManifest, values)


def _pull_times(pulls: Iterable[LastPull]) -> dict[str, FieldValue | None]:
    """When it was last used, fetched and asked for."""
    times: dict[str, list[datetime]] = {"pulled_at": [], "fetched_at": [], "checked_at": []}
    for one in pulls:
        times["checked_at" if one.method == Method.HEAD else "fetched_at"].append(one.at)
        if one.pull_class in USE:
            times["pulled_at"].append(one.at)
    return {name: max(found, default=None) for name, found in times.items()}
