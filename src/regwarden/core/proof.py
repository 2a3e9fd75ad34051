"""Does a plan, step by step, leave everything standing that it must not touch? Answered from the raw bytes alone.

A second opinion: it shares no code with what evaluates policies and builds plans, reads JSON on its own and believes
only bytes that fit their digest. Edges: an index holds what it lists, a kept referrer (by ``subject``, or a tag such as
``sha256-….sig``) its subject, a kept subject its referrers. Configs and layers are no edges: no step removes blobs.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NamedTuple

# What parses may recurse, and hostile documents are deep or wide; real ones stay far below.
_MAX_BYTES: Final = 4 * 1024 * 1024
_MAX_DEPTH: Final = 32
_MAX_BRACKETS: Final = 200_000
_NEVER: Final = float("inf")

_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
# Strings (also one without an end, so that the search stays linear) and brackets.
_TOKEN: Final = re.compile(rb'"[^"\\]*+(?:\\(?:.|\Z)[^"\\]*+)*+(?:"|\Z)|[\[\]{}]', re.DOTALL)
# cosign, and the referrers tag schema of the OCI distribution specification 1.1 (at most 64 digits of the digest).
_SPECIAL_TAG: Final = re.compile(
    r"(?:sha256-(?P<whole>[0-9a-f]{64})|sha512-(?P<start>[0-9a-f]{64})(?:[0-9a-f]{64})?)(?:\.(?:sig|att|sbom))?"
)

_IMAGES: Final = frozenset(
    {"application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"}
)
_INDEXES: Final = frozenset(
    {"application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"}
)


class Finding(StrEnum):
    """What is wrong with a plan, or with what it was made from."""

    WRONG_REPOSITORY = "wrong-repository"  # a step is for another repository
    BAD_STEP = "bad-step"  # neither an untag of one tag nor a delete
    LEFT_IN_DROPPED = "left-in-dropped"  # a repository goes before everything in it
    REPEATED = "repeated"  # a manifest or tag is removed twice
    UNKNOWN_MANIFEST = "unknown-manifest"  # a step deletes what does not exist here
    UNKNOWN_TAG = "unknown-tag"  # a step removes a tag that does not exist here
    TAG_MOVED = "tag-moved"  # a step removes a tag that points elsewhere
    TAG_LEFT = "tag-left"  # a deleted manifest has a tag of which no step says that it goes
    TARGET_UNKNOWN = "target-unknown"  # nobody knows what a tag points to
    KEPT = "kept"  # the verdicts say that it stays
    PROTECTED = "protected"
    LISTED = "listed"  # an index that stays lists a manifest that goes
    ORDER = "order"  # a manifest goes before an index that lists it
    SUBJECT_OF_KEPT = "subject-of-kept"  # a referrer that stays is about a manifest that goes
    REFERRER_OF_KEPT = "referrer-of-kept"  # a referrer goes that nobody named, and its subject stays
    MISSING_BYTES = "missing-bytes"
    WRONG_BYTES = "wrong-bytes"  # the bytes do not have this digest
    UNREADABLE = "unreadable"  # no manifest, or one that different readers would understand differently
    # Only ever notes: nothing that stays is harmed.
    ORPHANED = "orphaned"  # an untagged referrer stays, or a tag about it whose target stays anyway; its subject goes
    INDEX_TAKES_REFERRER = "index-takes-referrer"  # a referrer goes with its index, its subject stays
    REFERRER_FIRST = "referrer-first"  # both go, the referrer before its subject


class Change(NamedTuple):
    """One step. ``untag`` removes its one tag; ``delete`` removes the digest and with it all of its tags.

    ``drop`` removes the repository.
    """

    kind: str
    registry: str
    repository: str
    digest: str
    tags: tuple[str, ...] = ()


class Violation(NamedTuple):
    """One finding about a digest (or a tag, where no digest is known), in words."""

    finding: Finding
    subject: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What exists in one repository, and what a plan does to it.

    ``existing`` are all manifests there, ``manifests`` their exact bytes, ``tags`` what each tag points to (``None``:
    unknown), ``dangling`` the tags of which it is proven that they lead nowhere, ``steps`` the changes in their order.
    ``protected`` are digests and tags that nothing may remove, as they are now; ``kept`` those whose verdict is another
    one than remove. ``named`` are special tags and untagged referrers that a rule or a person named themselves: only
    they may go while their subject stays. ``leaves_special_tags``: the policy wants signatures and the like to be
    named; a special tag that nobody named may then stay without its subject.
    """

    registry: str
    repository: str
    existing: Collection[str]
    manifests: Mapping[str, bytes]
    tags: Mapping[str, str | None]
    steps: Sequence[Change]
    dangling: frozenset[str] = frozenset()
    protected: frozenset[str] = frozenset()
    kept: frozenset[str] = frozenset()
    named: frozenset[str] = frozenset()
    leaves_special_tags: bool = False


