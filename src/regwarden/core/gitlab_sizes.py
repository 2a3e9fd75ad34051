"""Why do GitLab's figure for its registry and ours differ? In words, from what is known of both.

GitLab counts each layer once that a tag reaches, compressed, and nothing else; ours are computed from the manifests.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from regwarden.core.projects import Features
from regwarden.core.wording import human_bytes

PRECISE: Final = "default"
UNTAGGED: Final = "untagged"


class SizeScope(StrEnum):
    """What a figure is about."""

    REPOSITORY = "repository"
    PROJECT = "project"
    NAMESPACE = "namespace"


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeFacts:
    """Both figures, in bytes, and what explains them; ``None`` is unknown.

    ``layer_bytes`` is ours by GitLab's definition, ``stored_bytes`` everything that tags reach, each once.
    ``precision`` is GitLab's word, ``sized_at`` when it was asked, ``changed_at`` when a tag last changed.
    ``is_whole`` says that everything in the scope was read.
    """

    scope: SizeScope
    gitlab_bytes: int | None = None
    precision: str = ""
    is_estimated: bool | None = None
    sized_at: datetime | None = None
    changed_at: datetime | None = None
    layer_bytes: int | None = None
    stored_bytes: int | None = None
    repository_count: int = 1
    features: Features = Features.UNKNOWN
    is_whole: bool = True


def meaning_of(facts: SizeFacts) -> str:
    """What GitLab's figure counts; empty where it has none."""
    if facts.gitlab_bytes is None:
        return ""
    layers = "all layers, tagged or not" if _counts_untagged(facts) else "layers that tags reach"
    match facts.scope:
        case SizeScope.REPOSITORY:
            return layers
        case SizeScope.PROJECT:
            return f"{layers}, once in the project"
        case SizeScope.NAMESPACE:
            return f"{layers}, once in the namespace"


def difference_of(facts: SizeFacts) -> int | None:
    """How much larger GitLab's figure is than ours by the same definition, in bytes."""
    if facts.gitlab_bytes is None or facts.layer_bytes is None:
        return None
    return facts.gitlab_bytes - facts.layer_bytes


def explain_sizes(facts: SizeFacts) -> tuple[str, ...]:
    """Why GitLab's figure is what it is, and where the difference comes from: one sentence each."""
    return tuple(_reasons(facts))


def _reasons(facts: SizeFacts) -> Iterator[str]:
    if facts.gitlab_bytes is None:
        yield _why_none(facts)
    else:
        yield from _difference_reasons(facts)
    if facts.layer_bytes is not None and facts.stored_bytes is not None:
        others = facts.stored_bytes - facts.layer_bytes
        if others > 0:
            yield f"GitLab does not count configurations and manifests: {human_bytes(others)}."
    if facts.scope is not SizeScope.REPOSITORY and facts.repository_count > 1:
        yield "What its repositories share counts once, so their figures add up to more."
    if facts.scope is SizeScope.NAMESPACE:
        yield "What other namespaces share is counted there again: all together are more than the disk holds."


def _why_none(facts: SizeFacts) -> str:
    match facts.features:
        case Features.FILES | Features.PLAIN:
            return "The registry has no metadata database, so GitLab has no figure; ours is from the manifests."
        case Features.DATABASE:
            return "GitLab gave no figure: it may not tell us, or has not computed it."
        case Features.UNKNOWN:
            return "GitLab gave no figure; it has one only where the registry has the metadata database."


def _difference_reasons(facts: SizeFacts) -> Iterator[str]:
    difference = difference_of(facts)
    if difference == 0:
        yield "By GitLab's definition both are the same."
        return
    is_explained = False
    if _counts_untagged(facts):
        is_explained = True
        yield (
            "GitLab's figure is an estimate that counts untagged layers too: it falls once they were collected, and is"
            " computed anew after a day at the earliest."
        )
    if facts.sized_at is not None and facts.changed_at is not None and facts.sized_at < facts.changed_at:
        is_explained = True
        yield (
            f"GitLab's figure is of {facts.sized_at:%Y-%m-%d %H:%M} UTC, and tags changed at"
            f" {facts.changed_at:%Y-%m-%d %H:%M}."
        )
    if not facts.is_whole:
        is_explained = True
        yield "Not everything could be read here, so ours is too small."
    if difference is None:
        yield "Ours is not computed yet: crawl the registry."
    elif not is_explained and facts.scope is not SizeScope.REPOSITORY:
        yield "GitLab keeps its figure for some time, up to a week for a namespace, where it gets no notifications."
    elif not is_explained:
        yield "Nothing here explains the difference: crawl again, then ask again."


def _counts_untagged(facts: SizeFacts) -> bool:
    return facts.precision == UNTAGGED or facts.is_estimated is True
