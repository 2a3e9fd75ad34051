"""What would change the decision about a tag? Each answer is tried out: the decision is taken again with the change."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from regwarden.core.explained import Change, Effect, RootAccount, RuleAccount
from regwarden.core.observed import Hold, LastPull, ObservedRegistry, ObservedRepository
from regwarden.core.plan import UNWAIVABLE, GuardCode
from regwarden.core.planning import PlanInputs, PlannedRepository, plan_repository
from regwarden.core.policy_ranking import RankKey
from regwarden.core.policy_rules import DeleteRule, KeepRule
from regwarden.core.retention import RepositoryPolicies, evaluate, needs_of
from regwarden.core.retention_collecting import CollectedRule
from regwarden.core.retention_forecast import first_possible_removal
from regwarden.core.verdicts import Outcome, ReasonCode, RepositoryVerdicts

MAX_TRIALS: Final = 10
"""So many changes are tried at most: each decides about the whole repository again."""

_HIGHEST_COUNT: Final = 1_000_000
_MINUTE: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """The facts and policies of one repository, as they are or with a change."""

    collected: RepositoryPolicies
    repository: ObservedRepository
    registry: ObservedRegistry
    now: datetime
    holds: tuple[Hold, ...] = ()
    waived: frozenset[GuardCode] = frozenset()

    @property
    def has_pulls(self) -> bool:
        """Whether any policy asks for pulls."""
        return needs_of(self.collected.policies).pulls

    def evaluate(self, *, with_details: bool = False) -> RepositoryVerdicts:
        """What the rules say."""
        return evaluate(
            self.collected,
            self.repository,
            self.registry,
            holds=self.holds,
            now=self.now,
            waived=self.waived,
            with_details=with_details,
        )

    def plan(self, verdicts: RepositoryVerdicts) -> PlannedRepository:
        """What a plan of this repository alone would do."""
        inputs = PlanInputs(
            registries={self.registry.name: self.registry},
            snapshots={},
            now=self.now,
            made_by="",
            policies=self.collected.policies,
            holds=self.holds,
            waived=self.waived,
        )
        return plan_repository(inputs, self.repository, verdicts, self.collected.policies)

    def outcome(self, account: RootAccount) -> Outcome:
        """What becomes of one root."""
        decided = self.evaluate()
        by_rules = _find(decided, account)
        return by_rules if by_rules is not Outcome.REMOVE else _find(self.plan(decided).verdicts, account)


def list_changes(trial: Trial, account: RootAccount) -> tuple[datetime | None, tuple[Change, ...]]:
    """When a root goes if nothing else changes, and what would change its outcome.

    There is no such time if that is not foreseeable, or if it goes now.
    """
    if account.unreadable:
        return None, (Change(text="it stays until it is known what it is: crawl the registry"),)
    tried = _Tried(trial, account)
    if account.outcome is Outcome.REMOVE:
        return None, tuple(tried.staying())
    return tried.goes_at(), tuple(tried.going())


class _Tried:
    def __init__(self, trial: Trial, account: RootAccount) -> None:
        self._trial = trial
        self._account = account
        self._left = MAX_TRIALS
        self._changes: list[Change] = []
        self._goes_at: datetime | None = None

    def goes_at(self) -> datetime | None:
        """When it goes by itself, rounded up to a minute."""
        trial = self._trial
        first = first_possible_removal(
            trial.collected,
            trial.repository,
            trial.registry,
            holds=trial.holds,
            now=trial.now,
            subject=self._account.tag or self._account.digest or "",
        )
        if first is None or first <= trial.now:
            return None
        moment = first.astimezone(UTC)
        rounded = moment.replace(second=0, microsecond=0)
        moment = rounded if rounded == moment else rounded + _MINUTE
        if self._outcome(replace(trial, now=moment)) is Outcome.REMOVE:
            again = "pulled, pushed or tagged" if trial.has_pulls else "pushed or tagged"
            text = f"goes on {moment:%Y-%m-%d %H:%M} UTC if it is not {again} again"
            self._changes.append(Change(text=text, at=moment))
            self._goes_at = moment
        return self._goes_at

    def going(self) -> Iterator[Change]:
        """What would make it go."""
        yield from self._changes
        account, trial = self._account, self._trial
        codes = [reason.code for reason in account.reasons]
        if ReasonCode.MINIMUM_AGE in codes and self._goes(self._waiving(GuardCode.MIN_AGE)):
            yield Change(text="would go if the minimum age were waived: --waive min-age")
        if ReasonCode.GUARDED in codes:
            yield from self._unguarded()
        blocking = [one for one in account.rules if one.effect in (Effect.PROTECTS, Effect.KEEPS, Effect.CLAIMS)]
        counted = [one for one in account.rules if one.effect in (Effect.KEEPS, Effect.SPARES) and one.number > 1]
        for one in counted:
            fewer = one.number - 1
            if self._goes(_recount(trial, one, fewer)):
                yield Change(text=f"would go if {_named(one)} {_verb(one)} {fewer} instead of {_count_of(trial, one)}")
        if ReasonCode.UNORDERED in codes:
            yield from self._ordered()
        for one in blocking:
            if self._goes(_without(trial, [one])):
                verb = "ended" if one.kind == "hold" else "were not there"
                yield Change(text=f"would go if {_named(one)} {verb}")
        if len(blocking) > 1 and self._goes(_without(trial, blocking)):
            names = ", ".join(_named(one) for one in blocking)
            yield Change(text=f"would go if none of these held it: {names}")

    def staying(self) -> Iterator[Change]:
        """What would make it stay."""
        account, trial = self._account, self._trial
        for one in account.rules:
            counted = _count_of(trial, one)
            if counted is None or not counted < one.number <= _HIGHEST_COUNT:
                continue
            if not self._goes(_recount(trial, one, one.number)):
                yield Change(text=f"would stay if {_named(one)} {_verb(one)} {one.number} instead of {counted}")
        taking = [one for one in account.rules if one.effect is Effect.TAKES]
        if len(taking) == 1 and not self._goes(_without(trial, taking)):
            yield Change(text=f"would stay if {_named(taking[0])} were not there")
        if trial.has_pulls and account.digest is not None and not self._goes(_pulled(trial, account.digest)):
            yield Change(text="would stay if it were pulled now")
        yield Change(text="stays if somebody holds it: regwarden protection add")

    def _ordered(self) -> Iterator[Change]:
        """What a crawl finds has no order by when it was pushed or tagged, but one by when it was built."""
        for one in self._account.rules:
            if one.number and self._goes(_ranked_by_created(self._trial, one)):
                yield Change(text=f"would go if {_named(one)} ranked by created")

    def _unguarded(self) -> Iterator[Change]:
        details = [one.detail for one in self._account.reasons if one.code is ReasonCode.GUARDED]
        codes = [GuardCode(code) for detail in details for code in detail.split(", ") if code in set(GuardCode)]
        wanted = [code for code in codes if code not in UNWAIVABLE]
        if wanted and self._goes(self._waiving(*wanted)):
            words = " ".join(f"--waive {code}" for code in wanted)
            yield Change(text=f"would go if guards were waived: {words}")

    def _waiving(self, *codes: GuardCode) -> Trial:
        return replace(self._trial, waived=self._trial.waived | set(codes))

    def _goes(self, changed: Trial | None) -> bool:
        return changed is not None and self._outcome(changed) is Outcome.REMOVE

    def _outcome(self, changed: Trial) -> Outcome:
        """After too many trials what is so anyhow."""
        if not self._left:
            return self._account.outcome
        self._left -= 1
        return changed.outcome(self._account)


def _find(verdicts: RepositoryVerdicts, account: RootAccount) -> Outcome:
    wanted = (account.tag, account.digest)
    return next(one.outcome for one in verdicts.verdicts if (one.tag, one.digest) == wanted)


def _named(one: RuleAccount) -> str:
    return f"the {one.rule}" if one.kind == "hold" else f"{one.policy} {one.rule}"


def _verb(one: RuleAccount) -> str:
    return "kept" if one.kind == "keep" else "spared"


def _is_meant(collected: CollectedRule, one: RuleAccount) -> bool:
    return (collected.policy, collected.title) == (one.policy, one.rule)


def _count_of(trial: Trial, one: RuleAccount) -> int | None:
    rules = (*trial.collected.rules, *(rule for rules in trial.collected.ordered for rule in rules))
    return next((rule.rule.counted for rule in rules if _is_meant(rule, one)), None)


def _recount(trial: Trial, one: RuleAccount, count: int) -> Trial:
    """A rule counts to another number."""

    def change(rule: CollectedRule) -> CollectedRule | None:
        if not _is_meant(rule, one):
            return rule
        changed: KeepRule | DeleteRule
        if isinstance(rule.rule, KeepRule):
            changed = replace(rule.rule, newest=count)
        else:
            changed = replace(rule.rule, beyond=count)
        return rule._replace(rule=changed)

    return _with_rules(trial, change)


def _ranked_by_created(trial: Trial, one: RuleAccount) -> Trial:
    """A rule ranks by when images were built."""

    def change(rule: CollectedRule) -> CollectedRule:
        if not _is_meant(rule, one):
            return rule
        return rule._replace(rule=replace(rule.rule, rank=replace(rule.rule.rank, by=(RankKey.CREATED,))))

    return _with_rules(trial, change)


def _without(trial: Trial, accounts: Sequence[RuleAccount]) -> Trial:
    """Rules, protections and holds are not there."""
    holds = {one.rule for one in accounts if one.kind == "hold"}
    named = {(one.policy, one.rule) for one in accounts if one.kind == "protection"}
    ruled = [one for one in accounts if one.kind not in ("hold", "protection")]
    changed = _with_rules(trial, lambda rule: None if any(_is_meant(rule, one) for one in ruled) else rule)
    kept = tuple(one for one in trial.collected.protections if (one.policy, one.title) not in named)
    return replace(
        changed,
        collected=replace(changed.collected, protections=kept),
        holds=tuple(one for one in trial.holds if one.label not in holds),
    )


def _with_rules(trial: Trial, change: Callable[[CollectedRule], CollectedRule | None]) -> Trial:
    def changed(rules: Sequence[CollectedRule]) -> tuple[CollectedRule, ...]:
        return tuple(made for made in map(change, rules) if made is not None)

    collected = trial.collected
    ordered = tuple(changed(rules) for rules in collected.ordered)
    return replace(trial, collected=replace(collected, rules=changed(collected.rules), ordered=ordered))


def _pulled(trial: Trial, digest: str) -> Trial | None:
    """A node pulls it now."""
    manifest = trial.repository.manifests.get(digest)
    if manifest is None:
        return None
    pulled = manifest._replace(pulls=(*manifest.pulls, LastPull(trial.now, "workload", "GET")))
    return replace(
        trial, repository=replace(trial.repository, manifests={**trial.repository.manifests, digest: pulled})
    )
