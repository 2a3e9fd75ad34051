"""The public Python interface: crawl registries, ask the inventory. The command line is built on it.

Names, arguments and fields documented here keep their meaning within a major version; new ones may be added.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias, TypeVar, Unpack

from regwarden import clock
from regwarden.core.access import EVERYTHING, Reach
from regwarden.errors import Conflict, NotFound, StoreError
from regwarden.library_access import AccessQuestions
from regwarden.library_allow_questions import AllowQuestions
from regwarden.library_cleanup import CleanupQuestions
from regwarden.library_events import EventQuestions
from regwarden.library_gitlab import GitlabQuestions
from regwarden.library_lists import ListQuestions
from regwarden.library_policies import PolicyQuestions
from regwarden.library_pulls import PullQuestions
from regwarden.library_queries import past_moment
from regwarden.library_reach import coverage_within, overview_within, problems_within, usage_within
from regwarden.library_rows import Row, RowPage
from regwarden.library_time import PastAnswers, TimeQuestions
from regwarden.settings_sources import LoadedSettings, default_database, load_settings
from regwarden.store.database import Access, Database, open_database
from regwarden.store.holders import ContentReport, find_content

if TYPE_CHECKING:
    from regwarden.flows.crawl import CrawlProgress, CrawlReport
    from regwarden.library_check import RegistryCheck
    from regwarden.library_crawl import CrawlArguments
    from regwarden.library_remote import ServiceCommand
    from regwarden.store.reports import Coverage, ReportedProblem, UsageReport

__all__ = ["Inventory", "Row", "RowPage", "connect"]

T = TypeVar("T")
# What the store's functions take; only the store knows the type behind it.
Connection: TypeAlias = Any

_MEMORY: Final = frozenset({":memory:", "sqlite://", "sqlite:///:memory:"})


class Inventory(
    ListQuestions,
    CleanupQuestions,
    PolicyQuestions,
    PullQuestions,
    EventQuestions,
    TimeQuestions,
    AccessQuestions,
    AllowQuestions,
    GitlabQuestions,
):
    """What is known of the registries, in one database. Made by ``connect``; close it, or use it in ``with``.

    Nothing is opened before the first call. Every method raises a ``RegwardenError`` when it fails; asking without
    any inventory raises ``StoreError`` with the code ``no-inventory``. Sizes are bytes, times aware UTC, ``None`` is
    unknown.
    """

    def __init__(self, loaded: LoadedSettings, *, environ: Mapping[str, str] | None = None) -> None:
        self.settings = loaded
        self._environ = os.environ if environ is None else environ
        self._url = loaded.settings.database or default_database()
        self._opened: Database | None = None
        self._is_shared = False
        self._reach = EVERYTHING
        self._past = PastAnswers(loaded.settings)
        self._is_past_shared = False

    @classmethod
    def beside(
        cls,
        database: Database,
        loaded: LoadedSettings,
        environ: Mapping[str, str],
        *,
        reach: Reach = EVERYTHING,
        past: PastAnswers | None = None,
    ) -> Self:
        """The inventory in a database that is open already, and stays open; its lists show only what is in ``reach``.

        For the service, which answers for many people: make one for each question, in the thread that asks. ``past``
        answers questions about the past for several of them; it stays open too.
        """
        inventory = cls(loaded, environ=environ)
        inventory._opened = database
        inventory._is_shared = True
        inventory._reach = reach
        if past is not None:
            inventory._past, inventory._is_past_shared = past, True
        return inventory

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database. More calls do nothing."""
        if not self._is_past_shared:
            self._past.close()
        if self._opened is not None and not self._is_shared:
            self._opened.close()
            self._opened = None

    def crawl(
        self,
        registry: str,
        *,
        on_progress: CrawlProgress | None = None,
        on_warning: Callable[[str], None] | None = None,
        **arguments: Unpack[CrawlArguments],
    ) -> CrawlReport:
        """Read a registry into the inventory; ``registry`` is a configured or known name, or an address.

        ``on_progress`` is called often with the state of the crawl, ``on_warning`` with sentences for people.
        Interrupted, the next call continues. Raises ``RegistryError`` if the registry cannot be read at all.
        """
        from regwarden.library_crawl import CrawlCall, remote_crawl, run_crawl

        call = CrawlCall(registry, arguments, self._environ, on_progress, on_warning)
        return self._write(lambda database: run_crawl(database, self.settings, call), remote_crawl(call))

    def check(
        self,
        registry: str,
        *,
        on_warning: Callable[[str], None] | None = None,
        **arguments: Unpack[CrawlArguments],
    ) -> RegistryCheck:
        """Whether a registry answers and accepts the credentials, and what it can do; changes nothing there.

        A registry that cannot be asked is an answer too: ``error`` of the result. What was found out about deletion
        is kept in the inventory.
        """
        from regwarden.library_check import check_registry, keep_found
        from regwarden.library_crawl import CrawlCall

        call = CrawlCall(registry, arguments, self._environ, on_warning=on_warning)
        check = check_registry(self._read_if_any(self._overview, list), self.settings, call, self._read)
        keep_found(check, self._write)
        return check

    def registries(self, *names: str) -> list[Row]:
        """The registries of the inventory with their totals, by name."""
        return self._read(partial(self._overview, names=names))

    def coverage(self, *names: str) -> list[Coverage]:
        """How complete and how old the inventory of each registry is."""
        return self._read(lambda connection: coverage_within(connection, names, self._reach))

    def usage(
        self,
        *names: str,
        top: int = 20,
        as_of: datetime | str | None = None,
        group_by: str | None = None,
        depth: int | None = None,
    ) -> UsageReport:
        """Totals per registry, the ``top`` largest repositories and tags, and the problems; at ``as_of``, or now.

        With ``group_by`` (``project``, ``group``, ``owner`` or ``path``) also ``groups``; ``depth`` is how many parts
        of a group or path make one. Raises ``InputError`` for others. Who belongs to which project is that of today.
        """
        moment = past_moment(as_of)
        now = moment or clock.now()
        from regwarden.library_groups import add_groups, add_remarks, read_grouping

        grouping = None if group_by is None and depth is None else read_grouping(group_by, depth)

        def read(connection: Connection) -> UsageReport:
            report = add_remarks(connection, usage_within(connection, names, top, now, self._reach))
            return report if grouping is None else add_groups(connection, report, grouping, names, self._reach)

        return self._read_as_of(moment, names, read)

    def problems(self, registry: str | None = None, repository: str | None = None) -> list[ReportedProblem]:
        """What could not be read, or is not as it should be, in everything, one registry or one repository."""
        return self._read(lambda connection: problems_within(connection, registry, repository, self._reach))

    def history(self, text: str, *, as_of: datetime | str | None = None) -> list[Row]:
        """What ``[REGISTRY/]REPOSITORY:TAG`` pointed to, newest first; with ``as_of`` the one row of that moment.

        Fields: registry, repository, tag, digest (``None``: gone), state, since, until, cause. Raises ``NotFound``
        for a tag that was never observed, or not yet at that moment.
        """
        from regwarden.library_history import read_history

        return [Row(row) for row in self._read(lambda connection: read_history(connection, text, as_of, self._reach))]

    def find_content(
        self, digest: str, *, registry: str | None = None, as_of: datetime | str | None = None
    ) -> ContentReport:
        """What a digest (or at least its first six digits) is and every place that holds or needs it.

        Raises ``NotFound`` if the inventory has no such content, ``InputError`` if several begin so.
        """
        if (moment := past_moment(as_of)) is None:
            found = self._read(lambda connection: find_content(connection, digest, registry, self._reach))
        else:
            asked = (moment, digest, registry, self._reach)
            found = self._read(lambda connection: self._past.find_content(connection, *asked))
        if found is None:
            hint = "`regwarden manifest list` shows what there is."
            raise NotFound(f"the inventory has no content {digest[:160]}", hint=hint)
        return found

    def _overview(self, connection: Connection, names: Sequence[str] = ()) -> list[Row]:
        found = overview_within(connection, names, self._reach)
        return [Row({name: getattr(one, name) for name in one.__dataclass_fields__}) for one in found]

    def _read_if_any(self, work: Callable[[Connection], T], otherwise: Callable[[], T]) -> T:
        """The result of ``work``; that of ``otherwise`` where there is no inventory."""
        if self._opened is None and self._url in _MEMORY:
            return otherwise()
        try:
            return self._read(work)
        except StoreError as error:
            if error.code != "no-inventory":
                raise
        return otherwise()

    def _read_as_of(self, moment: datetime | None, names: Sequence[str], work: Callable[[Connection], T]) -> T:
        """As ``_read``; with a moment in the state that the registries (all, or those named) had then."""
        if moment is None:
            return self._read(work)
        return self._read(lambda connection: self._past.read(connection, moment, names, work))

    def _read(self, work: Callable[[Connection], T]) -> T:
        return self._database(Access.READ).read_now(work)

    def _write(self, work: Callable[[Database], T], command: ServiceCommand[T]) -> T:
        """The result of ``work`` on the database; while a service has it, of its ``command`` that does the same."""
        try:
            database = self._database(Access.WRITE)
        except Conflict as busy:
            from regwarden.library_remote import forward

            return forward(busy, self._url, command)
        return work(database)

    def _database(self, access: Access) -> Database:
        """The open database; opened again when it must be written and was only open to be read."""
        if self._opened is not None and access is Access.WRITE and self._opened.access is Access.READ:
            self.close()
        if self._opened is None:
            if self._url in _MEMORY and access is Access.READ:
                raise StoreError(
                    "the database :memory: keeps nothing, so there is no inventory to ask",
                    hint="Add --refresh, or name a file with --database.",
                    code="no-inventory",
                )
            self._opened = open_database(self._url, access=access, create=access is Access.WRITE)
        return self._opened


def connect(
    database: str | None = None, *, config: str | Path | None = None, environ: Mapping[str, str] | None = None
) -> Inventory:
    """The inventory in ``database`` (``sqlite:///FILE``, ``postgresql://…``, ``:memory:``).

    Without it, the configuration file (``config``, or where ``regwarden config show`` says) and the environment
    decide as for the command line. Raises ``InputError`` for a configuration that cannot be used.
    """
    environ = os.environ if environ is None else environ
    loaded = load_settings(environ, file=Path(config) if config else None, database=database)
    return Inventory(loaded, environ=environ)
