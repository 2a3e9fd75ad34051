"""Who did what? Written beside what was done, never changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Select, insert, select
from sqlalchemy.engine import Connection

from regwarden.store.cleanup_schema import audit
from regwarden.store.times import from_micros, to_micros


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """What is wanted of the audit; ``None`` does not matter. From ``since`` on, and before ``until`` (aware UTC).

    ``before_id`` is for pages: only what was written before the entry with this id.
    """

    since: datetime | None = None
    until: datetime | None = None
    plan_id: int | None = None
    principal: str | None = None
    action: str | None = None
    limit: int | None = None
    before_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One thing that somebody did: ``action`` on ``subject``; ``detail`` is plain JSON."""

    id: int
    at: datetime
    principal: str
    action: str
    plan_id: int | None = None
    subject: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)


def record(  # noqa: PLR0913 -- one for each column
    connection: Connection,
    *,
    at: datetime,
    principal: str,
    action: str,
    plan_id: int | None = None,
    subject: str = "",
    detail: Mapping[str, Any] | None = None,
) -> int:
    """Keep that ``principal`` did something at ``at`` (aware UTC). Returns the id of the entry."""
    text = msgspec.json.encode(dict(detail or {}), order="deterministic").decode()
    values = {
        "at": to_micros(at),
        "principal": principal,
        "action": action,
        "plan_id": plan_id,
        "subject": subject,
        "detail": text,
    }
    return int(connection.execute(insert(audit).values(values).returning(audit.c.id)).scalar_one())


def list_audit(connection: Connection, wanted: AuditFilter) -> list[AuditEntry]:
    """The entries that fit, the oldest first; with a limit the newest of them."""
    order = (audit.c.at.desc(), audit.c.id.desc())
    rows = connection.execute(_chosen(wanted).order_by(*order).limit(wanted.limit)).all()
    return [_entry(row) for row in reversed(rows)]


def page_audit(connection: Connection, wanted: AuditFilter) -> list[AuditEntry]:
    """The entries that fit, those that were written last first."""
    rows = connection.execute(_chosen(wanted).order_by(audit.c.id.desc()).limit(wanted.limit))
    return [_entry(row) for row in rows]


def _chosen(wanted: AuditFilter) -> Select[Any]:
    statement = select(audit)
    if wanted.before_id is not None:
        statement = statement.where(audit.c.id < wanted.before_id)
    if wanted.since is not None:
        statement = statement.where(audit.c.at >= to_micros(wanted.since))
    if wanted.until is not None:
        statement = statement.where(audit.c.at < to_micros(wanted.until))
    for column, value in (
        (audit.c.plan_id, wanted.plan_id),
        (audit.c.principal, wanted.principal),
        (audit.c.action, wanted.action),
    ):
        if value is not None:
            statement = statement.where(column == value)
    return statement


def _entry(row: Any) -> AuditEntry:
    return AuditEntry(
        id=row.id,
        at=from_micros(row.at),
        principal=row.principal,
        action=row.action,
        plan_id=row.plan_id,
        subject=row.subject,
        detail=msgspec.json.decode(row.detail, type=dict[str, Any]),
    )
