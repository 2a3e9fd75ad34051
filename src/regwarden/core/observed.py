"""What is known about a repository when it is decided what may go? The facts that rules, guards and plans look at.

One record per tag and per manifest that exists in the repository; ``store.observed`` fills them from one snapshot.
Every field that may be missing says so with ``None`` or a flag: rules treat it as unknown, and unknown keeps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from regwarden.core.conditions import FieldValue


class TagState(StrEnum):
    """What the last reading of a tag found."""

    OK = "ok"
    DANGLING = "dangling"  # the tag is listed, its manifest is missing
    UNREADABLE = "unreadable"


class LastPull(NamedTuple):
    """The last recorded pull of a manifest by one class with one method.

    ``tag`` is the tag that the request named; empty where it asked for the digest, of this manifest or of one that it
    leads to.
    """

    at: datetime
    pull_class: str
    method: str
    tag: str = ""


class ObservedTag(NamedTuple):
    """A tag. ``digest`` is ``algorithm:hex``, ``None`` where it is not known what the tag points to.

    ``tagged_at`` is since when it points there: exactly (an event told) or at the latest (a crawl found it so).
    ``fields`` are the values of those fields of tags that conditions ask for.
    """

    name: str
    digest: str | None
    state: str
    tagged_at: datetime
    is_tagged_exact: bool
    fields: Mapping[str, FieldValue | None] = {}


class ObservedManifest(NamedTuple):
    """A manifest or index that exists in the repository.

    ``children`` are the manifests that an index lists, ``subject`` what it refers to, also where those do not exist
    here. ``first_seen_at`` is the clock ``pushed``, exactly or at the latest; ``last_pushed_at`` the last push that
    an event told of, ``None`` if none did. ``untagged_since`` is ``None`` while a tag points to it or where that is
    not known. ``labels`` is ``None`` where the config was not read. ``pulls`` of an index hold those of what it lists
    too, where they asked for a digest.
    """

    digest: str
    media_type: str
    is_read: bool
    first_seen_at: datetime
    is_pushed_exact: bool
    last_pushed_at: datetime | None = None
    untagged_since: datetime | None = None
    is_untagged_exact: bool = False
    created_at: datetime | None = None
    artifact_type: str = ""
    config_media_type: str = ""
    is_index: bool = False
    children: tuple[str, ...] = ()
    subject: str | None = None
    size_bytes: int = 0
    logical_bytes: int | None = None
    labels: Mapping[str, str] | None = None
    pulls: tuple[LastPull, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedRepository:
    """Everything known of one repository.

    ``doubt`` says why nothing may be decided about it (a listing that was not read to its end, a manifest that could
    not be read); empty where there is none. ``open_push`` says what looks like a push under way; empty for none.
    ``seen_at`` is the start of its last complete reading, ``stored_bytes`` what its tags reach.
    """

    registry: str
    name: str
    tags: tuple[ObservedTag, ...]
    manifests: Mapping[str, ObservedManifest]
    doubt: str = ""
    open_push: str = ""
    seen_at: datetime | None = None
    stored_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedRegistry:
    """What is known of a registry as a whole: how complete and old the inventory is, what the registry can do.

    ``coverage`` is the state of the last crawl: complete, partial, restricted or failed; empty before the first.
    ``events_since`` is when the first event was received, ``delivered_at`` when the last one was; ``None``: never.
    ``can_delete``, ``can_untag`` and ``can_drop`` (a repository) are ``None`` where nobody knows. ``whole_crawls`` are
    the beginnings and ends of those that read everything, the oldest first: what one of them finds was not there when
    the one before began.
    """

    name: str
    crawled_at: datetime | None = None
    coverage: str = ""
    events_since: datetime | None = None
    delivered_at: datetime | None = None
    can_delete: bool | None = None
    can_untag: bool | None = None
    can_drop: bool | None = None
    whole_crawls: tuple[tuple[datetime, datetime], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """What somebody protects by hand: a repository, one of its tags or digests (empty: all of it) until ``until``.

    ``repository`` is written as a pattern. ``until`` of ``None`` is for ever. With ``entry_id`` it is no protection
    by hand but what that entry of the allow-list allows; with ``rule`` what a rule of the registry protects, by its
    pattern.
    """

    id: int
    registry: str
    repository: str
    tag: str = ""
    digest: str = ""
    until: datetime | None = None
    reason: str = ""
    by: str = ""
    entry_id: int = 0
    rule: str = ""

    @property
    def is_by_hand(self) -> bool:
        """Whether people made it, one by one."""
        return not self.entry_id and not self.rule

    @property
    def label(self) -> str:
        """What it is called among the reasons of a verdict."""
        if self.rule:
            return f"GitLab rule {self.rule}"
        return f"allow entry {self.entry_id}" if self.entry_id else f"hold {self.id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """Which facts rules ask for beyond the graph and the clocks: what costs time to load is left out otherwise.

    ``fields`` are names of fields of tags that conditions compare.
    """

    labels: bool = False
    pulls: bool = False
    fields: frozenset[str] = frozenset()
