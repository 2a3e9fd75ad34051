"""How old is each row, from which moment, in which unit?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Final

from regwarden.errors import InputError

AGE_UNITS: Final = ("seconds", "minutes", "hours", "days", "weeks")


def age_field(unit: str | None) -> str:
    """The name of the column: ``age_days``."""
    return f"age_{unit or 'days'}"


def add_ages(rows: Iterable[Mapping[str, object]], age_from: str | None, unit: str) -> Iterator[Mapping[str, object]]:
    """The rows with their age in whole ``unit``s at ``age_from`` (a date, or now); unknown stays unknown."""
    from regwarden import clock
    from regwarden.core.ages import AgeUnit, age

    moment = parse_date(age_from) if age_from else clock.now()
    for row in rows:
        created = row.get("created_at", row.get("newest_created_at"))
        whole = age(created, moment, AgeUnit(unit)) if isinstance(created, datetime) else None
        yield {**row, age_field(unit): whole}


def parse_date(text: str) -> datetime:
    """A date, or a date and time, ISO 8601; without a zone it is UTC. Raises ``InputError``."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise InputError(f"{text[:40]!r} is not a date", hint="Write 2026-01-31 or 2026-01-31T12:00:00Z.") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
