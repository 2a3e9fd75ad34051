"""Which keys sign for us, and which signatures still count? Of each interface one signs; the next is known already."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.engine import Connection

from regwarden.store.access_schema import signing_keys
from regwarden.store.changes import ACCESS, note_change
from regwarden.store.times import from_micros, to_micros


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredKey:
    """A key: it signs in its time, and its signatures count for longer. ``private_key`` is a JWK as JSON."""

    kid: str
    interface: str
    private_key: bytes = field(repr=False)
    made_at: datetime
    signs_from: datetime
    signs_until: datetime
    verifies_until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyUse:
    """How the keys of an interface are used: each signs for ``signing``, what it signed is valid for ``lifetime``."""

    interface: str
    signing: timedelta
    lifetime: timedelta
    make_kid: Callable[[], str]
    make_key: Callable[[], bytes]


def load_keys(connection: Connection, now: datetime) -> list[StoredKey]:
    """The keys whose signatures count now or later, in the order in which they sign."""
    query = select(signing_keys).where(signing_keys.c.verifies_until > to_micros(now))
    return [_read(row) for row in connection.execute(query.order_by(signing_keys.c.signs_from, signing_keys.c.kid))]


def needs_keys(connection: Connection, use: KeyUse, now: datetime) -> bool:
    """Whether ``ensure_keys`` has anything to do."""
    found = _of(connection, use.interface, now)
    is_signing = any(key.signs_from <= now < key.signs_until for key in found)
    is_followed = any(key.signs_from > now for key in found)
    is_short = any(key.verifies_until < key.signs_until + use.lifetime for key in found)
    return is_short or not (is_signing and is_followed)


def ensure_keys(connection: Connection, use: KeyUse, now: datetime) -> None:
    """See to it that one key signs now, that the one after it can be published, and that signatures count long enough.

    May be repeated, by several processes.
    """
    note_change(connection, ACCESS)  # first: others wait here, and then find what is made now
    found = _of(connection, use.interface, now)
    current = [key for key in found if key.signs_from <= now < key.signs_until]
    if not current:
        # Until the next one begins, if there is one: a service that slept, or a clock that was wrong.
        until = min((key.signs_from for key in found if key.signs_from > now), default=now + use.signing)
        current = [_save(connection, use, now, now, until)]
    if not any(key.signs_from > now for key in found):
        begin = max(key.signs_until for key in current)
        _save(connection, use, now, begin, begin + use.signing)
    for key in found:
        wanted = to_micros(key.signs_until + use.lifetime)
        longer = update(signing_keys).where(signing_keys.c.kid == key.kid, signing_keys.c.verifies_until < wanted)
        connection.execute(longer.values(verifies_until=wanted))


def _of(connection: Connection, interface: str, now: datetime) -> list[StoredKey]:
    return [key for key in load_keys(connection, now) if key.interface == interface]


def _save(connection: Connection, use: KeyUse, now: datetime, begin: datetime, end: datetime) -> StoredKey:
    key = StoredKey(
        kid=use.make_kid(),
        interface=use.interface,
        private_key=use.make_key(),
        made_at=now,
        signs_from=begin,
        signs_until=end,
        verifies_until=end + use.lifetime,
    )
    times = {name: to_micros(getattr(key, name)) for name in ("made_at", "signs_from", "signs_until", "verifies_until")}
    values = {"kid": key.kid, "interface": key.interface, "private_key": key.private_key, **times}
    connection.execute(insert(signing_keys).values(values))
    return key


def _read(row: Any) -> StoredKey:
    return StoredKey(
        kid=row.kid,
        interface=row.interface,
        private_key=bytes(row.private_key),
        made_at=from_micros(row.made_at),
        signs_from=from_micros(row.signs_from),
        signs_until=from_micros(row.signs_until),
        verifies_until=from_micros(row.verifies_until),
    )
