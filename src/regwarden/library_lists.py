"""What ``Inventory`` answers with lists: pages of rows, single ones, counts, and what a selection weighs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, Unpack, cast

from regwarden.core.access import Reach
from regwarden.errors import InputError, NotFound
from regwarden.library_queries import QueryArguments, build_query, moment_of, past_moment
from regwarden.library_rows import Row, RowPage
from regwarden.library_time import PastAnswers
from regwarden.settings_sources import LoadedSettings
from regwarden.store.queries import count_rows, iterate_rows, list_rows
from regwarden.store.query_fields import load_registries
from regwarden.store.reaching import touched

if TYPE_CHECKING:
    from collections.abc import Generator

    from regwarden.core.query import Query
    from regwarden.library_registries import RegistryList
    from regwarden.store.selection_sizes import SelectionSizes

T = TypeVar("T")
# What the store's functions take; only the store knows the type behind it.
Connection: TypeAlias = Any

_PAGE_ROWS: Final = 1000
_ALGORITHMS: Final = ("sha256:", "sha512:")
_DIGEST_START: Final = re.compile(r"[0-9a-f]{6,128}")
_SHORT_START: Final = re.compile(r"(?:sha(?:256|512):)?[0-9a-f]{1,5}")


class ListQuestions:
    """The part of ``Inventory`` that lists what there is."""

    settings: LoadedSettings
    _reach: Reach
    _past: PastAnswers

    def _read(self, work: Callable[[Any], T]) -> T:
        raise NotImplementedError

    def _read_if_any(self, work: Callable[[Any], T], otherwise: Callable[[], T]) -> T:
        raise NotImplementedError

    def _read_as_of(self, moment: datetime | None, names: Sequence[str], work: Callable[[Any], T]) -> T:
        raise NotImplementedError

    def known_registries(self) -> list[Row]:
        """The configured registries and those in the inventory, by name; what was never crawled has no totals."""
        return list(self.iterate("registry"))

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

    def _list_registries(self, selectors: tuple[str, ...], query: QueryArguments) -> RegistryList:
        from regwarden.library_registries import list_registries

        asked, now = replace(build_query("registry", selectors, query), reach=self._reach), moment_of(query)
        if (moment := past_moment(query.get("as_of"))) is not None:
            return self._read_as_of(moment, asked.registries, lambda found: list_registries(found, asked, now, None))
        settings = self.settings.settings
        return self._read_if_any(
            lambda connection: list_registries(connection, asked, now, settings),
            lambda: list_registries(None, asked, now, settings),
        )

    def _ask(
        self,
        noun: str,
        selectors: tuple[str, ...],
        query: QueryArguments,
        work: Callable[[Connection, Query], T],
    ) -> T:
        """Run ``work`` with the query; the names of the registries decide what a selector means."""

        def read(connection: Connection) -> T:
            known = [one.name for one in touched(load_registries(connection), self._reach)]
            asked = replace(build_query(noun, selectors, query, known_registries=known), reach=self._reach)
            if moment is None:
                return work(connection, asked)
            return self._past.ask(connection, moment, asked, lambda past: work(past, asked))

        moment = past_moment(query.get("as_of"))
        return self._read(read)
