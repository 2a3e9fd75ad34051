"""Who pulled what, how often, and when? Daily counts, added up by whatever is asked for.

A request that names a tag counts for that tag; one by digest for every tag that led there that day (``pull_tags``),
so that counts by tag may add up to more than there were requests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import BigInteger, Select, case, cast, func, literal_column, select
from sqlalchemy.engine import Connection

from regwarden.core.oci.digests import Digest
from regwarden.core.patterns import PatternSet
from regwarden.core.pull_query import PullQuery
from regwarden.core.selectors import Selector
from regwarden.store.event_schema import pull_days
from regwarden.store.pull_tags import PulledManifests, TagIntervals, load_intervals, load_manifests
from regwarden.store.query_fields import KnownRegistry, load_registries
from regwarden.store.query_patterns import narrow_any
from regwarden.store.query_selection import find_registry
from regwarden.store.reaching import reach_filters, touched
from regwarden.store.schema import repositories
from regwarden.store.times import from_micros

_EPOCH: Final = date(1970, 1, 1)
_BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)
_KEY: Final = ("repository_id", "manifest_id", "tag", "day", "pull_class", "method")
_MICROSECOND: Final = timedelta(microseconds=1)

Row = dict[str, Any]


class _Counted(NamedTuple):
    """A row of counts; what they were added up over is ``None``."""

    repository_id: int
    manifest_id: Any
    tag: Any
    day: Any
    pull_class: Any
    method: Any
    is_named: int
    pull_count: int
    last_at: int


@dataclass(slots=True)
class _Figures:
    """What is counted of one group."""

    named_count: int = 0
    digest_count: int = 0
    last_at: int = 0

    def add(self, count: int, last_at: int, *, is_named: bool) -> None:
        if is_named:
            self.named_count += count
        else:
            self.digest_count += count
        self.last_at = max(self.last_at, last_at)


@dataclass(frozen=True, slots=True)
class _Known:
    """What rows are looked up in."""

    query: PullQuery
    registries: dict[int, KnownRegistry]
    repositories: dict[int, tuple[int, str]]
    manifests: PulledManifests
    intervals: TagIntervals


def list_pulls(connection: Connection, query: PullQuery) -> list[Row]:
    """Counts of pulls, one row for each combination of ``query.by``.

    Fields: those of ``query.by`` (``tag`` is ``None`` where no tag led to what was asked for, ``day`` a ``date``), then
    ``pull_count``, of which ``named_count`` named the tag and ``digest_count`` a digest, and ``last_at`` (aware UTC).
    The usual order is by ``query.by`` if that has days, otherwise the most pulled first. Raises ``NotFound`` for an
    unknown registry.
    """
    known = touched(load_registries(connection), query.reach)
    query = _resolved(query, known)
    # Requests that name a tag need not be told apart by manifest and day.
    parts = (True, False) if query.needs_tags else (None,)
    rows = [row for part in parts for row in _fetch(connection, _statement(connection, query, known, is_named=part))]
    facts = _load(connection, query, rows, known)
    groups: dict[tuple[Any, ...], _Figures] = {}
    matches = _matcher(facts)
    values = [_reader(name, facts) for name in query.by]
    for row in rows:
        for tag in matches(row):
            key = tuple([value(row, tag) for value in values])
            if (figures := groups.get(key)) is None:
                figures = groups[key] = _Figures()
            figures.add(row.pull_count, row.last_at, is_named=bool(row.is_named))
    shown = [_shown(query.by, key, figures) for key, figures in groups.items()]
    return _sorted(shown, query)[: query.limit]


def _fetch(connection: Connection, statement: Select[Any]) -> list[_Counted]:
    # SQLAlchemy's rows would take longer than the counting.
    rows: Any = connection.execute(statement).cursor
    return list(map(_Counted._make, rows.fetchall()))


def pulls_known_since(connection: Connection, names: Sequence[str] = ()) -> dict[str, datetime | None]:
    """Since when pulls of each registry (or of those named) are known; ``None`` where no notification has come."""
    known = load_registries(connection)
    chosen = [find_registry(name, known) for name in names] if names else known
    return {one.name: from_micros(one.events_since) for one in chosen}


def _resolved(query: PullQuery, known: Sequence[KnownRegistry]) -> PullQuery:
    """With the registries' own names, where hosts were given."""
    selectors = tuple(
        one if one.registry is None else replace(one, registry=find_registry(one.registry, known).name)
        for one in query.selectors
    )
    return replace(
        query, selectors=selectors, registries=tuple(find_registry(one, known).name for one in query.registries)
    )


