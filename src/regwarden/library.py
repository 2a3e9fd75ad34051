"""The public Python interface: crawl registries, ask the inventory. The command line is built on it.

Names, arguments and fields documented here keep their meaning within a major version; new ones may be added.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias, TypeVar, Unpack, cast

from regwarden.core.access import EVERYTHING, Reach
from regwarden.errors import Conflict, InputError, NotFound, StoreError
from regwarden.library_cleanup import CleanupQuestions
from regwarden.library_events import EventQuestions
from regwarden.library_policies import PolicyQuestions
from regwarden.library_pulls import PullQuestions
from regwarden.library_queries import QueryArguments, build_query, moment_of, past_moment
from regwarden.library_rows import Row, RowPage
from regwarden.library_time import PastAnswers, TimeQuestions
from regwarden.settings_sources import LoadedSettings, default_database, load_settings
from regwarden.store import reports
from regwarden.store.database import Access, Database, open_database
from regwarden.store.holders import ContentReport, find_content
from regwarden.store.queries import count_rows, iterate_rows, list_rows

if TYPE_CHECKING:
    from collections.abc import Generator

    from regwarden.core.query import Query
    from regwarden.flows.crawl import CrawlProgress, CrawlReport
    from regwarden.library_check import RegistryCheck
    from regwarden.library_crawl import CrawlArguments
    from regwarden.library_registries import RegistryList
    from regwarden.library_remote import ServiceCommand
    from regwarden.store.selection_sizes import SelectionSizes

__all__ = ["Inventory", "Row", "RowPage", "connect"]

T = TypeVar("T")
# What the store's functions take; only the store knows the type behind it.
Connection: TypeAlias = Any

_MEMORY: Final = frozenset({":memory:", "sqlite://", "sqlite:///:memory:"})
_PAGE_ROWS: Final = 1000
_ALGORITHMS: Final = ("sha256:", "sha512:")
_DIGEST_START: Final = re.compile(r"[0-9a-f]{6,128}")
_SHORT_START: Final = re.compile(r"(?:sha(?:256|512):)?[0-9a-f]{1,5}")


class Inventory(CleanupQuestions, PolicyQuestions, PullQuestions, EventQuestions, TimeQuestions):
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

    @classmethod
    def beside(
        cls, database: Database, loaded: LoadedSettings, environ: Mapping[str, str], *, reach: Reach = EVERYTHING
    ) -> Self:
        """The inventory in a database that is open already, and stays open; its lists show only what is in ``reach``.

        For the service, which answers for many people: make one for each question, in the thread that asks.
        """
        inventory = cls(loaded, environ=environ)
        inventory._opened = database
        inventory._is_shared = True
        inventory._reach = reach
        return inventory

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database. More calls do nothing."""
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
        check = check_registry(self._known_or_empty(), self.settings, call, self._read)
        keep_found(check, self._write)
        return check

    def known_registries(self) -> list[Row]:
        """The configured registries and those in the inventory, by name; what was never crawled has no totals."""
        return list(self.iterate("registry"))

    def registries(self, *names: str) -> list[Row]:
        """The registries of the inventory with their totals, by name."""
        found = self._read(lambda connection: reports.registry_overview(connection, names))
        return [Row({name: getattr(one, name) for name in one.__dataclass_fields__}) for one in found]

    def coverage(self, *names: str) -> list[reports.Coverage]:
        """How complete and how old the inventory of each registry is."""
        return self._read(lambda connection: reports.coverage(connection, names))

    def usage(self, *names: str, top: int = 20, as_of: datetime | str | None = None) -> reports.UsageReport:
        """Totals per registry, the ``top`` largest repositories and tags, and the problems; at ``as_of``, or now."""
        moment = past_moment(as_of)
        return self._read_as_of(moment, names, lambda found: reports.usage_report(found, names, top=top))

    def problems(self, registry: str | None = None, repository: str | None = None) -> list[reports.ReportedProblem]:
        """What could not be read, or is not as it should be, in everything, one registry or one repository."""
        return self._read(lambda connection: reports.list_problems(connection, registry, repository))

    def repositories(self, *selectors: str, **query: Unpack[QueryArguments]) -> list[Row]:
        """Repositories that match any selector (all, if there is none) and every condition."""
        return list(self.page("repository", *selectors, **query).rows)

    def tags(self, *selectors: str, **query: Unpack[QueryArguments]) -> list[Row]:
        """Tags that match any selector (all, if there is none) and every condition."""
        return list(self.page("tag", *selectors, **query).rows)

    def manifests(self, *selectors: str, **query: Unpack[QueryArguments]) -> list[Row]:
        """Manifests of repositories that match, tagged or not."""
        return list(self.page("manifest", *selectors, **query).rows)

    def blobs(self, *selectors: str, **query: Unpack[QueryArguments]) -> list[Row]:
        """Blobs of repositories that match."""
        return list(self.page("blob", *selectors, **query).rows)

    def page(self, noun: str, *selectors: str, count_unknown: bool = False, **query: Unpack[QueryArguments]) -> RowPage:
        """Rows of ``noun`` (registry, repository, tag, manifest, blob) with the cursor of the rows after them.

        ``count_unknown`` also counts the rows that no condition could decide, which takes longer.
        """
        if noun == "registry":
            listed = self._list_registries(selectors, query)
            return RowPage(
                tuple(map(Row, listed.rows)), listed.next_cursor, listed.unknown_count if count_unknown else None
            )
        now = moment_of(query)
        found = self._ask(
            noun,
            selectors,
            query,
            lambda connection, asked: list_rows(connection, asked, now, count_unknown=count_unknown),
        )
        return RowPage(tuple(map(Row, found.rows)), found.next_cursor, found.unknown_count)

    def iterate(self, noun: str, *selectors: str, **query: Unpack[QueryArguments]) -> Iterator[Row]:
        """All rows of ``noun``, read a page at a time, for answers that do not fit into memory."""
        query = {"limit": _PAGE_ROWS, **query, "age_from": moment_of(query), "as_of": past_moment(query.get("as_of"))}
        while True:
            page = self.page(noun, *selectors, **query)
            yield from page.rows
            if page.next_cursor is None:
                return
            query["cursor"] = page.next_cursor

    def consume(
        self,
        noun: str,
        consumer: Callable[[Iterable[dict[str, object]]], T],
        *selectors: str,
        **query: Unpack[QueryArguments],
    ) -> T:
        """Give all rows of ``noun`` to ``consumer``, from one consistent snapshot, and return its result."""
        if noun == "registry":
            return consumer(self._list_registries(selectors, query).rows)
        now = moment_of(query)

        def consume(connection: Connection, asked: Query) -> T:
            # Closed before the connection is: a consumer may stop early.
            rows = cast("Generator[dict[str, object], None, None]", iterate_rows(connection, asked, now))
            with closing(rows):
                return consumer(rows)

        return self._ask(noun, selectors, query, consume)

    def count(self, noun: str, *selectors: str, **query: Unpack[QueryArguments]) -> int:
        """How many rows of ``noun`` match."""
        if noun == "registry":
            return len(self._list_registries(selectors, {**query, "limit": None, "cursor": None}).rows)
        now = moment_of(query)
        return self._ask(noun, selectors, query, lambda connection, asked: count_rows(connection, asked, now))

    def sizes(self, *selectors: str, **query: Unpack[QueryArguments]) -> list[SelectionSizes]:
        """What the matching tags weigh together and what deleting just them would free, for each registry."""
        from regwarden.store.selection_sizes import measure_selection  # needs the graph

        now = moment_of(query)

        def measure(connection: Connection, asked: Query) -> list[SelectionSizes]:
            chosen: dict[str, set[tuple[str, str]]] = {}
            for row in iterate_rows(connection, asked, now):
                chosen.setdefault(str(row["registry"]), set()).add((str(row["repository"]), str(row["tag"])))
            return [measure_selection(connection, name, names) for name, names in sorted(chosen.items())]

        return self._ask("tag", selectors, query, measure)

    def repository(self, text: str, *, as_of: datetime | str | None = None) -> Row:
        """The one repository that ``[REGISTRY/]REPOSITORY`` names; raises ``NotFound``, for several ``InputError``."""
        return self._one("repository", text, as_of)

    def tag(self, text: str, *, as_of: datetime | str | None = None) -> Row:
        """The one tag that ``[REGISTRY/]REPOSITORY:TAG`` names; raises ``NotFound`` or, for several, ``InputError``."""
        if ":" not in text.rpartition("/")[2]:
            raise InputError(
                f"{text[:160]!r} names no tag",
                hint="Write REPOSITORY:TAG, for example team/app:1.0.",
                code="bad-reference",
            )
        return self._one("tag", text, as_of)

    def history(self, text: str, *, as_of: datetime | str | None = None) -> list[Row]:
        """What ``[REGISTRY/]REPOSITORY:TAG`` pointed to, newest first; with ``as_of`` the one row of that moment.

        Fields: registry, repository, tag, digest (``None``: gone), state, since, until, cause. Raises ``NotFound``
        for a tag that was never observed, or not yet at that moment.
        """
        from regwarden.library_history import read_history

        return [Row(row) for row in self._read(lambda connection: read_history(connection, text, as_of))]

    def digest_of(self, text: str, *, as_of: datetime | str | None = None) -> str:
        """The digest that a text means: a digest or the start of one, ``REPOSITORY:TAG`` or ``REPOSITORY@DIGEST``."""
        if "@" in text:
            return text.rpartition("@")[2]
        start = text.strip().lower()
        if _SHORT_START.fullmatch(start):
            raise InputError(
                f"{text!r} is too short: the start of a digest needs at least six hexadecimal digits",
                hint="Give more of its digits, or REPOSITORY:TAG.",
                code="bad-digest",
            )
        if text.startswith(_ALGORITHMS) or _DIGEST_START.fullmatch(start):
            return text
        found = self.tag(text, as_of=as_of)
        if found.digest is None:
            raise NotFound(f"the manifest of {text} is not known", hint=f"Run: regwarden crawl {found.registry}")
        return str(found.digest)

    def find_content(
        self, digest: str, *, registry: str | None = None, as_of: datetime | str | None = None
    ) -> ContentReport:
        """What a digest (or at least its first six digits) is and every place that holds or needs it.

        Raises ``NotFound`` if the inventory has no such content, ``InputError`` if several begin so.
        """
        if (moment := past_moment(as_of)) is None:
            found = self._read(lambda connection: find_content(connection, digest, registry))
        else:
            found = self._read(lambda connection: self._past.find_content(connection, moment, digest, registry))
        if found is None:
            hint = "`regwarden manifest list` shows what there is."
            raise NotFound(f"the inventory has no content {digest[:160]}", hint=hint)
        return found

    def _one(self, noun: str, text: str, as_of: datetime | str | None) -> Row:
        found = self.page(noun, text, limit=2, as_of=as_of).rows
        if len(found) > 1:
            names = ", ".join(f"{row.registry}/{row.repository}" for row in found)
            raise InputError(
                f"{text[:160]!r} means more than one {noun}: {names}",
                hint="Put the name of the registry and a slash in front, and use no pattern.",
                code="ambiguous-reference",
            )
        if not found:
            hint = f"`regwarden {noun} list` shows what there is."
            raise NotFound(f"the inventory has no {noun} {text[:160]}", hint=hint)
        return found[0]

    def _known_or_empty(self) -> list[Row]:
        """The registries of the inventory; none where there is no inventory."""
        if self._opened is None and self._url in _MEMORY:
            return []
        try:
            return self.registries()
        except StoreError as error:
            if error.code != "no-inventory":
                raise
            return []

    def _list_registries(self, selectors: tuple[str, ...], query: QueryArguments) -> RegistryList:
        from regwarden.library_registries import list_registries

        asked, now = build_query("registry", selectors, query), moment_of(query)
        if (moment := past_moment(query.get("as_of"))) is not None:
            return self._read_as_of(moment, asked.registries, lambda found: list_registries(found, asked, now, None))
        settings = self.settings.settings
        if self._opened is None and self._url in _MEMORY:
            return list_registries(None, asked, now, settings)
        try:
            return self._read(lambda connection: list_registries(connection, asked, now, settings))
        except StoreError as error:
            if error.code != "no-inventory":
                raise
            return list_registries(None, asked, now, settings)

    def _ask(
        self,
        noun: str,
        selectors: tuple[str, ...],
        query: QueryArguments,
        work: Callable[[Connection, Query], T],
    ) -> T:
        """Run ``work`` with the query; the names of the registries decide what a selector means."""

        def read(connection: Connection) -> T:
            known = [one.registry for one in reports.registry_overview(connection)]
            asked = build_query(noun, selectors, query, known_registries=known)
            if moment is None:
                return work(connection, asked)
            return self._past.ask(connection, moment, asked, lambda past: work(past, asked))

        moment = past_moment(query.get("as_of"))
        return self._read(read)

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