class Proof(NamedTuple):
    """What the check found. Without ``violations`` the plan is proven for this repository."""

    violations: tuple[Violation, ...]
    notes: tuple[Violation, ...]
    manifest_count: int
    edge_count: int


def check(evidence: Evidence) -> tuple[Violation, ...]:
    """What forbids to carry out the steps; empty if it is proven that they harm nothing that stays. Never raises."""
    return examine(evidence).violations


def examine(evidence: Evidence) -> Proof:
    """The same with what is worth knowing besides. Time is linear in bytes, tags and steps; never raises.

    Proven means: after every step, and so wherever it is broken off, every tag and protected digest that no step
    removes has everything that it had, every index that exists has every child that it had, and no referrer has
    lost its subject or the other way round, except as the steps' own tags and ``named`` say.
    """
    run = _Run(evidence, frozenset(evidence.existing))
    run.walk_steps()
    run.compare_tags()
    run.compare_drop()
    run.compare_stays()
    run.walk_manifests()
    run.compare_referrers()
    run.compare_special_tags()
    return Proof(tuple(sorted(set(run.violations))), tuple(sorted(set(run.notes))), len(run.existing), run.edge_count)


@dataclass(slots=True)
class _Run:
    """One check under way. ``deleted`` and ``untagged`` say at which step a digest or tag goes first."""

    evidence: Evidence
    existing: frozenset[str]
    deleted: dict[str, int] = field(default_factory=dict)
    untagged: dict[str, int] = field(default_factory=dict)
    held: set[str] = field(default_factory=set)  # targets of tags that stay, protected, or listed by what stays
    taken: set[str] = field(default_factory=set)  # listed by an index that goes
    listed: set[str] = field(default_factory=set)  # listed by an index that stays
    referrers: list[tuple[str, str]] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    notes: list[Violation] = field(default_factory=list)
    edge_count: int = 0
    is_dropped: bool = False

    def walk_steps(self) -> None:
        for position, step in enumerate(self.evidence.steps):
            if (step.registry, step.repository) != (self.evidence.registry, self.evidence.repository):
                text = f"step {position} is for {_quote(step.registry)} {_quote(step.repository)}"
                self._forbid(Finding.WRONG_REPOSITORY, step.digest, text)
            elif step.kind == "delete":
                self._note_deletion(position, step.digest)
                self._note_tags(position, step)
            elif step.kind == "untag" and len(step.tags) == 1:
                self._note_tags(position, step)
            elif step.kind == "drop" and not step.tags and not step.digest:
                self._note_drop(position)
            else:
                self._forbid(Finding.BAD_STEP, step.digest, f"step {position} neither deletes nor removes one tag")

    def _note_drop(self, position: int) -> None:
        self.is_dropped = True
        if position != len(self.evidence.steps) - 1:
            text = f"step {position} removes the repository, and others follow"
            self._forbid(Finding.LEFT_IN_DROPPED, self.evidence.repository, text)

    def compare_drop(self) -> None:
        """A repository goes only after each of its tags and manifests, and only if nothing in it is protected."""
        if not self.is_dropped:
            return
        left = {*self.evidence.tags} - self.untagged.keys() | self.existing - self.deleted.keys()
        left |= self.evidence.protected | self.evidence.kept
        for name in left:
            self._forbid(Finding.LEFT_IN_DROPPED, name, f"the repository goes, and {_quote(name)} does not before it")

    def _note_deletion(self, position: int, digest: str) -> None:
        if digest not in self.existing:
            self._forbid(Finding.UNKNOWN_MANIFEST, digest, f"step {position} deletes what does not exist")
        if self.deleted.setdefault(digest, position) != position:
            self._forbid(Finding.REPEATED, digest, f"step {position} deletes it again")

    def _note_tags(self, position: int, step: Change) -> None:
        for tag in step.tags:
            if tag not in self.evidence.tags:
                self._forbid(Finding.UNKNOWN_TAG, step.digest, f"step {position} removes {_quote(tag)}, no tag here")
            elif self.evidence.tags[tag] != step.digest:
                self._forbid(
                    Finding.TAG_MOVED, step.digest, f"step {position} removes {_quote(tag)}, which is another's"
                )
            if tag in self.untagged:
                self._forbid(Finding.REPEATED, step.digest, f"step {position} removes the tag {_quote(tag)} again")
            else:
                self.untagged[tag] = position

    def compare_tags(self) -> None:
        """Every tag leads somewhere known, and none of a deleted manifest goes in silence."""
        for tag, digest in self.evidence.tags.items():
            if digest is None or digest not in self.existing:
                if tag not in self.evidence.dangling:
                    self._forbid(Finding.TARGET_UNKNOWN, tag, f"the tag {_quote(tag)} leads to nothing that is known")
                continue
            gone_at = self.untagged.get(tag, _NEVER)
            if gone_at == _NEVER:
                self.held.add(digest)
            if gone_at > self.deleted.get(digest, _NEVER):
                self._forbid(Finding.TAG_LEFT, digest, f"it goes, and with it the tag {_quote(tag)}, unsaid")

    def compare_stays(self) -> None:
        """What is protected or has another verdict than remove is in no step."""
        self.held |= self.evidence.protected
        for names, finding in ((self.evidence.protected, Finding.PROTECTED), (self.evidence.kept, Finding.KEPT)):
            for name in names:
                if name in self.deleted or name in self.untagged:
                    self._forbid(finding, name, f"{_quote(name)} is removed and must stay")

    def walk_manifests(self) -> None:
        """Every byte string is what its digest says, and no index loses what it lists before it goes itself."""
        for digest in self.existing:
            payload = self.evidence.manifests.get(digest)
            if payload is None:
                self._forbid(Finding.MISSING_BYTES, digest, "its bytes are not at hand")
            elif not _is_digest_of(digest, payload):
                self._forbid(Finding.WRONG_BYTES, digest, "its bytes do not have this digest")
            else:
                try:
                    children, subject = _read_edges(payload)
                except _Unreadable as problem:
                    self._forbid(Finding.UNREADABLE, digest, str(problem))
                    continue
                self._compare_children(digest, children)
                if subject in self.existing:
                    self.edge_count += 1
                    self.referrers.append((digest, subject))

    def _compare_children(self, digest: str, children: list[str]) -> None:
        self.edge_count += len(children)
        gone_at = self.deleted.get(digest, _NEVER)
        if gone_at == _NEVER:
            self.held.update(children)
            self.listed.update(children)
        else:
            self.taken.update(children)
        for child in children:
            child_gone_at = self.deleted.get(child, _NEVER)
            if child_gone_at < gone_at:
                finding = Finding.LISTED if gone_at == _NEVER else Finding.ORDER
                when = "stays" if gone_at == _NEVER else "goes later"
                self._forbid(finding, child, f"it goes, and {digest}, which lists it, {when}")

    def compare_referrers(self) -> None:
        """Referrers by ``subject``: who is tagged, protected or listed stays with its subject, and goes after it."""
        tagged = {digest for digest in self.evidence.tags.values() if digest is not None}
        for referrer, subject in self.referrers:
            gone_at, subject_gone_at = (self.deleted.get(one, _NEVER) for one in (referrer, subject))
            if gone_at == _NEVER and subject_gone_at < _NEVER:
                target, finding = self.notes, Finding.ORPHANED
                if referrer in self.held:
                    target, finding = self.violations, Finding.SUBJECT_OF_KEPT
                target.append(Violation(finding, subject, f"it goes, and {referrer}, which is about it, stays"))
            elif gone_at < _NEVER and subject_gone_at == _NEVER:
                if referrer in tagged or referrer in self.evidence.named:
                    continue
                target, finding = self.violations, Finding.REFERRER_OF_KEPT
                if referrer in self.taken:
                    target, finding = self.notes, Finding.INDEX_TAKES_REFERRER
                target.append(Violation(finding, referrer, f"it goes, and {subject}, which it is about, stays"))
            elif gone_at < subject_gone_at:
                self._note_order(referrer, subject)

    def compare_special_tags(self) -> None:
        """The same for tags that name their subject.

        One whose target has another reason to stay (an empty list of referrers is the same for all) may be left over.
        """
        about = dict(self._find_special_tags())
        lasting = set(self.listed)
        for tag, digest in self.evidence.tags.items():
            if digest is not None and tag not in self.untagged and self.deleted.get(about.get(tag, "")) is None:
                lasting.add(digest)
        for tag, subject in about.items():
            self.edge_count += 1
            gone_at, subject_gone_at = self.untagged.get(tag, _NEVER), self.deleted.get(subject, _NEVER)
            if gone_at == _NEVER and subject_gone_at < _NEVER:
                may_stay = tag not in self.evidence.protected and self.evidence.tags[tag] in lasting
                if self.evidence.leaves_special_tags or may_stay:
                    self.notes.append(Violation(Finding.ORPHANED, subject, f"the tag {_quote(tag)} about it stays"))
                else:
                    self._forbid(Finding.SUBJECT_OF_KEPT, subject, f"it goes, and the tag {_quote(tag)} about it stays")
            elif gone_at < _NEVER and subject_gone_at == _NEVER:
                if tag not in self.evidence.named:
                    self._forbid(Finding.REFERRER_OF_KEPT, subject, f"the tag {_quote(tag)} about it goes, it stays")
            elif gone_at < subject_gone_at:
                self._note_order(tag, subject)

    def _find_special_tags(self) -> Iterator[tuple[str, str]]:
        """Tags that name a manifest which exists, with it."""
        long = {one[len("sha512:") :][:64]: one for one in self.existing if one.startswith("sha512:")}
        for tag, digest in self.evidence.tags.items():
            match = _SPECIAL_TAG.fullmatch(tag)
            if match is None or digest not in self.existing:
                continue
            subject = f"sha256:{match['whole']}" if match["whole"] else long.get(match["start"], "")
            if subject in self.existing:
                yield tag, subject

    def _note_order(self, referrer: str, subject: str) -> None:
        self.notes.append(Violation(Finding.REFERRER_FIRST, subject, f"{_quote(referrer)} about it goes before it"))

    def _forbid(self, finding: Finding, subject: str, text: str) -> None:
        self.violations.append(Violation(finding, subject, text))


