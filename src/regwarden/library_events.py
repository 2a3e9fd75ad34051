"""What ``Inventory`` answers about events: which came, which could not be read, and whether they arrive at all."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, TypedDict, TypeVar, Unpack

from regwarden import clock
from regwarden.core.access import Reach
from regwarden.core.events import Action, Target
from regwarden.core.patterns import parse_pattern
from regwarden.core.quantities import parse_moment_or_duration
from regwarden.errors import InputError, NotFound, StoreError
from regwarden.library_reach import require_everything, require_whole
from regwarden.library_rows import Row, RowPage
from regwarden.settings_sections import CLASSES
from regwarden.store.deliveries import find_delivery, list_quarantine
from regwarden.store.event_reports import (
    EventQuery,
    EventRow,
    list_events,
    list_events_after,
    list_unknown_hosts,
    newest_event_id,
)
from regwarden.store.notification_reports import has_blob_events
from regwarden.store.purging import Purged, purge

if TYPE_CHECKING:
    from regwarden.library_notifications import NotificationReport, RegistrySecrets
    from regwarden.library_remote import ServiceCommand
    from regwarden.library_replay import Replayed
    from regwarden.settings_sources import LoadedSettings
    from regwarden.store.database import Database

T = TypeVar("T")

_POLL_SECONDS: Final = 0.5
_PAGE_ROWS: Final = 1000
_QUARANTINE_ROWS: Final = 1_000_000
DELIVERY_FIELDS: Final = ("id", "received_at", "registry", "sender", "state", "reason", "body_bytes", "event_count")
_WORDS: Final = {
    "actions": tuple(map(str, Action)),
    "targets": tuple(map(str, Target)),
    "classes": CLASSES,
}


class EventFilters(TypedDict, total=False):
    """Which events are meant. Everything given must hold; of several values of one kind any may.

    ``registries`` are names, ``repositories``, ``tags`` and ``actors`` patterns, ``actions`` (push, pull, mount,
    delete, rename), ``targets`` (manifest, blob, tag, repository, content) and ``classes`` (of pulls) words.
    ``since`` and ``until`` are moments or ages: a ``datetime`` or a text as ``2026-01-31`` or ``2h``.
    ``unknown_hosts``: only those whose registry is not configured.
    """

    registries: Sequence[str]
    repositories: Sequence[str]
    tags: Sequence[str]
    actors: Sequence[str]
    actions: Sequence[str]
    targets: Sequence[str]
    classes: Sequence[str]
    since: datetime | str | None
    until: datetime | str | None
    unknown_hosts: bool


class EventQuestions:
    """The part of ``Inventory`` that is about notifications."""

    settings: LoadedSettings
    _reach: Reach

    def _read(self, work: Callable[[Any], T]) -> T:
        raise NotImplementedError

    def _write(self, work: Callable[[Database], T], command: ServiceCommand[T]) -> T:
        raise NotImplementedError

    def events(
        self, *, limit: int | None = None, cursor: str | None = None, **filters: Unpack[EventFilters]
    ) -> list[Row]:
        """The events that notifications brought, newest first by the registry's clock."""
        return list(self.event_page(limit=limit, cursor=cursor, **filters).rows)

    def event_page(
        self, *, limit: int | None = None, cursor: str | None = None, **filters: Unpack[EventFilters]
    ) -> RowPage:
        """At most ``limit`` events and the cursor of those after them."""
        if limit is not None and limit < 1:
            raise InputError(f"a limit of {limit} rows is not possible", hint="Give a number from 1.", code="bad-limit")
        query = replace(build_event_query(filters), reach=self._reach)
        page = self._read(lambda connection: list_events(connection, query, limit, cursor))
        return RowPage(tuple(map(Row, page.rows)), page.next_cursor, None)

    def iterate_events(self, **filters: Unpack[EventFilters]) -> Iterator[Row]:
        """All of them, read a page at a time, for answers that do not fit into memory."""
        page = self.event_page(limit=_PAGE_ROWS, **filters)
        yield from page.rows
        while page.next_cursor is not None:
            page = self.event_page(limit=_PAGE_ROWS, cursor=page.next_cursor, **filters)
            yield from page.rows

    def follow_events(
        self, *, poll_seconds: float = _POLL_SECONDS, **filters: Unpack[EventFilters]
    ) -> Iterator[Row | None]:
        """Events as they are taken in, without end; ``None`` whenever there is nothing new for now.

        With ``since`` those from that moment on come first. Looks into the database every ``poll_seconds``.
        """
        query = replace(build_event_query(filters), reach=self._reach)
        position = 0 if query.since is not None else self._read(newest_event_id)
        while True:
            rows, position = self._read(partial(_list_after, query=query, position=position))
            yield from map(Row, sorted(rows, key=itemgetter("at", "id")))
            if not rows:
                yield None
                time.sleep(poll_seconds)

    def unknown_hosts(self) -> list[Row]:
        """The hosts that events name and no registry has: host, event_count, first_at, last_at."""
        require_everything(self._reach, "hosts that no registry has")
        try:
            return [Row(asdict(one)) for one in self._read(list_unknown_hosts)]
        except StoreError as error:
            if error.code != "no-inventory":
                raise
            return []

    def has_blob_events(self) -> bool:
        """Whether notifications have told of uploads, mounts or pulls of blobs."""
        require_everything(self._reach, "notifications")
        return self._read(has_blob_events)

    def quarantine(self, registry: str | None = None, *, limit: int = _QUARANTINE_ROWS) -> list[Row]:
        """Deliveries that could not be read, or whose registry is not known, newest first, without their bodies."""
        require_everything(self._reach, "deliveries")
        found = self._read(lambda connection: list_quarantine(connection, registry=registry, limit=limit))
        return [Row({name: getattr(one, name) for name in DELIVERY_FIELDS}) for one in found]

    def delivery(self, delivery_id: int) -> Row:
        """One delivery with its ``body`` as it was sent, or its beginning (``None``: no longer kept).

        ``body_sha256`` (hexadecimal) is that of the whole body, where only its beginning is kept. Raises ``NotFound``.
        """
        require_everything(self._reach, "deliveries")
        found = self._read(lambda connection: find_delivery(connection, delivery_id))
        if found is None:
            raise NotFound(
                f"there is no delivery {delivery_id}", hint="`regwarden event quarantine list` shows what there is."
            )
        sha256 = found.body_sha256
        facts = {name: getattr(found, name) for name in DELIVERY_FIELDS}
        return Row({**facts, "body_sha256": sha256.hex() if sha256 else None, "body": found.body})

    def replay(self, ids: Sequence[int] | None = None, *, registry: str | None = None) -> Replayed:
        """Look again at deliveries that were set aside: those with these ids (all, if none are given).

        Useful when a registry has been configured, or a newer release can read them. Raises ``NotFound`` for an id
        that is not in quarantine.
        """
        from regwarden.library_remote import ServiceCommand
        from regwarden.library_replay import Replayed, replay_deliveries
        from regwarden.wiring import run_async

        request = {"ids": None if ids is None else list(ids), "registry": registry}

        def work(database: Database) -> Replayed:
            return run_async(replay_deliveries(database, self.settings, ids, registry))

        return self._write(work, ServiceCommand("replay", request, Replayed))

    def purge(self) -> Purged:
        """Delete what is older than ``[events]`` and ``[cleanup]`` of the settings keep it.

        The service does the same every hour. What was learned from them stays.
        """
        from regwarden.library_remote import ServiceCommand
        from regwarden.wiring import build_keeping, run_async

        keeping = build_keeping(self.settings.settings)
        return self._write(
            lambda database: run_async(purge(database, keeping, clock.now())), ServiceCommand("purge", {}, Purged)
        )

    def registry_secrets(self, registry: str, *, rotate: bool = False) -> RegistrySecrets:
        """The secrets that authenticate the notifications of a configured registry, the newest first; one is made.

        ``rotate`` makes a new one; the one before it stays valid until the next time. Raises ``NotFound`` for a
        registry that is not configured, ``Conflict`` where files hold the secrets and one is to be made.
        """
        from regwarden.library_notifications import RegistrySecrets, find_secrets, make_secret
        from regwarden.library_remote import ServiceCommand

        found = find_secrets(self._read, self.settings, registry, rotate=rotate)
        if found is not None:
            return found
        command = ServiceCommand("secret", {"registry": registry, "rotate": rotate}, RegistrySecrets)
        return self._write(lambda database: make_secret(database, registry, rotate=rotate), command)

    def notifications(
        self,
        registry: str,
        *,
        form: str = "lean",
        flavour: str = "",
        address: str = "",
        with_secret: bool = True,
    ) -> NotificationReport:
        """Whether the events of a registry arrive, and the block that makes it send them.

        ``form`` is lean, full or none; ``flavour`` distribution, gitlab or empty: by the kind of the registry;
        ``address`` that of the service as the registry reaches it. For a configured registry without a secret one is
        made; not so without ``with_secret``, where the block has a word in place of the secret.
        """
        from regwarden.library_notifications import BlockRequest, report_notifications

        asked = BlockRequest(registry, form, flavour, address)
        require_whole(self._reach, [registry])
        secrets_of = self.registry_secrets if with_secret else None
        return report_notifications(asked, self.settings, self._read, secrets_of)


