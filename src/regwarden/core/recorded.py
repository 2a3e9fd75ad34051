"""What was recorded of a repository over time? Everything that happened to its tags, manifests and pulls, with times.

``store.recorded`` fills these records; a backtest walks along them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from regwarden.core.observed import ObservedManifest


class TagMark(NamedTuple):
    """From ``at`` on a tag points to ``digest``, or is gone (``None``).

    ``is_told``: an event told of it, so that the moment is exact; the same digest again is tagging again.
    """

    at: datetime
    digest: str | None
    is_told: bool


class ManifestLife(NamedTuple):
    """A manifest that was in the repository at some time.

    ``manifest`` has what never changes, and the clock ``pushed``; what changes with time in it is empty. It was there
    from the first of ``arrivals`` on; ``pushes`` are those of them of which events told. At each of ``departures`` it
    was deleted, or found to be gone.
    """

    manifest: ObservedManifest
    arrivals: tuple[datetime, ...]
    pushes: tuple[datetime, ...] = ()
    departures: tuple[datetime, ...] = ()


class PullDay(NamedTuple):
    """The pulls of one manifest on one day (UTC) by one class with one method; ``last_at`` is the last of them.

    ``tag`` is what the requests named, empty: the digest.
    """

    last_at: datetime
    digest: str
    tag: str
    pull_class: str
    method: str
    pull_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedRepository:
    """The history of one repository. ``tags`` are by name, their marks oldest first; so are ``pulls``.

    ``contents`` are the numbers of what each manifest stores: its own document, and blobs.
    ``doubt`` says what is not known about the repository since ``doubtful_since``; empty: nothing.
    """

    registry: str
    name: str
    tags: Mapping[str, tuple[TagMark, ...]]
    lives: Mapping[str, ManifestLife]
    pulls: tuple[PullDay, ...] = ()
    contents: Mapping[str, Sequence[int]] = field(default_factory=dict)
    doubt: str = ""
    doubtful_since: datetime | None = None
