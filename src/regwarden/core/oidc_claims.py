"""Does a token of an identity provider say what it must, and who is it about?

The signature has been verified before. OpenID Connect Core 1.0, 3.1.3.7 and RFC 7519.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from regwarden.core.role_rules import SignedIn

LEEWAY_SECONDS: Final = 30
_MAX_TEXT_LENGTH: Final = 255
_MAX_CLAIM_LENGTH: Final = 1000
_MAX_VALUES: Final = 1000
# No token is about a time outside of this, and datetime can express it.
_LAST_SECOND: Final = 253_402_300_000
_KINDS: Final = frozenset({"", "jwt"})
_AT_HASHES: Final = {"256": hashlib.sha256, "384": hashlib.sha384, "512": hashlib.sha512}


class Refused(Exception):
    """A token is not accepted. The reason is for the log: whoever shows it is not told."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class ClaimNames:
    """Where a provider's tokens keep a name and groups, and which other claims matter."""

    name: str
    groups: str
    others: frozenset[str] = frozenset()


def check_kind(kind: str) -> None:
    """Only a plain JWT is an ID token: access and logout tokens say otherwise in ``typ`` (RFC 8725 3.11)."""
    if kind.lower() not in _KINDS:
        raise Refused("it is a token of another kind")


def check_claims(claims: Mapping[str, Any], *, issuer: str, now: datetime) -> datetime:
    """When it expires, of a token of ``issuer`` that is valid at ``now``; raises ``Refused``."""
    if claims.get("iss") != issuer:
        raise Refused("it is of another issuer")
    seconds = now.timestamp()
    expires, issued = _moment(claims, "exp"), _moment(claims, "iat")
    if expires is None or issued is None:
        raise Refused("it does not say when it was issued and when it expires")
    if seconds >= expires + LEEWAY_SECONDS:
        raise Refused("it has expired")
    if max(issued, _moment(claims, "nbf") or 0.0) > seconds + LEEWAY_SECONDS:
        raise Refused("it is not valid yet")
    return datetime.fromtimestamp(expires, UTC)


def check_client(claims: Mapping[str, Any], client_id: str) -> None:
    """That it was issued to our client, and to us before others; raises ``Refused``."""
    audiences = _audiences(claims)
    if client_id not in audiences:
        raise Refused("it is for another client")
    if (len(audiences) > 1 or "azp" in claims) and claims.get("azp") != client_id:
        raise Refused("it was issued to another client")


def check_audience(claims: Mapping[str, Any], audience: str) -> None:
    """That it is for us and for nobody else, who could pass it on; raises ``Refused``."""
    if _audiences(claims) != [audience]:
        raise Refused("it is not for this service alone")


def check_nonce(claims: Mapping[str, Any], nonce: str) -> None:
    """That it answers this very sign-in; raises ``Refused``."""
    found = claims.get("nonce")
    if not isinstance(found, str) or not hmac.compare_digest(found.encode(), nonce.encode()):
        raise Refused("it answers another sign-in")


def check_access_token(claims: Mapping[str, Any], access_token: object, algorithm: str) -> None:
    """That it came with this access token, where it says so (3.1.3.6); raises ``Refused``."""
    if "at_hash" not in claims or not isinstance(access_token, str):
        return
    digest = _AT_HASHES.get(algorithm[-3:], hashlib.sha512)(access_token.encode()).digest()
    wanted = base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=")
    if not hmac.compare_digest(str(claims["at_hash"]).encode(), wanted):
        raise Refused("it belongs to another access token")


def find_jti(claims: Mapping[str, Any], token: str) -> str:
    """By what a token is known again: its ``jti``, else the SHA-256 of all that is signed.

    The signature itself can be written in more than one way. Raises ``Refused``.
    """
    jti = claims.get("jti")
    if jti is None:
        return f"sha256:{hashlib.sha256(token.rpartition('.')[0].encode()).hexdigest()}"
    if not is_plain(jti):
        raise Refused("its jti cannot be used")
    return str(jti)


def read_person(claims: Mapping[str, Any], names: ClaimNames, *, provider: str, issuer: str) -> SignedIn:
    """Who it is about; without a name that can be used they are called by the subject. Raises ``Refused``."""
    subject = claims.get("sub")
    if not is_plain(subject):
        raise Refused("it does not say who it is about")
    name = claims.get(names.name)
    shown = claims.get("name")
    return SignedIn(
        provider=provider,
        subject=f"oidc:{issuer}:{subject}",
        name=str(name if is_plain(name) else subject),
        display_name=str(shown) if is_plain(shown) else "",
        groups=frozenset(_texts(claims.get(names.groups), _MAX_TEXT_LENGTH)),
        claims={name: found for name in sorted(names.others) if (found := tuple(_texts(claims.get(name))))},
    )


def is_plain(text: object) -> bool:
    """Whether something is a text that may be shown, stored and compared: not empty, not long, nothing unprintable."""
    return isinstance(text, str) and 0 < len(text) <= _MAX_TEXT_LENGTH and text.isprintable() and text == text.strip()


def _audiences(claims: Mapping[str, Any]) -> list[str]:
    found = claims.get("aud")
    listed: list[object] = found if isinstance(found, list) else [found]
    audiences = [one for one in listed if isinstance(one, str)]
    if len(audiences) < len(listed):
        raise Refused("it does not say for whom it is")
    return audiences


def _moment(claims: Mapping[str, Any], name: str) -> float | None:
    """A time in seconds since 1970; None if there is none."""
    found = claims.get(name)
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, (int, float)) or not 0 <= found <= _LAST_SECOND:
        raise Refused(f"its {name} is no time")
    return float(found)


def _texts(found: object, max_length: int = _MAX_CLAIM_LENGTH) -> Iterable[str]:
    """All values of a claim as text; what is long, unprintable or nested says nothing."""
    for value in found[:_MAX_VALUES] if isinstance(found, list) else (found,):
        if isinstance(value, bool):
            yield "true" if value else "false"
        elif isinstance(value, (int, float)):
            yield str(value)
        elif isinstance(value, str) and value and len(value) <= max_length and value.isprintable():
            yield value
