"""How complete a reading of a registry was: the certificate, its problems, and when vanishing is suspicious."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

SUSPICIOUS_SHARE: Final = 0.20
SUSPICIOUS_TAG_COUNT: Final = 10

CONFIG_PROBLEMS: Final = frozenset({"bad-config", "missing-config", "large-config"})

# Failures that asking again soon will not change; they are remembered and asked again only now and then.
LASTING_PROBLEMS: Final = CONFIG_PROBLEMS | {"missing-child", "unsupported-manifest", "bad-manifest", "bad-digest"}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that could not be read, or is not as it should be; ``tag`` and ``digest`` may be empty."""

    repository: str
    tag: str
    digest: str
    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What a crawl read and how far its answer can be trusted. Times are aware UTC, counts are plain numbers."""

    started_at: datetime
    finished_at: datetime
    duration_seconds: float
    scope: str = ""
    was_resumed: bool = False
    is_listing_complete: bool = True
    is_listing_trustworthy: bool = True
    doubts: tuple[str, ...] = ()
    page_count: int = 0
    repository_count: int = 0
    denied_count: int = 0
    failed_count: int = 0
    partial_count: int = 0
    untagged_count: int = 0
    tag_count: int = 0
    manifest_count: int = 0
    fetched_manifest_count: int = 0
    new_tag_count: int = 0
    moved_tag_count: int = 0
    gone_tag_count: int = 0
    gone_repository_count: int = 0
    verified_blob_count: int = 0
    missing_blob_count: int = 0
    problem_count: int = 0
    request_count: int = 0
    retry_count: int = 0
    token_request_count: int = 0
    not_modified_count: int = 0
    manifest_body_count: int = 0
    received_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Disappearance:
    """What a crawl would mark as gone, beside what was known before it."""

    known_repository_count: int
    gone_repository_count: int
    known_tag_count: int
    gone_tag_count: int
    emptied: tuple[tuple[str, int], ...] = field(default=())  # repositories that would lose every tag: name, tag count
    endpoint_changed: bool = False


def suspicions(disappearance: Disappearance) -> tuple[str, ...]:
    """Why so much vanishing at once should be confirmed by a person; empty when it is ordinary."""
    reasons = []
    pairs = (
        ("repositories", disappearance.gone_repository_count, disappearance.known_repository_count),
        ("tags", disappearance.gone_tag_count, disappearance.known_tag_count),
    )
    for noun, gone, known in pairs:
        if gone > known * SUSPICIOUS_SHARE:
            reasons.append(f"{gone} of {known} known {noun} have vanished")
    if disappearance.endpoint_changed:
        reasons.extend(
            f"all {count} tags of {name} have vanished since the address or the credentials changed"
            for name, count in disappearance.emptied
            if count > SUSPICIOUS_TAG_COUNT
        )
    return tuple(reasons)
