"""Whose ID token does a CI job show, and may it be taken? That is found out before it is trusted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from regwarden.core.oidc_claims import Refused
from regwarden.core.role_rules import SignedIn
from regwarden.identity.oidc_keys import decode_object, parse_header


@dataclass(frozen=True, slots=True)
class Assertion:
    """An ID token that was verified: who it is about, and by what it is known if it is shown again."""

    who: SignedIn
    issuer: str
    jti: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Shown:
    """What an ID token says before anybody has verified it: good for choosing whom to ask, and for nothing else."""

    issuer: str
    audiences: tuple[str, ...]


def read_unverified(token: str) -> Shown:
    """The issuer and the audiences that a token names; raises ``Refused`` if it is no signed token."""
    parse_header(token)
    claims: Mapping[str, object] = decode_object(token.split(".")[1])
    issuer, audience = claims.get("iss"), claims.get("aud")
    listed = audience if isinstance(audience, list) else [audience]
    audiences = tuple(one for one in listed if isinstance(one, str))
    if not isinstance(issuer, str) or not audiences:
        raise Refused("it does not say whose it is and for whom")
    return Shown(issuer, audiences)