class _Unreadable(ValueError):
    """Why the edges of a manifest are not known."""


def _is_digest_of(digest: str, payload: bytes) -> bool:
    if _DIGEST.fullmatch(digest) is None:
        return False
    algorithm, _, digits = digest.partition(":")
    made = hashlib.sha256(payload) if algorithm == "sha256" else hashlib.sha512(payload)
    return made.hexdigest() == digits


def _read_edges(payload: bytes) -> tuple[list[str], str]:
    """The digests that it lists as children, and its subject (empty: none). Raises ``_Unreadable``, nothing else."""
    document = _read_json(payload)
    if not isinstance(document, dict):
        raise _Unreadable("it is no JSON object")
    media_type = _essence(_field(document, "mediaType"))
    entries, subject = _field(document, "manifests"), _field(document, "subject")
    parts = [one for one in ("config", "layers") if _field(document, one) is not None]
    if _field(document, "schemaVersion") not in (None, 2):
        raise _Unreadable("it is not of schema 2")
    if media_type and media_type not in (_INDEXES if entries is not None else _IMAGES | _INDEXES):
        raise _Unreadable(f"its kind {_quote(media_type)} is not read")
    is_index = entries is not None or media_type in _INDEXES
    if is_index == bool(parts):
        raise _Unreadable("it is neither clearly an image nor clearly an index")
    if not isinstance(entries, list | None):
        raise _Unreadable("its manifests are no list")
    return [_digest_in(one) for one in entries or ()], "" if subject is None else _digest_in(subject)


