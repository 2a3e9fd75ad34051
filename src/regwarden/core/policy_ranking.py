"""Which tags are the newest of a rule?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from regwarden.core.policy_clauses import Mistake, clause
from regwarden.core.policy_lists import ListShape
from regwarden.core.policy_shapes import Choice


class RankKey(StrEnum):
    """By what tags are ranked, the newest or highest first."""

    TAGGED = "tagged"
    PUSHED = "pushed"
    CREATED = "created"
    PULLED = "pulled"
    SEMVER = "semver"
    VERSION = "version"  # semantic, Python's, or natural order: every tag has a place


class RankOver(StrEnum):
    """Among which tags the newest are counted."""

    MATCHED = "matched"
    CANDIDATES = "candidates"


class RankCount(StrEnum):
    """What is counted."""

    DIGESTS = "digests"
    TAGS = "tags"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rank:
    """How the newest are found. Ties break by digest, then by tag."""

    by: tuple[RankKey, ...] = clause(
        ListShape(Choice(RankKey), high=len(RankKey), or_single=True),
        "Compared in this order. What has no value of the first is unknown: kept, and not counted.",
        default=(RankKey.TAGGED, RankKey.PUSHED),
    )
    over: RankOver = clause(
        Choice(RankOver),
        "`matched`: among all that the rule matches. `candidates`: among those that would go without the count.",
        default=RankOver.MATCHED,
    )
    count: RankCount = clause(
        Choice(RankCount), "`digests`: ten tags of one image count once.", default=RankCount.DIGESTS
    )

    def mistakes(self) -> Iterator[Mistake]:
        """Whether a key stands twice."""
        if len(set(self.by)) != len(self.by):
            yield Mistake("by", "a key of rank is given twice")
