"""Random repositories with their raw bytes, and what harms them: found by carrying steps out and looking."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from regwarden.core.proof import Change, Evidence

REGISTRY, REPOSITORY = "prod", "team/app"
IMAGE_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
LIST_TYPE = "application/vnd.docker.distribution.manifest.list.v2+json"


def digest_of(payload: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, payload).hexdigest()}"


def descriptor(digest: str, media_type: str = IMAGE_TYPE) -> dict[str, object]:
    return {"mediaType": media_type, "digest": digest, "size": 100}


def image_bytes(name: str, subject: str | None = None) -> bytes:
    document: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": IMAGE_TYPE,
        "config": descriptor(digest_of(name.encode()), "application/vnd.oci.image.config.v1+json"),
        "layers": [],
    }
    if subject is not None:
        document["subject"] = descriptor(subject)
    return json.dumps(document).encode()


def index_bytes(name: str, children: Iterable[str], subject: str | None = None, media_type: str = INDEX_TYPE) -> bytes:
    document: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "manifests": [descriptor(child) for child in children],
        "annotations": {"name": name},
    }
    if subject is not None:
        document["subject"] = descriptor(subject)
    return json.dumps(document).encode()


@dataclass
class World:
    """A repository. ``children``, ``subjects`` and ``about`` (of special tags) are what was meant, not what is read."""

    manifests: dict[str, bytes] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    children: dict[str, tuple[str, ...]] = field(default_factory=dict)
    subjects: dict[str, str] = field(default_factory=dict)
    about: dict[str, str] = field(default_factory=dict)
    protected: frozenset[str] = frozenset()
    kept: frozenset[str] = frozenset()
    named: frozenset[str] = frozenset()

    def image(self, name: str, *, subject: str | None = None, algorithm: str = "sha256") -> str:
        return self._add(image_bytes(name, subject), (), subject, algorithm)

    def index(self, name: str, *children: str, subject: str | None = None, media_type: str = INDEX_TYPE) -> str:
        return self._add(index_bytes(name, children, subject, media_type), children, subject, "sha256")

    def _add(self, payload: bytes, children: tuple[str, ...], subject: str | None, algorithm: str) -> str:
        digest = digest_of(payload, algorithm)
        self.manifests[digest] = payload
        self.children[digest] = children
        if subject is not None:
            self.subjects[digest] = subject
        return digest

    def tag_about(self, subject: str, suffix: str, digest: str) -> str:
        name = subject[:71].replace(":", "-") + suffix
        self.tags[name] = digest
        self.about[name] = subject
        return name

    def evidence(self, steps: Sequence[Change], **changed) -> Evidence:
        fields = {
            "registry": REGISTRY,
            "repository": REPOSITORY,
            "existing": frozenset(self.manifests),
            "manifests": self.manifests,
            "tags": self.tags,
            "steps": tuple(steps),
            "protected": self.protected,
            "kept": self.kept,
            "named": self.named,
        }
        return Evidence(**{**fields, **changed})


def delete(digest: str, *tags: str, repository: str = REPOSITORY) -> Change:
    return Change("delete", REGISTRY, repository, digest, tags)


def untag(digest: str, tag: str, repository: str = REPOSITORY) -> Change:
    return Change("untag", REGISTRY, repository, digest, (tag,))


def random_world(seed: int) -> World:
    """Images, indexes of indexes, shared children, several tags, referrers of both kinds; protections and verdicts."""
    dice = random.Random(seed)
    world = World()
    known = [world.image(f"image {number}") for number in range(dice.randint(1, 5))]
    if dice.random() < 0.2:
        known.append(world.image("long", algorithm="sha512"))
    absent = digest_of(b"never pushed")
    for number in range(dice.randint(0, 5)):
        children = dice.sample([*known, absent], dice.randint(0, min(3, len(known))))
        subject = dice.choice(known) if dice.random() < 0.15 else None
        media_type = dice.choice([INDEX_TYPE, LIST_TYPE])
        known.append(world.index(f"index {number}", *children, subject=subject, media_type=media_type))
    for number in range(dice.randint(0, 4)):
        known.append(world.image(f"referrer {number}", subject=dice.choice([*known, absent])))
    for number in range(dice.randint(1, 7)):
        world.tags[f"v{number}"] = dice.choice(known)
    for number in range(dice.randint(0, 3)):
        subject = dice.choice(known)
        if dice.random() < 0.5:
            world.tag_about(subject, dice.choice([".sig", ".att", ".sbom"]), world.image(f"signature {number}"))
        else:
            referrer = world.image(f"attached {number}", subject=subject)
            world.tag_about(subject, "", world.index(f"fallback {number}", referrer))
    names = sorted([*world.tags, *world.manifests])
    world.protected = frozenset(one for one in names if dice.random() < 0.06)
    ordinary = sorted(set(world.tags) - set(world.about))
    world.kept = frozenset(one for one in ordinary if dice.random() < 0.4)
    world.named = frozenset(one for one in sorted(world.about) if one not in world.protected and dice.random() < 0.15)
    return world


def harm_of(world: World, steps: Sequence[Change]) -> str:
    """What the steps break that they must not; empty if nothing. Every state in between is looked at as a whole."""
    tags, existing, announced = dict(world.tags), set(world.manifests), set()
    for step in steps:
        if (step.registry, step.repository) != (REGISTRY, REPOSITORY):
            return "another repository"
        if any(tags.get(tag) != step.digest for tag in step.tags) or step.digest not in existing:
            return "a step about what is not there"
        announced |= set(step.tags)
        for tag in step.tags:
            del tags[tag]
        if step.kind == "delete":
            existing.discard(step.digest)
            tags = {tag: digest for tag, digest in tags.items() if digest != step.digest}
        if set(world.tags) - announced - set(tags):
            return "a tag is gone that no step names"
        for index in existing:
            if set(world.children[index]) & set(world.manifests) - existing:
                return "an index lacks a child"
    return _lasting_harm(world, tags, existing)


def _lasting_harm(world: World, tags: dict[str, str], existing: set[str]) -> str:
    everything = set(world.manifests) | set(world.tags)
    if (world.protected | world.kept) & everything - existing - set(tags):
        return "something protected or kept is gone"
    anchored = set(tags.values()) | (world.protected & existing)
    anchored |= {child for index in existing for child in world.children[index]}
    for referrer, subject in world.subjects.items():
        if referrer in anchored & existing and subject in world.manifests and subject not in existing:
            return "a kept referrer lost its subject"
        was_free = referrer not in world.tags.values() and not _goes_with_index(world, referrer, existing)
        if referrer not in existing and subject in existing and was_free and referrer not in world.named:
            return "a subject lost its referrer"
    for tag, subject in world.about.items():
        if tag in tags and subject not in existing:
            return "a kept special tag lost its subject"
        if tag not in tags and subject in existing and tag not in world.named:
            return "a subject lost its special tag"
    return ""


def _goes_with_index(world: World, digest: str, existing: set[str]) -> bool:
    return any(digest in children and index not in existing for index, children in world.children.items())
