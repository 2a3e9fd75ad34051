"""Repositories and rules with which translations of other systems' cleanup rules are compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from regwarden.core.importers.api import Imported, Severity, Target
from regwarden.core.importers.catalogue import translate_rules
from regwarden.core.observed import LastPull, ObservedManifest, ObservedRegistry, ObservedRepository, ObservedTag
from regwarden.core.plan import GuardCode
from regwarden.core.policy import Policy
from regwarden.core.retention import collect_policies, evaluate
from regwarden.core.verdicts import Outcome

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
FOLDER = Path(__file__).parent / "data" / "policies" / "imported"
REPOSITORY = "team/app"
IMAGE = "application/vnd.oci.image.manifest.v1+json"


class Image(NamedTuple):
    """An image: how many days ago it was pushed and, if ever, pulled; its tags with how long ago they were set."""

    pushed: float
    tags: Mapping[str, float]
    pulled: float | None = None


def ago(days: float) -> datetime:
    """That many days before now."""
    return NOW - timedelta(days=days)


def digest_of(number: int) -> str:
    """The digest of the image with this number."""
    return f"sha256:{number:064x}"


def observed(images: Iterable[Image]) -> ObservedRepository:
    """A repository that was read completely, with all clocks known exactly; images are numbered from 0."""
    manifests, tags = {}, []
    for number, image in enumerate(images):
        digest = digest_of(number)
        pulls = (LastPull(ago(image.pulled), "workload", "GET"),) if image.pulled is not None else ()
        manifests[digest] = ObservedManifest(
            digest=digest,
            media_type=IMAGE,
            is_read=True,
            first_seen_at=ago(image.pushed),
            is_pushed_exact=True,
            last_pushed_at=ago(image.pushed),
            created_at=ago(image.pushed),
            untagged_since=None if image.tags else ago(image.pushed),
            is_untagged_exact=not image.tags,
            labels={},
            pulls=pulls,
        )
        tags += [ObservedTag(tag, digest, "ok", ago(days), is_tagged_exact=True) for tag, days in image.tags.items()]
    return ObservedRepository(registry="prod", name=REPOSITORY, tags=tuple(tags), manifests=manifests, seen_at=NOW)


def removed(imported: Imported, images: Iterable[Image], *, with_min_age: bool = False) -> set[str]:
    """The tags, and the digests of untagged manifests, that the imported policies remove."""
    collected = collect_policies(imported.policies, "prod", REPOSITORY)
    if collected is None:
        return set()
    registry = ObservedRegistry(name="prod", crawled_at=NOW, coverage="complete", events_since=ago(3650))
    waived = frozenset() if with_min_age else frozenset({GuardCode.MIN_AGE})
    decided = evaluate(collected, observed(images), registry, holds=(), now=NOW, waived=waived)
    return {one.tag or one.digest or "" for one in decided.verdicts if one.outcome is Outcome.REMOVE}


def imported(text: str, system: str, **target: object) -> Imported:
    """A translation for the repository of the tests, unless another target is given."""
    where = Target(**target) if target else Target((REPOSITORY,))  # type: ignore[arg-type]  # tests name its fields
    return translate_rules(text, system=system, name="rules", target=where)


def scope_of(policy: Policy) -> tuple[list[str], list[str]]:
    """The patterns that a policy includes and excludes."""
    scope = policy.scope.repositories
    assert scope is not None
    return [str(one) for one in scope.include], [str(one) for one in scope.exclude]


def codes(translated: Imported, *severities: Severity) -> list[str]:
    """The codes of the differences of these severities (of none: of all), in order."""
    return [one.code for one in translated.differences if not severities or one.severity in severities]


def read(name: str) -> str:
    """A vendor's document."""
    return (FOLDER / name).read_text(encoding="utf-8")
