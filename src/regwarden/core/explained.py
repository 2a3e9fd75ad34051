"""What is told of a decision about one tag or manifest? Rules, clocks, relations, guards, and what would change it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from regwarden.core.plan import Guard, StepKind
from regwarden.core.verdicts import Outcome, Reason


class Effect(StrEnum):
    """What a rule does to a tag that it speaks about."""

    PROTECTS = "protects"
    KEEPS = "keeps"
    TAKES = "takes"
    SPARES = "spares"  # a delete rule would take it but for its count
    CLAIMS = "claims"  # first-match: it claims it and lets it pass
    NOTHING = "nothing"


class Precision(StrEnum):
    """How well a time is known."""

    EXACT = "exact"
    AT_LATEST = "at latest"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleAccount:
    """One rule, protection or hold, asked about one root.

    ``is_match`` and ``is_met`` say whether its ``match`` selects it and its ``when`` holds (``None``: unknown).
    ``told`` is what was found in words, ``unknown`` the conditions whose fact is missing. ``place`` is where it stands
    in a ranking, with the ``number`` (0: none). ``is_claimed`` is false where an earlier rule of a first-match
    policy has claimed it.
    """

    kind: str  # protection, hold, keep or delete
    policy: str
    rule: str
    is_match: bool | None
    is_met: bool | None
    effect: Effect
    told: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    place: str = ""
    number: int = 0
    is_claimed: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockAccount:
    """One named clock, and where its time comes from."""

    clock: str
    at: datetime | None
    precision: Precision
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What would change the outcome; ``at`` is when it comes by itself."""

    text: str
    at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RootAccount:
    """One tag, or untagged manifest with an empty ``tag``: what is decided, and everything that decides it.

    ``by_rules`` is what the rules alone say, ``outcome`` what is finally done, for ``reasons``. ``unreadable`` says why
    it cannot be judged, ``young`` why it is too young. ``goes_by_default``: it goes where no rule speaks about it.
    ``stays_with`` says which tag of the same image keeps it where images stay whole. ``goes_at`` is when it goes if
    nothing else changes.
    """

    tag: str
    digest: str | None
    by_rules: Outcome
    outcome: Outcome
    reasons: tuple[Reason, ...]
    rules: tuple[RuleAccount, ...] = ()
    clocks: tuple[ClockAccount, ...] = ()
    special: str = ""
    unreadable: str = ""
    young: str = ""
    goes_by_default: bool = False
    stays_with: str = ""
    goes_at: datetime | None = None
    changes: tuple[Change, ...] = ()

    def replay(self) -> Outcome:
        """What the rules say, decided from this account alone: equal to ``by_rules``."""
        if self.unreadable:
            return Outcome.UNDECIDED
        effects = {one.effect for one in self.rules}
        stays = effects & {Effect.PROTECTS, Effect.KEEPS, Effect.CLAIMS}
        goes = Effect.TAKES in effects or self.goes_by_default
        return Outcome.KEEP if stays or not goes or self.young or self.stays_with else Outcome.REMOVE


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """Something that is bound to it: a ``tag`` of its image, an ``index``, a ``child``, a ``subject``, a ``referrer``.

    ``goes`` is ``None`` for what does not exist in the repository.
    """

    kind: str
    name: str
    goes: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why a tag or manifest stays or goes.

    ``roots`` is the tag itself; of a manifest all its tags, or itself if it has none; none for what is decided about
    only with something else: a child of an index, a referrer. ``step`` is what a plan would do with it.
    """

    registry: str
    repository: str
    tag: str
    digest: str | None
    outcome: Outcome
    policies: tuple[str, ...]
    roots: tuple[RootAccount, ...]
    relations: tuple[Relation, ...] = ()
    guards: tuple[Guard, ...] = ()
    step: StepKind | None = None
    notes: tuple[str, ...] = ()
