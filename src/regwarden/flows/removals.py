"""What did we remove from a registry lately, and what was looked at since then? Read from the journal alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from regwarden.store import journal
from regwarden.store.connections import Connection
from regwarden.store.journal import EntryKind, JournalEntry, Result
from regwarden.store.plan_records import StoredStep
from regwarden.store.plans import load_steps

LOOKED_BACK: Final = timedelta(days=8)
"""How late an event or a reading may come and still be looked at."""

_ABANDONED_AFTER: Final = timedelta(minutes=10)
_FIRST_PAUSE: Final = timedelta(seconds=30)
_LONGEST_PAUSE: Final = timedelta(hours=1)
_EVENT: Final = re.compile(r"event ([0-9]+)")
_READING: Final = re.compile(r"a reading found [^ ]+")


@dataclass(frozen=True, slots=True)
class Removal:
    """A step that was, or may have been, carried out.

    ``ended_at`` is when at the latest, ``event_id`` the last event known before it, ``handled`` the events that were
    looked at since then.
    """

    plan_id: int
    step: StoredStep
    begun_at: datetime
    ended_at: datetime
    event_id: int
    handled: frozenset[int]


@dataclass(frozen=True, slots=True)
class Look:
    """When something was last looked at, and how often in a row it could not be put back."""

    at: datetime
    failure_count: int = 0

    def is_due(self, now: datetime) -> bool:
        """Whether what failed may be tried again: at once after the first time, and then ever more rarely."""
        if self.failure_count <= 1:
            return True
        pause = _FIRST_PAUSE * (1 << min(self.failure_count - 2, 10))
        return now >= self.at + min(pause, _LONGEST_PAUSE)


@dataclass(frozen=True, slots=True)
class Removed:
    """What was removed in one repository, and the last look at each thing by the words that name it in the journal."""

    removals: tuple[Removal, ...]
    looks: Mapping[str, Look]


def event_words(event_id: int) -> str:
    """How the journal names an event that was looked at."""
    return f"event {event_id}"


def reading_words(subject: str) -> str:
    """How the journal names a tag or digest that a reading of the registry found to lead nowhere."""
    return f"a reading found {subject}"


def load_removed(connection: Connection, registry: str, repository: str, now: datetime) -> dict[str, Removed]:
    """By repository, of a registry or one of its repositories: every step begun lately that has come to an end."""
    entries = journal.load_registry_journal(connection, registry, since=now - LOOKED_BACK, repository=repository)
    by_step: dict[tuple[int, int], list[JournalEntry]] = {}
    looks: dict[str, dict[str, Look]] = {}
    for one in entries:
        by_step.setdefault((one.plan_id, one.position), []).append(one)
        if one.entry is EntryKind.RESTORE_OUTCOME:
            _note_look(looks.setdefault(one.repository, {}), one)
    place = (registry, repository) if repository else None
    found: dict[str, list[Removal]] = {}
    for plan_id in sorted({key[0] for key in by_step}):
        for stored in load_steps(connection, plan_id, place=place):
            removal = _removal(stored, by_step.get((plan_id, stored.step.position), ()), now)
            if removal is not None:
                found.setdefault(stored.step.repository, []).append(removal)
    return {name: Removed(tuple(found[name]), looks.get(name, {})) for name in sorted(found)}


def _note_look(looks: dict[str, Look], entry: JournalEntry) -> None:
    match = _READING.search(entry.detail) or _EVENT.search(entry.detail)
    if match is None:
        return
    subject = match[0]
    before = looks.get(subject)
    failed = entry.result == Result.FAILED
    looks[subject] = Look(entry.at, (before.failure_count if before else 0) + 1 if failed else 0)


def _removal(stored: StoredStep, entries: Sequence[JournalEntry], now: datetime) -> Removal | None:
    begun: JournalEntry | None = None
    ended: JournalEntry | None = None
    handled = set()
    for one in entries:
        if one.entry is EntryKind.INTENT:
            begun, ended = one, None
        elif one.entry is EntryKind.OUTCOME:
            ended = one
        elif one.entry is EntryKind.RESTORE_OUTCOME and one.result != Result.FAILED:
            handled.add(_number_in(one.detail))
    # While the request may be under way, nothing can be said: what is still there may go in a moment.
    if begun is None or (ended is None and begun.at > now - _ABANDONED_AFTER):
        return None
    return Removal(
        plan_id=begun.plan_id,
        step=stored,
        begun_at=begun.at,
        ended_at=now if ended is None else ended.at,
        event_id=_number_in(begun.detail),
        handled=frozenset(handled),
    )


def _number_in(detail: str) -> int:
    """The event that an entry of the journal names."""
    match = _EVENT.search(detail)
    return int(match[1]) if match else 0
