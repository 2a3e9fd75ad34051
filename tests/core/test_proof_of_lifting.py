"""Do the planner and the proof, which share no code, agree about any repository?"""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest

from regwarden.core.holding import Held
from regwarden.core.lifting import Lifted, Terms, lift
from regwarden.core.observed import Hold, ObservedManifest, ObservedRepository, ObservedTag, TagState
from regwarden.core.proof import Change, check
from regwarden.core.verdicts import Outcome, Reason, ReasonCode, RepositoryVerdicts, Verdict
from tests.proof_worlds import INDEX_TYPE, REGISTRY, REPOSITORY, World, harm_of, random_world

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=400)


def observed(world: World) -> ObservedRepository:
    manifests = {
        digest: ObservedManifest(
            digest=digest,
            media_type=INDEX_TYPE if world.children[digest] else "application/vnd.oci.image.manifest.v1+json",
            is_read=True,
            first_seen_at=LONG_AGO,
            is_pushed_exact=True,
            is_index=bool(world.children[digest]),
            children=world.children[digest],
            subject=world.subjects.get(digest),
        )
        for digest in world.manifests
    }
    tags = tuple(
        ObservedTag(name=name, digest=digest, state=TagState.OK, tagged_at=LONG_AGO, is_tagged_exact=True)
        for name, digest in world.tags.items()
    )
    return ObservedRepository(registry=REGISTRY, name=REPOSITORY, tags=tags, manifests=manifests)


def decided(world: World, dice: random.Random) -> RepositoryVerdicts:
    """What is not kept or protected goes; special tags follow unless they are named; some untagged roots go."""
    verdicts = []
    for tag, digest in sorted(world.tags.items()):
        stays = bool({tag, digest} & (world.kept | world.protected))
        is_special = tag in world.about and tag not in world.named
        code = ReasonCode.KEPT if stays else ReasonCode.SPECIAL if is_special else ReasonCode.DELETED
        verdicts.append(_verdict(tag, digest, code))
    listed = {child for children in world.children.values() for child in children}
    for digest in sorted(set(world.manifests) - listed - set(world.tags.values())):
        if world.subjects.get(digest) not in world.manifests:
            goes = digest not in world.protected and dice.random() < 0.5
            verdicts.append(_verdict("", digest, ReasonCode.DELETED if goes else ReasonCode.DEFAULT_KEEP))
    return RepositoryVerdicts(registry=REGISTRY, repository=REPOSITORY, verdicts=tuple(verdicts))


def _verdict(tag: str, digest: str, code: ReasonCode) -> Verdict:
    outcome = Outcome.REMOVE if code is ReasonCode.DELETED else Outcome.KEEP
    return Verdict(tag, digest, outcome, (Reason(code),))


def held_by(world: World) -> Held:
    hold = Hold(id=1, registry=REGISTRY, repository=REPOSITORY)
    names = world.protected & (set(world.tags) | set(world.manifests))
    return Held(
        tags={name: hold for name in names if ":" not in name}, digests={name: hold for name in names if ":" in name}
    )


def lifted(world: World, seed: int, *, can_untag: bool) -> Lifted:
    terms = Terms(now=NOW, held=held_by(world), can_untag=can_untag)
    return lift(observed(world), decided(world, random.Random(seed)), terms)


@pytest.mark.parametrize("can_untag", [True, False])
def test_what_is_planned_for_any_repository_is_proven_and_harms_nothing(can_untag):
    step_count = 0
    for seed in range(2_000):
        world = random_world(seed)
        # The referrers tag schema cuts off long digests: the planner leaves such tags alone, and the proof refuses.
        if any(subject.startswith("sha512:") for subject in world.about.values()):
            continue
        final = lifted(world, seed, can_untag=can_untag)
        steps = [Change(one.kind, one.registry, one.repository, one.digest, one.tags) for one in final.steps]
        kept = {one.tag or one.digest or "" for one in final.verdicts.verdicts if one.outcome is not Outcome.REMOVE}
        assert check(world.evidence(steps, kept=frozenset(kept))) == (), seed
        world.kept = frozenset(kept)
        assert harm_of(world, steps) == "", seed
        step_count += len(steps)
    assert step_count > 2_000
