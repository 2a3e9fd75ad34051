"""What is decided about in a repository? Its tags, and the manifests without a tag that nothing leads to."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Final, NamedTuple

from regwarden.core.observed import ObservedManifest, ObservedRegistry, ObservedRepository, ObservedTag
from regwarden.core.policy_matching import SpecialKind
from regwarden.core.special_tags import special_kind

_NEW: Final = tuple.__new__


class Root(NamedTuple):
    """One tag, or with an empty ``tag`` one manifest without a tag; ``position`` is its place among all roots.

    ``special`` is its kind if it belongs to another image. ``is_follower`` marks an untagged referrer whose subject
    exists here: it is a root only where referrers are explicit.
    """

    position: int
    tag: str
    digest: str | None
    entry: ObservedTag | None
    manifest: ObservedManifest | None
    special: SpecialKind | None
    is_follower: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What conditions look at besides the root itself.

    ``pulls_since`` is since when pulls are known, ``None`` if they are not known for as long as policies ask for, which
    ends at ``pulls_known_at`` (``None``: nobody knows when). ``names_by_digest`` are the tags of each digest.
    ``whole_crawls`` are those of the registry.
    """

    registry: str
    repository: str
    now: datetime
    events_since: datetime | None
    pulls_since: datetime | None
    pulls_known_at: datetime | None
    names_by_digest: Mapping[str, tuple[str, ...]]
    whole_crawls: tuple[tuple[datetime, datetime], ...]

    def looked(self, found_at: datetime) -> tuple[datetime | None, datetime]:
        """Of what a crawl found then: when it was not there yet (``None``: nobody looked), when that crawl began."""
        number = bisect_left(self.whole_crawls, found_at, key=itemgetter(1))
        begun = self.whole_crawls[number][0] if number < len(self.whole_crawls) else found_at
        return self.whole_crawls[number - 1][0] if number else None, min(begun, found_at)


def list_roots(repository: ObservedRepository, *, is_explicit: bool) -> list[Root]:
    """All roots: tags by name, then manifests without a tag by digest.

    With ``is_explicit`` an untagged referrer of an existing subject is a root too; otherwise it follows its subject.
    """
    manifests = repository.manifests
    roots: list[Root] = []
    reached: set[str] = set()
    for position, entry in enumerate(sorted(repository.tags, key=itemgetter(0))):
        name, digest = entry.name, entry.digest
        manifest = None
        if digest is not None:
            manifest = manifests.get(digest)
            reached.add(digest)
        # All values in the order of the fields: the usual way takes longer.
        values = (position, name, digest, entry, manifest, special_kind(name, manifest), False)
        roots.append(_NEW(Root, values))
    for manifest in manifests.values():
        reached.update(manifest.children)
    for digest in sorted(manifests.keys() - reached):
        manifest = manifests[digest]
        is_follower = manifest.subject is not None and manifest.subject in manifests
        if is_explicit or not is_follower:
            roots.append(Root(len(roots), "", digest, None, manifest, special_kind("", manifest), is_follower))
    return roots


def surroundings_of(
    repository: ObservedRepository,
    registry: ObservedRegistry,
    *,
    now: datetime,
    history: timedelta | None,
    by_digest: bool,
) -> Surroundings:
    """What conditions look at.

    ``history`` is how long pulls must have been recorded, ``by_digest`` whether the tags of each digest matter.
    """
    since = registry.events_since
    known_at = None if since is None else since + (history or timedelta())
    names: dict[str, list[str]] = {}
    for entry in repository.tags if by_digest else ():
        if entry.digest is not None:
            names.setdefault(entry.digest, []).append(entry.name)
    return Surroundings(
        registry=registry.name,
        repository=repository.name,
        now=now,
        events_since=since,
        pulls_since=since if known_at is not None and known_at <= now else None,
        pulls_known_at=known_at,
        names_by_digest={digest: tuple(found) for digest, found in names.items()},
        whole_crawls=registry.whole_crawls,
    )
