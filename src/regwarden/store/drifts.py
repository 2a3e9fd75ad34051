"""What changed without an event that told of it, and how many events of a registry are lost by that measure?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import and_, delete, exists, func, or_, select, update
from sqlalchemy.engine import Connection

from regwarden.core.drift import DriftKind, loss_rate
from regwarden.store.bulk import bulk_upsert
from regwarden.store.event_schema import drifts, events
from regwarden.store.rereads import Reread, note_rereads
from regwarden.store.schema import crawls
from regwarden.store.times import to_micros

REREAD_AFTER: Final = timedelta(minutes=10)
REREAD_REPOSITORY_COUNT: Final = 100
# How long an event may have waited to be applied when a crawl missed it.
_APPLYING_TAKES: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Drift:
    """A change that a crawl found and no event told of.

    Digests as stored; ``expected`` is the one by what was known before, ``found`` the one that is there (``None``: no
    digest). Without ``tag`` it is the whole repository. ``at`` is when the crawl asked, in microseconds.
    """

    repository: str
    tag: str
    kind: DriftKind
    expected: bytes | None
    found: bytes | None
    at: int


@dataclass(frozen=True, slots=True)
class LossReport:
    """How many changes events told of and how many they did not, and the share of the latter (0 to 1).

    ``kinds`` counts the missed ones by kind. ``rate`` is ``None`` where nothing changed.
    """

    confirmed_count: int
    missed_count: int
    rate: float | None
    kinds: Mapping[str, int]


def record_drifts(connection: Connection, registry_id: int, crawl_id: int, found: Sequence[Drift]) -> None:
    """Keep what a crawl found changed that no event told of."""
    bulk_upsert(
        connection,
        drifts,
        [
            {
                "registry_id": registry_id,
                "crawl_id": crawl_id,
                "repository": drift.repository,
                "tag": drift.tag,
                "kind": str(drift.kind),
                "expected": drift.expected,
                "found": drift.found,
                "at": drift.at,
            }
            for drift in found
        ],
    )


def withdraw_missed_deletes(connection: Connection, crawl_id: int, repository: str | None = None) -> None:
    """Forget deletions that a crawl thought it had found, in one repository or in all."""
    ours = drifts.c.crawl_id == crawl_id, drifts.c.kind == str(DriftKind.MISSED_DELETE)
    of_repository = () if repository is None else (drifts.c.repository == repository,)
    connection.execute(delete(drifts).where(*ours, *of_repository))


def count_confirmed(connection: Connection, crawl_id: int, count: int) -> None:
    """Add to the changes that events had told of before the crawl found them."""
    if count:
        connection.execute(
            update(crawls).where(crawls.c.id == crawl_id).values(confirmed_count=crawls.c.confirmed_count + count)
        )


def close_drifts(connection: Connection, crawl_id: int, *, reread_at: datetime | None) -> None:
    """Count what a crawl found changed without an event, and let those repositories be read again at ``reread_at``.

    ``None`` is for crawls that are such readings themselves: drift must not chase itself.
    """
    ours = drifts.c.crawl_id == crawl_id
    counted = select(func.count()).select_from(drifts).where(ours).scalar_subquery()
    connection.execute(update(crawls).where(crawls.c.id == crawl_id).values(drift_count=counted))
    if reread_at is None:
        return
    found = connection.execute(
        select(drifts.c.registry_id, drifts.c.repository)
        .where(ours)
        .distinct()
        .order_by(drifts.c.repository)
        .limit(REREAD_REPOSITORY_COUNT)
    )
    note_rereads(connection, [Reread(row.registry_id, row.repository, "", "drift", reread_at) for row in found])


def loss_report(connection: Connection, registry_id: int, *, since: datetime) -> LossReport:
    """How complete the events of a registry are, by the crawls that began at or after ``since``.

    A drift whose event came after all counts as told of: that event was late, not lost.
    """
    wanted = crawls.c.registry_id == registry_id, crawls.c.started_at >= to_micros(since)
    confirmed = connection.execute(select(func.coalesce(func.sum(crawls.c.confirmed_count), 0)).where(*wanted))
    kinds: Counter[str] = Counter()
    late_count = 0
    statement = (
        select(drifts.c.kind, _WAS_LATE.label("was_late"), func.count().label("drift_count"))
        .select_from(drifts.join(crawls, crawls.c.id == drifts.c.crawl_id))
        .where(*wanted)
        .group_by(drifts.c.kind, "was_late")
    )
    for row in connection.execute(statement):
        if row.was_late:
            late_count += row.drift_count
        else:
            kinds[row.kind] += row.drift_count
    confirmed_count = int(confirmed.scalar_one()) + late_count
    missed_count = kinds.total()
    return LossReport(confirmed_count, missed_count, loss_rate(confirmed_count, missed_count), dict(kinds))


_WAS_LATE: Final = exists().where(
    events.c.registry_id == drifts.c.registry_id,
    events.c.repository == drifts.c.repository,
    events.c.at <= drifts.c.at,
    events.c.received_at >= drifts.c.at - _APPLYING_TAKES // timedelta(microseconds=1),
    or_(
        and_(events.c.action.in_(("push", "mount")), events.c.tag == drifts.c.tag, events.c.digest == drifts.c.found),
        and_(
            events.c.action == "delete",
            drifts.c.found.is_(None),
            or_(
                events.c.target == "repository",
                and_(events.c.tag == drifts.c.tag, drifts.c.tag != ""),
                events.c.digest == drifts.c.expected,
            ),
        ),
    ),
)
