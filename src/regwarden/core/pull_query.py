"""What a report on pulls is asked for: which pulls, counted together by what, in which order."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from regwarden.core.access import EVERYTHING, Reach
from regwarden.core.patterns import Pattern
from regwarden.core.selectors import Selector
from regwarden.errors import InputError

GROUPINGS: Final = ("registry", "repository", "tag", "digest", "pull_class", "method", "day")
FIGURES: Final = ("pull_count", "named_count", "digest_count", "last_at")
METHODS: Final = ("GET", "HEAD")
USUAL_GROUPING: Final = ("repository", "tag")
USUAL_SINCE: Final = "30d"
_ALIASES: Final = {
    "class": "pull_class",
    "classes": "pull_class",
    "manifest": "digest",
    "pulls": "pull_count",
    "count": "pull_count",
    "named": "named_count",
    "last": "last_at",
    "pulled": "last_at",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PullQuery:
    """One question about pulls. Everything that is given must hold.

    Pulls are counted together by ``by`` (names of ``GROUPINGS``). Of ``selectors``, ``registries`` (names),
    ``repositories``, ``tags``, ``classes`` and ``methods`` any one may match. Days are whole and in UTC: those that
    end after ``since`` and begin before ``until``. ``sort`` is pairs of a column and whether it is descending.
    What lies outside of ``reach`` is not counted.
    """

    by: tuple[str, ...]
    selectors: tuple[Selector, ...] = ()
    registries: tuple[str, ...] = ()
    repositories: tuple[Pattern, ...] = ()
    tags: tuple[Pattern, ...] = ()
    classes: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    sort: tuple[tuple[str, bool], ...] = ()
    limit: int | None = None
    reach: Reach = EVERYTHING

    @property
    def needs_tags(self) -> bool:
        """Whether requests by digest must be given to the tags that led there."""
        return "tag" in self.by or bool(self.tags) or any(one.tag is not None for one in self.selectors)

    @property
    def needs_digests(self) -> bool:
        """Whether single manifests matter."""
        return "digest" in self.by or any(one.digest is not None for one in self.selectors)


def parse_groupings(texts: Sequence[str]) -> tuple[str, ...]:
    """What to count together by: ``tag``, ``day``, ``class`` …, also several with commas, each once.

    A repository is one of a registry: ``repository`` counts by ``registry`` too. Raises ``InputError`` (code
    ``bad-grouping``).
    """
    found = [_resolve(part, GROUPINGS, "bad-grouping") for part in _parts(texts)]
    if not found:
        hint = f"There are: {', '.join(GROUPINGS)}."
        raise InputError("pulls must be counted by something", hint=hint, code="bad-grouping")
    if "repository" in found and "registry" not in found:
        found.insert(0, "registry")
    return tuple(dict.fromkeys(found))


def parse_pull_order(texts: Sequence[str], by: Sequence[str]) -> tuple[tuple[str, bool], ...]:
    """The order of a report: ``FIELD``, ``-FIELD`` or ``FIELD:desc`` of its columns; raises ``InputError``."""
    order = []
    for text in _parts(texts):
        name, _, direction = text.partition(":")
        if direction.lower() not in ("", "asc", "desc"):
            hint = "Write FIELD, -FIELD or FIELD:desc."
            raise InputError(f"{text[:80]!r} is not an order", hint=hint, code="bad-sort")
        column = _resolve(name.removeprefix("-"), (*by, *FIGURES), "bad-sort")
        order.append((column, name.startswith("-") or direction.lower() == "desc"))
    return tuple(order)


def parse_method(text: str) -> str:
    """``GET`` or ``HEAD``, in any case; raises ``InputError``."""
    method = text.strip().upper()
    if method not in METHODS:
        raise InputError(f"{text[:40]!r} is not a method of pulls", hint="Write GET or HEAD.", code="bad-method")
    return method


def _parts(texts: Sequence[str]) -> list[str]:
    return [part.strip() for text in texts for part in text.split(",") if part.strip()]


def _resolve(text: str, known: Sequence[str], code: str) -> str:
    name = text.strip().lower().replace("-", "_")
    name = _ALIASES.get(name, name)
    if name not in known:
        near = difflib.get_close_matches(name[:80], known, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(known)}."
        raise InputError(f"{text[:80]!r} is not a column of this report on pulls", hint=hint, code=code)
    return name
