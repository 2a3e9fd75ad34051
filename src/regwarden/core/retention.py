"""What do policies say about every tag and untagged manifest of a repository: keep, remove or undecided, and why?

The order of evaluation is that of docs/reference/policies.md, steps 2 to 7 and 9; unknown keeps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from regwarden.core.observed import Hold, ObservedRegistry, ObservedRepository, TagState
from regwarden.core.plan import GuardCode
from regwarden.core.retention_collecting import RepositoryPolicies, collect_policies, needs_of
from regwarden.core.retention_decision import Decision, decide
from regwarden.core.retention_reasons import Explaining, minimum_age
from regwarden.core.retention_roots import Root, list_roots
from regwarden.core.verdicts import Outcome, Reason, ReasonCode, RepositoryVerdicts, Verdict
from regwarden.core.whole_digests import keep_whole

__all__ = ["RepositoryPolicies", "collect_policies", "evaluate", "needs_of"]


def evaluate(  # noqa: PLR0913 - the facts are three, and each option is named
    collected: RepositoryPolicies,
    repository: ObservedRepository,
    registry: ObservedRegistry,
    *,
    holds: Sequence[Hold],
    now: datetime,
    waived: frozenset[GuardCode] = frozenset(),
    with_details: bool = True,
) -> RepositoryVerdicts:
    """A verdict with its reasons for every root of a repository, at the aware time ``now``.

    ``holds`` may be those of any registry. The minimum age does not apply if ``GuardCode.MIN_AGE`` is ``waived``.
    Without details the reasons name rules only, which is faster. Budgets are not applied here. Nothing is decided
    about a repository that was not read completely.
    """
    if (doubt := doubt_of(repository)) is not None:
        roots = list_roots(repository, is_explicit=collected.is_explicit)
        verdicts = tuple(_undecided(root, doubt) for root in roots)
    else:
        decision = decide(collected, repository, registry, holds=holds, now=now, with_places=with_details)
        min_age = None if GuardCode.MIN_AGE in waived else collected.min_age
        verdicts = tuple(_judge(decision, min_age, with_details=with_details))
    found = RepositoryVerdicts(registry=registry.name, repository=repository.name, verdicts=verdicts)
    return keep_whole(found) if collected.is_whole else found


def doubt_of(repository: ObservedRepository) -> str | None:
    """Why nothing may be decided about a repository; ``None`` if everything was read."""
    if repository.doubt:
        return repository.doubt
    unread = min((one.digest for one in repository.manifests.values() if not one.is_read), default=None)
    if unread is not None:
        return f"manifest {unread} could not be read"
    hidden = min((one.name for one in repository.tags if one.state == TagState.UNREADABLE), default=None)
    return f"tag {hidden} could not be read" if hidden is not None else None


def is_readable(root: Root) -> bool:
    """Whether a root can be judged: it was read, and so was what it points to."""
    return _unreadable(root) is None


def _undecided(root: Root, doubt: str) -> Verdict:
    reason = _unreadable(root) or Reason(ReasonCode.DOUBTFUL, detail=doubt)
    return Verdict(root.tag, root.digest, Outcome.UNDECIDED, (reason,))


def _unreadable(root: Root) -> Reason | None:
    """Why a root itself cannot be judged."""
    if root.manifest is None:
        detail = "its manifest is missing" if root.digest is not None else "what it points to is not known"
        return Reason(ReasonCode.UNREADABLE, detail=detail)
    if not root.manifest.is_read or (root.entry is not None and root.entry.state != TagState.OK):
        return Reason(ReasonCode.UNREADABLE, detail="it could not be read")
    return None


def _judge(decision: Decision, min_age: timedelta | None, *, with_details: bool) -> Iterator[Verdict]:
    explaining = Explaining(decision, with_details=with_details)
    going, staying = explaining.going, explaining.staying
    keep, remove = Outcome.KEEP, Outcome.REMOVE
    for root in decision.roots:
        tag, digest = root.tag, root.digest
        if (unreadable := _unreadable(root)) is not None:
            yield Verdict(tag, digest, Outcome.UNDECIDED, (unreadable,))
        elif not decision.would_go(root):
            yield Verdict(tag, digest, keep, staying(root))
        elif min_age is not None and (young := minimum_age(decision, root, min_age)) is not None:
            yield Verdict(tag, digest, keep, (Reason(ReasonCode.MINIMUM_AGE, detail=young), *going(root)))
        else:
            yield Verdict(tag, digest, remove, going(root))
