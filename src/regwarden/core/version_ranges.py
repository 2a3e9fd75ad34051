"""Which tags a range of semantic versions matches: ``>=1.2 <2 || ^3.1``, with the meaning node-semver gives it."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Self

from regwarden.core.versions import SemanticVersion, find_semantic_version, parse_identifiers
from regwarden.errors import InputError

MAX_RANGE_LENGTH: Final = 1000
MAX_PART_LENGTH: Final = 9

_OPERATORS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
}
_PART: Final = rf"(?:0|[1-9][0-9]{{0,{MAX_PART_LENGTH - 1}}}|[xX*])"
_IDENTIFIER: Final = r"(?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
_PARTIAL: Final = re.compile(
    rf"[vV]?(?P<major>{_PART})(?:\.(?P<minor>{_PART})(?:\.(?P<patch>{_PART})"
    rf"(?:-(?P<pre>{_IDENTIFIER}(?:\.{_IDENTIFIER})*))?(?:\+[0-9A-Za-z.-]+)?)?)?"
)
_SIGN: Final = re.compile(r"(<=|>=|<|>|=|~>|~|\^|)")
_SIGN_AND_SPACE: Final = re.compile(r"(<=|>=|<|>|=|~>|~|\^) +")
_HYPHEN: Final = re.compile(r"(\S+) +- +(\S+)")
_HINT: Final = "Write for example '>=1.2 <2', '^1.4', '~1.4.2', '1.x', '1.2 - 1.9', and || between alternatives."


def _lowest_of(release: tuple[int, int, int]) -> SemanticVersion:
    """The lowest pre-release, so that "below" leaves out a release's pre-releases too."""
    return SemanticVersion(release, is_release=False, pre_release=parse_identifiers("0"))


@dataclass(frozen=True, slots=True)
class _Bound:
    sign: str
    version: SemanticVersion

    def admits(self, version: SemanticVersion) -> bool:
        return _OPERATORS[self.sign](version, self.version)


@dataclass(frozen=True, slots=True)
class _Partial:
    """A version with parts left open: ``numbers`` are those before the first ``x`` or missing part."""

    numbers: tuple[int, ...]
    pre_release: str

    @property
    def lowest(self) -> SemanticVersion:
        major, minor, patch = (*self.numbers, 0, 0, 0)[:3]
        return SemanticVersion((major, minor, patch), not self.pre_release, parse_identifiers(self.pre_release))

    def below_next(self, position: int) -> _Bound:
        """Below everything whose number at ``position`` is one higher, its pre-releases included."""
        major, minor, patch = (*self.numbers[:position], self.numbers[position] + 1, 0, 0)[:3]
        return _Bound("<", _lowest_of((major, minor, patch)))


# Nothing is below the lowest possible version.
_NOTHING: Final = _Bound("<", _lowest_of((0, 0, 0)))


@dataclass(frozen=True, slots=True)
class SemverRange:
    """A range of semantic versions: ``= < <= > >= ^ ~``, ``x`` and missing parts, ``A - B``, ``||``.

    Tags are read by ``find_semantic_version``; what is no semantic version never matches. As in node-semver, a
    pre-release matches only if a comparator of the same alternative names a pre-release of the same
    major.minor.patch: ``>=1.2.0-rc.1`` matches ``1.2.0-rc.2`` but not ``1.3.0-rc.1``, and neither ``*`` nor
    ``>=3.11`` matches ``3.12-slim``, whose suffix is a pre-release to semver (use ``glob:3.12-*`` for variants).
    """

    text: str
    alternatives: tuple[tuple[_Bound, ...], ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a range; raises ``InputError`` (code ``bad-pattern``)."""
        if len(text) > MAX_RANGE_LENGTH:
            raise InputError(
                f"the version range has {len(text)} characters",
                hint=f"The limit is {MAX_RANGE_LENGTH}.",
                code="bad-pattern",
            )
        if not text.strip():
            raise InputError("the version range is empty", hint="Write * for every release.", code="bad-pattern")
        return cls(text, tuple(_parse_alternative(part.strip(), text) for part in text.split("||")))

    def matches(self, tag: str) -> bool:
        """Whether the tag is a semantic version in this range."""
        version = find_semantic_version(tag)
        if version is not None:
            for bounds in self.alternatives:
                if _admits(bounds, version):
                    return True
        return False

    def __str__(self) -> str:
        return self.text


def _admits(bounds: tuple[_Bound, ...], version: SemanticVersion) -> bool:
    for bound in bounds:
        if not bound.admits(version):
            return False
    return version.is_release or any(
        not bound.version.is_release and bound.version.release == version.release for bound in bounds
    )


def _parse_alternative(text: str, whole: str) -> tuple[_Bound, ...]:
    hyphen = _HYPHEN.fullmatch(text)
    if hyphen is not None:
        return _between(_parse_partial(hyphen[1], whole), _parse_partial(hyphen[2], whole))
    bounds: list[_Bound] = []
    for word in _SIGN_AND_SPACE.sub(r"\1", text).split():
        sign = _SIGN.match(word)
        prefix = sign[1] if sign is not None else ""
        bounds.extend(_comparator(prefix, _parse_partial(word.removeprefix(prefix), whole)))
    return tuple(bounds)


def _parse_partial(text: str, whole: str) -> _Partial:
    match = _PARTIAL.fullmatch(text)
    if match is None:
        raise InputError(f"{whole[:160]!r} is not a range of versions: {text[:80]!r}", hint=_HINT, code="bad-pattern")
    numbers: list[int] = []
    for part in (match["major"], match["minor"], match["patch"]):
        if part is None or part in "xX*":
            return _Partial(tuple(numbers), "")
        numbers.append(int(part))
    return _Partial(tuple(numbers), match["pre"] or "")


def _between(low: _Partial, high: _Partial) -> tuple[_Bound, ...]:
    return (*_comparator(">=", low), *_comparator("<=", high))


def _comparator(sign: str, partial: _Partial) -> tuple[_Bound, ...]:
    if not partial.numbers:
        return (_NOTHING,) if sign in ("<", ">") else ()
    at_least = _Bound(">=", partial.lowest)
    if sign == "^":
        return (at_least, partial.below_next(_caret_position(partial.numbers)))
    if sign in ("~", "~>"):
        return (at_least, partial.below_next(min(1, len(partial.numbers) - 1)))
    if len(partial.numbers) == 3:
        return (_Bound(sign or "=", partial.lowest),)
    last = len(partial.numbers) - 1
    return {
        ">": (_Bound(">=", SemanticVersion(partial.below_next(last).version.release)),),
        ">=": (at_least,),
        "<": (_Bound("<", _lowest_of(partial.lowest.release)),),
        "<=": (partial.below_next(last),),
    }.get(sign, (at_least, partial.below_next(last)))


def _caret_position(numbers: tuple[int, ...]) -> int:
    """Where a caret allows no change: at the first number that is not 0, or the last one given."""
    return next((position for position, number in enumerate(numbers) if number), len(numbers) - 1)
