"""Which tags and repositories does a rule of GitLab protect, and how is that told? Pure; unknown means protected.

GitLab reads the patterns of tags with RE2 and finds them anywhere in the name (documentation, "Protected container
tags" and "Immutable container tags"); those of repositories are paths in which ``*`` stands for anything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Final

from regwarden.core.patterns import parse_pattern
from regwarden.core.projects import ProtectionRule, RuleKind
from regwarden.core.text import printable
from regwarden.errors import InputError

_SHOWN: Final = 120
_UNREADABLE: Final = "\N{REPLACEMENT CHARACTER}"
_PEOPLE: Final = {
    "developer": "developers",
    "maintainer": "maintainers",
    "owner": "owners",
    "admin": "administrators",
}

RuleFinder = Callable[[str], ProtectionRule | None]


def protects_deletion(rule: ProtectionRule) -> bool:
    """Whether what a rule names is not everybody's to delete. A rule without any role is for nobody to break."""
    return rule.kind is RuleKind.IMMUTABLE or bool(rule.delete_role) or not rule.push_role


def build_tag_finder(rules: Iterable[ProtectionRule]) -> RuleFinder | None:
    """What finds the first rule that protects a tag, those without exceptions first; ``None`` if no rule ever does."""
    kinds = (RuleKind.IMMUTABLE, RuleKind.TAG)
    about = [one for one in rules if one.kind in kinds and protects_deletion(one)]
    ordered = sorted(about, key=lambda one: (kinds.index(one.kind), one))
    return _finder([(one, _tag_matcher(one.pattern)) for one in ordered])


def build_repository_finder(rules: Iterable[ProtectionRule]) -> RuleFinder | None:
    """What finds the first rule that protects a repository, by its path, from being deleted; ``None`` as above."""
    about = sorted(one for one in rules if one.kind is RuleKind.REPOSITORY and protects_deletion(one))
    return _finder([(one, _path_matcher(one.pattern)) for one in about])


def matches(rule: ProtectionRule, name: str) -> bool:
    """Whether a rule names a tag, or of rules for repositories a path. What cannot be read names everything."""
    matcher = _path_matcher if rule.kind is RuleKind.REPOSITORY else _tag_matcher
    return matcher(rule.pattern)(name)


def describe_rule(rule: ProtectionRule) -> str:
    """A rule for people: ``GitLab lets only maintainers delete tags like v.*``."""
    what = "repositories" if rule.kind is RuleKind.REPOSITORY else "tags"
    like = f"{what} like {shown_pattern(rule)}"
    if rule.kind is RuleKind.IMMUTABLE or not (rule.delete_role or rule.push_role):
        return f"GitLab lets nobody delete or move {like}: they are immutable"
    role, verb = (rule.delete_role, "delete") if rule.delete_role else (rule.push_role, "push")
    people = _PEOPLE.get(role, f"those with the role {printable(role, _SHOWN)}")
    return f"GitLab lets only {people} {verb} {like}"


def shown_pattern(rule: ProtectionRule) -> str:
    """The pattern of a rule as it can be printed; never empty."""
    return printable(rule.pattern, _SHOWN) or "(unreadable)"


def _finder(matchers: list[tuple[ProtectionRule, Callable[[str], bool]]]) -> RuleFinder | None:
    if not matchers:
        return None

    def find(name: str) -> ProtectionRule | None:
        return next((rule for rule, is_match in matchers if is_match(name)), None)

    return find


@lru_cache(maxsize=1000)
def _tag_matcher(pattern: str) -> Callable[[str], bool]:
    return _compiled(f"~{pattern}") if _UNREADABLE not in pattern else _everything


@lru_cache(maxsize=1000)
def _path_matcher(pattern: str) -> Callable[[str], bool]:
    if not pattern or _UNREADABLE in pattern:
        return _everything
    is_match = _compiled("re:(?s)" + ".*".join(map(re.escape, pattern.casefold().split("*"))))
    return lambda path: is_match(path.casefold())


def _compiled(pattern: str) -> Callable[[str], bool]:
    try:
        return parse_pattern(pattern).matches
    except InputError:
        return _everything


def _everything(_: str) -> bool:
    return True
