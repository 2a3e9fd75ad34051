"""Why does a tag or manifest stay or go? The decision taken once more, with everything that was looked at told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from regwarden.core.explained import (
    Effect,
    Explanation,
    Relation,
    RootAccount,
    RuleAccount,
)
from regwarden.core.explaining_changes import Trial, list_changes
from regwarden.core.explaining_clocks import list_clocks
from regwarden.core.guards import RegistryGuards, guard_sources
from regwarden.core.observed import ObservedRepository
from regwarden.core.plan import Guard, GuardCode, GuardLevel, StepKind
from regwarden.core.planning import PlannedRepository
from regwarden.core.policy_ranking import RankOver
from regwarden.core.policy_rules import KeepRule
from regwarden.core.retention_budgets import budget_candidates
from regwarden.core.retention_clocks import Test
from regwarden.core.retention_decision import Decision, Ruling, decide
from regwarden.core.retention_matching import all_hold
from regwarden.core.retention_reasons import minimum_age, tell_place
from regwarden.core.retention_roots import Root
from regwarden.core.special_tags import subject_of
from regwarden.core.verdicts import Outcome, ReasonCode, RepositoryVerdicts, Verdict

MAX_ROOTS: Final = 20
"""Of a manifest with more tags only so many are explained."""


def explain(trial: Trial, *, tag: str = "", digest: str | None = None) -> Explanation | None:
    """Explain a tag, or with an empty ``tag`` a manifest; ``None`` if the repository has no such thing.

    The decision is that of ``evaluate`` and ``plan_repository`` with the facts of the trial.
    """
    return _Explainer(trial).explain(tag, digest)


@dataclass(slots=True)
class _Placed:
    """A root with what the rules say of it, and what is finally done."""

    root: Root
    decided: Verdict
    final: Verdict


class _Explainer:
    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self._repository: ObservedRepository = trial.repository
        self._decided: RepositoryVerdicts = trial.evaluate(with_details=True)
        self._planned: PlannedRepository = trial.plan(self._decided)
        self._deleted = {step.digest for step in self._planned.steps if step.kind is StepKind.DELETE}
        self._finals = {(one.tag, "" if one.tag else one.digest): one for one in self._planned.verdicts.verdicts}
        self._decision: Decision = decide(
            trial.collected,
            trial.repository,
            trial.registry,
            holds=trial.holds,
            now=trial.now,
            with_places=True,
        )

    def explain(self, tag: str, digest: str | None) -> Explanation | None:
        found = next((one for one in self._repository.tags if one.name == tag), None) if tag else None
        if tag and found is None:
            return None
        digest = found.digest if found is not None else digest
        if not tag and digest not in self._repository.manifests:
            return None
        placed = [one for one in self._place() if (one.root.tag == tag if tag else one.root.digest == digest)]
        roots = tuple(self._account(one) for one in placed[:MAX_ROOTS])
        step = next(
            (one.kind for one in self._planned.steps if one.digest == digest and (not tag or tag in one.tags)), None
        )
        if tag and roots:
            outcome = roots[0].outcome
        elif step is StepKind.DELETE:
            outcome = Outcome.REMOVE
        else:
            outcome = roots[0].outcome if roots and roots[0].outcome is Outcome.UNDECIDED else Outcome.KEEP
        return Explanation(
            registry=self._repository.registry,
            repository=self._repository.name,
            tag=tag,
            digest=digest,
            outcome=outcome,
            policies=tuple(one.name for one in self._trial.collected.policies),
            roots=roots,
            relations=tuple(self._relations(tag, digest)),
            guards=tuple(self._guards(roots)),
            step=step if tag or step is StepKind.DELETE else None,
            notes=tuple(self._notes(placed)),
        )

    def _place(self) -> Iterator[_Placed]:
        for root, decided in zip(self._decision.roots, self._decided.verdicts, strict=True):
            yield _Placed(root, decided, self._finals[root.tag, "" if root.tag else root.digest])

    def _account(self, placed: _Placed) -> RootAccount:
        root, final = placed.root, placed.final
        decision, trial, first = self._decision, self._trial, placed.decided.reasons[0]
        unreadable = first.detail if placed.decided.outcome is Outcome.UNDECIDED else ""
        is_waived = GuardCode.MIN_AGE in trial.waived
        young = None if is_waived else minimum_age(decision, root, trial.collected.min_age)
        account = RootAccount(
            tag=root.tag,
            digest=root.digest,
            by_rules=placed.decided.outcome,
            outcome=final.outcome,
            reasons=final.reasons,
            rules=() if unreadable else (*self._protections(root), *self._rules(root)),
            clocks=tuple(list_clocks(trial, root)),
            special=str(root.special or ("referrers" if root.is_follower else "")),
            unreadable=unreadable,
            young=young or "",
            goes_by_default=decision.goes_by_default(root),
            stays_with=first.detail if first.code is ReasonCode.NEEDED else "",
        )
        goes_at, changes = list_changes(trial, account)
        return replace(account, goes_at=goes_at, changes=changes)

    def _protections(self, root: Root) -> Iterator[RuleAccount]:
        for number, protection in enumerate(self._decision.protections):
            if not protection.is_about(root):
                continue
            is_held = bool(self._decision.held[root.position] >> number & 1)
            yield RuleAccount(
                kind="protection" if protection.policy else "hold",
                policy=protection.policy,
                rule=protection.title,
                is_match=all_hold(protection.tests, root),
                is_met=True,
                effect=Effect.PROTECTS if is_held else Effect.NOTHING,
                told=tuple(_told(protection.tests, root)) or ((protection.detail,) if protection.detail else ()),
                unknown=tuple(_unknown(protection.tests, root)),
            )

    def _rules(self, root: Root) -> Iterator[RuleAccount]:
        for number, ruling in enumerate(self._decision.rulings):
            built = ruling.built
            if not built.is_about(root):
                continue
            tests = (*built.match, *built.when)
            place = ruling.ranking.places.get(root.position) if ruling.ranking is not None else None
            yield RuleAccount(
                kind="keep" if isinstance(built.rule, KeepRule) else "delete",
                policy=built.collected.policy,
                rule=built.collected.title,
                is_match=all_hold(built.match, root),
                is_met=all_hold(built.when, root),
                effect=self._effect(number, root),
                told=tuple(_told(tests, root)),
                unknown=tuple(_unknown(tests, root)),
                place=_place_text(ruling, root),
                number=place.number if place is not None else 0,
                is_claimed=_is_claimed(ruling, root),
            )

    def _effect(self, number: int, root: Root) -> Effect:
        decision, position = self._decision, root.position
        found = (
            (Effect.KEEPS, decision.kept),
            (Effect.TAKES, decision.taken),
            (Effect.CLAIMS, decision.passed),
            (Effect.SPARES, decision.spared),
        )
        return next((effect for effect, masks in found if masks[position] >> number & 1), Effect.NOTHING)

    def _relations(self, tag: str, digest: str | None) -> Iterator[Relation]:
        manifests = self._repository.manifests
        manifest = manifests.get(digest) if digest is not None else None
        if manifest is None:
            return
        for one in self._repository.tags:
            if one.digest == digest and one.name != tag:
                yield Relation(kind="tag", name=one.name, goes=self._finals[one.name, ""].outcome is Outcome.REMOVE)
            elif subject_of(one.name) == digest and one.digest in manifests:
                yield Relation(kind="referrer", name=one.name, goes=one.digest in self._deleted)
        for other in sorted(manifests):
            if digest in manifests[other].children:
                yield Relation(kind="index", name=other, goes=other in self._deleted)
            if manifests[other].subject == digest:
                yield Relation(kind="referrer", name=other, goes=other in self._deleted)
        subjects = [manifest.subject] if manifest.subject is not None else []
        for kind, names in (("child", manifest.children), ("subject", subjects)):
            for name in names:
                yield Relation(kind=kind, name=name, goes=name in self._deleted if name in manifests else None)

    def _guards(self, roots: Sequence[RootAccount]) -> Iterator[Guard]:
        reasons = [reason for one in roots for reason in one.reasons]
        met = {reason.detail for reason in reasons if reason.code is ReasonCode.GUARDED}
        trial = self._trial
        policies = trial.collected.policies
        asked = RegistryGuards(registry=trial.registry, policies=policies, waived=trial.waived, now=trial.now)
        yield from guard_sources(policies)
        yield from asked.find(has_steps=bool(self._planned.steps))
        for guard in self._planned.guards:
            if guard.level is not GuardLevel.ROOT or guard.code in met:
                yield guard

    def _notes(self, placed: Sequence[_Placed]) -> Iterator[str]:
        if len(placed) > MAX_ROOTS:
            yield f"it has {len(placed)} tags: the first {MAX_ROOTS} are explained"
        trial, positions = self._trial, {one.root.position for one in placed}
        found = budget_candidates(
            trial.collected, trial.repository, trial.registry, holds=trial.holds, now=trial.now, waived=trial.waived
        )
        for rule, roots in found:
            if positions & {one.position for one in roots}:
                yield f"{rule.policy} {rule.title}: this budget may take it; make a plan to see whether it does"


def _place_text(ruling: Ruling, root: Root) -> str:
    if ruling.ranking is None or all_hold(ruling.built.match, root) is False:
        return ""
    place = ruling.ranking.places.get(root.position)
    if place is not None:
        return tell_place(ruling.built.rule, place)
    return "only what would go is counted" if ruling.built.rule.rank.over is RankOver.CANDIDATES else ""


def _is_claimed(ruling: Ruling, root: Root) -> bool:
    return ruling.claimed is None or root.position in ruling.claimed


def _told(tests: Sequence[Test], root: Root) -> Iterator[str]:
    yield from (text for text in (test.tell(root) for test in tests) if text)


def _unknown(tests: Sequence[Test], root: Root) -> Iterator[str]:
    yield from (test.tell(root) for test in tests if test.check(root) is None)
