"""How does a condition (``size > 500MiB``) become SQL, and what of it is left to check in Python?

``Condition.evaluate`` is the specification. NULL is unknown: such rows are left out unless they are asked for.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import and_, false, func, or_
from sqlalchemy.sql.elements import ColumnElement

from regwarden.core.conditions import Condition, Operator, Value
from regwarden.core.oci.digests import Digest
from regwarden.core.patterns import Pattern
from regwarden.store.query_fields import Form, StoredField
from regwarden.store.query_patterns import is_decided, narrow_any
from regwarden.store.times import to_micros

_DIGITS: Final = re.compile(r"[0-9a-f]*")
_ALGORITHMS: Final = (("sha256:", b"\x01", 64), ("sha512:", b"\x02", 128))
_COMPARISONS: Final[dict[Operator, Callable[[Any, Any], Any]]] = {
    Operator.EQUAL: operator.eq,
    Operator.NOT_EQUAL: operator.ne,
    Operator.LESS: operator.lt,
    Operator.LESS_OR_EQUAL: operator.le,
    Operator.GREATER: operator.gt,
    Operator.GREATER_OR_EQUAL: operator.ge,
}
_BINARY: Final = frozenset({Form.DIGEST, Form.HEX, Form.SHORT_HEX})


@dataclass(frozen=True, slots=True)
class Check:
    """What is left to do in Python: ``passes`` gets the stored values of ``columns``."""

    columns: tuple[ColumnElement[Any], ...]
    passes: Callable[..., bool]


@dataclass(frozen=True, slots=True)
class Filter:
    """``clause`` lets every wanted row through; if there is a ``check``, others too."""

    clause: ColumnElement[bool] | None
    check: Check | None = None


def compile_condition(
    condition: Condition, field: StoredField, now: datetime, *, dialect: str, include_unknown: bool
) -> Filter:
    """The filter of one condition on the column of its field."""
    bounded = condition.bounds(now)
    column = field.expression
    if bounded.operator is Operator.UNKNOWN:
        return Filter(column.is_(None))
    if bounded.operator is Operator.KNOWN:
        return Filter(column.is_not(None))
    clause, is_whole = _compile(bounded, field, dialect)
    if clause is not None and field.is_nullable:
        others = _without_value(bounded, field, include_unknown=include_unknown)
        clause = clause if others is None else or_(clause, others)
    if is_whole:
        return Filter(clause)
    return Filter(clause, Check((column,), _evaluator(bounded, field, now, include_unknown=include_unknown)))


def _without_value(condition: Condition, field: StoredField, *, include_unknown: bool) -> ColumnElement[bool] | None:
    """Which rows without a value are let through: those whose bound decides for them, and on request the unknown."""
    is_missing = field.expression.is_(None)
    earliest = to_micros(condition.earliest)
    if field.before is None or earliest is None:
        return is_missing if include_unknown else None
    if condition.is_met_before:
        return is_missing if include_unknown else and_(is_missing, field.before <= earliest)
    return and_(is_missing, func.coalesce(field.before, earliest + 1) > earliest) if include_unknown else None


def _evaluator(
    condition: Condition, field: StoredField, now: datetime, *, include_unknown: bool
) -> Callable[..., bool]:
    pattern = condition.values[0]
    if field.form is Form.PLAIN and isinstance(pattern, Pattern):
        return lambda value: include_unknown if value is None else pattern.matches(value)

    def passes(value: Any) -> bool:
        result = condition.evaluate(field.shown(value), now)
        return include_unknown if result is None else result

    return passes


def _compile(condition: Condition, field: StoredField, dialect: str) -> tuple[ColumnElement[bool] | None, bool]:
    """A clause, and whether it decides. Unknown values are not its business."""
    if condition.operator is Operator.MATCHES:
        return _compile_pattern(condition.values[0], field, dialect)
    if condition.operator is Operator.CONTAINS and field.form is Form.PLAIN:
        position = func.instr if dialect == "sqlite" else func.strpos
        return position(field.expression, str(condition.values[0])) > 0, True
    if condition.operator is Operator.CONTAINS:
        return None, False
    if field.form in (Form.HEX, Form.SHORT_HEX):
        return _compile_hex(condition, field), False
    values = [_stored(value) for value in condition.values]
    if condition.operator is Operator.IN:
        return field.expression.in_(values), True
    if condition.operator is Operator.BETWEEN:
        return field.expression.between(*values), True
    return _COMPARISONS[condition.operator](field.expression, values[0]), True


def _compile_pattern(pattern: Value, field: StoredField, dialect: str) -> tuple[ColumnElement[bool] | None, bool]:
    if not isinstance(pattern, Pattern):
        return None, False
    if field.form in _BINARY:
        return starts_with_digits(field.expression, pattern.literal_prefix, field.form), False
    return narrow_any(field.expression, [pattern], dialect), is_decided([pattern])


def _stored(value: object) -> Any:
    if isinstance(value, datetime):
        return to_micros(value)
    if isinstance(value, Digest):
        return value.to_bytes()
    return int(value) if isinstance(value, bool) else value


def _compile_hex(condition: Condition, field: StoredField) -> ColumnElement[bool] | None:
    if condition.operator not in (Operator.EQUAL, Operator.IN):
        return None
    clauses = [starts_with_digits(field.expression, str(value), field.form) for value in condition.values]
    known = [clause for clause in clauses if clause is not None]
    return or_(*known) if len(known) == len(clauses) else None


def starts_with_digits(column: ColumnElement[Any], prefix: str, form: Form) -> ColumnElement[bool] | None:
    """A range of stored digests whose shown text begins with ``prefix``; ``None`` if there is no useful one."""
    if not prefix:
        return None
    ranges = []
    for name, marker, length in _ALGORITHMS:
        digits = prefix
        if form is Form.DIGEST:
            if not prefix.startswith(name):
                # "sha2" may begin either.
                if name.startswith(prefix):
                    return None
                continue
            digits = prefix.removeprefix(name)
        if len(digits) <= length and _DIGITS.fullmatch(digits):
            low, high = digest_range(marker, digits, length)
            ranges.append(column == low if low == high else column.between(low, high))
    return or_(*ranges) if ranges else false()


def digest_range(marker: bytes, digits: str, length: int) -> tuple[bytes, bytes]:
    """First and last stored digest (inclusive) whose ``length`` hexadecimal digits begin with ``digits``.

    ``marker`` is the byte of the algorithm (see ``Digest.to_bytes``).
    """
    return marker + bytes.fromhex(digits.ljust(length, "0")), marker + bytes.fromhex(digits.ljust(length, "f"))
