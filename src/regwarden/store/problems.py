"""What stood in the way of reading a repository or a registry: the current problems, with their history."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import and_, delete, select
from sqlalchemy.engine import Connection

from regwarden.core.coverage import Problem
from regwarden.core.oci.digests import Digest
from regwarden.store.bulk import bulk_upsert
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


def replace_problems(
    connection: Connection,
    registry_id: int,
    repository_id: int | None,
    problems: Sequence[Problem],
    *,
    at: datetime,
    examined: frozenset[str] = frozenset(),
) -> None:
    """Let ``problems`` be all that is wrong with a repository (``None``: with the registry as a whole).

    A problem that was there before keeps its first sighting, and its last attempt unless its digest (as
    text) was ``examined`` again.
    """
    same = crawl_problems.c.registry_id == registry_id
    same = and_(
        same,
        crawl_problems.c.repository_id == repository_id
        if repository_id is not None
        else crawl_problems.c.repository_id.is_(None),
    )
    before = {
        (row.tag, bytes(row.digest), row.code): row for row in connection.execute(select(crawl_problems).where(same))
    }
    if not before and not problems:
        return
    connection.execute(delete(crawl_problems).where(same))
    moment = to_micros(at)
    rows = []
    for problem in dict.fromkeys(problems):
        digest = Digest.parse(problem.digest).to_bytes() if problem.digest else b""
        old = before.get((problem.tag, digest, problem.code))
        tried_at = old.tried_at if old is not None and not problem.tag and problem.digest not in examined else moment
        rows.append(
            {
                "registry_id": registry_id,
                "repository_id": repository_id,
                "tag": problem.tag,
                "digest": digest,
                "code": problem.code,
                "message": problem.message,
                "first_seen_at": old.first_seen_at if old is not None else moment,
                "seen_at": moment,
                "tried_at": tried_at,
            }
        )
    bulk_upsert(connection, crawl_problems, rows)


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
