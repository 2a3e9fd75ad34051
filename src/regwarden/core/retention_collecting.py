"""Which policies, and which of their rules, decide about a repository?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, NamedTuple

from regwarden.core.observed import Needs
from regwarden.core.policy import Default, Inherit, Level, Mode, Policy, Referrers, Scope, Unit
from regwarden.core.policy_matching import Match, When
from regwarden.core.policy_ranking import RankKey
from regwarden.core.policy_rules import BudgetOrder, DeleteRule, KeepRule, Protection
from regwarden.core.policy_values import GroupKind
from regwarden.core.retention_matching import matches_repository
from regwarden.errors import InputError

_LEVELS: Final = tuple(Level)
"""From the least specific to the most specific."""


class CollectedRule(NamedTuple):
    """A rule with where it stands: the policy's name and the path, such as ``keep[0]``."""

    policy: str
    path: str
    rule: KeepRule | DeleteRule

    @property
    def title(self) -> str:
        """The path, with the rule's name if it has one."""
        return f"{self.path} ({self.rule.name})" if self.rule.name else self.path


class CollectedProtection(NamedTuple):
    """A protection with where it stands."""

    policy: str
    path: str
    protection: Protection

    @property
    def title(self) -> str:
        """The path, with the protection's name if it has one."""
        return f"{self.path} ({self.protection.name})" if self.protection.name else self.path


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryPolicies:
    """What decides about one repository.

    ``policies`` are all that have it in their scope, the least specific first. ``rules`` are those of
    ``keep-and-delete`` without budgets, ``ordered`` those of each policy with ``first-match``, ``budgets`` the delete
    rules with a budget. ``min_age`` and ``pull_history`` are the strictest that any of the policies asks for, and
    referrers are explicit, and images stay whole or go whole (``is_whole``), where one of them wants that.
    """

    registry: str
    repository: str
    policies: tuple[Policy, ...]
    protections: tuple[CollectedProtection, ...]
    rules: tuple[CollectedRule, ...]
    ordered: tuple[tuple[CollectedRule, ...], ...]
    budgets: tuple[CollectedRule, ...]
    default: Default
    is_explicit: bool
    min_age: timedelta
    pull_history: timedelta | None
    is_whole: bool = False


def collect_policies(policies: Sequence[Policy], registry: str, repository: str) -> RepositoryPolicies | None:
    """What decides about a repository; ``None`` if no policy has it in its scope.

    Protections of all policies unite. So do the rules, unless a policy says ``inherit: replace``: then those of less
    specific policies are left out. ``default`` is that of the most specific ones. Raises ``InputError`` (code
    ``policy-conflict``) if two policies of one level have different ones.
    """
    found = [one for one in policies if _is_in_scope(one.scope, registry, repository)]
    if not found:
        return None
    found.sort(key=lambda one: (_LEVELS.index(one.level), one.name))
    _check_defaults(found, repository)
    lowest = max((_LEVELS.index(one.level) for one in found if one.inherit is Inherit.REPLACE), default=0)
    ruling = [one for one in found if _LEVELS.index(one.level) >= lowest]
    united = [rule for one in ruling if one.mode is Mode.KEEP_AND_DELETE for rule in _rules_of(one, repository)]
    histories = [one.requires.pull_history_min for one in found if one.requires.pull_history_min is not None]
    return RepositoryPolicies(
        registry=registry,
        repository=repository,
        policies=tuple(found),
        protections=tuple(
            CollectedProtection(one.name, f"protect[{number}]", protection)
            for one in found
            for number, protection in enumerate(one.protect)
            if matches_repository(protection.repositories, repository)
        ),
        rules=tuple(one for one in united if budget_of(one) is None),
        ordered=tuple(tuple(_rules_of(one, repository)) for one in ruling if one.mode is Mode.FIRST_MATCH),
        budgets=tuple(one for one in united if budget_of(one) is not None),
        default=found[-1].default,
        is_explicit=any(one.referrers is Referrers.EXPLICIT for one in found),
        min_age=max(one.limits.min_age for one in found),
        pull_history=max(histories, default=None),
        is_whole=any(one.unit is Unit.DIGEST for one in found),
    )


def budget_of(collected: CollectedRule) -> object | None:
    """The budget of a rule; ``None`` if it has none."""
    return collected.rule.budget if isinstance(collected.rule, DeleteRule) else None


def needs_of(policies: Sequence[Policy]) -> Needs:
    """Which facts the rules and protections of the policies look at."""
    rules = [rule for policy in policies for _, rule in policy.rules_by_path()]
    protections = [one for policy in policies for one in policy.protect]
    matches: list[Match] = [*protections, *(rule.match for rule in rules)]
    whens = [rule.when for rule in rules if rule.when is not None]
    return Needs(
        labels=any(match.labels for match in matches)
        or any(when.expired is not None for when in whens)
        or any(one.kind is GroupKind.LABEL for rule in rules for one in rule.per),
        pulls=any(_needs_pulls(rule) for rule in rules) or any(one.pulled is not None for one in protections),
        fields=frozenset(condition.field.name for match in matches for condition in match.where),
    )


def _needs_pulls(rule: KeepRule | DeleteRule) -> bool:
    if isinstance(rule, DeleteRule) and rule.budget is not None and rule.budget.order is BudgetOrder.LEAST_REGRET:
        return True
    return RankKey.PULLED in rule.rank.by or (rule.when or When()).pulled is not None


def _is_in_scope(scope: Scope, registry: str, repository: str) -> bool:
    if scope.registries and not any(one.matches(registry) for one in scope.registries):
        return False
    return matches_repository(scope.repositories, repository)


def _check_defaults(found: Sequence[Policy], repository: str) -> None:
    first: dict[Level, Policy] = {}
    for one in found:
        other = first.setdefault(one.level, one)
        if other.default is not one.default:
            message = f"policies {other.name} and {one.name} of level {one.level} have different defaults"
            hint = "Give them the same default, other scopes, or other levels."
            raise InputError(f"{message}, and both are about {repository}", hint=hint, code="policy-conflict")


def _rules_of(policy: Policy, repository: str) -> Iterator[CollectedRule]:
    for path, rule in policy.rules_by_path():
        if matches_repository(rule.match.repositories, repository):
            yield CollectedRule(policy.name, path, rule)
