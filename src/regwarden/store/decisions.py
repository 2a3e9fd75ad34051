"""What did the allow-list answer? Equal answers within a minute are one row with a count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import delete, insert, select, update
from sqlalchemy.engine import Connection

from regwarden.core.oci.digests import Digest
from regwarden.store.allow_schema import decisions
from regwarden.store.times import from_micros, to_micros


class Decided(NamedTuple):
    """An answer and who got it; equal ones are counted together. ``digest`` is ``algorithm:hex`` or ``None``."""

    principal: str
    interface: str
    image: str
    digest: str | None
    cluster: str
    namespace: str
    outcome: str
    reason: str
    entry_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDecision:
    """Equal answers, given between ``at`` and ``last_at``."""

    id: int
    at: datetime
    last_at: datetime
    count: int
    principal: str
    interface: str
    image: str
    digest: str | None
    cluster: str
    namespace: str
    outcome: str
    reason: str
    entry_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionFilter:
    """Which answers are wanted, newest first; ``before_id`` begins a page."""

    image: str | None = None
    outcome: str | None = None
    principal: str | None = None
    since: datetime | None = None
    before_id: int | None = None
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Counted:
    """So many equal answers between two moments; ``row_id`` is where earlier ones of the minute were counted."""

    decided: Decided
    at: datetime
    last_at: datetime
    count: int
    row_id: int | None = None


def save_decisions(connection: Connection, counted: Sequence[Counted]) -> list[int]:
    """Write answers down; returns the id of the row of each."""
    found = []
    for one in counted:
        if one.row_id is not None:
            connection.execute(
                update(decisions)
                .where(decisions.c.id == one.row_id)
                .values(count=decisions.c.count + one.count, last_at=to_micros(one.last_at))
            )
            found.append(one.row_id)
            continue
        returning = insert(decisions).values(_values(one)).returning(decisions.c.id)
        found.append(int(connection.execute(returning).scalar_one()))
    return found


def list_decisions(connection: Connection, wanted: DecisionFilter) -> list[StoredDecision]:
    """Answers that fit, the newest first."""
    columns = decisions.c
    statement = select(decisions).order_by(columns.id.desc()).limit(wanted.limit)
    for column, value in (
        (columns.image, wanted.image),
        (columns.outcome, wanted.outcome),
        (columns.principal, wanted.principal),
    ):
        if value is not None:
            statement = statement.where(column == value)
    if wanted.since is not None:
        statement = statement.where(columns.last_at >= to_micros(wanted.since))
    if wanted.before_id is not None:
        statement = statement.where(columns.id < wanted.before_id)
    return [_read(row) for row in connection.execute(statement)]


def delete_old_decisions(connection: Connection, *, before: int, limit: int) -> int:
    """Delete answers last given before a stored moment, at most ``limit`` rows; returns how many."""
    old = select(decisions.c.id).where(decisions.c.at < before, decisions.c.last_at < before)
    return connection.execute(
        delete(decisions).where(decisions.c.id.in_(old.order_by(decisions.c.at).limit(limit)))
    ).rowcount


def _values(one: Counted) -> dict[str, Any]:
    decided = one.decided
    places = {"cluster": decided.cluster, "namespace": decided.namespace}
    return {
        "at": to_micros(one.at),
        "last_at": to_micros(one.last_at),
        "count": one.count,
        "principal": decided.principal,
        "interface": decided.interface,
        "image": decided.image,
        "digest": Digest.parse(decided.digest).to_bytes() if decided.digest else None,
        "scope": msgspec.json.encode({name: value for name, value in places.items() if value}).decode(),
        "outcome": decided.outcome,
        "reason": decided.reason,
        "entry_ids": msgspec.json.encode(decided.entry_ids).decode(),
    }


def _read(row: Any) -> StoredDecision:
    places = msgspec.json.decode(row.scope, type=dict[str, str])
    return StoredDecision(
        id=row.id,
        at=from_micros(row.at),
        last_at=from_micros(row.last_at),
        count=row.count,
        principal=row.principal,
        interface=row.interface,
        image=row.image,
        digest=None if row.digest is None else str(Digest.from_bytes(row.digest)),
        cluster=places.get("cluster", ""),
        namespace=places.get("namespace", ""),
        outcome=row.outcome,
        reason=row.reason,
        entry_ids=tuple(msgspec.json.decode(row.entry_ids, type=list[int])),
    )
