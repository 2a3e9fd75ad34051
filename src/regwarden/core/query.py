"""What a list of registries, repositories, tags, manifests or blobs is asked for, whoever asks."""

from __future__ import annotations

from dataclasses import dataclass

from regwarden.core.access import EVERYTHING, Reach
from regwarden.core.conditions import Condition, Sort
from regwarden.core.fields import Noun
from regwarden.core.patterns import Pattern
from regwarden.core.selectors import Selector


@dataclass(frozen=True, slots=True)
class Query:
    """One question. Everything that is given must hold.

    Of ``selectors``, ``registries`` (names), ``repositories`` and ``tags`` any one may match, and none of the
    excluding patterns. ``include_unknown`` takes in what a condition cannot decide because the value is unknown.
    ``is_lacking_blobs`` chooses manifests that need a blob which is known to be missing.
    ``sort`` is applied in its order; ``limit`` is a number of rows, ``cursor`` what the previous page gave out.
    What lies outside of ``reach`` is as if it were not there.
    """

    noun: Noun
    selectors: tuple[Selector, ...] = ()
    registries: tuple[str, ...] = ()
    repositories: tuple[Pattern, ...] = ()
    exclude_repositories: tuple[Pattern, ...] = ()
    tags: tuple[Pattern, ...] = ()
    exclude_tags: tuple[Pattern, ...] = ()
    conditions: tuple[Condition, ...] = ()
    include_unknown: bool = False
    is_lacking_blobs: bool = False
    sort: tuple[Sort, ...] = ()
    limit: int | None = None
    cursor: str | None = None
    reach: Reach = EVERYTHING
