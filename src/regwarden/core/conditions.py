"""What ``field op value`` means: ``size > 500MiB``, ``created < 30d``, ``tag ~ glob:v*``, and how a list is sorted.

The structure is public, so that the store can turn it into SQL; ``Condition.evaluate`` is the specification.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, TypeAlias

from regwarden.core import quantities
from regwarden.core.fields import Field, FieldType, Noun, resolve_field
from regwarden.core.oci.digests import Digest
from regwarden.core.patterns import Pattern, PatternKind, parse_pattern, split_kind
from regwarden.errors import InputError

MAX_CONDITION_LENGTH: Final = 4000
MAX_VALUES: Final = 500

# A truth is an int.
FieldValue: TypeAlias = int | str | datetime | Digest
Value: TypeAlias = FieldValue | timedelta | Pattern


class Operator(StrEnum):
    """How a field is compared; the value is how it is written. ``UNKNOWN`` and ``KNOWN`` take no value."""

    EQUAL = "="
    NOT_EQUAL = "!="
    LESS = "<"
    LESS_OR_EQUAL = "<="
    GREATER = ">"
    GREATER_OR_EQUAL = ">="
    MATCHES = "~"
    IN = "in"
    BETWEEN = "between"  # both ends included, the lower one first
    CONTAINS = "contains"
    UNKNOWN = "= unknown"
    KNOWN = "!= unknown"


_EQUALITY: Final = frozenset({Operator.EQUAL, Operator.NOT_EQUAL})
_ORDER: Final = frozenset(
    {Operator.LESS, Operator.LESS_OR_EQUAL, Operator.GREATER, Operator.GREATER_OR_EQUAL, Operator.BETWEEN}
)
_TEXTUAL: Final = frozenset({Operator.MATCHES, Operator.CONTAINS, Operator.IN}) | _EQUALITY
_ALLOWED: Final = {
    FieldType.TEXT: _TEXTUAL,
    FieldType.DIGEST: _TEXTUAL,
    FieldType.BOOL: _EQUALITY,
    FieldType.BYTES: _EQUALITY | _ORDER | {Operator.IN},
    FieldType.COUNT: _EQUALITY | _ORDER | {Operator.IN},
    FieldType.TIME: _EQUALITY | _ORDER | {Operator.IN},
}
_MIRRORED: Final = {
    Operator.LESS: Operator.GREATER,
    Operator.LESS_OR_EQUAL: Operator.GREATER_OR_EQUAL,
    Operator.GREATER: Operator.LESS,
    Operator.GREATER_OR_EQUAL: Operator.LESS_OR_EQUAL,
}
_COMPARE: Final[dict[Operator, Callable[[Any, Any], bool]]] = {
    Operator.EQUAL: operator.eq,
    Operator.NOT_EQUAL: operator.ne,
    Operator.LESS: operator.lt,
    Operator.LESS_OR_EQUAL: operator.le,
    Operator.GREATER: operator.gt,
    Operator.GREATER_OR_EQUAL: operator.ge,
}
_SPELLINGS: Final = {"==": Operator.EQUAL, "matches": Operator.MATCHES}
_TRUTHS: Final = {"true": True, "yes": True, "false": False, "no": False}
_CONDITION: Final = re.compile(
    r"(?P<field>[A-Za-z][A-Za-z0-9_-]*)"
    r"(?:\s*(?P<sign><=|>=|==|!=|=|<|>|~)|\s+(?P<word>in|between|contains|matches)(?=\s|$))"
    r"\s*(?P<value>.*)",
    re.IGNORECASE | re.DOTALL,
)
_BETWEEN: Final = re.compile(r"(.+?)\s+and\s+(.+)", re.IGNORECASE | re.DOTALL)
_HINT: Final = "Write FIELD OPERATOR VALUE with = != < <= > >= ~ in between contains, for example size > 500MiB."


def operators_of(kind: FieldType) -> tuple[Operator, ...]:
    """The operators that apply to fields of a type, those that take no value included."""
    return tuple(sign for sign in Operator if sign in _ALLOWED[kind] or sign in (Operator.UNKNOWN, Operator.KNOWN))


@dataclass(frozen=True, slots=True)
class Condition:
    """One comparison, parsed.

    ``values`` are typed: ``int`` (bytes, counts), aware ``datetime`` or, for an age, ``timedelta``, ``Digest``,
    ``bool``, ``str``, and for ``~`` one ``Pattern``; two for ``between``, any number for ``in``, none for ``UNKNOWN``
    and ``KNOWN``. On a digest, ``~`` and ``contains`` look at ``algorithm:hex``.
    """

    field: Field
    operator: Operator
    values: tuple[Value, ...] = ()

    def evaluate(self, value: FieldValue | None, now: datetime, *, before: datetime | None = None) -> bool | None:
        """Whether ``value`` of the field fulfils this; ``None`` (unknown) where there is no value.

        ``now`` is aware; ages are counted from it. ``before`` says of a time that has no value that, if there is one,
        it is earlier than this (never is earlier than everything): that may be enough to decide.
        """
        if self.operator in (Operator.UNKNOWN, Operator.KNOWN):
            return (value is None) == (self.operator is Operator.UNKNOWN)
        bounded = self.bounds(now)
        if value is None:
            earliest = bounded.earliest
            is_decided = earliest is not None and before is not None and before <= earliest
            return bounded.is_met_before if is_decided else None
        return _compare(bounded, value)

    @property
    def earliest(self) -> datetime | None:
        """The earliest moment that something is compared with; ``None`` if it is not compared with moments."""
        return min((value for value in self.values if isinstance(value, datetime)), default=None)

    @property
    def is_met_before(self) -> bool:
        """Whether a time before ``earliest`` fulfils this comparison with moments."""
        return self.operator in (Operator.LESS, Operator.LESS_OR_EQUAL, Operator.NOT_EQUAL)

    def bounds(self, now: datetime) -> Condition:
        """The same comparison with moments instead of ages: younger than 30 days is after ``now`` minus 30 days."""
        ages = [value for value in self.values if isinstance(value, timedelta)]
        if not ages:
            return self
        moments = sorted(now - age for age in ages)
        return replace(self, operator=_MIRRORED.get(self.operator, self.operator), values=tuple(moments))

    def __str__(self) -> str:
        if not self.values:
            return f"{self.field.name} {self.operator}"
        separator = " and " if self.operator is Operator.BETWEEN else ","
        return f"{self.field.name} {self.operator} {separator.join(_written(value) for value in self.values)}"


@dataclass(frozen=True, slots=True)
class Sort:
    """One field to sort by."""

    field: Field
    descending: bool = False

    def __str__(self) -> str:
        return f"-{self.field.name}" if self.descending else self.field.name


def parse_condition(noun: Noun, text: str) -> Condition:
    """Read ``field op value`` about a noun.

    - A time against a duration compares the age (``created < 30d``: younger than 30 days), against a date or a
      date and time the moment; a date is its beginning in UTC.
    - After ``~`` (or ``matches``) stands a typed pattern; a bare text is a regular expression found anywhere.
    - ``in`` takes values separated by commas, ``between`` two with ``and``, both included.
    - The word ``unknown`` after ``=`` or ``!=`` asks whether there is no value. Quotes around a value are dropped:
      ``= ''`` is the empty text and ``= 'unknown'`` the word.

    Raises ``InputError`` (code ``bad-condition``, ``unknown-field``, ``bad-pattern`` or that of the value).
    """
    match = _CONDITION.fullmatch(text.strip()) if len(text) <= MAX_CONDITION_LENGTH else None
    if match is None:
        raise _bad(text, "it is not of the form FIELD OPERATOR VALUE")
    if not text.isprintable():
        raise _bad(text, "it has a character that cannot be printed")
    field = resolve_field(noun, match["field"])
    word = (match["sign"] or match["word"]).lower()
    sign = _SPELLINGS.get(word) or Operator(word)
    written = match["value"]
    if not written:
        raise _bad(text, "it has no value")
    if written.lower() == "unknown" and sign in _EQUALITY:
        return Condition(field, Operator.UNKNOWN if sign is Operator.EQUAL else Operator.KNOWN)
    _check_operator(field, sign, text)
    values = tuple(_parse_value(field, sign, part, text) for part in _split_values(sign, written, text))
    _check_values(sign, values, text)
    return Condition(field, sign, values)


def parse_sort(noun: Noun, text: str) -> Sort:
    """Read ``size``, ``-size``, ``size:desc`` or ``size:asc``; raises ``InputError``."""
    name, colon, direction = text.strip().partition(":")
    if colon and direction.lower() not in ("asc", "desc"):
        raise InputError(f"{text[:80]!r} is not an order", hint="Write FIELD, -FIELD or FIELD:desc.", code="bad-sort")
    if colon and name.startswith("-"):
        raise InputError(f"{text[:80]!r} gives two directions", hint="Write -FIELD or FIELD:desc.", code="bad-sort")
    return Sort(resolve_field(noun, name.removeprefix("-")), name.startswith("-") or direction.lower() == "desc")


def _compare(condition: Condition, value: FieldValue) -> bool:
    values = condition.values
    first: Any = values[0]
    if condition.operator is Operator.IN:
        return value in values
    if condition.operator is Operator.CONTAINS:
        return str(first) in str(value)
    if isinstance(first, Pattern):
        return first.matches(str(value))
    if condition.operator is Operator.BETWEEN:
        return bool(first <= value) and _COMPARE[Operator.LESS_OR_EQUAL](value, values[1])
    return _COMPARE[condition.operator](value, first)


def _check_operator(field: Field, sign: Operator, text: str) -> None:
    if sign in _ALLOWED[field.type]:
        return
    hint = f"{field.name} is compared with {', '.join(sorted(_ALLOWED[field.type]))}."
    if field.type is FieldType.TEXT and sign in _ORDER:
        hint = f"Texts have no order. For versions write {field.name} ~ 'semver:>=1.0' or {field.name} ~ 'loose:<1.4'."
    raise _bad(text, f"{sign} does not apply to {field.name}", hint=hint)


def _split_values(sign: Operator, written: str, text: str) -> list[str]:
    if sign is Operator.IN:
        parts = [part.strip() for part in written.split(",")]
        if not all(parts):
            raise _bad(text, "a value between the commas is missing")
        if len(parts) > MAX_VALUES:
            raise _bad(text, f"it lists {len(parts)} values, the limit is {MAX_VALUES}")
        return parts
    if sign is Operator.BETWEEN:
        match = _BETWEEN.fullmatch(written)
        if match is None:
            raise _bad(text, "between needs two values", hint="Write for example size between 1MB and 2GiB.")
        return [match[1], match[2]]
    return [written]


def _parse_value(field: Field, sign: Operator, written: str, text: str) -> Value:
    value = _unquote(written)
    if sign is Operator.MATCHES:
        return parse_pattern(value, bare=PatternKind.SEARCH)
    if sign is Operator.CONTAINS:
        return value
    if field.type is FieldType.TIME:
        return _parse_time(value, sign, text)
    if field.type is FieldType.TEXT and value == written and split_kind(value)[0] is not None:
        raise _bad(text, f"{sign} compares the whole text", hint=f"For a pattern write {field.name} ~ {value}.")
    return _VALUE_PARSERS[field.type](value)


def _parse_digest(value: str) -> Digest:
    try:
        return Digest.parse(value)
    except InputError as error:
        hint = f"For a part of a digest write contains {value[:80]}."
        raise InputError(error.message, hint=hint, code=error.code) from None


def _parse_truth(value: str) -> bool:
    truth = _TRUTHS.get(value.lower())
    if truth is None:
        raise InputError(f"{value[:80]!r} is neither true nor false", hint="Write true or false.", code="bad-condition")
    return truth


_VALUE_PARSERS: Final[dict[FieldType, Callable[[str], Value]]] = {
    FieldType.BYTES: quantities.parse_size,
    FieldType.COUNT: quantities.parse_count,
    FieldType.DIGEST: _parse_digest,
    FieldType.BOOL: _parse_truth,
    FieldType.TEXT: str,
}


def _parse_time(value: str, sign: Operator, text: str) -> datetime | timedelta:
    if sign in _ORDER:
        return quantities.parse_moment_or_duration(value)
    moment = quantities.parse_moment(value)
    if quantities.is_date(value):
        raise _bad(
            text,
            f"a date is a moment, and nothing happens exactly at the beginning of {value}",
            hint="For a day write between DATE and the next DATE.",
        )
    return moment


def _check_values(sign: Operator, values: tuple[Value, ...], text: str) -> None:
    if sign is not Operator.BETWEEN:
        return
    low: Any
    high: Any
    low, high = values
    if type(low) is not type(high):
        raise _bad(text, "one value is a moment and the other an age", hint="Give two moments or two ages.")
    if low > high:
        raise _bad(text, "the first value is above the second", hint="Write the lower value first.")


def _unquote(written: str) -> str:
    is_quoted = len(written) > 1 and written[0] == written[-1] and written[0] in "'\""
    return written[1:-1] if is_quoted else written


def _written(value: Value) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return f"{value.total_seconds():f}".rstrip("0").rstrip(".") + "s"
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"'{value}'" if isinstance(value, str | Pattern) else str(value)


def _bad(text: str, reason: str, *, hint: str = _HINT) -> InputError:
    return InputError(f"{text[:160]!r} is not a condition: {reason}", hint=hint, code="bad-condition")
