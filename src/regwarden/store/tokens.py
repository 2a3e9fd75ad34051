"""Which tokens of programs are there, what may they do, when were they used? Revoked ones stay, for the audit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, insert, or_, select, update
from sqlalchemy.engine import Connection

from regwarden.core.access import Grant, Role
from regwarden.core.grants import grants_to_json, parse_grants
from regwarden.errors import Conflict, InputError, NotFound
from regwarden.store.access_schema import tokens
from regwarden.store.changes import ACCESS, note_change
from regwarden.store.times import from_micros, to_micros

API: Final = "api"
SETUP: Final = "setup"
USES_APART: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewToken:
    """A token to be kept; times aware UTC."""

    public_id: str
    name: str
    secret_sha256: bytes = field(repr=False)
    grants: tuple[Grant, ...]
    made_by: str
    expires_at: datetime
    purpose: str = API


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredToken(NewToken):
    """A token as it is kept."""

    id: int
    made_at: datetime
    last_used_at: datetime | None
    last_used_from: str
    revoked_at: datetime | None
    revoked_by: str


def save_token(connection: Connection, new: NewToken, at: datetime) -> StoredToken:
    """Keep a token. A token that may do everything ends the one of the first start.

    Raises ``Conflict`` (``token-exists``) if a living token has the name.
    """
    note_change(connection, ACCESS)  # first: whoever else makes a token now waits here
    if connection.execute(select(tokens.c.id).where(tokens.c.name == new.name, _is_living(at))).first() is not None:
        hint = "Take another name, or revoke that token first."
        raise Conflict(f"there is a token {new.name} already", hint=hint, code="token-exists")
    if any(grant.role is Role.ADMIN and grant.area.is_everything for grant in new.grants):
        _revoke(connection, tokens.c.purpose == SETUP, at, new.made_by)
    values = {
        "public_id": new.public_id,
        "name": new.name,
        "secret_sha256": new.secret_sha256,
        "grants": msgspec.json.encode(grants_to_json(new.grants)).decode(),
        "purpose": new.purpose,
        "made_at": to_micros(at),
        "made_by": new.made_by,
        "expires_at": to_micros(new.expires_at),
    }
    return _read(connection.execute(insert(tokens).values(values).returning(tokens)).one())


def list_tokens(connection: Connection, *, living_at: datetime | None = None) -> list[StoredToken]:
    """All tokens in the order in which they were made; with ``living_at`` only those that were valid then."""
    statement = select(tokens).order_by(tokens.c.id)
    if living_at is not None:
        statement = statement.where(_is_living(living_at))
    return [_read(row) for row in connection.execute(statement)]


def find_token(connection: Connection, name_or_id: str, at: datetime) -> StoredToken:
    """The living token of this name or public id. Raises ``NotFound`` (``unknown-token``)."""
    wanted = or_(tokens.c.name == name_or_id, tokens.c.public_id == name_or_id)
    rows = connection.execute(select(tokens).where(wanted, _is_living(at))).all()
    for row in sorted(rows, key=lambda row: str(row.public_id) != name_or_id):
        return _read(row)
    hint = "`regwarden token list` shows those that are valid."
    raise NotFound(f"there is no valid token {name_or_id[:160]!r}", hint=hint, code="unknown-token")


def find_makers(connection: Connection, name: str) -> frozenset[str]:
    """Who made tokens of this name, whoever made those they were made with, and so on; by their names."""
    makers: set[str] = set()
    asked = {name}
    while asked:
        found = set(connection.execute(select(tokens.c.made_by).where(tokens.c.name.in_(asked))).scalars())
        asked = found - makers
        makers |= found
    return frozenset(makers)


def revoke_token(connection: Connection, token_id: int, at: datetime, by: str) -> None:
    """End a token for ever. One that has ended stays as it is."""
    note_change(connection, ACCESS)
    _revoke(connection, tokens.c.id == token_id, at, by)


def revoke_setup_tokens(connection: Connection, at: datetime, by: str) -> None:
    """End what the first start gave out, for ever."""
    note_change(connection, ACCESS)
    _revoke(connection, tokens.c.purpose == SETUP, at, by)


def note_uses(connection: Connection, uses: Mapping[int, tuple[datetime, str]]) -> None:
    """Keep when and from where tokens were last used, at most once a minute. No change that others must know of."""
    for token_id, (at, source) in sorted(uses.items()):
        later = or_(tokens.c.last_used_at.is_(None), tokens.c.last_used_at <= to_micros(at - USES_APART))
        values = {"last_used_at": to_micros(at), "last_used_from": source}
        connection.execute(update(tokens).where(tokens.c.id == token_id, later).values(values))


def _revoke(connection: Connection, which: ColumnElement[bool], at: datetime, by: str) -> None:
    values = {"revoked_at": to_micros(at), "revoked_by": by}
    connection.execute(update(tokens).where(which, tokens.c.revoked_at.is_(None)).values(values))


def _is_living(at: datetime) -> ColumnElement[bool]:
    return tokens.c.revoked_at.is_(None) & (tokens.c.expires_at > to_micros(at))


def _read_grants(written: str) -> tuple[Grant, ...]:
    """What cannot be understood, of another release perhaps, gives nothing, and keeps no other token from working."""
    try:
        return parse_grants(msgspec.json.decode(written))
    except (InputError, msgspec.DecodeError):
        return ()


def _read(row: Any) -> StoredToken:
    return StoredToken(
        id=row.id,
        public_id=row.public_id,
        name=row.name,
        secret_sha256=bytes(row.secret_sha256),
        grants=_read_grants(row.grants),
        purpose=row.purpose,
        made_at=from_micros(row.made_at),
        made_by=row.made_by,
        expires_at=from_micros(row.expires_at),
        last_used_at=from_micros(row.last_used_at),
        last_used_from=row.last_used_from,
        revoked_at=from_micros(row.revoked_at),
        revoked_by=row.revoked_by,
    )
