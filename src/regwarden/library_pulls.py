"""What ``Inventory`` answers about pulls: who pulled what, how often, and since when that is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypedDict, TypeVar, Unpack

from regwarden import clock
from regwarden.core.access import Reach
from regwarden.core.patterns import Pattern, parse_pattern
from regwarden.core.pull_agents import check_class
from regwarden.core.pull_query import (
    USUAL_GROUPING,
    USUAL_SINCE,
    PullQuery,
    parse_groupings,
    parse_method,
    parse_pull_order,
)
from regwarden.core.quantities import parse_moment_or_duration
from regwarden.core.selectors import parse_selector
from regwarden.errors import InputError
from regwarden.library_queries import past_moment
from regwarden.library_rows import Row
from regwarden.store.pull_reports import list_pulls, pulls_known_since
from regwarden.store.query_fields import load_registries
from regwarden.store.reaching import touched

T = TypeVar("T")


class PullArguments(TypedDict, total=False):
    """Which pulls are meant, and by what they are counted. Everything given must hold; of one kind any may.

    ``by`` names what is counted together: registry, repository, tag, digest, class, method, day. ``since`` and
    ``until`` are moments or ages (a ``datetime``, ``2026-01-31``, ``30d``); ``since`` is 30 days ago where it is not
    given, and the beginning where it is ``None``. Days are whole, in UTC: those that end after ``since`` and begin
    before ``until``; ``as_of`` asks as if that were now. ``classes`` are workload, ci, human, scanner, replicator,
    crawler, other, ``methods`` GET and HEAD, ``registries`` names, ``repositories`` and ``tags`` patterns; ``sort``
    names columns (``-pull_count``: the most first).
    """

    by: Sequence[str]
    since: datetime | str | None
    until: datetime | str | None
    as_of: datetime | str | None
    classes: Sequence[str]
    methods: Sequence[str]
    registries: Sequence[str]
    repositories: Sequence[str]
    tags: Sequence[str]
    sort: Sequence[str]
    limit: int | None


class PullQuestions:
    """The part of ``Inventory`` that is about pulls."""

    _reach: Reach

    def _read(self, work: Callable[[Any], T]) -> T:
        raise NotImplementedError

    def pulls(self, *selectors: str, **arguments: Unpack[PullArguments]) -> list[Row]:
        """How often what matches any selector was pulled, the most pulled first (with days: in their order).

        A row has what it is counted by (``registry`` with ``repository``; ``pull_class``; ``day`` is a date; ``tag`` is
        ``None`` for what no tag led to), then ``pull_count``, ``named_count`` (requests that named the tag),
        ``digest_count`` (requests by digest, counted for every tag that led there that day) and ``last_at``.
        """
        # Before the database is opened: a question that cannot be understood needs none.
        build_pull_query(selectors, arguments)

        def read(connection: Any) -> list[dict[str, Any]]:
            found = touched(load_registries(connection), self._reach)
            known = [name for one in found for name in (one.name, one.host)]
            query = build_pull_query(selectors, arguments, known_registries=known)
            return list_pulls(connection, replace(query, reach=self._reach))

        return [Row(row) for row in self._read(read)]

    def pulls_known_since(self, *registries: str) -> dict[str, datetime | None]:
        """When the first notification of each registry came; ``None``: none has, so nothing is known of its pulls."""
        found = self._read(lambda connection: pulls_known_since(connection, registries))
        return {name: since for name, since in found.items() if self._reach.touches(name)}


def build_pull_query(
    selectors: Sequence[str], arguments: PullArguments, *, known_registries: Sequence[str] = ()
) -> PullQuery:
    """The query that the texts mean. Raises ``InputError`` for the first that cannot be understood."""
    unknown = sorted(set(arguments) - set(PullArguments.__annotations__))
    if unknown:
        known = ", ".join(PullArguments.__annotations__)
        raise InputError(f"a report on pulls has no argument {unknown[0]!r}", hint=f"It has: {known}.")
    limit = arguments.get("limit")
    if limit is not None and limit < 1:
        raise InputError(f"a limit of {limit} rows is not possible", hint="Give a number from 1.", code="bad-limit")
    as_of = past_moment(arguments.get("as_of"))
    since, until = (_moment(given, as_of) for given in (arguments.get("since", USUAL_SINCE), arguments.get("until")))
    if as_of is not None:
        until = as_of if until is None else min(until, as_of)
    if since is not None and until is not None and since >= until:
        raise InputError("the time asked for ends before it begins", hint="Give an earlier --since.", code="bad-time")
    by = parse_groupings(_texts(arguments.get("by", USUAL_GROUPING)))
    return PullQuery(
        by=by,
        selectors=tuple(parse_selector(text, known_registries=known_registries) for text in selectors),
        registries=_texts(arguments.get("registries", ())),
        repositories=_patterns(arguments.get("repositories", ())),
        tags=_patterns(arguments.get("tags", ())),
        classes=tuple(check_class(name) for name in _texts(arguments.get("classes", ()))),
        methods=tuple(parse_method(text) for text in _texts(arguments.get("methods", ()))),
        since=since,
        until=until,
        sort=parse_pull_order(_texts(arguments.get("sort", ())), by),
        limit=limit,
    )


def _moment(given: datetime | str | None, as_of: datetime | None) -> datetime | None:
    if given is None:
        return None
    if isinstance(given, datetime):
        return given.replace(tzinfo=UTC) if given.tzinfo is None else given
    parsed = parse_moment_or_duration(given.strip())
    if isinstance(parsed, datetime):
        return parsed
    try:
        return (as_of or clock.now()) - parsed
    except OverflowError:
        hint = "Give a later date, or a shorter time."
        raise InputError(
            f"there is no moment {given.strip()[:40]!r} before that one", hint=hint, code="bad-time"
        ) from None


def _texts(texts: Sequence[str]) -> tuple[str, ...]:
    """A single text is meant as a list of one."""
    return (texts,) if isinstance(texts, str) else tuple(texts)


def _patterns(texts: Sequence[str]) -> tuple[Pattern, ...]:
    return tuple(parse_pattern(text) for text in _texts(texts))
