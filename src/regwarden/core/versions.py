"""How tags are ordered, what a tag's semantic version is, and the predecessor's loose version comparison."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, NamedTuple, Self, TypeAlias

from packaging.version import InvalidVersion
from packaging.version import Version as PackagingVersion
from semver import Version as SemverVersion

from regwarden.errors import InputError

# Longer texts are no versions: int() refuses thousands of digits and no tag is that long.
MAX_VERSION_LENGTH: Final = 128

OrderKey: TypeAlias = tuple[Any, ...]
# Identifiers of a pre-release, comparable as semver wants it: numbers below words, numbers by value.
Identifiers: TypeAlias = tuple[tuple[int, int, str], ...]

_VERSION, _TEXT = 0, 1
_PRE_RELEASE, _FINAL, _POST_RELEASE = 0, 1, 2
_SEMVER, _PACKAGING = 0, 1

_NUMBERS: Final = re.compile(r"(0|[1-9][0-9]*)(?:\.(0|[1-9][0-9]*))?(?:\.(0|[1-9][0-9]*))?")
_DIGITS: Final = re.compile(r"([0-9]+)")
_LOOSE_PARTS: Final = re.compile(r"(\d+|[a-z]+|\.)")
_LOOSE_OPERATORS: Final = ("<=", ">=", "==", "<", ">")


class SemanticVersion(NamedTuple):
    """A semantic version. Compared, it follows the precedence of https://semver.org (11).

    Missing parts are 0; ``pre_release`` is empty exactly if ``is_release`` (a pre-release is below its release).
    """

    release: tuple[int, int, int]
    is_release: bool = True
    pre_release: Identifiers = ()


@lru_cache(maxsize=131_072)  # the same versions stand in many repositories, and rules ask more than once
def find_semantic_version(tag: str) -> SemanticVersion | None:
    """Read a tag as a semantic version, or return ``None``.

    Minor and patch may be missing (``1.2`` is 1.2.0) and a ``v`` may stand in front. Whatever follows a hyphen is
    a pre-release, as semver says: ``3.12-slim`` is a pre-release of 3.12.0. Tags cannot contain ``+``; ``_`` is
    read as one (the convention of Helm), so ``1.2.3_build5`` is 1.2.3.
    """
    text = tag[1:] if tag[:1] in ("v", "V") else tag
    if not text[:1].isdecimal() or len(text) > MAX_VERSION_LENGTH or not text.isascii():
        return None
    if (numbers := _NUMBERS.fullmatch(text)) is not None:  # most are, and the library takes several times longer
        major, minor, patch = numbers.groups("0")
        return SemanticVersion((int(major), int(minor), int(patch)))
    try:
        version = SemverVersion.parse(text.replace("_", "+", 1), optional_minor_and_patch=True)
    except ValueError:
        return None
    pre_release = parse_identifiers(version.prerelease or "")
    return SemanticVersion((version.major, version.minor, version.patch), not pre_release, pre_release)


def parse_identifiers(text: str) -> Identifiers:
    """Split a pre-release (``rc.1``) into comparable identifiers; empty for an empty text."""
    if not text:
        return ()
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in text.split("."))


def order_key(tag: str) -> OrderKey:
    """The place of a tag in ascending version order: total over all texts, different for different texts.

    Versions come first, then everything else (``latest``, branch names) in natural order (``pr-9`` before
    ``pr-10``). A tag is a version if semver reads it (``find_semantic_version``), else if packaging does (PEP 440:
    ``1.2.3.4``, ``2024.01.15``, ``1.0rc1``). Versions of both kinds compare by epoch and release numbers, then
    pre-releases come before the release and post-releases after it; between two pre-releases of one release,
    semver's precede packaging's and each kind is ordered by its own rules. Equal versions (``1.0``, ``1.0.0``,
    ``v1.0``) are ordered as texts.
    """
    semantic = find_semantic_version(tag)
    if semantic is not None:
        phase = _FINAL if semantic.is_release else _PRE_RELEASE
        release = _without_trailing_zeros(semantic.release)
        return (_VERSION, 0, release, phase, _SEMVER, semantic.pre_release, tag)
    version = _find_packaging_version(tag)
    if version is not None:
        release = _without_trailing_zeros(version.release)
        return (_VERSION, version.epoch, release, _packaging_phase(version), _PACKAGING, version, tag)
    return (_TEXT, _natural_key(tag), tag)


def _find_packaging_version(tag: str) -> PackagingVersion | None:
    if len(tag) > MAX_VERSION_LENGTH or not tag.isascii():
        return None
    try:
        return PackagingVersion(tag)
    except InvalidVersion:
        return None


def _packaging_phase(version: PackagingVersion) -> int:
    """On which side of its release PEP 440 sorts it: 1.0a1.post1 is before 1.0, 1.0.post1.dev1 after it."""
    if version.pre is not None or (version.dev is not None and version.post is None):
        return _PRE_RELEASE
    return _FINAL if version.post is None else _POST_RELEASE


def _without_trailing_zeros(release: tuple[int, ...]) -> tuple[int, ...]:
    end = len(release)
    while end and release[end - 1] == 0:
        end -= 1
    return release[:end]


def _natural_key(text: str) -> OrderKey:
    """Digit runs by value and before other text; by length and digits, because int() refuses very long ones."""
    parts = (part for part in _DIGITS.split(text) if part)
    return tuple(_number_key(part) if part[0] in "0123456789" else (1, 0, part) for part in parts)


def _number_key(digits: str) -> tuple[int, int, str]:
    significant = digits.lstrip("0")
    return (0, len(significant), significant)


@dataclass(frozen=True, slots=True)
class LooseComparison:
    """A comparison such as ``<1.4`` by the rules of docker-registry-util (``LooseVersion`` of distutils).

    A version is its digit runs (numbers), lower-case letter runs and the text between, without dots. Versions are
    compared part by part, a shorter one is below its continuations: ``1.2-rc1`` is *above* ``1.2``, ``1.0`` and
    ``1.00`` are equal, ``1.0.0`` is above both. Where a number meets letters nothing can be said and nothing
    matches, so ``latest`` and ``v1.1`` are neither below nor above ``1.2``.
    """

    operator: str
    version: str
    _parts: list[Any] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_parts", _loose_parts(self.version))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``<``, ``>``, ``<=``, ``>=`` or ``==`` and a version; raises ``InputError`` (``bad-pattern``)."""
        operator = next((sign for sign in _LOOSE_OPERATORS if text.startswith(sign)), "")
        version = text.removeprefix(operator)
        if not operator or not version:
            raise InputError(
                f"{text[:80]!r} is not a version comparison",
                hint="Write <, >, <=, >= or == and a version, for example <1.4.",
                code="bad-pattern",
            )
        if len(version) > MAX_VERSION_LENGTH:
            raise InputError(
                f"the version has {len(version)} characters",
                hint=f"The limit is {MAX_VERSION_LENGTH}.",
                code="bad-pattern",
            )
        return cls(operator, version)

    def matches(self, tag: str) -> bool:
        """Whether the tag stands in this relation to the version; ``False`` where they cannot be compared."""
        left, right = _loose_parts(tag), self._parts
        if left == right:
            return self.operator in ("==", "<=", ">=")
        try:
            is_less = left < right
        except TypeError:
            return False
        return is_less if self.operator in ("<", "<=") else self.operator in (">", ">=") and not is_less

    def __str__(self) -> str:
        return f"{self.operator}{self.version}"


def _loose_parts(text: str) -> list[Any]:
    return [_loose_part(part) for part in _LOOSE_PARTS.split(text) if part and part != "."]


def _loose_part(part: str) -> int | str:
    try:
        return int(part)
    except ValueError:
        return part
