"""What a typed pattern (``glob:v*``, ``re:v[0-9]+``, ``semver:^1.2``, ``<1.4``) matches.

The kind stands in front; a text without one is exact. ``glob:``, ``re:`` and exact patterns match the whole string.
Regular expressions are those of RE2, so every pattern matches in linear time, whatever a user writes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import takewhile
from typing import Final

import re2

from regwarden.core.date_patterns import DateForm
from regwarden.core.globs import GLOB_CHARACTERS, translate_glob
from regwarden.core.version_ranges import SemverRange
from regwarden.core.versions import LooseComparison
from regwarden.errors import InputError

MAX_PATTERN_LENGTH: Final = 1000
# re2.Set is four times faster than a match per pattern, but answers "no match" when it runs out of memory;
# a program of this size is far from that.
_MAX_SET_PROGRAM_SIZE: Final = 5000

_LITERALS: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-/:@")
_QUANTIFIERS_FROM_ZERO: Final = ("*", "?", "{")
# No name begins like this; whoever writes it means a version range, a condition or a regular expression.
_OTHER_GRAMMARS: Final = ("=", "!", "^", "$", "(")
_KINDS_HINT: Final = (
    "Patterns are glob:v*, re:v[0-9]+, semver:^1.2, date:YYYYMMDD, <1.4, ~REGEX, start:REGEX, or an exact text."
)


class PatternKind(StrEnum):
    """How a pattern's text is read; the value is the prefix it is written with."""

    EXACT = "exact"  # the whole string, letter by letter; written without a prefix
    GLOB = "glob"
    REGEX = "re"
    SEMVER = "semver"
    DATE = "date"  # a form of dates: date:nightly-YYYYMMDD
    LOOSE = "loose"  # docker-registry-util's comparison; an operator in front is enough
    START = "start"  # docker-registry-util's -re: a regular expression that matches at the start
    SEARCH = "~"  # a regular expression found anywhere; written ~REGEX


_REGEX_KINDS: Final = frozenset({PatternKind.REGEX, PatternKind.START, PatternKind.SEARCH})
_PREFIXED: Final = {kind.value: kind for kind in PatternKind if kind not in (PatternKind.EXACT, PatternKind.SEARCH)}


@dataclass(frozen=True, slots=True)
class Pattern:
    """A parsed pattern: make it with ``parse_pattern``. ``parse_pattern(str(pattern))`` equals it."""

    kind: PatternKind
    text: str
    _matcher: Callable[[str], bool] = field(compare=False, repr=False)

    def matches(self, text: str) -> bool:
        """Whether the pattern matches ``text``, in time linear in its length."""
        return self._matcher(text)

    @property
    def exact(self) -> str | None:
        """The only string this matches, if there is only one to be seen without trying."""
        if self.kind is PatternKind.EXACT:
            return self.text
        return self.text if self.kind is PatternKind.GLOB and not GLOB_CHARACTERS & set(self.text) else None

    @property
    def literal_prefix(self) -> str:
        """What every matching string starts with, for a range in an index; empty if nothing is certain."""
        if self.kind is PatternKind.EXACT:
            return self.text
        if self.kind is PatternKind.GLOB:
            return "".join(takewhile(lambda character: character not in GLOB_CHARACTERS, self.text))
        if self.kind in _REGEX_KINDS:
            return _regex_prefix(self.text, is_anchored=self.kind is not PatternKind.SEARCH)
        return ""

    def __str__(self) -> str:
        if self.kind is PatternKind.EXACT:
            return self.text
        return f"{self.kind}{self.text}" if self.kind is PatternKind.SEARCH else f"{self.kind}:{self.text}"


@dataclass(frozen=True, slots=True)
class PatternSet:
    """Strings that match any of ``include`` (all strings, if there is none) and none of ``exclude``."""

    include: tuple[Pattern, ...] = ()
    exclude: tuple[Pattern, ...] = ()

    def matches(self, text: str) -> bool:
        """Whether ``text`` is included and not excluded."""
        if self.include and not any(pattern.matches(text) for pattern in self.include):
            return False
        return not any(pattern.matches(text) for pattern in self.exclude)


