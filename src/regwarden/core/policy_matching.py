"""Which tags and manifests does a rule of a policy speak about, and under which conditions?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import timedelta
from enum import StrEnum
from typing import Final

from regwarden.core.conditions import Condition
from regwarden.core.patterns import Pattern
from regwarden.core.policy_clauses import MapOf, Mistake, clause
from regwarden.core.policy_lists import ListShape, MapShape
from regwarden.core.policy_shapes import Choice
from regwarden.core.policy_values import CONDITION, DURATION, LABEL_NAME, PATTERN, SCOPE_PATTERN
from regwarden.core.pull_agents import PullClass

PATTERNS: Final = ListShape(PATTERN)
SCOPE_PATTERNS: Final = ListShape(SCOPE_PATTERN)


class Clock(StrEnum):
    """A named time of a tag or manifest."""

    TAGGED = "tagged"  # this tag points to this digest since then
    PUSHED = "pushed"  # the digest was first seen in the repository
    CREATED = "created"  # what the image says of itself


class Method(StrEnum):
    """How a manifest was asked for."""

    GET = "GET"
    HEAD = "HEAD"


class SpecialKind(StrEnum):
    """Tags that are no images of people: no rule sees them unless it names their kind."""

    SIGNATURES = "signatures"
    ATTESTATIONS = "attestations"
    SBOMS = "sboms"
    FALLBACK_TAGS = "fallback-tags"
    BUILD_CACHES = "build-caches"


USE: Final = (PullClass.WORKLOAD, PullClass.CI, PullClass.HUMAN, PullClass.OTHER)
METHODS: Final = (Method.GET, Method.HEAD)
# A client that is not known is ``other``; "unknown" says the same in the words of other tools.
PULL_CLASS: Final = Choice(PullClass, aliases={"unknown": PullClass.OTHER})


@dataclass(frozen=True, slots=True, kw_only=True)
class TagMatch:
    """Patterns of tags. What is given must all hold; `of-digest` looks at all tags of the same digest."""

    any: tuple[Pattern, ...] = clause(PATTERNS, "The tag matches at least one.", default=())
    all: tuple[Pattern, ...] = clause(PATTERNS, "The tag matches every one.", default=())
    none: tuple[Pattern, ...] = clause(PATTERNS, "The tag matches none.", default=())
    all_of_digest: tuple[Pattern, ...] = clause(
        PATTERNS, "Every tag of the digest matches at least one: the whole image is meant.", default=()
    )
    any_of_digest: tuple[Pattern, ...] = clause(
        PATTERNS, "Some tag of the digest matches at least one: it takes its siblings along.", default=()
    )
    each_of_digest: tuple[Pattern, ...] = clause(
        PATTERNS, "Every pattern is matched by some tag of the digest.", default=()
    )
    none_of_digest: tuple[Pattern, ...] = clause(PATTERNS, "No tag of the digest matches any.", default=())

    def mistakes(self) -> Iterator[Mistake]:
        """Whether it says anything."""
        if not any(getattr(self, one.name) for one in fields(self)):
            yield Mistake("", "tags says nothing", 'Write for example {any: ["glob:dev-*"]}.')


@dataclass(frozen=True, slots=True, kw_only=True)
class TextMatch:
    """Patterns of a label, a media type or an artifact type."""

    any: tuple[Pattern, ...] = clause(PATTERNS, "It matches at least one.", default=())
    none: tuple[Pattern, ...] = clause(PATTERNS, "It is absent or matches none.", default=())

    def mistakes(self) -> Iterator[Mistake]:
        """Whether it says anything."""
        if not (self.any or self.none):
            yield Mistake("", "neither any nor none is given", 'Write for example {any: ["glob:v*"]}.')


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryMatch:
    """Patterns of repositories. A name with `*`, `?`, `[` or `{` is a glob here: no repository has these characters."""

    include: tuple[Pattern, ...] = clause(SCOPE_PATTERNS, "The repository matches at least one.", default=())
    exclude: tuple[Pattern, ...] = clause(SCOPE_PATTERNS, "The repository matches none.", default=())

    def mistakes(self) -> Iterator[Mistake]:
        """Whether it says anything."""
        if not (self.include or self.exclude):
            yield Mistake("", "neither include nor exclude is given", "Leave it out for all repositories of the scope.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """What a rule speaks about. What is given must all hold; an empty one is everything in the scope."""

    tags: TagMatch | None = clause(MapOf(TagMatch), "Patterns of tags.", default=None)
    repositories: RepositoryMatch | None = clause(
        MapOf(RepositoryMatch), "Only these repositories of the scope.", default=None
    )
    labels: tuple[tuple[str, TextMatch], ...] = clause(
        MapShape(MapOf(TextMatch), "labels"), "Labels of the image config, each with its patterns.", default=()
    )
    media_types: TextMatch | None = clause(MapOf(TextMatch), "Media type of the manifest or index.", default=None)
    artifact_types: TextMatch | None = clause(MapOf(TextMatch), "Artifact type; images have none.", default=None)
    where: tuple[Condition, ...] = clause(
        ListShape(CONDITION, or_single=True), "Conditions on the fields of tags, as `--where` takes them.", default=()
    )
    special: tuple[SpecialKind, ...] = clause(
        ListShape(Choice(SpecialKind)), "Kinds of special tags that the rule sees too.", default=()
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Age:
    """How long ago something was. Both may be given: older than one, and within the other."""

    older_than: timedelta | None = clause(DURATION, "Longer ago than this.", default=None)
    within: timedelta | None = clause(DURATION, "At most this long ago.", default=None)

    def mistakes(self) -> Iterator[Mistake]:
        """Whether it says anything."""
        if self.older_than is None and self.within is None:
            yield Mistake("", "neither older-than nor within is given", "Write for example {older-than: 7d}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled(Age):
    """When it was last pulled; what was never pulled counts from its last push or tagging."""

    by: tuple[PullClass, ...] = clause(ListShape(PULL_CLASS), "Whose pulls count.", default=USE)
    methods: tuple[Method, ...] = clause(
        ListShape(Choice(Method)),
        "GET fetches, HEAD checks, as container runtimes do with what they have.",
        default=METHODS,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Expiry:
    """A label that says how long the image lives, or until when: `quay.expires-after=2w`."""

    label: str = clause(LABEL_NAME, "The label: a duration such as `2w`, or a date. Anything else is unknown.")
    since: Clock = clause(Choice(Clock), "What a duration counts from.", default=Clock.PUSHED)


@dataclass(frozen=True, slots=True, kw_only=True)
class When:
    """Conditions of time. What is given must all hold; what is not known is unknown, and unknown keeps."""

    tagged: Age | None = clause(MapOf(Age), "Since the tag points to this digest.", default=None)
    pushed: Age | None = clause(MapOf(Age), "Since the digest was first seen in the repository.", default=None)
    created: Age | None = clause(
        MapOf(Age),
        "Since the image was built, as it says itself; before 2013 or in the future is unknown.",
        default=None,
    )
    pulled: Pulled | None = clause(MapOf(Pulled), "Since it was last pulled.", default=None)
    expired: Expiry | None = clause(MapOf(Expiry), "The time that a label sets has passed.", default=None)

    def mistakes(self) -> Iterator[Mistake]:
        """Whether it says anything."""
        if all(getattr(self, one.name) is None for one in fields(self)):
            yield Mistake("", "when says nothing", "Write for example {tagged: {older-than: 7d}}.")
