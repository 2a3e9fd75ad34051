"""Made-up histories of a repository, and a slow replay of them that looks at each moment anew."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from regwarden.core.observed import (
    LastPull,
    ObservedManifest,
    ObservedRegistry,
    ObservedRepository,
    ObservedTag,
    TagState,
)
from regwarden.core.plan import Step, StepKind
from regwarden.core.planning import PlanInputs, plan_repository
from regwarden.core.policy import Policy
from regwarden.core.recorded import ManifestLife, PullDay, RecordedRepository, TagMark
from regwarden.core.retention import collect_policies, evaluate

START = datetime(2026, 8, 1, tzinfo=UTC)
DAYS = 60
REGISTRY = ObservedRegistry(name="hub", events_since=START, can_untag=True, coverage="complete")
MINUTE = timedelta(minutes=1)


def digest_of(number: int) -> str:
    return f"sha256:{number:064x}"


def random_history(seed: int) -> RecordedRepository:
    """Pushes, tags that move, come back and vanish, deletions, pulls by tag and by digest, nested indexes."""
    dice = random.Random(seed)
    moments = iter(dice.sample(range(1, DAYS * 1440), 200))
    digests = [digest_of(number) for number in range(1, dice.randint(3, 9))]
    children = {
        digest: tuple(dice.sample(digests[:place], min(place, 2))) if dice.random() < 0.35 else ()
        for place, digest in enumerate(digests)
    }
    at = lambda: START + next(moments) * MINUTE  # noqa: E731 - short and used often
    lives = {}
    for digest in digests:
        pushes = tuple(sorted(at() for _ in range(dice.choice([0, 1, 1, 2]))))
        seen = () if pushes and dice.random() < 0.5 else (START,)
        lives[digest] = ManifestLife(
            ObservedManifest(
                digest=digest,
                media_type="application/vnd.oci.image.manifest.v1+json",
                is_read=True,
                first_seen_at=min((*seen, *pushes)),
                is_pushed_exact=not seen,
                is_index=bool(children[digest]),
                children=children[digest],
            ),
            tuple(sorted((*seen, *pushes))),
            pushes,
            tuple(sorted(at() for _ in range(dice.choice([0, 0, 0, 1])))),
        )
    tags = {}
    for name in ("1.0", "1.1", "dev-1", "dev-2", "latest"):
        moves = sorted(at() for _ in range(dice.randint(0, 4)))
        tags[name] = tuple(
            TagMark(one, dice.choice([*digests, None]) if place else dice.choice(digests), dice.random() < 0.8)
            for place, one in enumerate(moves)
        )
    pulls = sorted(
        PullDay(
            at(),
            dice.choice(digests),
            dice.choice(["", *tags]),
            dice.choice(["ci", "scanner"]),
            "GET",
            dice.randint(1, 9),
        )
        for _ in range(dice.randint(0, 30))
    )
    contents = {digest: (-place, *dice.sample(range(1, 12), 3)) for place, digest in enumerate(digests, 1)}
    return RecordedRepository(
        registry="hub", name="team/app", tags=tags, lives=lives, pulls=tuple(pulls), contents=contents
    )


@dataclass
class SlowReplay:
    """The same question, answered from the definitions: nothing is carried from one moment to the next but removals."""

    recorded: RecordedRepository
    policy: Policy
    untagged: list[tuple[str, datetime]] = field(default_factory=list)
    deleted: list[tuple[str, datetime]] = field(default_factory=list)

    def run(self, moments: Sequence[datetime]) -> Iterator[tuple[Step, ...]]:
        collected = collect_policies([self.policy], "hub", "team/app")
        assert collected is not None
        for now in moments:
            observed = self.observe(now)
            verdicts = evaluate(collected, observed, REGISTRY, holds=(), now=now)
            inputs = PlanInputs(
                registries={"hub": REGISTRY}, snapshots={}, now=now, made_by="", policies=collected.policies
            )
            steps = plan_repository(inputs, observed, verdicts, collected.policies).steps
            for step in steps:
                self.untagged += [(tag, now) for tag in step.tags]
                if step.kind is StepKind.DELETE:
                    self.deleted.append((step.digest, now))
            yield steps

    def observe(self, now: datetime) -> ObservedRepository:
        here = {digest: self.recorded.lives[digest] for digest in self.recorded.lives if self.exists(digest, now)}
        tags = {tag: mark for tag in self.recorded.tags if (mark := self.mark(tag, now)) is not None}
        return ObservedRepository(
            registry="hub",
            name="team/app",
            tags=tuple(
                ObservedTag(tag, mark.digest, TagState.OK if mark.digest in here else TagState.DANGLING, *mark[::2])
                for tag, mark in tags.items()
            ),
            manifests={digest: self._manifest(digest, now, tags) for digest in here},
        )

    def mark(self, tag: str, now: datetime) -> TagMark | None:
        past = [mark for mark in self.recorded.tags[tag] if mark.at <= now]
        if not past or past[-1].digest is None:
            return None
        is_removed = any(one == tag and past[-1].at <= at <= now for one, at in self.untagged)
        return None if is_removed else past[-1]

    def exists(self, digest: str, now: datetime) -> bool:
        return any(
            not any(at < gone <= now for gone in self.recorded.lives[digest].departures)
            and not any(one == digest and at <= gone <= now for one, gone in self.deleted)
            for at in self.arrivals(digest)
            if at <= now
        )

    def arrivals(self, digest: str) -> set[datetime]:
        life = self.recorded.lives[digest]
        own = {*life.arrivals, *life.pushes}
        own |= {mark.at for marks in self.recorded.tags.values() for mark in marks if mark.digest == digest}
        parents = [one for one, other in self.recorded.lives.items() if digest in other.manifest.children]
        return own | {at for one in parents for at in self.arrivals(one) if min(own) <= at}

    def blame(self, pull: PullDay) -> datetime | None:
        """When what a pull asked for was removed, if it was away because of that."""
        if pull.tag:
            marks = [mark.at for mark in self.recorded.tags[pull.tag]]
            for tag, at in reversed(self.untagged):
                if tag == pull.tag and at <= pull.last_at and not any(at < one <= pull.last_at for one in marks):
                    return at
        arrivals = self.arrivals(pull.digest)
        for digest, at in reversed(self.deleted):
            if digest == pull.digest and at < pull.last_at and not any(at < one <= pull.last_at for one in arrivals):
                return at
        return None

    def _manifest(self, digest: str, now: datetime, tags: dict[str, TagMark]) -> ObservedManifest:
        life = self.recorded.lives[digest]
        pushed_at = max((at for at in life.pushes if at <= now), default=None)
        left_at, is_exact = None, False
        if all(mark.digest != digest for mark in tags.values()):
            first = life.manifest.first_seen_at
            left_at = max(first, pushed_at or first)
            is_exact = life.manifest.is_pushed_exact and left_at == first
            if ends := [end for tag in self.recorded.tags for end in self._ends(tag, digest, now)]:
                left_at, is_exact = max(ends)
        return life.manifest._replace(
            last_pushed_at=pushed_at, untagged_since=left_at, is_untagged_exact=is_exact, pulls=self._pulls(digest, now)
        )

    def _ends(self, tag: str, digest: str, now: datetime) -> Iterator[tuple[datetime, bool]]:
        """When a tag ceased to point to a digest: it was moved, removed, or the policy removed it."""
        marks = [mark for mark in self.recorded.tags[tag] if mark.at <= now]
        for place, mark in enumerate(marks):
            if mark.digest != digest:
                continue
            following = marks[place + 1] if place + 1 < len(marks) else None
            until = following.at if following is not None else now + MINUTE
            removed = [at for one, at in self.untagged if one == tag and mark.at <= at < until and at <= now]
            if removed:
                yield min(removed), True
            elif following is not None and following.digest != digest:
                yield following.at, following.is_told

    def _pulls(self, digest: str, now: datetime) -> tuple[LastPull, ...]:
        below = self._below(digest)
        last: dict[tuple[str, str, str], datetime] = {}
        for pull in self.recorded.pulls:
            is_asked = pull.digest == digest or (not pull.tag and pull.digest in below)
            if pull.last_at <= now and is_asked and self.blame(pull) is None:
                last[pull.pull_class, pull.method, pull.tag] = pull.last_at
        return tuple(LastPull(at, *key) for key, at in sorted(last.items()))

    def _below(self, digest: str) -> set[str]:
        children = self.recorded.lives[digest].manifest.children
        return {*children, *(one for child in children for one in self._below(child))}
