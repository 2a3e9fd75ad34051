"""How people write sizes (``500MiB``), durations (``30d``), moments (``2026-01-31``) and counts."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

from regwarden.errors import InputError

# The largest integer of both databases.
MAX_INTEGER: Final = 2**63 - 1
MAX_DURATION: Final = timedelta(days=365 * 100)

_SIZE_UNITS: Final = {
    "": 1,
    "b": 1,
    **{f"{letter}b": 1000**power for power, letter in enumerate("kmgtp", start=1)},
    **{f"{letter}ib": 1024**power for power, letter in enumerate("kmgtp", start=1)},
}
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400, "y": 365 * 86_400}
_SIZE: Final = re.compile(r"([0-9]{1,19}(?:\.[0-9]{1,9})?) ?([A-Za-z]{0,3})")
_DURATION: Final = re.compile(r"(?:[0-9]{1,12}(?:\.[0-9]{1,6})?[smhdwy])+")
_DURATION_PART: Final = re.compile(r"([0-9.]+)([smhdwy])")
_DURATION_LIKE: Final = re.compile(r"[0-9.]+ ?[A-Za-z]+")
_COUNT: Final = re.compile(r"-?[0-9]{1,19}")


def parse_size(text: str) -> int:
    """Bytes of ``500MiB``, ``1.5 GB``, ``20000``: kB, MB, … are powers of 1000, KiB, MiB, … of 1024, in any case.

    Raises ``InputError`` (code ``bad-size``).
    """
    match = _SIZE.fullmatch(text)
    factor = _SIZE_UNITS.get(match[2].lower()) if match is not None else None
    if match is None or factor is None:
        raise InputError(
            f"{text[:80]!r} is not a size",
            hint="Write bytes or a number with B, kB, MB, GB, TB, PB (1000) or KiB, MiB, GiB, TiB, PiB (1024).",
            code="bad-size",
        )
    size_bytes = int(Decimal(match[1]) * factor)
    if size_bytes > MAX_INTEGER:
        raise InputError(f"{text[:80]!r} is too large", code="bad-size")
    return size_bytes


def parse_count(text: str) -> int:
    """A whole number; raises ``InputError`` (code ``bad-number``)."""
    if _COUNT.fullmatch(text) is None or abs(int(text)) > MAX_INTEGER:
        raise InputError(f"{text[:80]!r} is not a whole number", code="bad-number")
    return int(text)


def parse_duration(text: str) -> timedelta:
    """A duration: ``30d``, ``1.5h``, ``1d12h``; s, m (minutes), h, d, w, y (365 days); at most 100 years.

    Raises ``InputError`` (code ``bad-duration``).
    """
    if _DURATION.fullmatch(text) is None:
        raise InputError(
            f"{text[:80]!r} is not a duration",
            hint="Write a number with s, m (minutes), h, d, w or y (365 days), for example 30d or 1d12h.",
            code="bad-duration",
        )
    seconds = sum(Decimal(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(text))
    if seconds > MAX_DURATION.total_seconds():
        raise InputError(f"{text[:80]!r} is longer than 100 years", code="bad-duration")
    return timedelta(microseconds=int(seconds * 1_000_000))


def parse_moment(text: str) -> datetime:
    """An ISO 8601 date (its beginning) or date and time, as aware UTC; UTC where no zone is given.

    Raises ``InputError`` (code ``bad-time``).
    """
    try:
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise InputError(
            f"{text[:80]!r} is not a time",
            hint="Write a date (2026-01-31), a date and time (2026-01-31T12:00:00Z) or an age (30d).",
            code="bad-time",
        ) from None


def is_date(text: str) -> bool:
    """Whether a text that ``parse_moment`` reads is a date without a time: in ISO 8601 only those are so short."""
    return len(text) <= len("2026-01-31")


def parse_moment_or_duration(text: str) -> datetime | timedelta:
    """A moment or an age, whichever it looks like; raises ``InputError``."""
    return parse_duration(text) if _DURATION_LIKE.fullmatch(text) or _DURATION.fullmatch(text) else parse_moment(text)
