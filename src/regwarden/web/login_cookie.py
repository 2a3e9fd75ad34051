"""What does a browser keep of a sign-in that has begun? A sealed cookie, for ten minutes, made by nobody but us."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from regwarden.identity.oidc import LoginAttempt

LIFETIME: Final = timedelta(minutes=10)
_MAX_LENGTH: Final = 1024


class _Sealed(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    provider: str
    state: str
    nonce: str
    verifier: str
    expires: float


def cookie_name(*, is_secure: bool) -> str:
    """Its name: over HTTPS one that browsers accept from this very host alone (RFC 6265bis 4.1.3.2)."""
    return "__Host-regwarden-login" if is_secure else "regwarden-login"


def seal(attempt: LoginAttempt, key: str, now: datetime) -> str:
    """The text of the cookie."""
    expires = (now + LIFETIME).timestamp()
    content = _Sealed(attempt.provider, attempt.state, attempt.nonce, attempt.verifier, expires)
    text = base64.urlsafe_b64encode(msgspec.json.encode(content)).rstrip(b"=").decode()
    return f"{text}.{_mac(text, key)}"


def open_sealed(cookie: str, key: str, now: datetime) -> tuple[LoginAttempt, datetime] | None:
    """The sign-in that has begun, and until when it may end; None if we did not make this, or too long ago."""
    text, _, mac = cookie.partition(".")
    if len(cookie) > _MAX_LENGTH or not hmac.compare_digest(mac.encode(), _mac(text, key).encode()):
        return None
    content = msgspec.json.decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), type=_Sealed)
    expires_at = datetime.fromtimestamp(content.expires, UTC)
    if now >= expires_at:
        return None
    return LoginAttempt(content.provider, content.state, content.nonce, content.verifier), expires_at


def _mac(text: str, key: str) -> str:
    return hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()
