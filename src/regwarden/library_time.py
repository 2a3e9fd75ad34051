"""What ``Inventory`` answers about the past: what there was at a moment, since when that is known, and the growth."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, TypeVar

from regwarden import clock
from regwarden.core.access import EVERYTHING, Reach
from regwarden.core.oci.digests import Digest
from regwarden.core.quantities import parse_duration, parse_moment_or_duration
from regwarden.core.query import Query
from regwarden.errors import InputError
from regwarden.library_reach import require_whole
from regwarden.library_rows import Row
from regwarden.settings import Settings
from regwarden.store.growth import Period, list_growth
from regwarden.store.holders import ContentReport, find_content
from regwarden.store.query_fields import load_registries
from regwarden.store.query_selection import find_registry
from regwarden.store.reaching import touched
from regwarden.store.time_travel import (
    KeptPulls,
    add_payload,
    fingerprint,
    history_starts,
    named_registries,
    open_past,
)

T = TypeVar("T")
# What the store's functions take; only the store knows the type behind it.
Connection = Any


class PastAnswers:
    """Reads from the state of a moment; the last one is kept, so that the pages of one answer need it made only once.

    Several threads are answered one after the other: a state may be as large as the inventory.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._key: object = None
        self._past: Connection = None
        self._resources = ExitStack()
        self._answering = threading.Lock()

    def close(self) -> None:
        """Give the kept state up."""
        with self._answering:
            self._drop()

    def ask(self, source: Connection, moment: datetime, query: Query, work: Callable[[Connection], T]) -> T:
        """The result of ``work`` on the state that the registries of a question had at ``moment``.

        Raises ``NotFound`` for an unknown registry, and (code ``before-history``) where nothing is known of then.
        """
        return self.read(source, moment, named_registries(source, query), work)

    def read(self, source: Connection, moment: datetime, names: Sequence[str], work: Callable[[Connection], T]) -> T:
        """As ``ask``, for the named registries, or all."""
        with self._answering:
            return work(self._open(source, moment, names))

    def find_content(
        self, source: Connection, moment: datetime, digest: str, registry: str | None, reach: Reach = EVERYTHING
    ) -> ContentReport | None:
        """As ``store.holders.find_content``, at ``moment``."""
        names = [] if registry is None else [find_registry(registry, touched(load_registries(source), reach)).name]
        with self._answering:
            past = self._open(source, moment, names)
            found = find_content(past, digest, registry, reach)
            if found is None or found.manifest is None:
                return found
            add_payload(source, past, Digest.parse(found.digest).to_bytes())
            return find_content(past, found.digest, registry, reach)

    def _drop(self) -> None:
        self._key = None
        self._resources.close()

    def _open(self, source: Connection, moment: datetime, names: Sequence[str]) -> Connection:
        key = (moment, tuple(sorted(names)), fingerprint(source))
        if key != self._key:
            self._drop()
            kept_since = clock.now() - parse_duration(self._settings.events.keep_pulls)
            pulls = KeptPulls(self._settings.pulls.use, kept_since)
            self._past = self._resources.enter_context(open_past(source, moment, names, pulls=pulls))
            self._key = key
        return self._past


class TimeQuestions:
    """The part of ``Inventory`` that answers about growth and the beginnings of what is known."""

    _reach: Reach

    def history_starts(self, *names: str) -> list[Row]:
        """Since when each registry (or those named) is known: ``first_seen_at``, ``first_crawled_at`` completely."""
        found = self._read(lambda connection: history_starts(connection, names))
        return [Row(asdict(one)) for one in found if self._reach.touches(one.registry)]

    def growth(
        self,
        *names: str,
        repository: str | None = None,
        since: datetime | str | None = None,
        by: str = "day",
    ) -> list[Row]:
        """How the counts and sizes of registries, or of one ``repository`` in them, developed; oldest first.

        A row for each day, week or month (``by``) with figures, those of its last day: ``registry``, ``repository``
        (``None``: the whole registry), ``day``, ``tag_count``, ``manifest_count``, ``logical_bytes``,
        ``stored_bytes``, and the changes since the row before: ``tag_count_change``, ``manifest_count_change``,
        ``logical_change_bytes``, ``stored_change_bytes`` (``None`` at first).
        ``since`` is a moment or an age as ``90d``. Days on which nothing was computed have no row.
        """
        try:
            period = Period(by)
        except ValueError:
            hint = f"There are: {', '.join(Period)}."
            raise InputError(f"{by[:40]!r} is no length of time for growth", hint=hint) from None
        first = None if since is None else _moment(since)
        reach = self._reach
        if repository is None:
            require_whole(reach, names)
        rows = self._read(lambda connection: list_growth(connection, names, repository, since=first, by=period))
        return [
            Row(asdict(row))
            for row in rows
            if (reach.has_all_of(row.registry) if row.repository is None else reach.has(row.registry, row.repository))
        ]

    def _read(self, work: Callable[[Connection], T]) -> T:
        """Given by ``Inventory``."""
        raise NotImplementedError


def _moment(given: datetime | str) -> datetime:
    if isinstance(given, datetime):
        return given.replace(tzinfo=UTC) if given.tzinfo is None else given
    found = parse_moment_or_duration(given.strip())
    return found if isinstance(found, datetime) else clock.now() - found