def _list_after(connection: Any, *, query: EventQuery, position: int) -> tuple[list[EventRow], int]:
    return list_events_after(connection, query, position)


def build_event_query(filters: EventFilters) -> EventQuery:
    """The question that the texts mean. Raises ``InputError`` for the first that cannot be understood."""
    unknown = sorted(set(filters) - set(EventFilters.__annotations__))
    if unknown:
        known = ", ".join(EventFilters.__annotations__)
        raise InputError(f"a list of events has no argument {unknown[0]!r}", hint=f"It has: {known}.")
    now = clock.now()
    return EventQuery(
        registries=_texts(filters.get("registries", ())),
        repositories=tuple(map(parse_pattern, _texts(filters.get("repositories", ())))),
        tags=tuple(map(parse_pattern, _texts(filters.get("tags", ())))),
        actors=tuple(map(parse_pattern, _texts(filters.get("actors", ())))),
        actions=_words("actions", filters.get("actions", ())),
        targets=_words("targets", filters.get("targets", ())),
        classes=_words("classes", filters.get("classes", ())),
        since=_moment(filters.get("since"), now),
        until=_moment(filters.get("until"), now),
        has_unknown_host=filters.get("unknown_hosts", False),
    )


def _words(kind: str, texts: Sequence[str]) -> tuple[str, ...]:
    words = _texts(texts)
    for word in words:
        if word not in _WORDS[kind]:
            raise InputError(f"{word[:80]!r} is none of the {kind}", hint=f"There are: {', '.join(_WORDS[kind])}.")
    return words


def _texts(texts: Sequence[str]) -> tuple[str, ...]:
    """A single text is meant as a list of one."""
    return (texts,) if isinstance(texts, str) else tuple(texts)


def _moment(given: datetime | str | None, now: datetime) -> datetime | None:
    found = parse_moment_or_duration(given.strip()) if isinstance(given, str) else given
    if isinstance(found, timedelta):
        return now - found
    return found.replace(tzinfo=UTC) if found is not None and found.tzinfo is None else found
