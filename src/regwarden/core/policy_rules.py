"""What does a rule of a policy say: what it keeps, removes or protects, and how it counts?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import timedelta
from enum import StrEnum
from typing import Final

import re2

from regwarden.core.patterns import Pattern, PatternKind
from regwarden.core.policy_clauses import MapOf, Mistake, clause
from regwarden.core.policy_lists import ListShape
from regwarden.core.policy_matching import Age, Match, Pulled, When
from regwarden.core.policy_ranking import Rank
from regwarden.core.policy_shapes import Choice, CountShape, FlagShape
from regwarden.core.policy_values import (
    COUNT,
    DURATION,
    GROUPING,
    NAME,
    SIZE,
    TEXT,
    Grouping,
    GroupKind,
)

MAX_GROUPINGS: Final = 3
MAX_REVISIONS: Final = 1000


class BudgetScope(StrEnum):
    """What a budget is for."""

    REPO = "repo"
    PROJECT = "project"
    REGISTRY = "registry"
    POLICY = "policy"


class BudgetOrder(StrEnum):
    """What goes first when a budget is exceeded."""

    LEAST_REGRET = "least-regret"
    RANK = "rank"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What keep and delete rules have in common. A rule speaks about tags, or with `untagged` about manifests."""

    name: str = clause(NAME, "What reasons and reports call it.", default="")
    description: str = clause(TEXT, "Why it is there.", default="")
    match: Match = clause(MapOf(Match), "What it speaks about; left out: everything in the scope.", default=Match())
    when: When | None = clause(MapOf(When), "Only what fulfils these conditions.", default=None)
    untagged: Age | None = clause(
        MapOf(Age), "It speaks about manifests without a tag, untagged for that long.", default=None
    )
    per: tuple[Grouping, ...] = clause(
        ListShape(GROUPING, high=MAX_GROUPINGS, or_single=True), "Count in each of these groups.", default=()
    )
    groups: int | None = clause(COUNT, "Only in the newest so many groups.", default=None)
    rank: Rank = clause(MapOf(Rank), "How the newest are found.", default=Rank())

    @property
    def counted(self) -> int | None:
        """The number that the rule counts to; ``None`` if it does not count."""
        raise NotImplementedError

    def mistakes(self) -> Iterator[Mistake]:
        """Which clauses do not fit together."""
        if self.untagged is not None:
            if self.match.tags is not None:
                yield Mistake("untagged", "manifests without a tag have no tags to match", "Make two rules of it.")
            if self.when is not None and self.when.tagged is not None:
                yield Mistake("when", "manifests without a tag were never tagged", "Use untagged or pushed.")
        yield from self._counting_mistakes()
        names = {one.name for one in self.per if one.kind is GroupKind.CAPTURE}
        for name in sorted(names - captures_of(self.match)):
            hint = "Write tags: {any: ['re:(?P<" + name + ">...)-.*']}."
            yield Mistake("per", f"no pattern of the rule has a group named {name}", hint)
        if len(set(self.per)) != len(self.per):
            yield Mistake("per", "a group is given twice")

    def _counting_mistakes(self) -> Iterator[Mistake]:
        if self.counted is not None:
            if self.groups is not None and not self.per:
                yield Mistake("groups", "groups needs per: it says how many of them")
            return
        given = [key for key, is_given in (("per", self.per), ("groups", self.groups)) if is_given]
        if self.rank != Rank() and not self.is_ranked_otherwise:
            given.append("rank")
        for key in given:
            yield Mistake(key, f"{key} says how to count, and the rule counts nothing", f"Add {self.counts_by}: N.")

    @property
    def counts_by(self) -> str:
        """The clause with which a rule of this kind counts."""
        raise NotImplementedError

    @property
    def is_ranked_otherwise(self) -> bool:
        """Whether something else than a count needs the rank."""
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepRule(Rule):
    """What stays: all that matches, or with `newest` the newest of it."""

    newest: int | None = clause(COUNT, "Keep the newest so many; the rest is left to the other rules.", default=None)

    @property
    def counted(self) -> int | None:
        """How many are kept."""
        return self.newest

    @property
    def counts_by(self) -> str:
        """The clause that counts."""
        return "newest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The most bytes that something may store. It is applied last, to what all other rules have left."""

    max: int = clause(SIZE, "Stored bytes, each blob once.")
    scope: BudgetScope = clause(
        Choice(BudgetScope),
        "What must fit: each repository, each first part of their names, each registry, or all in the scope together.",
        default=BudgetScope.REPO,
    )
    order: BudgetOrder = clause(
        Choice(BudgetOrder),
        "`least-regret`: what frees most and would be missed least. `rank`: the last by `rank` first.",
        default=BudgetOrder.LEAST_REGRET,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteRule(Rule):
    """What may go, unless something keeps or protects it."""

    beyond: int | None = clause(COUNT, "All but the newest so many.", default=None)
    budget: Budget | None = clause(MapOf(Budget), "As much of it as needed to fit a size.", default=None)

    @property
    def counted(self) -> int | None:
        """How many are spared."""
        return self.beyond

    @property
    def counts_by(self) -> str:
        """The clause that counts."""
        return "beyond"

    @property
    def is_ranked_otherwise(self) -> bool:
        """Whether the budget takes the last by rank."""
        return self.budget is not None and self.budget.order is BudgetOrder.RANK

    def mistakes(self) -> Iterator[Mistake]:
        """Which clauses do not fit together."""
        yield from Rule.mistakes(self)
        if self.budget is not None and self.beyond is not None:
            yield Mistake("beyond", "a rule has a budget or a number, not both", "Make two rules of it.")


@dataclass(frozen=True, slots=True, kw_only=True)
class InUse:
    """What clusters run, by their reports."""

    clusters: tuple[str, ...] = clause(
        ListShape(NAME, or_single=True), "Names of clusters; `all` is every one that reports.", default=("all",)
    )
    rollback_revisions: int = clause(
        CountShape(0, MAX_REVISIONS), "Earlier revisions of a workload that count as in use too.", default=5
    )
    grace: timedelta = clause(DURATION, "How long something counts after it ran last.", default=timedelta(days=14))

    def mistakes(self) -> Iterator[Mistake]:
        """Whether ``all`` stands beside names."""
        if "all" in self.clusters and len(self.clusters) > 1:
            yield Mistake("clusters", "all clusters are meant, or these: not both")


@dataclass(frozen=True, slots=True, kw_only=True)
class Protection(Match):
    """What never goes, whatever any rule of any policy says. What is given must all hold."""

    name: str = clause(NAME, "What reasons and reports call it.", default="")
    description: str = clause(TEXT, "Why it is there.", default="")
    tagged: Age | None = clause(MapOf(Age), "Since the tag points to this digest.", default=None)
    pushed: Age | None = clause(MapOf(Age), "Since the digest was first seen in the repository.", default=None)
    created: Age | None = clause(MapOf(Age), "Since the image was built, as it says itself.", default=None)
    untagged: Age | None = clause(MapOf(Age), "Manifests without a tag, untagged for that long.", default=None)
    pulled: Pulled | None = clause(MapOf(Pulled), "Since it was last pulled.", default=None)
    in_use: InUse | None = clause(MapOf(InUse), "What clusters run.", default=None)
    pinned: bool = clause(
        FlagShape(),
        "`true`: what somebody holds by hand. Holds protect always; saying so is for readers.",
        default=False,
    )

    def mistakes(self) -> Iterator[Mistake]:
        """Whether it says anything, and nothing that cannot be."""
        conditions = [one for one in fields(self) if one.name not in ("name", "description")]
        if all(getattr(self, one.name) == one.default for one in conditions):
            yield Mistake("", "this protection says nothing", "Holds cannot be switched off; remove pinned: false.")
        if self.untagged is not None and self.tags is not None:
            yield Mistake("untagged", "manifests without a tag have no tags to match", "Make two protections of it.")


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderedRule:
    """One of the `rules` of `mode: first-match`: it claims what its `match` selects and alone decides about it."""

    keep: KeepRule | None = clause(
        MapOf(KeepRule), "Keep what it says; the rest of its claim gets the default.", default=None
    )
    delete: DeleteRule | None = clause(
        MapOf(DeleteRule), "Remove what it says; the rest of its claim stays.", default=None
    )

    def mistakes(self) -> Iterator[Mistake]:
        """Whether it is exactly one."""
        if (self.keep is None) == (self.delete is None):
            yield Mistake("", "a rule is either keep or delete", "Write - keep: {...} or - delete: {...}.")
        if self.delete is not None and self.delete.budget is not None:
            hint = "Use mode: keep-and-delete, where the budget comes last."
            yield Mistake("delete", "a budget has no place in an order of rules", hint)

    @property
    def rule(self) -> KeepRule | DeleteRule:
        """The rule itself."""
        return self.keep or self.delete or KeepRule()


def captures_of(match: Match) -> frozenset[str]:
    """The names of the groups in the regular expressions with which a rule selects tags."""
    tags = match.tags
    patterns = (*tags.any, *tags.all, *tags.all_of_digest, *tags.any_of_digest) if tags is not None else ()
    return frozenset(name for pattern in patterns for name in capture_names(pattern))


def capture_names(pattern: Pattern) -> frozenset[str]:
    """The names of the groups of a regular expression; none for other patterns."""
    if pattern.kind is not PatternKind.REGEX:
        return frozenset()
    options = re2.Options()
    options.log_errors = False
    return frozenset(re2.compile(pattern.text, options).groupindex)
