"""Which steps of a plan are to be undone? All that took something away, or those that a person names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from regwarden.core.oci.digests import Digest
from regwarden.core.oci.references import parse_reference
from regwarden.core.plan import Step, StepKind
from regwarden.core.undo import Taken
from regwarden.errors import InputError, NotFound

_LONGEST_POSITION: Final = 9


@dataclass(frozen=True, slots=True)
class Choice:
    """What a person wants back: ``positions`` of steps, ``tags`` as (repository, tag), ``digests``.

    A digest with a repository stands in ``places`` as (repository, digest). Empty: everything.
    """

    positions: frozenset[int] = frozenset()
    tags: frozenset[tuple[str, str]] = frozenset()
    digests: frozenset[str] = frozenset()
    places: frozenset[tuple[str, str]] = frozenset()

    @property
    def is_everything(self) -> bool:
        """Whether nothing was named."""
        return not (self.positions or self.tags or self.digests or self.places)


EVERYTHING: Final = Choice()


def parse_choice(words: Sequence[str]) -> Choice:
    """Read positions (``17``), tags (``team/app:1.0``) and digests (``sha256:…``, ``team/app@sha256:…``).

    Raises ``InputError`` (code ``bad-choice``, ``bad-reference`` or ``bad-digest``).
    """
    positions: set[int] = set()
    tags: set[tuple[str, str]] = set()
    digests: set[str] = set()
    places: set[tuple[str, str]] = set()
    for word in words:
        if word.isascii() and word.isdecimal() and len(word) <= _LONGEST_POSITION:
            positions.add(int(word))
            continue
        if word.startswith(("sha256:", "sha512:")):
            digests.add(str(Digest.parse(word)))
            continue
        named = parse_reference(word)
        if named.registry is not None or (named.tag is None) == (named.digest is None):
            raise InputError(
                f"{word[:160]!r} names no step of a plan",
                hint="Give the number of a step, REPOSITORY:TAG, DIGEST or REPOSITORY@DIGEST.",
                code="bad-choice",
            )
        if named.tag is not None:
            tags.add((named.repository, named.tag))
        else:
            places.add((named.repository, str(named.digest)))
    return Choice(frozenset(positions), frozenset(tags), frozenset(digests), frozenset(places))


def list_taken(steps: Iterable[Step], seen_tags: Mapping[int, Sequence[str]]) -> tuple[Taken, ...]:
    """What steps took away. ``seen_tags`` are, by position, the tags that were found just before a step was done.

    Deleting a manifest takes every tag that pointed there at that moment, also those that the plan did not know.
    """
    return tuple(
        Taken(
            step.position,
            step.registry,
            step.repository,
            step.digest,
            tuple(sorted({*step.tags, *seen_tags.get(step.position, ())}))
            if step.kind is StepKind.DELETE
            else step.tags,
        )
        for step in steps
    )


def choose(taken: Iterable[Taken], choice: Choice = EVERYTHING) -> tuple[Taken, ...]:
    """Those that are meant, by position. Of a step that is named by tags only these tags come back.

    Raises ``NotFound`` (code ``step-not-found``) for the first word that names nothing that was taken away.
    """
    if choice.is_everything:
        return tuple(sorted(taken))
    chosen: list[Taken] = []
    met = _Met(set(), set(), set(), set())
    for one in sorted(taken):
        place, tags = (one.repository, one.digest), {(one.repository, tag) for tag in one.tags} & choice.tags
        met.positions.add(one.position)
        met.digests.add(one.digest)
        met.places.add(place)
        met.tags.update(tags)
        if one.position in choice.positions or one.digest in choice.digests or place in choice.places:
            chosen.append(one)
        elif tags:
            chosen.append(one._replace(tags=tuple(sorted(tag for _, tag in tags))))
    _refuse_unmet(choice, met)
    return tuple(chosen)


@dataclass(frozen=True, slots=True)
class _Met:
    positions: set[int]
    tags: set[tuple[str, str]]
    digests: set[str]
    places: set[tuple[str, str]]


def _refuse_unmet(choice: Choice, met: _Met) -> None:
    unmet = [
        *(f"step {position}" for position in sorted(choice.positions - met.positions)),
        *(f"{repository}:{tag}" for repository, tag in sorted(choice.tags - met.tags)),
        *sorted(choice.digests - met.digests),
        *(f"{repository}@{digest}" for repository, digest in sorted(choice.places - met.places)),
    ]
    if unmet:
        raise NotFound(
            f"the plan has removed nothing that {unmet[0]} names",
            hint="regwarden plan show ID --steps tells what became of each.",
            code="step-not-found",
        )
