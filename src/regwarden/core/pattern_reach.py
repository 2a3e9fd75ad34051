"""Does everything that a pattern can ever match lie in somebody's reach? Only what is certain counts."""

from __future__ import annotations

from regwarden.core.access import Area, Reach
from regwarden.core.globs import GLOB_CHARACTERS
from regwarden.core.patterns import Pattern, PatternKind

_ALL = "**"


def has_pattern(reach: Reach, registry: str, repositories: Pattern) -> bool:
    """Whether all repositories of a registry that ``repositories`` matches, now or later, lie in ``reach``."""
    if (exact := repositories.exact) is not None:
        return reach.has(registry, exact)
    return any(_has(area, registry, repositories) for area in reach.areas)


def _has(area: Area, registry: str, repositories: Pattern) -> bool:
    return area.has_registry(registry) and (
        not area.repositories
        or repositories in area.repositories
        or any(_is_tree_of(pattern, repositories) for pattern in area.repositories)
    )


def _is_tree_of(outer: Pattern, inner: Pattern) -> bool:
    """Whether ``outer`` is all below a name (``glob:team/**``) and everything that ``inner`` matches begins so."""
    if outer.kind is not PatternKind.GLOB or not outer.text.endswith(_ALL):
        return False
    begin = outer.text.removesuffix(_ALL)
    if not begin:
        return True
    return begin.endswith("/") and not GLOB_CHARACTERS & set(begin) and inner.literal_prefix.startswith(begin)
