"""Where does a page go on? Cursors, and the SQL that starts behind one (keyset paging).

A cursor holds the last row's place in the order. NULL sorts last in both directions, so the rows behind a place are
several ranges, each of which an index can serve; read one after the other they are in order.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from sqlalchemy import and_, nulls_last
from sqlalchemy.sql.elements import ColumnElement, UnaryExpression
from sqlalchemy.sql.operators import custom_op

from regwarden.errors import InputError

_HINT: Final = "Give --cursor what the page before named as the next one, with the same question and the same --sort."
_LARGEST: Final = 2**63 - 1
_LONGEST: Final = 8192

Place = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class OrderKey:
    """One column of an order. ``stored`` is the Python type of its values.

    ``is_sorted_apart`` keeps SQLite from choosing an index for the sake of this order.
    """

    expression: ColumnElement[Any]
    stored: type
    is_descending: bool = False
    is_nullable: bool = False
    is_sorted_apart: bool = False

    @property
    def plain(self) -> ColumnElement[Any]:
        """For ORDER BY where the column is not NULL."""
        column = self.expression
        if self.is_sorted_apart:
            column = UnaryExpression(column, operator=custom_op("+"), type_=column.type)
        return column.desc() if self.is_descending else column.asc()


@dataclass(frozen=True, slots=True)
class Segment:
    """A range of rows: its condition (``None``: all) and the order within it, without what is constant in it."""

    condition: ColumnElement[bool] | None
    ordering: tuple[ColumnElement[Any], ...]


def segments(keys: Sequence[OrderKey], place: Place | None) -> list[Segment]:
    """The ranges of rows behind ``place`` (``None``: all rows), in order.

    Together they hold every row behind it once. The keys must end with what makes a row unique.
    """
    if place is None:
        first, following = keys[0], _orderings(keys[1:])
        if not first.is_nullable:
            return [Segment(None, (first.plain, *following))]
        return [
            Segment(first.expression.is_not(None), (first.plain, *following)),
            Segment(first.expression.is_(None), following),
        ]
    found = []
    for position in reversed(range(len(keys))):
        key, rest = keys[position], _orderings(keys[position + 1 :])
        same = [_equal(before, value) for before, value in zip(keys[:position], place, strict=False)]
        if place[position] is None:
            continue
        found.append(Segment(and_(*same, _beyond(key, place[position])), (key.plain, *rest)))
        if key.is_nullable:
            found.append(Segment(and_(*same, key.expression.is_(None)), rest))
    return found


def _orderings(keys: Sequence[OrderKey]) -> tuple[ColumnElement[Any], ...]:
    return tuple(nulls_last(key.plain) if key.is_nullable else key.plain for key in keys)


def _equal(key: OrderKey, value: object) -> ColumnElement[bool]:
    return key.expression.is_(None) if value is None else key.expression == value


def _beyond(key: OrderKey, value: object) -> ColumnElement[bool]:
    return key.expression < value if key.is_descending else key.expression > value


def write_cursor(order: str, place: Place) -> str:
    """The opaque text of a place in an order."""
    return base64.urlsafe_b64encode(msgspec.msgpack.encode((order, place))).decode().rstrip("=")


def read_cursor(text: str, order: str, keys: Sequence[OrderKey]) -> Place:
    """The place that a cursor names; raises ``InputError`` (code ``bad-cursor``) if it is not one of this order."""
    if len(text) > _LONGEST:
        raise _bad_cursor()
    try:
        packed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        written, place = msgspec.msgpack.decode(packed, type=tuple[str, tuple[Any, ...]])
    except (binascii.Error, ValueError, RecursionError, msgspec.DecodeError):
        raise _bad_cursor() from None
    if written != order or len(place) != len(keys):
        raise _bad_cursor()
    if not all(_fits(key, value) for key, value in zip(keys, place, strict=True)):
        raise _bad_cursor()
    return place


def _fits(key: OrderKey, value: object) -> bool:
    if value is None:
        return key.is_nullable
    if isinstance(value, bool) or not isinstance(value, key.stored):
        return False
    if isinstance(value, int):
        return abs(value) <= _LARGEST
    return not isinstance(value, str) or "\0" not in value


def _bad_cursor() -> InputError:
    return InputError("the cursor does not belong to this question", hint=_HINT, code="bad-cursor")
