"""Which part of a pattern can the database check? SQL only narrows; what it lets through is matched again in Python.

So a pattern means exactly what ``core.patterns`` says, on every database.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from sqlalchemy import and_, false, or_
from sqlalchemy.sql.elements import ColumnElement

from regwarden.core.patterns import Pattern, PatternKind

# SQLite limits the depth of an expression to 1,000; beyond this the check in Python is left alone with it.
_MOST_ALTERNATIVES: Final = 200
_BRACES: Final = re.compile(r"\{.*\}", re.DOTALL)
_SET: Final = re.compile(r"\[[!^]?\]?[^\]]*\]")
_DEEP: Final = re.compile(r"\*\*+/?")
_LIKE_SPECIAL: Final = re.compile(r"([\\%_])")
_LAST_CHARACTER: Final = "\U0010ffff"


def narrow_any(column: ColumnElement[str], patterns: Sequence[Pattern], dialect: str) -> ColumnElement[bool] | None:
    """A condition that every text matched by one of ``patterns`` meets; ``None`` if there is no useful one.

    A semantic version begins with a digit, after a ``v`` or none (``core.versions.find_semantic_version``).
    """
    exact = [pattern.exact for pattern in patterns if pattern.exact is not None]
    others = [pattern for pattern in patterns if pattern.exact is None]
    if len(others) > _MOST_ALTERNATIVES:
        return None
    alternatives: list[ColumnElement[bool]] = []
    if exact:
        alternatives.append(column == exact[0] if len(exact) == 1 else column.in_(exact))
    for pattern in others:
        narrowed = _narrow(column, pattern, dialect)
        if narrowed is None:
            return None
        alternatives.append(narrowed)
    return or_(*alternatives) if alternatives else false()


def is_decided(patterns: Sequence[Pattern]) -> bool:
    """Whether ``narrow_any`` is the whole answer, so that nothing is left to check."""
    return all(pattern.exact is not None for pattern in patterns)


def _narrow(column: ColumnElement[str], pattern: Pattern, dialect: str) -> ColumnElement[bool] | None:
    if pattern.kind is PatternKind.SEMVER:
        return or_(*(_starts_between(column, letter + "0", letter + ":") for letter in ("", "v", "V")))
    prefix = pattern.literal_prefix
    parts = [starts_with(column, prefix)] if prefix else []
    if pattern.kind is PatternKind.GLOB and pattern.text.rstrip("*") != prefix:
        parts.append(_glob(column, pattern.text, dialect))
    return and_(*parts) if parts else None


def starts_with(column: ColumnElement[str], prefix: str) -> ColumnElement[bool]:
    """A range that an index over byte order serves."""
    return _starts_between(column, prefix, prefix + _LAST_CHARACTER)


def _starts_between(column: ColumnElement[str], low: str, high: str) -> ColumnElement[bool]:
    return and_(column >= low, column < high)


def _glob(column: ColumnElement[str], glob: str, dialect: str) -> ColumnElement[bool]:
    """A coarser glob of nothing but ``*`` and ``?``, where ``*`` also stands for a slash."""
    coarse = _DEEP.sub("*", _BRACES.sub("*", _SET.sub("?", glob)))
    if dialect == "sqlite":
        return column.op("GLOB", is_comparison=True)(coarse)
    like = _LIKE_SPECIAL.sub(r"\\\1", coarse).replace("*", "%").replace("?", "_")
    return column.like(like, escape="\\")
