"""Which tokens of identity providers were shown already? Each is taken once, by whichever process.

The answers of sign-ins are among them, under an issuer of our own; so is the key that seals what a browser brings back.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import msgspec
from sqlalchemy import select, text
from sqlalchemy.engine import Connection

from regwarden.store.access_schema import signing_keys
from regwarden.store.times import to_micros

# Clocks of several processes differ, and tokens are accepted a little after they have expired.
_LONGER: Final = timedelta(minutes=5)
_SEAL: Final = "oidc-login"
_FOREVER: Final = timedelta(days=100 * 365)
_SPEND: Final = text(
    "INSERT INTO spent_assertions (issuer, jti, expires_at) VALUES (:issuer, :jti, :expires_at) "
    "ON CONFLICT (issuer, jti) DO NOTHING RETURNING expires_at"
)

_ADD_SEAL: Final = text(
    "INSERT INTO signing_keys (kid, interface, private_key, made_at, signs_from, signs_until, verifies_until) "
    "VALUES (:kid, :kid, :key, :now, :now, :until, :until) ON CONFLICT (kid) DO NOTHING"
)


class _SealKey(msgspec.Struct):
    """The key as a JWK (RFC 7518 6.4)."""

    k: str
    kty: str = "oct"


def spend_assertion(connection: Connection, *, issuer: str, jti: str, expires_at: datetime) -> bool:
    """Take the token ``jti`` of ``issuer``, valid until ``expires_at`` (aware UTC); False if it was taken before."""
    values = {"issuer": issuer, "jti": jti, "expires_at": to_micros(expires_at + _LONGER)}
    return connection.execute(_SPEND, values).first() is not None


def ensure_seal_key(connection: Connection, candidate: str, now: datetime) -> str:
    """The one key (URL-safe text) that seals what browsers bring back; it becomes ``candidate`` if there is none."""
    values = {"kid": _SEAL, "key": msgspec.json.encode(_SealKey(k=candidate)), "now": to_micros(now)}
    connection.execute(_ADD_SEAL, {**values, "until": to_micros(now + _FOREVER)})
    found = connection.execute(select(signing_keys.c.private_key).where(signing_keys.c.kid == _SEAL)).scalar_one()
    return msgspec.json.decode(found, type=_SealKey).k
