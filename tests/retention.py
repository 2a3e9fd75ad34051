"""Small repositories for tests of policies: a tag with its ages in a line."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from regwarden.core.observed import (
    Hold,
    LastPull,
    ObservedManifest,
    ObservedRegistry,
    ObservedRepository,
    ObservedTag,
)
from regwarden.core.policy import Policy
from regwarden.core.retention import collect_policies, evaluate
from regwarden.core.verdicts import Outcome, RepositoryVerdicts, Verdict
from tests.policies import policy_of

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
IMAGE = "application/vnd.oci.image.manifest.v1+json"


def ago(days: float) -> datetime:
    """So many days before now."""
    return NOW - timedelta(days=days)


def digest_of(name: str) -> str:
    """A digest with a name."""
    return "sha256:" + hashlib.sha256(name.encode()).hexdigest()


def tag(name: str, digest: str = "", *, days: float = 100, exact: bool = True, **changes: Any) -> ObservedTag:
    """A tag that was set ``days`` ago on the digest called ``digest`` (as the tag, if left out)."""
    return ObservedTag(name, digest_of(digest or name), "ok", ago(days), exact)._replace(**changes)


def manifest(name: str, *, days: float = 100, exact: bool = True, pulled: float | None = None, **changes: Any) -> Any:
    """A manifest that was pushed ``days`` ago, and pulled by a workload ``pulled`` days ago."""
    made = ObservedManifest(digest_of(name), IMAGE, is_read=True, first_seen_at=ago(days), is_pushed_exact=exact)
    pulls = (LastPull(ago(pulled), "workload", "GET"),) if pulled is not None else ()
    return made._replace(pulls=pulls, labels={}, **changes)


def repository(
    tags: Iterable[ObservedTag], manifests: Iterable[ObservedManifest] = (), **changes: Any
) -> ObservedRepository:
    """A repository; manifests that are not given are as old as their oldest tag."""
    entries = tuple(tags)
    made = {one.digest: one for one in manifests}
    for entry in entries:
        if entry.digest is not None and entry.digest not in made:
            oldest = min(one.tagged_at for one in entries if one.digest == entry.digest)
            made[entry.digest] = manifest("x")._replace(digest=entry.digest, first_seen_at=oldest)
    return ObservedRepository(registry="prod", name="team/app", tags=entries, manifests=made, **changes)


def aged(ages: Mapping[str, float]) -> ObservedRepository:
    """A repository of tags with an image each, tagged so many days ago."""
    return repository(tag(name, days=days) for name, days in ages.items())


def judge(
    policies: str | Policy | Sequence[Policy],
    observed: ObservedRepository,
    *,
    events: float | None = 365,
    holds: Sequence[Hold] = (),
    now: datetime = NOW,
    crawls: tuple[tuple[datetime, datetime], ...] = (),
    **options: Any,
) -> RepositoryVerdicts:
    """The verdicts of policies (or the body of one).

    Notifications came since ``events`` days ago; ``crawls`` are the beginnings and ends of those that read everything.
    """
    if isinstance(policies, str):
        policies = policy_of(policies)
    every = [policies] if isinstance(policies, Policy) else policies
    collected = collect_policies(every, "prod", "team/app")
    assert collected is not None
    since = ago(events) if events is not None else None
    registry = ObservedRegistry(name="prod", events_since=since, whole_crawls=crawls)
    return evaluate(collected, observed, registry, holds=holds, now=now, **options)


def removed(*arguments: Any, **options: Any) -> list[str]:
    """The names of the tags that go, and the digests of the untagged manifests."""
    return names_of(judge(*arguments, **options))


def names_of(verdicts: RepositoryVerdicts) -> list[str]:
    """What goes."""
    return [one.tag or str(one.digest) for one in verdicts.verdicts if one.outcome is Outcome.REMOVE]


def verdict_of(name: str, *arguments: Any, **options: Any) -> Verdict:
    """The verdict about a tag or the untagged manifest of this digest."""
    return next(one for one in judge(*arguments, **options).verdicts if name == (one.tag or one.digest))


def told(name: str, *arguments: Any, **options: Any) -> list[str]:
    """The reasons of a verdict as lines: code, where, detail."""
    found = verdict_of(name, *arguments, **options).reasons
    return [": ".join(part for part in (one.code.value, one.rule, one.detail) if part) for one in found]
