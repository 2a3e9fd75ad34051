"""Which rules of a policy take more, or less, than their author may think?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Final

from regwarden.core.patterns import Pattern, PatternKind
from regwarden.core.policy import Default, Mode, Policy, Referrers, Unit
from regwarden.core.policy_lint_codes import Finding
from regwarden.core.policy_matching import Match
from regwarden.core.policy_overlap import covers, is_everything, protects, selects_tag
from regwarden.core.policy_ranking import RankCount, RankKey, RankOver
from regwarden.core.policy_rules import DeleteRule, KeepRule, Rule, capture_names
from regwarden.core.policy_values import SEMVER_GROUPS, GroupKind

_DAY: Final = timedelta(days=1)
_VERSIONED: Final = frozenset({PatternKind.SEMVER, PatternKind.LOOSE})


def lint_rules(policy: Policy) -> Iterator[Finding]:
    """Warnings about single rules, and about rules beside each other."""
    for path, rule in policy.rules_by_path():
        yield from _lint_counting(path, rule)
        if isinstance(rule, DeleteRule):
            yield from _lint_delete(path, rule, policy.unit)
    if policy.mode is Mode.FIRST_MATCH:
        yield from _lint_order(policy)
    else:
        yield from _lint_effect(policy)
    yield from _lint_everything(policy)
    yield from _lint_whole(policy)


def _lint_delete(path: str, rule: DeleteRule, unit: Unit) -> Iterator[Finding]:
    is_bounded = rule.when or rule.untagged or rule.beyond or rule.budget
    if is_everything(rule.match) and not is_bounded:
        hint = "Say what it is about with match, or how old it must be with when."
        yield Finding("deletes-everything", path, "this rule deletes all that nothing keeps", hint)
    if (tags := rule.match.tags) is not None:
        if tags.any_of_digest:
            message = "this rule takes tags along that do not match, if another tag of their digest does"
            yield Finding("delete-siblings", f"{path}.match.tags.any-of-digest", message, "Write all-of-digest.")
        elif tags.any and not tags.all_of_digest and unit is Unit.TAG:
            message = "this rule removes tags one by one, also from images whose other tags stay"
            hint = "Write all-of-digest: to remove images of which every tag matches, or unit: digest for all rules."
            yield Finding("delete-any", f"{path}.match.tags.any", message, hint)
    if rule.untagged is not None and (rule.untagged.older_than or timedelta()) < _DAY:
        message = "manifests without a tag go before they are a day old"
        yield Finding("untagged-young", f"{path}.untagged", message, "Write untagged: {older-than: 3d}.")


def _lint_counting(path: str, rule: Rule) -> Iterator[Finding]:
    if rule.rank.over is RankOver.CANDIDATES:
        message = "the newest are counted among what would go otherwise: they stay in addition to what stays anyway"
        yield Finding("rank-candidates", f"{path}.rank.over", message, "Write over: matched to count all that matches.")
    if rule.rank.count is RankCount.TAGS:
        message = "tags of one image are counted one by one"
        yield Finding("rank-counts-tags", f"{path}.rank.count", message, "Write count: digests to count images.")
    if RankKey.CREATED in rule.rank.by:
        message = "created is what the image states, and it may state any time"
        yield Finding(
            "rank-by-created",
            f"{path}.rank.by",
            message,
            "Rank by tagged or pushed, if notifications tell when that was.",
        )
    patterns = _selecting(rule)
    by_semver = (rule.counted is not None and rule.rank.by[0] is RankKey.SEMVER) or any(
        one.kind in SEMVER_GROUPS for one in rule.per
    )
    if by_semver and (strange := [one for one in patterns if _is_no_version(one)]):
        message = f"tags matching {strange[0]} are no semantic versions: they are kept and not counted"
        key = "per" if any(one.kind in SEMVER_GROUPS for one in rule.per) else "rank.by"
        yield Finding(
            "semver-of-names", f"{path}.{key}", message, "Group by capture:NAME or branch, or rank by tagged."
        )
    for name in sorted({one.name for one in rule.per if one.kind is GroupKind.CAPTURE}):
        without = [pattern for pattern in patterns if name not in capture_names(pattern)]
        if without:
            message = f"{without[0]} has no group {name}, so what it matches is in no group"
            yield Finding("capture-missing", f"{path}.per", message, f"Give every pattern a group (?P<{name}>...).")


def _lint_effect(policy: Policy) -> Iterator[Finding]:
    for number, rule in enumerate(policy.keep):
        holding = [one for one in policy.protect if rule.untagged is None and protects(one, rule.match)]
        if holding:
            message = f"all that this rule keeps is protected already{_called(holding[0].name)}"
            yield Finding("keep-without-effect", f"keep[{number}]", message, "Remove it, or narrow the protection.")
    yield from _lint_union(policy.delete)
    constant = [one for one in policy.keep if one.newest is None and one.when is None and one.untagged is None]
    for number, taken in enumerate(policy.delete):
        if taken.untagged is not None or is_everything(taken.match):
            continue
        names = [one.name for one in policy.protect if protects(one, taken.match)]
        names += [one.name for one in constant if covers(one.match, taken.match)]
        if names:
            message = f"all that this rule deletes is protected or kept{_called(names[0])}"
            yield Finding("delete-without-effect", f"delete[{number}]", message, "Remove it, or narrow what keeps it.")


def _lint_union(rules: Sequence[DeleteRule]) -> Iterator[Finding]:
    for number, rule in enumerate(rules):
        for other in rules[:number]:
            is_split = (rule.when is None) != (other.when is None) and (rule.beyond is None) != (other.beyond is None)
            has_one_each = (rule.when is None) != (rule.beyond is None)
            if rule.match == other.match and not (rule.untagged or other.untagged) and is_split and has_one_each:
                hint = "Write beyond and when in one rule, if both are to hold."
                message = "an earlier rule is about the same tags: what either of them takes goes"
                yield Finding("rules-unite", f"delete[{number}]", message, hint)
                break


def _lint_everything(policy: Policy) -> Iterator[Finding]:
    holders: list[tuple[str, bool]] = [
        (f"protect[{number}]", protects(one, Match())) for number, one in enumerate(policy.protect)
    ]
    for path, rule in policy.rules_by_path():
        is_constant = not (rule.when or rule.untagged or rule.counted)
        holders.append((path, isinstance(rule, KeepRule) and is_constant and is_everything(rule.match)))
    for path, is_held in holders:
        if is_held:
            yield Finding("keeps-everything", path, "no tag ever goes, because this keeps all", "Say what it is about.")


def _lint_order(policy: Policy) -> Iterator[Finding]:
    rules = [one.rule for one in policy.rules]
    for number, rule in enumerate(rules):
        for earlier, other in enumerate(rules[:number]):
            same_kind = (rule.untagged is None) == (other.untagged is None)
            if same_kind and covers(other.match, rule.match):
                message = f"rule {earlier + 1}{_called(other.name)} claims all that this one matches"
                yield Finding("shadowed-rule", f"rules[{number}]", message, "Put the narrower rule first.")
                break


def _lint_whole(policy: Policy) -> Iterator[Finding]:
    rules = [rule for _, rule in policy.rules_by_path()]
    keeps = [rule for rule in rules if isinstance(rule, KeepRule)]
    deletes = [rule for rule in rules if isinstance(rule, DeleteRule)]
    is_wide = policy.default is Default.DELETE
    if is_wide and not keeps:
        message = "everything that is not protected goes"
        yield Finding("default-delete-without-keep", "default", message, "Add keep rules, or write default: keep.")
    if not is_wide and not deletes:
        yield Finding(
            "deletes-nothing", "", "this policy deletes nothing", "Add delete rules, or write default: delete."
        )
    for number, rule in enumerate(policy.delete):
        if is_wide and rule.budget is None:
            message = "with default: delete this rule changes nothing, and its conditions hold nothing back"
            yield Finding("redundant-delete", f"delete[{number}]", message, "Write keep rules for what is to stay.")
        if rule.budget is not None and not keeps:
            hint = "Add a keep rule, for example with newest: 3."
            yield Finding("budget-without-keep", f"delete[{number}].budget", "nothing keeps the newest from it", hint)
    if _may_take_latest(policy, deletes) and not _holds_latest(policy, keeps):
        path, hint = ("default" if is_wide else "delete"), "Add to protect: - tags: {any: [latest]}."
        yield Finding("latest-unprotected", path, "the tag latest may be deleted", hint)
    if policy.referrers is Referrers.EXPLICIT and not any(rule.match.special for rule in deletes) and not is_wide:
        message = "no rule names signatures and the like, so they stay for ever"
        yield Finding("referrers-left", "referrers", message, "Write follow-subject, or name kinds in match: special.")


def _may_take_latest(policy: Policy, deletes: list[DeleteRule]) -> bool:
    taken = [one for one in deletes if one.untagged is None and selects_tag(one.match, "latest")]
    return policy.default is Default.DELETE or bool(taken)


def _holds_latest(policy: Policy, keeps: list[KeepRule]) -> bool:
    protected = [one for one in policy.protect if one.tags is not None and selects_tag(one, "latest")]
    return bool(protected) or any(one.untagged is None and selects_tag(one.match, "latest") for one in keeps)


def _selecting(rule: Rule) -> tuple[Pattern, ...]:
    tags = rule.match.tags
    return (tags.any or tags.all_of_digest or tags.all) if tags is not None else ()


def _is_no_version(pattern: Pattern) -> bool:
    """Whether nothing that a pattern matches can be a semantic version, as far as its beginning tells."""
    start = pattern.literal_prefix.removeprefix("v").removeprefix("V")
    return pattern.kind not in _VERSIONED and bool(start) and not start[0].isdigit()


def _called(name: str) -> str:
    return f" ({name})" if name else ""
