"""Is a plan allowed to run at a moment, and when is it next? Windows of policies, read in the time zones they name.

A plan demands one text for each policy that has windows, made by ``write_windows``: one window of every text must be
open. The names of time zones are those of the IANA database.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from regwarden.core.policy_values import WINDOW, Window
from regwarden.errors import InputError

_SEPARATOR: Final = " or "
_WEEK_DAY_COUNT: Final = 7
# A week and a day: what opened earlier today opens again on the same day of the next week.
_SEARCHED_DAY_COUNT: Final = 9


def write_windows(windows: Sequence[Window]) -> str:
    """The windows of one policy as one text; ``parse_windows`` reads it."""
    return _SEPARATOR.join(sorted(map(str, windows)))


def parse_windows(text: str) -> tuple[Window, ...]:
    """The windows of one policy; raises ``InputError`` where one cannot be read."""
    return tuple(WINDOW.parse(part) for part in text.split(_SEPARATOR))


def are_open(texts: Iterable[str], at: datetime) -> bool:
    """Whether each text has a window that is open at ``at`` (aware). No texts: always.

    Raises ``InputError`` (code ``unknown-time-zone``) where a zone is not known on this machine.
    """
    return all(any(_is_open(window, at) for window in parse_windows(text)) for text in texts)


def next_opening(texts: Sequence[str], after: datetime) -> datetime | None:
    """The first moment from ``after`` on (aware; in UTC) at which they are open; ``None`` if not within nine days.

    Raises ``InputError`` as ``are_open`` does.
    """
    if are_open(texts, after):
        return after.astimezone(UTC)
    starts = {start for text in texts for window in parse_windows(text) for start in _starts(window, after)}
    return next((start for start in sorted(starts) if start > after and are_open(texts, start)), None)


def _is_open(window: Window, at: datetime) -> bool:
    if window.never_opens:
        return False
    local = at.astimezone(_zone(window.zone))
    day, clock = local.weekday(), local.time()
    if window.end == time() or window.start < window.end:
        return day in window.days and window.start <= clock and (window.end == time() or clock < window.end)
    began_yesterday = (day - 1) % _WEEK_DAY_COUNT in window.days and clock < window.end
    return began_yesterday or (day in window.days and clock >= window.start)


def _starts(window: Window, after: datetime) -> Iterator[datetime]:
    zone = _zone(window.zone)
    today = after.astimezone(zone).date()
    for distance in range(_SEARCHED_DAY_COUNT):
        yield datetime.combine(today + timedelta(days=distance), window.start, zone).astimezone(UTC)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        hint = "Use a name of the IANA database, such as Europe/Berlin or UTC."
        raise InputError(f"the time zone {name} is not known here", hint=hint, code="unknown-time-zone") from None
