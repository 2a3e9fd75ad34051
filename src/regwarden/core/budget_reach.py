"""What in a repository stays only because of the candidates of a budget, and because of which of them?"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from regwarden.core.lifting import Terms, lift
from regwarden.core.observed import ObservedRepository
from regwarden.core.plan import StepKind
from regwarden.core.special_tags import special_kind, subject_of
from regwarden.core.staying import build_ties
from regwarden.core.verdicts import Outcome, Reason, ReasonCode, RepositoryVerdicts
from regwarden.core.whole_digests import keep_whole

_GOING = (Reason(ReasonCode.BUDGET),)


class BudgetReach(NamedTuple):
    """The manifests (``algorithm:hex``) of one repository that matter to a budget.

    ``positions`` are those of the candidates among its verdicts, ``holds`` what each of them keeps of ``free``, which
    goes besides ``going`` if all of them go. ``going`` goes anyway.
    """

    positions: tuple[int, ...]
    holds: tuple[tuple[str, ...], ...]
    going: frozenset[str]
    free: frozenset[str]


def reach_candidates(
    repository: ObservedRepository,
    decided: RepositoryVerdicts,
    positions: Collection[int],
    terms: Terms,
    *,
    is_whole: bool = False,
) -> BudgetReach:
    """What the candidates at these ``positions`` keep, each what it leads to and what follows it.

    ``decided`` is what all other rules say, and what those and the candidates together would delete is what lifting
    them says. ``is_whole``: images stay whole or go whole.
    """
    going = _deleted(repository, decided, terms)
    if not positions:
        return BudgetReach((), (), going, frozenset())
    removed = replace_verdicts(decided, dict.fromkeys(positions, _GOING), is_whole=is_whole)
    free = _deleted(repository, removed, terms) - going
    tied = _ties(repository, terms)
    known: dict[str | None, tuple[str, ...]] = {}
    places = tuple(sorted(positions))
    holds = []
    for position in places:
        digest = decided.verdicts[position].digest
        if digest not in known:
            known[digest] = tuple(_closure(digest, free, repository, tied))
        holds.append(known[digest])
    return BudgetReach(places, tuple(holds), going, free)


def replace_verdicts(
    decided: RepositoryVerdicts, going: Mapping[int, tuple[Reason, ...]], *, is_whole: bool
) -> RepositoryVerdicts:
    """The same verdicts, but what stands at the positions of ``going`` goes, for these reasons."""
    verdicts = list(decided.verdicts)
    for position, reasons in going.items():
        verdicts[position] = verdicts[position]._replace(outcome=Outcome.REMOVE, reasons=reasons)
    changed = RepositoryVerdicts(registry=decided.registry, repository=decided.repository, verdicts=tuple(verdicts))
    return keep_whole(changed) if is_whole else changed


def _deleted(repository: ObservedRepository, decided: RepositoryVerdicts, terms: Terms) -> frozenset[str]:
    return frozenset(step.digest for step in lift(repository, decided, terms).steps if step.kind is StepKind.DELETE)


def _ties(repository: ObservedRepository, terms: Terms) -> dict[str, list[str]]:
    """What follows each manifest, and the subject that each refers to; children are known by themselves."""
    manifests = repository.manifests
    found: dict[str, list[str]] = {}
    tagged = {tag.digest for tag in repository.tags}
    for subject, referrers in build_ties(manifests).referrers.items():
        for referrer in referrers:
            found.setdefault(referrer, []).append(subject)
            if terms.follows_subjects and referrer not in tagged:
                found.setdefault(subject, []).append(referrer)
    for tag in repository.tags if terms.follows_subjects else ():
        manifest = manifests.get(tag.digest) if tag.digest is not None else None
        if manifest is not None and special_kind(tag.name, manifest) is not None:
            for named in {subject_of(tag.name), manifest.subject} - {None}:
                found.setdefault(str(named), []).append(manifest.digest)
    return found


def _closure(
    digest: str | None, free: frozenset[str], repository: ObservedRepository, tied: Mapping[str, Sequence[str]]
) -> Iterator[str]:
    """What a candidate keeps of what is free. What is not free leads to nothing that is."""
    if digest not in free or digest is None:
        return
    seen = {digest}
    todo = [digest]
    while todo:
        one = todo.pop()
        yield one
        for other in (*repository.manifests[one].children, *tied.get(one, ())):
            if other in free and other not in seen:
                seen.add(other)
                todo.append(other)
