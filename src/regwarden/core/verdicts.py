"""What was decided about a tag or an untagged manifest, and why? Verdicts with their reasons."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class Outcome(StrEnum):
    """What becomes of it. What is undecided stays."""

    KEEP = "keep"
    REMOVE = "remove"
    UNDECIDED = "undecided"


class ReasonCode(StrEnum):
    """Why. The first group keeps, the second removes, the third leaves undecided."""

    PROTECTED = "protected"  # a protection of a policy, or a hold
    KEPT = "kept"  # a keep rule
    SPARED = "spared"  # a delete rule takes it but for its count
    UNORDERED = "unordered"  # a rule keeps or spares it, but only because it is not known which are the newest
    MINIMUM_AGE = "minimum-age"
    DEFAULT_KEEP = "default-keep"  # no rule speaks about it
    SPECIAL = "special"  # a signature, cache or the like that no rule names
    CLAIMED = "claimed"  # first-match: the rule that claims it does not take it
    SUBJECT_KEPT = "subject-kept"  # a referrer stays with what it is about
    NEEDED = "needed"  # something that stays leads to it
    SHARED = "shared"  # explicit selection: its digest is used outside the selection
    EXCLUDED = "excluded"  # explicit selection: --exclude
    UNSELECTED = "unselected"  # explicit selection: not meant
    GUARDED = "guarded"  # a guard holds it back

    DELETED = "deleted"  # a delete rule
    BUDGET = "budget"
    DEFAULT_DELETE = "default-delete"
    SELECTED = "selected"  # explicit selection
    SUBJECT_REMOVED = "subject-removed"  # a referrer goes with what it is about

    UNREADABLE = "unreadable"
    DOUBTFUL = "doubtful"  # the repository was not read completely


class Reason(NamedTuple):
    """One reason. ``policy`` and ``rule`` say where it stands (``keep[0]``, with its name if it has one).

    ``detail`` is what a person needs besides: a place in a ranking, an unknown fact, what leads to it.
    """

    code: ReasonCode
    policy: str = ""
    rule: str = ""
    detail: str = ""


class Verdict(NamedTuple):
    """What becomes of one root: the tag ``tag``, or with an empty ``tag`` the untagged manifest ``digest``.

    The reasons that decided come first. There is at least one.
    """

    tag: str
    digest: str | None
    outcome: Outcome
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryVerdicts:
    """Every root of one repository exactly once: tags by name, then untagged manifests by digest."""

    registry: str
    repository: str
    verdicts: tuple[Verdict, ...]