def _read_json(payload: bytes) -> object:
    if len(payload) > _MAX_BYTES:
        raise _Unreadable("it is too large")
    # Few brackets cannot be deep; only documents with many are looked at one by one.
    bracket_count = payload.count(b"{") + payload.count(b"[")
    if bracket_count > _MAX_DEPTH and (bracket_count > _MAX_BRACKETS or _is_deep(payload)):
        raise _Unreadable("it is nested too deep or has too many parts")
    try:
        return _JSON.decode(payload.decode())
    except ValueError as problem:
        raise _Unreadable(f"it is no clear JSON: {str(problem)[:80]}") from None


def _is_deep(payload: bytes) -> bool:
    depth = 0
    for token in _TOKEN.finditer(payload):
        first = payload[token.start()]
        depth += (first in b"[{") - (first in b"]}")
        if depth > _MAX_DEPTH:
            return True
    return False


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Unreadable("a key stands twice")
    return found


def _refuse(constant: str) -> None:
    raise _Unreadable(f"{constant} is no JSON")


_JSON: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse)


def _field(document: dict[str, Any], name: str) -> Any:
    """A value by its key. Registries written in Go take keys in any case, so a second spelling is not clear."""
    folded = name.casefold()
    for key in document:
        if key != name and len(key) <= len(name) and key.casefold() == folded:
            raise _Unreadable(f"the key {_quote(key)} may be read as {name}")
    return document.get(name)


def _essence(media_type: object) -> str:
    if not isinstance(media_type, str | None):
        raise _Unreadable("its kind is no text")
    return (media_type or "").partition(";")[0].strip().lower()


def _digest_in(descriptor: object) -> str:
    digest = _field(descriptor, "digest") if isinstance(descriptor, dict) else None
    if not isinstance(digest, str) or _DIGEST.fullmatch(digest) is None:
        raise _Unreadable("a part of it has no digest that is understood")
    return digest


def _quote(text: str) -> str:
    return ascii(text[:100])
