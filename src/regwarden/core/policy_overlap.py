"""Does one rule of a policy speak about all that another one does? Only what is certain from their text is said."""

from __future__ import annotations

from dataclasses import fields
from functools import lru_cache
from typing import Final

from regwarden.core.patterns import Pattern, PatternKind
from regwarden.core.policy_matching import Match, TagMatch
from regwarden.core.policy_rules import Protection

MAX_COMPARED: Final = 50
"""Of longer lists nothing is said: comparing each with each would take too long."""

_EVERY_TAG: Final = frozenset({"glob:*", "glob:**", "re:.*", "re:.+", "re:^.*$", "re:^.+$"})
_MATCH_NAMES: Final = tuple(one.name for one in fields(Match))
_GLOB_CHARACTERS: Final = frozenset("*?[]{}")


def is_everything(match: Match) -> bool:
    """Whether it matches every tag of the scope."""
    rest = [name for name in _MATCH_NAMES if name != "special" and getattr(match, name)]
    return not rest or (rest == ["tags"] and _is_every_tag(match.tags))


def covers(wide: Match, narrow: Match) -> bool:
    """Whether everything that ``narrow`` selects is certainly selected by ``wide``."""
    if not set(narrow.special) <= set(wide.special):
        return False
    others = [name for name in _MATCH_NAMES if name not in ("tags", "special")]
    if any(getattr(wide, name) and getattr(wide, name) != getattr(narrow, name) for name in others):
        return False
    if wide.tags is None or wide.tags == narrow.tags or _is_every_tag(wide.tags):
        return True
    if narrow.tags is None or wide.tags != TagMatch(any=wide.tags.any):
        return False
    selected = narrow.tags.any or narrow.tags.all_of_digest
    return 0 < len(selected) <= MAX_COMPARED and all(
        any(pattern_covers(one, other) for one in wide.tags.any) for other in selected
    )


def protects(protection: Protection, match: Match) -> bool:
    """Whether a protection certainly holds all that ``match`` selects, at any time."""
    is_conditional = protection.pinned or any(
        getattr(protection, name) is not None
        for name in ("tagged", "pushed", "created", "untagged", "pulled", "in_use")
    )
    return not is_conditional and covers(protection, match)


def pattern_covers(wide: Pattern, narrow: Pattern) -> bool:
    """Whether every tag that ``narrow`` matches is certainly matched by ``wide``."""
    if wide == narrow:
        return True
    if narrow.exact is not None:
        return wide.matches(narrow.exact)
    if wide.kind is PatternKind.GLOB:
        start = wide.text.rstrip("*")
        is_prefix = start != wide.text and not _GLOB_CHARACTERS & set(start)
        return is_prefix and _literal_prefix(narrow).startswith(start)
    return str(wide) in _EVERY_TAG


def selects_tag(match: Match, tag: str) -> bool:
    """Whether a tag of this name may be among what is selected."""
    tags = match.tags
    if tags is None:
        return True
    wanted = (tags.any, tags.all_of_digest)
    return all(not patterns or any(one.matches(tag) for one in patterns) for patterns in wanted) and (
        all(one.matches(tag) for one in tags.all)
        and not any(one.matches(tag) for one in (*tags.none, *tags.none_of_digest))
    )


@lru_cache(maxsize=10_000)
def _literal_prefix(pattern: Pattern) -> str:
    return pattern.literal_prefix


def _is_every_tag(tags: TagMatch | None) -> bool:
    return tags is not None and tags == TagMatch(any=tags.any) and any(str(one) in _EVERY_TAG for one in tags.any)
