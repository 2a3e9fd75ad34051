"""What ``Inventory`` does about the allow-list."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from regwarden import clock
from regwarden.library_principals import os_user
from regwarden.library_rows import Row

if TYPE_CHECKING:
    from regwarden.library_remote import ServiceCommand
    from regwarden.settings_sources import LoadedSettings
    from regwarden.store.database import Database

T = TypeVar("T")
_USUAL_LIMIT = 1000


class AllowQuestions:
    """The part of ``Inventory`` that is about what may run."""

    settings: LoadedSettings

    def _read(self, work: Callable[[Any], T]) -> T:
        raise NotImplementedError

    def _write(self, work: Callable[[Database], T], command: ServiceCommand[T]) -> T:
        raise NotImplementedError

    def allow_add(self, image: str = "", **fields: Any) -> Row:
        """Allow an image, or with ``effect="deny"`` deny it; fields are those of ``AllowRequest``.

        ``image`` is a digest, a reference or any other text; instead of it ``pattern`` matches HOST/REPOSITORY.
        Raises ``InputError`` (codes ``bad-allow-entry``, ``bad-image``, ``bad-pattern``).
        """
        from regwarden.library_allow import AllowRequest, entry_row, make_entry
        from regwarden.library_remote import ServiceCommand
        from regwarden.store.allow import AllowRecord

        asked, principal = msgspec.convert({"image": image, **fields}, AllowRequest), os_user()
        arguments = {"entry": msgspec.to_builtins(asked), "principal": principal}
        command = ServiceCommand("allow-add", arguments, AllowRecord)
        return Row(entry_row(self._write(lambda database: make_entry(database, asked, principal), command)))

    def allow_list(
        self,
        *,
        effect: str | None = None,
        image: str | None = None,
        include_ended: bool = False,
        after_id: int = 0,
        limit: int = _USUAL_LIMIT,
    ) -> list[Row]:
        """Entries by id, a page of them; ``image`` is a digest, a text as it was given, or a name."""
        from regwarden.library_allow import build_filter, find_entries

        wanted = build_filter(effect=effect, image=image, include_ended=include_ended, after_id=after_id, limit=limit)
        return [Row(one) for one in self._read(lambda connection: find_entries(connection, wanted))]

    def allow_entry(self, entry_id: int) -> Row:
        """One entry, ended or not. Raises ``NotFound`` (code ``no-allow-entry``)."""
        from regwarden.library_allow import entry_row
        from regwarden.store.allow import load_entry

        return Row(entry_row(self._read(lambda connection: load_entry(connection, entry_id))))

    def allow_remove(self, ids: Sequence[int]) -> None:
        """End entries. Raises ``NotFound`` without ending any if one of them is not there."""
        from regwarden.library_allow import end_entries
        from regwarden.library_remote import ServiceCommand

        principal = os_user()
        command = ServiceCommand("allow-remove", {"ids": list(ids), "principal": principal}, type(None))
        self._write(lambda database: end_entries(database, ids, principal), command)

    def allow_check(self, image: str, *, cluster: str = "", namespace: str = "") -> Row:
        """Whether an image may run: ``outcome`` allow, deny or unknown, with ``reason`` and ``detail``.

        Read from the database for this one question; a service answers from memory. Raises ``InputError``.
        """
        from regwarden.flows.allow_questions import Place, ask_once, build_allow_options

        options, place, now = build_allow_options(self.settings.settings.allow), Place(cluster, namespace), clock.now()
        answer = self._read(lambda connection: ask_once(connection, image, place, options, now))
        return Row({"image": image, **answer._asdict()})

    def allow_decisions(
        self,
        *,
        image: str | None = None,
        outcome: str | None = None,
        principal: str | None = None,
        since: datetime | str | None = None,
        before_id: int | None = None,
        limit: int = _USUAL_LIMIT,
    ) -> list[Row]:
        """What the service answered, newest first; equal answers within a minute are one row."""
        from regwarden.library_allow import build_decision_filter, find_decisions

        wanted = build_decision_filter(
            image=image, outcome=outcome, principal=principal, since=since, before_id=before_id, limit=limit
        )
        return [Row(one) for one in self._read(lambda connection: find_decisions(connection, wanted))]
