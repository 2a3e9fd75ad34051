"""What is held in one repository: by hand, by the registry's rules, or because it is allowed to run?"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Final

from regwarden.core.globs import GLOB_CHARACTERS
from regwarden.core.observed import Hold
from regwarden.core.patterns import Pattern, PatternKind, parse_pattern
from regwarden.core.retention_clocks import tell_moment
from regwarden.errors import InputError

_PLAIN_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._/-]*")


class GroupedHolds(tuple[Hold, ...]):  # noqa: SLOT001 -- a tuple cannot have slots beside its own
    """Holds that are found by repository: the allow-list has as many as there are manifests."""

    _by_place: dict[tuple[str, str], list[Hold]] | None = None
    _patterns: tuple[Hold, ...] = ()

    def of(self, registry: str, repository: str) -> Iterable[Hold]:
        """Those that can be about a repository."""
        if self._by_place is None:
            places: dict[tuple[str, str], list[Hold]] = {}
            patterns = []
            for hold in self:
                if _PLAIN_NAME.fullmatch(hold.repository):
                    places.setdefault((hold.registry, hold.repository), []).append(hold)
                else:
                    patterns.append(hold)
            self._patterns, self._by_place = tuple(patterns), places
        return (*self._patterns, *self._by_place.get((registry, repository), ()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """The holds of one repository: on ``everything``, on tags by name, on manifests by digest."""

    everything: Hold | None = None
    tags: Mapping[str, Hold] = field(default_factory=dict)
    digests: Mapping[str, Hold] = field(default_factory=dict)

    def find(self, tag: str, digest: str | None) -> Hold | None:
        """The hold on a tag (empty: none) that points to a digest."""
        if self.everything is not None:
            return self.everything
        return self.tags.get(tag) or (self.digests.get(digest) if digest is not None else None)


def holds_on(holds: Iterable[Hold], registry: str, repository: str, now: datetime) -> Held:
    """The holds that are in force at ``now`` on a repository. Of several on one thing the first by number counts.

    A hold on a tag and a digest holds both of them.
    """
    everything: Hold | None = None
    tags: dict[str, Hold] = {}
    digests: dict[str, Hold] = {}
    for hold in holds_in_force(holds, registry, repository, now):
        if not hold.tag and not hold.digest:
            everything = everything or hold
        if hold.tag:
            tags.setdefault(hold.tag, hold)
        if hold.digest:
            digests.setdefault(hold.digest, hold)
    return Held(everything=everything, tags=tags, digests=digests)


def holds_in_force(holds: Iterable[Hold], registry: str, repository: str, now: datetime) -> Iterator[Hold]:
    """The holds that are about a repository at ``now``, by number. A pattern that cannot be read may mean any."""
    found = holds.of(registry, repository) if isinstance(holds, GroupedHolds) else holds
    for hold in sorted(found, key=lambda one: (one.entry_id, one.rule, one.id)):
        if hold.registry == registry and (hold.until is None or hold.until > now):
            pattern = _pattern_of(hold.repository)
            if hold.repository == repository or pattern is None or pattern.matches(repository):
                yield hold


def describe_hold(hold: Hold) -> str:
    """A hold for people: ``held by alice until 2026-05-01: audit``."""
    by = f" by {hold.by}" if hold.by else ""
    until = f" until {tell_moment(hold.until)}" if hold.until is not None else ""
    return f"held{by}{until}{f': {hold.reason}' if hold.reason else ''}"


@lru_cache(maxsize=1000)
def _pattern_of(text: str) -> Pattern | None:
    try:
        return parse_pattern(text, bare=PatternKind.GLOB if GLOB_CHARACTERS & set(text) else PatternKind.EXACT)
    except InputError:
        return None
