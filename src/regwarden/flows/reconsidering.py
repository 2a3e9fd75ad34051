"""Would a plan that is made now still have these steps, and does the independent proof agree? Asked before each step.

The facts are those of now, and the policies and the selection those of the plan. What the plan itself has deleted by
now is thought to exist still, as something that goes: otherwise its children would look like what nobody ever meant.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from regwarden.core.demands import follow_subjects
from regwarden.core.holding import holds_on
from regwarden.core.observed import (
    Hold,
    Needs,
    ObservedManifest,
    ObservedRegistry,
    ObservedRepository,
)
from regwarden.core.oci.digests import Digest
from regwarden.core.oci.manifests import parse_manifest
from regwarden.core.plan import GuardCode, Step, StepKind
from regwarden.core.planning import PlanInputs, plan_repository
from regwarden.core.policy import Mode, Policy
from regwarden.core.policy_ranking import RankOver
from regwarden.core.policy_rules import DeleteRule
from regwarden.core.proof import Finding, check
from regwarden.core.retention import RepositoryPolicies, collect_policies, evaluate, needs_of
from regwarden.core.retention_budgets import budget_candidates
from regwarden.core.selecting import select
from regwarden.core.special_tags import cut_digests, subject_of
from regwarden.core.verdicts import Outcome, Reason, ReasonCode, RepositoryVerdicts, Verdict
from regwarden.core.whole_digests import keep_whole
from regwarden.flows.apply_records import Considered, Question
from regwarden.flows.evidence import build_evidence, protected_names
from regwarden.store.allow_holds import read_mark
from regwarden.store.connections import Connection
from regwarden.store.contents import load_payloads
from regwarden.store.observed import load_registry, load_repository, repositories_sharing
from regwarden.store.plan_records import StepState, StoredStep
from regwarden.store.plans import load_verdicts
from regwarden.store.protections import load_holds
from regwarden.store.races import newest_event_id
from regwarden.store.raw_manifests import load_raw

_LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ENDED: Final = frozenset({StepState.DONE, StepState.GONE})


@dataclass(frozen=True, slots=True)
class _Facts:
    """One repository as it is, with ghosts: what the plan deleted there by now, which is thought to exist still."""

    registry: ObservedRegistry
    repository: ObservedRepository
    ghosts: frozenset[str]
    holds: tuple[Hold, ...]


def reconsider(connection: Connection, question: Question) -> Considered:
    """Which pending steps of a repository may still be done, by one snapshot of everything that is known.

    Raises ``StoreError`` and, where a stored policy cannot be used any more, ``InputError``.
    """
    registry = load_registry(connection, question.registry)
    holds_mark = read_mark(connection)
    event_id = newest_event_id(connection, question.registry)
    needs = needs_of(question.stored.plan.policies)
    observed = load_repository(connection, question.registry, question.repository, needs, question.now)
    pending = [_as_left(one, observed) for one in question.steps if one.state is StepState.PENDING]
    if observed is None:
        reasons = {step.position: "the repository is not known any more" for step in pending}
        return Considered(allowed=frozenset(), reasons=reasons, event_id=event_id)
    ghosts = _load_ghosts(connection, question, observed)
    whole = replace(observed, manifests={**observed.manifests, **ghosts})
    places = _places_with_holds(connection, question, whole)
    real_holds = load_holds(connection, question.registry, question.now, places)
    holds = (*real_holds, *_as_holds(question))
    facts = _Facts(registry, whole, frozenset(ghosts), holds)
    verdicts = _decide(connection, question, facts)
    allowed, reasons, final = _compare(question, facts, verdicts, pending)
    going = [one for one in pending if one.position in allowed]
    protected = protected_names(observed, holds_on(holds, question.registry, question.repository, question.now))
    raw = load_raw(connection, question.registry, question.repository) if going else {}
    is_explicit = not follow_subjects(_policies_of(question.stored.plan.policies, question))
    evidence = replace(build_evidence(observed, raw, going, final, protected), leaves_special_tags=is_explicit)
    found = check(evidence) if allowed else ()
    # What anybody can push must not hold back more than its own repository.
    unclear = [f"{one.subject} is not clear: {one.text}" for one in found if one.finding is Finding.UNREADABLE]
    return Considered(
        allowed=allowed,
        reasons=reasons,
        waits=_why_wait(observed, question.stored.plan.waived | question.waived) or (*unclear, "")[0],
        violations=tuple(
            f"{one.finding}: {one.subject}: {one.text}" for one in found if one.finding is not Finding.UNREADABLE
        ),
        tags={tag.name: tag.digest for tag in observed.tags},
        existing=frozenset(observed.manifests),
        event_id=event_id,
        holds=real_holds,
        holds_mark=holds_mark,
        hold_places=places,
        looked_at=question.now,
        outlasts_additions=_outlasts_additions(question),
        linked=_find_linked(whole),
    )


def _find_linked(whole: ObservedRepository) -> frozenset[str]:
    """The manifests of which another one depends, or they on it: by lists, subjects, and the names of tags."""
    found: set[str] = set()
    cut = cut_digests(whole.manifests)
    for one in whole.manifests.values():
        if one.children or one.subject is not None or one.is_index or not one.is_read:
            found |= {one.digest, *one.children} | ({one.subject} if one.subject is not None else set())
    for tag in whole.tags:
        if (subject := subject_of(tag.name)) is not None:
            found |= {cut.get(subject, subject)} | ({tag.digest} if tag.digest is not None else set())
    return frozenset(found)


def _as_left(stored: StoredStep, observed: ObservedRepository | None) -> Step:
    """A step that goes tag by tag and broke off goes on with those of its tags that it left."""
    step = stored.step
    if observed is None or not stored.was_begun or step.kind is not StepKind.DELETE:
        return step
    left = step.tags and {tag.name for tag in observed.tags}.intersection(step.tags)
    return step._replace(tags=tuple(tag for tag in step.tags if tag in left)) if left else step


def _places_with_holds(connection: Connection, question: Question, whole: ObservedRepository) -> frozenset[str]:
    """The repositories whose holds matter: of a selection also those that share a manifest with this one."""
    own = {question.repository}
    if question.stored.plan.selection is not None:
        own |= repositories_sharing(connection, question.registry, whole.manifests.keys())
    return frozenset(own)


def _outlasts_additions(question: Question) -> bool:
    """Whether something new costs others their places, and gives them none.

    Where only the newest groups count, a new group saves the oldest of them; what an ordered rule claims is taken out
    of what the next one counts; a budget looks at everything.
    """
    policies = _policies_of(question.stored.plan.policies, question)
    return all(
        policy.mode is not Mode.FIRST_MATCH
        and all(
            rule.groups is None
            and rule.rank.over is RankOver.MATCHED
            and not (isinstance(rule, DeleteRule) and rule.budget is not None)
            for _, rule in policy.rules_by_path()
        )
        for policy in policies
    )


def _why_wait(observed: ObservedRepository, waived: Collection[GuardCode]) -> str:
    if observed.doubt or (observed.open_push and GuardCode.OPEN_PUSH not in waived):
        return observed.doubt or observed.open_push
    unread = min((digest for digest, one in observed.manifests.items() if not one.is_read), default="")
    return f"{unread} was not read yet" if unread else ""


def _load_ghosts(
    connection: Connection, question: Question, observed: ObservedRepository
) -> dict[str, ObservedManifest]:
    gone = {
        one.step.digest
        for one in question.steps
        if one.state in _ENDED and one.step.kind is StepKind.DELETE and one.step.digest not in observed.manifests
    }
    payloads = load_payloads(connection, [Digest.parse(one) for one in sorted(gone)])
    return {str(digest): _ghost(str(digest), *found) for digest, found in payloads.items()}


def _ghost(digest: str, media_type: str, payload: bytes) -> ObservedManifest:
    """What was deleted: old, so that it takes no place of anything, and without anything that rules look at."""
    manifest = parse_manifest(payload, media_type)
    return ObservedManifest(
        digest=digest,
        media_type=media_type,
        is_read=True,
        first_seen_at=_LONG_AGO,
        is_pushed_exact=True,
        is_index=manifest.is_index,
        children=tuple(str(child.digest) for child in manifest.children),
        subject=None if manifest.subject is None else str(manifest.subject.digest),
        size_bytes=len(payload),
    )


def _as_holds(question: Question) -> list[Hold]:
    """What must stay because its step failed: with it stays everything that it leads to."""
    return [
        Hold(id=-1, registry=question.registry, repository=question.repository, digest=digest, reason="its step failed")
        for digest in sorted(question.held)
    ]


def _decide(connection: Connection, question: Question, facts: _Facts) -> RepositoryVerdicts:
    plan = question.stored.plan
    waived = plan.waived | question.waived
    decided: RepositoryVerdicts | None = None
    if plan.selection is not None:
        # Also those that the plan does not remove: what is used elsewhere stays, and holds other things here.
        digests = facts.repository.manifests.keys()
        names = repositories_sharing(connection, question.registry, digests) - {question.repository}
        others = [load_repository(connection, question.registry, name, Needs(), question.now) for name in sorted(names)]
        repositories = [facts.repository, *(one for one in others if one is not None)]
        found = select(plan.selection, repositories, facts.registry, holds=facts.holds, now=question.now, waived=waived)
        decided = next((one for one in found if one.repository == question.repository), None)
    else:
        collected = collect_policies(plan.policies, question.registry, question.repository)
        if collected is not None:
            decided = _evaluate(connection, question, facts, collected)
    verdicts = () if decided is None else decided.verdicts
    changed = tuple(_let_ghosts_go(verdicts, facts.ghosts))
    return RepositoryVerdicts(registry=question.registry, repository=question.repository, verdicts=changed)


def _evaluate(
    connection: Connection, question: Question, facts: _Facts, collected: RepositoryPolicies
) -> RepositoryVerdicts:
    """What policies say now. What a budget took goes if it could still take it: how much is needed was agreed to."""
    waived = question.stored.plan.waived | question.waived
    decided = evaluate(collected, facts.repository, facts.registry, holds=facts.holds, now=question.now, waived=waived)
    if not collected.budgets:
        return decided
    planned = load_verdicts(connection, question.stored.id, question.registry, question.repository)
    taken = {
        (one.tag, one.digest): one
        for one in (planned.verdicts if planned is not None else ())
        if one.outcome is Outcome.REMOVE and any(reason.code is ReasonCode.BUDGET for reason in one.reasons)
    }
    verdicts = list(decided.verdicts)
    found = budget_candidates(
        collected, facts.repository, facts.registry, holds=facts.holds, now=question.now, waived=waived
    )
    made_at = question.stored.plan.made_at
    # What was used meanwhile is missed more than was thought.
    for position in {root.position for _, roots in found for root in roots if root.last_used_at <= made_at}:
        fresh = verdicts[position]
        verdicts[position] = taken.get((fresh.tag, fresh.digest), fresh)
    changed = replace(decided, verdicts=tuple(verdicts))
    return keep_whole(changed) if collected.is_whole else changed


def _let_ghosts_go(verdicts: Iterable[Verdict], ghosts: Collection[str]) -> Iterable[Verdict]:
    reason = (Reason(ReasonCode.DELETED, detail="this plan deleted it"),)
    seen = set()
    for one in verdicts:
        if not one.tag and one.digest in ghosts:
            seen.add(one.digest)
            yield one._replace(outcome=Outcome.REMOVE, reasons=reason)
        else:
            yield one
    for digest in sorted(set(ghosts) - seen):
        yield Verdict("", digest, Outcome.REMOVE, reason)


def _compare(
    question: Question, facts: _Facts, verdicts: RepositoryVerdicts, pending: Sequence[Step]
) -> tuple[frozenset[int], dict[int, str], RepositoryVerdicts]:
    """Positions of the steps that would be planned again, why the others would not, and what is decided finally."""
    plan = question.stored.plan
    inputs = PlanInputs(
        registries={question.registry: facts.registry},
        snapshots={},
        now=question.now,
        made_by=plan.made_by,
        policies=plan.policies,
        selection=plan.selection,
        holds=facts.holds,
        waived=plan.waived | question.waived,
        drops_repositories=plan.drops_repositories,
    )
    planned = plan_repository(inputs, facts.repository, verdicts, _policies_of(plan.policies, question))
    again = {_identity(step) for step in planned.steps}
    allowed = frozenset(step.position for step in pending if _identity(step) in again)
    why = _Reasons(facts, planned.verdicts)
    reasons = {step.position: why.explain(step) for step in pending if step.position not in allowed}
    return allowed, reasons, planned.verdicts


def _policies_of(policies: Sequence[Policy], question: Question) -> Sequence[Policy]:
    if question.stored.plan.selection is not None:
        return ()
    collected = collect_policies(policies, question.registry, question.repository)
    return collected.policies if collected is not None else ()


def _identity(step: Step) -> tuple[StepKind, str, frozenset[str], bool]:
    return step.kind, step.digest, frozenset(step.tags), step.with_placeholder


class _Reasons:
    """Why steps would not be planned again, in words."""

    def __init__(self, facts: _Facts, final: RepositoryVerdicts) -> None:
        self._facts = facts
        self._by_tag: Mapping[str, Verdict] = {one.tag: one for one in final.verdicts if one.tag}
        self._by_digest: Mapping[str | None, Verdict] = {one.digest: one for one in final.verdicts if not one.tag}
        self._tags_of: dict[str | None, set[str]] = {}
        for tag in facts.repository.tags:
            self._tags_of.setdefault(tag.digest, set()).add(tag.name)

    def explain(self, step: Step) -> str:
        """The first that is different: it is gone, its tags are others, it is held, something of it stays."""
        if step.kind is StepKind.DROP:
            return "something of the repository stays, or is held, or the registry cannot do it any more"
        if step.digest not in self._facts.repository.manifests or step.digest in self._facts.ghosts:
            return "the inventory does not have it any more"
        tags = self._tags_of.get(step.digest, set())
        if step.kind is StepKind.DELETE and tags != set(step.tags):
            changed = sorted(tags ^ set(step.tags))
            return f"its tags are others now: {', '.join(changed[:5])}"
        decided = [self._by_tag.get(tag) for tag in step.tags] or [self._by_digest.get(step.digest)]
        for verdict in decided:
            if verdict is not None and verdict.outcome is not Outcome.REMOVE:
                reason = verdict.reasons[0]
                return f"it would stay now: {reason.code}{f' ({reason.detail})' if reason.detail else ''}"
        return "a plan made now would not have this step"
