"""Where did a page end? A cursor is made here and read here; clients pass it on as it is."""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any, Final, TypeVar

import msgspec

from regwarden.web.api.problems import WrongParameter

T = TypeVar("T")

_MOST_NUMBER: Final = 2**63 - 1


def write_cursor(place: Any) -> str:
    """The text that stands for a place: a number, or a tuple of numbers and texts."""
    return urlsafe_b64encode(msgspec.json.encode(place)).decode().rstrip("=")


def read_cursor(text: str | None, kind: type[T]) -> T | None:
    """The place that a text stands for; ``None`` is the beginning. Raises ``WrongParameter`` (code ``bad-cursor``)."""
    if text is None:
        return None
    try:
        content = urlsafe_b64decode(text + "=" * (-len(text) % 4))
        return msgspec.json.decode(content, type=kind)
    except (binascii.Error, msgspec.DecodeError, UnicodeError, ValueError, RecursionError) as error:
        raise _bad() from error


def read_number(text: str | None) -> int | None:
    """The number of a cursor that is one: the id of the last row of the page before."""
    number = read_cursor(text, int)
    if number is not None and not 0 <= number <= _MOST_NUMBER:
        raise _bad()
    return number


def _bad() -> WrongParameter:
    hint = "Follow the link `next` of the page before."
    return WrongParameter("cursor", "this is no cursor of this list", hint=hint, code="bad-cursor")


def read_place(cursor: str | None) -> int:
    """How many entries came before, where the cursor is that number. Raises ``WrongParameter``."""
    if cursor is None:
        return 0
    if not (cursor.isascii() and cursor.isdecimal() and len(cursor) < 10):
        raise WrongParameter("cursor", "the cursor does not belong to this list", code="bad-cursor")
    return int(cursor)
