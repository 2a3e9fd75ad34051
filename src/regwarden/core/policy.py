"""What is a policy: which registries it is for, what it keeps, removes and protects, and how carefully it is applied?

The classes are the language: their clauses are read by ``core.policy_reading``, published as a JSON schema by
``core.policy_schema`` and explained in docs/reference/policies.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Final

from regwarden.core.patterns import Pattern
from regwarden.core.policy_clauses import MapOf, Mistake, clause
from regwarden.core.policy_lists import ListShape
from regwarden.core.policy_matching import SCOPE_PATTERNS, RepositoryMatch
from regwarden.core.policy_problems import Place
from regwarden.core.policy_rules import DeleteRule, KeepRule, OrderedRule, Protection, Rule
from regwarden.core.policy_shapes import Choice, FlagShape, OrUnlimited
from regwarden.core.policy_values import (
    COUNT,
    DURATION,
    NAME,
    PERCENTAGE,
    SIZE,
    TEXT,
    WINDOW,
    Window,
)

MAX_RULES: Final = 200


class ApiVersion(StrEnum):
    """The version of the language."""

    V1 = "retention/v1"


class Kind(StrEnum):
    """What a document is."""

    POLICY = "Policy"


class Level(StrEnum):
    """How specific a policy is, where several are about one repository."""

    ORG = "org"
    GROUP = "group"
    REPO = "repo"


class Inherit(StrEnum):
    """What becomes of the rules of less specific policies."""

    MERGE = "merge"
    REPLACE = "replace"


class Coverage(StrEnum):
    """How complete the inventory must be."""

    COMPLETE = "complete"
    PER_REPO = "per-repo"
    ANY = "any"


class Mode(StrEnum):
    """How rules work together."""

    KEEP_AND_DELETE = "keep-and-delete"
    FIRST_MATCH = "first-match"


class Default(StrEnum):
    """What happens to what no rule speaks about."""

    KEEP = "keep"
    DELETE = "delete"


class Unit(StrEnum):
    """What goes or stays."""

    TAG = "tag"
    DIGEST = "digest"


class Referrers(StrEnum):
    """What becomes of signatures and other referrers."""

    FOLLOW_SUBJECT = "follow-subject"
    EXPLICIT = "explicit"


class OnExceed(StrEnum):
    """What a plan beyond a limit needs."""

    NEEDS_APPROVAL = "needs-approval"
    BLOCK = "block"


class Approval(StrEnum):
    """How many people must agree before a plan is applied."""

    NONE = "none"
    ONE = "one"
    TWO = "two"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """Who the policy is."""

    name: str = clause(NAME, "Its name, unique among all policies.")
    owner: str = clause(TEXT, "Whom to ask about it.", default="")
    description: str = clause(TEXT, "What it is for.", default="")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Which repositories the policy is about."""

    registries: tuple[Pattern, ...] = clause(
        SCOPE_PATTERNS, "Names of configured registries; left out: all of them.", default=()
    )
    repositories: RepositoryMatch | None = clause(
        MapOf(RepositoryMatch), "Names of repositories; left out: all of them.", default=None
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Requires:
    """What must be known; otherwise no plan is made."""

    inventory_max_age: timedelta | None = clause(DURATION, "How old the last crawl may be.", default=None)
    coverage: Coverage = clause(
        Choice(Coverage),
        "`complete`: every listing was read to its end. `per-repo`: what was not stays, the rest is planned. `any`:"
        " an incomplete catalog is enough too.",
        default=Coverage.PER_REPO,
    )
    pull_history_min: timedelta | None = clause(
        DURATION, "How long pulls must have been recorded; before that they are unknown.", default=None
    )
    clusters: tuple[str, ...] = clause(ListShape(NAME), "Clusters whose reports must be fresh.", default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class PerRun:
    """How much one run may remove."""

    manifests: int | None = clause(OrUnlimited(COUNT), "Manifests.", default=1000)
    tags: int | None = clause(OrUnlimited(COUNT), "Tags.", default=None)
    share_of_repo: Decimal | None = clause(
        OrUnlimited(PERCENTAGE), "Share of a repository's tags and of its manifests.", default=Decimal(50)
    )
    bytes: int | None = clause(OrUnlimited(SIZE), "Bytes that it frees.", default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Guards: what a plan must not do without being asked again."""

    per_run: PerRun = clause(MapOf(PerRun), "How much one run may remove.", default=PerRun())
    min_age: timedelta = clause(
        DURATION, "Nothing goes that was pushed, tagged or untagged more recently.", default=timedelta(hours=24)
    )
    never_empty: bool = clause(FlagShape(), "A repository keeps at least one tag or manifest.", default=True)
    on_exceed: OnExceed = clause(Choice(OnExceed), "What a plan beyond a limit needs.", default=OnExceed.NEEDS_APPROVAL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Apply:
    """How a plan is carried out."""

    approval: Approval = clause(Choice(Approval), "How many people must agree before.", default=Approval.ONE)
    window: tuple[Window, ...] = clause(
        ListShape(WINDOW, or_single=True), "When it may be carried out; left out: at any time.", default=()
    )
    undo: timedelta = clause(DURATION, "How long everything can be put back.", default=timedelta(days=7))
    placeholders: bool = clause(
        FlagShape(),
        "Where a registry cannot remove one tag of several, point it to an empty manifest and delete that.",
        default=False,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What stays and what goes in the repositories of a scope, and how carefully.

    Made by ``core.policy_reading.parse_policy``. ``places`` says where its parts stand in the text, ``unquoted`` which
    texts other programs would not read as texts.
    """

    api_version: ApiVersion = clause(Choice(ApiVersion), "The version of the language.", key="apiVersion")
    kind: Kind = clause(Choice(Kind), "What the document is.")
    metadata: Metadata = clause(MapOf(Metadata), "Who the policy is.")
    scope: Scope = clause(MapOf(Scope), "Which repositories it is about.")
    level: Level = clause(
        Choice(Level), "How specific it is, where several policies are about one repository.", default=Level.GROUP
    )
    inherit: Inherit = clause(
        Choice(Inherit),
        "`merge`: its rules and those of less specific policies. `replace`: its rules alone. Protections always unite.",
        default=Inherit.MERGE,
    )
    requires: Requires = clause(MapOf(Requires), "What must be known.", default=Requires())
    protect: tuple[Protection, ...] = clause(
        ListShape(MapOf(Protection), low=0, high=MAX_RULES), "What never goes.", default=()
    )
    mode: Mode = clause(
        Choice(Mode),
        "`keep-and-delete`: what `delete` names and neither `keep` nor `protect` holds. `first-match`: the ordered"
        " `rules`, each deciding about what it claims.",
        default=Mode.KEEP_AND_DELETE,
    )
    keep: tuple[KeepRule, ...] = clause(
        ListShape(MapOf(KeepRule), low=0, high=MAX_RULES), "What stays; united.", default=()
    )
    delete: tuple[DeleteRule, ...] = clause(
        ListShape(MapOf(DeleteRule), low=0, high=MAX_RULES), "What may go; united.", default=()
    )
    rules: tuple[OrderedRule, ...] = clause(
        ListShape(MapOf(OrderedRule), low=0, high=MAX_RULES), "The rules of `mode: first-match`, in order.", default=()
    )
    default: Default = clause(Choice(Default), "What happens to what no rule speaks about.", default=Default.KEEP)
    unit: Unit = clause(
        Choice(Unit),
        "`tag`: every tag by itself. `digest`: an image stays with all its tags, or goes with all of them.",
        default=Unit.TAG,
    )
    referrers: Referrers = clause(
        Choice(Referrers),
        "`follow-subject`: signatures and the like go with what they are about. `explicit`: only where a rule names"
        " their kind.",
        default=Referrers.FOLLOW_SUBJECT,
    )
    limits: Limits = clause(MapOf(Limits), "Guards.", default=Limits())
    apply: Apply = clause(MapOf(Apply), "How a plan is carried out.", default=Apply())
    places: Mapping[str, Place] = field(default_factory=dict, compare=False, repr=False)
    unquoted: tuple[tuple[str, str], ...] = field(default=(), compare=False, repr=False)

    @property
    def name(self) -> str:
        """Its name."""
        return self.metadata.name

    def place_of(self, path: str) -> Place:
        """Where a part stands in the text it was read from; the nearest part around it, if it was not written."""
        while path not in self.places and path:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self.places.get(path, Place(1, 1))

    def rules_by_path(self) -> Iterator[tuple[str, KeepRule | DeleteRule]]:
        """Every rule with its path, such as ``keep[0]`` or ``rules[2].delete``."""
        for number, kept in enumerate(self.keep):
            yield f"keep[{number}]", kept
        for number, deleted in enumerate(self.delete):
            yield f"delete[{number}]", deleted
        for number, ordered in enumerate(self.rules):
            yield f"rules[{number}].{'keep' if ordered.keep is not None else 'delete'}", ordered.rule

    def mistakes(self) -> Iterator[Mistake]:
        """Which clauses do not fit together."""
        is_ordered = self.mode is Mode.FIRST_MATCH
        if is_ordered:
            for key in ("keep", "delete"):
                if getattr(self, key):
                    hint = f"Write rules: with - {key}: {{...}} for each, in order."
                    yield Mistake(key, f"mode first-match takes its rules from rules, not from {key}", hint)
        elif self.rules:
            yield Mistake("rules", "rules belong to mode: first-match", "Write keep: and delete:, or set the mode.")
        for path, name in self._repeated_names():
            yield Mistake(
                f"{path}.name", f"another rule is called {name} too", "Reasons name rules: give each its own."
            )

    def _repeated_names(self) -> Iterator[tuple[str, str]]:
        seen = set()
        named: list[tuple[str, Rule | Protection]] = [
            *((f"protect[{number}]", one) for number, one in enumerate(self.protect)),
            *self.rules_by_path(),
        ]
        for path, one in named:
            if one.name and one.name in seen:
                yield path, one.name
            seen.add(one.name)
