"""What does a policy do, in plain English, for those who review it?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Final

from regwarden.core.patterns import Pattern
from regwarden.core.policy import (
    Approval,
    Coverage,
    Default,
    Inherit,
    Limits,
    Mode,
    OnExceed,
    Policy,
    Referrers,
    Unit,
)
from regwarden.core.policy_matching import METHODS, USE, Age, Match, Pulled, TagMatch, TextMatch, When
from regwarden.core.policy_ranking import RankCount, RankKey, RankOver
from regwarden.core.policy_rules import BudgetOrder, BudgetScope, DeleteRule, KeepRule, Protection, Rule
from regwarden.core.policy_values import Grouping, GroupKind, write_size

_UNITS: Final = (("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1))
_RANKS: Final = {
    RankKey.TAGGED: "by when the tag was set",
    RankKey.PUSHED: "by push",
    RankKey.CREATED: "by the build time that images state",
    RankKey.PULLED: "by last pull",
    RankKey.SEMVER: "by semantic version",
    RankKey.VERSION: "by version order",
}
_GROUPS: Final = {
    GroupKind.SEMVER_MAJOR: "major version",
    GroupKind.SEMVER_MINOR: "minor version",
    GroupKind.SEMVER_PATCH: "patch version",
    GroupKind.BRANCH: "branch (the tag without its build number, date or commit)",
}
_BUDGETS: Final = {
    BudgetScope.REPO: "each repository",
    BudgetScope.PROJECT: "each first part of repository names",
    BudgetScope.REGISTRY: "each registry",
    BudgetScope.POLICY: "everything in the scope",
}
_TAG_WORDS: Final = (
    ("any", "{} matching {}", " or "),
    ("all", "{} matching all of {}", " and "),
    ("none", "{} not matching {}", " or "),
    ("all_of_digest", "{} of images all of whose tags match {}", " or "),
    ("any_of_digest", "{} of images with some tag matching {}", " or "),
    ("each_of_digest", "{} of images that have tags matching each of {}", " and "),
    ("none_of_digest", "{} of images with no tag matching {}", " or "),
)


def describe(policy: Policy) -> tuple[str, ...]:
    """Sentences that say what the policy does, in the order in which it is evaluated."""
    return tuple(_sentences(policy))


def describe_rule(rule: Rule) -> str:
    """One sentence about a rule."""
    name = f" ({rule.name})" if rule.name else ""
    if isinstance(rule, DeleteRule) and rule.budget is not None:
        order = "the last by rank" if rule.budget.order is BudgetOrder.RANK else "what is missed least"
        limit = f"bring {_BUDGETS[rule.budget.scope]} down to {write_size(rule.budget.max)}"
        return f"Delete{name} in the end as many {_subject(rule, all_of='')} as needed to {limit}, {order} first."
    if rule.counted is None:
        return f"{_verb(rule)}{name} {_subject(rule)}."
    spared = "" if isinstance(rule, KeepRule) else "all but "
    return f"{_verb(rule)}{name} {spared}the {_newest(rule)} of {_subject(rule)}{_ranked(rule)}."


def describe_protection(protection: Protection) -> str:
    """One sentence about a protection."""
    name = f" ({protection.name})" if protection.name else ""
    is_untagged = protection.untagged is not None
    what, everything = ("manifests without a tag", "a manifest without a tag") if is_untagged else ("tags", "a tag")
    parts = [_matched(protection, what, everything=everything), *_ages(protection)]
    if protection.untagged is not None:
        parts.append(_age("untagged", protection.untagged))
    if protection.pulled is not None:
        parts.append(_pulled(protection.pulled))
    if (use := protection.in_use) is not None:
        where = "any cluster" if use.clusters == ("all",) else _listed(use.clusters, " or ")
        revisions = f", with {use.rollback_revisions} earlier revisions" if use.rollback_revisions else ""
        parts.append(f"in use in {where} now or in the last {_duration(use.grace)}{revisions}")
    if protection.pinned:
        parts.append("pinned by hand")
    return f"Never delete{name} {', '.join(parts)}."


def _sentences(policy: Policy) -> Iterator[str]:
    owner = f", owned by {policy.metadata.owner}" if policy.metadata.owner else ""
    yield f"Policy {policy.name}{owner}, for {_scope(policy)}."
    if policy.inherit is Inherit.REPLACE:
        yield "The keep and delete rules of less specific policies do not apply there."
    yield from _requirements(policy)
    yield from (describe_protection(protection) for protection in policy.protect)
    if policy.mode is Mode.FIRST_MATCH:
        yield "Each tag is decided by the first of these rules that matches it:"
        yield from (f"{number}. {describe_rule(one.rule)}" for number, one in enumerate(policy.rules, 1))
    else:
        yield from (describe_rule(rule) for rule in (*policy.keep, *policy.delete))
    yield "Keep everything else." if policy.default is Default.KEEP else "Delete everything else that is in the scope."
    if policy.unit is Unit.DIGEST:
        yield "An image of which some tag stays keeps all its tags."
    if policy.referrers is Referrers.FOLLOW_SUBJECT:
        yield "Signatures and other referrers stay and go with what they are about."
    yield from _limits(policy.limits)
    yield _application(policy)


def _scope(policy: Policy) -> str:
    registries = policy.scope.registries
    where = f"registries {_listed(registries, ' or ')}" if registries else "all registries"
    match = policy.scope.repositories
    if match is None:
        return f"all repositories of {where}"
    included = f"repositories matching {_listed(match.include, ' or ')}" if match.include else "all repositories"
    excluded = f" but not {_listed(match.exclude, ' or ')}" if match.exclude else ""
    return f"{included}{excluded} of {where}"


def _requirements(policy: Policy) -> Iterator[str]:
    needs = policy.requires
    parts = []
    if needs.inventory_max_age is not None:
        parts.append(f"the inventory is at most {_duration(needs.inventory_max_age)} old")
    if needs.coverage is Coverage.COMPLETE:
        parts.append("every listing was read to its end")
    if needs.pull_history_min is not None:
        parts.append(f"pulls have been recorded for {_duration(needs.pull_history_min)} (else they count as unknown)")
    if needs.clusters:
        parts.append(f"{_listed(needs.clusters, ' and ')} have reported")
    if parts:
        yield f"Plan only if {_listed(parts, ' and ')}."


def _limits(limits: Limits) -> Iterator[str]:
    run = limits.per_run
    most = []
    if run.manifests is not None:
        most.append(f"{run.manifests} manifests")
    if run.tags is not None:
        most.append(f"{run.tags} tags")
    if run.share_of_repo is not None:
        most.append(f"{run.share_of_repo.normalize():f} % of a repository")
    if run.bytes is not None:
        most.append(write_size(run.bytes))
    otherwise = "more needs approval" if limits.on_exceed is OnExceed.NEEDS_APPROVAL else "more is refused"
    yield f"One run removes at most {_listed(most, ', ')}; {otherwise}." if most else "One run removes any amount."
    yield f"Nothing goes that was pushed, tagged or untagged in the last {_duration(limits.min_age)}."
    if not limits.never_empty:
        yield "A repository may be emptied."


def _application(policy: Policy) -> str:
    people = {
        Approval.NONE: "without approval",
        Approval.ONE: "after one approval",
        Approval.TWO: "after two approvals",
    }
    window = f" within {_listed(policy.apply.window, ' or ')}" if policy.apply.window else ""
    undo = f"it can be undone for {_duration(policy.apply.undo)}" if policy.apply.undo else "it cannot be undone"
    return f"A plan is applied {people[policy.apply.approval]}{window}; {undo}."


def _verb(rule: Rule) -> str:
    return "Keep" if isinstance(rule, KeepRule) else "Delete"


def _newest(rule: Rule) -> str:
    count = rule.counted or 0
    by_version = rule.rank.by[0] in (RankKey.SEMVER, RankKey.VERSION)
    number = f"{count} " if count != 1 else ""
    groups = f" for {' and '.join(f'each {_group(one)}' for one in rule.per)}" if rule.per else ""
    latest = f" ({'highest' if by_version else 'newest'} {rule.groups} only)" if rule.groups else ""
    tags = " tags" if rule.rank.count is RankCount.TAGS else ""
    return f"{number}{'highest' if by_version else 'newest'}{tags}{groups}{latest}"


def _group(grouping: Grouping) -> str:
    if grouping.kind is GroupKind.CAPTURE:
        return f"text of the group {grouping.name}"
    if grouping.kind is GroupKind.LABEL:
        return f"value of the label {grouping.name}"
    return _GROUPS.get(grouping.kind, str(grouping.kind))


def _ranked(rule: Rule) -> str:
    over = ", counted among what would go otherwise" if rule.rank.over is RankOver.CANDIDATES else ""
    return f" in each repository, {', then '.join(_RANKS[key] for key in rule.rank.by)}{over}"


def _subject(rule: Rule, *, all_of: str = "all ") -> str:
    what = "tags" if rule.untagged is None else "manifests without a tag"
    parts = [_matched(rule.match, what, everything=f"{all_of}{what}")]
    if rule.untagged is not None:
        parts.append(_age("untagged", rule.untagged))
    if rule.when is not None:
        parts.extend(_conditions(rule.when))
    return ", ".join(parts)


def _matched(match: Match, what: str, *, everything: str) -> str:
    text = _tagged(match.tags, what) if match.tags is not None else everything
    if (repositories := match.repositories) is not None:
        text += f" in repositories {_listed(repositories.include, ' or ')}" if repositories.include else ""
        text += f" outside repositories {_listed(repositories.exclude, ' or ')}" if repositories.exclude else ""
    parts = [_texts(f"label {name}", patterns) for name, patterns in match.labels]
    parts += [_texts("media type", match.media_types)] if match.media_types is not None else []
    parts += [_texts("artifact type", match.artifact_types)] if match.artifact_types is not None else []
    parts += [str(condition) for condition in match.where]
    text += f" with {_listed(parts, ' and ')}" if parts else ""
    return text + (f" ({_listed(match.special, ', ')} included)" if match.special else "")


def _tagged(match: TagMatch, what: str) -> str:
    text = what
    for name, words, separator in _TAG_WORDS:
        patterns: tuple[Pattern, ...] = getattr(match, name)
        if patterns:
            text = words.format(text, _listed(patterns, separator))
    return text


def _texts(name: str, match: TextMatch) -> str:
    parts = [f"matching {_listed(match.any, ' or ')}"] if match.any else []
    parts += [f"not matching {_listed(match.none, ' or ')}"] if match.none else []
    return f"{name} {' and '.join(parts)}"


def _conditions(when: When) -> Iterator[str]:
    yield from _ages(when)
    if when.pulled is not None:
        yield _pulled(when.pulled)
    if when.expired is not None:
        yield f"expired by the label {when.expired.label} (counted since {when.expired.since})"


def _ages(conditions: When | Protection) -> Iterator[str]:
    for name, words in (("tagged", "tagged"), ("pushed", "pushed"), ("created", "built by their own statement")):
        age: Age | None = getattr(conditions, name)
        if age is not None:
            yield _age(words, age)


def _pulled(pulled: Pulled) -> str:
    parts = []
    if pulled.older_than is not None:
        parts.append(f"not pulled for more than {_duration(pulled.older_than)}")
    if pulled.within is not None:
        parts.append(f"pulled in the last {_duration(pulled.within)}")
    by = f" by {_listed(pulled.by, ', ')}" if set(pulled.by) != set(USE) else ""
    methods = f" (with {_listed(pulled.methods, ' or ')} only)" if set(pulled.methods) != set(METHODS) else ""
    return f"{' but '.join(parts)}{by}{methods}"


def _age(words: str, age: Age) -> str:
    parts = []
    if age.older_than is not None:
        parts.append(f"more than {_duration(age.older_than)} ago")
    if age.within is not None:
        parts.append(f"in the last {_duration(age.within)}")
    return f"{words} {' but '.join(parts)}"


def _duration(duration: timedelta) -> str:
    seconds = duration.total_seconds()
    for unit, size in _UNITS:
        if seconds and seconds % size == 0:
            count = int(seconds // size)
            return f"{count} {unit}" + ("s" if count != 1 else "")
    return f"{seconds:f}".rstrip("0").rstrip(".") + " seconds"


def _listed(values: Iterable[object], separator: str) -> str:
    texts = [str(value) for value in values]
    return ", ".join(texts[:-1]) + separator + texts[-1] if len(texts) > 1 else "".join(texts)