def _statement(
    connection: Connection, query: PullQuery, known: Sequence[KnownRegistry], *, is_named: bool | None
) -> Select[Any]:
    """The counts, added up as far as the question lets them; ``is_named``: only requests that name a tag, or none."""
    days, needs_history = pull_days.c, is_named is False
    needed = {"repository_id", *({"pull_class", "method"} & set(query.by))}
    needed |= {"manifest_id"} if needs_history or query.needs_digests else set()
    needed |= {"tag"} if is_named else set()
    needed |= {"day"} if needs_history or "day" in query.by else set()
    columns = [days[name] for name in _KEY if name in needed]
    shown = [days[name] if name in needed else literal_column("NULL").label(name) for name in _KEY]
    count, last_at = cast(func.sum(days.pull_count), BigInteger), func.max(days.last_at)
    named = case((days.tag != "", 1), else_=0).label("is_named")
    statement = (
        select(*shown, named, count.label("pull_count"), last_at.label("last_at"))
        .select_from(pull_days.join(repositories, repositories.c.id == days.repository_id))
        .group_by(*columns, named.name)
    )
    if is_named is not None:
        statement = statement.where(days.tag != "" if is_named else days.tag == "")
    if query.since is not None:
        statement = statement.where(days.day >= _day_of(query.since))
    if query.until is not None:
        statement = statement.where(days.day <= _day_of(query.until - _MICROSECOND))
    if query.classes:
        statement = statement.where(days.pull_class.in_(query.classes))
    if query.methods:
        statement = statement.where(days.method.in_(query.methods))
    if query.registries:
        chosen = [one.id for one in known if one.name in query.registries]
        statement = statement.where(repositories.c.registry_id.in_(chosen))
    within = reach_filters(query.reach, known, connection.dialect.name)
    statement = statement.where(*(one.clause for one in within if one.clause is not None))
    for patterns in (query.repositories, _selected_repositories(query.selectors)):
        narrowed = narrow_any(repositories.c.name, patterns, connection.dialect.name) if patterns else None
        if narrowed is not None:
            statement = statement.where(narrowed)
    return statement


def _selected_repositories(selectors: Sequence[Selector]) -> tuple[Any, ...]:
    """The patterns of which one must match; none where a selector leaves the repository open."""
    patterns = tuple(one.repository for one in selectors if one.repository is not None)
    return patterns if len(patterns) == len(selectors) else ()


def _load(connection: Connection, query: PullQuery, rows: Sequence[_Counted], known: Sequence[KnownRegistry]) -> _Known:
    columns = (repositories.c.id, repositories.c.registry_id, repositories.c.name)
    places = {row.id: (row.registry_id, row.name) for row in connection.execute(select(*columns))}
    found, intervals = PulledManifests({}, {}), TagIntervals()
    if query.needs_tags or query.needs_digests:
        numbers = {row.manifest_id for row in rows if query.needs_digests or not row.is_named}
        found = load_manifests(connection, numbers, has_holders=query.needs_tags)
    if query.needs_tags:
        by_digest = [row for row in rows if not row.is_named]
        wanted = frozenset(digest for row in by_digest for digest in found.holders[row.manifest_id])
        intervals = load_intervals(connection, {row.repository_id for row in by_digest}, wanted)
    return _Known(query, {one.id: one for one in known}, places, found, intervals)


