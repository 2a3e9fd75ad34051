"""May this run? Entries of the allow-list and a question to an answer: allow, deny, or unknown, and why.

Deny beats allow, allow beats the default. What cannot be told is unknown if it could deny; whoever asks decides what
unknown means, and does well to refuse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from typing import Final, NamedTuple

from regwarden.core.allow_images import Image
from regwarden.core.globs import GLOB_CHARACTERS
from regwarden.core.oci.digests import Digest
from regwarden.core.patterns import PatternKind, parse_pattern
from regwarden.errors import InputError

MOST_NAMED: Final = 10
"""So many entries are named in an answer."""

TAG_MOVES: Final = "a tag may be moved before the image is pulled; deploy the digest"


class Outcome(StrEnum):
    """The answer."""

    ALLOW = "allow"
    DENY = "deny"
    UNKNOWN = "unknown"


class TagMode(StrEnum):
    """How an image that is named by tag is answered; the setting ``[allow].tags``."""

    CURRENT = "current"
    DIGEST_REQUIRED = "digest-required"
    ANY = "any"


def parse_outcome(text: str) -> Outcome:
    """The default answer as settings write it. Raises ``InputError``."""
    try:
        return Outcome(text)
    except ValueError:
        raise InputError(f"{text[:80]!r} is no answer", hint="There are deny, unknown and allow.") from None


def parse_tag_mode(text: str) -> TagMode:
    """How tags are answered, as settings write it. Raises ``InputError``."""
    try:
        return TagMode(text)
    except ValueError:
        hint = "There are current, digest-required and any."
        raise InputError(f"{text[:80]!r} is no way to answer tags", hint=hint) from None


class Way(StrEnum):
    """How an entry touches what is asked for."""

    DIGEST = "digest"  # it names this content
    RELATED = "related"  # it names what this is part of, or its config, or the manifest of this config
    PART = "part"  # it names a part of this
    REFERENCE = "reference"  # it names this tag
    LITERAL = "literal"  # its text is this text, and no reference
    PATTERN = "pattern"  # it has a pattern of names only


class AllowEntry(NamedTuple):
    """An entry as far as answers need it.

    ``digest`` is in the stored form. ``is_listed`` is an entry of imagelist's interface: its text is compared as it
    stands, its name and tags are no conditions.
    """

    id: int
    is_deny: bool = False
    image: str = ""
    digest: bytes | None = None
    pattern: str = ""
    tags: tuple[str, ...] = ()
    clusters: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    not_before: datetime | None = None
    expires_at: datetime | None = None
    reason: str = ""
    is_listed: bool = False


class Conditions(NamedTuple):
    """When an entry counts; most have none. Texts are patterns."""

    pattern: str = ""
    tags: tuple[str, ...] = ()
    clusters: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    not_before: datetime | None = None
    expires_at: datetime | None = None


class Candidate(NamedTuple):
    """An entry that may be about what is asked for."""

    id: int
    is_deny: bool
    way: Way
    conditions: Conditions | None = None
    reason: str = ""


class TagState(StrEnum):
    """What the inventory says of a tag."""

    KNOWN = "known"
    MISSING = "tag-unknown"
    MOVED = "tag-moved"
    UNASKED = "tag-unresolved"


class Target(NamedTuple):
    """What a tag points to; ``digest`` (stored form) only where it is ``KNOWN``."""

    state: TagState
    digest: bytes | None = None


class Question(NamedTuple):
    """What is asked for, where it is to run (empty: not said), when, and what its tag points to."""

    image: Image
    cluster: str = ""
    namespace: str = ""
    now: datetime | None = None
    target: Target = Target(TagState.UNASKED)

    @property
    def digest(self) -> bytes | None:
        """The content that is meant, as far as it is known."""
        return self.image.digest if self.image.digest is not None else self.target.digest


@dataclass(frozen=True, slots=True)
class Rules:
    """What the settings say: the answer without an entry, and how tags are answered."""

    default: Outcome = Outcome.DENY
    tags: TagMode = TagMode.CURRENT


class Answer(NamedTuple):
    """``reason`` is a code, ``detail`` a sentence; ``digest`` is what was decided about, where it is known.

    ``is_stale``: decided by what was known before the database was lost.
    """

    outcome: Outcome
    reason: str
    detail: str
    entry_ids: tuple[int, ...] = ()
    digest: str | None = None
    is_stale: bool = False
    warnings: tuple[str, ...] = ()


def conditions_of(entry: AllowEntry) -> Conditions | None:
    """When an entry counts; ``None``: always."""
    limits = (entry.clusters, entry.namespaces, entry.not_before, entry.expires_at)
    if entry.is_listed or not (entry.pattern or entry.tags):
        return Conditions("", (), *limits) if any(limits) else None
    return Conditions(entry.pattern, entry.tags, *limits)


def fits(conditions: Conditions | None, question: Question) -> bool | None:
    """Whether an entry with these conditions counts; ``None`` if that cannot be told."""
    if conditions is None:
        return True
    now = question.now
    if now is not None:
        if conditions.not_before is not None and now < conditions.not_before:
            return False
        if conditions.expires_at is not None and now >= conditions.expires_at:
            return False
    image = question.image
    # A tag in front of a digest is only what somebody wrote there: whatever runs it looks at the digest.
    tags = (image.tag,) if image.tag and image.digest is None else ()
    answers = (
        _any_matches((conditions.pattern,) if conditions.pattern else (), image.spellings),
        _any_matches(conditions.tags, tags),
        _any_matches(conditions.clusters, (question.cluster,) if question.cluster else ()),
        _any_matches(conditions.namespaces, (question.namespace,) if question.namespace else ()),
    )
    if False in answers:
        return False
    return None if None in answers else True


def decide(question: Question, candidates: Iterable[Candidate], rules: Rules) -> Answer:
    """The answer by all entries that may be about what is asked for."""
    found = _sort(question, candidates, rules)
    if found.denied:
        return _denied(question, found.denied)
    if found.perhaps_denied:
        return _undecided(question, found.perhaps_denied)
    if not question.image.is_tag_question or found.literal:
        return _without_tag(question, found, rules)
    if rules.tags is TagMode.DIGEST_REQUIRED:
        detail = "it is named by a tag, and only digests are answered"
        return _answer(question, Outcome.UNKNOWN, "digest-required", detail)
    if rules.tags is TagMode.CURRENT and question.target.state is not TagState.KNOWN:
        return _answer(question, Outcome.UNKNOWN, str(question.target.state), _TAG_DETAILS[question.target.state])
    return _without_tag(question, found, rules)


_TAG_DETAILS: Final = {
    TagState.MISSING: "the inventory does not know what this tag points to",
    TagState.MOVED: "the tag was moved too recently",
    TagState.UNASKED: "the inventory cannot be asked what this tag points to",
}


class _Found(NamedTuple):
    denied: list[Candidate]
    perhaps_denied: list[Candidate]
    allowed: list[Candidate]
    perhaps_allowed: list[Candidate]
    literal: bool


def _sort(question: Question, candidates: Iterable[Candidate], rules: Rules) -> _Found:
    found = _Found([], [], [], [], literal=False)
    is_literal = False
    for one in candidates:
        if not one.is_deny and not _may_allow(one.way, question, rules):
            continue
        answer = fits(one.conditions, question)
        if answer is False:
            continue
        if one.is_deny:
            (found.denied if answer else found.perhaps_denied).append(one)
        else:
            (found.allowed if answer else found.perhaps_allowed).append(one)
            is_literal |= answer is True and one.way is Way.LITERAL
    return found._replace(literal=is_literal)


def _may_allow(way: Way, question: Question, rules: Rules) -> bool:
    """A part allows nothing of the whole; a tag allows a digest that is named with it only where names are enough."""
    if way is Way.PART:
        return False
    return way is not Way.REFERENCE or question.image.digest is None or rules.tags is TagMode.ANY


def _without_tag(question: Question, found: _Found, rules: Rules) -> Answer:
    if found.allowed:
        first, ids = _first(found.allowed)
        detail = f"entry {first.id} {_how(first, question)[0]}"
        warnings = (TAG_MOVES,) if question.image.is_tag_question else ()
        return _answer(question, Outcome.ALLOW, "allowed", detail, ids)._replace(warnings=warnings)
    if rules.default is Outcome.ALLOW:
        return _answer(question, Outcome.ALLOW, "default", "no entry is about it, and the default is to allow")
    unclear = [one for one in found.perhaps_allowed if _unreadable(one.conditions) is None]
    if unclear:
        first, ids = _first(unclear)
        detail = f"entry {first.id} may allow it: {_missing(first.conditions, question)}"
        return _answer(question, Outcome.UNKNOWN, "not-said", detail, ids)
    return _answer(question, rules.default, "not-listed", "no entry allows it")


def _denied(question: Question, denied: list[Candidate]) -> Answer:
    first, ids = _first(denied)
    reason = f": {first.reason}" if first.reason else ""
    return _answer(question, Outcome.DENY, "denied", f"entry {first.id} {_how(first, question)[1]}{reason}", ids)


def _undecided(question: Question, denied: list[Candidate]) -> Answer:
    first, ids = _first(denied)
    broken = _unreadable(first.conditions)
    if broken is not None:
        detail = f"entry {first.id} may deny it: its pattern {broken[:80]!r} cannot be read"
        return _answer(question, Outcome.UNKNOWN, "unreadable-entry", detail, ids)
    detail = f"entry {first.id} may deny it: {_missing(first.conditions, question)}"
    return _answer(question, Outcome.UNKNOWN, "not-said", detail, ids)


_HOW: Final = {
    Way.DIGEST: ("allows this content", "denies this content"),
    Way.RELATED: ("allows what this is part of", "denies what this is part of"),
    Way.PART: ("", "denies a part of this"),
    Way.REFERENCE: ("allows this tag", "denies this tag"),
    Way.LITERAL: ("names exactly this", "denies exactly this"),
    Way.PATTERN: ("allows {name}", "denies {name}"),
}
_MOST_NAME_CHARACTERS: Final = 300


def _how(candidate: Candidate, question: Question) -> tuple[str, str]:
    """In words how an entry is about what was asked; a name as it is compared, for it may have been written short."""
    name = (question.image.names or ("this name",))[0][:_MOST_NAME_CHARACTERS]
    allows, denies = _HOW[candidate.way]
    return allows.replace("{name}", name), denies.replace("{name}", name)


def _answer(question: Question, outcome: Outcome, reason: str, detail: str, entry_ids: tuple[int, ...] = ()) -> Answer:
    digest = question.digest
    return Answer(outcome, reason, detail, entry_ids, None if digest is None else str(Digest.from_bytes(digest)))


_ORDER: Final = {way: number for number, way in enumerate(Way)}


def _first(candidates: list[Candidate]) -> tuple[Candidate, tuple[int, ...]]:
    if len(candidates) == 1:
        return candidates[0], (candidates[0].id,)
    ordered = sorted(candidates, key=lambda one: (_ORDER[one.way], one.id))
    return ordered[0], tuple(dict.fromkeys(one.id for one in ordered))[:MOST_NAMED]


def _missing(conditions: Conditions | None, question: Question) -> str:
    """What would have to be said to tell whether an entry counts."""
    if conditions is None:
        return "it is not clear"
    if conditions.pattern and not question.image.spellings:
        return "it is about names, and only a digest was given"
    if conditions.tags and (question.image.digest is not None or not question.image.tag):
        return "it is about tags, and a digest was given"
    if conditions.clusters and not question.cluster:
        return "it holds in some clusters, and none was given"
    return "it holds in some namespaces, and none was given"


def _any_matches(patterns: tuple[str, ...], texts: tuple[str, ...]) -> bool | None:
    """Whether any text matches any pattern; without patterns all do. Unknown: no text, or a pattern that is none."""
    if not patterns:
        return True
    if not texts:
        return None
    is_certain = True
    for pattern in patterns:
        matches = matcher(pattern)
        if matches is None:
            is_certain = False
        elif any(map(matches, texts)):
            return True
    return False if is_certain else None


def _unreadable(conditions: Conditions | None) -> str | None:
    if conditions is None:
        return None
    patterns = (conditions.pattern, *conditions.tags, *conditions.clusters, *conditions.namespaces)
    return next((one for one in patterns if one and matcher(one) is None), None)


@lru_cache(maxsize=20_000)
def matcher(pattern: str) -> Callable[[str], bool] | None:
    """What says whether a name matches; ``None`` for a pattern that cannot be read.

    A pattern that names no kind is a glob if it has a glob's characters.
    """
    try:
        bare = PatternKind.GLOB if GLOB_CHARACTERS & set(pattern) else PatternKind.EXACT
        return parse_pattern(pattern, bare=bare).matches
    except InputError:
        return None
