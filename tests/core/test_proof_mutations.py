"""Is a planner with a defect always caught? A small planner that can be broken in named ways, against the proof."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

import pytest

from regwarden.core.proof import Change, Finding, check
from tests.proof_worlds import World, delete, harm_of, random_world, untag

SEEDS = range(1_500)


class Defect(StrEnum):
    NONE = "none"
    NO_INDEX_EDGES = "forgets that an index holds what it lists"
    NO_NESTED_INDEXES = "looks no further than the children of a root"
    NO_SUBJECT_OF_KEPT = "forgets that a referrer that stays keeps its subject"
    NO_REFERRER_OF_KEPT = "takes untagged referrers for rubbish"
    NO_SPECIAL_TAGS = "takes special tags for ordinary ones"
    ONE_TAG_IS_ENOUGH = "deletes what has lost one of its tags"
    FORGETS_A_TAG = "says only one of the tags that go"
    FLIPPED = "takes what was to stay"
    NO_PROTECTED_DIGESTS = "forgets protected digests"
    NO_PROTECTED_TAGS = "forgets protected tags"
    CHILDREN_FIRST = "deletes children before their indexes"
    OTHER_REPOSITORY = "plans one repository and writes down another"
    OTHER_TAGS = "plans with the tags of another repository"
    TWICE = "deletes what two indexes list twice"


class Planner:
    """Removes every ordinary tag that is not kept, and what nothing leads to any more."""

    def __init__(self, world: World, defect: Defect) -> None:
        self.world = world
        self.defect = defect
        self.about = {} if defect is Defect.NO_SPECIAL_TAGS else world.about
        self.tags = world.tags

    def plan(self) -> list[Change]:
        going = {tag for tag in self.tags if self._is_doomed(tag)}
        kept = self._closure(going)
        going |= {tag for tag, subject in self.about.items() if subject not in kept and self.tags[tag] not in kept}
        if self.defect is Defect.ONE_TAG_IS_ENOUGH:
            kept -= {self.tags[tag] for tag in going}
        return list(self._steps(going, kept))

    def _is_doomed(self, tag: str) -> bool:
        if tag in self.world.protected and self.defect is not Defect.NO_PROTECTED_TAGS:
            return False
        if tag in self.about:
            return tag in self.world.named
        return (tag in self.world.kept) == (self.defect is Defect.FLIPPED)

    def _closure(self, going: set[str]) -> set[str]:
        """Everything that stays: from the roots, until nothing is added any more."""
        world = self.world
        listed = {child for children in world.children.values() for child in children}
        tagged = set(self.tags.values())
        kept = {self.tags[tag] for tag in self.tags if tag not in going and tag not in self.about}
        kept |= {
            digest
            for digest in world.manifests
            if digest not in tagged | listed and world.subjects.get(digest) not in world.manifests
        }
        if self.defect is Defect.NO_REFERRER_OF_KEPT:
            kept -= {digest for digest in world.subjects if digest not in tagged}
        if self.defect is not Defect.NO_PROTECTED_DIGESTS:
            kept |= world.protected & set(world.manifests)
        kept |= {self.tags[tag] for tag in self.about if tag in world.protected}
        roots = frozenset(kept)
        while True:
            more = set(self._held_by(kept, roots, going)) & set(world.manifests) - kept
            if not more:
                return kept
            kept |= more

    def _held_by(self, kept: set[str], roots: frozenset[str], going: set[str]) -> Iterator[str]:
        world = self.world
        for digest in kept:
            is_searched = self.defect is not Defect.NO_NESTED_INDEXES or digest in roots
            if self.defect is not Defect.NO_INDEX_EDGES and is_searched:
                yield from world.children[digest]
            if digest in world.subjects and self.defect is not Defect.NO_SUBJECT_OF_KEPT:
                yield world.subjects[digest]
        if self.defect is not Defect.NO_REFERRER_OF_KEPT:
            tagged = set(self.tags.values())
            yield from (
                digest for digest, subject in world.subjects.items() if subject in kept and digest not in tagged
            )
        for tag, subject in self.about.items():
            if tag in going:
                continue
            if subject in kept:
                yield self.tags[tag]
            elif self.tags[tag] in kept:
                yield subject

    def _steps(self, going: set[str], kept: set[str]) -> Iterator[Change]:
        repository = "team/app2" if self.defect is Defect.OTHER_REPOSITORY else "team/app"
        for tag in sorted(going):
            if self.tags[tag] in kept:
                yield untag(self.tags[tag], tag, repository=repository)
        for digest in self._in_order(set(self.world.manifests) - kept):
            tags = sorted(tag for tag, target in self.tags.items() if target == digest and tag in going)
            if self.defect is Defect.FORGETS_A_TAG:
                tags = tags[:1]
            yield delete(digest, *tags, repository=repository)

    def _in_order(self, deleted: set[str]) -> list[str]:
        """Parents before children: what was built later in the world lists what was built earlier."""
        if self.defect is Defect.CHILDREN_FIRST:
            return [digest for digest in self.world.manifests if digest in deleted]
        if self.defect is Defect.TWICE:
            walk = [child for digest in deleted for child in self.world.children[digest] if child in deleted]
            return [*self._parents_first(deleted), *(one for one in sorted(set(walk)) if walk.count(one) > 1)]
        return self._parents_first(deleted)

    def _parents_first(self, deleted: set[str]) -> list[str]:
        return [digest for digest in reversed(self.world.manifests) if digest in deleted]


def _planned(seed: int, defect: Defect) -> tuple[World, list[Change]]:
    world = random_world(seed)
    planner = Planner(world, defect)
    if defect is Defect.OTHER_TAGS:
        other = random_world(seed + 1)
        planner.tags = {tag: digest for tag, digest in other.tags.items() if digest in world.manifests}
        planner.about = {tag: subject for tag, subject in other.about.items() if tag in planner.tags}
    return world, planner.plan()


def test_the_planner_without_a_defect_is_always_proven_and_does_something():
    step_count = 0
    for seed in SEEDS:
        world, steps = _planned(seed, Defect.NONE)
        assert harm_of(world, steps) == "", seed
        assert check(world.evidence(steps)) == (), seed
        step_count += len(steps)
    assert step_count > 2 * len(SEEDS)


@pytest.mark.parametrize("defect", [one for one in Defect if one is not Defect.NONE])
def test_every_plan_that_a_defect_makes_harmful_is_caught_and_no_other(defect):
    harmful_count = 0
    for seed in SEEDS:
        world, steps = _planned(seed, defect)
        harm = harm_of(world, steps)
        assert bool(check(world.evidence(steps))) == bool(harm), (seed, harm)
        harmful_count += bool(harm)
    assert harmful_count >= 20, "the defect does not matter often enough to prove anything"


def test_each_defect_is_told_by_its_name():
    expected = {
        Defect.NO_INDEX_EDGES: Finding.LISTED,
        Defect.NO_NESTED_INDEXES: Finding.LISTED,
        Defect.NO_SUBJECT_OF_KEPT: Finding.SUBJECT_OF_KEPT,
        Defect.NO_REFERRER_OF_KEPT: Finding.REFERRER_OF_KEPT,
        Defect.NO_SPECIAL_TAGS: Finding.REFERRER_OF_KEPT,
        Defect.ONE_TAG_IS_ENOUGH: Finding.TAG_LEFT,
        Defect.FORGETS_A_TAG: Finding.TAG_LEFT,
        Defect.FLIPPED: Finding.KEPT,
        Defect.NO_PROTECTED_DIGESTS: Finding.PROTECTED,
        Defect.NO_PROTECTED_TAGS: Finding.PROTECTED,
        Defect.CHILDREN_FIRST: Finding.ORDER,
        Defect.OTHER_REPOSITORY: Finding.WRONG_REPOSITORY,
        Defect.OTHER_TAGS: Finding.TAG_MOVED,
        Defect.TWICE: Finding.REPEATED,
    }
    assert set(expected) | {Defect.NONE} == set(Defect)
    for defect, finding in expected.items():
        plans = (_planned(seed, defect) for seed in SEEDS)
        assert any(finding in {one.finding for one in check(world.evidence(steps))} for world, steps in plans), defect
