"""How old something is: whole units between two moments, counted as gitlab-ls-registry counts days."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum


class AgeUnit(StrEnum):
    """The unit of an age."""

    SECONDS = "seconds"
    MINUTES = "minutes"
    HOURS = "hours"
    DAYS = "days"
    WEEKS = "weeks"


def age(created_at: datetime, from_date: datetime, unit: AgeUnit = AgeUnit.DAYS) -> int:
    """Whole ``unit``s from ``created_at`` to ``from_date`` (both aware), truncated toward zero.

    The *total* in that unit (36 hours are 36 hours, not 12), negative for what was created later.
    """
    length = timedelta(**{unit.value: 1})
    elapsed = from_date - created_at
    return elapsed // length if elapsed >= timedelta(0) else -(-elapsed // length)
