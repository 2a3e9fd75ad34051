"""Which texts hold a date in a given form: ``YYYYMMDD``, ``nightly-YYYY-MM-DD``, ``YYYY.MM.DD-*``?"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Self

import re2

from regwarden.errors import InputError

_PLACES: Final = {"YYYY": "year", "MM": "month", "DD": "day", "hh": "hour", "mm": "minute", "ss": "second"}
_WIDTHS: Final = {"YYYY": 4}
_PIECE: Final = re.compile(r"YYYY|MM|DD|hh|mm|ss|\*|.", re.DOTALL)
# A tag has 128 characters at most, a repository 255.
_MAX_TEXT_LENGTH: Final = 300
_HINT: Final = "Write the form of the date, for example date:YYYY-MM-DD, date:nightly-YYYYMMDD or date:YYYY.MM.DD-*."


@dataclass(frozen=True, slots=True)
class DateForm:
    """A form of dates. ``YYYY``, ``MM``, ``DD``, ``hh``, ``mm``, ``ss`` are digits, ``*`` is any run of characters."""

    text: str
    _regex: Any = field(compare=False, repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a form; it has a year, and a month before a day. Raises ``InputError`` (code ``bad-pattern``)."""
        seen: list[str] = []
        parts: list[str] = []
        for piece in _PIECE.findall(text):
            if piece in _PLACES:
                if piece in seen:
                    raise _bad(text, f"it has {piece} twice")
                seen.append(piece)
                parts.append(f"(?P<{_PLACES[piece]}>[0-9]{{{_WIDTHS.get(piece, 2)}}})")
            else:
                parts.append(".*?" if piece == "*" else re.escape(piece))
        if "YYYY" not in seen:
            raise _bad(text, "it has no YYYY")
        if "DD" in seen and "MM" not in seen:
            raise _bad(text, "it has a day without a month")
        return cls(text, re2.compile("(?s)" + "".join(parts)))

    def matches(self, text: str) -> bool:
        """Whether the whole text has this form and the date exists in the calendar."""
        return self.moment(text) is not None

    def moment(self, text: str) -> datetime | None:
        """The beginning of the period that the text names, in UTC; ``None`` if it does not have this form."""
        match = self._regex.fullmatch(text) if len(text) <= _MAX_TEXT_LENGTH and text.isascii() else None
        if match is None:
            return None
        numbers = {name: int(digits) for name, digits in match.groupdict().items()}
        try:
            return datetime(**{"month": 1, "day": 1, **numbers}, tzinfo=UTC)
        except ValueError:
            return None


def _bad(text: str, reason: str) -> InputError:
    return InputError(f"{text[:160]!r} is not a form of dates: {reason}", hint=_HINT, code="bad-pattern")
