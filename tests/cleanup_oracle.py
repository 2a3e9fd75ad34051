"""What must never happen when a registry is cleaned up, by somebody who sees all of it and shares no code with us.

It looks at every request that changes something before it has its effect, reads bytes with the standard library
alone, and remembers what others did and what we were told of it.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text

from regwarden.core.plan import Plan, Step, StepKind
from regwarden.testing.content import StoredManifest
from regwarden.testing.notifications import Event
from tests.policy_drafts import Draft, Facts
from tests.simulated_registry import SimulatedRegistry

_LATEST = timedelta(days=8)

Place = tuple[str, str]  # repository, and a tag or digest


@dataclass
class Writing:
    """The last time that somebody wrote a tag or digest. ``event_id`` is empty where it was we."""

    digest: str
    at: datetime
    event_id: str = ""
    tag: str = ""
    is_crawled: bool = False


@dataclass
class Race:
    """Somebody wrote something of which we were not told when we deleted it."""

    place: Place
    writing: Writing
    deleted_at: datetime


@dataclass
class Job:
    """The plan that is carried out, and what was agreed to; ``draft`` is its policy, ``None`` for a selection."""

    plan_id: int
    plan: Plan
    agreed: str
    draft: Draft | None
    min_age: timedelta
    is_disturbed: bool = False

    def step(self, kind: StepKind, repository: str, reference: str) -> Step | None:
        for one in self.plan.steps:
            if (one.kind, one.repository) != (kind, repository):
                continue
            if reference == (one.digest if kind is StepKind.DELETE else one.tags[0]):
                return one
        return None


@dataclass
class Taken:
    """What plans removed: when in the order of changes, and where a tag pointed."""

    number: int
    digest: str


@dataclass
class Oracle:
    """The memory of everything. ``applied`` are the events that the inventory has taken in."""

    registry: SimulatedRegistry
    read: Callable[[Callable[[Any], Any]], Any]
    job: Job | None = None
    applied: set[str] = field(default_factory=set)
    dropped: set[str] = field(default_factory=set)
    writings: dict[Place, Writing] = field(default_factory=dict)
    pushes: list[tuple[str, str, str, Event]] = field(default_factory=list)
    pulls: list[tuple[str, str, Event]] = field(default_factory=list)
    acts: dict[str, set[str]] = field(default_factory=dict)
    holds: dict[int, tuple[str, str, str]] = field(default_factory=dict)
    races: list[Race] = field(default_factory=list)
    deleted: set[tuple[int, str, str]] = field(default_factory=set)
    taken: dict[int, dict[Place, Taken]] = field(default_factory=dict)
    changes: dict[Place, tuple[int, int]] = field(default_factory=dict)
    lost_by_others: set[Place] = field(default_factory=set)
    excused: set[tuple[str, str]] = field(default_factory=set)
    placeholders: set[str] = field(default_factory=set)
    number: int = 0
    counts: Counter[str] = field(default_factory=Counter)

    # What others do.

    def note_push(self, repository: str, events: Iterable[Event]) -> None:
        for event in events:
            digest = str(event.digest)
            self._act(repository, event)
            for reference in (digest, *([event.tag] if event.tag else [])):
                self.writings[repository, reference] = Writing(digest, event.at, event.event_id, event.tag)
                self._change((repository, reference), 0)
                self._void((repository, reference))
            self.lost_by_others.discard((repository, digest))
            self.pushes.append((repository, event.tag, digest, event))

    def note_removal(self, repository: str, events: Iterable[Event]) -> None:
        for event in events:
            self._act(repository, event)
            reference = event.tag or str(event.digest)
            self.writings.pop((repository, reference), None)
            self._change((repository, reference), 0)
            self._void((repository, reference))
            if not event.tag:
                self.lost_by_others.add((repository, reference))

    def note_pull(self, repository: str, event: Event) -> None:
        self.pulls.append((repository, str(event.digest), event))

    def note_crawl(self) -> None:
        """A complete reading of the registry: every tag is known now, and what they lead to."""
        for name, here in self.registry.content.repositories.items():
            for tag, digest in here.tags.items():
                for reference in (tag, *self.closure(name, str(digest))):
                    target = str(digest) if reference == tag else reference
                    known = self.writings.setdefault((name, reference), Writing(target, self.registry.clock.now()))
                    known.is_crawled = True

    # What there is.

    def manifests(self, repository: str) -> dict[str, dict[str, Any]]:
        here = self.registry.content.repository(repository)
        return {str(digest): json.loads(one.payload) for digest, one in here.manifests.items()}

    def tags(self, repository: str) -> dict[str, str]:
        return {tag: str(digest) for tag, digest in self.registry.content.repository(repository).tags.items()}

    def closure(self, repository: str, digest: str) -> set[str]:
        found: set[str] = set()
        todo, manifests = [digest], self.manifests(repository)
        while todo:
            one = todo.pop()
            if one not in found:
                found.add(one)
                todo += _children(manifests.get(one, {}))
        return found

    def is_known(self, repository: str, reference: str) -> bool:
        writing = self.writings.get((repository, reference))
        return writing is not None and (not writing.event_id or writing.is_crawled or self.is_told(writing))

    def is_told(self, writing: Writing) -> bool:
        return writing.event_id in self.applied

    def is_exact(self, repository: str) -> bool:
        """Whether we were told of everything that others ever did there, and put nothing back."""
        is_told = self.acts.get(repository, set()) <= self.applied
        return is_told and all(one.event_id for (name, _), one in self.writings.items() if name == repository)

    # What we do.

    def on_delete(self, repository: str, reference: str) -> None:
        """We are about to delete something."""
        job = self._job()
        assert job.agreed == job.plan.fingerprint, "nobody agreed to this plan"
        if ":" not in reference:
            self._on_untag(job, repository, reference)
        elif reference in self.placeholders:
            tags = [tag for tag, digest in self.tags(repository).items() if digest == reference]
            assert all(job.step(StepKind.UNTAG, repository, tag) for tag in tags), (reference, tags)
            self._forget_tags(job, repository, tags, "")
        else:
            self._on_deletion(job, repository, reference)

    def _on_deletion(self, job: Job, repository: str, digest: str) -> None:
        step = job.step(StepKind.DELETE, repository, digest)
        assert step is not None, f"{digest} is not in the plan"
        key = (job.plan_id, repository, digest)
        assert key not in self.deleted, f"{digest} is deleted twice by one plan"
        manifests = self.manifests(repository)
        if digest not in manifests:
            return
        self.deleted.add(key)
        self.counts["deleted"] += 1
        tags = [tag for tag, target in self.tags(repository).items() if target == digest]
        known = {tag for tag in tags if self.is_known(repository, tag)}
        assert known <= set(step.tags), f"{known} are tags of {digest}, the plan has {step.tags}"
        self._check_parents(job, repository, digest, manifests)
        self._check_holds(repository, digest, {*tags, *step.tags})
        self._check_kept(job, step)
        self._check_rules(job, repository, digest, known)
        for reference in (digest, *tags):
            self._check_race((repository, reference))
        self._forget_tags(job, repository, tags, digest)

    def _on_untag(self, job: Job, repository: str, tag: str) -> None:
        step = job.step(StepKind.UNTAG, repository, tag)
        assert step is not None, f"{tag} is not in the plan"
        key = (job.plan_id, repository, tag)
        assert key not in self.deleted, f"{tag} is removed twice by one plan"
        target = self.tags(repository).get(tag)
        if target is None:
            return
        self.deleted.add(key)
        self.counts["untagged"] += 1
        assert target == step.digest or not self.is_known(repository, tag), f"{tag} points to {target}"
        self._check_holds(repository, "", {tag})
        self._check_kept(job, step)
        if self.is_known(repository, tag):
            self._check_rules(job, repository, target, {tag})
        self._check_race((repository, tag))
        self._forget_tags(job, repository, [tag], target)

    def _forget_tags(self, job: Job, repository: str, tags: Iterable[str], digest: str) -> None:
        """What goes now, so that an undo can be judged."""
        taken = self.taken.setdefault(job.plan_id, {})
        steps = {tag: one.digest for one in job.plan.steps if one.repository == repository for tag in one.tags}
        is_manifest = job.step(StepKind.DELETE, repository, digest) is not None
        for reference in (*([digest] if is_manifest else []), *tags):
            self._change((repository, reference), job.plan_id)
            taken[repository, reference] = Taken(self.number, digest or steps.get(reference, ""))
            self.writings.pop((repository, reference), None)

    def _check_parents(self, job: Job, repository: str, digest: str, manifests: dict[str, dict[str, Any]]) -> None:
        """No index that we know lists it any more, and nothing that stays refers to it."""
        for parent, document in manifests.items():
            is_known = self._knows_manifest(repository, parent, manifests)
            if digest in _children(document):
                assert not is_known, f"{digest} goes before the index {parent}, which lists it"
                self.excused.add((repository, digest))
                for reference in self._names_of(repository, parent):
                    self._check_race((repository, reference))
            elif is_known and document.get("subject", {}).get("digest") == digest:
                names = {repository, parent, *self._names_of(repository, parent)}
                held = [hold for hold in self.holds.values() if hold[0] == repository and names & {*hold[1:]}]
                assert not held, f"{digest} goes, {parent} refers to it and is held"
                assert job.step(StepKind.DELETE, repository, parent) or not [
                    tag for tag in self._names_of(repository, parent) if not tag.startswith("sha256") and ":" not in tag
                ], f"{digest} goes, {parent} refers to it and stays"

    def _names_of(self, repository: str, digest: str) -> list[str]:
        return [digest, *(tag for tag, target in self.tags(repository).items() if target == digest)]

    def _knows_manifest(self, repository: str, digest: str, manifests: dict[str, dict[str, Any]]) -> bool:
        if any(self.is_known(repository, one) for one in self._names_of(repository, digest)):
            return True
        above = [one for one, document in manifests.items() if digest in _children(document)]
        return any(self._knows_manifest(repository, one, manifests) for one in above)

    def _check_holds(self, repository: str, digest: str, tags: set[str]) -> None:
        for name, tag, held in self.holds.values():
            if name == repository:
                assert tag or held, "the repository is held"
                assert held != digest or not held, f"{digest} is held"
                assert tag not in tags or not tag, f"{tag} is held"

    def _check_kept(self, job: Job, step: Step) -> None:
        """The bytes are in the trash, and the intent is the last thing that was written about the step."""
        kept, entries = self.read(
            lambda connection: (
                connection.execute(
                    text(
                        "SELECT t.payload FROM trash_entries e JOIN trash t ON t.digest = e.digest WHERE plan_id = :p"
                    ),
                    {"p": job.plan_id},
                ).all(),
                connection.execute(
                    text("SELECT entry FROM journal WHERE plan_id = :p AND position = :n ORDER BY id"),
                    {"p": job.plan_id, "n": step.position},
                ).all(),
            )
        )
        payloads = {"sha256:" + hashlib.sha256(zlib.decompress(row[0])).hexdigest() for row in kept}
        missing = {
            one
            for one in self.closure(step.repository, step.digest)
            if self.registry.find(step.repository, one) is not None
        } - payloads
        assert not missing, f"not in the trash: {missing}"
        assert entries, "nothing is written about the step"
        assert entries[-1][0] == "intent"

    def _check_rules(self, job: Job, repository: str, digest: str, tags: set[str]) -> None:
        """By what we were told, the policy lets these tags go now."""
        now = self.registry.clock.now()
        told = [
            (tag, target, event.at)
            for name, tag, target, event in self.pushes
            if name == repository and event.event_id in self.applied
        ]
        latest = max((at for _, target, at in told if target == digest), default=None)
        assert latest is None or latest <= now - job.min_age, f"{digest} was pushed at {latest}, it is {now}"
        if job.draft is None:
            return
        manifests = self.manifests(repository)
        # What is about something else is not counted, and goes with it.
        specials = {one for one, document in manifests.items() if document.get("artifactType")}
        current = {tag: target for tag, target in self.tags(repository).items() if target not in specials}
        facts = Facts(
            now=now,
            tagged_at={
                tag: max((at for name, target, at in told if (name, target) == (tag, current[tag])), default=None)
                for tag in current
            },
            digest_of=current,
            pulled_at=max(
                (
                    e.at
                    for name, one, e in self.pulls
                    if (name, one) == (repository, digest) and e.event_id in self.applied
                ),
                default=None,
            ),
            is_exact=self.is_exact(repository),
        )
        for tag in sorted(tags):
            assert not job.draft.protects or not tag.startswith("prod"), f"{repository}:{tag} is protected"
            if tag in current and not tag.startswith("sha256-"):
                why = job.draft.forbids(tag, facts)
                assert not why, f"{repository}:{tag}: {why}"

    def _check_race(self, place: Place) -> None:
        writing = self.writings.get(place)
        self._void(place)  # what was lost before is put back by now, or was not there to be deleted
        if writing is None or not writing.event_id or self.is_told(writing):
            return
        # Who pushed it under a tag and pointed that elsewhere does not miss it.
        if not writing.tag or place[1] == writing.tag:
            self.races.append(Race(place, writing, self.registry.clock.now()))

    def on_put(self, repository: str, reference: str, payload: bytes) -> None:
        """We are about to put something back, or a placeholder."""
        job = self._job()
        digest = "sha256:" + hashlib.sha256(payload).hexdigest()
        document = json.loads(payload)
        current = self.tags(repository).get(reference)
        if not document.get("layers", document.get("manifests")):
            step = job.step(StepKind.UNTAG, repository, reference)
            assert step is not None
            assert step.with_placeholder
            assert current == step.digest or not self.is_known(repository, reference), f"{reference} is {current}"
            self.placeholders.add(digest)
            self._check_holds(repository, "", {reference})
            self._check_race((repository, reference))
            return
        is_free = current is None or current == digest or current in self.placeholders
        assert is_free or job.is_disturbed, f"{reference} points to {current} and is pointed to {digest}"
        self.counts["put"] += 1
        self._change((repository, reference), -job.plan_id)
        self.writings[repository, reference] = Writing(digest, self.registry.clock.now())

    # What must be so whenever nobody is at work.

    def check_indexes(self) -> None:
        """No index lacks a child, unless somebody else removed it."""
        for name in self.registry.content.repositories:
            manifests = self.manifests(name)
            for index, document in manifests.items():
                for child in _children(document):
                    is_excused = (name, child) in self.excused or (name, child) in self.lost_by_others
                    assert child in manifests or is_excused, f"the index {index} lacks {child}"

    def check_races(self) -> None:
        """Everything that was pushed while we deleted it, and of which we know by now, is there."""
        for race in list(self.races):
            (name, reference), now = race.place, self.registry.clock.now()
            is_late = now - race.deleted_at > _LATEST
            if race.writing.event_id in self.dropped or is_late:
                self.races.remove(race)
                continue
            if race.writing.event_id not in self.applied:
                continue
            digest = race.writing.digest
            if ":" not in reference:
                assert self.tags(name).get(reference) == digest, f"{name}:{reference} was lost"
            missing = {one for one in self.closure(name, digest) if (name, one) not in self.lost_by_others}
            missing -= self.manifests(name).keys()
            assert not missing, f"{name}:{reference} lacks {missing}"
            self.counts["restored"] += 1
            self.races.remove(race)
            self.excused -= {(name, one) for one in self.closure(name, digest)}

    def missing_after_undo(self, plan_id: int) -> Iterator[tuple[Place, Taken]]:
        """What a plan took, nobody else has touched since, and is not as it was."""
        for place, taken in self.taken.get(plan_id, {}).items():
            number, who = self.changes[place]
            if number != taken.number and who != -plan_id:
                continue
            name, reference = place
            is_there = reference in self.manifests(name) if ":" in reference else False
            if not (is_there or (taken.digest and self.tags(name).get(reference) == taken.digest)):
                yield place, taken

    def _job(self) -> Job:
        assert self.job is not None, "nothing is to be changed now"
        return self.job

    def _act(self, repository: str, event: Event) -> None:
        self.acts.setdefault(repository, set()).add(event.event_id)

    def _change(self, place: Place, who: int) -> None:
        self.number += 1
        self.changes[place] = (self.number, who)

    def _void(self, place: Place) -> None:
        self.races = [one for one in self.races if one.place != place]


def _children(document: dict[str, Any]) -> list[str]:
    return [part["digest"] for part in document.get("manifests", ())]


def find_missing_blobs(manifest: StoredManifest, blobs: Iterable[str]) -> set[str]:
    """The blobs that a manifest names and that are not there."""
    document = json.loads(manifest.payload)
    parts = [part for part in (document.get("config"), *document.get("layers", ())) if part]
    return {part["digest"] for part in parts} - set(blobs)
