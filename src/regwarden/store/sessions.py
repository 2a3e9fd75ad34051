"""Who has signed in, and which of these sign-ins are still good? Each is a family of tokens that ends as a whole.

A refresh token is good once. Whoever shows a spent one has stolen it or was robbed: the family ends.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, insert, select, update
from sqlalchemy.engine import Connection

from regwarden.store.access_schema import principals, sessions, spent_refreshes
from regwarden.store.changes import ACCESS, note_change
from regwarden.store.times import from_micros, to_micros

API: Final = "api"
# Clocks differ, and so tokens are taken for a little longer than they say.
_UNCERTAIN: Final = timedelta(minutes=5)
REUSED: Final = "a refresh token was used twice"


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedInAs:
    """Who signed in: ``subject`` is the principal's id, ``kind`` a ``PrincipalKind``."""

    subject: str
    kind: str
    name: str
    display_name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSession:
    """A sign-in to be kept: at what provider, and by what it finds them again (``login``)."""

    public_id: str
    principal: SignedInAs
    provider: str
    login: str
    expires_at: datetime
    interface: str = API
    made_from: str = ""
    refresh_sha256: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSession(NewSession):
    """A sign-in as it is kept; times aware UTC."""

    id: int
    made_at: datetime
    refreshed_at: datetime
    revoked_at: datetime | None
    revoked_reason: str

    def is_living(self, now: datetime) -> bool:
        """Whether it was neither ended nor has expired."""
        return self.revoked_at is None and now < self.expires_at


def save_session(connection: Connection, new: NewSession, at: datetime) -> None:
    """Keep a sign-in, and who signed in."""
    values = {
        "public_id": new.public_id,
        "principal_id": _ensure_principal(connection, new.principal, at),
        "interface": new.interface,
        "provider": new.provider,
        "login": new.login,
        "refresh_sha256": new.refresh_sha256,
        "made_at": to_micros(at),
        "made_from": new.made_from,
        "refreshed_at": to_micros(at),
        "expires_at": to_micros(new.expires_at),
    }
    connection.execute(insert(sessions).values(values))


def find_session(connection: Connection, public_id: str) -> StoredSession | None:
    """The sign-in with this public id, whatever has become of it."""
    row = connection.execute(_joined().where(sessions.c.public_id == public_id)).first()
    return None if row is None else _read(row)


def list_sessions(
    connection: Connection, *, living_at: datetime | None = None, subject: str | None = None
) -> list[StoredSession]:
    """Sign-ins, oldest first: those living then, those of this principal."""
    statement = _joined().order_by(sessions.c.id)
    if living_at is not None:
        living = sessions.c.revoked_at.is_(None) & (sessions.c.expires_at > to_micros(living_at))
        statement = statement.where(living)
    if subject is not None:
        statement = statement.where(principals.c.subject == subject)
    return [_read(row) for row in connection.execute(statement)]


def rotate_refresh(
    connection: Connection, public_id: str, spent: bytes, new: bytes, principal: SignedInAs, *, at: datetime
) -> bool:
    """Put the refresh token ``new`` (SHA-256, as ``spent``) in the place of the valid one ``spent``.

    False if ``spent`` is not valid (any more); if it once was, the family has ended with this.
    """
    is_valid = (sessions.c.public_id == public_id) & (sessions.c.refresh_sha256 == spent)
    living = sessions.c.revoked_at.is_(None) & (sessions.c.expires_at > to_micros(at))
    values = {"refresh_sha256": new, "refreshed_at": to_micros(at)}
    changed = update(sessions).where(is_valid, living).values(values).returning(sessions.c.id)
    session_id = connection.execute(changed).scalar_one_or_none()
    if session_id is None:
        end_if_spent(connection, public_id, spent, at=at)
        return False
    connection.execute(insert(spent_refreshes).values(sha256=spent, session_id=session_id, spent_at=to_micros(at)))
    _ensure_principal(connection, principal, at)
    return True


