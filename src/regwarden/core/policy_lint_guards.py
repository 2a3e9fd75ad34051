"""Which guards of a policy are weak, and which of its conditions trust what they should not?"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Final

from regwarden.core.policy import Approval, Coverage, PerRun, Policy
from regwarden.core.policy_lint_codes import Finding
from regwarden.core.policy_matching import Age, Method, Pulled, When
from regwarden.core.policy_rules import DeleteRule
from regwarden.core.pull_agents import PullClass

_DAY: Final = timedelta(days=1)
_WIDE: Final = PerRun()
_PASSING_BY: Final = (PullClass.SCANNER, PullClass.REPLICATOR, PullClass.CRAWLER)


def lint_guards(policy: Policy) -> Iterator[Finding]:
    """Warnings about the scope, limits and application of a policy."""
    if not policy.scope.registries and policy.scope.repositories is None:
        hint = "Name what it is for: repositories: {include: [...]}."
        yield Finding("whole-registry", "scope", "this policy is about every repository of every registry", hint)
    if policy.requires.coverage is Coverage.ANY:
        message = "plans are made from an incomplete list of repositories"
        yield Finding("partial-coverage", "requires.coverage", message, "Write per-repo.")
    run = policy.limits.per_run
    share = Decimal(100) if run.share_of_repo is None else run.share_of_repo
    if run.manifests is None and run.tags is None and run.bytes is None and share == 100:
        hint = "Give manifests, tags, bytes or share-of-repo a limit."
        yield Finding("unlimited", "limits.per-run", "one run may remove everything", hint)
    is_wide = run.manifests is None or run.manifests > (_WIDE.manifests or 0) or share > (_WIDE.share_of_repo or 0)
    if policy.apply.approval is Approval.NONE and is_wide:
        hint = f"Ask for approval, or keep to {_WIDE.manifests} manifests and {_WIDE.share_of_repo}% of a repository."
        yield Finding("unattended", "apply.approval", "plans within wide limits are applied unseen", hint)
    if not policy.limits.never_empty:
        yield Finding("never-empty-off", "limits.never-empty", "a repository may be emptied", "Remove this line.")
    if policy.limits.min_age < _DAY:
        message = "what was pushed less than a day ago may go"
        yield Finding("short-min-age", "limits.min-age", message, "Write at least 24h.")
    if policy.apply.undo < _DAY:
        yield Finding("short-undo", "apply.undo", "there is less than a day to undo", "Write at least 1d, better 7d.")
    for number, window in enumerate(policy.apply.window):
        if window.never_opens:
            hint = "Write 00:00-24:00 for the whole day."
            yield Finding("window-never-opens", f"apply.window[{number}]", f"{window} never opens", hint)


def lint_conditions(policy: Policy) -> Iterator[Finding]:
    """Warnings about conditions of time and of use."""
    for path, age in _ages(policy):
        if age.older_than is not None and age.within is not None and age.older_than >= age.within:
            yield Finding("never-true", path, "nothing is older than the one and within the other")
    for path, rule in policy.rules_by_path():
        if isinstance(rule, DeleteRule) and rule.when is not None:
            yield from _lint_deleted(f"{path}.when", rule.when)
    for path, pulled, is_delete in _pulls(policy):
        yield from _lint_history(policy, path, pulled)
        if not is_delete and (passing := [one for one in pulled.by if one in _PASSING_BY]):
            message = f"pulls by a {passing[0]} count as use, and it touches everything"
            yield Finding("counts-scanners", f"{path}.by", message, f"Remove {passing[0]}.")


def _lint_deleted(path: str, when: When) -> Iterator[Finding]:
    for key, age in (("tagged", when.tagged), ("pushed", when.pushed), ("created", when.created)):
        if age is not None and age.older_than is None:
            message = "this rule deletes what is recent"
            yield Finding("deletes-recent", f"{path}.{key}", message, "Write older-than for what is old.")
    if when.created is not None:
        message = "created is what the image states, and it may state any time"
        yield Finding("age-by-created", f"{path}.created", message, "Use tagged.")
    if when.pushed is not None and when.tagged is None:
        message = "this is the age of the digest: a tag set on it yesterday counts as just as old"
        yield Finding("age-by-pushed", f"{path}.pushed", message, "Use tagged, or both.")
    if when.pulled is not None:
        yield from _lint_unused(f"{path}.pulled", when.pulled)


def _lint_unused(path: str, pulled: Pulled) -> Iterator[Finding]:
    if pulled.older_than is None:
        hint = "Write older-than for what is not used."
        yield Finding("deletes-used", path, "this rule deletes what was pulled recently", hint)
        return
    if missing := [one for one in (PullClass.WORKLOAD, PullClass.OTHER) if one not in pulled.by]:
        message = f"pulls by {missing[0]} are not counted, so what they use looks unused"
        yield Finding("ignores-pulls", f"{path}.by", message, f"Add {missing[0]}.")
    if Method.HEAD not in pulled.methods:
        message = "container runtimes check what they have with HEAD, which is not counted"
        yield Finding("ignores-head", f"{path}.methods", message, "Add HEAD.")


def _lint_history(policy: Policy, path: str, pulled: Pulled) -> Iterator[Finding]:
    needed = max(pulled.older_than or timedelta(), pulled.within or timedelta())
    known = policy.requires.pull_history_min
    if known is None or known < needed:
        have = "does not require a history of pulls" if known is None else "requires a shorter history of pulls"
        hint = f"Write requires: {{pull-history-min: {needed.days}d}}." if needed >= _DAY else ""
        yield Finding("pulled-without-history", path, f"the policy asks about pulls and {have}", hint)


def _pulls(policy: Policy) -> Iterator[tuple[str, Pulled, bool]]:
    for number, protection in enumerate(policy.protect):
        if protection.pulled is not None:
            yield f"protect[{number}].pulled", protection.pulled, False
    for path, rule in policy.rules_by_path():
        if rule.when is not None and rule.when.pulled is not None:
            yield f"{path}.when.pulled", rule.when.pulled, isinstance(rule, DeleteRule)


def _ages(policy: Policy) -> Iterator[tuple[str, Age]]:
    holders: list[tuple[str, object]] = [(f"protect[{number}]", one) for number, one in enumerate(policy.protect)]
    for path, rule in policy.rules_by_path():
        holders.append((path, rule))
        if rule.when is not None:
            holders.append((f"{path}.when", rule.when))
    for path, holder in holders:
        for key in ("tagged", "pushed", "created", "pulled", "untagged"):
            age = getattr(holder, key, None)
            if isinstance(age, Age):
                yield f"{path}.{key}", age
