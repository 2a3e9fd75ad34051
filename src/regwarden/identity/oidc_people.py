"""What does a session keep of somebody who signed in with an identity provider, so that roles can be found again?

Groups and the claims that rules of roles ask for, as they were at sign-in: no token of the provider's is kept.
"""

from __future__ import annotations

from dataclasses import replace

import msgspec

from regwarden.core.role_rules import SignedIn
from regwarden.errors import Unauthorized


class _Kept(msgspec.Struct):
    subject: str
    name: str
    display_name: str
    groups: list[str]
    claims: dict[str, list[str]]


def with_login(who: SignedIn) -> SignedIn:
    """``who`` with a ``login`` from which ``person_of_login`` makes the same again."""
    kept = _Kept(
        subject=who.subject,
        name=who.name,
        display_name=who.display_name,
        groups=sorted(who.groups),
        claims={name: list(found) for name, found in who.claims.items()},
    )
    return replace(who, login=msgspec.json.encode(kept, order="deterministic").decode())


def person_of_login(login: str, provider: str) -> SignedIn:
    """Somebody as they were when they signed in; raises ``Unauthorized`` if it cannot be read."""
    try:
        kept = msgspec.json.decode(login, type=_Kept)
    except msgspec.DecodeError:
        raise Unauthorized("the session cannot be prolonged", hint="Sign in again.", code="bad-login") from None
    return SignedIn(
        provider=provider,
        subject=kept.subject,
        name=kept.name,
        display_name=kept.display_name,
        groups=frozenset(kept.groups),
        claims={name: tuple(found) for name, found in kept.claims.items()},
        login=login,
    )
