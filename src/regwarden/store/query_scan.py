"""How are the rows of a question found, in order, without reading those that do not matter?

The usual order is a walk along the indexes, registry by registry. A condition that an index answers with few rows is
asked first, and those few are sorted. What SQL cannot decide is checked row by row while the rows stream by.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Select, func, select
from sqlalchemy.engine import Connection
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.schema import Column

from regwarden.core.conditions import Condition, Operator
from regwarden.core.query import Query
from regwarden.store.missing_blobs import lacking_manifests
from regwarden.store.query_conditions import Check, Filter, compile_condition
from regwarden.store.query_fields import Scope, StoredField, load_registries, stored_fields
from regwarden.store.query_paging import OrderKey, Place, Segment, segments
from regwarden.store.query_selection import Selection, select_rows
from regwarden.store.query_sources import INDEXED, SOURCES, WITHIN_REPOSITORIES, Source, Walk, joined, tables_of
from regwarden.store.schema import registries, repositories
from regwarden.store.times import to_micros

_FEW: Final = 5_000
_SOME: Final = 50_000
_STREAMED_ROWS: Final = 2_000

Found = tuple[tuple[Any, ...], Place]


@dataclass(frozen=True, slots=True)
class Scan:
    """A question made ready for one database: what to read, in which order, by which way."""

    query: Query
    scope: Scope
    source: Source
    fields: dict[str, StoredField]
    selection: Selection
    filters: tuple[Filter, ...]
    keys: tuple[OrderKey, ...]
    walk: Walk
    is_usual_order: bool
    candidates: ColumnElement[bool] | None = None

    @property
    def order(self) -> str:
        """Names the order, so that a cursor of another one is recognised."""
        usual = "" if self.is_usual_order else " ".join(str(sort) for sort in self.query.sort)
        return f"{self.query.noun} {usual}"


def prepare_scan(connection: Connection, query: Query, now: datetime) -> Scan:
    """Choose how to answer a question about rows (every noun but ``blob``). ``now`` is aware."""
    scope = Scope(connection.dialect.name, load_registries(connection), to_micros(now))
    fields = dict(stored_fields(query.noun, scope))
    selection = select_rows(query, scope, fields, connection)
    conditions = [_compile(one, fields, now, query, scope) for one in query.conditions]
    if query.is_lacking_blobs:
        conditions.append(lacking_manifests(connection, [one.id for one in selection.registries]))
    source = SOURCES[query.noun]
    is_usual = _is_usual_order(query, source, selection)
    scan = Scan(
        query=query,
        scope=scope,
        source=source,
        fields=fields,
        selection=selection,
        filters=(*(Filter(clause) for clause in source.existing), *selection.filters, *conditions),
        keys=_order_keys(query, source, fields, is_usual=is_usual),
        walk=Walk.REPOSITORIES,
        is_usual_order=is_usual,
    )
    return _choose_way(connection, scan, now)


def _compile(condition: Condition, fields: dict[str, StoredField], now: datetime, query: Query, scope: Scope) -> Filter:
    return compile_condition(
        condition,
        fields[condition.field.name],
        now,
        dialect=scope.dialect,
        include_unknown=query.include_unknown,
    )


def _is_usual_order(query: Query, source: Source, selection: Selection) -> bool:
    names = tuple(sort.field.name for sort in query.sort)
    if any(sort.descending for sort in query.sort):
        return False
    within_one = len(selection.registries) == 1 and names == source.order[1 : len(names) + 1]
    return within_one or names == source.order[: len(names)]


def _order_keys(
    query: Query, source: Source, fields: dict[str, StoredField], *, is_usual: bool
) -> tuple[OrderKey, ...]:
    if is_usual:
        return tuple(_key(fields[name]) for name in source.order)
    keys = [_key(fields[sort.field.name], is_descending=sort.descending) for sort in query.sort]
    named = {sort.field.name for sort in query.sort}
    if named <= set(source.order):
        return (*keys, *(_key(fields[name]) for name in source.order if name not in named))
    # In the direction of the last key, so that one walk along its index gives both.
    is_descending = query.sort[-1].descending
    return (*keys, *(OrderKey(column, int, is_descending) for column in source.identity))


def _key(field: StoredField, *, is_descending: bool = False) -> OrderKey:
    return OrderKey(field.expression, field.stored, is_descending, field.is_nullable)


def _choose_way(connection: Connection, scan: Scan, now: datetime) -> Scan:
    if not scan.source.links:
        return scan
    best, candidates = _FEW + 1, None
    for probe in _probes(scan, now):
        count = _count_up_to(connection, probe.statement, best)
        if count < best:
            best, candidates = count, probe.candidates
    if scan.selection.narrows_repositories and (candidates is not None or not scan.is_usual_order):
        limit = best if candidates is not None else _SOME + 1
        if _count_up_to(connection, _rows_of_repositories(scan), limit) < limit:
            return scan
    if candidates is not None:
        return replace(scan, walk=Walk.ROWS, candidates=candidates)
    first = scan.keys[0].expression
    if not scan.is_usual_order and isinstance(first, Column) and first in INDEXED:
        return replace(scan, walk=Walk.ROWS)
    return scan


@dataclass(frozen=True, slots=True)
class _Probe:
    statement: Select[Any]
    candidates: ColumnElement[bool]


def _probes(scan: Scan, now: datetime) -> Iterator[_Probe]:
    """For each condition that an index answers: the rows it leaves, to be counted and perhaps to start from."""
    if scan.query.include_unknown:
        return
    for condition in scan.query.conditions:
        field = scan.fields[condition.field.name]
        column = field.expression
        if not isinstance(column, Column) or column not in INDEXED or condition.operator is Operator.NOT_EQUAL:
            continue
        selecting, held = scan.source.links[column.table.name]
        # Under another name, or the subquery would mean the row of the outer statement.
        probed = column.table.alias("probed")
        clause = _compile(
            condition,
            {condition.field.name: replace(field, expression=probed.c[column.name])},
            now,
            scan.query,
            scan.scope,
        ).clause
        if clause is not None:
            statement = select(probed.c[held.name]).where(clause)
            yield _Probe(statement, selecting.in_(statement))


def _rows_of_repositories(scan: Scan) -> Select[Any]:
    """At least the rows of the repositories that the question selects."""
    table = scan.source.identity[0].table
    clauses = [one.clause for one in scan.selection.filters if one.clause is not None]
    return (
        select(table.c.repository_id)
        .join(repositories, repositories.c.id == table.c.repository_id)
        .where(
            repositories.c.registry_id.in_([one.id for one in scan.selection.registries]),
            *(clause for clause in clauses if tables_of(clause) <= {repositories}),
        )
    )


def _count_up_to(connection: Connection, statement: Select[Any], limit: int) -> int:
    return int(connection.execute(select(func.count()).select_from(statement.limit(limit).subquery())).scalar_one())


def find_rows(connection: Connection, scan: Scan, place: Place | None, limit: int | None) -> Iterator[Found]:
    """The identity and place of each row behind ``place``, in order; no more than ``limit`` are needed."""
    if scan.walk is Walk.REPOSITORIES and scan.is_usual_order and scan.query.noun != "registry":
        yield from _find_by_registry(connection, scan, place, limit)
        return
    for segment in segments(scan.keys, place):
        yield from _stream(connection, scan, scan.keys, segment, limit)


def _find_by_registry(connection: Connection, scan: Scan, place: Place | None, limit: int | None) -> Iterator[Found]:
    """With the registry given, the walk along its repositories needs no sorting."""
    keys = scan.keys[1:]
    if _has_index_within_repositories(scan):
        # SQLite would walk the tags by name for the sake of the order, past any number that do not match.
        keys = (*keys[:-1], replace(keys[-1], is_sorted_apart=scan.scope.dialect == "sqlite"))
    for registry in scan.selection.registries:
        if place is not None and registry.name < place[0]:
            continue
        rest = place[1:] if place is not None and registry.name == place[0] else None
        within = replace(scan, selection=replace(scan.selection, registries=(registry,)))
        for segment in segments(keys, rest):
            for identity, found in _stream(connection, within, keys, segment, limit):
                yield identity, (registry.name, *found)


def _has_index_within_repositories(scan: Scan) -> bool:
    return not scan.query.include_unknown and any(
        scan.fields[one.field.name].expression in WITHIN_REPOSITORIES and one.operator is not Operator.NOT_EQUAL
        for one in scan.query.conditions
    )


def _stream(
    connection: Connection, scan: Scan, keys: Sequence[OrderKey], segment: Segment, limit: int | None
) -> Iterator[Found]:
    identity, order = scan.source.identity, [key.expression for key in keys]
    checks = [one.check for one in scan.filters if one.check is not None]
    statement = select_where(scan, [*identity, *order, *(column for check in checks for column in check.columns)])
    if segment.condition is not None:
        statement = statement.where(segment.condition)
    statement = statement.order_by(*segment.ordering)
    if limit is not None and not checks:
        statement = statement.limit(limit)
    end = len(identity) + len(order)
    passes = _joined_checks(checks, end)
    with connection.execute(statement, execution_options={"yield_per": _STREAMED_ROWS}) as rows:
        for part in rows.partitions():
            for row in part if passes is None else filter(passes, part):
                yield tuple(row[: len(identity)]), tuple(row[len(identity) : end])


def _joined_checks(checks: Sequence[Check], start: int) -> Callable[[Any], bool] | None:
    """One test of a whole row, whose columns for the checks begin at ``start``."""
    if not checks:
        return None
    if len(checks) == 1 and len(checks[0].columns) == 1:
        # By far the most frequent, and run for every row of a full scan.
        only = checks[0].passes
        return lambda row: only(row[start])
    tests = []
    for check in checks:
        tests.append((start, start + len(check.columns), check.passes))
        start += len(check.columns)
    return lambda row: all(passes(*row[first:last]) for first, last, passes in tests)


def select_where(scan: Scan, columns: Sequence[ColumnElement[Any]], walk: Walk | None = None) -> Select[Any]:
    """``columns`` of the rows that SQL cannot rule out, in no order."""
    clauses = [one.clause for one in scan.filters if one.clause is not None]
    if scan.candidates is not None:
        clauses.append(scan.candidates)
    chosen = scan.selection.registries
    # Rows of a noun without repositories are registries themselves.
    of_registry = registries.c.id if scan.query.noun == "registry" else repositories.c.registry_id
    if len(chosen) == 1:
        clauses.append(of_registry == chosen[0].id)
    elif len(chosen) != len(scan.scope.registries):
        clauses.append(of_registry.in_([one.id for one in chosen]))
    source = joined(scan.query.noun, walk or scan.walk, [*columns, *clauses])
    return select(*columns).select_from(source).where(*clauses)