def _matcher(known: _Known) -> Callable[[_Counted], Iterable[str | None]]:
    """The tags for which a row counts: once for each if they are asked for, otherwise once if any is selected."""
    query = known.query
    chosen, wanted = PatternSet(query.repositories), PatternSet(query.tags)
    selected: dict[int, tuple[Selector, ...] | None] = {}

    def selectors_of(repository_id: int) -> tuple[Selector, ...] | None:
        registry_id, name = known.repositories[repository_id]
        registry = known.registries[registry_id].name
        if not query.reach.has(registry, name):
            return None
        fitting = tuple(
            one
            for one in query.selectors
            if one.registry in (None, registry) and (one.repository is None or one.repository.matches(name))
        )
        return fitting if chosen.matches(name) and (fitting or not query.selectors) else None

    needs_tags, needs_digests, shows_tags = query.needs_tags, query.needs_digests, "tag" in query.by

    def tags_of(row: _Counted) -> Sequence[str | None]:
        if not needs_tags:
            return (None,)
        if row.is_named:
            return (row.tag,)
        holders = known.manifests.holders[row.manifest_id]
        return sorted(known.intervals.of_day(row.repository_id, holders, row.day)) or (None,)

    def matches(row: _Counted) -> Iterable[str | None]:
        if row.repository_id not in selected:
            selected[row.repository_id] = selectors_of(row.repository_id)
        fitting = selected[row.repository_id]
        if fitting is None:
            return ()
        found = tags_of(row)
        if fitting or query.tags:
            digest = Digest.from_bytes(known.manifests.digests[row.manifest_id]) if needs_digests else None
            found = [tag for tag in found if _is_chosen(tag, digest, fitting, wanted if query.tags else None)]
        return found if shows_tags else found[:1]

    return matches


def _is_chosen(
    tag: str | None, digest: Digest | None, selectors: Sequence[Selector], wanted: PatternSet | None
) -> bool:
    if wanted is not None and (tag is None or not wanted.matches(tag)):
        return False
    return not selectors or any(
        (one.tag is None or (tag is not None and one.tag.matches(tag))) and one.digest in (None, digest)
        for one in selectors
    )


def _reader(name: str, known: _Known) -> Callable[[_Counted, str | None], Any]:
    """What gives the value of one of ``PullQuery.by``."""
    if name == "tag":
        return lambda _, tag: tag
    if name == "digest":
        digests = known.manifests.digests
        texts: dict[int, str] = {}
        return lambda row, _: (
            texts.get(row.manifest_id)
            or texts.setdefault(row.manifest_id, str(Digest.from_bytes(digests[row.manifest_id])))
        )
    if name == "day":
        days: dict[int, date] = {}
        return lambda row, _: days.get(row.day) or days.setdefault(row.day, _EPOCH + timedelta(days=row.day))
    places = known.repositories
    if name == "repository":
        return lambda row, _: places[row.repository_id][1]
    if name == "registry":
        return lambda row, _: known.registries[places[row.repository_id][0]].name
    return lambda row, _: getattr(row, name)


def _shown(by: Sequence[str], key: tuple[Any, ...], figures: _Figures) -> Row:
    return {
        **dict(zip(by, key, strict=True)),
        "pull_count": figures.named_count + figures.digest_count,
        "named_count": figures.named_count,
        "digest_count": figures.digest_count,
        "last_at": from_micros(figures.last_at),
    }


def _sorted(rows: list[Row], query: PullQuery) -> list[Row]:
    """In the order asked for; what is unknown stands last."""
    first = query.sort or (() if "day" in query.by else (("pull_count", True),))
    named = {name for name, _ in first}
    for name, is_descending in reversed((*first, *((name, False) for name in query.by if name not in named))):
        known = [row for row in rows if row[name] is not None]
        unknown = [row for row in rows if row[name] is None]
        rows = [*sorted(known, key=lambda row: row[name], reverse=is_descending), *unknown]
    return rows


def _day_of(moment: datetime) -> int:
    return (moment - _BEGINNING) // timedelta(days=1)
