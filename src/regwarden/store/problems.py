"""What stood in the way of reading a repository or a registry: the current problems, with their history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import and_, delete, select
from sqlalchemy.engine import Connection

from regwarden.core.coverage import Problem
from regwarden.core.oci.digests import Digest
from regwarden.store.bulk import bulk_upsert
from regwarden.store.chunks import chunked
from regwarden.store.schema import crawl_problems, repositories
from regwarden.store.times import from_micros, to_micros


def load_problems(
    connection: Connection, repository_id: int, name: str
) -> tuple[tuple[Problem, ...], dict[tuple[str, str, str], datetime]]:
    """A repository's problems, and when the registry was last asked about each (tag, digest, code)."""
    found = []
    tried_at = {}
    for row in connection.execute(select(crawl_problems).where(crawl_problems.c.repository_id == repository_id)):
        digest = str(Digest.from_bytes(row.digest)) if row.digest else ""
        found.append(Problem(name, row.tag, digest, row.code, row.message))
        moment = from_micros(row.tried_at)
        if moment is not None:
            tried_at[row.tag, digest, row.code] = moment
    return tuple(found), tried_at


ProblemKey = tuple[str, bytes, str]  # tag, digest as stored, code


@dataclass(frozen=True, slots=True)
class Replacement:
    """Problems of a repository (``None``: of the registry) that take the place of the rows with these ``ids``."""

    registry_id: int
    repository_id: int | None
    ids: Sequence[int]
    problems: Sequence[Problem]
    at: datetime
    examined: frozenset[str]

    @property
    def row_count(self) -> int:
        """How many rows go and come."""
        return len(self.ids) + len(self.problems)


def split_replacement(whole: Replacement, known: Mapping[ProblemKey, Sequence[int]], size: int) -> list[Replacement]:
    """The same in pieces of about ``size`` rows, each of which may be done again; ``known`` has the rows by problem."""
    by_key: dict[ProblemKey, list[Problem]] = {key: [] for key in known}
    for problem in whole.problems:
        by_key.setdefault(_key(problem), []).append(problem)
    return [
        replace(
            whole,
            ids=[row_id for key in keys for row_id in known.get(key, ())],
            problems=[problem for key in keys for problem in by_key[key]],
        )
        for keys in chunked(sorted(by_key), size)
    ]


def load_problem_ids(
    connection: Connection, registry_id: int, repository_id: int | None
) -> dict[ProblemKey, list[int]]:
    """The rows of a repository's problems (``None``: of the registry's own)."""
    columns = crawl_problems.c
    same = and_(
        columns.registry_id == registry_id,
        columns.repository_id == repository_id if repository_id is not None else columns.repository_id.is_(None),
    )
    found: dict[ProblemKey, list[int]] = {}
    for row in connection.execute(select(columns.id, columns.tag, columns.digest, columns.code).where(same)):
        found.setdefault((row.tag, bytes(row.digest), row.code), []).append(row.id)
    return found


def write_problems(connection: Connection, replacement: Replacement) -> None:
    """Put problems in the place of earlier ones."""
    before: dict[ProblemKey, Any] = {}
    for chunk in chunked(replacement.ids):
        for row in connection.execute(select(crawl_problems).where(crawl_problems.c.id.in_(chunk))):
            before[row.tag, bytes(row.digest), row.code] = row
        connection.execute(delete(crawl_problems).where(crawl_problems.c.id.in_(chunk)))
    moment = to_micros(replacement.at)
    rows = []
    for problem in dict.fromkeys(replacement.problems):
        key = _key(problem)
        old = before.get(key)
        is_untried = not problem.tag and problem.digest not in replacement.examined
        rows.append(
            {
                "registry_id": replacement.registry_id,
                "repository_id": replacement.repository_id,
                "tag": problem.tag,
                "digest": key[1],
                "code": problem.code,
                "message": problem.message,
                "first_seen_at": old.first_seen_at if old is not None else moment,
                "seen_at": moment,
                "tried_at": old.tried_at if old is not None and is_untried else moment,
            }
        )
    bulk_upsert(connection, crawl_problems, rows)


def _key(problem: Problem) -> ProblemKey:
    return problem.tag, Digest.parse(problem.digest).to_bytes() if problem.digest else b"", problem.code


def load_first_problems(connection: Connection, crawl_id: int, limit: int) -> tuple[Problem, ...]:
    """The first problems of the repositories that a crawl has read, in the order of their names."""
    rows = connection.execute(
        select(repositories.c.name, crawl_problems)
        .select_from(crawl_problems.join(repositories))
        .where(repositories.c.crawl_id == crawl_id)
        .order_by(repositories.c.name, crawl_problems.c.tag, crawl_problems.c.digest, crawl_problems.c.code)
        .limit(limit)
    )
    return tuple(
        Problem(row.name, row.tag, str(Digest.from_bytes(row.digest)) if row.digest else "", row.code, row.message)
        for row in rows
    )
