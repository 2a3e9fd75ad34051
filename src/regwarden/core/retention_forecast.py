"""When would something go that only its age holds back, if nothing else changes?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

from regwarden.core.observed import Hold, ObservedRegistry, ObservedRepository
from regwarden.core.retention import doubt_of, evaluate, is_readable
from regwarden.core.retention_clocks import Test, last_arrival, untagged_span
from regwarden.core.retention_collecting import RepositoryPolicies
from regwarden.core.retention_decision import Decision, decide
from regwarden.core.retention_roots import Root
from regwarden.core.verdicts import Outcome

MAX_TRIALS: Final = 32
"""So many moments are tried at most: more are those of rules that hardly ever take anything."""

_MOMENT: Final = timedelta(microseconds=1)


def first_possible_removal(
    collected: RepositoryPolicies,
    repository: ObservedRepository,
    registry: ObservedRegistry,
    *,
    holds: Sequence[Hold],
    now: datetime,
    subject: str = "",
) -> datetime | None:
    """The earliest moment at which ``subject``, a tag or the digest of an untagged manifest, would go; empty: anything.

    ``now`` if it goes already. ``None`` if that is not foreseeable: something else than an age holds it back, or a fact
    is missing. Of "anything" only what no keep rule and no protection holds is looked at.
    """
    if doubt_of(repository) is not None:
        return None
    decision = decide(collected, repository, registry, holds=holds, now=now, with_places=False)
    roots = [one for one in decision.roots if is_readable(one) and subject in ("", one.tag or one.digest)]
    if subject:
        moments = {moment for root in roots for moment in _moments(decision, root, collected.min_age)}
    else:
        waiting = (_waiting(decision, root, collected.min_age) for root in roots)
        moments = {moment for moment in waiting if moment is not None}
    positions = {root.position for root in roots}
    later = sorted(moment for moment in moments if moment > now)[:MAX_TRIALS]
    for moment in (now, *(one + _MOMENT for one in later)):
        found = evaluate(collected, repository, registry, holds=holds, now=moment, with_details=False)
        if any(one.outcome is Outcome.REMOVE for at, one in enumerate(found.verdicts) if at in positions):
            return moment
    return None


def _moments(decision: Decision, root: Root, min_age: timedelta) -> Iterator[datetime]:
    """All moments at which anything that is asked about a root may be answered otherwise."""
    for ruling in decision.rulings:
        if ruling.built.is_about(root):
            yield from _turns((*ruling.built.match, *ruling.built.when), root)
    for protection in decision.protections:
        if protection.is_about(root):
            yield from _turns(protection.tests, root)
            yield from (protection.until,) if protection.until is not None else ()
    yield from _ends_of_youth(root, min_age)


def _waiting(decision: Decision, root: Root, min_age: timedelta) -> datetime | None:
    """When at the earliest a root goes that nothing holds or keeps; ``None`` if no rule waits for it."""
    if decision.stays(root):
        return None
    youth = max(_ends_of_youth(root, min_age), default=None)
    if decision.would_go(root):
        return youth
    ends = []
    for ruling in decision.rulings:
        built = ruling.built
        if built.keeps or not built.is_about(root) or not all(test.check(root) for test in built.match):
            continue
        if ruling.ranking is not None and root.position not in ruling.ranking.behind:
            continue
        waits = [max(_turns((test,), root), default=None) for test in built.when if not test.check(root)]
        known = [one for one in waits if one is not None]
        if waits and len(known) == len(waits):
            ends.append(max(known))
    return max(min(ends), youth or min(ends)) if ends else None


def _turns(tests: Sequence[Test], root: Root) -> Iterator[datetime]:
    for test in tests:
        yield from test.turns(root)


def _ends_of_youth(root: Root, min_age: timedelta) -> Iterator[datetime]:
    for moment in (last_arrival(root)[1], untagged_span(root)[1]):
        if moment is not None:
            yield moment + min_age