def end_if_spent(connection: Connection, public_id: str, refresh_sha256: bytes, *, at: datetime) -> bool:
    """Whether this refresh token of the family was spent before; then the family has ended with this."""
    spent = select(sessions.c.id).join(spent_refreshes, spent_refreshes.c.session_id == sessions.c.id)
    spent = spent.where(sessions.c.public_id == public_id, spent_refreshes.c.sha256 == refresh_sha256)
    if connection.execute(spent).first() is None:
        return False
    end_session(connection, public_id, REUSED, at)
    return True


def end_session(connection: Connection, public_id: str, reason: str, at: datetime) -> bool:
    """End a sign-in with all its tokens; False if it had ended, or there is none."""
    return _end(connection, sessions.c.public_id == public_id, reason, at) > 0


def end_sessions_of(connection: Connection, subject: str, reason: str, at: datetime) -> int:
    """End all sign-ins of a principal, and refuse what was issued before ``at``; returns how many there were."""
    ids = list(connection.execute(select(principals.c.id).where(principals.c.subject == subject)).scalars())
    if not ids:
        return 0
    # Rows are locked in the order in which a refresh locks them: the sign-in, then who it is of.
    count = _end(connection, sessions.c.principal_id.in_(ids), reason, at)
    connection.execute(update(principals).where(principals.c.id.in_(ids)).values(not_before=to_micros(at)))
    return count


def load_ended(connection: Connection, now: datetime) -> frozenset[str]:
    """The public ids of sign-ins that were ended, as long as tokens of theirs have not expired by themselves."""
    ended = select(sessions.c.public_id).where(
        sessions.c.revoked_at.is_not(None), sessions.c.expires_at > to_micros(now - _UNCERTAIN)
    )
    return frozenset(connection.execute(ended).scalars())


def load_not_before(connection: Connection) -> dict[str, datetime]:
    """The moments before which nothing counts that was issued to a principal, by subject."""
    query = select(principals.c.subject, principals.c.not_before).where(principals.c.not_before.is_not(None))
    query = query.order_by(principals.c.not_before)  # of a job and a person with one subject the later one counts
    return {row.subject: from_micros(row.not_before) for row in connection.execute(query)}


def _end(connection: Connection, which: ColumnElement[bool], reason: str, at: datetime) -> int:
    note_change(connection, ACCESS)
    values = {"revoked_at": to_micros(at), "revoked_reason": reason, "refresh_sha256": None}
    return connection.execute(update(sessions).where(which, sessions.c.revoked_at.is_(None)).values(values)).rowcount


def _ensure_principal(connection: Connection, who: SignedInAs, at: datetime) -> int:
    values = {"name": who.name, "display_name": who.display_name, "last_seen_at": to_micros(at)}
    same = (principals.c.subject == who.subject) & (principals.c.kind == who.kind)
    changed = update(principals).where(same).values(values).returning(principals.c.id)
    found = connection.execute(changed).scalar_one_or_none()
    if found is None:
        note_change(connection, ACCESS)  # whoever else signs in for the first time now waits here
        found = connection.execute(changed).scalar_one_or_none()
    if found is None:
        new = {"subject": who.subject, "kind": who.kind, "first_seen_at": to_micros(at), **values}
        found = connection.execute(insert(principals).values(new).returning(principals.c.id)).scalar_one()
    return int(found)


def _joined() -> Select[Any]:
    columns = (principals.c.subject, principals.c.kind, principals.c.name, principals.c.display_name)
    return select(sessions, *columns).join(principals, principals.c.id == sessions.c.principal_id)


def _read(row: Any) -> StoredSession:
    who = SignedInAs(subject=row.subject, kind=row.kind, name=row.name, display_name=row.display_name)
    return StoredSession(
        id=row.id,
        public_id=row.public_id,
        principal=who,
        provider=row.provider,
        login=row.login,
        interface=row.interface,
        refresh_sha256=None if row.refresh_sha256 is None else bytes(row.refresh_sha256),
        made_at=from_micros(row.made_at),
        made_from=row.made_from,
        refreshed_at=from_micros(row.refreshed_at),
        expires_at=from_micros(row.expires_at),
        revoked_at=from_micros(row.revoked_at),
        revoked_reason=row.revoked_reason,
    )
