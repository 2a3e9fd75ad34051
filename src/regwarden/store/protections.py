"""What do people hold by hand, so that no policy takes it? Rows are never deleted: they end, and say when."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import insert, or_, select, update
from sqlalchemy.engine import Connection

from regwarden.core.holding import GroupedHolds
from regwarden.core.observed import Hold
from regwarden.errors import NotFound
from regwarden.store.allow_holds import HoldsMark, load_allow_holds, read_mark
from regwarden.store.cleanup_schema import protections
from regwarden.store.project_rules import load_rule_holds
from regwarden.store.times import from_micros, to_micros


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredProtection:
    """A protection as it was made; ``removed_at`` is when somebody ended it, ``None`` if nobody did."""

    hold: Hold
    made_at: datetime
    removed_at: datetime | None = None


def save_protection(connection: Connection, hold: Hold, at: datetime) -> int:
    """Protect something from ``at`` (aware UTC) on. Returns the id; that of ``hold`` does not matter."""
    values = {
        "registry": hold.registry,
        "repository": hold.repository,
        "tag": hold.tag,
        "digest": hold.digest,
        "until": to_micros(hold.until),
        "reason": hold.reason,
        "made_at": to_micros(at),
        "made_by": hold.by,
    }
    return int(connection.execute(insert(protections).values(values).returning(protections.c.id)).scalar_one())


def list_protections(
    connection: Connection, *, registry: str | None = None, now: datetime | None = None
) -> list[StoredProtection]:
    """Protections in the order in which they were made: those in force at ``now``, or with ``None`` all there were."""
    statement = select(protections).order_by(protections.c.id)
    if registry is not None:
        statement = statement.where(protections.c.registry == registry)
    if now is not None:
        until = protections.c.until
        statement = statement.where(protections.c.removed_at.is_(None), or_(until.is_(None), until > to_micros(now)))
    return [_read(row) for row in connection.execute(statement)]


def load_holds(
    connection: Connection, registry: str, now: datetime, names: Collection[str] | None = None
) -> GroupedHolds:
    """What is protected in a registry at ``now`` (aware UTC): by hand, by GitLab's rules, because it may run.

    With ``names`` rules and what is allowed are looked up in these repositories only: a list of a million entries does
    not matter.
    """
    by_hand = _by_hand(connection, registry, now)
    by_rules = load_rule_holds(connection, registry, names)
    return GroupedHolds((*by_hand, *by_rules, *load_allow_holds(connection, registry, now, names)))


def are_as_known(
    connection: Connection,
    registry: str,
    now: datetime,
    known: tuple[Hold, ...],
    *,
    mark: HoldsMark,
    names: Collection[str],
) -> bool:
    """Whether ``load_holds`` would still say what is ``known`` since ``mark``, or less of what is not held by hand.

    Asked before every step of a plan, so rules and what is allowed are read again only if there can be more.
    """
    if read_mark(connection).has_grown_since(mark):
        return load_holds(connection, registry, now, names) == known
    return _by_hand(connection, registry, now) == tuple(one for one in known if one.is_by_hand)


def _by_hand(connection: Connection, registry: str, now: datetime) -> tuple[Hold, ...]:
    return tuple(one.hold for one in list_protections(connection, registry=registry, now=now))


def remove_protection(connection: Connection, protection_id: int, at: datetime) -> StoredProtection:
    """End a protection and give it back. Raises ``NotFound`` (code ``no-protection``) if there is none to end."""
    ended = connection.execute(
        update(protections)
        .where(protections.c.id == protection_id, protections.c.removed_at.is_(None))
        .values(removed_at=to_micros(at))
    )
    if not ended.rowcount:
        hint = "Run: regwarden protection list"
        raise NotFound(f"there is no protection {protection_id} to remove", hint=hint, code="no-protection")
    return _read(connection.execute(select(protections).where(protections.c.id == protection_id)).one())


def _read(row: Any) -> StoredProtection:
    hold = Hold(
        id=row.id,
        registry=row.registry,
        repository=row.repository,
        tag=row.tag,
        digest=row.digest,
        until=from_micros(row.until),
        reason=row.reason,
        by=row.made_by,
    )
    return StoredProtection(hold=hold, made_at=from_micros(row.made_at), removed_at=from_micros(row.removed_at))
