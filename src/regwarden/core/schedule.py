"""When is something to be done next? After an interval, by a cron line in UTC, or never; spread out a little.

The spreading is derived from what is scheduled and when it last started, so the same question has the same answer.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from cronsim import CronSim, CronSimError

from regwarden.core.quantities import parse_duration
from regwarden.errors import InputError

NEVER: Final = "never"
SHORTEST_INTERVAL: Final = timedelta(seconds=10)

_CRON_FIELD_COUNT: Final = 5
_INTERVAL_SHARE: Final = 0.1
_LONGEST_INTERVAL_SPREAD: Final = timedelta(minutes=5)
_CRON_SPREAD: Final = timedelta(seconds=60)
# Any moment will do to see whether a cron line ever comes round.
_SOME_DAY: Final = datetime(2024, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Schedule:
    """Made by ``parse_schedule``. Either ``interval`` or ``cron`` is set, or neither: then it is never."""

    text: str
    interval: timedelta | None = None
    cron: str = ""

    @property
    def is_never(self) -> bool:
        """Whether nothing is ever due."""
        return self.interval is None and not self.cron

    def __str__(self) -> str:
        return self.text


def parse_schedule(text: str) -> Schedule:
    """``1h`` (at least ten seconds), ``0 3 * * *`` (minute, hour, day, month, weekday in UTC) or ``never``.

    Raises ``InputError`` (code ``bad-schedule``).
    """
    words = text.split()
    if words == [NEVER]:
        return Schedule(NEVER)
    if len(words) == 1:
        return Schedule(words[0], interval=_interval(words[0]))
    line = " ".join(words)
    if len(words) != _CRON_FIELD_COUNT or not _comes_round(line):
        raise _bad(f"{text[:80]!r} is not a schedule")
    return Schedule(line, cron=line)


def next_run(schedule: Schedule, last_started_at: datetime | None, now: datetime, *, seed: str) -> datetime | None:
    """When the next run is due, ``now`` at the earliest; ``None`` for never. Whatever was missed is due once.

    ``seed`` names what is scheduled: two with the same schedule do not start at the same moment.
    """
    if schedule.is_never:
        return None
    if last_started_at is None:
        return now
    spread = _fraction(f"{seed}\n{last_started_at.isoformat()}")
    if schedule.interval is not None:
        widest = min(schedule.interval * _INTERVAL_SHARE, _LONGEST_INTERVAL_SPREAD)
        due = last_started_at + schedule.interval + widest * spread
    else:
        due = next(CronSim(schedule.cron, last_started_at.astimezone(UTC))) + _CRON_SPREAD * spread
    return max(due, now)


def _interval(text: str) -> timedelta:
    try:
        interval = parse_duration(text)
    except InputError:
        raise _bad(f"{text[:80]!r} is not a schedule") from None
    if interval < SHORTEST_INTERVAL:
        raise _bad(f"{text[:80]} is too often")
    return interval


def _comes_round(line: str) -> bool:
    try:
        next(CronSim(line, _SOME_DAY))
    except (CronSimError, StopIteration):
        return False
    return True


def _fraction(text: str) -> float:
    """A number from 0 to 1 that looks random, and is always the same for a text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6]) / 2**48


def _bad(message: str) -> InputError:
    return InputError(
        message,
        hint='Write a duration of at least 10s (30m, 1h), a cron line of five fields in UTC ("0 3 * * *") or never.',
        code="bad-schedule",
    )