def split_kind(text: str) -> tuple[PatternKind | None, str]:
    """Split the kind from a pattern's text; ``None`` where it names none. ``<1.4`` is a loose comparison."""
    if text.startswith(PatternKind.SEARCH):
        return PatternKind.SEARCH, text.removeprefix(PatternKind.SEARCH)
    prefix, colon, rest = text.partition(":")
    if colon and prefix in _PREFIXED:
        return _PREFIXED[prefix], rest
    if text.startswith(("<", ">", "==")):
        return PatternKind.LOOSE, text
    return None, text


def parse_pattern(text: str, *, bare: PatternKind = PatternKind.EXACT) -> Pattern:
    """Read a pattern; one that names no kind is of kind ``bare``.

    Raises ``InputError`` (code ``bad-pattern``), never anything else.
    """
    if not text:
        raise _bad("the pattern is empty", hint=_KINDS_HINT)
    if len(text) > MAX_PATTERN_LENGTH:
        raise _bad(f"the pattern has {len(text)} characters", hint=f"The limit is {MAX_PATTERN_LENGTH}.")
    if not text.isprintable():
        raise _bad("the pattern contains a control character")
    named, rest = split_kind(text)
    kind = named or bare
    if not rest:
        raise _bad(f"the pattern {text!r} is empty", hint=_KINDS_HINT)
    return Pattern(kind, rest, _build_matcher(kind, rest))


def _build_matcher(kind: PatternKind, text: str) -> Callable[[str], bool]:
    if kind is PatternKind.SEMVER:
        return SemverRange.parse(text).matches
    if kind is PatternKind.DATE:
        return DateForm.parse(text).matches
    if kind is PatternKind.LOOSE:
        return LooseComparison.parse(text).matches
    if kind is PatternKind.EXACT:
        return _exact_matcher(text)
    regex = translate_glob(text) if kind is PatternKind.GLOB else text
    try:
        return _regex_matcher(regex, kind)
    except re2.error as error:
        what = "glob" if kind is PatternKind.GLOB else "regular expression"
        hint = "" if kind is PatternKind.GLOB else "The syntax is RE2's: no look-around and no back-references."
        raise _bad(f"{text[:160]!r} is not a {what}: {_reason(error)}", hint=hint) from None


def _exact_matcher(text: str) -> Callable[[str], bool]:
    if GLOB_CHARACTERS & set(text):
        raise _bad(
            f"{text[:160]!r} does not say that it is a pattern", hint=f"Write glob:{text[:80]}, or re: before it."
        )
    if text.startswith(_OTHER_GRAMMARS):
        raise _bad(f"{text[:160]!r} is taken exactly and no name begins like this", hint=_KINDS_HINT)
    return text.__eq__


def _regex_matcher(regex: str, kind: PatternKind) -> Callable[[str], bool]:
    options = re2.Options()
    options.log_errors = False
    compiled = re2.compile(regex, options)
    if compiled.programsize <= _MAX_SET_PROGRAM_SIZE:
        return _set_matcher(regex, kind, options)
    match = {PatternKind.START: compiled.match, PatternKind.SEARCH: compiled.search}.get(kind, compiled.fullmatch)
    return lambda text: match(text.encode("utf-8", "replace")) is not None


def _set_matcher(regex: str, kind: PatternKind, options: re2.Options) -> Callable[[str], bool]:
    sets = {PatternKind.START: re2.Set.MatchSet, PatternKind.SEARCH: re2.Set.SearchSet}
    one = sets.get(kind, re2.Set.FullMatchSet)(options)
    one.Add(regex)
    one.Compile()
    match = one.Match
    return lambda text: match(text.encode("utf-8", "replace")) is not None


def _reason(error: re2.error) -> str:
    reason = error.args[0] if error.args else ""
    return reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)


def _regex_prefix(regex: str, *, is_anchored: bool) -> str:
    """The literal characters a regular expression begins with; nothing where an alternative might begin otherwise."""
    if "|" in regex or not (is_anchored or regex.startswith("^")):
        return ""
    body = regex.removeprefix("^")
    prefix = "".join(takewhile(_LITERALS.__contains__, body))
    return prefix[:-1] if body[len(prefix) :].startswith(_QUANTIFIERS_FROM_ZERO) else prefix


def _bad(message: str, *, hint: str = "") -> InputError:
    return InputError(message, hint=hint, code="bad-pattern")
