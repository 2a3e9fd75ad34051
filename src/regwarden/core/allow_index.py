"""Which entries are about an image? All of them in memory, found by digest, text or pattern.

A million entries must fit: what most of them do not have (conditions, reasons) is kept apart, and digests are kept as
bytes. Relations between digests are facts of content and never change, so they are only ever added.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Final, NamedTuple, TypeVar

from regwarden.core.allow_images import Image, parse_image
from regwarden.core.allowlist import AllowEntry, Candidate, Conditions, Question, Way, conditions_of, matcher
from regwarden.errors import InputError

K = TypeVar("K")
V = TypeVar("V", int, bytes)

_MOST_REMEMBERED: Final = 50_000


class Relation(NamedTuple):
    """``other`` is related to the listed ``source`` (both in the stored form).

    With ``is_part`` the source is a part of it, otherwise it is a part of the source, or one is the other's config.
    """

    source: bytes
    other: bytes
    is_part: bool = False


class AllowIndex:
    """The entries that are in force or may be some day."""

    def __init__(self) -> None:
        self._by_digest: dict[bytes, int | set[int]] = {}
        self._by_text: dict[str, int | set[int]] = {}
        self._by_pattern: dict[int, str] = {}
        self._keys: dict[int, bytes | str] = {}
        self._denies: dict[int, str] = {}
        self._conditions: dict[int, Conditions] = {}
        self._listed: set[int] = set()
        self._related: dict[bytes, bytes | set[bytes]] = {}
        self._parts: dict[bytes, bytes | set[bytes]] = {}
        self._matching: dict[tuple[str, ...], tuple[int, ...]] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def has_digest(self, digest: bytes) -> bool:
        """Whether any entry names this content."""
        return digest in self._by_digest

    def put(self, entry: AllowEntry) -> None:
        """Take an entry in, instead of what it was before."""
        number = entry.id
        if number in self._keys:
            self.remove(number)
        if entry.is_deny:
            self._denies[number] = entry.reason
        if (conditions := conditions_of(entry)) is not None:
            self._conditions[number] = conditions
        if entry.digest is not None:
            self._keys[number] = entry.digest
            _add(self._by_digest, entry.digest, number)
            return
        self._keys[number] = entry.image
        if entry.is_listed:
            self._listed.add(number)
        if not entry.image:
            self._by_pattern[number] = entry.pattern
            self._matching.clear()
        for text in _texts(entry.image, is_listed=entry.is_listed):
            _add(self._by_text, text, number)

    def remove(self, number: int) -> None:
        """Forget an entry; one that is not there does not matter."""
        key = self._keys.pop(number, None)
        if key is None:
            return
        self._denies.pop(number, None)
        self._conditions.pop(number, None)
        if isinstance(key, bytes):
            _take(self._by_digest, key, number)
            return
        for text in _texts(key, is_listed=number in self._listed):
            _take(self._by_text, text, number)
        self._listed.discard(number)
        if self._by_pattern.pop(number, None) is not None:
            self._matching.clear()

    def relate(self, relations: Iterable[Relation]) -> None:
        """Take in how listed contents are related to others."""
        for one in relations:
            if one.source != one.other:
                _add(self._parts if one.is_part else self._related, one.other, one.source)

    def candidates(self, question: Question) -> Iterator[Candidate]:
        """The entries that may be about what is asked for, each at least once."""
        digest, image = question.digest, question.image
        if digest is not None:
            yield from self._found(_all(self._by_digest.get(digest)), Way.DIGEST)
            for source in _all(self._related.get(digest)):
                yield from self._found(_all(self._by_digest.get(source)), Way.RELATED)
            for source in _all(self._parts.get(digest)):
                yield from self._found(_all(self._by_digest.get(source)), Way.PART)
        if self._by_text:
            if image.names:
                for text in image.references:
                    yield from self._found(_all(self._by_text.get(text)), Way.REFERENCE)
                listed = self._listed.intersection(_all(self._by_text.get(image.text)))
                yield from self._found(listed, Way.LITERAL)
            else:
                yield from self._found(_all(self._by_text.get(image.text)), Way.LITERAL)
        if self._by_pattern:
            yield from self._found(self._matches(image), Way.PATTERN)

    def _matches(self, image: Image) -> tuple[int, ...]:
        """Entries of which only a pattern says what they are about, and that may match."""
        if not image.spellings:
            return tuple(self._by_pattern)
        found = self._matching.get(image.spellings)
        if found is None:
            if len(self._matching) >= _MOST_REMEMBERED:
                self._matching.clear()
            found = tuple(
                number
                for number, pattern in self._by_pattern.items()
                if (matches := matcher(pattern)) is None or any(map(matches, image.spellings))
            )
            self._matching[image.spellings] = found
        return found

    def _found(self, numbers: Iterable[int], way: Way) -> Iterator[Candidate]:
        for number in numbers:
            reason = self._denies.get(number)
            yield Candidate(number, reason is not None, way, self._conditions.get(number), reason or "")


def _texts(image: str, *, is_listed: bool) -> tuple[str, ...]:
    """The texts under which an entry without a digest is found: its own, and its reference as it is compared."""
    if not image or is_listed:
        return (image,) if image else ()
    try:
        return tuple(dict.fromkeys((image, *parse_image(image).references)))
    except InputError:
        return (image,)


def _all(value: V | set[V] | None) -> Collection[V]:
    if value is None:
        return ()
    return value if isinstance(value, set) else (value,)


def _add(mapping: dict[K, V | set[V]], key: K, value: V) -> None:
    """Most keys have one value, and that one alone is kept; a key may also have a hundred thousand."""
    present = mapping.get(key)
    if present is None:
        mapping[key] = value
    elif isinstance(present, set):
        present.add(value)
    elif present != value:
        mapping[key] = {present, value}


def _take(mapping: dict[K, V | set[V]], key: K, value: V) -> None:
    present = mapping.get(key)
    if isinstance(present, set):
        present.discard(value)
        if len(present) == 1:
            mapping[key] = present.pop()
    elif present == value:
        del mapping[key]
